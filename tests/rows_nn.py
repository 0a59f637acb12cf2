"""Rows of the table for the operations of networks: activations, convolutions in one dimension and transposed, norms."""
import math

import numpy as np
from hypothesis import strategies as st

from .plain import plain
from .strategies import array, convolutions, distinct, full_shapes, positive, smooth
from .table import KINKED, Row, unary, with_choice


def _(f):
    setattr(plain, f.__name__, f)


@_
def silu(x):
    return x / (1.0 + np.exp(-x))


@_
def gelu(x, approximate=True):
    assert approximate
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


@_
def leaky_relu(x, negative_slope=0.01):
    return np.where(x > 0, x, negative_slope * x)


@_
def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * (np.exp(x) - 1.0))


@_
def selu(x):
    scale, alpha = 1.05070098735548049342, 1.67326324235437728482
    return np.where(x > 0, scale * x, scale * alpha * (np.exp(x) - 1.0))


@_
def conv1d(x, k, stride=1, padding=0):
    n, length, window = x.shape[1], x.shape[1], len(k)
    total = max((-(-n // stride) - 1) * stride + window - n, 0)
    before, after = {"same": (total // 2, total - total // 2), "valid": (0, 0)}[padding] if isinstance(padding, str) else (
        padding if isinstance(padding, tuple) else (padding, padding))
    x = np.pad(x, [(0, 0), (before, after), (0, 0)])
    count = (length + before + after - window) // stride + 1
    return np.stack([np.tensordot(x[:, i * stride:i * stride + window], k, 2) for i in range(count)], 1)


@_
def conv_transpose2d(x, k, stride=1, padding=0, output_padding=0):
    (A, B), (down, across) = k.shape[:2], stride
    rows, columns = x.shape[1:3]
    if padding == "same":
        total = [max(w - s, 0) for w, s in zip((A, B), stride)]
        padding = [(t // 2, t - t // 2) for t in total]
    (top, bottom), (left, right) = ((0, 0), (0, 0)) if padding == "valid" else [(padding, padding)] * 2 if isinstance(padding, int) else padding
    more = output_padding if isinstance(output_padding, tuple) else (output_padding, output_padding)
    y = np.zeros((len(x), (rows - 1) * down + A + more[0], (columns - 1) * across + B + more[1], k.shape[2]), np.result_type(x, k))
    for i in range(rows):
        for j in range(columns):
            y[:, i * down:i * down + A, j * across:j * across + B] += np.tensordot(x[:, i, j], k, ([1], [3]))
    return y[:, top:y.shape[1] - bottom, left:y.shape[2] - right]


def _standardized(x, axes, eps):
    d = x - np.mean(x, axis=axes, keepdims=True)
    return d / np.sqrt(np.mean(d * d, axis=axes, keepdims=True) + eps)


def layer_norm(x, gain, bias=None, eps=1e-5):
    y = _standardized(x, tuple(range(-(1 if gain is None else gain.ndim), 0)), eps)
    return y * (1.0 if gain is None else gain) + (0.0 if bias is None else bias)


def group_norm(x, groups, gain, bias=None, eps=1e-5):
    width = x.shape[-1] // groups
    parts = [_standardized(x[..., g * width:(g + 1) * width], tuple(range(1, x.ndim)), eps) for g in range(groups)]
    return np.concatenate(parts, -1) * (1.0 if gain is None else gain) + (0.0 if bias is None else bias)


plain.nn.layer_norm, plain.nn.group_norm = layer_norm, group_norm


@st.composite
def with_slope(draw, name):
    """Draw an array, and a slope for x < 0: the default, a number, or an array that is differentiated too."""
    x = array(draw, smooth, draw(full_shapes))
    how = draw(st.sampled_from(["default", "number", "array"]))
    if how == "array":
        return (lambda m, x, slope: getattr(m, name)(x, slope)), (x, array(draw, positive, x.shape[-1:]))
    return (lambda m, x: getattr(m, name)(x, *[0.3] * (how == "number"))), (x,)


@st.composite
def convolved_in_one_dimension(draw):
    window, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n, c, o = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    padding = draw(st.sampled_from(["same", "valid", 0, 1, (0, 2), (3, 1)]))
    x = array(draw, smooth, (n, window + draw(st.integers(0, 4)), c))
    return (lambda m, x, k: m.conv1d(x, k, stride, padding)), (x, array(draw, smooth, (window, c, o)))


@st.composite
def transposed(draw):
    """Draw any geometry in which the result has at least one pixel, also windows smaller than the stride."""
    _, k, stride, _ = draw(convolutions())
    padding = draw(st.sampled_from(["same", "valid", 0, ((0, 1), (1, 0))]))
    rows, columns = draw(st.integers(2, 3)), draw(st.integers(2, 3))
    more = tuple(draw(st.integers(0, s - 1)) for s in stride)
    if padding == "same":
        more = (0, 0)
    x = array(draw, distinct, (draw(st.integers(1, 2)), rows, columns, k.shape[3]))
    return (lambda m, x, k: m.conv_transpose2d(x, k, stride, padding, more)), (x, k)


@st.composite
def normalized_by(draw, name):
    """Draw layer or group normalization, with and without gain and bias."""
    shape = draw(st.sampled_from([(3, 4), (2, 3, 4), (1, 2, 2, 4)]))
    inside = shape[-draw(st.integers(1, len(shape) - 1)):] if name == "layer_norm" else shape[-1:]
    groups = () if name == "layer_norm" else (draw(st.sampled_from([1, 2, 4])),)
    if groups and np.prod(shape[1:]) == groups[0]:
        groups = (1,)
    x, gain, bias = array(draw, distinct, shape), array(draw, positive, inside), array(draw, smooth, inside)
    which = draw(st.sampled_from(["all", "no bias", "neither"]))
    if which == "all":
        return (lambda m, x, gain, bias: getattr(m.nn, name)(x, *groups, gain, bias, 0.1)), (x, gain, bias)
    if which == "no bias":
        return (lambda m, x, gain: getattr(m.nn, name)(x, *groups, gain, eps=0.1)), (x, gain)
    return (lambda m, x: getattr(m.nn, name)(x, *groups, None, eps=0.1)), (x,)


ROWS = {
    "silu": Row(unary("silu")),
    "gelu": Row(unary("gelu")),
    "leaky_relu": Row(st.one_of(with_slope("leaky_relu"), with_choice(lambda draw, x: lambda m, x: m.leaky_relu(x) * x)), KINKED),
    "elu": Row(with_slope("elu"), KINKED),
    "selu": Row(unary("selu"), KINKED),
    "conv1d": Row(convolved_in_one_dimension()),
    "conv_transpose2d": Row(transposed()),
    "nn.layer_norm": Row(normalized_by("layer_norm")),
    "nn.group_norm": Row(normalized_by("group_norm")),
}
