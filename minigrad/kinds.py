"""The kinds of primitive. Each kind states its derivative once and writes the rule of both directions from that.

    kind          declaration                      push                            pull
    elementwise   name + partial derivatives       t * d                           g * d, summed to the shape of x
    signed        name + signs                     +t or -t, broadcast             +g or -g, summed
    linear        forward + adjoint                itself                          the adjoint
    bilinear      forward + pull_a + pull_b        itself, one argument replaced   the two contractions

Broadcasting is undone here, by the pair broadcast_to / sum_to, so that no rule has to think of it.
Names: d local derivative; s the shape of an argument; the rest as in core.py.
"""
from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from .backend import module_of
from .core import LinearMap, Primitive
from .errors import DTypeError, ShapeError, TraceError, message, parameters, shape
from .typing import Array, Shape


def elementwise(fun: str | Callable[..., Array], *partials: Callable[..., Array], name: str | None = None,
                doc: str | None = None) -> Primitive:
    """Return a primitive that acts on each element: y = f(x1, x2, ...).

    The Jacobian is diagonal, so that scaling by d is both the push and the pull.

    >>> import minigrad as mg
    >>> exp = mg.elementwise("exp", lambda y, x: y)
    >>> cosh = lambda x: (exp(x) + exp(-x)) / 2
    >>> float(mg.grad(mg.grad(cosh))(0.0))
    1.0

    Args:
        fun: a function of plain arrays, or the name under which NumPy and CuPy have it.
        *partials: the partial derivative by each argument, d(y, x1, x2, ...), written with primitives.
        name: the name of the primitive, if it is not that of fun.
        doc: its docstring.
    """
    def rule(i: int, y: Array, *args: Array) -> LinearMap:
        if i >= len(partials):
            raise TraceError(f"{primitive.name}(...): no partial derivative by argument {i} is declared\n"
                             "  help: elementwise(fun, *partials) takes one for each argument")
        d, s, sy = partials[i](y, *args), shape(args[i]), shape(y)
        if s == sy == shape(d):
            return LinearMap(lambda t: t * d, lambda g: g * d)
        return LinearMap(lambda t: stretch(t * d, sy), lambda g: sum_to(g * d, shape=s))
    primitive = Primitive(fun, rule, name, doc, parameters(partials[0])[1:] if partials else None)
    return primitive


def signed(fun: str | Callable[..., Array], *signs: int, name: str | None = None, doc: str | None = None) -> Primitive:
    """Return a primitive that adds up its arguments, each with its sign: y = ± x1 ± x2 ...

    fun, name, doc: as in elementwise. Raises DTypeError for a sign that is neither +1 nor -1.
    """
    if not {+1, -1} >= {*signs}:
        raise DTypeError(f"signed({fun!r}, ...): each sign is +1 or -1, not {signs}")

    def rule(i: int, y: Array, *args: Array) -> LinearMap:
        s, sy = shape(args[i]), shape(y)
        if signs[i] == +1:
            return LinearMap(lambda t: stretch(t, sy), lambda g: sum_to(g, shape=s))
        return LinearMap(lambda t: stretch(-t, sy), lambda g: sum_to(-g, shape=s))
    return Primitive(fun, rule, name, doc, "abcdefgh"[:len(signs)])


def linear(fun: Callable[..., Array], adjoint: Callable[..., Array], name: str | None = None) -> Primitive:
    """Return a primitive that is linear in its one array: y = A x. It is its own push.

    adjoint(g, s, **params) returns A^T g; s is the shape of x, so that the adjoint need not keep x itself.

    >>> import numpy as np, minigrad as mg
    >>> flip = mg.linear(lambda x: x[::-1], lambda g, s: flip(g), name="flip")
    >>> mg.grad(lambda x: mg.sum(flip(x) * np.arange(3)))(np.ones(3))
    array([2., 1., 0.])
    """
    def rule(i: int, y: Array, x: Array, **params: Any) -> LinearMap:
        s = shape(x)
        return LinearMap(lambda t: primitive(t, **params), lambda g: adjoint(g, s, **params))
    primitive = Primitive(fun, rule, name, parameters=parameters(fun)[:1])
    return primitive


def bilinear(fun: Callable[..., Array], pull_a: Callable[..., Array], pull_b: Callable[..., Array],
             name: str | None = None) -> Primitive:
    """Return a primitive that is linear in a and in b: y = f(a, b). The pushes are f(t, b) and f(a, t).

    pull_a(g, b, s, **params) and pull_b(g, a, s, **params) are the adjoints; s is the shape of their result.

    >>> import numpy as np, minigrad as mg
    >>> outer = mg.bilinear(np.outer, lambda g, b, s: g @ b, lambda g, a, s: a @ g)
    >>> mg.grad(lambda a: mg.sum(outer(a, np.arange(3.))))(np.ones(2))
    array([3., 3.])
    """
    def rule(i: int, y: Array, a: Array, b: Array, **params: Any) -> LinearMap:
        if i == 0:
            s = shape(a)
            return LinearMap(lambda t: primitive(t, b, **params), lambda g: pull_a(g, b, s, **params))
        s = shape(b)
        return LinearMap(lambda t: primitive(a, t, **params), lambda g: pull_b(g, a, s, **params))
    primitive = Primitive(fun, rule, name, parameters=parameters(fun)[:2])
    return primitive


# ----------------------------------------------------------- broadcasting and its adjoint, stated as a pair

def _sum_to(x: Array, shape: Shape) -> Array:
    lead = x.ndim - len(shape)                              # the number of axes that a broadcast would have added
    if lead < 0 or any([n not in (1, x.shape[lead + i]) for i, n in enumerate(shape)]):
        raise ShapeError(message("sum_to(x, shape)", f"{shape} cannot have been broadcast to the shape of x",
                                 [("x", x, "")], "from the right, each length is that of x, or 1"))
    repeated = [lead + i for i, n in enumerate(shape) if n == 1 != x.shape[lead + i]]
    return x.sum((*range(lead), *repeated)).reshape(shape)


_broadcast = linear(lambda x, shape: module_of(x).broadcast_to(x, shape), lambda g, s, shape: sum_to(g, shape=s),
                    "broadcast_to")
_sum_back = linear(_sum_to, lambda g, s, shape: broadcast_to(g, shape=s))


def broadcast_to(x: Array, shape: int | Sequence[int]) -> Array:
    """Return x repeated along new axes and along axes of length 1, to this shape.

    Raises ShapeError where the shapes do not fit.
    """
    return _broadcast(x, shape=shape if type(shape) is tuple else as_shape(shape, "broadcast_to"))


def stretch(x: Array, s: Shape) -> Array:
    """Return x broadcast to shape s: x itself if it has that shape already."""
    return x if shape(x) == s else _broadcast(x, shape=s)


def sum_to(x: Array, shape: int | Sequence[int]) -> Array:
    """Return the sum of x over the axes that a broadcast from this shape would have repeated.

    It is the adjoint of broadcast_to. Raises ShapeError where no broadcast leads from this shape to that of x.
    """
    s = shape if type(shape) is tuple else as_shape(shape, "sum_to")
    return x if getattr(x, "shape", None) == s else _sum_back(x, shape=s)


def as_shape(shape: Any, name: str) -> Shape:
    """Return one length, or a sequence of them, as a tuple. Raises ShapeError, naming the operation, for others."""
    lengths = as_integers(shape)
    if lengths is None:
        raise ShapeError(f"{name}(x, shape): {shape!r} is not a shape\n  help: an integer, or several: (2, 3)")
    return lengths


def is_integer(value: Any) -> bool:
    """Return whether this is one integer, of Python or of NumPy; True and False are none."""
    return isinstance(value, (int, numpy.integer)) and not isinstance(value, bool)


def as_integers(value: Any) -> tuple[int, ...] | None:
    """Return one integer, or a sequence of them, as a tuple; None for anything else."""
    try:
        return (int(value),) if is_integer(value) else tuple(map(operator.index, value))
    except TypeError:
        return None
