"""The table of all public operations: how to call each on drawn inputs, so that the laws can be held against it.

A row is (name, strategy): the strategy draws (function, arguments). tests/ops/test_laws.py goes through the table, and
fails if an operation that minigrad exports has no row here.
"""
import numpy as np
from hypothesis import strategies as st

import minigrad as mg

from .strategies import arrays, broadcastable, convolutions, distinct, full_shapes, generator, positive, shapes, smooth


def unary(f, values=smooth):
    return st.tuples(st.just(f), st.tuples(arrays(values)))


def binary(f, *values):
    return st.tuples(st.just(f), broadcastable(*values))


@st.composite
def reduced(draw, f, values=smooth, full=False):
    """A reduction over drawn axes."""
    x = draw(arrays(values, full_shapes if full else shapes))
    axis = draw(st.sampled_from([None, *range(-x.ndim, x.ndim), *([(0, -1)] if x.ndim > 1 else [])]))
    keepdims = draw(st.booleans())
    return (lambda x: f(x, axis=axis, keepdims=keepdims)), (x,)


@st.composite
def apart(draw, f):
    """Two arrays of one shape that nowhere tie."""
    x = draw(arrays(distinct, full_shapes))
    return f, (x, x + draw(st.sampled_from([-1.0, 1.0])) * positive(generator(draw), x.shape) * 0.1)


@st.composite
def with_choice(draw, make, values=smooth, shape=full_shapes):
    """make(draw, x) -> a function of x, with something drawn to fit x."""
    x = draw(arrays(values, shape))
    return make(draw, x), (x,)


def axis_of(draw, x, extra=0):
    return draw(st.integers(-x.ndim - extra, x.ndim + extra - 1))


def indexing(draw, x):
    rng = generator(draw)
    first = draw(st.sampled_from([
        slice(None), slice(None, None, -1), slice(1, None), 0, -1, None, Ellipsis,
        rng.integers(-x.shape[0], x.shape[0], 4), rng.integers(0, x.shape[0], (2, 2)), rng.random(x.shape[0]) < 0.5]))
    first = mg.xp.asarray(first) if isinstance(first, np.ndarray) else first
    index = draw(st.sampled_from([first, (first, Ellipsis)])) if first is not Ellipsis else first
    return lambda x: x[index] if isinstance(x, mg.core.Box) else mg.getitem(x, index)


def putting(draw, x):
    index = mg.xp.asarray(generator(draw).integers(0, 5, x.shape[0]))
    return lambda x: mg.put(x, (5, *x.shape[1:]), index)


def taking(draw, x):
    axis = draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
    indices = mg.xp.asarray(generator(draw).integers(0, x.size if axis is None else x.shape[axis], (2, 2)))
    return lambda x: mg.take(x, indices, axis)


def padding(draw, x):
    widths = draw(st.sampled_from([1, (0, 2), [(1, 0)] * x.ndim]))
    constant = draw(st.sampled_from([0.0, -2.5]))
    return lambda x: mg.pad(x, widths, constant_values=constant)


def permuting(draw, x):
    axes = draw(st.sampled_from([None, tuple(draw(st.permutations(range(x.ndim))))]))
    return lambda x: mg.transpose(x, axes)


def standardizing(draw, x):
    axes = draw(st.sampled_from([0, -1, tuple(range(x.ndim))]))
    return lambda x: mg.standardize(x, axes, eps=0.1)


@st.composite
def joined(draw, f):
    x = draw(arrays(shape=full_shapes))
    axis = axis_of(draw, x, extra=1 if f is mg.stack else 0)
    parts = draw(st.integers(1, 3))
    return (lambda *xs: f(xs, axis=axis)), tuple(smooth(generator(draw), x.shape) for _ in range(parts))


@st.composite
def products(draw):
    """matmul with broadcast leading axes, rows and columns."""
    rng, (n, k, m) = generator(draw), (draw(st.integers(1, 3)) for _ in range(3))
    a = draw(st.sampled_from([(k,), (n, k), (2, n, k), (3, 1, n, k)]))
    b = draw(st.sampled_from([(k,), (k, m), (2, k, m), (1, k, m)]))
    return mg.matmul, (smooth(rng, a), smooth(rng, b))


@st.composite
def contractions(draw):
    rng = generator(draw)
    sa, sb, axes = draw(st.sampled_from([
        ((2, 3), (3, 2), 1), ((2, 3), (2, 3), 2), ((2,), (3,), 0), ((2, 3, 4), (4, 2, 5), ((0, 2), (1, 0))),
        ((2, 3), (3, 2), ((-1,), (0,)))]))
    return (lambda a, b: mg.tensordot(a, b, axes)), (smooth(rng, sa), smooth(rng, sb))


@st.composite
def convolved(draw):
    x, k, stride, pad = draw(convolutions())
    return (lambda x, k: mg.conv2d(x, k, stride, pad)), (x, k)


@st.composite
def windowed(draw, f, border=True):
    """Pooling and unfolding; without a border, the padding is never as wide as a window."""
    x, k, stride, pad = draw(convolutions())
    pad = pad if border or pad == "same" else 0
    return (lambda x: f(x, k.shape[:2], stride, pad)), (x,)


@st.composite
def folded(draw):
    x, k, stride, pad = draw(convolutions())
    v = mg.to_host(mg.unfold(mg.xp.asarray(x), k.shape[:2], stride, pad))
    pairs = mg.ops.windows._geometry("", x, k.shape[:2], stride, pad)[2]
    return (lambda v: mg.fold(v, x.shape[1:3], stride, pairs)), (v.copy(),)


NOT_A_PRIMITIVE = {                                         # exported, but nothing that has a derivative of its own
    "use", "xp", "to_host", "Primitive", "LinearMap", "elementwise", "signed", "linear", "bilinear", "argmax", "argmin",
    "jvp", "linearize", "vjp", "grad", "value_and_grad", "hvp", "hessian", "jacobian", "BackendError", "DTypeError",
    "FileError", "MinigradError", "ShapeError", "TraceError"}

TABLE = {
    "add": binary(mg.add, smooth, smooth),
    "subtract": binary(mg.subtract, smooth, smooth),
    "multiply": binary(mg.multiply, smooth, smooth),
    "divide": binary(mg.divide, smooth, smooth),
    "power": st.one_of(binary(mg.power, positive, smooth), unary(lambda x: mg.power(x, 3)), unary(lambda x: x ** 2),
                       unary(lambda x: mg.power(x, 0)), unary(lambda x: mg.power(2.0, x)),
                       unary(lambda x: mg.power(x, mg.xp.asarray(-2.0)))),
    "negative": unary(mg.negative),
    "square": unary(mg.square),
    "exp": unary(mg.exp),
    "expm1": unary(mg.expm1),
    "log": unary(mg.log, positive),
    "log1p": unary(mg.log1p, positive),
    "sqrt": unary(mg.sqrt, positive),
    "sin": unary(mg.sin),
    "cos": unary(mg.cos),
    "tanh": unary(mg.tanh),
    "sigmoid": unary(mg.sigmoid),
    "softplus": unary(mg.softplus),
    "relu": unary(lambda x: mg.relu(x) * mg.relu(x)),
    "abs": unary(lambda x: mg.abs(x) * x),
    "maximum": apart(lambda a, b: mg.maximum(a, b) * a),
    "minimum": apart(lambda a, b: mg.minimum(a, b) * a),
    "clip": unary(lambda x: mg.clip(x, -1e-3, 2.0) * x),
    "where": with_choice(lambda draw, x: (lambda c: lambda x: mg.where(c, x * x, 2.0 - x))(
        mg.xp.asarray(generator(draw).random(x.shape) < 0.5))),
    "astype": unary(lambda x: mg.astype(mg.astype(x, np.longdouble) * x, np.float64)),
    "stop_gradient": unary(lambda x: (mg.stop_gradient(x) - mg.stop_gradient(x) + 2.0) * x),
    "sum": reduced(mg.sum),
    "mean": reduced(mg.mean, full=True),
    "var": reduced(mg.var, full=True),
    "std": reduced(lambda x, axis, keepdims: mg.std(x, axis, keepdims=keepdims) if (mg.var(x, axis) > 1e-2).all()
                   else mg.sum(x, axis, keepdims), full=True),
    "max": reduced(lambda x, axis, keepdims: mg.max(x * x * x, axis, keepdims), distinct, full=True),
    "min": reduced(lambda x, axis, keepdims: mg.min(x * x * x, axis, keepdims), distinct, full=True),
    "logsumexp": reduced(mg.logsumexp, full=True),
    "log_softmax": with_choice(lambda draw, x: lambda x: mg.log_softmax(x, axis=0)),
    "softmax": with_choice(lambda draw, x: lambda x: mg.softmax(x)),
    "matmul": products(),
    "tensordot": contractions(),
    "reshape": with_choice(lambda draw, x: lambda x: mg.reshape(x, (1, -1))),
    "ravel": unary(mg.ravel),
    "transpose": with_choice(permuting),
    "moveaxis": with_choice(lambda draw, x: lambda x: mg.moveaxis(x, 0, -1)),
    "swapaxes": with_choice(lambda draw, x: lambda x: mg.swapaxes(x, 0, -1)),
    "expand_dims": with_choice(lambda draw, x: (lambda a: lambda x: mg.expand_dims(x, a))(axis_of(draw, x))),
    "squeeze": with_choice(lambda draw, x: lambda x: mg.squeeze(mg.reshape(x, (1, *x.shape, 1)), draw_axis(x))),
    "flip": with_choice(lambda draw, x: (lambda a: lambda x: mg.flip(x, a))(draw(st.sampled_from([None, 0, -1])))),
    "getitem": with_choice(indexing),
    "put": with_choice(putting),
    "take": with_choice(taking),
    "pad": with_choice(padding),
    "crop": with_choice(lambda draw, x: lambda x: mg.crop(mg.pad(x * x, 2), [(1, 2)] * x.ndim)),
    "concatenate": joined(mg.concatenate),
    "stack": joined(mg.stack),
    "broadcast_to": with_choice(lambda draw, x: lambda x: mg.broadcast_to(x, (2, *x.shape))),
    "sum_to": with_choice(lambda draw, x: lambda x: mg.sum_to(x, (1, *x.shape[1:]))),
    "conv2d": convolved(),
    "max_pool2d": windowed(lambda x, *geometry: mg.max_pool2d(x * x * x, *geometry), border=False),
    "avg_pool2d": windowed(mg.avg_pool2d),
    "unfold": windowed(mg.unfold),
    "fold": folded(),
    "standardize": with_choice(standardizing),
    "dropout": with_choice(lambda draw, x: (lambda key: lambda x: mg.dropout(x * x, 0.4, key))(draw(st.integers(0, 99)))),
    "checkpoint": with_choice(lambda draw, x: mg.checkpoint(lambda x: {"a": mg.tanh(x) * x, "b": [mg.sum(x), x[0]]})),
}


def draw_axis(x):
    return (0, -1)
