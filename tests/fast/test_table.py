"""Every row of the table of faster forms computes what the operation computes without it.

ROWS says for each operation which arguments to draw. A form of any column (in C, NumPy, CuPy) is called itself, the
operation with the table switched off, both with the same arrays: of any shape and layout, of all types that the
operation gets from its callers, in one chunk and in many. A row without arguments to draw fails, and so does a form
that is wrong (FAULTS).
"""
import itertools
from typing import Any, NamedTuple

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backend, core, distributed, fast, kinds, losses, normalization, ops, optim, reweight
from minigrad.fast import (
    convolution,
    cuda,
    elementwise,
    native,
    native_batch_norm,
    native_convolution,
    native_optim,
    products,
    threads,
)
from minigrad.functions import with_derivative
from minigrad.ops.dropout import _keep
from minigrad.ops.windows import _unfold, as_pairs

from ..strategies import distinct, generator, laid_out, positive, smooth, tied

FLOATS = ["float32", "float64"]
REALS = ["float16", *FLOATS]
NUMBERS = [*REALS, "complex64", "complex128", "int8", "int64", "bool"]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0]
IN_C, ON_NUMPY, ON_CUPY = range(3)                          # the columns of the table
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5) | hnp.array_shapes(min_dims=0, max_dims=2, min_side=0)
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")    # of the arrays of a case that fails
EXAMPLES = 3 * settings.default.max_examples                # a form takes little time


class Row(NamedTuple):
    """Which arguments an operation is called with: a strategy of (args, params). exact: whether bits are compared."""
    cases: Any
    exact: bool = False


# -------------------------------------------------------------------------------------- what arguments are drawn

def drawn(draw, shape, types, values=smooth, special=False):
    """An array of this shape, of one of these types; special: with NaN, infinities and zeros, most of the time."""
    dtype, rng = np.dtype(draw(st.sampled_from(types))), generator(draw)
    x = np.asarray(values(rng, shape))
    if dtype.kind == "c":
        x = x + 1j * values(rng, shape)
    elif dtype.kind in "iub":
        x = rng.integers(-3, 4, shape)
    if special and dtype.kind in "fc" and draw(st.integers(0, 3)):
        x = np.where(rng.random(shape) < 0.4, rng.choice(SPECIAL, shape), x)
    return laid_out(draw, np.asarray(x, dtype))


def one_or_all(types):
    """Lists of types to draw from: mostly of one, which is a float as a rule, so that all arrays of a case are of one."""
    return st.sampled_from([["float32"], ["float64"], *[[one] for one in types], list(types)])


def row(exact=False):
    """A decorator: the row whose cases this function of `draw` draws."""
    return lambda f: Row(st.composite(f)(), exact)


def unary(types=NUMBERS, exact=False):
    return row(exact)(lambda draw: ((drawn(draw, draw(SHAPES), types, special=True),), {}))


def binary(exact=False, numbers=True):
    """Two arrays that broadcast together, of one type or of two; or an array and a number, on either side."""
    @row(exact)
    def cases(draw):
        shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=5, min_side=0)).input_shapes
        types = draw(one_or_all(NUMBERS))
        a, b = (drawn(draw, s, types, special=True) for s in shapes)
        if numbers and draw(st.booleans()):
            a, b = draw(st.sampled_from([(2, a), (a, 3), (a, 0.5), (-1.5, a), (a, 2.0)]))
        return (a, b), {}
    return cases


@row(exact=True)
def added_in_place(draw):
    """The sum is written to the first argument."""
    shape, types = draw(SHAPES), [draw(st.sampled_from(FLOATS))]
    total, x = (drawn(draw, shape, types) for _ in range(2))
    return (np.array(total), x), {}


@row(exact=True)
def broadcast(draw):
    s, lead = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)), draw(hnp.array_shapes(min_dims=0, max_dims=1))
    ones = [draw(st.booleans()) for _ in s]
    x = drawn(draw, tuple(1 if one else n for n, one in zip(s, ones)), NUMBERS)
    return (x,), {"shape": (*lead, *s)}


@row()
def summed(draw):
    """Mostly over all axes but the last."""
    s = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))
    to = draw(st.sampled_from([s[-1:], s[-1:], s[1:], (1, *s[1:]), ()]))
    return (drawn(draw, s, draw(one_or_all(["complex64", "int64", *REALS]))),), {"shape": to}


@row(exact=True)
def constants(draw):
    """A tangent, and constants or values of one type, 0 at half of the places."""
    s, types = draw(SHAPES), draw(one_or_all([*REALS, "complex64"]))
    at = drawn(draw, s, types)
    return (drawn(draw, s, types, special=True), at * (generator(draw).random(s) < 0.5).astype(at.dtype)), {}


def named(cases, first, second):
    """The same cases with the second argument as a parameter."""
    return cases._replace(cases=cases.cases.map(lambda case: ((case[0][0],), {second: case[0][1]})))


@row(exact=True)
def kept(draw):
    count, known = draw(st.integers(0, 200)), np.uint32(draw(st.integers(0, 2**32 - 1)))
    return (count, draw(st.sampled_from([0.0, 0.25, 0.5, 0.99])), known, np.zeros(count)), {}


@row()
def multiplied(draw):
    n, k, m = (draw(st.integers(0, 9) | st.sampled_from([17, 40])) for _ in range(3))
    a, b = draw(st.sampled_from([((), ()), ((), ()), ((3,), ()), ((3,), (3,)), ((3,), (1,)), ((2, 1), (3,)), ((0,), ()),
                                 ((3,), (2, 3))]))
    types = draw(one_or_all(NUMBERS))
    return (drawn(draw, (*a, n, k), types), drawn(draw, (*b, k, m), types)), {}


class Windows(NamedTuple):
    """The arrays of a convolution or a pooling, and their geometry as pairs."""
    x: np.ndarray
    k: np.ndarray
    g: np.ndarray
    geometry: dict


PADDINGS = ["same", "valid", ((1, 1), (1, 1)), ((0, 1), (2, 0)), ((3, 3), (1, 2)), ((0, 4), (6, 0))]


@st.composite
def windows(draw, types, values=smooth, special=False, least=1, border=True):
    """Images, kernels and cotangents of any geometry that fits, also without pixels.

    border: padding may be as wide as a window, or wider.
    One of four has what Winograd's form in C is made for. Channels are few, or fill vectors, or are one too many.
    """
    few, with_winograd = st.integers(least, 3), draw(st.integers(0, 3)) == 0
    if with_winograd:
        window, stride, c, o = (3, 3), (1, 1), draw(st.sampled_from([8, 16, 32])), draw(st.sampled_from([16, 32]))
    else:
        window = draw(st.tuples(*[st.integers(1, 3) | st.just(5)] * 2))
        stride = draw(st.just((1, 1)) | st.tuples(st.integers(1, 4), st.integers(1, 4)))
        c, o = (draw(few | few | st.sampled_from([8, 16, 17])) for _ in range(2))
    padding = draw(st.sampled_from(PADDINGS))
    if not border and not isinstance(padding, str):
        padding = tuple(tuple(min(zeros, n - 1) for zeros in side) for side, n in zip(padding, window))
    beside = {"same": [n - 1 for n in window], "valid": (0, 0)}.get(padding) or [sum(side) for side in padding]
    h, w = (max(side - zeros, 0) + draw(st.integers(0, 5)) for side, zeros in zip(window, beside))
    n = draw(st.integers(least, 6))
    x, k = drawn(draw, (n, h, w, c), types, values, special), drawn(draw, (*window, c, o), types)
    _, stride, padding = as_pairs("", x, window, stride, padding)
    count = _unfold(x, window, stride, padding).shape[:3]
    return Windows(x, k, drawn(draw, (*count, o), types), {"stride": stride, "padding": padding})


def convolving(make, types=(*REALS, "complex64")):
    """make(arrays) -> (args, params)."""
    return Row(one_or_all(types).flatmap(lambda types: windows(types, least=0)).map(make))


@row()
def folded(draw):
    w = draw(windows(FLOATS))
    (A, B), (_, h, width, c) = w.k.shape[:2], w.x.shape
    v = drawn(draw, (*w.g.shape[:3], A, B, c), FLOATS)
    return (v,), {"size": (h, width), **w.geometry}


def pooled(draw):
    """Images with NaN, infinities and ties, and the arguments window, stride, padding."""
    w = draw(windows(REALS, draw(st.sampled_from([distinct, tied])), special=True, border=False))
    return w.x, {"window": w.k.shape[:2], **w.geometry}


@row(exact=True)
def max_pooled(draw):
    x, where = pooled(draw)
    return (x, *where.values()), {"winners": draw(st.booleans())}


def at_winners(put):
    @row(exact=not put)
    def cases(draw):
        x, where = pooled(draw)
        with np.errstate(all="ignore"):
            winners = without_table(ops.windows._max_pool2d, x, *where.values())[1]
        rows = winners.reshape(len(x), -1)
        v = drawn(draw, rows.shape, [x.dtype.name]) if put else np.array(x.reshape(len(x), -1))
        return (v,), {"winners": rows, "image": x.shape[1:], **where}
    return cases


def averaged(adjoint):
    """Average pooling, whose padding may be as wide as a window, or its adjoint."""
    @row()
    def cases(draw):
        w = draw(windows([draw(st.sampled_from([*REALS, "complex64"]))], special=True))
        where = {"window": w.k.shape[:2], **w.geometry}
        if adjoint:
            return (drawn(draw, (*w.g.shape[:3], w.x.shape[3]), [w.x.dtype.name], special=True),), {"size": w.x.shape[1:3], **where}
        return (w.x,), where
    return cases


channels_last = st.sampled_from([(3, 2), (1, 1), (7, 1), (6, 3, 4), (5, 2, 3, 2), (2, 1, 1, 70), (9, 3, 3, 1), (5, 2, 2, 16), (40, 17)])


@row()
def moments(draw):
    shape = draw(channels_last | st.sampled_from([(0, 3), (2, 3, 0)]))
    return (drawn(draw, shape, REALS) + np.float16(3.0),), {}


@row()
def normalized(draw):
    """With a ReLU that is open for a whole channel, closed, or open for some of its elements."""
    shape, types = draw(channels_last | st.sampled_from([(0, 3), (2, 0)])), draw(one_or_all(FLOATS))
    x, gain = drawn(draw, shape, types), drawn(draw, shape[-1:], types, positive)
    bias = drawn(draw, shape[-1:], types, lambda rng, s: rng.choice([-30.0, 0.4, 30.0], s))
    statistics = draw(st.booleans()) and without_table(ops.normalize.moments, x)
    return (x, draw(st.sampled_from([None, gain])), bias), {
        "eps": 0.1, "then_relu": draw(st.booleans()), "statistics": statistics or None}


@row()
def updated(draw):
    s, types = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)), [draw(st.sampled_from(FLOATS))]
    p, g, m = (drawn(draw, s, types, special=special) for special in (False, True, False))
    momentum = draw(st.sampled_from([0.0, 0.9]))
    return (p, g, m if momentum else None, draw(st.sampled_from([0.1, np.asarray(0.1)])), momentum,
            draw(st.sampled_from([0.0, 0.01])), bool(momentum) and draw(st.booleans())), {}


@row()
def adapted(draw):
    """Parameters, gradient and averages of Adam, of one type as a rule; rate, b1, b2, fair1, fair2, eps, decay."""
    s, wide = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)), draw(st.sampled_from(FLOATS))
    in_order = np.ascontiguousarray if s and draw(st.booleans()) else np.asarray      # all in C order, as leaves are; or as they are drawn
    own = draw(st.sampled_from([wide, wide, *REALS[:REALS.index(wide) + 1]]))
    p, g, m = (drawn(draw, s, [dtype], special=special) for dtype, special in ((own, False), (own, True), (wide, False)))
    v = drawn(draw, s, [wide], lambda rng, s: rng.choice([0.0, 0.3, 1.7], s))
    p, g, m, v = (in_order(a) for a in (p, g, m, v))
    return (p, g, m, v, draw(st.sampled_from([0.1, np.asarray(0.1)])), 0.9, 0.999, draw(st.sampled_from([0.1, np.asarray(0.5)])), 0.02,
            draw(st.sampled_from([1e-8, 0.1])), draw(st.sampled_from([0.0, 0.01]))), {}


def columns_of(draw, *specials, floor=False):
    """A few leaves of different shapes, as a column for each of the parts, and which decay.

    Parameters and gradient of a leaf are of one type, the state of that type or a wider one. specials: which parts have
    NaN and so on; floor: whether the last one is not negative.
    """
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        s, wide = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=5, min_side=draw(st.integers(0, 1)))), draw(st.sampled_from(FLOATS))
        own = draw(st.sampled_from([wide, wide, wide, "float16"]))
        rows.append([drawn(draw, s, [own if k < 2 else wide], special=special) for k, special in enumerate(specials)])
        if floor:
            rows[-1][-1] = np.square(rows[-1][-1])
    return tuple(draw(st.booleans()) for _ in rows), [x for column in zip(*rows) for x in column]


@row()
def all_updated(draw):
    momentum = draw(st.sampled_from([0.0, 0.9]))
    decays, leaves = columns_of(draw, False, True, *[False] * bool(momentum))
    return (draw(st.sampled_from([0.1, np.asarray(0.1), np.asarray(0.1, "float32")])), momentum, draw(st.sampled_from([0.0, 0.01])),
            bool(momentum) and draw(st.booleans()), decays, *leaves), {}


@row()
def all_adapted(draw):
    decays, leaves = columns_of(draw, False, True, False, False, floor=True)
    rate, fair1, fair2 = (draw(st.sampled_from([0.1, np.asarray(0.5)])) for _ in range(3))
    return (rate, 0.9, 0.999, fair1, fair2, draw(st.sampled_from([1e-8, 0.1])), draw(st.sampled_from([0.0, 0.01])), decays, *leaves), {}


@row()
def averages(draw):
    s, types = draw(hnp.array_shapes(min_dims=1, max_dims=1, max_side=5, min_side=0)), draw(one_or_all(REALS))
    return (draw(st.sampled_from([0.9, 0.5, 0])), *(drawn(draw, s, types, special=True) for _ in range(4))), {}


@row(exact=True)
def zeroed(draw):
    types = draw(one_or_all([*REALS, "complex64"]))
    return (np.asarray(draw(st.booleans())), *(drawn(draw, draw(SHAPES), types, special=True) for _ in range(draw(st.integers(1, 4))))), {}


@row(exact=True)
def joined(draw):
    types = [draw(st.sampled_from([*REALS, "complex64"]))]
    return tuple(drawn(draw, draw(SHAPES), types, special=True) for _ in range(draw(st.integers(1, 4)))), {}


@row()
def scored(draw):
    n, classes = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    x = drawn(draw, (n, classes), FLOATS, lambda rng, s: smooth(rng, s) * draw(st.sampled_from([1.0, 40.0])))
    return (x,), {"labels": generator(draw).integers(0, classes, n)}


ROWS = {
    **{operation: binary() for operation in (ops.add, ops.subtract, ops.multiply, ops.power)},
    **{operation: binary(exact=True) for operation in (ops.maximum, ops.minimum)},
    **{operation: unary() for operation in (ops.exp, ops.expm1, ops.log, ops.log1p, ops.sin, ops.cos, ops.tanh, ops.sqrt,
                                               ops.abs)},
    **{operation: unary(exact=True) for operation in (ops.negative, ops.square, ops.relu)},
    core.add: binary(numbers=False),
    core.add_in_place: added_in_place,
    kinds._broadcast: broadcast,
    kinds._sum_back: summed,
    ops.elementwise._gate: named(constants, "v", "at"),
    ops.elementwise.scale: named(constants, "v", "by"),
    ops.sigmoid: unary(),
    ops.elementwise._bell: unary(),
    _keep: kept,
    ops.products._matmul: multiplied,
    ops.convolution._conv: convolving(lambda w: ((w.x, w.k), w.geometry)),
    ops.convolution._conv_input: convolving(lambda w: ((w.g, w.k), {"size": w.x.shape[1:3], **w.geometry})),
    ops.convolution._conv_kernel: convolving(lambda w: ((w.x, w.g), {"window": w.k.shape[:2], **w.geometry})),
    ops.windows._fold_primitive: folded,
    ops.windows._max_pool2d: max_pooled,
    ops.windows._take: at_winners(put=False),
    ops.windows._put: at_winners(put=True),
    ops.windows._mean_primitive: averaged(adjoint=False),
    ops.windows._mean_input: averaged(adjoint=True),
    ops.normalize.moments: moments,
    optim._sgd_step: updated,
    optim._sgd_steps: all_updated,
    optim._adam_step: adapted,
    optim._adam_steps: all_adapted,
    normalization._move_averages: averages,
    reweight._zero_unless: zeroed,
    distributed._join: joined,
    normalization._batch_norm: normalized,
    losses._cross_entropy: scored,
}


# ---------------------------------------------------------------------------------------- what is held to be equal

SMALL_CHUNKS = [(threads, "CHUNK", 64), (convolution, "GROUPS", 3), (convolution, "WINDOWS", 256), (products, "CHUNK", 64),
                (products, "SMALL", 8), (elementwise, "SMALL", 4), (cuda, "SMALL", 4), (native_batch_norm, "SMALL", 4),
                (native_optim, "SMALL", 4),
                (native_convolution, "GROUPS", 3),
                (native_convolution, "LARGE", 1 << 10), (native_convolution, "OUTPUTS", 16), (native_convolution, "TILES", 5)]


def without_table(f, *args, **params):
    """f(*args, **params) on the plain engine alone."""
    before = backend.name()
    mg.use("numpy", fast=False)
    try:
        return f(*args, **params)
    finally:
        mg.use(before)


def outcome(f, *args, **params):
    """The arrays of the result, or the type of the error."""
    try:
        with np.errstate(all="ignore"):
            y = f(*args, **params)
    except Exception as error:
        return type(error)
    return y if y is NotImplemented else [mg.to_host(a) for a in (y if isinstance(y, tuple) else (y,))]


def compare(found, expected, exact, eps=0.0):
    """Raise AssertionError unless two outcomes are equal, up to rounding where they need not be exact.

    eps: the relative error of a number that went into the computation, if it is more than that of the result's type.
    """
    if isinstance(expected, type) or isinstance(found, type):
        assert found is expected
        return
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        if b.dtype.kind in "iub" or exact and b.dtype.kind == "f":
            np.testing.assert_array_equal(a, b)
        else:
            finite = b[np.isfinite(b)]
            error = 64 * max(np.finfo(b.dtype).eps, eps)
            np.testing.assert_allclose(a, b, rtol=error, atol=error * np.abs(finite).max(initial=1.0))


def hold(operation, form, case, exact, moved):
    """Whether a form answers for these arguments; if it does, its answer is that of the operation."""
    args, params = case
    before = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
    here, params_here = mg.tree.map(lambda a: moved(a) if isinstance(a, np.ndarray) else a, (list(args), params))
    if isinstance(operation, with_derivative):
        with np.errstate(all="ignore"):
            return hold_passes(operation, form, args, params, here, params_here)
    found = outcome(form, *here, **params_here)
    if found is NotImplemented:
        return False
    expected = outcome(without_table, definition(operation), *[np.array(a) if isinstance(a, np.ndarray) else a for a in before],
                       **params)
    unread = params.get("winners") is False or operation is optim._sgd_step and args[2] is None
    count = 1 if unread else None                           # of the results
    compare(found if isinstance(found, type) else found[:count], expected if isinstance(expected, type) else expected[:count], exact)
    for a, b in list(zip(here, before))[operation is core.add_in_place:]:
        if isinstance(b, np.ndarray):
            np.testing.assert_array_equal(mg.to_host(a), b)
    return not isinstance(found, type)


def definition(operation):
    """What the operation evaluates on plain arrays: errors then keep their types."""
    if isinstance(operation, core.Primitive):
        return lambda *args, **params: (operation.fun or backend.by_name(operation.name, args))(*args, **params)
    return operation.__wrapped__


def hold_passes(operation, form, args, params, here, params_here):
    """Value, push and pull; where a tangent is None, it is zero.

    Of arrays of two types only the value has a type of its own: a cotangent is cast to that of its argument later on.
    """
    result = form(*here, **params_here)
    if result is NotImplemented:
        return False
    y, push, pull = result
    given = [i for i, a in enumerate(args) if a is not None]
    types = {args[i].dtype for i in given}
    eps = max(np.finfo(dtype).eps for dtype in types)

    def f(*some):
        full = dict(zip(given, some))
        return operation.f(*[full.get(i) for i in range(len(args))], **params)
    expected, J = without_table(mg.linearize, f, *[args[i] for i in given])
    compare([mg.to_host(y)], [expected], False, eps)
    rng = np.random.default_rng(0)
    tangents = [None if a is None else smooth(rng, a.shape).astype(a.dtype) for a in args]
    for zeros in ((), *[(i,) for i in given[1:]], given[1:], given[:1]):
        if len(zeros) == len(given):
            continue
        some = [None if i in zeros else t for i, t in enumerate(tangents)]
        full = [np.zeros_like(args[i]) if some[i] is None else some[i] for i in given]
        t = push(*[t if t is None else mg.xp.asarray(t) for t in some])
        compare([mg.to_host(t)], [without_table(J.push, *full)], False, eps)
    g = smooth(rng, expected.shape).astype(expected.dtype)
    found, cotangents = pull(mg.xp.asarray(g)), without_table(J.pull, g)
    assert [c is None for c in found] == [a is None for a in args]
    found, cotangents = [mg.to_host(c) for c in found if c is not None], cotangents if len(given) > 1 else (cotangents,)
    compare([c if len(types) == 1 else c.astype(d.dtype) for c, d in zip(found, cotangents, strict=True)], cotangents, False, eps)
    return True


def hold_row(operation, column, chunks="small", moved=lambda x: x, phases=tuple(Phase), examples=EXAMPLES):
    """Hold a form of the table to its operation, for many arguments. At least some of them it must answer if chunks are small."""
    answered, (cases, exact) = [], ROWS[operation]

    @given(case=cases, few=st.sampled_from([0, convolution.FEW_CHANNELS]))
    @settings(suppress_health_check=list(HealthCheck), max_examples=examples, database=None, phases=phases)
    def each(case, few):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(convolution, "FEW_CHANNELS", few)
            for module, name, value in SMALL_CHUNKS if chunks == "small" else []:
                patch.setattr(module, name, value)
            answered.append(hold(operation, fast.TABLE[operation][column], case, exact, moved))
    each()
    assert any(answered) or chunks != "small"               # some forms are for large arrays alone


def forms(column):
    """The operations that have a form in this column, each with its name."""
    return [pytest.param(operation, id=operation.__name__) for operation, row in fast.TABLE.items() if row[column]]


def test_every_row_has_arguments_to_be_drawn():
    assert set(ROWS) == set(fast.TABLE)
    assert all(len(row) == 3 and set(row) != {None} for row in fast.TABLE.values())


@pytest.mark.needs("cc")
@pytest.mark.parametrize("chunks", ["small", "large"])
@pytest.mark.parametrize("operation", forms(IN_C))
def test_forms_in_c(operation, chunks):
    hold_row(operation, IN_C, chunks, examples=EXAMPLES if chunks == "small" else EXAMPLES // 3)


@pytest.mark.parametrize("chunks", ["small", "large"])
@pytest.mark.parametrize("operation", forms(ON_NUMPY))
def test_forms_on_numpy(operation, chunks):
    hold_row(operation, ON_NUMPY, chunks)


@pytest.mark.parametrize("operation", forms(ON_CUPY))
def test_forms_on_cupy(operation, cupy):
    hold_row(operation, ON_CUPY, "small", lambda x: mg.xp.asarray(x))


def test_the_table_is_asked():
    """... by operations that watch nothing, and with fast=False it is not."""
    for fast_too, expected in ((True, fast.TABLE[ops.exp][ON_NUMPY]), (False, None)):
        mg.use("numpy", fast=fast_too)
        assert backend.faster(ops.exp, (np.ones(2),)) is expected
    mg.use("numpy")


def test_forms_in_c_are_asked_first(monkeypatch):
    """... then those in NumPy, for what the first ones are not made for; and alone where they are switched off."""
    def in_c(x):
        return "in C" if x.dtype == "float32" else NotImplemented

    def on_numpy(x):
        return "NumPy"
    monkeypatch.setattr(native, "wanted", lambda: True)
    either = fast.on_host(in_c, on_numpy)
    assert either(np.ones(2, "float32")) == "in C" and either(np.ones(2)) == "NumPy"
    assert fast.on_host(in_c, None) is in_c and fast.on_host(None, on_numpy) is on_numpy
    monkeypatch.setattr(native, "wanted", lambda: False)
    assert fast.on_host(in_c, on_numpy) is on_numpy and fast.on_host(in_c, None) is None


# ------------------------------------------------------------------------------------------------ forms that are wrong

def changed(operation, change, column=ON_NUMPY):
    """A form of an operation, with its result changed."""
    form = fast.TABLE[operation][column]

    def wrong(*args, **params):
        y = form(*args, **params)
        return y if y is NotImplemented else change(y, *args)
    return wrong


def batch_norm_with(pull, column=ON_NUMPY):
    """Batch normalization with another pull, pull(g, y, cotangents, x, gain)."""
    batch_norm = fast.TABLE[normalization._batch_norm][column]

    def form(x, gain, bias, **params):
        passes = batch_norm(x, gain, bias, **params)
        if passes is NotImplemented:
            return NotImplemented
        y, push, right = passes
        return y, push, lambda g: (pull(g, y, right(g)[0], x, gain), *right(g)[1:])
    return form


def without_means(g, y, cotangent, x, gain):
    """Mean and variance as constants."""
    return g / np.sqrt(x.var(tuple(range(x.ndim - 1))) + 0.1) * (1.0 if gain is None else gain)


FAULTS = {                                                  # of forms on NumPy
    "a mask that multiplies": (ops.relu, lambda x: x * (x > 0)),
    "constants that multiply": (ops.elementwise.scale, lambda v, by: v * by),
    "the last of equal elements wins": (ops.windows._max_pool2d, changed(ops.windows._max_pool2d, lambda y, x, *_: (
        y[0], y[1] + (y[1] < y[1].max(initial=0))))),
    "Bessel's correction": (ops.normalize.moments, changed(ops.normalize.moments, lambda y, x: (
        y[0], y[1] * (x.size / x.shape[-1] + 1) / (x.size / x.shape[-1])))),
    "the last row is left out": (ops.products._matmul, changed(ops.products._matmul, lambda y, *_: np.concatenate(
        [y[..., :-1, :], np.zeros_like(y[..., -1:, :])], -2))),
    "left and right padding swapped": (ops.convolution._conv, lambda x, k, stride, padding: convolution.conv2d(
        x, k, stride, (padding[0], padding[1][::-1]))),
    "the batch is averaged": (ops.convolution._conv_kernel, changed(ops.convolution._conv_kernel, lambda y, x, g: y / max(len(x), 1))),
    "float64 that leaks in": (kinds._sum_back, lambda x, shape: elementwise.sum_to(x.astype("float64"), shape)),
    "an argument written to": (ops.negative, lambda x: np.negative(x, out=x if x.flags.writeable else None)),
    "a derivative where the ReLU is closed": (normalization._batch_norm, batch_norm_with(lambda g, y, c, *_: c * (y != 0))),
    "statistics that are constants": (normalization._batch_norm, batch_norm_with(without_means)),
    "chunks that are left out": (ops.exp, threads.chunked(lambda x, out=None: np.exp(x) if out is None else out.fill(0), 1)),
    "no answer at all": (ops.exp, lambda x: NotImplemented),
    "a bit of the mask": (_keep, changed(_keep, lambda y, *_: ~y)),
    "the mean of the pixels inside": (ops.windows._mean_primitive, changed(ops.windows._mean_primitive, lambda y, *_: y * 1.5)),
}


def in_c(operation, change):
    return operation, changed(operation, change, IN_C)


def with_last(y, by):
    """The array with its last channel, or row of a gradient, multiplied by a number."""
    y = y.copy()
    y[..., -1:] *= by
    return y


FAULTS_IN_C = {
    "the last of the outputs is left out": in_c(ops.convolution._conv, lambda y, *_: with_last(y, 0)),
    "the digits of half precision": in_c(ops.convolution._conv, lambda y, *_: y.astype("float16").astype(y.dtype)),
    "the last pixels of an image are left out": in_c(ops.convolution._conv_input, lambda y, *_: np.concatenate(
        [y[:, :-1], np.zeros_like(y[:, -1:])], 1)),
    "an image is left out": in_c(ops.convolution._conv_kernel, lambda y, x, g: y * (1.0 - 1.0 / max(len(x), 1))),
    "a kernel turned by half a turn": in_c(ops.convolution._conv_kernel, lambda y, *_: y[::-1, ::-1]),
    "the last of equal elements wins": in_c(ops.windows._max_pool2d, lambda y, *_: (y[0], y[1] + (y[1] < y[1].max(initial=0)))),
    "a winner is overwritten": in_c(ops.windows._put, lambda y, g, *_: np.minimum(y, 1.0).astype(y.dtype)),
    "the mean of the pixels inside": in_c(ops.windows._mean_input, lambda y, *_: with_last(y, 1.5)),
    "a lane of a vector is left out": in_c(kinds._sum_back, lambda y, *_: with_last(y, 0)),
    "Bessel's correction": in_c(ops.normalize.moments, lambda y, x: (y[0], y[1] * (x.size / x.shape[-1] + 1) / (x.size / x.shape[-1]))),
    "the momentum is not kept": in_c(optim._sgd_step, lambda y, p, g, m, *_: (y[0], m)),
    "the square root of the square": in_c(optim._adam_step, lambda y, *_: (y[0], y[1], np.sqrt(y[2]))),
    "float64 that leaks in": in_c(optim._adam_step, lambda y, *_: tuple(a.astype("float64") for a in y)),
    "a derivative where the ReLU is closed": (normalization._batch_norm, batch_norm_with(lambda g, y, c, *_: c * (y != 0), IN_C)),
    "no answer at all": (ops.windows._max_pool2d, lambda *args, **params: NotImplemented),
}


def hold_wrong(operation, column, form, monkeypatch):
    monkeypatch.setitem(fast.TABLE, operation, tuple(form if i == column else None for i in range(3)))
    with pytest.raises((AssertionError, ExceptionGroup)):
        hold_row(operation, column, phases=[Phase.generate])


@pytest.mark.parametrize("fault", FAULTS)
def test_forms_that_are_wrong_are_noticed(fault, monkeypatch):
    operation, form = FAULTS[fault]
    hold_wrong(operation, ON_NUMPY, form, monkeypatch)


@pytest.mark.needs("cc")
@pytest.mark.parametrize("fault", FAULTS_IN_C)
def test_forms_in_c_that_are_wrong_are_noticed(fault, monkeypatch):
    operation, form = FAULTS_IN_C[fault]
    hold_wrong(operation, IN_C, form, monkeypatch)


BORDERS = [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 2), (1, 3)), ((3, 0), (0, 2))]


@pytest.mark.parametrize("few", [0, 64])
@pytest.mark.parametrize("column", [pytest.param(IN_C, marks=pytest.mark.needs("cc")), ON_NUMPY])
def test_forms_of_a_convolution_for_every_stride_and_border(column, few, monkeypatch):
    """... which few of the drawn cases have together."""
    monkeypatch.setattr(convolution, "FEW_CHANNELS", few)
    rng = np.random.default_rng(0)
    for window, stride, padding in itertools.product([(1, 1), (2, 3), (3, 2), (3, 5)], [(1, 1), (2, 1), (2, 3), (4, 2)], BORDERS):
        x, k = rng.normal(size=(3, 6, 5, 2)).astype("float32"), rng.normal(size=(*window, 2, 3)).astype("float32")
        where = {"stride": stride, "padding": padding}
        g = rng.normal(size=(3, *ops.windows.output_size((6, 5), window, stride, padding), 3)).astype("float32")
        for operation, args, params in ((ops.convolution._conv, (x, k), {}), (ops.convolution._conv_input, (g, k), {"size": (6, 5)}), (ops.convolution._conv_kernel, (x, g), {"window": window})):
            assert hold(operation, fast.TABLE[operation][column], (args, {**params, **where}), False, lambda a: a), (operation, window, where)
