"""What minigrad says of itself: `minigrad.info()` and `python -m minigrad`."""
import os
import pathlib
import platform
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend
from minigrad.fast import info, native, threads

ROOT = pathlib.Path(mg.__file__).parents[1]


def facts(text):
    """Return {name: value} of the lines."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


@pytest.fixture
def no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MINIGRAD_")]:
        monkeypatch.delenv(name)


def test_each_line_is_a_fact(no_settings):
    found = facts(mg.info())
    assert list(found) == ["minigrad", "Python", "NumPy", "CuPy", "backend", "faster forms", "kernels in C", "threads", "settings"]
    assert found["minigrad"] == mg.__version__ and found["Python"].startswith(f"{platform.python_version()} on ")
    assert found["NumPy"].startswith(f"{np.__version__}, BLAS: ") and found["backend"] == backend.name()
    assert found["kernels in C"] == native.status() and found["threads"] == str(threads.threads()) and found["settings"] == "none"


def test_settings_are_told(no_settings, monkeypatch):
    monkeypatch.setenv("MINIGRAD_NATIVE", "0")
    monkeypatch.setenv("MINIGRAD_A", "b")
    found = facts(mg.info())
    assert found["settings"] == "MINIGRAD_A=b MINIGRAD_NATIVE=0" and found["kernels in C"] == "none: MINIGRAD_NATIVE=0"


def test_the_wing_is_told_on_and_off():
    try:
        for fast, word in ((False, "off"), (True, "on")):
            mg.use(backend.name(), fast=fast)
            assert facts(mg.info())["faster forms"] == word
    finally:
        mg.use(backend.name())


def test_why_cupy_is_not_used(monkeypatch):
    monkeypatch.setattr(backend, "cupy_or_reason", lambda: (None, "it is a test"))
    assert facts(mg.info())["CuPy"] == "none: it is a test"


@pytest.mark.needs("gpu")
def test_the_device_is_named():
    cupy, _ = backend.cupy_or_reason()
    assert facts(mg.info())["CuPy"].startswith(f"{cupy.__version__} on ")


def test_the_command_prints_the_same():
    done = subprocess.run([sys.executable, "-m", "minigrad"], capture_output=True, text=True, check=True, cwd=ROOT)
    here, there = facts(mg.info()), facts(done.stdout)
    assert list(there) == list(here)
    assert all(there[name] == here[name] for name in ("minigrad", "Python", "CuPy", "kernels in C", "threads", "settings"))


def test_only_libraries_for_products_are_told(monkeypatch):
    about = [{"user_api": "blas", "internal_api": "openblas", "version": "0.3"}, {"user_api": "openmp", "internal_api": "openmp", "version": None},
             {"user_api": "blas", "internal_api": "openblas", "version": "0.3"}, {"user_api": "blas", "internal_api": "mkl", "version": "2024"}]
    monkeypatch.setattr(info.threadpoolctl, "threadpool_info", lambda: about)
    assert "BLAS: mkl 2024, openblas 0.3\n" in mg.info() + "\n"
