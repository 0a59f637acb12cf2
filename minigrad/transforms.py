"""Transforms: functions that take a function and return its derivative.

    jvp(f, xs, ts)       y, t                 forward: one direction, no tape
    linearize(f, *xs)    y, J                 one run of f, then any number of J.push and J.pull
    vjp(f, *xs)          y, pull              backward
    grad(f)              gradient             of a scalar function
    value_and_grad(f)    value, gradient
    hvp(f, x, v)         H v                  forward over backward
    jacobian(f)          all of J             (jacobians.py, with hessian)

They nest in any combination, to any depth. Arguments and results may be any tree (tree.py) of floating-point arrays.
The types are, with Ta the tangents of a:

    f : a -> b      linearize f : a -> (b, LinearMap from Ta to Tb)      grad f : a -> Ta

With has_aux, f returns (y, aux), and the transform returns aux as plain values, outside the derivative.

A gradient that grad, hessian or a pull returns has memory of its own: you may write to it. Values and tangents are
shared, not copied, and so are the arrays that f uses: a derivative keeps those that it needs. Do not write to them
between f and the last push or pull; where f fills a buffer twice, use a new one (check_buffers finds such writes).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Literal, NoReturn, ParamSpec, TypeVar, overload

import numpy

from . import tree
from .backend import is_array, is_float, module_of
from .boundary import explains
from .box import raw
from .core import Forward, LinearMap, Tape, run, unbox
from .errors import DTypeError, MinigradError, ShapeError, message, shape
from .kinds import as_integers, is_integer
from .ops import astype, stop_gradient
from .typing import Array, Tree

__all__ = ["jvp", "linearize", "vjp", "grad", "value_and_grad", "hvp", "stop_gradient"]
NO_DERIVATIVE = "only real floating-point results have derivatives"
REAL = "keep the real and imaginary parts as two arrays: only real numbers have derivatives here"

P = ParamSpec("P")
X = TypeVar("X")        # the type of the argument that is differentiated, and so of the gradient
Y = TypeVar("Y")
A = TypeVar("A")        # the type of aux
Pull = Callable[[Tree], tuple[Tree, ...]]


def split_aux(found: Any) -> tuple[Any, Any]:
    """Return what a function with has_aux has returned, (y, aux). Raises ShapeError unless that is a pair."""
    if not (isinstance(found, (tuple, list)) and len(found) == 2):
        raise ShapeError("has_aux: f must return a pair, (y, aux)\n  help: return y, aux; or leave has_aux out")
    return found[0], found[1]


def _trace(trace: Any, f: Callable[..., Any], leaves: list[Any], structure: tree.Structure, tags: Iterable[Any],
           has_aux: bool, call: str) -> tuple[list[tuple[Array, Any]], tree.Structure, Tree]:
    """Run f on a trace. Return (leaf of y, its tag) for each leaf, the structure of y, and the plain aux."""
    y = run(trace, lambda *boxes: f(*tree.unflatten(structure, boxes)), leaves, tags)
    y, aux = split_aux(y) if has_aux else (y, None)
    outs, out_structure = tree.flatten(y)
    outs = [numpy.float64(out) if type(out) is float else out for out in outs]
    for k, out in enumerate(outs):
        if not is_float(out):
            _refuse_result(call, tree.paths(y)[k], out)
    pairs = [unbox(out, trace) for out in outs]
    return pairs, out_structure, tree.map(lambda leaf: unbox(leaf, trace)[0], aux) if has_aux else None


def _refuse_result(call: str, path: str, out: Any) -> NoReturn:
    """Raise DTypeError for a result that has no derivative, or none that is a real number."""
    if not hasattr(out, "dtype") and not isinstance(out, (int, complex)):
        raise DTypeError(f"f returns a {type(out).__name__}, which is neither an array nor a tree of arrays\n"
                         "  help: return it beside y, with has_aux=True")
    is_complex = getattr(getattr(out, "dtype", None), "kind", "c" if isinstance(out, complex) else "") == "c"
    raise DTypeError(message(call, NO_DERIVATIVE,
                             [(f"f(...){'.' + path if path else ''}", out, "")],
                             REAL if is_complex else
                             "return it beside y, with has_aux=True; or convert it: astype(y, float)"))


def _conform(given: Tree, structure: tree.Structure, like: list[Any], call: str) -> list[Any]:
    """Return the leaves of a tangent or cotangent in the dtypes of the values `like`.

    Raises ShapeError and DTypeError unless it has their structure and shapes, and real numbers.
    """
    values = tree.leaves_like(structure, given, call)
    for k, (value, x) in enumerate(zip(values, like)):
        if hasattr(value, "dtype") and value.dtype == x.dtype and value.shape == x.shape:   # the usual case, at once
            continue
        real = _kind(value) in "fiub"
        if not real or shape(value) != shape(x):
            rows, names = [("value", x, ""), ("given", value, "")], tree.paths(tree.unflatten(structure, like))
            error: type[MinigradError]
            error, what = (ShapeError, "shape") if real else (DTypeError, "type")
            help = "has the shape of the value it belongs to" if real else "is an array of real numbers"
            raise error(message(call, f"wrong {what} at {names[k] or 'the top'}", rows,
                                f"a tangent or cotangent {help}"))
    return [as_type_of(x, value) for value, x in zip(values, like)]


def _refuse_type(name: str, walk: str, found: Array, like: Array) -> NoReturn:
    raise DTypeError(message(f"{name}(...)", f"the {walk} of its rule does not return real numbers",
                             [("found", found, ""), ("value", like, "")], REAL))


def _kind(x: Any) -> str:
    """Return NumPy's character for the kind of the elements: f, i, u, b, c; O for neither an array nor a number."""
    dtype = getattr(raw(x), "dtype", None)
    return str(getattr(dtype, "kind", "O")) if dtype is not None else "f" if isinstance(x, (int, float)) else "O"


def as_type_of(x: Array, value: Array) -> Array:
    """Return a value in the dtype of x. A number becomes an array of the shape of x, and None an array of zeros."""
    if value is None:
        return _full_like(x, 0.0)
    if isinstance(value, (int, float)):
        return _full_like(x, value)
    return value if value.dtype == x.dtype else astype(value, x.dtype)


def _full_like(x: Array, value: float) -> Array:
    """Return an array with one value everywhere, in the shape, dtype and array module of x.

    Without axes it is, on NumPy, a scalar, which also goes with CuPy's arrays, as x does if it is a number.
    """
    module = x.module if type(x) is _Form else module_of(raw(x))
    return module.full(shape(x), value, raw(x).dtype)[()]


@overload
def jvp(f: Callable[..., Y], xs: Sequence[Tree], ts: Sequence[Tree],
        has_aux: Literal[False] = False) -> tuple[Y, Y]: ...
@overload
def jvp(f: Callable[..., tuple[Y, A]], xs: Sequence[Tree], ts: Sequence[Tree],
        has_aux: Literal[True]) -> tuple[Y, Y, A]: ...
def jvp(f: Callable[..., Any], xs: Sequence[Tree], ts: Sequence[Tree], has_aux: bool = False) -> tuple[Any, ...]:
    """Return y = f(*xs) and its derivative along ts, t = J ts: forward mode, without a tape.

    Args:
        f: a function of trees of floating-point arrays that returns such a tree; with has_aux, (y, aux).
        xs: the arguments of f, in a tuple.
        ts: their tangents, in a tuple: trees of the same structure and shapes.
        has_aux: whether to return (y, t, aux) in place of (y, t).

    Raises ShapeError and DTypeError. It takes the memory of an evaluation, whatever the number of steps.

    >>> y, t = jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> float(y), float(t)
    (9.0, 6.0)
    """
    if not isinstance(xs, (tuple, list)) or not isinstance(ts, (tuple, list)):
        raise DTypeError("jvp(f, xs, ts): xs and ts must be tuples, with one element per argument of f\n"
                         "  help: jvp(f, (x,), (t,))")
    call = "jvp(f, xs, ts)"
    leaves, structure = tree.float_leaves(xs, call)
    tangents = _conform(tuple(ts), structure, leaves, call)
    pairs, out_structure, aux = _trace(Forward(), f, leaves, structure, tangents, has_aux, call)
    y = tree.unflatten(out_structure, [value for value, _ in pairs])
    for value, tangent in pairs:
        if tangent is not None and _kind(tangent) not in "fiub":
            _refuse_type(title(f, "jvp"), "push", tangent, value)
    t = tree.unflatten(out_structure, [as_type_of(value, tangent) for value, tangent in pairs])
    return (y, t, aux) if has_aux else (y, t)


@overload
def linearize(f: Callable[..., Y], *xs: Tree, has_aux: Literal[False] = False) -> tuple[Y, LinearMap]: ...
@overload
def linearize(f: Callable[..., tuple[Y, A]], *xs: Tree, has_aux: Literal[True]) -> tuple[Y, LinearMap, A]: ...
def linearize(f: Callable[..., Any], *xs: Tree, has_aux: bool = False) -> tuple[Any, ...]:
    """Return y = f(*xs) and J, the LinearMap of f at xs. f runs once; J can be pushed and pulled any number of times.

    J.push(*ts) returns the tangent of y for one tangent of each x. J.pull(g) returns the cotangent of x, or a tuple of
    cotangents if f has several arguments. <g, J.push(t)> == <J.pull(g), t>. With has_aux, f returns (y, aux) and
    linearize returns (y, J, aux). Raises ShapeError and DTypeError.

    >>> y, J = linearize(lambda x: x * x, 3.0)
    >>> float(J.push(1.0)), float(J.pull(10.0))
    (6.0, 60.0)
    """
    y, push, pull, aux = _linearize(f, xs, has_aux, "linearize(f, *xs)")
    J = LinearMap(push, pull if len(xs) != 1 else lambda g: pull(g)[0])
    return (y, J, aux) if has_aux else (y, J)


def _linearize(f: Callable[..., Any], xs: Sequence[Tree], has_aux: bool, call: str,
               once: bool = False) -> tuple[Tree, Callable[..., Tree], Pull, Tree]:
    """Return y, push, pull and aux, where pull always returns a tuple. once: whether one pull is all that follows."""
    leaves, structure = tree.float_leaves(xs, call)
    tape, count = Tape(), len(leaves)
    indices = [tape.record(None, x, ()) for x in leaves]
    pairs, out_structure, aux = _trace(tape, f, leaves, structure, indices, has_aux, call)
    ins, outs, ends = [_Form(x) for x in leaves], [_Form(y) for y, _ in pairs], [index for _, index in pairs]

    def push(*ts: Tree) -> Tree:
        tangents = tape.push(_conform(ts, structure, ins, "J.push(*ts)"), ends)
        for y, t, end in zip(outs, tangents, ends):
            if getattr(t, "dtype", y.dtype) != y.dtype and _kind(t) not in "fiub":
                _refuse_type(tape[end][0].name, "push", t, y)
        return tree.unflatten(out_structure, [as_type_of(y, t) for y, t in zip(outs, tangents)])

    def pull(g: Tree) -> tuple[Tree, ...]:
        given = _conform(g, out_structure, outs, "J.pull(g)")
        cotangents = tape.pull(given, ends, count, once)
        for k, (x, c) in enumerate(zip(ins, cotangents)):
            if c is not None and c.dtype == x.dtype:
                continue
            if c is not None and _kind(c) not in "fiub":
                if once:                                    # with a tape that can still say who is to blame
                    return _linearize(f, xs, has_aux, call)[2](g)
                users = {step[0].name for step in tape if any([parent == k for parent, _ in step[1]])}
                _refuse_type(" or ".join(sorted(users)), "pull", c, x)
            cotangents[k] = as_type_of(x, c)
        gradients: tuple[Tree, ...] = tree.unflatten(structure, _unshare(cotangents, given))
        return gradients
    return tree.unflatten(out_structure, [y for y, _ in pairs]), push, pull, aux


def _unshare(cotangents: list[Any], given: list[Any]) -> list[Any]:
    """Return the cotangents, each in memory of its own: copies of those that are read-only or share memory."""
    taken, result = {id(_owner(g)) for g in given}, []
    for c in cotangents:
        if is_array(c):
            owner = c if c.base is None else _owner(c)
            if id(owner) in taken or owner is not c and 0 in c.strides or not getattr(c.flags, "writeable", True):
                c = owner = c.copy()
            taken.add(id(owner))
        result.append(c)
    return result


def _owner(x: Array) -> Array:
    """Return the array whose memory this is a view of, or the array itself."""
    while is_array(x) and x.base is not None:
        x = x.base
    return x


class _Form:
    """Shape, dtype and module of an array: all that a LinearMap keeps of its arguments and results."""

    def __init__(self, x: Array) -> None:
        self.shape, self.dtype, self.module = shape(x), x.dtype, module_of(raw(x))


@overload
def vjp(f: Callable[..., Y], *xs: Tree, has_aux: Literal[False] = False) -> tuple[Y, Pull]: ...
@overload
def vjp(f: Callable[..., tuple[Y, A]], *xs: Tree, has_aux: Literal[True]) -> tuple[Y, Pull, A]: ...
def vjp(f: Callable[..., Any], *xs: Tree, has_aux: bool = False) -> tuple[Any, ...]:
    """Return y = f(*xs) and pull, which takes a cotangent of y to a tuple of cotangents, one for each x.

    With has_aux, f returns (y, aux) and vjp returns (y, pull, aux). Raises ShapeError and DTypeError.

    >>> y, pull = vjp(lambda a, b: a * b, 2.0, 3.0)
    >>> [float(g) for g in pull(1.0)]
    [3.0, 2.0]
    """
    y, _, pull, aux = _linearize(f, xs, has_aux, "vjp(f, *xs)")
    return (y, explains(pull), aux) if has_aux else (y, explains(pull))


@overload
def value_and_grad(f: Callable[Concatenate[X, P], Y], *,
                   has_aux: Literal[False] = False) -> Callable[Concatenate[X, P], tuple[Y, X]]: ...
@overload
def value_and_grad(f: Callable[Concatenate[X, P], tuple[Y, A]], *,
                   has_aux: Literal[True]) -> Callable[Concatenate[X, P], tuple[tuple[Y, A], X]]: ...
@overload
def value_and_grad(f: Callable[P, Any], argnums: int | Sequence[int],
                   has_aux: bool = False) -> Callable[P, tuple[Any, Tree]]: ...
def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0,
                   has_aux: bool = False) -> Callable[..., Any]:
    """Return the function that returns (f(*xs), its gradient); with has_aux, ((f(*xs), aux), its gradient). See grad.

    >>> value, gradient = value_and_grad(lambda x: x ** 3)(2.0)
    >>> float(value), float(gradient)
    (8.0, 12.0)
    """
    @named(f, "value_and_grad")
    def both(*xs: Tree, **params: Any) -> Any:
        chosen, inner = _bind(f, argnums, xs, params, "grad(f)")
        y, _, pull, aux = _linearize(inner, chosen, has_aux, "grad(f)", once=True)
        if tree.flatten(y)[1].node is not tree.LEAF or shape(y) != ():
            rows = [(f"f(...){'.' + name if name else ''}", leaf, "")
                    for name, leaf in zip(tree.paths(y), tree.flatten(y)[0])]
            raise ShapeError(message("grad(f)", "f must return one scalar", rows,
                                     "take its sum or mean, or use vjp (one cotangent) or jacobian (all of them)"))
        gradients = pull(_full_like(y, 1.0))
        return (y, aux) if has_aux else y, gradients[0] if is_integer(argnums) else gradients
    return both


@overload
def grad(f: Callable[Concatenate[X, P], Any], *,
         has_aux: Literal[False] = False) -> Callable[Concatenate[X, P], X]: ...
@overload
def grad(f: Callable[Concatenate[X, P], tuple[Any, A]], *,
         has_aux: Literal[True]) -> Callable[Concatenate[X, P], tuple[X, A]]: ...
@overload
def grad(f: Callable[P, Any], argnums: int | Sequence[int], has_aux: bool = False) -> Callable[P, Tree]: ...
def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return the function that returns the gradient of the scalar f with respect to its argument number `argnums`.

    The gradient has the structure, shapes and dtypes of that argument; where argnums is a tuple, it is a tuple of
    gradients. With has_aux, f returns (y, aux) and the function returns (gradient, aux). Raises ShapeError unless f
    returns one scalar, and DTypeError unless that and the argument are real floating-point numbers. In a tree, None,
    strings, functions and settings (nn.static) stay what they are; an integer raises DTypeError, as in JAX, since it
    might have been meant as a parameter. Pass integers as other arguments or by keyword.

    >>> float(grad(grad(lambda x: x ** 3))(2.0))
    12.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @named(f, "grad")
    def gradient(*xs: Tree, **params: Any) -> Any:
        value, gradients = both(*xs, **params)
        return (gradients, value[1]) if has_aux else gradients
    return gradient


def _bind(f: Callable[..., Any], argnums: int | Sequence[int], xs: tuple[Tree, ...], params: dict[str, Any],
          call: str) -> tuple[tuple[Tree, ...], Callable[..., Any]]:
    """Return the arguments with these numbers, and f as a function of them alone."""
    wanted, count = as_integers(argnums) or (), len(xs)
    if not wanted or any(not -count <= i < count for i in wanted) or len({i % count for i in wanted}) < len(wanted):
        raise ShapeError(f"{call}: argnums={argnums!r} does not fit {count} positional argument(s)\n"
                         "  help: pass what is differentiated by position; argnums counts from 0 and names each once")
    indices = [i % count for i in wanted]

    def inner(*chosen: Tree) -> Any:
        full = list(xs)
        for i, x in zip(indices, chosen):
            full[i] = x
        return f(*full, **params)
    return tuple(xs[i] for i in indices), inner


def named(f: Callable[..., Any], transform: str) -> Callable[[Callable[P, Y]], Callable[P, Y]]:
    """Return a decorator that names a function after a transform and the function f that it was applied to."""
    def decorate(g: Callable[P, Y]) -> Callable[P, Y]:
        g.__name__ = g.__qualname__ = title(f, transform)
        return explains(g)
    return decorate


def title(f: Callable[..., Any], transform: str) -> str:
    """Return the name of f after a transform, such as "grad(loss)"."""
    return f"{transform}({getattr(f, '__name__', 'f')})"


def hvp(f: Callable[[X], Any], x: X, v: Tree) -> X:
    """Return H v, the Hessian of the scalar f at x times v: the derivative of grad(f) along v, without H itself.

    >>> float(hvp(lambda x: x ** 3, 2.0, 1.0))
    12.0
    """
    product: X = jvp(grad(f), (x,), (v,))[1]
    return product
