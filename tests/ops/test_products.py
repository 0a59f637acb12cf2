"""Products under NumPy's names: every case of dimensions and types is NumPy's, and what is wrong is told."""
import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, ShapeError, grad

from ..plain import plain
from ..table import rows_linear

SHAPES = [(), (3,), (2, 3), (3, 2), (2, 3, 2), (2, 2, 3), (0,), (2, 0), (0, 3)]
DTYPES = ["float64", "float32", "float16", "int64", "int8", "bool", "complex128"]


def numbers(shape, dtype):
    """Return small whole numbers, which every type adds up exactly."""
    return np.random.default_rng(len(shape)).integers(-2, 3, shape).astype(dtype)


def same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["dot", "inner", "outer", "vdot", "kron", "tensordot", "matmul"])
def test_each_case_of_dimensions_is_numpys(name, dtype):
    for sa, sb in itertools.product(SHAPES, SHAPES):
        a, b = numbers(sa, dtype), numbers(sb, dtype)
        try:
            expected = getattr(np, name)(a, b)
        except (ValueError, IndexError):
            with pytest.raises(ShapeError):
                getattr(mg, name)(a, b)
        else:
            same(getattr(mg, name)(a, b), expected)


@pytest.mark.parametrize("name", ["dot", "inner", "outer", "kron"])
@pytest.mark.parametrize("a, b", [(2.0, np.ones(3, "float32")), (np.ones(3, "int8"), 2), ([1.0, 2.0], 3), ([1, 2], [[1, 2], [3, 4]]), (2, 3)])
def test_numbers_and_lists_have_the_type_that_numpy_gives_them(name, a, b):
    same(getattr(mg, name)(a, b), getattr(np, name)(a, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_convolve_is_numpys(dtype):
    for n, k, mode in itertools.product(range(1, 6), range(1, 6), ("full", "same", "valid")):
        same(mg.convolve(numbers((n,), dtype), numbers((k,), dtype), mode), np.convolve(numbers((n,), dtype), numbers((k,), dtype), mode))
    same(mg.convolve(2, [1, 2]), np.convolve(2, [1, 2]))
    same(mg.convolve(a=[1, 2], v=[1, 2], mode="same"), np.convolve([1, 2], [1, 2], "same"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("subscripts, shapes", [(row[0], row[1:]) for row in rows_linear.EINSUMS] + [
    ("i...i->...", [(2, 3, 2)]), ("ij,ij,jk->k", [(1, 3), (2, 1), (3, 2)]), ("...,i->i", [(), (3,)]), ("...->...", [(2,)]), ("ab,bc,cd,de,ea->", [(2, 3), (3, 1), (1, 2), (2, 2), (2, 2)])])
def test_einsum_is_numpys(subscripts, shapes, dtype):
    xs = [numbers(s, dtype) for s in shapes]
    for optimize in (True, False, "greedy"):
        same(mg.einsum(subscripts, *xs, optimize=optimize), np.einsum(subscripts, *xs))


def test_einsum_takes_the_smallest_product_first():
    """... so that no array is larger than it needs to be."""
    x, one = np.ones((60, 60)), np.ones(60)
    text = str(mg.draw(lambda one: mg.einsum("ij,kl,i,j,k,l->", x, x, one, one, one, one), one))
    assert "3600" not in text and "60, 60, 60" not in text


def test_einsum_uses_matrix_products():
    a, b = np.ones((5, 2, 3)), np.ones((5, 3, 4))
    for subscripts, expected in (("bij,bjk->bik", ["matmul"]), ("bij,bij->bij", ["multiply"])):
        drawn = mg.draw(lambda a: mg.einsum(subscripts, a, b if "k" in subscripts else a), a)
        assert [op.name for op in drawn.operations if op.parents and op.name not in ("reshape", "transpose")] == expected


@pytest.mark.parametrize("subscripts, shapes, text", [
    ("ij", [(2,)], "'ij' is no list of names for its axes\n  help: one letter for each axis; '...' once"), ("i", [(2, 2)], "'i' is no list"), ("i.j", [(2, 2)], "'i.j' is no list"), ("1j->j", [(2, 2)], "'1j' is no list"),
    ("i->ii", [(2,)], "the output names each axis once"), ("i->j", [(2,)], "the output names each axis once"), ("...i->i", [(2, 2)], "'i' is no list of names"),
    ("i,j", [(2,)], "2 terms for 1 arrays"), ("i", [(2,), (2,)], "1 terms for 2 arrays"), ("ij,jk->ik", [(2, 3), (2, 3)], "a name stands for axes of two lengths"), ("ii", [(2, 3)], "two lengths"), ("ii", [(1, 3)], "cannot reshape")])
def test_wrong_names_of_einsum_are_told(subscripts, shapes, text):
    xs = [np.ones(s) for s in shapes]
    with pytest.raises(ValueError):
        np.einsum(subscripts, *xs)
    with pytest.raises(ShapeError, match=text):
        mg.einsum(subscripts, *xs)


@pytest.mark.parametrize("names", [([0, 1], [1, 2], [0, 2]), ([0, 1], [1, 2]), ([1, 0], [0, 2], [2]), ([Ellipsis, 1], [1, Ellipsis], [Ellipsis]), ([5, 30], [30, 51])])
def test_einsum_with_lists_of_integers(names):
    """NumPy's other form."""
    a, b = np.arange(4.0).reshape(2, 2), np.array([[1.0, 3.0], [-2.0, 0.5]])
    args = lambda a, b: (a, names[0], b, names[1], *names[2:])  # noqa: E731
    np.testing.assert_allclose(mg.einsum(*args(a, b)), np.einsum(*args(a, b)))
    mg.check_derivatives(lambda a, b: mg.einsum(*args(a, b)), a, b, order=2)


@pytest.mark.parametrize("args", [(np.ones((2, 2)), np.ones((2, 2))), (np.ones((2, 2)),), (np.ones((2, 2)), [0, 52]), (np.ones((2, 2)), [0, 0.5]), (3, 4, 5)])
def test_names_that_are_none_are_told(args):
    with pytest.raises(DTypeError, match="the names of axes come first, as a string") as caught:
        mg.einsum(*args)
    assert str(caught.value).endswith('help: einsum("ij,jk->ik", a, b)')


def test_diagonals_of_einsum_drop_nothing_that_is_not_on_them():
    x = np.array([[1.0, np.inf], [np.nan, 2.0]])
    assert mg.einsum("ii", x) == 3.0
    np.testing.assert_array_equal(grad(lambda x: mg.einsum("ii", x * x))(np.eye(2)), 2.0 * np.eye(2))


@pytest.mark.parametrize("call, text", [
    (lambda: mg.cross(np.ones(4), np.ones(3)), "vectors have two or three components(.|\n)*help: axisa and axisb, or axis"), (lambda: mg.cross(np.ones(3), np.ones(1)), "vectors have two or three"), (lambda: mg.cross(1.0, np.ones(3)), "axis -1 is out of bounds"),
    (lambda: mg.convolve(np.ones((2, 2)), np.ones(2)), "two rows with elements"), (lambda: mg.convolve([], [1.0]), "two rows with elements"),
    (lambda: mg.convolve([1.0], [1.0], "middle"), "mode is 'full', 'same' or 'valid', not 'middle'"), (lambda: mg.vdot(np.ones(2), np.ones(3)), "the inner lengths differ")])
def test_what_is_wrong_is_told(call, text):
    with pytest.raises(ShapeError, match=text):
        call()


def test_a_traced_complex_number_is_refused_by_vdot():
    same(mg.vdot(np.array([1j, 2.0]), np.array([1j, 1.0])), np.vdot([1j, 2.0], [1j, 1.0]))
    with pytest.raises(DTypeError, match="only real numbers have derivatives here"):
        grad(lambda x: mg.vdot(x * 1j, x).real)(np.ones(2))


@pytest.mark.parametrize("a, b, how", rows_linear.CROSSES)
def test_cross_is_numpys(a, b, how):
    same(mg.cross(numbers(a, "float32"), numbers(b, "float32"), **how), plain.cross(numbers(a, "float32"), numbers(b, "float32"), **how))


def test_cross_takes_axes_by_name():
    a, b = np.arange(6.0).reshape(3, 2), np.arange(6.0)[::-1].reshape(2, 3)
    same(mg.cross(a, b, axisa=0, axisb=-1, axisc=0), plain.cross(a, b, 0, -1, 0))
    same(mg.cross(a=a, b=a, axis=0), np.cross(a, a, axis=0))


def test_a_traced_value_has_dot():
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(grad(lambda x: x.dot(x))(x), 2.0 * x)
    np.testing.assert_array_equal(grad(lambda x: x.dot([3.0, 4.0]))(x), [3.0, 4.0])
    np.testing.assert_array_equal(mg.jvp(lambda a: a.dot([1.0, 2.0, 3.0]), (np.ones((2, 3)),), (np.ones((2, 3)),)), np.full((2, 2), 6.0))
