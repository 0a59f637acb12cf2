"""float16 ends at 65,504: sums over many elements are computed in float32, so that nothing overflows where NumPy does not."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.ops.normalize import moments

HALF = np.finfo(np.float16)
LARGE = [((5000,), None), ((300, 40), None), ((300, 40), 0), ((40, 300), -1), ((20, 30, 25), (0, 2)), ((60, 50), (0, 1))]


def drawn(shape, low=200.0, high=450.0):
    """Return numbers whose sum overflows float16, but whose mean and variance do not."""
    return np.random.default_rng(len(shape)).uniform(low, high, shape).astype(np.float16)


def close(found, right, roundings=1.0):
    """Check that found is float16, and at most one unit in the last place from the nearest value."""
    found, right = mg.to_host(found), np.asarray(right)
    assert found.dtype == np.float16 and np.isfinite(found).all()
    np.testing.assert_allclose(found.astype(float), right, rtol=roundings * float(HALF.eps), atol=float(HALF.smallest_subnormal))


@pytest.mark.parametrize("shape, axis", LARGE)
def test_reductions_are_those_of_wider_numbers(device, shape, axis):
    x = drawn(shape)
    assert (np.sum(x, axis=axis, dtype=np.float32) > 65504.0).all()
    on, wide = mg.xp.asarray(x), x.astype(np.float64)
    np.testing.assert_array_equal(mg.to_host(mg.mean(on, axis)), np.mean(x, axis))          # to the bit
    close(mg.var(on, axis), np.var(wide, axis))
    close(mg.var(on, axis, ddof=1, keepdims=True), np.var(wide, axis, ddof=1, keepdims=True))
    close(mg.std(on, axis), np.std(wide, axis))
    for name in ("mean", "var", "std", "standardize"):
        def f(x):
            return mg.standardize(x, axis) if name == "standardize" else getattr(mg, name)(x, axis)
        (y, J), (z, K) = mg.linearize(f, on), mg.linearize(f, mg.xp.asarray(wide))
        close(y, mg.to_host(z), 4.0)
        t = drawn(shape, 0.5, 1.5) * np.where(x > 300.0, 1, -1).astype(np.float16)
        g = drawn(y.shape, 0.5, 1.5)
        for found, right in ((J.push(mg.xp.asarray(t)), K.push(mg.xp.asarray(t.astype(float)))),
                             (J.pull(mg.xp.asarray(g)), K.pull(mg.xp.asarray(g.astype(float))))):
            assert found.dtype == np.float16
            right = mg.to_host(right)
            np.testing.assert_allclose(mg.to_host(found).astype(float), right, rtol=4e-3, atol=4e-3 * abs(right).max())


SMOOTH = [mg.gelu, lambda x: mg.gelu(x, False), mg.silu, mg.selu, mg.elu, mg.softplus, mg.sigmoid, mg.tanh, mg.arcsinh, mg.arccosh, mg.arctan, mg.arctanh, mg.cbrt, mg.sqrt, mg.log,
          mg.log1p, mg.log2, mg.log10, mg.reciprocal, mg.leaky_relu, mg.special.erf, mg.special.ndtr, mg.special.log_ndtr, lambda x: mg.hypot(x, 3.0), lambda x: mg.arctan2(x, 3.0),
          lambda x: mg.arctan2(3.0, x), lambda x: mg.logaddexp(x, 1.0)]


@pytest.mark.parametrize("k", range(len(SMOOTH)))
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_derivatives_of_large_numbers_are_those_of_wider_ones(k, dtype):
    """Where the derivative is finite; what a rule computes on the way, such as x^2, may not overflow."""
    end = 6e4 if dtype == "float16" else 3e38
    x = np.array([-end, -1e3, -300.0, -90.0, -3.0, -1e-3, 1e-3, 0.5, 3.0, 20.0, 90.0, 300.0, 1e3, end]).astype(dtype)
    with np.errstate(all="ignore"):
        found, right = (np.array([mg.grad(SMOOTH[k])(v) for v in values]) for values in (x, x.astype(float)))
    there = np.isfinite(right) & (abs(right) < end)
    assert found.dtype == dtype and there.sum() >= 6
    np.testing.assert_allclose(found[there].astype(float), right[there], rtol=2e-2 if dtype == "float16" else 1e-3, atol=2 * float(np.finfo(dtype).smallest_subnormal) + (
        1e-4 if dtype == "float16" else 1e-35))


def test_a_mean_of_numbers_and_of_integers_is_numpys():
    for x in (np.arange(7), np.arange(7) > 3, 2.5, np.float32(2.5), np.full(3, 2**62)):
        np.testing.assert_array_equal(mg.mean(x), np.mean(x), strict=True)


def test_average_pooling(device):
    x = drawn((2, 40, 40, 3))
    right = x.astype(float).reshape(2, 2, 20, 2, 20, 3).mean((2, 4))
    close(mg.avg_pool2d(mg.xp.asarray(x), 20), right)


def test_moments_and_batch_norm(device):
    x = drawn((50, 8, 8, 3))
    wide, axes = x.astype(float), (0, 1, 2)
    for found, right in zip(moments(mg.xp.asarray(x)), (wide.mean(axes), wide.var(axes))):
        np.testing.assert_allclose(mg.to_host(found), right, rtol=1e-5)
    gain, bias = np.array([1.0, 2.0, -1.0], np.float16), np.array([0.5, 0.0, 1.0], np.float16)
    for followed in (False, True):
        def f(x, gain, bias):
            layer = nn.BatchNorm(gain, bias)
            return nn.Sequential((layer, mg.relu))(x) if followed else layer(x)
        (y, J), (z, K) = (mg.linearize(f, *[mg.xp.asarray(a.astype(dtype)) for a in (x, gain, bias)])
                          for dtype in (np.float16, np.float64))
        close(y, mg.to_host(z), 8.0)
        g = np.ones(y.shape) + 0.5 * np.sin(wide)
        for a, b in zip(J.pull(mg.xp.asarray(g.astype(np.float16))), K.pull(mg.xp.asarray(g))):
            assert a.dtype == np.float16 and mg.to_host(abs(mg.to_host(a).astype(float) - mg.to_host(b))).max() <= 4e-3 * abs(
                mg.to_host(b)).max()
    layer = nn.BatchNorm(*map(mg.xp.asarray, (gain, bias)))
    y, state = layer.apply(mg.xp.asarray(x), layer.init_state())
    assert all(np.isfinite(mg.to_host(a)).all() for a in (y, *state.values()))


def test_softmax_of_many(device):
    x = mg.xp.asarray(np.zeros(70000, np.float16))
    close(mg.logsumexp(x), np.log(70000))
    close(mg.log_softmax(x), np.full(70000, -np.log(70000)))
    close(mg.grad(mg.logsumexp)(x), np.full(70000, 1 / 70000))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 140.0])
def test_running_averages_are_those_of_float32(device, scale):
    """A variance of float16 ends at 65,504, which evaluation would take for infinite."""
    x, layer = (drawn((200, 3)).astype(float) * scale).astype("float16"), nn.BatchNorm.init(3)
    (_, half), (_, wide) = (layer.apply(mg.xp.asarray(x.astype(dtype)), layer.init_state()) for dtype in ("float16", "float32"))
    for name in ("mean", "var"):
        assert half[name].dtype == "float32"
        np.testing.assert_allclose(mg.to_host(half[name]), mg.to_host(wide[name]), rtol=1e-5, atol=1e-6 * scale)


def test_losses_of_many_classes_are_those_of_float32(device):
    """Their sum is larger than the largest number of float16."""
    z = np.zeros((2, 70_000), "float16")
    z[1, 3] = 20.0
    for loss in (lambda z: nn.cross_entropy(z, [0, 3]), lambda z: mg.log_softmax(z)[:, 0], lambda z: mg.logsumexp(z, 1), lambda z: nn.sigmoid_cross_entropy(z, mg.xp.zeros(z.shape))):
        (y, J), (right, K) = (mg.linearize(loss, mg.xp.asarray(z.astype(dtype))) for dtype in ("float16", "float64"))
        assert y.dtype == "float16"
        np.testing.assert_allclose(mg.to_host(y).astype(float), mg.to_host(right), rtol=2e-3)
        g = mg.xp.ones(right.shape)
        np.testing.assert_allclose(mg.to_host(J.pull(g.astype("float16"))).astype(float), mg.to_host(K.pull(g)), rtol=2e-3, atol=1e-7)
