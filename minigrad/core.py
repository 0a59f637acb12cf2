"""One idea: a derivative at a point is a linear map, and it can be walked both ways.

    LinearMap(push, pull)        <g, push(t)> == <pull(g), t>   for every tangent t and cotangent g

A `Primitive` is a function of arrays that states, once, the linear map of each of its arguments. While a derivative
is being taken, the arrays it is taken of travel in boxes (box.py); a primitive that meets a box computes with the
values inside and leaves its linear maps with the box's *trace*:

    Forward   pushes a tangent through the maps at once and keeps nothing
    Tape      is the list of the maps, in the order they happened: read forwards it pushes tangents, read backwards
              it pulls cotangents

**Levels.** Derivatives nest, as in d/dx [x * d/dy (x + y)]. Every trace gets a number, its level, higher than that of
every trace begun before it. A primitive deals with the highest level among its arguments and calls itself on the
values there, which are plain to that trace but may be boxes of a lower one. The rules are written with primitives
too, so what they compute is watched by the lower levels: that alone gives derivatives of any order, in any mix.
Without levels the inner derivative above would confuse its own y with the outer x and answer 2 where 1 is right.

Levels are numbered once and for all, never reused: an exception leaves nothing to restore, and threads do not
disturb one another.

Names here and in all rules: x, y value in and out; t tangent (shaped like x); g cotangent (shaped like y); J LinearMap.
"""
from __future__ import annotations

import functools
import inspect
import itertools
import operator
import pkgutil
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy

from . import errors
from .backend import by_name, faster, is_array, module_of
from .box import Box, raw
from .errors import TraceError, check_walk, message, to_numpy
from .typing import Array, Shape

FAULT = TypeError, ValueError, LookupError, AttributeError, OverflowError
NUMBERS, LISTS = (bool, int, float, complex), (list, tuple)
MATRIX = getattr(numpy, "matrix", None)
F = TypeVar("F", bound=Callable[..., Any])


class LinearMap(NamedTuple):
    """A derivative at a point: `push` takes tangents of the input to the output, `pull` cotangents back."""
    push: Callable[..., Any]
    pull: Callable[..., Any]


Rule: TypeAlias = Callable[..., LinearMap]


class Primitive:
    """A function of arrays whose derivative is known: its value, and for each argument a linear map.

    Arrays are passed by position, static settings by keyword. Most primitives are declared by their kind, in kinds.py,
    which writes the rule; this one is not:

    >>> import numpy as np, minigrad as mg
    >>> def rule(i, y, x):
    ...     return mg.LinearMap(lambda t: 3 * x * x * t, lambda g: 3 * x * x * g)
    >>> cube = mg.Primitive(lambda x: x ** 3, rule, name="cube")
    >>> float(mg.grad(mg.grad(cube))(2.0))
    12.0

    Args:
        fun: the function on plain arrays, fun(*args, **params), or the name under which NumPy and CuPy have it.
        rule: rule(i, y, *args, **params) -> LinearMap of argument i, where y is the value; written with primitives.
        name: of the primitive, if it is not that of fun.
        doc: its docstring.
        parameters: the names of its arguments, if they are not those of fun.
    """

    def __init__(self, fun: Callable[..., Any] | str, rule: Rule | None = None, name: str | None = None,
                 doc: str | None = None, parameters: Sequence[str] | None = None) -> None:
        self.fun = None if isinstance(fun, str) else fun
        self.name = fun if isinstance(fun, str) else name or getattr(fun, "__name__", "f").strip("_")
        self.rule, self._parameters = rule, parameters
        self.__doc__ = doc

    def __call__(self, *args: Any, **params: Any) -> Any:
        """Return the value. Where a derivative watches, leave the linear maps with its trace."""
        trace: Any = None
        level = 0
        for a in args:
            kind = type(a)
            if kind is Box:
                if a._trace.level > level:
                    trace, level = a._trace, a._trace.level
            elif kind is list or kind is tuple:
                return self(*as_arrays(args, LISTS), **params)
        if trace is None:
            try:                                            # by the faster form that the table may have (minigrad/fast)
                form = faster(self, args)
                y = form(*args, **params) if form else NotImplemented
                return y if y is not NotImplemented else (self.fun or by_name(self.name, args))(*args, **params)
            except FAULT as error:
                return self._retry(args, params, error)
        if trace.closed or self.rule is None or params and Box in map(type, params.values()):
            raise errors.untraceable(self, trace, args, params, Box)
        if trace.interpret is not None:
            return trace.interpret(self, args, params)
        watched = [i for i, a in enumerate(args) if type(a) is Box and a._trace is trace]
        below = list(args)
        for i in watched:
            below[i] = args[i].value
        y, rule = self(*below, **params), self.rule
        if type(y) is Box and y._trace.level >= trace.level:
            raise errors.hidden(self.name)
        if not hasattr(type(y), "dtype"):                   # a function of math returns a number
            y = to_numpy(y)[()]
        elif type(y) is MATRIX:
            module_of(y)                                    # raises
        try:
            maps = [(args[i].tag, rule(i, y, *below, **params)) for i in watched]
        except FAULT as error:
            raise errors.failure(self, args, error, "its rule fails: ") from error
        return Box(y, trace, trace.record(self, y, maps))

    def _retry(self, args: Sequence[Any], params: dict[str, Any], error: Exception) -> Any:
        """Evaluate once more with numbers as arrays of no axes, if there are any; else raise the error, explained."""
        if any([type(a) in NUMBERS for a in args]) and not isinstance(error, errors.MinigradError):
            return self(*as_arrays(args, NUMBERS), **params)
        raise errors.keyword(self, params) or errors.failure(self, args, error) from error

    @property
    def __name__(self) -> str:
        return self.name

    @types.DynamicClassAttribute                            # of an object; that of the class is its __init__'s
    def __signature__(self) -> inspect.Signature:
        return errors.signature(self.fun, self._parameters)

    def __repr__(self) -> str:
        return f"<primitive {self.name}{self.__signature__}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as functions do, by the name of a module's variable that holds it; by its parts if there is none.

        By its parts also where that module is __main__ and cloudpickle is at work, which takes functions of it so.
        """
        main = sys.modules.get("__main__")                  # also under other names, such as __mp_main__
        for name, module in sorted(sys.modules.items(), key=lambda item: (item[1] is main, item[0] != "__main__")):
            for variable, value in list(getattr(module, "__dict__", {}).items()):
                if value is self:
                    callers = traceback.walk_stack(sys._getframe()) if module is main else ()
                    if any(["cloudpickle" in frame.f_globals.get("__name__", "") for frame, _ in callers]):
                        continue
                    return pkgutil.resolve_name, (f"{name}:{variable}",)
        return super().__reduce_ex__(2)                     # the object first: its rule may name it


def replaceable(f: F) -> F:
    """Let the table of minigrad/fast replace f where all arguments are plain.

    Where a derivative watches an argument, f itself is run: it is then written with primitives.
    """
    @functools.wraps(f)
    def called(*args: Any, **params: Any) -> Any:
        form = faster(called, args)
        if form is None or Box in map(type, args):
            return f(*args, **params)
        y = form(*args, **params)
        return y if y is not NotImplemented else f(*args, **params)
    return cast(F, called)


def as_arrays(args: Sequence[Any], kinds: tuple[type, ...]) -> Sequence[Any]:
    """Return the arguments, with those of these kinds, LISTS or NUMBERS, as arrays that go with the others."""
    if not any([type(a) in kinds for a in args]):
        return args
    module = module_of(*map(raw, args))
    return [module.asarray(to_numpy(a)) if type(a) in kinds else a for a in args]


# ------------------------------------------------------------------------------------------------ traces

levels = itertools.count(1)
Maps: TypeAlias = Iterable[tuple[Any, LinearMap]]     # pairs: the tag of an argument, its linear map


class Forward:
    """The trace of forward mode: a box's tag is its tangent."""
    interpret = None                    # of a trace that takes no derivative: (primitive, args, params) -> a box

    def __init__(self) -> None:
        self.level, self.closed = next(levels), False

    def record(self, primitive: Primitive, y: Array, maps: Maps) -> Any:
        """Return the tangent of y."""
        t = push_all(primitive, maps, y.shape)
        if type(t) is Box and t._trace.level >= self.level:
            raise errors.hidden(primitive.name)
        return t


class Tape(list[tuple[Any, "Maps", Shape | None]]):
    """The trace that can be read both ways: a list of what happened, in order; a box's tag is its index in the list.

    Each step is the primitive, a list of (index of the argument on the tape, LinearMap), and the shape of the result.
    """
    interpret = None

    def __init__(self) -> None:
        super().__init__()
        self.level, self.closed = next(levels), False

    def record(self, primitive: Primitive | None, y: Array, maps: Maps) -> int:
        """Append the step that made y, and return its index."""
        self.append((primitive, maps, y.shape))
        return len(self) - 1

    def push(self, tangents: Sequence[Any], ends: Sequence[int | None]) -> list[Any]:
        """Read forwards: from the tangents of the first values to those of `ends`. None stands for zero."""
        tangent: dict[Any, Any] = dict(enumerate(tangents))
        try:
            for k, done in self._forwards(len(tangents), ends):
                primitive, maps, s = self[k]
                tangent[k] = push_all(primitive, [(tangent[i], J) for i, J in maps], s)
                for i in done:
                    del tangent[i]
        except Exception as error:
            error.add_note(f"in the push of {self[k][0].name}, step {k} of the tape")
            raise
        return [tangent.get(end) for end in ends]

    def _forwards(self, first: int, ends: Sequence[int | None]) -> Iterable[tuple[int, list[int]]]:
        """Return the steps that reach one of `ends`, in order: (index, the indices that no later step reads)."""
        needed: set[Any] = set(ends)
        plan = []
        for k in reversed(range(first, len(self))):
            if k in needed:
                done = []
                for i, _ in self[k][1]:
                    if i not in needed:
                        needed.add(i)
                        done.append(i)
                plan.append((k, done))
        return reversed(plan)

    def pull(self, cotangents: Sequence[Any], ends: Sequence[int | None], count: int, once: bool = False) -> list[Any]:
        """Read backwards: from the cotangents of `ends` to those of the first `count` values. None stands for zero.

        once: whether this is the last reading. The tape is then dropped on the way, and what it keeps is freed.
        """
        sums = Sums()
        for end, g in zip(ends, cotangents):
            if end is not None:
                sums.add(end, g)
        try:
            for k in reversed(range(count, len(self))):
                g = sums.pop(k, None)
                if g is not None:
                    for i, J in self[k][1]:
                        if not isinstance(J, LinearMap):
                            raise errors.no_map(self[k][0].name, J)
                        c = J.pull(g)
                        if getattr(c, "shape", None) != self[i][2]:
                            check_walk(self[k][0].name, "pull", c, self[i][2])
                        if i in sums:
                            sums.add(i, c)
                        else:
                            sums[i] = c
                if once:
                    self.pop()
        except Exception as error:
            error.add_note(f"in the pull of {self[k][0].name}, step {k} of the tape")
            raise
        return [sums.get(i) for i in range(count)]


def push_all(primitive: Primitive, pairs: Maps, s: Shape | None) -> Any:
    """Return the tangent of a value of shape s: the sum of J.push(t) over the pairs (t, J). None stands for zero."""
    total = None
    for t, J in pairs:
        if t is not None:
            if not isinstance(J, LinearMap):
                raise errors.no_map(primitive.name, J)
            t = J.push(t)
            if getattr(t, "shape", None) != s:
                check_walk(primitive.name, "push", t, s)
            total = plus(total, t)
    return total


class Sums(dict[int, Any]):
    """Running sums of cotangents, by index. They add in place only to arrays made here: others may hold the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.own: set[int] = set()

    def add(self, i: int, g: Any) -> None:
        """Add g to sum i; None is zero."""
        total: Any = self.get(i)
        if i in self.own and type(g) is type(total) and g.dtype == total.dtype:
            add_in_place(total, g)
        else:
            self[i] = plus(total, g)
            if total is not None and g is not None and is_array(self[i]):
                self.own.add(i)


def plus(a: Any, b: Any) -> Any:
    """Return the sum of two tangents: None is zero, and tuples (functions.py) add up element by element."""
    if a is None or b is None:
        return b if a is None else a
    return tuple(map(plus, a, b)) if type(a) is tuple else add(a, b)


add: Callable[[Any, Any], Any] = replaceable(operator.add)             # of boxes it is minigrad.add
add_in_place: Callable[[Any, Any], Any] = replaceable(operator.iadd)


def run(trace: Any, f: Callable[..., Any], leaves: Iterable[Array], tags: Iterable[Any]) -> Any:
    """Call f(*boxes) with the leaves boxed on this trace. Nothing of the trace can be used after that."""
    try:
        return f(*[Box(x, trace, tag) for x, tag in zip(leaves, tags)])
    except (TypeError, ValueError) as error:
        if "setting an array element with a sequence" in str(error):
            error.add_note("  an array of NumPy met a traced value (a Box), whose derivative would be lost\n"
                           "  help: build arrays by stack, concatenate or where")
        raise
    finally:
        trace.closed = True


def unbox(y: Any, trace: Any) -> tuple[Any, Any]:
    """Return the value of y on the level below this trace, and its tag there: None if the trace does not watch y."""
    if type(y) is not Box or y._trace is not trace:
        if type(y) is Box and y._trace.closed:
            raise TraceError(message("f(...)", "it returns a value from inside a derivative that has ended",
                                     [("y", y, "")]))
        return y, None
    return y.value, y.tag
