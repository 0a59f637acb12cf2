"""A `Box`: a value that a derivative watches. It acts as an array, and each of its operators is a primitive.

What would silently lose the derivative raises an error that says what to write instead.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy

from .errors import TracedAttributeError, TraceError, message, shape
from .typing import Array, Shape

ops: Any = None     # minigrad.ops, which is written with boxes: it puts itself here once it is there

_PLAIN = "minigrad.stop_gradient(x) is its plain value, a constant to every derivative"


class Box:
    """A value that a derivative watches.

    trace: the derivative that watches; tag: what that trace wants to know of this value (a tangent, an index on a
    tape).
    """
    __slots__ = ("value", "trace", "tag")
    __array_ufunc__ = None           # NumPy and CuPy then leave `array + box` to the box

    def __init__(self, value: Array, trace: Any, tag: Any) -> None:
        self.value, self.trace, self.tag = value, trace, tag

    @property
    def shape(self) -> Shape:
        """The shape of the value."""
        return getattr(self.value, "shape", ())

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(shape(self.value))

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self.value.size)

    @property
    def T(self) -> Array:
        """The value with its axes reversed."""
        return ops.transpose(self)

    def __repr__(self) -> str:
        return f"Box({self.value!r})"

    def __format__(self, spec: str) -> str:
        return format(raw(self), spec)

    # ------------------------------------------------------------------------------------------ arithmetic

    def __add__(self, other: Any) -> Array:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Array:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> Array:
        return ops.subtract(self, other)

    def __rsub__(self, other: Any) -> Array:
        return ops.subtract(other, self)

    def __mul__(self, other: Any) -> Array:
        return ops.multiply(self, other)

    def __rmul__(self, other: Any) -> Array:
        return ops.multiply(other, self)

    def __truediv__(self, other: Any) -> Array:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Any) -> Array:
        return ops.divide(other, self)

    def __matmul__(self, other: Any) -> Array:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Array:
        return ops.matmul(other, self)

    def __pow__(self, other: Any) -> Array:
        return ops.square(self) if isinstance(other, int) and other == 2 else ops.power(self, other)

    def __rpow__(self, other: Any) -> Array:
        return ops.power(other, self)

    def __neg__(self) -> Array:
        return ops.negative(self)

    def __pos__(self) -> Array:
        return self

    def __abs__(self) -> Array:
        return ops.abs(self)

    # ------------------------------------------------------ comparisons: plain, as their derivative is zero

    def __lt__(self, other: Any) -> Array:
        return raw(self) < raw(other)

    def __le__(self, other: Any) -> Array:
        return raw(self) <= raw(other)

    def __gt__(self, other: Any) -> Array:
        return raw(self) > raw(other)

    def __ge__(self, other: Any) -> Array:
        return raw(self) >= raw(other)

    def __eq__(self, other: Any) -> Array:
        return raw(self) == raw(other)

    def __ne__(self, other: Any) -> Array:
        return raw(self) != raw(other)

    __hash__ = None     # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(raw(self))                              # `if x > 0` follows the plain value

    # ------------------------------------------------------------------------- indexing and methods of arrays

    def __getitem__(self, index: Any) -> Array:
        return ops.getitem(self, index)

    def __len__(self) -> int:
        return len(raw(self))

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """Return minigrad.sum(x, axis, keepdims)."""
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """Return minigrad.mean(x, axis, keepdims)."""
        return ops.mean(self, axis, keepdims)

    def var(self, axis: int | tuple[int, ...] | None = None, ddof: int = 0, keepdims: bool = False) -> Array:
        """Return minigrad.var(x, axis, ddof, keepdims)."""
        return ops.var(self, axis, ddof, keepdims)

    def std(self, axis: int | tuple[int, ...] | None = None, ddof: int = 0, keepdims: bool = False) -> Array:
        """Return minigrad.std(x, axis, ddof, keepdims)."""
        return ops.std(self, axis, ddof, keepdims)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """Return minigrad.max(x, axis, keepdims)."""
        return ops.max(self, axis, keepdims)

    def min(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """Return minigrad.min(x, axis, keepdims)."""
        return ops.min(self, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Array:
        """Return minigrad.argmax(x, axis)."""
        return ops.argmax(self, axis)

    def argmin(self, axis: int | None = None) -> Array:
        """Return minigrad.argmin(x, axis)."""
        return ops.argmin(self, axis)

    def ravel(self) -> Array:
        """Return minigrad.ravel(x)."""
        return ops.ravel(self)

    flatten = ravel

    def reshape(self, *shape: Any) -> Array:
        """Return minigrad.reshape(x, shape), the shape as one tuple or as several integers."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Array:
        """Return minigrad.transpose(x, axes), the axes as one tuple or as several integers."""
        return ops.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def swapaxes(self, axis1: int, axis2: int) -> Array:
        """Return minigrad.swapaxes(x, axis1, axis2)."""
        return ops.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Array:
        """Return minigrad.squeeze(x, axis)."""
        return ops.squeeze(self, axis)

    def astype(self, dtype: Any) -> Array:
        """Return minigrad.astype(x, dtype)."""
        return ops.astype(self, dtype)

    def clip(self, a_min: Any = None, a_max: Any = None) -> Array:
        """Return minigrad.clip(x, a_min, a_max)."""
        return ops.clip(self, a_min, a_max)

    def take(self, indices: Any, axis: int | None = None) -> Array:
        """Return minigrad.take(x, indices, axis)."""
        return ops.take(self, indices, axis)

    def dot(self, b: Any) -> Array:
        """Return minigrad.dot(x, b)."""
        return ops.dot(self, b)

    def copy(self) -> Box:
        """Return x itself: nothing writes to a traced value."""
        return self

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Box:
        return self

    # ------------------------------------------------------------------- what would lose the derivative

    def _refuse(self, call: str, help: str = _PLAIN) -> NoReturn:
        """Raise TraceError: this call would lose the derivative."""
        raise TraceError(message(call, "this would lose the derivative of a traced value", [("x", self, "")], help))

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        self._refuse("x[index] = value", "build the result instead: where(mask, a, b), concatenate, or stack")

    def __float__(self) -> NoReturn:
        self._refuse("float(x)")

    def __int__(self) -> NoReturn:
        self._refuse("int(x)")

    def __complex__(self) -> NoReturn:
        self._refuse("complex(x)")

    def __round__(self, digits: int | None = None) -> NoReturn:
        self._refuse("round(x)")

    def __trunc__(self) -> NoReturn:
        self._refuse("trunc(x)")

    def __floor__(self) -> NoReturn:
        self._refuse("floor(x)")

    def __ceil__(self) -> NoReturn:
        self._refuse("ceil(x)")

    def __floordiv__(self, other: Any) -> NoReturn:
        self._refuse("x // y")

    def __rfloordiv__(self, other: Any) -> NoReturn:
        self._refuse("y // x")

    def __mod__(self, other: Any) -> NoReturn:
        self._refuse("x % y")

    def __rmod__(self, other: Any) -> NoReturn:
        self._refuse("y % x")

    def __divmod__(self, other: Any) -> NoReturn:
        self._refuse("divmod(x, y)")

    def __rdivmod__(self, other: Any) -> NoReturn:
        self._refuse("divmod(y, x)")

    def __index__(self) -> NoReturn:
        self._refuse("using x as an index or a size")

    def item(self) -> NoReturn:
        """Raise TraceError."""
        self._refuse("x.item()")

    def tolist(self) -> NoReturn:
        """Raise TraceError."""
        self._refuse("x.tolist()")

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        self._refuse("numpy.asarray(x)", "compute with functions of minigrad; " + _PLAIN)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._refuse("pickle", "return the value from the differentiated function first")

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Any:
        """Return the value of a NumPy function that looks at the form alone or has no derivative; refuse any other."""
        if function in _PLAIN_FUNCTIONS:
            return function(*_plain(args), **_plain(params))
        name = function.__name__
        instead = f"{name}(x)" if hasattr(ops, name) else _ELSEWHERE.get(name)
        help = f"write minigrad.{instead}" if instead else (
            "minigrad has no such function: write it with those that it has")
        self._refuse(f"{function.__module__}.{name}(x)", help)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(numpy.ndarray, name):
            raise AttributeError(f"'Box' object has no attribute {name!r}")
        help = f"write minigrad.{_ELSEWHERE[name]}" if name in _ELSEWHERE else "write it with the functions of minigrad"
        raise TracedAttributeError(message(f"x.{name}", "a traced value has no such attribute", [("x", self, "")],
                                           help))


_PLAIN_FUNCTIONS = {getattr(numpy, name) for name in """
    allclose argmax argmin argsort argwhere array_equal array_equiv array_repr array_str array2string can_cast
    count_nonzero empty_like flatnonzero full_like iscomplexobj isclose isrealobj min_scalar_type ndim nonzero ones_like
    result_type searchsorted shape shares_memory size zeros_like""".split()}
_ELSEWHERE = {"amax": "max(x)", "amin": "min(x)", "norm": "linalg.norm(x)", "vstack": "stack(arrays)",
              "hstack": "concatenate(arrays)",
              "sort": "take(x, numpy.argsort(x))"}                      # what to write for those of another name


def raw(x: Any) -> Any:
    """Return the plain array inside any number of boxes."""
    while type(x) is Box:
        x = x.value
    return x


def _plain(x: Any) -> Any:
    """Return x with the plain values of all that is traced in it."""
    if isinstance(x, (list, tuple, dict)):
        return {k: _plain(v) for k, v in x.items()} if isinstance(x, dict) else type(x)([_plain(part) for part in x])
    return raw(x)
