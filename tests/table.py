"""The table of all public operations: how to call each on drawn inputs, to test the laws.

A row holds a strategy for cases, which states the domain, and whether the operation is analytic. A case is (f, xs):
f(m, *xs) calls the operation from the module m, which is minigrad or the plain NumPy reference. tests/ops/test_laws.py
runs the table, and fails if an operation that minigrad exports has no row.

Linear operations also get powers of x, so that their derivatives of higher order are not all zero.
"""
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import minigrad as mg

from .plain import plain, sides
from .strategies import (
    array,
    arrays,
    broadcastable,
    convolutions,
    distinct,
    full_shapes,
    generator,
    halves,
    positive,
    shapes,
    smooth,
    wide_shapes,
)


class Row(NamedTuple):
    cases: Any
    analytic: bool = True
    needs: tuple[str, ...] = ()                             # what CuPy needs for it (requirements.py)


KINKED = False                                              # the second column of operations that are not analytic


def unary(f, values=smooth):
    """Return cases of one argument; f: a function of (m, x), or the name of a function in m."""
    named = (lambda m, x: getattr(m, f)(x)) if isinstance(f, str) else f
    return st.tuples(st.just(named), st.tuples(arrays(values)))


def binary(name, *values):
    return st.tuples(st.just(lambda m, a, b: getattr(m, name)(a, b)), broadcastable(*values))


@st.composite
def beside(draw, name):
    """Draw an array and an argument that is not float64: a number, small integers, a mask, or float32."""
    x = draw(arrays())
    other = draw(st.sampled_from([3, -2.5, np.full(x.shape, 3, np.int8), np.ones(x.shape, bool),
                                  np.full(x.shape, 1.5, np.float32)]))
    if draw(st.booleans()):
        return (lambda m, x: getattr(m, name)(on(m, other), x)), (x,)
    return (lambda m, x: getattr(m, name)(x, on(m, other))), (x,)


@st.composite
def reduced(draw, f, values=smooth, shape=full_shapes):
    """Draw a reduction over one, some or all axes, also counted from the end."""
    f = (lambda name: lambda m, x, **how: getattr(m, name)(x, **how))(f) if isinstance(f, str) else f
    x = draw(arrays(values, shape))
    axis = draw(st.sampled_from([None, *range(-x.ndim, x.ndim), *([(0, -1)] if x.ndim > 1 else [])]))
    keepdims = draw(st.booleans())
    return (lambda m, x: f(m, x, axis=axis, keepdims=keepdims)), (x,)


@st.composite
def apart(draw, f):
    """Draw two arrays without ties that broadcast together: multiples of a half, shifted ones, or a number."""
    a, b = draw(broadcastable(halves, halves))
    b = np.round(b - 0.5) + 1.0 + 0.1 * (b - np.round(b))   # near integers
    if draw(st.booleans()):
        return (lambda m, a: f(m, a, 1.0)), (a,)
    return f, (a, b)


@st.composite
def with_choice(draw, make, values=smooth, shape=full_shapes):
    """Return cases whose function is drawn to fit x: make(draw, x) -> a function of (m, x)."""
    x = draw(arrays(values, shape))
    return make(draw, x), (x,)


def axis_of(draw, x, extra=0):
    return draw(st.integers(-x.ndim - extra, x.ndim + extra - 1))


def on(m, index):
    """Return an index with its arrays on the device of m."""
    if isinstance(index, tuple):
        return tuple(on(m, part) for part in index)
    return m.xp.asarray(index) if isinstance(index, np.ndarray) else index


def indexing(draw, x):
    rng = generator(draw)
    n = x.shape[0]
    first = draw(st.sampled_from([
        slice(None), slice(None, None, -1), slice(1, None), 0, -1, None, Ellipsis,
        rng.integers(-n, n, 4), rng.integers(0, n, (2, 2)), rng.integers(0, n, 3).astype("uint8"), [0, -1, 0], rng.random(n) < 0.5, rng.random(x.shape) < 0.5]))
    if isinstance(first, np.ndarray) and first.ndim == x.ndim > 1 and first.dtype == bool or first is Ellipsis:
        index = first
    else:
        index = draw(st.sampled_from([first, (first, Ellipsis)]))
    brackets = draw(st.booleans())
    return lambda m, x: (x * x)[on(m, index)] if brackets else m.getitem(x * x, on(m, index))


def putting(draw, x):
    rows = generator(draw).integers(0, 5, x.shape[0])
    index = draw(st.sampled_from([rows, rows.astype("uint8"), rows.tolist(), slice(1, 1 + x.shape[0])]))
    return lambda m, x: m.scatter_add(x * x, (5, *x.shape[1:]), on(m, index))


def taking(draw, x):
    axis = draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
    indices = generator(draw).integers(0, x.size if axis is None else x.shape[axis], (2, 2))
    return lambda m, x: m.take(x * x, on(m, indices), axis)


def padding(draw, x):
    widths = draw(st.sampled_from([1, (0, 2), [(1, 0)] * x.ndim]))
    constant, mode = draw(st.sampled_from([0.0, -2.5])), draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]))
    if mode != "constant" and x.size:
        return lambda m, x: m.pad(x * x, widths, mode)
    return lambda m, x: m.pad(x * x, widths, constant_values=constant)


def cropping(draw, x):
    widths = [(draw(st.integers(0, 1)), draw(st.integers(0, 2))) for _ in x.shape]
    return lambda m, x: m.crop(m.pad(x * x, 2), widths)


def permuting(draw, x):
    axes = draw(st.sampled_from([None, tuple(draw(st.permutations(range(-x.ndim, 0))))]))
    return lambda m, x: m.transpose(x * x, axes)


def standardizing(draw, x):
    axes = draw(st.sampled_from([0, -1, tuple(range(x.ndim))]))
    return lambda m, x: m.standardize(x, axes, eps=0.1)


@st.composite
def choosing(draw):
    """Draw a condition and two sides whose shapes broadcast together; one side may be a number."""
    a, b = draw(broadcastable(smooth, smooth))
    shape = np.broadcast_shapes(a.shape, b.shape)
    condition = generator(draw).random(draw(st.sampled_from([shape, shape[1:], (2, *shape), ()]))) < 0.5
    sides = draw(st.sampled_from(["both", "left", "right"]))
    if sides == "left":
        return (lambda m, a: m.where(on(m, condition), a * a, 2.0)), (a,)
    if sides == "right":
        return (lambda m, b: m.where(on(m, condition), 2.0, b)), (b,)
    return (lambda m, a, b: m.where(on(m, condition), a * a, 2.0 - b)), (a, b)


def moving(name):
    def make(draw, x):
        a, b = axis_of(draw, x), axis_of(draw, x)
        return lambda m, x: getattr(m, name)(x * x, a, b)
    return make


def with_axis(name, extra=0, more=()):
    """Draw a call of the operation with one axis, or with one of `more`."""
    def make(draw, x):
        axis = draw(st.sampled_from([*range(-x.ndim - extra, x.ndim + extra), *more]))
        return lambda m, x: getattr(m, name)(x * x, axis)
    return make


def clipping(draw, x):
    low, high = draw(st.sampled_from([(-1.0, 1.0), (None, 1.0), (-1.0, None), (-2.0, 0.0)]))
    return lambda m, x: m.clip(x, low, high) * x


def squeezing(draw, x):
    axis = draw(st.sampled_from([0, -1, (0, -1)]))
    return lambda m, x: m.squeeze(m.reshape(x * x, (1, *x.shape, 1)), axis)


def dropping(draw, x):
    key = draw(st.integers(0, 99))
    return lambda m, x: m.dropout(x * x, 0.4, key)


def widest(m):
    """Return a type without loss: CuPy has none wider than float64."""
    return getattr(m.xp, "longdouble", np.float64)


@st.composite
def joined(draw, name):
    """Draw up to three arrays; those of concatenate differ in length along the axis, which may be 0."""
    s, parts = draw(full_shapes), draw(st.integers(1, 3))
    axis = draw(st.integers(-len(s) - (name == "stack"), len(s) - (name != "stack")))
    sizes = [list(s) for _ in range(parts)]
    for size in sizes if name == "concatenate" else []:
        size[axis] = draw(st.integers(0, 3))
    return (lambda m, *xs: getattr(m, name)(xs, axis)), tuple(array(draw, smooth, tuple(size)) for size in sizes)


@st.composite
def products(draw):
    """Draw a matmul with broadcast leading axes, rows, columns, or empty arrays."""
    n, k, m = (draw(st.integers(0, 3)) for _ in range(3))
    a = draw(st.sampled_from([(k,), (n, k), (2, n, k), (2, 1, n, k)]))
    b = draw(st.sampled_from([(k,), (k, m), (2, k, m), (1, k, m)]))
    return (lambda m, a, b: m.matmul(a, b)), (array(draw, smooth, a), array(draw, smooth, b))


@st.composite
def contractions(draw):
    sa, sb, axes = draw(st.sampled_from([
        ((2, 3), (3, 2), 1), ((2, 3), (2, 3), 2), ((2,), (3,), 0), ((2, 3, 1), (1, 2, 3), ((0, 2), (1, 0))),
        ((2, 3), (3, 2), ((-1,), (0,))), ((2, 0), (0, 3), 1)]))
    return (lambda m, a, b: m.tensordot(a, b, axes)), (array(draw, smooth, sa), array(draw, smooth, sb))


@st.composite
def convolved(draw):
    x, k, stride, pad = draw(convolutions())
    return (lambda m, x, k: m.conv2d(x, k, stride, pad)), (x, k)


@st.composite
def windowed(draw, f, border=True):
    """Draw pooling or unfolding, with partial windows; without a border, padding is narrower than a window."""
    x, k, stride, pad = draw(convolutions())
    pad = pad if border or pad == "same" else 0
    return (lambda m, x: f(m, x, k.shape[:2], stride, pad)), (x,)


@st.composite
def folded(draw):
    x, k, stride, pad = draw(convolutions())
    pairs = tuple(sides(x.shape[1:3], k.shape[:2], stride, pad))
    v = mg.to_host(mg.unfold(mg.xp.asarray(x), k.shape[:2], stride, pad)).copy()
    return (lambda m, v: m.fold(v * v, x.shape[1:3], stride, pairs)), (v,)


@st.composite
def normalized(draw):
    """Draw nn.batch_norm, also with a ReLU that passes or blocks whole channels."""
    followed, with_gain = draw(st.booleans()), draw(st.booleans())
    shape = draw(st.sampled_from([(3, 2), (2, 1, 3, 2), (1, 2, 2, 1), (4, 1)]))
    x, gain = array(draw, smooth, shape), array(draw, positive, shape[-1:])
    bias = np.array([draw(st.sampled_from([-12.0, 12.0])) for _ in range(shape[-1])])

    def f(m, x, bias, *gain):
        gain = gain[0] if gain else None
        if m is not plain:
            layer = mg.nn.BatchNorm(gain, bias, eps=0.1)
            return mg.nn.Sequential((layer, mg.relu))(x) if followed else mg.nn.batch_norm(x, gain, bias, 0.1)
        axes = tuple(range(x.ndim - 1))
        y = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 0.1) * (1.0 if gain is None else gain) + bias
        return np.maximum(y, 0.0) if followed else y
    return f, (x, bias, gain) if with_gain else (x, bias)


@st.composite
def labeled(draw, name, values):
    """Draw scores, (n,) or (n, K), and labels for a loss of minigrad.nn: values(rng, shape) of the same shape, or, if None, classes."""
    rng, shape = generator(draw), draw(st.sampled_from([(3, 2), (1, 4), (2, 1)] + [(3,), (1,)] * (values is not None)))
    labels = rng.integers(0, shape[1], shape[0]) if values is None else values(rng, shape)
    return (lambda m, z: getattr(m.nn, name)(z, on(m, labels))), (array(draw, smooth, shape),)


def probabilities(rng, shape):
    """Return 0, 1 and numbers between them."""
    return rng.choice([0.0, 0.2, 0.5, 0.9, 1.0], shape)


NOT_A_PRIMITIVE = {                                         # exported, but without a derivative of their own
    "capture", "use", "xp", "to_host", "Primitive", "LinearMap", "elementwise", "signed", "linear", "bilinear", "argmax",
    "BackendError", "DTypeError", "DataError", "DerivativeError", "FileError", "IndexingError", "LinAlgError", "MinigradError",
    "RankError", "RequirementError", "ShapeError", "SizeError", "TraceError", "argmin",
    "check_buffers", "check_derivatives", "draw", "example_weights", "from_dlpack", "grad", "hessian", "hvp", "info",
    "jacfwd", "jacobian", "jacrev", "jvp", "linalg.LinAlgError", "linalg.matrix_rank", "linearize", "reweighted_gradient",
    "value_and_grad", "vjp"}

TABLE = {
    "add": Row(binary("add", smooth, smooth) | beside("add")),
    "subtract": Row(binary("subtract", smooth, smooth) | beside("subtract")),
    "multiply": Row(binary("multiply", smooth, smooth) | beside("multiply")),
    "divide": Row(binary("divide", smooth, smooth) | beside("divide")),
    "power": Row(st.one_of(binary("power", positive, smooth), unary(lambda m, x: m.power(x, 3)), unary(lambda m, x: x ** 2),
                           unary(lambda m, x: m.power(x, 0)), unary(lambda m, x: m.power(2.0, x)),
                           unary(lambda m, x: m.power(x, m.xp.full((), -2.0, x.dtype))))),
    "negative": Row(unary("negative")),
    "square": Row(unary("square")),
    "exp": Row(unary("exp")),
    "expm1": Row(unary("expm1")),
    "log": Row(unary("log", positive)),
    "log1p": Row(unary("log1p", positive)),
    "sqrt": Row(unary("sqrt", positive)),
    "sin": Row(unary("sin")),
    "cos": Row(unary("cos")),
    "tanh": Row(unary("tanh")),
    "sigmoid": Row(unary("sigmoid")),
    "softplus": Row(unary("softplus"), KINKED),             # analytic, but logaddexp takes no complex numbers
    "relu": Row(unary(lambda m, x: m.relu(x) * m.relu(x)), KINKED),
    "abs": Row(unary(lambda m, x: m.abs(x) * x), KINKED),
    "maximum": Row(apart(lambda m, a, b: m.maximum(a, b) * a), KINKED),
    "minimum": Row(apart(lambda m, a, b: m.minimum(a, b) * a), KINKED),
    "clip": Row(with_choice(clipping, halves), KINKED),
    "where": Row(choosing()),
    "astype": Row(unary(lambda m, x: m.astype(m.square(m.astype(x, widest(m))), np.float64)), KINKED),
    "stop_gradient": Row(unary(lambda m, x: (m.stop_gradient(x) - m.stop_gradient(x) + 2.0) * x), KINKED),
    "sum": Row(reduced("sum", shape=shapes)),
    "mean": Row(reduced("mean")),
    "var": Row(st.one_of(reduced("var"), reduced(lambda m, x, **how: m.var(x, ddof=1, **how), shape=wide_shapes))),
    "std": Row(reduced("std", distinct, wide_shapes)),
    "max": Row(reduced(lambda m, x, **how: m.max(x * x * x, **how), distinct), KINKED),
    "min": Row(reduced(lambda m, x, **how: m.min(x * x * x, **how), distinct), KINKED),
    "logsumexp": Row(reduced("logsumexp")),
    "log_softmax": Row(with_choice(with_axis("log_softmax"))),
    "softmax": Row(with_choice(with_axis("softmax"))),
    "matmul": Row(products()),
    "tensordot": Row(contractions()),
    "reshape": Row(with_choice(lambda draw, x: lambda m, x: m.reshape(x * x, (1, -1)))),
    "ravel": Row(unary(lambda m, x: m.ravel(x * x))),
    "transpose": Row(with_choice(permuting)),
    "moveaxis": Row(with_choice(moving("moveaxis"))),
    "swapaxes": Row(with_choice(moving("swapaxes"))),
    "expand_dims": Row(with_choice(with_axis("expand_dims", 1, [(0, -1)]))),
    "squeeze": Row(with_choice(squeezing)),
    "flip": Row(with_choice(with_axis("flip", 0, [None]))),
    "getitem": Row(with_choice(indexing)),
    "scatter_add": Row(with_choice(putting)),
    "take": Row(with_choice(taking)),
    "pad": Row(with_choice(padding)),
    "crop": Row(with_choice(cropping)),
    "concatenate": Row(joined("concatenate")),
    "stack": Row(joined("stack")),
    "broadcast_to": Row(with_choice(lambda draw, x: lambda m, x: m.broadcast_to(x * x, (2, *x.shape)))),
    "sum_to": Row(with_choice(lambda draw, x: lambda m, x: m.sum_to(x * x, (1, *x.shape[1:])))),
    "conv2d": Row(convolved()),
    "max_pool2d": Row(windowed(lambda m, x, *geometry: m.max_pool2d(x * x * x, *geometry), border=False), KINKED),
    "avg_pool2d": Row(windowed(lambda m, x, *geometry: m.avg_pool2d(x * x, *geometry))),
    "unfold": Row(windowed(lambda m, x, *geometry: m.unfold(x * x, *geometry))),
    "fold": Row(folded()),
    "standardize": Row(with_choice(standardizing)),
    "dropout": Row(with_choice(dropping)),
    "with_derivative": Row(normalized(), KINKED),
    "nn.cross_entropy": Row(labeled("cross_entropy", None), KINKED),
    "nn.sigmoid_cross_entropy": Row(labeled("sigmoid_cross_entropy", probabilities), KINKED),
    "nn.squared_error": Row(labeled("squared_error", smooth)),
    "checkpoint": Row(with_choice(lambda draw, x: lambda m, x: m.checkpoint(
        lambda x: {"a": m.tanh(x) * x, "b": [m.sum(x), x[0]]})(x)), KINKED),
}

from . import rows_linear, rows_nn, rows_numpy  # noqa: E402   their rows are made with the functions above

TABLE |= rows_linear.ROWS | rows_nn.ROWS | rows_numpy.ROWS
TABLE |= {name: Row(TABLE[name].cases | row.cases, row.analytic) for name, row in rows_numpy.MASKED.items()}
NOT_A_PRIMITIVE |= rows_numpy.WITHOUT
