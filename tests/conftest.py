"""The suite runs on NumPy, and where a test asks for a `device` also on CuPy, with a Hypothesis profile.

    pytest                                          the ci profile: a fixed seed
    pytest --hypothesis-profile=dev | intense       few examples | very many

On a machine without a GPU, CuPy's place is taken by an impersonator (impersonator.py), if CuPy is installed.
"""
import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MINIGRAD_BACKEND", "numpy")      # before minigrad is imported: most tests make NumPy arrays

import minigrad as mg                                   # noqa: E402
import minigrad.blas                                    # noqa: E402
from minigrad import backend                            # noqa: E402

collect_ignore = ["impersonator.py", "mutation.py"]     # no doctests there, and they import what need not be installed

_common = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("dev", max_examples=10, **_common)
settings.register_profile("ci", max_examples=15, derandomize=True, **_common)
settings.register_profile("intense", max_examples=1000, **_common)
settings.load_profile("ci")


def _switched(name, monkeypatch):
    """Switch minigrad to an array module, or skip the test with the reason why that cannot be."""
    if name == "impersonator":
        pytest.importorskip("cupy", reason="the impersonator imitates the CuPy that is installed, and none is: "
                                           "pip install 'minigrad[kernel-check]'", exc_type=ImportError)
        from . import emulator
        if emulator.COMPILER is None:
            pytest.skip("the impersonator compiles kernels with g++, which is not installed")
        from .impersonator import array_module, blas
        monkeypatch.setattr(backend, "cupy_or_reason", lambda: (array_module(), ""))
        monkeypatch.setattr(minigrad.blas, "library", blas)
    elif name == "cupy" and backend.cupy_or_reason()[0] is None:
        pytest.skip(backend.cupy_or_reason()[1])
    before = backend.name()
    mg.use("numpy" if name == "numpy" else "cupy")
    yield name
    mg.use(before)


@pytest.fixture(params=["numpy", "impersonator", "cupy"])
def device(request, monkeypatch):
    """minigrad, switched to one array module after the other; the fixture is the name of it."""
    yield from _switched(request.param, monkeypatch)


@pytest.fixture
def impersonator(monkeypatch):
    """minigrad, switched to the impersonator of CuPy."""
    yield from _switched("impersonator", monkeypatch)
