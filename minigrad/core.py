"""One idea: a derivative at a point is a linear map, and it can be walked both ways.

    LinearMap(push, pull)        <g, push(t)> == <pull(g), t>   for every tangent t and cotangent g

A `Primitive` is a function of arrays that states, once, the linear map of each of its arguments. While a derivative
is being taken, the arrays it is taken of travel in boxes; a primitive that meets a box computes with the values
inside and leaves its linear maps with the box's *trace*:

    Forward   pushes a tangent through the maps at once and keeps nothing
    Tape      is the list of the maps, in the order they happened: read forwards it pushes tangents, read backwards
              it pulls cotangents

**Floors.** Derivatives nest, as in d/dx [x * d/dy (x + y)]. Every trace gets a number, its floor, higher than that of
every trace begun before it. A primitive deals with the highest floor among its arguments and calls itself on the
values there, which are plain to that trace but may be boxes of a lower one. The rules are written with primitives
too, so what they compute is watched by the lower floors: that alone gives derivatives of any order, in any mix.
Without floors the inner derivative above would confuse its own y with the outer x and answer 2 where 1 is right.

Floors are numbered once and for all, never reused: an exception leaves nothing to restore, and threads do not
disturb one another.

Names here and in all rules: x, y value in and out; t tangent (shaped like x); g cotangent (shaped like y); J LinearMap.
"""
import itertools
import pkgutil
import sys
from collections.abc import Callable
from typing import NamedTuple

from .backend import by_name, is_array, mixture, module_of
from .errors import MinigradError, TraceError, called, check_walked, explained, listed, message, shape
from .pieces import added

FAULT = TypeError, ValueError, LookupError, AttributeError, OverflowError
NUMBERS, LISTS = (bool, int, float, complex), (list, tuple)


class LinearMap(NamedTuple):
    """A derivative at a point: `push` takes tangents of the input to the output, `pull` cotangents back."""
    push: Callable
    pull: Callable


class Box:
    """A value that a derivative watches: it acts as an array (see ops/operators.py).

    trace: the derivative that watches; tag: what that trace wants to know of this value (a tangent, a place on a tape).
    """
    __slots__ = ("value", "trace", "tag")
    __array_ufunc__ = None           # NumPy and CuPy then leave `array + box` to the box

    def __init__(self, value, trace, tag):
        self.value, self.trace, self.tag = value, trace, tag

    shape = property(lambda self: getattr(self.value, "shape", ()))
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: len(shape(self.value)))
    size = property(lambda self: self.value.size)

    def __repr__(self):
        return f"Box({self.value!r})"


def raw(x):
    """The plain array inside any number of boxes."""
    while type(x) is Box:
        x = x.value
    return x


class Primitive:
    """A function of arrays whose derivative is known: `fun(*args, **params)` and, for argument i, its linear map.

    fun: the function on plain arrays, or the name under which NumPy and CuPy have it. Positional arguments are
    arrays, keyword parameters are static.
    rule: rule(i, y, *args, **params) -> LinearMap, where y is the result. It must be written with primitives.
    doc: its docstring.

    Most primitives are declared by their kind, in kinds.py, which writes the rule. Example of one that is not:

    >>> import numpy as np, minigrad as mg
    >>> def rule(i, y, x):
    ...     return mg.LinearMap(lambda t: 3 * x * x * t, lambda g: 3 * x * x * g)
    >>> cube = mg.Primitive(lambda x: x ** 3, rule, name="cube")
    >>> float(mg.grad(mg.grad(cube))(2.0))
    12.0
    """

    def __init__(self, fun, rule=None, name=None, doc=None):
        self.fun = None if isinstance(fun, str) else fun
        self.name = fun if isinstance(fun, str) else name or getattr(fun, "__name__", "f").strip("_")
        self.rule = rule
        self.__doc__ = doc

    def __call__(self, *args, **params):
        trace, floor = None, 0
        for a in args:
            kind = type(a)
            if kind is Box:
                if a.trace.floor > floor:
                    trace, floor = a.trace, a.trace.floor
            elif kind is list or kind is tuple:
                return self(*as_arrays(args, LISTS), **params)
        if trace is None:
            try:
                return (self.fun or by_name(self.name, args))(*args, **params)
            except FAULT as error:
                return self._again(args, params, error)
        if trace.closed or self.rule is None or params and Box in map(type, params.values()):
            self._refuse(args, params, trace)
        if trace.interpret is not None:
            return trace.interpret(self, args, params)
        watched = [i for i, a in enumerate(args) if type(a) is Box and a.trace is trace]
        below = list(args)
        for i in watched:
            below[i] = args[i].value
        y, rule = self(*below, **params), self.rule
        if not hasattr(type(y), "dtype"):                   # a function of math gives a number
            y = listed(y)[()]
        try:
            maps = [(args[i].tag, rule(i, y, *below, **params)) for i in watched]
        except FAULT as error:
            self._explain(args, error, "its rule fails: ")
        return Box(y, trace, trace.record(self, y, maps))

    def _again(self, args, params, error):
        """The value where an argument is a number, as which NumPy takes an array of no axes; else raise the error."""
        if any([type(a) in NUMBERS for a in args]) and not isinstance(error, MinigradError):
            return self(*as_arrays(args, NUMBERS), **params)
        self._explain(args, error)

    def _explain(self, args, error, where=""):
        """Raise an error that names the operation and shows every argument, unless it does so or is a user's own.

        That is so where the argument is a bundle: the primitive is then a function of the user's (see functions.py).
        """
        if isinstance(error, MinigradError) or isinstance(raw(args[0] if args else None), tuple):
            raise error
        call, rows = called(self.name, self.fun, args)
        raise mixture(call, rows) or explained(call, rows, error, where) from error

    def _refuse(self, args, params, trace):
        """Raise TraceError: this cannot be traced."""
        if trace.closed:
            raise TraceError(message(f"{self.name}(...)", "a value from inside a derivative was used after it ended",
                                     [(f"argument {i}", a, "") for i, a in enumerate(args) if type(a) is Box],
                                     "return the value from the function that is differentiated (has_aux=True), "
                                     "or keep stop_gradient(value)"))
        if self.rule is None:
            raise TraceError(f"{self.name}(...): this primitive has no rule, and a derivative of it was asked for\n"
                             "  help: Primitive(fun, rule), or declare it by its kind: elementwise, linear, bilinear")
        boxes = [(name, value, "") for name, value in params.items() if type(value) is Box]
        raise TraceError(message(f"{self.name}(...)", "a traced value is handed over by keyword, as a setting", boxes,
                                 "hand over arrays by position"))

    def __repr__(self):
        return f"<primitive {self.name}>"

    def __reduce_ex__(self, protocol):
        """As functions do: by the name of the variable that holds it; by its parts where no module has one."""
        for name, module in sorted(sys.modules.items(), key=lambda item: item[0] == "__main__"):
            for variable, value in list(getattr(module, "__dict__", {}).items()):
                if value is self:
                    return pkgutil.resolve_name, (f"{name}:{variable}",)
        return Primitive, (self.fun or self.name, self.rule, self.name, self.__doc__)


def as_arrays(args, kinds):
    """The arguments, with those of these kinds, LISTS or NUMBERS, as arrays that go with the others."""
    if not any([type(a) in kinds for a in args]):
        return args
    module = module_of(*map(raw, args))
    return [module.asarray(listed(a)) if type(a) in kinds else a for a in args]


# ------------------------------------------------------------------------------------------------ traces

floors = itertools.count(1)


class Forward:
    """The trace of forward mode: a box's tag is its tangent."""
    interpret = None                    # of a trace that takes no derivative: (primitive, args, params) -> a box

    def __init__(self):
        self.floor, self.closed = next(floors), False

    def record(self, primitive, y, maps):
        total = None                                        # None is zero, as for a part of a tuple (checkpoint)
        for t, J in maps:
            if t is not None:
                more = J.push(t)
                if getattr(more, "shape", None) != y.shape:
                    check_walked(primitive.name, "push", more, y.shape)
                total = _plus(total, more)
        return total


class Tape(list):
    """The trace that can be read both ways: a list of what happened; a box's tag is its place in the list.

    Each step is the primitive, a list of (place of the argument on the tape, LinearMap), and the shape of the result.
    """
    interpret = None

    def __init__(self):
        super().__init__()
        self.floor, self.closed = next(floors), False

    def record(self, primitive, y, maps):
        self.append((primitive, maps, y.shape))
        return len(self) - 1

    def push(self, tangents, ends):
        """Read forwards: from the tangents of the first places to those of `ends`. None stands for zero."""
        keep, needed, last = set(ends), set(ends), {}
        for place in reversed(range(len(tangents), len(self))):
            if place in needed:
                for parent, _ in self[place][1]:
                    needed.add(parent)
                    last.setdefault(parent, place)
        alive = dict(enumerate(tangents))               # a tangent lives until its last use
        try:
            for place in range(len(tangents), len(self)):
                if place not in needed:
                    continue
                total, (primitive, maps, s) = None, self[place]
                for parent, J in maps:
                    if alive.get(parent) is not None:
                        more = J.push(alive[parent])
                        if getattr(more, "shape", None) != s:
                            check_walked(primitive.name, "push", more, s)
                        total = _plus(total, more)
                for parent, _ in maps:
                    if last[parent] == place and parent not in keep:
                        alive.pop(parent, None)
                alive[place] = total
        except Exception as error:
            error.add_note(f"in the push of {self[place][0].name}, step {place} of the tape")
            raise
        return [alive.get(end) for end in ends]

    def pull(self, cotangents, ends, count):
        """Read backwards: from the cotangents of `ends` to those of the first `count` places. None stands for zero."""
        totals, sums = [None] * len(self), set()        # sums: places of arrays added up here, which nobody else holds
        for g, end in zip(cotangents, ends):
            if end is not None:
                totals[end] = _plus(totals[end], g)
        try:
            for place in reversed(range(count, len(self))):
                g, totals[place] = totals[place], None
                if g is not None:
                    for parent, J in self[place][1]:
                        total, new = totals[parent], J.pull(g)
                        if getattr(new, "shape", None) != self[parent][2]:
                            check_walked(self[place][0].name, "pull", new, self[parent][2])
                        if parent in sums and is_array(total) and type(new) is type(total) and new.dtype == total.dtype:
                            added(total, new, out=total)
                        else:
                            totals[parent] = _plus(total, new)
                            if total is not None and new is not None:
                                sums.add(parent)
        except Exception as error:
            error.add_note(f"in the pull of {self[place][0].name}, step {place} of the tape")
            raise
        return totals[:count]


def _plus(a, b):
    """The sum of two tangents: None is zero, and tuples (see checkpoint) add up element by element."""
    if a is None or b is None:
        return b if a is None else a
    if type(a) is tuple:
        return tuple(map(_plus, a, b))
    return a + b if type(a) is Box or type(b) is Box else added(a, b)


def run(trace, f, leaves, tags):
    """Call f(*boxes) with the leaves boxed on this trace. Nothing of the trace can be used after that."""
    try:
        return f(*[Box(x, trace, tag) for x, tag in zip(leaves, tags)])
    except (TypeError, ValueError) as error:
        if "__array_ufunc__=None" in str(error) or "setting an array element with a sequence" in str(error):
            error.add_note("  a function or array of NumPy met a traced value (a Box), whose derivative would be lost\n"
                           "  help: write minigrad.exp(x) for numpy.exp(x), and so on; build arrays by stack, where")
        raise
    finally:
        trace.closed = True


def unboxed(y, trace):
    """The value of y on the floor below this trace, and its tag there: None if the trace does not watch y."""
    if type(y) is not Box or y.trace is not trace:
        if type(y) is Box and y.trace.closed:
            raise TraceError(message("f(...)", "it returns a value from inside a derivative that has ended",
                                     [("y", y, "")]))
        return y, None
    return y.value, y.tag
