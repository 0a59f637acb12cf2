"""Convolution and pooling beyond their values and laws (test_laws.py): chunks, winners, padding, refusals."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backend import peak_memory
from minigrad.fast import convolution as module
from minigrad.fast import cuda_convolution
from minigrad.fast.threads import split

from ..plain import every_window, plain
from ..strategies import convolutions, distinct


@pytest.mark.parametrize("window", list(itertools.product((1, 2, 3), (1, 2, 3))))
def test_every_geometry_of_a_convolution(window):
    """Values and both adjoints: <g, conv(x, k)> is linear in g, in x and in k."""
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(2, 5, 4, 2)), rng.normal(size=(*window, 2, 3))
    for stride in itertools.product((1, 2), (1, 3)):
        for padding in ("same", "valid", 0, 1, 2, ((0, 1), (2, 0)), ((3, 3), (1, 2)), ((0, 3), (3, 0)), ((1, 0), (1, 0))):
            y, J = mg.linearize(lambda x, k: mg.conv2d(x, k, stride, padding), x, k)
            np.testing.assert_allclose(y, plain.conv2d(x, k, stride, padding), atol=1e-12)
            g = rng.normal(size=y.shape)
            gx, gk = J.pull(g)
            for one, other in ((gx, x), (gk, k)):
                np.testing.assert_allclose(np.sum(one * other), np.sum(g * y), atol=1e-10)
            for one, other, at in ((gx, x, (1, 3, 2, 1)), (gk, k, (0, -1, 1, 2)), (gx, x, (0, 0, 3, 0))):
                unit = np.zeros(other.shape)
                unit[at] = 1.0
                moved = plain.conv2d(unit if one is gx else x, k if one is gx else unit, stride, padding)
                np.testing.assert_allclose(one[at], np.sum(g * moved), atol=1e-10)


@pytest.mark.needs("wing")
def test_with_stride_one_the_gradient_is_a_convolution_too(without_c, monkeypatch):
    """This is faster than folding windows back."""
    monkeypatch.setattr(module, "_fold", lambda *args: pytest.fail("folded"))
    x, k = np.ones((1, 5, 6, 2)), np.ones((3, 3, 2, 1))
    for padding in ("valid", "same", 2):
        y, pull = mg.vjp(lambda x: mg.conv2d(x, k, 1, padding), x)
        assert pull(y)[0].shape == x.shape
    y, pull = mg.vjp(lambda x: mg.conv2d(x, k, 2), x)
    with pytest.raises(pytest.fail.Exception):
        pull(y)


def im2col(x, k, stride, padding):
    """Convolve a whole batch: copy all windows into the rows of one matrix, and multiply once."""
    windows = np.ascontiguousarray(mg.unfold(x, k.shape[:2], stride, padding))
    return (windows.reshape(-1, k[..., 0].size) @ k.reshape(-1, k.shape[3])).reshape(*windows.shape[:3], k.shape[3])


@pytest.mark.parametrize("c, outputs, window, stride, padding", [
    (3, 16, (3, 3), 1, "same"), (16, 16, (3, 3), 1, "same"), (32, 64, (5, 5), 1, "same"), (64, 64, (3, 3), 1, 1),
    (64, 8, (1, 1), 1, 0), (8, 4, (3, 2), 1, ((0, 2), (3, 1))), (8, 65, (2, 4), 1, "valid"), (16, 32, (3, 3), 2, "same")])
def test_every_way_to_multiply_windows(c, outputs, window, stride, padding, on_host, monkeypatch):
    """With few and with many channels, in one chunk and in several, against the whole batch as one matrix; and derivatives."""
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(13, 9, 8, c)), rng.normal(size=(*window, c, outputs))
    for bytes_at_a_time in (1, module.WINDOWS):
        monkeypatch.setattr(module, "WINDOWS", bytes_at_a_time)
        y, J = mg.linearize(lambda x, k: mg.conv2d(x, k, stride, padding), x, k)
        np.testing.assert_allclose(y, im2col(x, k, stride, padding), atol=1e-10)
        g, tx, tk = rng.normal(size=y.shape), rng.normal(size=x.shape), rng.normal(size=k.shape)
        np.testing.assert_allclose(J.push(tx, tk), im2col(tx, k, stride, padding) + im2col(x, tk, stride, padding), atol=1e-10)
        gx, gk = J.pull(g)
        np.testing.assert_allclose(np.sum(gx * tx), np.sum(g * im2col(tx, k, stride, padding)))
        np.testing.assert_allclose(np.sum(gk * tk), np.sum(g * im2col(x, tk, stride, padding)))
        for i, at in ((0, (0, 0, 0, 0)), (7, (5, 4, 1, 0)), (12, (8, 7, c - 1, 1))):
            one = np.zeros(x.shape)
            one[i, at[0], at[1], at[2]] = 1.0
            np.testing.assert_allclose(gx[i, at[0], at[1], at[2]], np.sum(g * im2col(one, k, stride, padding)), atol=1e-10)


def test_what_is_not_finite_stays_in_its_image():
    x, k = np.ones((3, 6, 6, 2)), np.ones((3, 3, 2, 4))
    x[1, 5, 5] = np.nan
    y = mg.conv2d(x, k, 1, "same")
    assert np.isfinite(y[[0, 2]]).all() and np.isnan(y[1]).sum() == 4 * 4


@pytest.mark.needs("wing")
def test_windows_are_multiplied_a_piece_at_a_time():
    def most(f, *args):
        f(*args)                                            # the buffers of the threads are kept
        with peak_memory() as peak:
            f(*args)
        return peak()
    for c in (8, 64):
        x, k = np.ones((128, 32, 32, c), np.float32), np.ones((3, 3, c, 8), np.float32)
        y, J = mg.linearize(lambda x, k: mg.conv2d(x, k, 1, "same"), x, k)
        windows = 9 * x.nbytes
        assert windows > 8 * module.WINDOWS
        for f, *args in ((lambda: mg.conv2d(x, k, 1, "same"),), (J.pull, y)):
            assert most(f, *args) < 1.1 * x.nbytes + 2 * module.WINDOWS < windows
    x = np.ones((64, 64, 64, 4), np.float32)                # with a stride, the gradient is folded, also in chunks
    y, pull = mg.vjp(lambda x: mg.conv2d(x, np.ones((3, 3, 4, 8), np.float32), 2, "same"), x)
    assert most(pull, y) < 1.1 * x.nbytes + 4 * module.WINDOWS


def test_windows_are_gathered_at_once_on_a_device():
    assert split(100, 10 * module.WINDOWS, cuda_convolution.CHUNK) == [slice(0, 100)]         # 3 GB
    assert split(1000, 10 * module.WINDOWS, cuda_convolution.CHUNK) == [slice(i, i + 125) for i in range(0, 1000, 125)]


def test_pooling_with_more_elements_than_a_byte_counts():
    x = np.sort(distinct(np.random.default_rng(0), (18 * 19,))).reshape(1, 18, 19, 1)       # the last of each window wins
    gradient = mg.grad(lambda x: mg.sum(mg.max_pool2d(x, (17, 18), 1)))(x)
    expected = np.zeros(x.shape)
    for _, _, _, w in every_window(x, (17, 18), (1, 1), 0):
        expected += x == w.max()
    np.testing.assert_array_equal(gradient, expected)


@given(convolutions())
def test_chunks_do_not_change_the_result(case):
    x, k, stride, padding = case
    x = np.concatenate([x] * 3)
    whole, J = mg.linearize(lambda x, k: mg.conv2d(x, k, stride, padding), x, k)
    before, pulled = module.WINDOWS, J.pull(whole)
    try:
        module.WINDOWS = 1
        one, J = mg.linearize(lambda x, k: mg.conv2d(x, k, stride, padding), x, k)
        for a, b in zip([whole, *pulled], [one, *J.pull(whole)]):
            np.testing.assert_allclose(a, b, atol=1e-12)
    finally:
        module.WINDOWS = before


@given(st.integers(2, 4), st.integers(1, 3))
def test_pooling_of_a_traced_image_takes_the_same_elements(window, stride):
    x = distinct(np.random.default_rng(window), (2, 6, 5, 3))
    plain = mg.max_pool2d(x, window, stride, "same")
    np.testing.assert_array_equal(mg.jvp(lambda x: mg.max_pool2d(x, window, stride, "same"), (x,), (x,))[0], plain)


def test_the_first_of_equals_wins():
    gradient = mg.grad(lambda x: mg.sum(mg.max_pool2d(x, 2)))(np.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])
    x = np.array([[0.0, 1.0], [1.0, 0.0]])[None, :, :, None]
    np.testing.assert_array_equal(mg.grad(lambda x: mg.sum(mg.max_pool2d(x, 2)))(x)[0, :, :, 0], [[0, 1], [0, 0]])


def test_padding_is_never_a_winner():
    x = -np.ones((1, 3, 3, 1))
    assert (mg.max_pool2d(x, 3, 2, "same") == -1).all()
    assert mg.grad(lambda x: mg.sum(mg.max_pool2d(x, 3, 2, "same")))(x).sum() == 4


def test_pooling_default_stride_is_the_window():
    assert mg.max_pool2d(np.ones((1, 6, 9, 1)), (2, 3)).shape == (1, 3, 3, 1)
    assert mg.avg_pool2d(np.ones((1, 6, 9, 1)), (2, 3)).shape == (1, 3, 3, 1)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("padding", [0, 1, "same"])
def test_what_is_not_finite_is_pooled_the_same_traced_and_plain(bad, padding):
    x = np.arange(32.0).reshape(2, 4, 4, 1)
    x[0, 0, 0, 0] = x[1, 3, 3, 0] = bad
    x[1, :2, :2] = bad
    for window, stride in ((2, 2), (3, 2), (3, 1)):
        plain = mg.max_pool2d(x, window, stride, padding)
        traced = mg.jvp(lambda x: mg.max_pool2d(x, window, stride, padding), (x,), (x,))[0]
        np.testing.assert_array_equal(plain, traced)


def test_nothing_in_nothing_out():
    for n, c, o in ((0, 2, 3), (2, 0, 3), (2, 2, 0)):
        y, pull = mg.vjp(mg.conv2d, np.ones((n, 4, 4, c)), np.ones((3, 3, c, o)))
        gx, gk = pull(y)
        assert y.shape == (n, 2, 2, o) and gx.shape == (n, 4, 4, c) and gk.shape == (3, 3, c, o) and not gx.any()
    y, J = mg.linearize(lambda x: mg.max_pool2d(x, 3, 2, "same"), np.ones((0, 6, 6, 2)))
    assert y.shape == J.push(np.ones((0, 6, 6, 2))).shape == (0, 3, 3, 2) and J.pull(y).shape == (0, 6, 6, 2)
    assert mg.conv2d(np.ones((1, 4, 4, 1)), np.ones((2, 2, 1, 1)), np.int64(2)).shape == (1, 2, 2, 1)


def test_unfold_is_a_view_where_nothing_is_padded():
    x = np.arange(96.0).reshape(2, 6, 4, 2)
    for how in ({}, {"stride": 2}, {"padding": "valid"}, {"stride": (3, 1), "padding": ((0, 0), (0, 0))}):
        y = mg.unfold(x, (3, 2), **how)
        assert np.shares_memory(x, y) and y[0, 0, 0, 1, 1, 0] == x[0, 1, 1, 0]
    assert not np.shares_memory(x, mg.unfold(x, 3, 1, 1))
