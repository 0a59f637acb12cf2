"""What a traced value can do: the operators and methods of an array, each one a primitive.

What would silently lose the derivative raises an error that says what to write instead.
"""
import numpy

from .. import ops
from ..core import Box, raw
from ..errors import TracedAttributeError, TraceError, message
from . import elementwise as e
from . import products, reductions, shaping


def _reflected(f):
    return lambda self, other: f(other, self)


def _refuse(call, help):
    def method(self, *args, **params):
        raise TraceError(message(call, "this would lose the derivative of a traced value", [("x", self, "")], help))
    return method


for _name, _f in dict(add=e.add, sub=e.subtract, mul=e.multiply, truediv=e.divide, matmul=products.matmul).items():
    setattr(Box, f"__{_name}__", lambda self, other, f=_f: f(self, other))
    setattr(Box, f"__r{_name}__", _reflected(_f))
Box.__pow__ = lambda self, n: e.square(self) if isinstance(n, int) and n == 2 else e.power(self, n)
Box.__rpow__ = _reflected(e.power)
Box.__neg__ = lambda self: e.negative(self)
Box.__pos__ = lambda self: self
Box.__copy__ = lambda self: self
Box.__deepcopy__ = lambda self, memo: self
Box.__abs__ = lambda self: e.abs(self)
Box.__getitem__ = shaping.getitem
Box.__iter__ = lambda self: (self[i] for i in range(len(self)))
Box.__len__ = lambda self: len(raw(self))
Box.__bool__ = lambda self: bool(raw(self))             # `if x > 0` follows the plain value

for _name in ("lt", "le", "gt", "ge", "eq", "ne"):      # comparisons are plain: their derivative is zero
    setattr(Box, f"__{_name}__", lambda self, other, name=f"__{_name}__": getattr(raw(self), name)(raw(other)))

Box.T = property(shaping.transpose)
for _name, _f in dict(sum=reductions.sum, mean=reductions.mean, var=reductions.var, std=reductions.std,
                      max=reductions.max, min=reductions.min, argmax=reductions.argmax, argmin=reductions.argmin,
                      ravel=shaping.ravel, squeeze=shaping.squeeze, swapaxes=shaping.swapaxes, astype=e.astype,
                      clip=e.clip, take=shaping.take).items():
    setattr(Box, _name, _f)
Box.copy = lambda self: self                            # nothing writes to a traced value
Box.flatten = shaping.ravel
Box.reshape = lambda self, *shape: shaping.reshape(self, shape[0] if len(shape) == 1 else shape)
Box.transpose = lambda self, *axes: shaping.transpose(self, axes[0] if len(axes) == 1 else axes or None)

_PLAIN = "minigrad.stop_gradient(x) is its plain value, a constant to every derivative"
Box.__setitem__ = _refuse("x[index] = value", "build the result instead: where(mask, a, b), concatenate, or stack")
Box.__format__ = lambda self, spec: format(raw(self), spec)
for _name in ("float", "int", "complex", "round", "trunc", "floor", "ceil"):
    setattr(Box, f"__{_name}__", _refuse(f"{_name}(x)", _PLAIN))
for _name, _sign in (("floordiv", "//"), ("mod", "%"), ("divmod", "divmod")):
    setattr(Box, f"__{_name}__", _refuse(f"x {_sign} y", _PLAIN))
    setattr(Box, f"__r{_name}__", _refuse(f"y {_sign} x", _PLAIN))
Box.__index__ = _refuse("using x as an index or a size", _PLAIN)
Box.item = _refuse("x.item()", _PLAIN)
Box.tolist = _refuse("x.tolist()", _PLAIN)
Box.__array__ = _refuse("numpy.asarray(x)", "compute with functions of minigrad; " + _PLAIN)
Box.__reduce_ex__ = _refuse("pickle", "return the value from the differentiated function first")

# Functions of NumPy on a traced value. Those that look at its form alone, or have no derivative, take the plain value.
_PLAIN_FUNCTIONS = {getattr(numpy, name) for name in """
    allclose argmax argmin argsort argwhere array_equal array_equiv array_repr array_str array2string can_cast
    count_nonzero empty_like flatnonzero full_like iscomplexobj isclose isrealobj min_scalar_type ndim nonzero ones_like
    result_type searchsorted shape shares_memory size zeros_like""".split()}
_ELSEWHERE = {"dot": "matmul(a, b)", "outer": "tensordot(a, b, 0)", "amax": "max(x)", "amin": "min(x)",
              "norm": "sqrt(sum(square(x)))", "vstack": "stack(arrays)", "hstack": "concatenate(arrays)",
              "sort": "take(x, numpy.argsort(x))"}                      # what to write for those of another name


def _plain(x):
    """x with the plain values of all that is traced in it."""
    if isinstance(x, (list, tuple, dict)):
        return {k: _plain(v) for k, v in x.items()} if isinstance(x, dict) else type(x)([_plain(part) for part in x])
    return raw(x)


def _numpy_function(self, function, types, args, params):
    if function in _PLAIN_FUNCTIONS:
        return function(*_plain(args), **_plain(params))
    name = function.__name__
    instead = f"{name}(x)" if hasattr(ops, name) else _ELSEWHERE.get(name)
    help = f"write minigrad.{instead}" if instead else "minigrad has no such function: write it with those that it has"
    _refuse(f"{function.__module__}.{name}(x)", help)(self)


Box.__array_function__ = _numpy_function


def _missing(self, name):
    if name.startswith("_") or not hasattr(numpy.ndarray, name):
        raise AttributeError(f"'Box' object has no attribute {name!r}")
    help = f"write minigrad.{_ELSEWHERE[name]}" if name in _ELSEWHERE else "write it with the functions of minigrad"
    raise TracedAttributeError(message(f"x.{name}", "a traced value has no such attribute", [("x", self, "")], help))


Box.__getattr__ = _missing
