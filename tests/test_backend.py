"""The choice of the array module, also where CuPy cannot run."""
import os
import subprocess
import sys
import tracemalloc
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import BackendError, backend


def fake(monkeypatch, **attributes):
    """Install a module called cupy that behaves as CuPy does where it is installed but cannot run."""
    module = types.ModuleType("cupy")
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, "cupy", module)
    backend.cupy_or_reason.cache_clear()
    monkeypatch.setattr(backend, "xp", backend.xp)
    return module


@pytest.fixture(autouse=True)
def restored():
    name = backend.name()
    yield
    backend.cupy_or_reason.cache_clear()
    mg.use(name)


def test_without_cupy_the_reason_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    backend.cupy_or_reason.cache_clear()
    before = backend.name()
    with pytest.raises(BackendError, match=r"use\('cupy'\): cupy cannot be imported.*\n  help: pip install 'minigrad\[cuda13\]'"):
        mg.use("cupy")
    assert backend.name() == before


def test_without_a_device_the_reason_is_given(monkeypatch):
    fake(monkeypatch, is_available=lambda: False)
    with pytest.raises(BackendError) as caught:
        mg.use("cupy")
    assert str(caught.value) == ("use('cupy'): cupy is installed but finds no CUDA device\n"
                                 "  help: pip install 'minigrad[cuda13]' (driver for CUDA 13) or 'minigrad[cuda12]'; use('numpy') "
                                 "runs without a GPU")


def test_a_device_that_cannot_run_a_kernel_is_not_enough(monkeypatch):
    def arange(n):
        raise RuntimeError("no NVRTC")
    fake(monkeypatch, is_available=lambda: True, arange=arange)
    with pytest.raises(BackendError, match="cannot run a kernel on it .RuntimeError: no NVRTC."):
        mg.use("cupy")


def test_use_decides_what_is_created(monkeypatch):
    fake(monkeypatch, is_available=lambda: True, arange=np.arange, zeros=lambda shape: "the zeros of cupy")
    mg.use("cupy")
    assert backend.name() == "cupy" and mg.xp.zeros(2) == "the zeros of cupy"
    mg.use("numpy")
    assert mg.xp.zeros(2).tolist() == [0.0, 0.0]


def test_mixing_modules_is_explained(monkeypatch):
    Array = type("ndarray", (), {"shape": (3,), "dtype": np.dtype("float32"), "__module__": "cupy",
                                 "__array_ufunc__": lambda self, *args, **params: NotImplemented})
    with pytest.raises(BackendError) as caught:
        mg.add(np.ones(3), Array())
    assert str(caught.value) == ("add(a, b): arrays of NumPy and of CuPy are mixed\n  a  (3,)  float64    numpy\n"
                                 "  b  (3,)  float32    cupy\n"
                                 "  help: move all to one place with xp.asarray(x) or to_host(x)")


def test_unknown_names_are_refused():
    with pytest.raises(BackendError) as caught:
        mg.use("torch")
    assert str(caught.value) == "use('torch'): there is no such backend\n  help: use 'numpy' or 'cupy'"
    mg.use(np)
    assert repr(mg.xp) == "<xp: numpy>"


@pytest.mark.parametrize("value, expected", [("numpy", "numpy"), ("torch", "no such backend")])
def test_the_environment_chooses(value, expected):
    run = subprocess.run([sys.executable, "-c", "import minigrad.backend as b; print(b.name())"], text=True,
                         capture_output=True, env={**os.environ, "MINIGRAD_BACKEND": value})
    assert expected in run.stdout + run.stderr


@pytest.mark.parametrize("name", [f"MINIGRAD_{name}" for name in ("CUDA_AWARE_MPI", "FAST", "KEEP_MEMORY", "NATIVE", "TF32")])
def test_a_switch_is_0_or_1_and_nothing_else(name, monkeypatch):
    """Not on because it is set: to off, false or no, say. It is read as a program starts, but for those that are read at each use."""
    for given, on in (("0", False), ("1", True), (" 1 ", True), ("", None)):
        monkeypatch.setenv(name, given)
        assert backend.flag(name, False) is bool(on) and backend.flag(name, True) is (on is not False)
    monkeypatch.delenv(name)
    assert backend.flag(name, True) and not backend.flag(name, False)
    for given in ("2", "true", "off"):
        monkeypatch.setenv(name, given)
        with pytest.raises(BackendError, match=f"{name}='{given}' is neither 0 nor 1\n  help: {name}=1 switches it on, {name}=0 off"):
            backend.flag(name, True)
    program = "import minigrad, minigrad.communicators as c; minigrad.exp(minigrad.xp.ones(9)); c.LAUNCHED = ['PATH']; c.world()"
    run = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, env={**os.environ, "MINIGRAD_BACKEND": "numpy"})
    assert f"BackendError: {name}='off' is neither 0 nor 1" in run.stderr or name == "MINIGRAD_CUDA_AWARE_MPI" and "mpi4py" in run.stderr


def test_peak_memory_counts_what_is_held_at_once():
    mg.use("numpy")
    for _ in range(2):
        with backend.peak_memory() as peak:
            np.zeros(3000)
            a, b = np.zeros(1000), np.zeros(500)
        assert a.size + b.size == 1500
        assert 24_000 <= peak() < 26_000


class Pool:
    """A stand-in for CuPy's memory pool: it keeps freed memory, so that its size is the peak of the use."""

    def __init__(self):
        self.used = self.kept = 0

    def take(self, count):
        self.used += count
        self.kept = max(self.kept, self.used)

    def used_bytes(self):
        return self.used

    def total_bytes(self):
        return self.kept

    def free_all_blocks(self):
        self.kept = self.used


def test_on_a_device_memory_is_the_growth_of_the_pool_and_waiting_is_the_stream(monkeypatch):
    pool, waits = Pool(), []
    stream = types.SimpleNamespace(synchronize=lambda: waits.append(pool.used))
    fake(monkeypatch, is_available=lambda: True, arange=np.arange, get_default_memory_pool=lambda: pool,
         cuda=types.SimpleNamespace(get_current_stream=lambda: stream))
    mg.use("cupy")
    pool.take(900), pool.take(-800)                         # before: 100 in use, 900 kept
    with backend.peak_memory() as peak:
        pool.take(50), pool.take(-50), pool.take(30)
    assert peak() == 50 and waits == [130]
    backend.synchronize()
    assert len(waits) == 2


def test_memory_is_measured_inside_a_measurement():
    mg.use("numpy")
    with backend.peak_memory() as outer, backend.peak_memory() as inner:
        np.zeros(1000)
    assert 8000 <= inner() < 10_000 and outer() >= inner()


def test_seed_and_hosts():
    assert backend.generator((1, 2)).integers(1000) == backend.generator((1, 2)).integers(1000)
    backend.synchronize()
    assert backend.to_host(mg.xp.ones(2)).tolist() == [1, 1]


@pytest.mark.needs("gpu")
def test_a_gradient_on_the_device_is_that_on_the_host():
    rng = backend.generator(0)
    x, k = rng.standard_normal((2, 6, 5, 3)), rng.standard_normal((3, 3, 3, 4))

    def f(x, k):
        return mg.sum(mg.tanh(mg.max_pool2d(mg.conv2d(x, k, padding="same"), 2)))
    results = []
    for name in ("numpy", "cupy"):
        mg.use(name)
        results.append([mg.to_host(g) for g in mg.grad(f, (0, 1))(mg.xp.asarray(x), mg.xp.asarray(k))])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-10)


#import: import tracemalloc


def test_what_is_measured_may_fail(device):
    """Nothing is measured any more afterwards, and a measurement around it goes on."""
    with pytest.raises(ZeroDivisionError), backend.peak_memory():
        1 / 0
    assert not tracemalloc.is_tracing()
    with backend.peak_memory() as peak:
        with pytest.raises(ZeroDivisionError), backend.peak_memory():
            1 / 0
        x = mg.xp.ones(1 << 18)
    assert peak() >= x.nbytes and not tracemalloc.is_tracing()


def test_a_backend_that_is_refused_changes_nothing(monkeypatch):
    """Neither the arrays that are made nor the faster forms in use."""
    rows, before = dict(backend.table), backend.name()
    monkeypatch.setattr(backend, "cupy_or_reason", lambda: (None, "there is none"))
    for wrong in ("cupy", "jax", "", None, 3):
        with pytest.raises(mg.MinigradError):
            mg.use(wrong)
        assert backend.name() == before and dict(backend.table) == rows


def test_a_precision_that_is_refused_changes_nothing(monkeypatch):
    monkeypatch.setattr(backend, "_precision", ["tf32"])
    with pytest.raises(BackendError, match="there is no such precision"):
        backend.matmul_precision("half")
    assert backend.matmul_precision() == "tf32"
