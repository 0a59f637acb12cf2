"""Set up the suite: it runs on NumPy, a test with the fixture `device` also on CuPy; and Hypothesis's profiles.

    pytest                                          the ci profile: a fixed seed
    pytest --hypothesis-profile=dev | intense       few examples | very many

Tests on CuPy need a GPU or the stand-in for CUDA (fakecuda/); -m cupy selects them. All requirements of tests are in
requirements.py.
"""
import collections
import contextlib
import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MINIGRAD_BACKEND", "numpy")      # before minigrad is imported: most tests make NumPy arrays

import minigrad as mg  # noqa: E402
from minigrad import backend, fast  # noqa: E402
from minigrad.fast import threads  # noqa: E402

from . import requirements  # noqa: E402
from .fakecuda import device as standin  # noqa: E402

collect_ignore = ["mutation.py"]                        # it has no doctests, and imports packages that may be missing

_common = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("dev", max_examples=10, **_common)
settings.register_profile("ci", max_examples=15, derandomize=True, **_common)
settings.register_profile("intense", max_examples=1000, **_common)
settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)                             # before xdist looks at these options
def pytest_cmdline_main(config):
    """Run the whole suite on all cores if pytest-xdist is installed; run parts of it in this process."""
    whole, cores = config.args_source is config.ArgsSource.TESTPATHS, min(threads.threads(), 4)
    if "PYTEST_XDIST_WORKER" in os.environ:                 # a worker also gets here, and must not start more
        return
    if whole and cores > 1 and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        if not config.option.usepdb and not getattr(config.option, "cov_source", None):     # pytest-cov reads -n itself
            config.option.numprocesses, config.option.dist = cores, "loadfile"


def pytest_configure(config):
    """Refuse an unknown name in MINIGRAD_REQUIRE before any test runs."""
    requirements.required()
    if standin.running():
        standin.check_arguments("// kernel: ")           # of the sources in minigrad/fast
    config.addinivalue_line("markers", "cupy: the test runs on CuPy (set by conftest.py)")


@pytest.hookimpl(tryfirst=True)                             # before -k and -m are applied
def pytest_collection_modifyitems(items):
    """Mark the tests that run on CuPy."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        needs = {name for mark in item.iter_markers("needs") for name in mark.args}
        if "cupy" in getattr(item, "fixturenames", ()) or params.get("device") == "cupy" or needs & {"gpu", "fakecuda"}:
            item.add_marker("cupy")


def pytest_runtest_setup(item):
    """Skip a test whose requirements are missing, or fail it if MINIGRAD_REQUIRE names them."""
    for mark in item.iter_markers("needs"):
        requirements.need(*mark.args)


def pytest_terminal_summary(terminalreporter):
    """Report the number of skipped tests for each reason."""
    reasons = collections.Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5} skipped: {reason.removeprefix('Skipped: ')}")


def _switched(name):
    """Switch minigrad to an array module while a test runs, or skip the test if there is no device for it."""
    if name == "cupy":
        requirements.need("gpu")
    before = backend.name()
    mg.use(name)
    yield name
    mg.use(before)


@pytest.fixture(params=["numpy", "cupy"])
def device(request):
    """Switch minigrad to each array module in turn; the value is its name."""
    yield from _switched(request.param)


@pytest.fixture
def cupy():
    """Switch minigrad to CuPy; the value is the module."""
    for _ in _switched("cupy"):
        yield backend.cupy_or_reason()[0]


@pytest.fixture
def exact():
    """On the stand-in, notice the first byte outside of an array."""
    with standin.exact_allocations() if standin.running() else contextlib.nullcontext():
        yield


def _without_c(monkeypatch):
    for operation in backend.table:
        monkeypatch.setitem(backend.table, operation, (fast.TABLE[operation][1], backend.table[operation][1]))


@pytest.fixture
def without_c(monkeypatch):
    """Leave out the forms in C: NumPy's are used."""
    _without_c(monkeypatch)


@pytest.fixture(params=["in C", "NumPy"])
def on_host(request, monkeypatch):
    """Use the forms in C where there are some, then those in NumPy alone."""
    if request.param == "NumPy":
        _without_c(monkeypatch)
    else:
        requirements.need("cc")
