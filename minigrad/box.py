"""A `Box`: a value that a derivative watches. It acts as an array, and each of its operators is a primitive.

What would silently lose the derivative raises an error that says what to write instead.
"""
from __future__ import annotations

import importlib
import math
import operator
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy

from .errors import TracedAttributeError, TraceError, message, shape
from .typing import Array, Shape

ops: Any = None     # minigrad.ops, which is written with boxes: it puts itself here once it is there
linalg: Any = None  # ... and so does minigrad.linalg

_PLAIN = "minigrad.stop_gradient(x) is its plain value, a constant to every derivative"
_NEW = "y = y + x in place of y += x"


class _OnType:
    """An attribute of a class that its objects have as None.

    NumPy looks for __array_ufunc__ at the type, and then calls it for `array + box` and `numpy.exp(box)`. CuPy looks at
    the object, and leaves `array + box` to the box if it finds None there.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self.value if instance is None else None


class Box:
    """A value that a derivative watches.

    _trace: the derivative that watches; tag: what that trace wants to know of this value (a tangent, an index on a
    tape).
    """
    __slots__ = ("value", "_trace", "tag")
    __array_ufunc__ = _OnType(lambda *args, **params: _call_ufunc(*args, **params))

    def __init__(self, value: Array, trace: Any, tag: Any) -> None:
        self.value, self._trace, self.tag = value, trace, tag

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

    @property
    def mT(self) -> Array:
        """The value with its last two axes exchanged."""
        return ops.swapaxes(self, -1, -2)

    @property
    def real(self) -> Array:
        """The value itself: what is differentiated is real."""
        return ops.real(self)

    @property
    def imag(self) -> Array:
        """Zeros."""
        return ops.imag(self)

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

    def __round__(self, digits: int | None = None) -> Array:
        return ops.round(self, digits or 0)                 # plain, as its derivative is zero

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

    def reshape(self, *shape: Any) -> Array:
        """Return minigrad.reshape(x, shape), the shape as one tuple or as several integers."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Array:
        """Return minigrad.transpose(x, axes), the axes as one tuple or as several integers."""
        return ops.transpose(self, axes[0] if len(axes) == 1 else axes or None)

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

    def __index__(self) -> NoReturn:
        self._refuse("using x as an index or a size")

    def item(self) -> NoReturn:
        """Raise TraceError."""
        self._refuse("x.item()")

    def tolist(self) -> NoReturn:
        """Raise TraceError."""
        self._refuse("x.tolist()")

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        self._refuse("numpy.asarray(x)", "compute with functions of minigrad, such as minigrad.array(list); " + _PLAIN)

    def __dlpack__(self, **how: Any) -> NoReturn:
        self._refuse("x.__dlpack__()")

    def __dlpack_device__(self) -> NoReturn:
        self._refuse("from_dlpack(x)")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._refuse("pickle", "return the value from the differentiated function first")

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Any:
        """Return the value of a function of NumPy: minigrad's of that name, or of plain values if it has no derivative.

        Raises TraceError for any other.
        """
        home, name = function.__module__, function.__name__
        own = getattr(linalg, name, None) if home == "numpy.linalg" else _operation(name) if home == "numpy" else None
        if params.get("out") is not None:
            self._refuse(f"{home}.{name}(..., out=y)", _NEW)
        if own is None and function in WITHOUT_DERIVATIVE:
            return function(*plain(args), **plain(params))
        if own is None:
            self._refuse(f"{home}.{name}(x)", _instead(name))
        return own(*args, **params)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        """Return minigrad.numpy, the functions with NumPy's names."""
        return importlib.import_module("minigrad.numpy")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(numpy.ndarray, name):
            raise AttributeError(f"'Box' object has no attribute {name!r}")
        raise TracedAttributeError(message(f"x.{name}", "a traced value has no such attribute", [("x", self, "")],
                                           "write it with the functions of minigrad"))


WITHOUT_DERIVATIVE = {getattr(numpy, name) for name in """
    allclose argmax argmin argsort argwhere array_equal array_equiv array_repr array_str array2string can_cast
    count_nonzero empty_like equal flatnonzero full_like greater greater_equal iscomplexobj isclose isfinite isinf isnan
    isrealobj less less_equal logical_and logical_not logical_or logical_xor min_scalar_type ndim nonzero not_equal
    ones_like result_type searchsorted shape shares_memory signbit size zeros_like""".split()}
_REDUCED = {numpy.add: "sum", numpy.multiply: "prod", numpy.maximum: "max", numpy.minimum: "min"}


def _operation(name: str) -> Any:
    """Return minigrad's operation of this name, which explains its errors; None if it has none."""
    return getattr(sys.modules["minigrad"], name) if name in ops.__all__ else None


def _instead(name: str) -> str:
    """Return the remedy for a function of another library: minigrad's of that name, where it has one."""
    for home in "minigrad.ops", "minigrad.special", "minigrad.linalg":
        if name in importlib.import_module(home).__all__:
            return f"{home.removesuffix('.ops')}.{name}(x) takes traced values"
    return "minigrad has no such function: write it with those that it has"


def _call_ufunc(box: Box, ufunc: Any, method: str, *args: Any, **params: Any) -> Any:
    """Return what a ufunc of NumPy returns, by minigrad's operation; see Box.__array_function__."""
    if method == "__call__" and not params:
        if ufunc in WITHOUT_DERIVATIVE:
            return ufunc(*plain(args))
        own = _operation(ufunc.__name__)
        if own is not None:
            return own(*args)
    if method == "reduce" and ufunc in _REDUCED:
        return _operation(_REDUCED[ufunc])(*args, **{"axis": 0, **params})
    if "out" in params:
        box._refuse(f"numpy.{ufunc.__name__}(..., out=y)", _NEW)
    home = "numpy" if hasattr(numpy, ufunc.__name__) else "scipy.special"
    call = f"{home}.{ufunc.__name__}" + f".{method}" * (method != "__call__") + f"({', '.join(['x', *params])})"
    return box._refuse(call, _instead(ufunc.__name__) if method == "__call__" and not params else
                       "minigrad has no such function or argument: write it with those that it has")


def _method(name: str) -> Any:
    def method(self: Box, *args: Any, **params: Any) -> Any:
        own = _operation(name)
        return own(self, *args, **params) if own else getattr(raw(self), name)(*plain(args), **params)
    method.__name__, method.__doc__ = name, f"Return minigrad.{name}(x, ...), or that of the plain value."
    return method


def _comparison(compare: Any) -> Any:
    return lambda self, other: compare(raw(self), raw(other))


for _name in """all any argmax argmin argpartition argsort astype clip conj conjugate cumprod cumsum diagonal dot max
    mean min nonzero prod ravel repeat round searchsorted squeeze std sum swapaxes take trace var""".split():
    setattr(Box, _name, _method(_name))
for _name in "lt le gt ge eq ne".split():                   # plain, as their derivative is zero
    setattr(Box, f"__{_name}__", _comparison(getattr(operator, _name)))
for _name, _own in {"mod": "mod", "floordiv": "floor_divide", "divmod": "divmod"}.items():
    setattr(Box, f"__{_name}__", lambda self, other, own=_own: getattr(ops, own)(self, other))
    setattr(Box, f"__r{_name}__", lambda self, other, own=_own: getattr(ops, own)(other, self))
Box.flatten = Box.ravel     # type: ignore[attr-defined]
for _f in (math.ceil, math.floor, math.trunc):
    setattr(Box, f"__{_f.__name__}__", lambda self, f=_f: f(raw(self)))


def raw(x: Any) -> Any:
    """Return the plain array inside any number of boxes."""
    while type(x) is Box:
        x = x.value
    return x


def plain(x: Any) -> Any:
    """Return x with the plain values of all that is traced in it."""
    if isinstance(x, (list, tuple, dict)):
        return {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else type(x)([plain(part) for part in x])
    return raw(x)
