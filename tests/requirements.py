"""Requirements of tests that a machine may lack: without them tests are skipped, with the reason and the remedy.

    @pytest.mark.needs("cifar10")               a test, or the whole module as pytestmark
    torch = requirements.module("torch")        a module that is imported at the top of a file of tests
    MINIGRAD_REQUIRE=torch,data pytest          fail instead of skipping where one of these is missing

No test is skipped in any other way (test_architecture.py checks that), so that no skipped test goes unnoticed on a
machine that should have everything.
"""
import functools
import importlib
import importlib.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys

import pytest

from minigrad import backend
from minigrad.fast import memory, native

from .fakecuda import device as standin

DATA = pathlib.Path(os.environ.get("MINIGRAD_DATA", "nowhere")).expanduser()
AUTOGRAD_TESTS = pathlib.Path(os.environ.get("MINIGRAD_AUTOGRAD_TESTS", "nowhere")).expanduser().resolve()
PROC, ROOT = pathlib.Path("/proc/self"), pathlib.Path(__file__).parent.parent
BENCH, CLUSTER, DEV, KERNEL_CHECK, MPI, NATIVE = (f"pip install -e '.[{extra}]'"
                                                 for extra in ("bench", "cluster", "dev", "kernel-check", "mpi", "native"))


def _importable(name, remedy):
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError) as error:            # RuntimeError: CuPy's libraries have incompatible versions
        return f"{name} cannot be imported ({error}): {remedy}"


def _nvrtc():
    reason = _importable("cupy", KERNEL_CHECK)
    if reason:
        return reason
    if standin.running():
        return "the stand-in for CUDA compiles for the host: run this test without it"
    from cupy.cuda import compiler, nvrtc
    try:
        nvrtc.getVersion()
    except RuntimeError as error:
        return f"NVRTC is not installed ({error}): {KERNEL_CHECK}"
    return None if hasattr(compiler, "_NVRTCProgram") else "this version of CuPy keeps its compiler elsewhere"


def _standin():
    """Build the stand-in for CUDA unless that was done before."""
    done = subprocess.run([sys.executable, "-m", "tests.fakecuda"], capture_output=True, text=True, cwd=ROOT)
    return done.stderr.strip() if done.returncode else None


def _cc():
    if not native.wanted():
        return "MINIGRAD_NATIVE=0 switches off what this test is about"
    return None if native.find_compiler() else f"no C compiler was found: install gcc or clang, or {NATIVE}"


def _sanitizers():
    """Ask gcc where its libraries are: it answers with the bare name where there is none."""
    compiler = shutil.which("gcc")
    for name in ("libasan.so", "libubsan.so"):
        found = compiler and subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        if not found or not pathlib.Path(found).is_absolute():
            return f"gcc has no {name}: it finds errors of memory in the kernels in C"
    return _on_demand("sanitizers")


def _on_demand(name):
    return None if name in required() else f"it takes long: MINIGRAD_REQUIRE={name} runs it"


def _mpi():
    """Look for mpi4py without importing it, which starts MPI in this process, and for mpiexec."""
    if importlib.util.find_spec("mpi4py") is None:
        return f"mpi4py is not installed: {MPI}"
    return None if mpiexec() else f"mpiexec was not found: {MPI}"


def mpiexec():
    """Return the path of mpiexec, None if there is none: asked for only where mpi4py is, as this imports the benchmark."""
    from experiments.benchmark.ranks import find_mpiexec
    return find_mpiexec()


def _folder(name):
    return None if (DATA / name).is_dir() else f"the folder {name} is not in $MINIGRAD_DATA"


MISSING = {                                                 # name: () -> the reason why it is missing, or None
    "torch": lambda: _importable("torch", BENCH),
    "jax": lambda: _importable("jax", BENCH),
    "autograd": lambda: _importable("autograd", BENCH),
    "micrograd": lambda: _importable("micrograd", BENCH),
    "autograd_tests": lambda: None if (AUTOGRAD_TESTS / "test_numpy.py").exists() else "autograd's own tests are not in $MINIGRAD_AUTOGRAD_TESTS: tests/README.md",
    "cupy": lambda: _importable("cupy", KERNEL_CHECK),
    "nvrtc": _nvrtc,
    "gpu": lambda: backend.cupy_or_reason()[1] and f"no GPU: {backend.cupy_or_reason()[1]}",
    "standin": _standin,                                    # whether it can be built; the next one, whether this process runs on it
    "fakecuda": lambda: None if standin.running() else "python -m tests.fakecuda pytest runs it, on a stand-in for CUDA",
    "cusolver": lambda: "the stand-in for CUDA has no cuSOLVER: this test needs a GPU" if standin.running() else None,
    "mpi": _mpi,
    "dask": lambda: _importable("distributed", CLUSTER),
    "mypy": lambda: _importable("mypy", DEV),
    "cc": _cc,
    "sanitizers": _sanitizers,                              # only on demand, as are builds
    "builds": lambda: _cc() or _on_demand("builds"),        # kernels in C for other processors, by other compilers
    "zig": lambda: _importable("ziglang", NATIVE),
    "x86": lambda: None if platform.machine() in ("x86_64", "AMD64") else "the flags of this test are those of x86 processors",
    "linux": lambda: None if sys.platform == "linux" else "this test calls functions of Linux",
    "mnist": lambda: _folder("mnist"),
    "cifar10": lambda: _folder("cifar-10-batches-py"),
    "fork": lambda: None if hasattr(os, "fork") else "this system does not fork",
    "glibc": lambda: None if memory.keep_memory() else "the C library of this system is not glibc",
    "wing": lambda: None if backend.FAST else "MINIGRAD_FAST=0 switches off what this test is about",
    "proc": lambda: None if PROC.exists() else "processes are followed through /proc, which is not here",
}


def required():
    """Return the names in MINIGRAD_REQUIRE; "data" stands for both data sets. Raises pytest.UsageError for unknown ones."""
    names = {name for name in os.environ.get("MINIGRAD_REQUIRE", "").replace(" ", "").split(",") if name}
    names = names - {"data"} | ({"mnist", "cifar10"} if "data" in names else set())
    if not names <= set(MISSING):
        raise pytest.UsageError(f"MINIGRAD_REQUIRE: there is no {', '.join(sorted(names - set(MISSING)))}\n"
                                f"  help: choose from {', '.join(MISSING)}")
    return names


@functools.cache
def missing(name):
    """Return the reason why the requirement of this name is missing, or None if it is present."""
    return MISSING[name]()


def need(*names):
    """Skip the calling test unless all these requirements are met; fail it if a missing one is in MINIGRAD_REQUIRE."""
    for name in names:
        if missing(name):
            if name in required():
                pytest.fail(f"MINIGRAD_REQUIRE={name}: {missing(name)}", pytrace=False)
            pytest.skip(missing(name), allow_module_level=True)


def module(name):
    """Return the module of this name, or skip the file of tests that calls this."""
    need(name)
    return importlib.import_module(name)
