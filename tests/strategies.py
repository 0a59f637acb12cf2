"""What Hypothesis draws: arrays of any shape, layout and values that stay away from kinks by construction."""
import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st


def generator(draw):
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def smooth(rng, shape):
    """Numbers in ±[0.3, 1.7]: away from 0."""
    return rng.uniform(0.3, 1.7, shape) * rng.choice([-1.0, 1.0], shape)


def positive(rng, shape):
    """Numbers in [0.3, 1.7]."""
    return rng.uniform(0.3, 1.7, shape)


def distinct(rng, shape):
    """Numbers of which no two are closer than 0.1, in any order."""
    n = int(np.prod(shape))
    return (rng.permutation(n) * 0.2 + rng.uniform(0.0, 0.1, n) - 0.1 * n).reshape(shape)


def laid_out(draw, x):
    """The same values in another memory layout: permuted or negative strides, a gap between elements, read-only."""
    kind = draw(st.sampled_from(["plain", "fortran", "reversed", "gaps"]))
    if kind == "fortran":
        x = np.asfortranarray(x)
    elif kind == "reversed" and x.ndim:
        x = np.ascontiguousarray(x[::-1])[::-1]
    elif kind == "gaps" and x.ndim:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]))
        wide[..., ::2] = x
        x = wide[..., ::2]
    else:
        x = x.copy()
    x.flags.writeable = False
    return x


shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
full_shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)


@st.composite
def arrays(draw, values=smooth, shape=shapes):
    """One float64 array."""
    return laid_out(draw, np.asarray(values(generator(draw), draw(shape))))


@st.composite
def broadcastable(draw, *values):
    """Arrays whose shapes broadcast together, one for each kind of values."""
    found = draw(hnp.mutually_broadcastable_shapes(num_shapes=len(values), max_dims=3, max_side=3, min_side=0)).input_shapes
    rng = generator(draw)
    return tuple(laid_out(draw, np.asarray(v(rng, s))) for v, s in zip(values, found))


@st.composite
def convolutions(draw):
    """(image, kernel, stride, padding): any geometry that fits, also a kernel as large as the image."""
    rng = generator(draw)
    window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.sampled_from(["same", "valid", 0, 1, ((0, 1), (2, 0)), ((3, 3), (1, 2))]))
    n, c, o = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    size = [w + draw(st.integers(0, 3)) for w in window]
    return distinct(rng, (n, *size, c)), smooth(rng, (*window, c, o)), stride, padding
