"""Tests with missing requirements are skipped, or fail where these are demanded; the suite runs on all cores once."""
import types

import pytest

from . import conftest, requirements


@pytest.fixture
def absent(monkeypatch):
    """Declare a requirement that is always missing."""
    monkeypatch.setitem(requirements.MISSING, "unicorn", lambda: "there are none")
    monkeypatch.delenv("MINIGRAD_REQUIRE", raising=False)
    requirements.missing.cache_clear()
    yield "unicorn"
    requirements.missing.cache_clear()


def test_what_is_missing_is_skipped_with_its_reason(absent):
    with pytest.raises(pytest.skip.Exception, match="there are none"):
        requirements.need(absent)


def test_what_is_required_fails(absent, monkeypatch):
    monkeypatch.setenv("MINIGRAD_REQUIRE", f"data, {absent}")
    with pytest.raises(pytest.fail.Exception, match="MINIGRAD_REQUIRE=unicorn: there are none"):
        requirements.need(absent)
    assert requirements.required() == {absent, "mnist", "cifar10"}


def test_unknown_requirements_are_refused(monkeypatch):
    monkeypatch.setenv("MINIGRAD_REQUIRE", "torch,pytorch")
    with pytest.raises(pytest.UsageError, match="there is no pytorch\n  help: choose from torch, jax"):
        requirements.required()


@pytest.mark.parametrize("change, workers", [
    ({}, 3), ({"part": True}, None), ({"worker": True}, None), ({"cores": 1}, None), ({"cores": 64}, 4), ({"usepdb": True}, None),
    ({"cov_source": ["minigrad"]}, None), ({"xdist": False}, None), ({"numprocesses": 0}, 0)])
def test_the_whole_suite_is_shared_among_the_cores(monkeypatch, change, workers):
    given = dict(part=False, worker=False, cores=3, usepdb=False, cov_source=None, xdist=True, numprocesses=None) | change
    monkeypatch.setattr(conftest.threads, "threads", lambda: given["cores"])
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if given["worker"]:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    source = types.SimpleNamespace(TESTPATHS=1, ARGS=2)
    option = types.SimpleNamespace(numprocesses=given["numprocesses"], dist="no", usepdb=given["usepdb"], cov_source=given["cov_source"])
    conftest.pytest_cmdline_main(types.SimpleNamespace(
        args_source=source.ARGS if given["part"] else source.TESTPATHS, ArgsSource=source, option=option,
        pluginmanager=types.SimpleNamespace(hasplugin=lambda name: given["xdist"])))
    assert (option.numprocesses, option.dist) == (workers, "loadfile" if workers else "no")
