"""What the stand-in for CUDA has been asked to do, and what it is to refuse.

    running()                whether this process runs on it
    reset()                  sets all counters to zero, and forgets a fault
    report()                 {"counters": {name: number}, "kernels": {name: [launches, bytes, operations on numbers]}}
    counter(name)            one of these counters
    trace(path)              writes a line of JSON for each operation from now on; trace() ends it
    dry()                    from now on kernels and matrix products are counted, but not run; dry(False) ends it
    check()                  0 if nothing was written outside of an allocation, else the number of CUDA's error
    exact_allocations()      a context in which every array has guards right beside it
    no_host_reads()          a context in which whatever waits for the device is an error
    check_arguments()        from now on a kernel of cupy.RawModule refuses arguments of the wrong types
"""
import contextlib
import ctypes
import functools
import json
import pathlib
import tempfile

import numpy as np


@functools.cache
def _library():
    try:
        library = ctypes.CDLL("libcudart.so.13")
    except OSError:
        return None
    if not hasattr(library, "fakecuda_report"):             # NVIDIA's own
        return None
    library.fakecuda_kinds.restype = ctypes.c_char_p
    library.fakecuda_sizes.restype = ctypes.POINTER(ctypes.c_uint)
    return library


def running():
    """Return whether this process runs on the stand-in."""
    return _library() is not None


def reset():
    """Set all counters to zero, and forget a fault."""
    _library().fakecuda_reset()


def report():
    """Return the counters, and for each kernel, copy and product the launches, bytes and floating-point operations."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "report.json")
        _library().fakecuda_report(str(path).encode())
        return json.loads(path.read_text())


def counter(name):
    """Return one of the counters."""
    return report()["counters"].get(name, 0)


def trace(path=None):
    """Write a line of JSON for each operation to a file from now on; without a path, stop."""
    _library().fakecuda_trace(str(path).encode() if path else None)


def dry(on=True):
    """Count kernels and matrix products from now on, without running them."""
    _library().fakecuda_dry(int(on))


def check():
    """Return 0 if nothing was written outside of an allocation, else the number of CUDA's error."""
    return _library().fakecuda_check()


@contextlib.contextmanager
def exact_allocations():
    """Give every array an allocation of its own size, so that the first byte behind it is noticed.

    CuPy's memory pool rounds sizes up to 512 bytes, which nobody notices a kernel read or write.
    """
    import cupy
    with cupy.cuda.using_allocator(None):
        yield


@contextlib.contextmanager
def no_host_reads():
    """Make whatever waits for the device raise CuPy's CUDARuntimeError, HostRead, at the place of the call."""
    _library().fakecuda_refuse_waits(1)
    try:
        yield
    finally:
        _library().fakecuda_refuse_waits(-1)


# ------------------------------------------------------------------------------------------- arguments

def check_arguments(mark=""):
    """Make every kernel of a cupy.RawModule, from now on, raise TypeError for an argument of the wrong type.

    CuPy passes the bits on as they are: an int64 for an int, or an array for a number. mark: what sources must contain
    to be checked; CuPy's own kernels rely on that.
    """
    import cupy
    if not isinstance(cupy.RawModule, functools.partial):   # not yet
        cupy.RawModule = functools.partial(_module, cupy.RawModule, mark)


def _module(make, mark, **settings):
    module = make(**settings)
    return _Module(module) if mark in settings.get("code", "") else module


class _Module:
    def __init__(self, module):
        self._module = module

    def get_function(self, name):
        return _Kernel(self._module.get_function(name))


class _Kernel:
    def __init__(self, kernel):
        self.__dict__["_kernel"] = kernel

    def __getattr__(self, name):
        return getattr(self._kernel, name)

    def __setattr__(self, name, value):
        setattr(self._kernel, name, value)

    def __call__(self, grid, block, args, **settings):
        function = ctypes.c_void_p(self._kernel.kernel.ptr)
        kinds, sizes = _library().fakecuda_kinds(function).decode(), _library().fakecuda_sizes(function)
        if len(args) != len(kinds):
            raise TypeError(f"{self.name} has {len(kinds)} parameters, not {len(args)}")
        for i, (arg, kind) in enumerate(zip(args, kinds)):
            if reason := _misfit(arg, kind, sizes[i]):
                raise TypeError(f"{self.name}: argument {i}: {reason}")
        self._kernel(grid, block, args, **settings)


def _misfit(arg, kind, size):
    """Return why an argument does not fit a parameter, or None."""
    parameter = {"p": "a pointer", "f": "a floating-point number", "i": "a signed integer", "u": "an unsigned integer",
                 "s": "a class"}[kind]
    if type(arg) in (bool, int, float, complex):
        return f"{arg!r} needs a type of NumPy, to have a size"
    if isinstance(arg, np.ndarray):                         # by value: the first bytes
        return None if kind == "s" and arg.nbytes >= size else f"{arg.nbytes} bytes for {parameter} of {size} bytes"
    if isinstance(arg, np.generic):
        fits = {"b": "u", "c": "s"}.get(arg.dtype.kind, arg.dtype.kind) == kind and arg.dtype.itemsize == size
        return None if fits else f"{arg.dtype} for {parameter} of {size} bytes"
    if kind != "p":
        return f"an array for {parameter}"
    return None if arg is None or arg.flags.c_contiguous else "an array with gaps"
