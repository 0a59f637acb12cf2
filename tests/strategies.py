"""Hypothesis strategies: arrays of any shape and layout, with values away from kinks by construction."""
import collections
import enum

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from minigrad import nn


def generator(draw):
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


# ------------------------------------------------------------------------------ domains: values(rng, shape) -> array

def smooth(rng, shape):
    """Return numbers in ±[0.3, 1.7], away from 0."""
    return rng.uniform(0.3, 1.7, shape) * rng.choice([-1.0, 1.0], shape)


def positive(rng, shape):
    """Return numbers in [0.3, 1.7]."""
    return rng.uniform(0.3, 1.7, shape)


def distinct(rng, shape):
    """Return numbers of which no two are closer than 0.1, in random order."""
    n = int(np.prod(shape))
    return (rng.permutation(n) * 0.2 + rng.uniform(0.0, 0.1, n) - 0.1 * n).reshape(shape)


def halves(rng, shape):
    """Return numbers in [-3, 3], at least 0.2 away from every integer."""
    return rng.integers(-3, 3, shape) + 0.5 + rng.uniform(-0.3, 0.3, shape)


def tied(rng, shape):
    """Return numbers of which many are equal."""
    return rng.integers(-1, 2, shape).astype(float)


# ------------------------------------------------------------------------------------------------------ arrays

def laid_out(draw, x):
    """Return the same values in a drawn memory layout: permuted or negative strides, gaps between elements, read-only."""
    kind = draw(st.sampled_from(["plain", "permuted", "reversed", "gaps"]))
    if kind == "permuted":
        axes = draw(st.permutations(range(x.ndim)))
        x = x.transpose(axes).copy().transpose(np.argsort(np.array(axes, int)))
    elif kind == "reversed" and x.ndim:
        x = x[..., ::-1].copy()[..., ::-1] if draw(st.booleans()) else x[::-1].copy()[::-1]
    elif kind == "gaps" and x.ndim:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        x = wide[..., ::2]
    else:
        x = x.copy()
    x.flags.writeable = draw(st.booleans())
    return x


def array(draw, values, shape):
    """Draw a float64 array of this shape."""
    return laid_out(draw, np.asarray(values(generator(draw), shape)))


shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
full_shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)
wide_shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=3)


@st.composite
def arrays(draw, values=smooth, shape=shapes):
    return array(draw, values, draw(shape))


@st.composite
def broadcastable(draw, *values):
    """Draw arrays whose shapes broadcast together, one for each domain."""
    found = draw(hnp.mutually_broadcastable_shapes(num_shapes=len(values), max_dims=3, max_side=3, min_side=0)).input_shapes
    return tuple(array(draw, v, s) for v, s in zip(values, found))


@st.composite
def convolutions(draw):
    """Draw (image, kernel, stride, padding): any geometry that fits, also a kernel as large as the image, and 1 x 1."""
    window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.just((1, 1)) | st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.sampled_from(["same", "valid", 0, 1, ((0, 1), (2, 0)), ((3, 3), (1, 2))]))
    n, c, o = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    size = [w + draw(st.integers(0, 3)) for w in window]
    return array(draw, distinct, (n, *size, c)), array(draw, smooth, (*window, c, o)), stride, padding


# -------------------------------------------------------------------------------------------------------- trees

Part = enum.Enum("Part", "BODY HEAD")                       # keys that cannot be sorted
Point = collections.namedtuple("Point", "x y")


class Layer(nn.Module):
    """A module with settings that == alone cannot compare."""
    inner: nn.Array
    shift: nn.Array = nn.static(default=None)
    scale: float = nn.static(default=float("nan"))


keys = st.sampled_from(["a", "b", "layer2", "layer10", 0, -1, 1.5, None, Part.BODY, Part.HEAD, (1, "a"), ("a", 1), b"a"])


def nodes(inner):
    """Draw a node of any kind with these children; dicts in any order of insertion."""
    dicts = st.dictionaries(keys, inner, max_size=3)
    return (st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.tuples() | dicts | dicts |
            st.builds(collections.OrderedDict, dicts) | st.builds(collections.defaultdict, st.just(list), dicts) |
            st.builds(Point, inner, inner) | st.builds(lambda inner: Layer(inner, np.array([1.0, np.nan])), inner))


def permuted(rng, tree):
    """Return the same tree, with the keys of every dict inserted in another order."""
    if isinstance(tree, dict):
        items = [(key, permuted(rng, value)) for key, value in tree.items()]
        new = collections.defaultdict(tree.default_factory) if isinstance(tree, collections.defaultdict) else type(tree)()
        new.update(items[i] for i in rng.permutation(len(items)))
        return new
    if isinstance(tree, Layer):
        return Layer(permuted(rng, tree.inner), tree.shift, tree.scale)
    if isinstance(tree, Point):
        return Point(*[permuted(rng, child) for child in tree])
    return type(tree)(permuted(rng, child) for child in tree) if isinstance(tree, (list, tuple)) else tree


@st.composite
def trees(draw, max_leaves=5):
    """Draw nested containers and modules of arrays, with empty nodes, None, and one array that occurs several times."""
    some = [array(draw, smooth, s) for s in draw(st.lists(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2),
                                                          min_size=1, max_size=3))]
    t, x = draw(st.recursive(st.sampled_from(some) | st.none(), nodes, max_leaves=max_leaves)), array(draw, smooth, (2,))
    pair = draw(st.sampled_from([{"a": x, "b": x + 1.0}, {Part.HEAD: x + 1.0, 0: t, "b": x}, collections.OrderedDict(b=x, a=x + 1.0),
                                 collections.defaultdict(list, b=x + 1.0, a=x), [x + 1.0, x], Point(x, x + 1.0)]))
    return draw(st.sampled_from([pair, t, (t, pair), {"layer2": t, "layer10": pair}, Point(pair, t), Layer(pair, np.array([1.0, np.nan]))]))
