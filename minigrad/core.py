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
import functools
import itertools
import operator
import pkgutil
import sys
from collections.abc import Callable
from typing import NamedTuple

from . import errors
from .backend import by_name, faster, is_array, module_of
from .box import Box, raw
from .errors import TraceError, check_walk, listed, message

FAULT = TypeError, ValueError, LookupError, AttributeError, OverflowError
NUMBERS, LISTS = (bool, int, float, complex), (list, tuple)


class LinearMap(NamedTuple):
    """A derivative at a point: `push` takes tangents of the input to the output, `pull` cotangents back."""
    push: Callable
    pull: Callable


class Primitive:
    """A function of arrays whose derivative is known: `fun(*args, **params)` and, for argument i, its linear map.

    fun: the function on plain arrays, or the name under which NumPy and CuPy have it. Positional arguments are
    arrays, keyword parameters are static.
    rule: rule(i, y, *args, **params) -> LinearMap, where y is the result. It must be written with primitives.
    doc: its docstring. parameters: the names of its arguments, if they are not those of fun.

    Most primitives are declared by their kind, in kinds.py, which writes the rule. Example of one that is not:

    >>> import numpy as np, minigrad as mg
    >>> def rule(i, y, x):
    ...     return mg.LinearMap(lambda t: 3 * x * x * t, lambda g: 3 * x * x * g)
    >>> cube = mg.Primitive(lambda x: x ** 3, rule, name="cube")
    >>> float(mg.grad(mg.grad(cube))(2.0))
    12.0
    """

    def __init__(self, fun, rule=None, name=None, doc=None, parameters=None):
        self.fun = None if isinstance(fun, str) else fun
        self.name = fun if isinstance(fun, str) else name or getattr(fun, "__name__", "f").strip("_")
        self.rule, self._parameters = rule, parameters
        self.__doc__ = doc

    def __call__(self, *args, **params):
        trace, level = None, 0
        for a in args:
            kind = type(a)
            if kind is Box:
                if a.trace.level > level:
                    trace, level = a.trace, a.trace.level
            elif kind is list or kind is tuple:
                return self(*as_arrays(args, LISTS), **params)
        if trace is None:
            try:                                            # by the faster form that the table may have (minigrad/fast)
                form = faster(self, args)
                y = form(*args, **params) if form else NotImplemented
                return y if y is not NotImplemented else (self.fun or by_name(self.name, args))(*args, **params)
            except FAULT as error:
                return self._again(args, params, error)
        if trace.closed or self.rule is None or params and Box in map(type, params.values()):
            raise errors.untraceable(self, trace, args, params, Box)
        if trace.interpret is not None:
            return trace.interpret(self, args, params)
        watched = [i for i, a in enumerate(args) if type(a) is Box and a.trace is trace]
        below = list(args)
        for i in watched:
            below[i] = args[i].value
        y, rule = self(*below, **params), self.rule
        if not hasattr(type(y), "dtype"):                   # a function of math returns a number
            y = listed(y)[()]
        try:
            maps = [(args[i].tag, rule(i, y, *below, **params)) for i in watched]
        except FAULT as error:
            raise errors.failed(self, args, error, "its rule fails: ") from error
        return Box(y, trace, trace.record(self, y, maps))

    def _again(self, args, params, error):
        """The value where an argument is a number, as which NumPy takes an array of no axes; else raise the error."""
        if any([type(a) in NUMBERS for a in args]) and not isinstance(error, errors.MinigradError):
            return self(*as_arrays(args, NUMBERS), **params)
        raise errors.failed(self, args, error) from error

    @property
    def __name__(self):
        return self.name

    @property
    def __signature__(self):
        return errors.signature(self.fun, self._parameters)

    def __repr__(self):
        return f"<primitive {self.name}{self.__signature__}>"

    def __reduce_ex__(self, protocol):
        """As functions do: by the name of the variable that holds it; by its parts where no module has one."""
        for name, module in sorted(sys.modules.items(), key=lambda item: item[0] == "__main__"):
            for variable, value in list(getattr(module, "__dict__", {}).items()):
                if value is self:
                    return pkgutil.resolve_name, (f"{name}:{variable}",)
        return Primitive, (self.fun or self.name, self.rule, self.name, self.__doc__, self._parameters)


def replaceable(f):
    """A decorator: f, unless the table has a faster form of it for these plain arguments (minigrad/fast).

    Where a derivative watches an argument, f itself is run: it is written with primitives then.
    """
    @functools.wraps(f)
    def called(*args, **params):
        form = None if Box in map(type, args) else faster(called, args)
        y = NotImplemented if form is None else form(*args, **params)
        return y if y is not NotImplemented else f(*args, **params)
    return called


def as_arrays(args, kinds):
    """The arguments, with those of these kinds, LISTS or NUMBERS, as arrays that go with the others."""
    if not any([type(a) in kinds for a in args]):
        return args
    module = module_of(*map(raw, args))
    return [module.asarray(listed(a)) if type(a) in kinds else a for a in args]


# ------------------------------------------------------------------------------------------------ traces

levels = itertools.count(1)


class Forward:
    """The trace of forward mode: a box's tag is its tangent."""
    interpret = None                    # of a trace that takes no derivative: (primitive, args, params) -> a box

    def __init__(self):
        self.level, self.closed = next(levels), False

    def record(self, primitive, y, maps):
        return push_all(primitive, maps, y.shape)


class Tape(list):
    """The trace that can be read both ways: a list of what happened, in order; a box's tag is its index in the list.

    Each step is the primitive, a list of (index of the argument on the tape, LinearMap), and the shape of the result.
    """
    interpret = None

    def __init__(self):
        super().__init__()
        self.level, self.closed = next(levels), False

    def record(self, primitive, y, maps):
        self.append((primitive, maps, y.shape))
        return len(self) - 1

    def push(self, tangents, ends):
        """Read forwards: from the tangents of the first values to those of `ends`. None stands for zero."""
        tangent = dict(enumerate(tangents))
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

    def _forwards(self, first, ends):
        """The steps that reach one of `ends`: pairs of an index, and the indices that no later step reads."""
        needed, plan = set(ends), []
        for k in reversed(range(first, len(self))):
            if k in needed:
                reads = {i for i, _ in self[k][1]}
                plan.append((k, reads - needed))
                needed |= reads
        return reversed(plan)

    def pull(self, cotangents, ends, count):
        """Read backwards: from the cotangents of `ends` to those of the first `count` values. None stands for zero."""
        sums = Sums()
        for end, g in zip(ends, cotangents):
            if end is not None:
                sums.add(end, g)
        try:
            for k in reversed(range(count, len(self))):
                g = sums.pop(k, None)
                if g is not None:
                    for i, J in self[k][1]:
                        c = J.pull(g)
                        if getattr(c, "shape", None) != self[i][2]:
                            check_walk(self[k][0].name, "pull", c, self[i][2])
                        if i in sums:
                            sums.add(i, c)
                        else:
                            sums[i] = c
        except Exception as error:
            error.add_note(f"in the pull of {self[k][0].name}, step {k} of the tape")
            raise
        return [sums.get(i) for i in range(count)]


def push_all(primitive, pairs, s):
    """The tangent of a result of shape s: the sum of J.push(t) over these pairs (t, J). None stands for zero."""
    total = None
    for t, J in pairs:
        if t is not None:
            t = J.push(t)
            if getattr(t, "shape", None) != s:
                check_walk(primitive.name, "push", t, s)
            total = plus(total, t)
    return total


class Sums(dict):
    """Running sums of cotangents, by index. They add in place only to arrays made here: others may hold the rest."""

    def __init__(self):
        super().__init__()
        self.own = set()

    def add(self, i, g):
        """Add g to sum i; None is zero."""
        total = self.get(i)
        if i in self.own and type(g) is type(total) and g.dtype == total.dtype:
            add_in_place(total, g)
        else:
            self[i] = plus(total, g)
            if total is not None and g is not None and is_array(self[i]):
                self.own.add(i)


def plus(a, b):
    """The sum of two tangents: None is zero, and tuples (functions.py) add up element by element."""
    if a is None or b is None:
        return b if a is None else a
    return tuple(map(plus, a, b)) if type(a) is tuple else add(a, b)


add = replaceable(operator.add)                     # of two tangents; of boxes it is minigrad.add
add_in_place = replaceable(operator.iadd)


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


def unbox(y, trace):
    """The value of y on the level below this trace, and its tag there: None if the trace does not watch y."""
    if type(y) is not Box or y.trace is not trace:
        if type(y) is Box and y.trace.closed:
            raise TraceError(message("f(...)", "it returns a value from inside a derivative that has ended",
                                     [("y", y, "")]))
        return y, None
    return y.value, y.tag
