"""The array module: NumPy, or CuPy on a GPU. The only file that knows which.

    from minigrad.backend import xp      # xp.zeros, xp.asarray ... create arrays, of the module in use
    use("numpy"), use("cupy")            # switch; the default is CuPy where it can run, else NumPy
    use("numpy", fast=False)             # ... without the faster forms of minigrad/fast: the plain engine alone
    xp = module_of(x)                    # the module that x comes from: operations follow the arrays they are given

`use` decides what is created and nothing else: a program that works on NumPy arrays gives the same values whether a GPU
is there or not. Arrays of the two modules in one operation are an error. Numbers belong to neither and go with both.

The environment variable MINIGRAD_BACKEND (numpy or cupy) overrides the default. Nothing else in this library
imports CuPy, and CuPy itself is imported only when it is asked for or when it is installed.
"""
import contextlib
import functools
import os
import tracemalloc
import types

import numpy

from . import deprecated
from .boundary import explains
from .errors import BackendError, DTypeError, listed, message

INSTALL = "pip install 'minigrad[cuda13]' (driver for CUDA 13) or 'minigrad[cuda12]'"


class _ArrayModule:
    """Stands for the array module in use: attributes are looked up there once, then remembered."""

    def __init__(self, module):
        self._use(module)

    def _use(self, module):
        self.__dict__.clear()
        self.__dict__["_module"] = module

    def __getattr__(self, name):
        value = self.__dict__[name] = getattr(self._module, name)
        return value

    def __repr__(self):
        return f"<xp: {self._module.__name__}>"

    def __reduce__(self):
        return "xp"                                         # whatever is in use where it is unpickled


@functools.cache
def cupy_or_reason():
    """CuPy and "", or None and the reason why it cannot be used here.

    CuPy may be installed and see a device, and still be unable to compile a kernel; so one real kernel is run.
    """
    try:
        import cupy
    except Exception as error:                              # absent, or its libraries are broken
        return None, f"cupy cannot be imported ({type(error).__name__}: {error})"
    if not cupy.is_available():
        return None, "cupy is installed but finds no CUDA device"
    try:
        (cupy.arange(3) + 1).sum().item()
    except Exception as error:
        return None, f"cupy finds a CUDA device but cannot run a kernel on it ({type(error).__name__}: {error})"
    return cupy, ""


table = {}          # operation -> (its faster form on NumPy, on CuPy), None for none: minigrad/fast puts its rows here
FAST = os.environ.get("MINIGRAD_FAST", "1") != "0"
_rows = {}          # all rows there are, whether they are in use or not


def add_rows(rows):
    """Add rows to the table, and use them. rows: operation -> (its faster form on NumPy, on CuPy)."""
    _rows.update(rows)
    if FAST:
        table.update(rows)


def faster(operation, args):
    """The faster form of an operation on these plain arguments; None if there is none.

    A form takes the arguments of the operation, and returns NotImplemented for those that it is not made for.
    """
    row = table.get(operation)
    if row is None:
        return None
    return row[0] if args and type(args[0]) is numpy.ndarray else row[module_of(*args) is not numpy]


@explains
def use(name, fast=FAST):
    """Switch the whole library to "numpy" or "cupy". Arrays made before the switch stay where they are.

    fast: whether operations take their faster forms (minigrad/fast); False leaves the plain engine, to step through.
    The environment variable MINIGRAD_FAST=0 makes that the default.
    Raises BackendError, with the reason and the way to install it, where CuPy cannot run; nothing is switched then.
    """
    if isinstance(name, types.ModuleType):
        name = name.__name__
    if name == "numpy":
        xp._use(numpy)
    elif name == "cupy":
        module, reason = cupy_or_reason()
        if module is None:
            raise BackendError(f"use('cupy'): {reason}\n  help: {INSTALL}; use('numpy') runs without a GPU")
        xp._use(module)
    else:
        raise BackendError(f"use({name!r}): there is no such backend\n  help: use 'numpy' or 'cupy'")
    table.clear()
    if fast:
        table.update(_rows)


def name():
    """The name of the module in use: "numpy" or "cupy"."""
    return xp._module.__name__


@explains
def to_host(x):
    """A NumPy array with the values of x, wherever x lives. On a GPU this waits for the device."""
    return x.get() if on_device(x) else numpy.asarray(x)


def on_device(x):
    """Whether x is an array of CuPy."""
    kind = type(x)
    return kind is not numpy.ndarray and kind.__module__ == "cupy"


def is_array(x):
    """Whether x is a plain array, of NumPy or of CuPy."""
    return isinstance(x, numpy.ndarray) or on_device(x)


def is_float(x):
    """Whether x is an array of real floating-point numbers, or a traced value."""
    return getattr(getattr(x, "dtype", None), "kind", "") == "f"


def is_readable(x):
    """Whether the elements of plain x can be read at once: those of a device would have to be waited for."""
    return not on_device(x)


def module_of(*xs):
    """The module whose functions take these plain arrays: CuPy if one of them is CuPy's, else NumPy (numbers too).

    Raises DTypeError for a masked array.
    """
    for x in xs:                                            # every operation asks: NumPy's arrays are told at once
        kind = type(x)
        if kind is not numpy.ndarray and kind is not float:
            if on_device(x):
                return cupy_or_reason()[0]
            if kind.__name__ == "MaskedArray":
                raise DTypeError(message("minigrad", "masked arrays are not taken: most functions would lose the mask",
                                         [("x", x, "")], "where(mask, 0.0, x.data) beside a weight for each element; "
                                         "their mean is sum(weights * x) / sum(weights)"))
    return numpy


def by_name(name, args):
    """The function of this name that takes these arguments. Raises TypeError where they are too many for a ufunc."""
    count = getattr(getattr(numpy, name, None), "nin", len(args))
    if count != len(args):                                  # it would write into the one too many
        raise TypeError(f"{name} takes {count} arrays, not {len(args)}")
    return getattr(module_of(*args), name)


def as_array(x, *others):
    """x if it is a plain array, else (a list, a number) an array of its elements that goes with these others."""
    return x if is_array(x) else module_of(*others).asarray(listed(x))


@explains
def generator(key):
    """A generator of random numbers that gives the same bits on every device, because it draws on the host.

    key: an integer, or a sequence of integers such as (seed of the run, step). NumPy fills keys up with zeros: (7, 0)
    is the same key as 7.
    """
    return numpy.random.default_rng(key)


_precision = ["tf32" if os.environ.get("MINIGRAD_TF32", "0") != "0" else "float32"]


@explains
def matmul_precision(name=None):
    """What a GPU computes products of float32 matrices in: "float32", or "tf32" (10 bits of mantissa, tensor cores).

    Sets it where a name is given, for the whole process, and gives what is set. The default is float32, or tf32 where
    the environment variable MINIGRAD_TF32 is 1. Sums are in float32 either way. Raises BackendError for other names.
    """
    if name is not None:
        if name not in ("float32", "tf32"):
            raise BackendError(f"matmul_precision({name!r}): there is no such precision\n  help: 'float32' or 'tf32'")
        _precision[0] = name
    return _precision[0]


def synchronize():
    """Wait until the device has finished what it was asked to do. NumPy has always finished."""
    if name() == "cupy":
        xp.cuda.get_current_stream().synchronize()


@contextlib.contextmanager
def peak_memory():
    """Measure memory: `with peak_memory() as peak: step()`; then `peak()` is the most bytes held at once inside.

    Counted are bytes beyond those held at the start: by tracemalloc for NumPy, by the growth of CuPy's memory pool.
    """
    result = []
    if name() == "cupy":
        pool = xp.get_default_memory_pool()
        pool.free_all_blocks()
        start = pool.used_bytes()
        yield lambda: result[0]
        synchronize()
        result.append(pool.total_bytes() - start)
        return
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        yield lambda: result[0]
        result.append(tracemalloc.get_traced_memory()[1] - start)
    finally:
        if not running:
            tracemalloc.stop()


def _choose():
    wanted = os.environ.get("MINIGRAD_BACKEND", "").strip().lower()
    use(wanted or ("cupy" if cupy_or_reason()[0] is not None else "numpy"))


xp = _ArrayModule(numpy)
_choose()
deprecated.names(__name__, seed="generator")
