"""The laws that every derivative obeys, to test your own primitives with.

    check_derivatives(f, x, ...)     the derivatives of f at x obey the laws
    check_buffers(f, x, ...)         f does not write into an array that its derivative needs

With J the LinearMap of f at x, t a random tangent and g a random cotangent:

    1  push is the derivative     J.push(t) = (f(x + h t) - f(x - h t)) / 2h       a central difference
       ... and where f is analytic            Im f(x + i h t) / h                  a complex step: exact to rounding
    2  pull is its transpose      <g, J.push(t)> = <J.pull(g), t>                  no step size
    3  push and pull are linear   J.push(a t + b t') = a J.push(t) + b J.push(t'), and the same for pull
    4  one derivative             jvp and vjp agree with linearize
    5  nothing is changed         neither x nor f(x) nor t nor g is written to
    6  the form                   tangents have the shapes and dtypes of values, cotangents those of arguments;
                                  where every step of f maps float32 to float32, so do push and pull
    7  any order                  laws 1 to 6 hold for (x, t) -> J.push(t) and for (x, g) -> J.pull(g) in turn:
                                  to third order these are eight derivatives, every mix of forward and backward

Use float64 arrays: differences of float32 are too coarse to judge by. Squire & Trapp, Using complex variables to
estimate derivatives of real functions, 1998.
"""
from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from . import tree
from .backend import as_array, is_array, is_float, module_of, to_host
from .boundary import guard
from .box import raw
from .core import Forward, Tape, run, unbox
from .errors import DTypeError, MinigradError, message, shape
from .transforms import jvp, linearize, vjp
from .typing import Array, Tree

STEP = 1e-5                 # h, for a direction of about unit length: the error is about 1e-10 of the third derivative
COMPLEX_STEP = 1e-30        # the error, h^2 of the third derivative, vanishes: there is no difference to cancel
Flat = Callable[..., list[Array]]       # a function of arrays that returns a list of arrays


class DerivativeError(MinigradError, AssertionError):
    """A derivative that breaks one of the laws."""


def check_derivatives(f: Callable[..., Tree], *xs: Tree, order: int = 3, analytic: bool = False, rtol: float = 1e-6,
                      seed: int = 0) -> None:
    """Raise DerivativeError unless f and its derivatives up to this order obey the laws at xs.

    The error names the law, the derivative, the numbers compared, and the seed that repeats them.

    Args:
        f: a function of trees of float64 arrays that returns such a tree. It must be smooth near xs: choose xs away
            from kinks.
        xs: the arguments of f.
        order: 1 checks f's linear map, 2 also the linear maps of its push and pull, and so on.
        analytic: True if f accepts complex inputs and is holomorphic there (not abs, relu, maximum, stop_gradient,
            checkpoint ...); the derivatives are then compared with complex steps too.
        rtol: the error allowed in a difference, relative to the largest element of a result, or to 1e-3 where all are
            smaller (so scale tiny results up); a complex step may err by 1e-4 of that.
        seed: of the random directions.

    >>> import numpy as np, minigrad as mg
    >>> square = mg.elementwise(lambda x: x * x, lambda y, x: 2.0 * x, name="square")
    >>> check_derivatives(square, np.array([1.0, -2.0, 3.0]), analytic=True)
    >>> wrong = mg.elementwise(lambda x: x * x, lambda y, x: 3.0 * x, name="wrong")
    >>> check_derivatives(wrong, np.array([1.0, -2.0, 3.0]))
    Traceback (most recent call last):
    minigrad.check.DerivativeError: push is the derivative: broken by wrong (seed 0)
    ...
    """
    leaves, structure = tree.flatten(xs)
    leaves = [numpy.float64(x) if type(x) is float else as_array(x, *leaves) for x in leaves]
    for path, x in zip(tree.paths(xs), leaves):
        if x.dtype != numpy.float64:
            raise DTypeError(message("check_derivatives(f, ...)", "float64 is needed to tell an error from rounding",
                                     [(f"argument {path}", x, "")],
                                     "x.astype('float64'); or leave constants out of the arguments, in a lambda"))

    def flat(*leaves: Array) -> list[Array]:
        ys = tree.flatten(f(*tree.unflatten(structure, leaves)))[0]
        ys = [numpy.asarray(y) if isinstance(y, float) else y for y in ys]
        return [y for y in ys if getattr(getattr(y, "dtype", None), "kind", "") in ("f", "c")]      # others have none
    name, laws = getattr(f, "name", getattr(f, "__name__", "f")), _Laws(rtol, analytic, seed)
    laws.hold(name, flat, leaves, order)
    laws.hold_in_float32(name, flat, leaves)


def check_buffers(f: Callable[..., Tree], *xs: Tree) -> None:
    """Raise DerivativeError if f(*xs) writes into an array that its derivative needs, such as a buffer used twice.

    A derivative keeps the arrays that its rules name, not copies of them, so such a write silently makes it wrong.
    Here f runs once with copies beside them. xs: trees of floating-point arrays, of any precision.

    >>> import numpy as np, minigrad as mg
    >>> def f(w):
    ...     row, total = np.empty(2), 0.0
    ...     for values in ([1.0, 2.0], [3.0, 4.0]):
    ...         row[:] = values
    ...         total = total + mg.sum(w * row)
    ...     return total
    >>> check_buffers(f, np.ones(2))
    Traceback (most recent call last):
    minigrad.check.DerivativeError: f writes into an array that its derivative needs
      multiply (step 1) keeps the array  (2,)  float64
      help: make a new array for each use: numpy.array(values) in place of buffer[:] = values
    """
    leaves, structure = tree.float_leaves(xs, "check_buffers(f, ...)")
    tape = _CopyingTape()
    run(tape, lambda *boxes: f(*tree.unflatten(structure, boxes)), leaves, [tape.record(None, x, ()) for x in leaves])
    for array, copy, name, step in tape.kept.values():
        if not numpy.array_equal(to_host(array), copy, equal_nan=copy.dtype.kind in "fc"):
            raise DerivativeError(f"{getattr(f, '__name__', 'f')} writes into an array that its derivative needs\n"
                                  f"  {name} (step {step}) keeps the array  {array.shape}  {array.dtype}\n"
                                  "  help: make a new array for each use: numpy.array(values) in place of "
                                  "buffer[:] = values")


class _CopyingTape(Tape):
    """A tape that copies every array that the rules on it keep, at the moment of recording."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, tuple[Array, NDArray[Any], str, int]] = {}     # id: array, copy, first step that keeps it

    def record(self, primitive: Any, y: Array, maps: Any) -> int:
        index: int = super().record(primitive, y, maps)
        for array in _reachable_arrays([J for _, J in maps]):
            self.kept.setdefault(id(array), (array, to_host(array).copy(), primitive.name, index))
        return index


def _reachable_arrays(x: Any) -> Iterator[Array]:
    """Yield every array that these functions and containers refer to, also through closures and attributes."""
    left, seen = [x], {}
    while left:
        x = left.pop()
        if id(x) in seen:
            continue
        seen[id(x)] = x
        if is_array(x):
            yield x
        elif isinstance(x, types.FunctionType):
            left += [cell.cell_contents for cell in x.__closure__ or ()]
        elif isinstance(x, types.MethodType):
            left.append(x.__self__)
        elif isinstance(x, (tuple, list, dict)):
            left += x.values() if isinstance(x, dict) else x
        elif raw(x) is not x:
            left.append(raw(x))
        elif hasattr(x, "__dict__") and not isinstance(x, (type, types.ModuleType)):
            left += vars(x).values()


def _push(f: Flat, xs: Sequence[Array], ts: Sequence[Array]) -> list[Array]:
    """Return jvp for lists of arrays as the rules compute it: complex numbers pass, dtypes are not converted."""
    trace = Forward()
    pairs = [unbox(y, trace) for y in run(trace, f, xs, ts)]
    return [_zeros(y) if t is None else t for y, t in pairs]


def _pull(f: Flat, xs: Sequence[Array], gs: Sequence[Array]) -> list[Array]:
    """Return vjp for lists of arrays, which may be complex. The transpose, without conjugation, is analytic as f is."""
    tape = Tape()
    pairs = [unbox(y, tape) for y in run(tape, f, xs, [tape.record(None, x, ()) for x in xs])]
    pulled = tape.pull(gs, [end for _, end in pairs], len(xs))
    return [_zeros(x) if c is None else c for x, c in zip(xs, pulled)]


def _zeros(x: Array) -> Array:
    """Return zeros in the shape and dtype of x, which may be complex (see _push)."""
    return module_of(raw(x)).zeros(shape(x), raw(x).dtype)[()]


class _DTypes(Forward):
    """A trace that collects the dtypes of all floating-point values along the way, and pushes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def record(self, primitive: Any, y: Array, maps: Any) -> None:
        for part in y if type(y) is tuple else (y,):
            if is_float(raw(part)):
                self.seen.add(raw(part).dtype.name)


class _Laws:
    def __init__(self, rtol: float, analytic: bool, seed: int) -> None:
        self.rtol, self.analytic, self.seed = rtol, analytic, seed
        self.rng = numpy.random.default_rng(seed)

    def hold(self, name: str, f: Flat, xs: list[Array], order: int) -> None:
        """Check the laws for f, and for its push and pull if the order is above 1."""
        ts, others = self.direction(xs), self.direction(xs)
        before = _copies(xs)
        ys, J = linearize(f, *xs)
        gs = self.direction(ys)
        before += _copies([*ts, *gs, *ys])
        pushed, pulled = J.push(*ts), _as_list(J.pull(gs), xs)
        if not all(numpy.array_equal(a, to_host(x), equal_nan=True) for a, x in zip(before, [*xs, *ts, *gs, *ys])):
            raise DerivativeError(f"nothing is changed: broken by {name} (seed {self.seed})\n"
                                  "  an argument, a result, a tangent or a cotangent was written to")
        self.form(name, f, xs, ts, ys, gs)
        self.difference(name, f, xs, ts, pushed)
        left, right = _dot(gs, pushed), _dot(pulled, ts)
        size = max(_size([g * p for g, p in zip(gs, pushed)]), _size([p * t for p, t in zip(pulled, ts)]), abs(left))
        self.equal(name, "pull is the transpose of push", [left], [right], slack=1e-3 * self.rtol * size)
        mixed = J.push(*[2.0 * a - 3.0 * b for a, b in zip(ts, others)])
        self.equal(name, "push is linear", mixed, [2.0 * a - 3.0 * b for a, b in zip(pushed, J.push(*others))])
        others = self.direction(ys)
        mixed = _as_list(J.pull([2.0 * a - 3.0 * b for a, b in zip(gs, others)]), xs)
        self.equal(name, "pull is linear", mixed,
                   [2.0 * a - 3.0 * b for a, b in zip(pulled, _as_list(J.pull(others), xs))])
        self.equal(name, "jvp agrees with push", jvp(f, xs, ts)[1], pushed)
        self.equal(name, "vjp agrees with pull", list(vjp(f, *xs)[1](gs)), pulled)
        if order > 1:
            n = len(xs)
            self.hold(f"push of {name}", lambda *z: _push(f, z[:n], z[n:]), [*xs, *ts], order - 1)
            self.hold(f"pull of {name}", lambda *z: _pull(f, z[:n], z[n:]), [*xs, *gs], order - 1)

    def difference(self, name: str, f: Flat, xs: list[Array], ts: list[Array], pushed: list[Array]) -> None:
        """Check law 1."""
        h = STEP
        up, down = (f(*[x + s * h * t for x, t in zip(xs, ts)]) for s in (+1.0, -1.0))
        self.equal(name, "push is the derivative", pushed, [(a - b) / (2.0 * h) for a, b in zip(up, down)],
                   slack=1e-14 / h * _size(up))
        if self.analytic:
            step = f(*[x + COMPLEX_STEP * 1j * t for x, t in zip(xs, ts)])
            self.equal(name, "push is the complex step", pushed, [y.imag / COMPLEX_STEP for y in step],
                       slack=1e-4 * self.rtol * _size(pushed), rtol=1e-4 * self.rtol)

    def direction(self, xs: Sequence[Array]) -> list[Array]:
        """Return a random direction of about unit length, with no element much smaller than the others."""
        scale = max(1, sum(math.prod(shape(x)) for x in xs)) ** -0.5
        return [module_of(raw(x)).asarray(
            self.rng.uniform(0.5, 1.5, shape(x)) * self.rng.choice([-1.0, 1.0], shape(x)) * scale)[()] for x in xs]

    def form(self, name: str, f: Flat, xs: list[Array], ts: list[Array], ys: list[Array], gs: list[Array]) -> None:
        """Check law 6."""
        for law, found, like in (("tangents have the form of values", _push(f, xs, ts), ys),
                                 ("cotangents have the form of arguments", _pull(f, xs, gs), xs)):
            for a, x in zip(found, like):
                if shape(a) != shape(x) or raw(a).dtype != raw(x).dtype:
                    rows = [("found", a, ""), ("should be", x, "")]
                    raise DerivativeError(message(f"{law}: broken by {name} (seed {self.seed})",
                                                  "shape or dtype differs", rows))

    def hold_in_float32(self, name: str, f: Flat, xs: list[Array]) -> None:
        """Check law 6 in float32, unless a step of f turns that into another dtype, if only inside."""
        xs, ts = ([x.astype("float32") for x in vs] for vs in (xs, self.direction(xs)))
        ys, dtypes = f(*xs), _DTypes()
        run(dtypes, f, xs, ts)
        if {y.dtype.name for y in ys} | dtypes.seen == {"float32"}:
            self.form(name, f, xs, ts, ys, [g.astype("float32") for g in self.direction(ys)])

    def equal(self, name: str, law: str, found: Iterable[Array], expected: Iterable[Array], slack: float = 0.0,
              rtol: float | None = None) -> None:
        """Raise DerivativeError unless the arrays found are those expected."""
        for k, (a, b) in enumerate(zip(found, expected, strict=True)):
            a, b = to_host(a), to_host(b)
            allowed = slack + (rtol or self.rtol) * max(1e-3, float(numpy.max(abs(b), initial=0.0)))
            worst = float(numpy.max(abs(a - b), initial=0.0))
            if not worst <= allowed:                        # also where it is NaN
                at = numpy.unravel_index(int(numpy.argmax(abs(a - b))), a.shape)
                raise DerivativeError(f"{law}: broken by {name} (seed {self.seed})\n"
                                      f"  result {k} of shape {a.shape}, at {tuple(map(int, at))}: "
                                      f"{a[at]!s} against {b[at]!s}\n"
                                      f"  largest error {worst:.3g}, allowed {allowed:.3g}")


def _copies(xs: Iterable[Array]) -> list[NDArray[Any]]:
    return [to_host(x).copy() for x in xs]


def _as_list(pulled: Any, xs: list[Array]) -> list[Array]:
    return [pulled] if len(xs) == 1 else list(pulled)


def _dot(a: Iterable[Array], b: Iterable[Array]) -> float:
    return sum((float((x * y).sum()) for x, y in zip(a, b)), 0.0)


def _size(xs: Iterable[Array]) -> float:
    return max((float(abs(to_host(x)).max()) for x in xs if x.size), default=0.0)


guard(__name__)
