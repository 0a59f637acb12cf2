"""A whole function as one primitive.

    checkpoint(f)                  f without stored intermediates: a derivative recomputes them
    with_derivative(f, passes)     f whose value and first derivative are computed by hand-written passes

Arguments and results of such a primitive come in bundles, so that a derivative can treat them together. `_bundle` and
`_pick` make and open these; tangents of a bundle are tuples, in which None is zero.
"""
from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from . import tree
from .backend import faster, is_float
from .box import Box, raw
from .core import LinearMap, Primitive
from .errors import DTypeError, TraceError, message
from .nodes import _node
from .transforms import NO_DERIVATIVE, REAL, as_type_of, jvp, named, title, vjp

P = ParamSpec("P")
R = TypeVar("R")


class Bundle(tuple[Any, ...]):
    """Several arrays as one value, whose tangents are tuples: not a list of numbers."""
    dtype = shape = None


def _only(i: int, n: int, value: Any) -> tuple[Any, ...]:
    return tuple(value if k == i else None for k in range(n))


_bundle = Primitive(lambda *xs: Bundle(xs),
                    lambda i, y, *xs: LinearMap(lambda t: _only(i, len(xs), t), lambda g: g[i]), "bundle")
_pick = Primitive(lambda xs, k, n: xs[k],
                  lambda i, y, xs, k, n: LinearMap(lambda t: t[k], lambda g: _only(k, n, g)), "pick")


def _unpack(xs: Any, count: int) -> list[Any]:
    return [_pick(xs, k=k, n=count) for k in range(count)]


def checkpoint(f: Callable[P, R]) -> Callable[P, R]:
    """Return f without stored intermediates: a derivative keeps the arguments alone, and runs f again.

    It trades time (one more run of f) for memory. Arguments and results are trees; f must be a pure function of its
    arguments and of what it holds: traced values in its closure, its defaults and its object (a method's, a model that
    is called), if that is a tree, are arguments, too. One from elsewhere, such as a global variable or an object of
    another class, raises TraceError. Any order of derivative, in any mix. Griewank & Walther, Algorithm 799: revolve,
    2000.

    >>> from minigrad import grad
    >>> f = checkpoint(lambda x: x * x * x)
    >>> float(grad(grad(f))(2.0))
    12.0
    """
    name = title(f, "checkpoint")

    @named(f, "checkpoint")
    def checkpointed(*xs: P.args, **params: P.kwargs) -> R:
        boxes: list[Any] = []
        tree.flatten((xs, params))                          # raises for what is no tree

        def take(box: Box) -> Any:
            """Leave a hole in place of a traced value, and pass that as an argument; leave one that has ended."""
            if not box._trace.closed:
                boxes.append(box)
            return box if box._trace.closed else _Hole()
        hollow = _replace((f, xs, params), Box, take)       # a stored box would make a cycle
        if _is_looked_into(boxes):
            return f(*xs, **params)
        outs: list[Any] = []                                # the results, known once f has run
        out_structure: Any = None

        def inside(*boxed: Any) -> tuple[Any, ...]:
            """Call f with new values in the holes, and return its floating-point results."""
            nonlocal outs, out_structure
            values = iter(boxed)
            full, args, settings = _replace(hollow, _Hole, lambda hole: next(values))
            outs, out_structure = tree.flatten(full(*args, **settings))
            for out in outs:
                if boxed and getattr(getattr(out, "dtype", None), "kind", "") == "c":
                    raise DTypeError(message(name, NO_DERIVATIVE, [("f(...)", out, "")], REAL))
            floats = tuple(out for out in outs if is_float(out))
            outs = [None if is_float(out) else out for out in outs]
            return floats
        y = _recompute(inside, name)(_bundle(*boxes))
        floats = iter(_unpack(y, len(raw(y))))
        result: R = tree.unflatten(out_structure, [next(floats) if out is None else out for out in outs])
        return result
    return checkpointed


def _is_looked_into(xs: Iterable[Any]) -> bool:
    """Return whether a trace that takes no derivative watches one of these: it wants each primitive inside of f."""
    return any([type(x) is Box and x._trace.interpret is not None for x in xs])


class _Hole:
    """The place of a traced value."""


def _replace(x: Any, kind: type, put: Callable[[Any], Any], done: dict[Any, Any] | None = None) -> Any:
    """Return x, a tree or a function, with put(value) for each value of this kind in it: x itself if it holds none.

    done: a function that was met -> its replacement.
    """
    done = {} if done is None else done
    if type(x) is kind:
        return put(x)
    if type(x) is types.FunctionType:
        if x not in done:
            done[x] = x
            if _holds(x, kind, set()):
                _renew(x, kind, put, done)
        return done[x]
    parts, join = _opened(x)
    new = [_replace(part, kind, put, done) for part in parts]
    return x if all(map(operator.is_, parts, new)) else join(new)


def _holds(x: Any, kind: type, seen: set[Any]) -> bool:
    """Return whether x, a tree or a function, holds a value of this kind. seen: functions that were looked into."""
    if type(x) is types.FunctionType:
        if x in seen:
            return False
        seen.add(x)
    return type(x) is kind or any(_holds(part, kind, seen) for part in _opened(x)[0])


def _renew(x: types.FunctionType, kind: type, put: Callable[[Any], Any], done: dict[Any, Any]) -> None:
    """Add the replacement of a function to `done`, and then fill it: functions may hold one another, or themselves."""
    cells = {id(cell): types.CellType() if _holds(cell.cell_contents, kind, set()) else cell for cell in _cells(x)}
    f = types.FunctionType(x.__code__, x.__globals__, x.__name__, None,
                           tuple([cells.get(id(cell), cell) for cell in x.__closure__ or ()]))
    done[x] = f
    f.__defaults__, f.__kwdefaults__, own = [
        _replace(part, kind, put, done) for part in (x.__defaults__, x.__kwdefaults__, vars(x))]
    vars(f).update(own)
    for cell in _cells(x):
        if cells[id(cell)] is not cell:
            cells[id(cell)].cell_contents = _replace(cell.cell_contents, kind, put, done)


def _cells(f: types.FunctionType) -> list[Any]:
    """Return the cells of a function's closure whose variables have a value."""
    return [cell for cell in f.__closure__ or () if cell != types.CellType()]


def _opened(x: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return the parts of a tree, or what a function holds, and a function that makes a tree like x of new ones."""
    if type(x) is types.MethodType:
        return [x.__func__, x.__self__], lambda new: types.MethodType(*new)
    if type(x) is functools.partial:
        return [x.func, x.args, x.keywords], lambda new: functools.partial(new[0], *new[1], **new[2])
    if type(x) is types.FunctionType:                       # which _renew makes anew
        return [x.__defaults__, x.__kwdefaults__, vars(x), *[cell.cell_contents for cell in _cells(x)]], lambda new: x
    node = _node(type(x))
    if node is None:
        return [], lambda new: x
    names, children, static = node.split(x)
    return list(children), lambda new: node.join(tuple(names), new, static)


def _recompute(f: Callable[..., tuple[Any, ...]], name: str) -> Primitive:
    """Return the primitive of checkpoint, from a bundle to a bundle: its push is jvp of f, its pull a new vjp."""
    def evaluate(xs: Iterable[Any]) -> Bundle:
        outs = f(*xs)
        if any(type(out) is Box for out in outs):
            raise TraceError(f"{name}: it uses a traced value from outside its arguments and its closure\n"
                             "  help: pass as an argument whatever is differentiated: checkpoint(f)(params, x)")
        return Bundle(outs)

    def rule(i: int, y: Any, xs: Any) -> LinearMap:
        parts = _unpack(xs, len(raw(xs)))

        def pull(gs: Any) -> Any:
            outs, back = vjp(f, *parts)
            return back(tuple(as_type_of(out, g) for out, g in zip(outs, gs)))
        return LinearMap(lambda ts: _push_again(f, parts, ts), pull)
    return Primitive(evaluate, rule, name)


def _push_again(f: Callable[..., Any], xs: Sequence[Any], ts: Sequence[Any]) -> Any:
    """Return the derivative of f at xs along ts, where None is zero."""
    moving = [k for k, t in enumerate(ts) if t is not None]
    return jvp(_of_some(f, xs, moving), [xs[k] for k in moving], [ts[k] for k in moving])[1]


def _of_some(f: Callable[..., Any], xs: Sequence[Any], chosen: Sequence[int]) -> Callable[..., Any]:
    """Return f as a function of the chosen ones of its arguments xs."""
    def of_some(*some: Any) -> Any:
        full = list(xs)
        for k, x in zip(chosen, some):
            full[k] = x
        return f(*full)
    return of_some


# ------------------------------------------------------------------------------ derivatives written by hand

def _zero_like(x: Any) -> Any:
    return as_type_of(x, None) if hasattr(x, "dtype") else 0.0


def _brief(found: Any) -> str:
    return f"a {type(found).__name__}" + (f" of {len(found)}" if isinstance(found, (tuple, list)) else "")


class with_derivative:
    """f, with a value and a first derivative that are computed by hand-written passes wherever arrays are plain.

    passes(*xs, **params) -> (y, push, pull) takes plain arrays, and y is one: push(*ts) takes None for zero, pull(g)
    returns a tuple with None for each argument that is no array. Where something is traced, the derivative is that of
    f: so derivatives of every order are right if the passes are, and check_derivatives tells whether they are.
    Where passes returns NotImplemented, the whole is f; and so it is without passes, unless the table of minigrad/fast
    has some. What pull returns belongs to the caller, who may write to it: no array that pull returns again.

    >>> from minigrad import grad
    >>> def passes(x):
    ...     return x ** 3, lambda t: 3 * x ** 2 * t, lambda g: (3 * x ** 2 * g,)
    >>> cube = with_derivative(lambda x: x * x * x, passes)
    >>> float(grad(cube)(2.0)), float(grad(grad(cube))(2.0))
    (12.0, 12.0)
    """

    def __init__(self, f: Callable[..., Any], passes: Callable[..., Any] | None = None) -> None:
        self.f, self.passes = f, passes
        self.__name__ = self.__qualname__ = title(f, "with_derivative")

    def __call__(self, *xs: Any, **params: Any) -> Any:
        """Return f(*xs, **params)."""
        if _is_looked_into(xs):
            return self.f(*xs, **params)
        plain = [raw(x) for x in xs]
        passes = self.passes or faster(self, plain)
        result = NotImplemented if passes is None else passes(*plain, **params)
        if result is NotImplemented:
            return self.f(*xs, **params)
        if not isinstance(result, tuple) or len(result) != 3:
            raise DTypeError(f"{self.__name__}(...): its passes returned {_brief(result)}, not three things\n"
                             "  help: return y, push, pull")
        return self._record(xs, params, *result) if Box in map(type, xs) else result[0]

    def _record(self, xs: Sequence[Any], params: dict[str, Any], y: Any, push: Callable[..., Any],
                pull: Callable[..., Any]) -> Any:
        """Return y as the value of a primitive of one argument: the bundle of all arrays in xs."""
        given, count = [k for k, x in enumerate(xs) if x is not None], len(xs)      # indices: boxes would make a cycle
        watched = [type(xs[k]) is Box for k in given]

        def full(values: Iterable[Any]) -> list[Any]:
            known = dict(zip(given, values))
            return [known.get(k) for k in range(count)]

        def plain(*values: Any) -> Any:
            return self.f(*full(values), **params)

        def rule(i: int, _: Any, bundle: Any) -> LinearMap:
            parts, first_order = _unpack(bundle, len(given)), type(bundle) is not Box

            def push_all(ts: Sequence[Any]) -> Any:
                if first_order and Box not in map(type, ts):
                    return push(*full(ts))
                return _push_again(plain, parts, ts)

            def pull_all(g: Any) -> Any:
                if first_order and type(g) is not Box:
                    found = pull(g)
                    all_of = list(found) if isinstance(found, (tuple, list)) else []
                    own = [all_of[k] for k in given] if len(all_of) == count else [c for c in all_of if c is not None]
                    if len(own) != len(given):
                        raise DTypeError(f"{self.__name__}(...): its pull returned {_brief(found)}, and not "
                                         f"{len(given)} cotangents\n  help: return a tuple with one for each argument, "
                                         "and None for what is no array")
                    if any([c is None and traced for c, traced in zip(own, watched)]):
                        raise DTypeError(f"{self.__name__}(...): its pull returned None for an array that is "
                                         "differentiated\n  help: return its cotangent, or zeros of its shape")
                    return tuple([_zero_like(x) if c is None else c for x, c in zip(parts, own)])
                floats = [k for k, x in enumerate(parts) if is_float(x)]
                found = iter(vjp(_of_some(plain, parts, floats), *[parts[k] for k in floats])[1](g))
                return tuple([next(found) if is_float(x) else _zero_like(x) for x in parts])
            return LinearMap(push_all, pull_all)
        return Primitive(lambda bundle: y, rule, getattr(self.f, "__name__", "f"))(_bundle(*[xs[k] for k in given]))
