"""What minigrad runs on: versions, backend, kernels, threads, settings."""
import os
import platform
import sys

import numpy
import threadpoolctl

from .. import backend
from . import native
from .threads import threads


def info() -> str:
    """Return the facts that decide how fast minigrad runs here, one on each line: `print(minigrad.info())`.

    `python -m minigrad` prints them. The kernels in C are compiled if need be, which takes some seconds, once.
    Raises BackendError where MINIGRAD_THREADS is not a number of threads.
    """
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MINIGRAD_")]
    facts = {
        "minigrad": sys.modules[__name__.partition(".")[0]].__version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "NumPy": f"{numpy.__version__}, BLAS: {_blas()}",
        "CuPy": _cupy(),
        "backend": backend.name(),
        "faster forms": "on" if backend.table else "off",
        "kernels in C": native.status(),
        "threads": threads(),
        "settings": " ".join(settings) or "none",
    }
    return "\n".join(f"{name + ':':14}{value}" for name, value in facts.items())


def _blas() -> str:
    """Return the name and version of the BLAS libraries in this process."""
    found = {f"{library['internal_api']} {library['version']}" for library in threadpoolctl.threadpool_info()
             if library["user_api"] == "blas"}
    return ", ".join(sorted(found)) or "one that threadpoolctl does not know"


def _cupy() -> str:
    """Return the version of CuPy and the name of the device, or the reason why CuPy cannot be used."""
    cupy, reason = backend.cupy_or_reason()
    if cupy is None:
        return f"none: {reason}"
    device = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return f"{cupy.__version__} on {device}"
