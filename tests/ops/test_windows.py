"""Convolution and pooling beyond their values and laws (test_laws.py): pieces, winners, padding, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.ops import windows as module

from ..strategies import convolutions, distinct


@given(convolutions())
def test_pieces_do_not_change_the_result(case):
    x, k, stride, padding = case
    x = np.concatenate([x] * 3)
    whole, J = mg.linearize(lambda x, k: mg.conv2d(x, k, stride, padding), x, k)
    before, pulled = module.PIECE, J.pull(whole)
    try:
        module.PIECE = 1
        one, J = mg.linearize(lambda x, k: mg.conv2d(x, k, stride, padding), x, k)
        for a, b in zip([whole, *pulled], [one, *J.pull(whole)]):
            np.testing.assert_allclose(a, b, atol=1e-12)
    finally:
        module.PIECE = before


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
    assert mg.conv2d(np.ones((1, 4, 4, 1)), np.ones((2, 2, 1, 1)), np.int64(2)).shape == (1, 2, 2, 1)
