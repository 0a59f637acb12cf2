"""The array module: NumPy, or CuPy on a GPU. On the ground floor, the only file that knows which.

    from minigrad.backend import xp      # xp.zeros, xp.asarray ... create arrays, of the module in use
    use("numpy"), use("cupy")            # switch; the default is CuPy where it can run, else NumPy
    use("numpy", fast=False)             # ... without the faster forms of minigrad/fast: the plain engine alone
    xp = module_of(x)                    # the module that x comes from: operations follow the arrays they are given

`use` decides what is created and nothing else: a program that works on NumPy arrays returns the same values whether
there is a GPU or not. Arrays of the two modules in one operation are an error. Numbers go with both.

The environment variable MINIGRAD_BACKEND (numpy or cupy) overrides the default. Nothing else in this library
imports CuPy, and CuPy itself is imported only when it is asked for or when it is installed.
"""
from __future__ import annotations

import contextlib
import functools
import importlib
import os
import tracemalloc
import types
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from . import deprecated
from .boundary import explains
from .errors import BackendError, DTypeError, RequirementError, message, to_numpy
from .typing import Array

INSTALL = "pip install 'minigrad[cuda13]' (driver for CUDA 13) or 'minigrad[cuda12]'"


class _ArrayModule:
    """A stand-in for the array module in use. Attributes are looked up there once, then cached."""

    def __init__(self, module: Any) -> None:
        self._use(module)

    def _use(self, module: Any) -> None:
        self.__dict__.clear()
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(self._module, name)
        return value

    def __dir__(self) -> list[str]:
        return dir(self._module)

    def __repr__(self) -> str:
        return f"<xp: {self._module.__name__}>"

    def __reduce__(self) -> str:
        return "xp"                                         # whatever is in use where it is unpickled


@functools.cache
def cupy_or_reason() -> tuple[Any, str]:
    """Return CuPy and "", or None and the reason why it cannot be used here.

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


Row = tuple[Callable[..., Any] | None, Callable[..., Any] | None]   # the faster forms on NumPy and on CuPy; None: none
table: dict[Hashable, Row] = {}         # operation -> row, of those in use: minigrad/fast puts them here
_rows: dict[Hashable, Row] = {}         # ... of all there are
ON_HOST = {numpy.ndarray, numpy.float64, numpy.float32, numpy.int64, numpy.bool_, float, int, bool,
           type(None)}


def flag(name: str, default: bool) -> bool:
    """Return whether an environment variable is 1, or the default where it is unset or empty.

    Raises BackendError unless it is 0 or 1.
    """
    given = os.environ.get(name, "").strip() or str(int(default))
    if given not in ("0", "1"):
        raise BackendError(f"{name}={given!r} is neither 0 nor 1\n  help: {name}=1 switches it on, {name}=0 off")
    return given == "1"


FAST = flag("MINIGRAD_FAST", True)


def add_rows(rows: Mapping[Any, Row]) -> None:
    """Add rows to the table: operation -> (its faster form on NumPy, its faster form on CuPy)."""
    _rows.update(rows)
    if FAST:
        table.update(rows)


def faster(operation: Hashable, args: Sequence[Any]) -> Callable[..., Any] | None:
    """Return the faster form of an operation on these plain arguments; None if there is none.

    A form takes the arguments of the operation, and returns NotImplemented for those that it is not made for.
    """
    row = table.get(operation)
    if row is None or not args:
        return None
    for x in args:
        if type(x) not in ON_HOST:                          # of a device, or one that is not taken
            return row[module_of(*args) is not numpy]
    return row[0]


@explains
def use(name: str | types.ModuleType, fast: bool = FAST) -> None:
    """Switch the whole library to "numpy" or "cupy". Arrays made before the switch stay where they are.

    fast: whether operations take their faster forms (minigrad/fast). With False the plain engine alone runs, for
    stepping through it; the environment variable MINIGRAD_FAST=0 makes that the default.
    Raises BackendError, with the reason and how to install it, where CuPy cannot run; nothing is switched then.
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


def name() -> str:
    """Return the name of the module in use: "numpy" or "cupy"."""
    return str(xp._module.__name__)


@explains
def to_host(x: Array) -> NDArray[Any]:
    """Return a NumPy array with the values of x, wherever x lives. On a GPU this waits for the device."""
    return x.get() if on_device(x) else numpy.asarray(x)


@explains
def from_dlpack(x: Any) -> Array:
    """Return an array of NumPy or CuPy on the memory of x, an array or tensor of another library: without a copy.

    x: of PyTorch, JAX or any other library with the DLPack protocol, on the CPU or on a GPU. To go the other way, pass
    arrays as they are: torch.from_dlpack(y). Raises DTypeError for objects without that protocol, BackendError for one
    on a GPU where CuPy cannot run.
    """
    if not hasattr(x, "__dlpack_device__"):
        raise DTypeError(f"from_dlpack(x): a {type(x).__name__} has no __dlpack__\n  help: xp.asarray(x)")
    try:
        module, reason = (numpy, "") if int(x.__dlpack_device__()[0]) in _HOST else cupy_or_reason()
        if module is None:
            raise BackendError(f"from_dlpack(x): x is on a GPU, and {reason}\n"
                               f"  help: {INSTALL}; or move x to the CPU first")
        return module.from_dlpack(x)
    except BufferError as error:
        raise DTypeError(message("from_dlpack(x)", str(error), [("x", x, "")], "a detached copy of x")) from error


_HOST = 1, 3            # DLPack's numbers for memory of the CPU, and for that pinned for a GPU


def on_device(x: Any) -> bool:
    """Return whether x is an array of CuPy."""
    kind = type(x)
    return kind is not numpy.ndarray and kind.__module__ == "cupy"


def is_array(x: Any) -> bool:
    """Return whether x is a plain array, of NumPy or of CuPy."""
    return isinstance(x, numpy.ndarray) or on_device(x)


def is_float(x: Any) -> bool:
    """Return whether x is an array of real floating-point numbers, or a traced value."""
    return bool(getattr(getattr(x, "dtype", None), "kind", "") == "f")


def is_readable(x: Any) -> bool:
    """Return whether the elements of plain x can be read without waiting for a device."""
    return not on_device(x)


def module_of(*xs: Any) -> Any:
    """Return the module that these plain arrays come from: CuPy if one of them is CuPy's, else NumPy (numbers too).

    Raises DTypeError for a masked array and for a numpy.matrix.
    """
    for x in xs:                                            # every operation asks, so plain NumPy arrays pass first
        kind = type(x)
        if kind is not numpy.ndarray and kind is not float:
            if on_device(x):
                return cupy_or_reason()[0]
            if kind.__name__ == "MaskedArray":
                raise DTypeError(message("minigrad", "masked arrays are not taken: most functions would lose the mask",
                                         [("x", x, "")], "where(mask, 0.0, x.data) beside a weight for each element; "
                                         "their mean is sum(weights * x) / sum(weights)"))
            if kind.__name__ == "matrix":
                raise DTypeError(message("minigrad", "numpy.matrix is not taken: its * is another one than that of "
                                         "arrays", [("x", x, "")], "numpy.asarray(x)"))
    return numpy


def scipy_special(*xs: Any) -> Any:
    """Return scipy.special, or CuPy's for its arrays. Raises RequirementError where SciPy is not installed."""
    name = "cupyx.scipy.special" if any(map(on_device, xs)) else "scipy.special"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RequirementError(f"minigrad.special: {name} cannot be imported ({error})\n"
                               "  help: pip install 'minigrad[special]'") from error


def by_name(name: str, args: Sequence[Any]) -> Callable[..., Any]:
    """Return the function of this name for these arguments. Raises TypeError where a ufunc takes another number."""
    count = getattr(getattr(numpy, name, None), "nin", len(args))
    if count != len(args):                                  # it would write into the one too many
        raise TypeError(f"{name} takes {count} arrays, not {len(args)}")
    function: Callable[..., Any] = getattr(module_of(*args), name)
    return function


def as_array(x: Any, *others: Any) -> Array:
    """Return x if it is a plain array, else an array of this list or number that goes with these others."""
    return x if is_array(x) else module_of(*others).asarray(to_numpy(x))


def as_indices(indices: Any, x: Array) -> Array:
    """Return plain indices as an array that goes with plain x: of an empty list, integers."""
    empty = isinstance(indices, (list, tuple, range)) and not len(indices)
    return module_of(x).zeros(0, int) if empty else as_array(indices, x)


@explains
def generator(key: int | Sequence[int]) -> numpy.random.Generator:
    """Return a generator of random numbers. It draws on the host, so that every device sees the same bits.

    key: an integer, or a sequence of integers such as (seed of the run, step). NumPy pads keys with zeros: (7, 0)
    is the same key as 7.
    """
    return numpy.random.default_rng(key)


_precision = ["tf32" if flag("MINIGRAD_TF32", False) else "float32"]


@explains
def matmul_precision(name: str | None = None) -> str:
    """Return how a GPU multiplies float32 matrices, "float32" or "tf32"; a name sets it for the whole process.

    tf32 has 10 bits of mantissa, and uses tensor cores; sums are in float32 either way. The default is float32, or
    tf32 where the environment variable MINIGRAD_TF32 is 1. Raises BackendError for other names.
    """
    if name is not None:
        if name not in ("float32", "tf32"):
            raise BackendError(f"matmul_precision({name!r}): there is no such precision\n  help: 'float32' or 'tf32'")
        _precision[0] = name
    return _precision[0]


def synchronize() -> None:
    """Wait until the device has finished all work that was queued. NumPy always has."""
    if name() == "cupy":
        xp.cuda.get_current_stream().synchronize()


@contextlib.contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Measure memory: after `with peak_memory() as peak: step()`, `peak()` is the most bytes held at once inside.

    Bytes held at the start do not count. NumPy's are counted by tracemalloc, CuPy's by the growth of its memory pool.
    """
    result: list[int] = []
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


def _choose() -> None:
    wanted = os.environ.get("MINIGRAD_BACKEND", "").strip().lower()
    use(wanted or ("cupy" if cupy_or_reason()[0] is not None else "numpy"))


xp: Any = _ArrayModule(numpy)
_choose()
deprecated.names(__name__, seed="generator")
