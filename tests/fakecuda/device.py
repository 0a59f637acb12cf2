"""What the stand-in for CUDA has been asked to do, and what it is to refuse.

    reset()                  set all counters to zero, and forget a fault
    report()                 {"counters": {name: number}, "kernels": {name: [launches, bytes, operations]}}
    counter(name)            one number of report()["counters"]
    dry()                    from now on count kernels and matrix products, but do not run them; dry(False) ends it
    check()                  0 if nothing was written outside of an array, else CUDA's number of the error
    trace(path)              write a line of JSON for each operation to a file; trace() ends it
    no_host_reads()          a context in which whatever waits for the device is an error
"""
import contextlib
import ctypes
import functools
import json
import pathlib
import tempfile


@functools.cache
def _library():
    try:
        library = ctypes.CDLL("libcudart.so.13")
    except OSError:
        return None
    if not hasattr(library, "fakecuda_report"):             # NVIDIA's own
        return None
    library.fakecuda_counter.restype = ctypes.c_double
    return library


def running():
    """Return whether this process runs on the stand-in."""
    return _library() is not None


def counter(name):
    """Return how often, or how many bytes."""
    return _library().fakecuda_counter(name.encode())


def reset():
    """Set all counters to zero, and forget a fault."""
    _library().fakecuda_reset()


def dry(on=True):
    """Count kernels and matrix products from now on, without running them."""
    _library().fakecuda_dry(int(on))


def check():
    """Return 0 if nothing was written outside of an array, else the number of CUDA's error."""
    return _library().fakecuda_check()


def trace(path=None):
    """Write a line of JSON for each operation from now on; without a path, stop."""
    _library().fakecuda_trace(str(path).encode() if path else None)


def report():
    """Return the counters, and for each kernel [launches, bytes, operations]."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "report.json")
        _library().fakecuda_report(str(path).encode())
        return json.loads(path.read_text())


@contextlib.contextmanager
def no_host_reads():
    """Make whatever waits for the device raise an error of CuPy's where it is called."""
    _library().fakecuda_refuse_waits(1)
    try:
        yield
    finally:
        _library().fakecuda_refuse_waits(-1)
