"""Linear algebra at its edges: where values coincide, where a matrix is singular, and what is refused."""
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, ShapeError, grad, hessian, jvp, linalg
from minigrad.check import check_derivatives

A = np.array([[2.0, 1.0, 0.5], [0.3, 3.0, -1.0], [1.0, -0.4, 1.5]])
SINGULAR = np.arange(1.0, 10.0).reshape(3, 3)               # rank 2
DTYPES = ["float64", "float32", "int64", "complex128"]

PLAIN = {                                                   # how each is called; a, b: matrix and columns
    "inv": lambda m, a, b: m.inv(a), "det": lambda m, a, b: m.det(a), "slogdet": lambda m, a, b: m.slogdet(a), "solve": lambda m, a, b: m.solve(a, b),
    "cholesky": lambda m, a, b: m.cholesky(a @ np.swapaxes(a.conj(), -1, -2)), "cholesky, upper": lambda m, a, b: m.cholesky(a @ np.swapaxes(a.conj(), -1, -2), upper=True),
    "eigh": lambda m, a, b: m.eigh(a), "eigh, U": lambda m, a, b: m.eigh(a, UPLO="U"), "eigvalsh": lambda m, a, b: m.eigvalsh(a, "U"), "svd": lambda m, a, b: m.svd(b),
    "svd, reduced": lambda m, a, b: m.svd(b, full_matrices=False), "svd, values": lambda m, a, b: m.svd(b, compute_uv=False), "qr": lambda m, a, b: m.qr(b), "qr, complete": lambda m, a, b: m.qr(b, mode="complete"),
    "qr, r": lambda m, a, b: m.qr(b, "r"), "pinv": lambda m, a, b: m.pinv(b), "pinv, cut": lambda m, a, b: m.pinv(b, rcond=0.95), "lstsq": lambda m, a, b: m.lstsq(b, b[:, 0]), "lstsq, cut": lambda m, a, b: m.lstsq(b, b, rcond=0.95),
    "matrix_power": lambda m, a, b: m.matrix_power(a, 3), "matrix_power, 0": lambda m, a, b: m.matrix_power(a, 0), "matrix_power, inverse": lambda m, a, b: m.matrix_power(a, -2),
    "matrix_rank": lambda m, a, b: m.matrix_rank(a), "multi_dot": lambda m, a, b: m.multi_dot([a, b, b.T, a[0]]), "trace": lambda m, a, b: m.trace(b, offset=1),
    **{f"norm, {ord}": lambda m, a, b, ord=ord: m.norm(a, ord) for ord in (None, "fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)},
    **{f"norm of rows, {ord}": lambda m, a, b, ord=ord: m.norm(b, ord, axis=1, keepdims=True) for ord in (None, 0, 1, 2, 3.5, -2, math.inf, -math.inf)}}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_results_are_numpys(name, dtype):
    a = (4.0 * A + (2j * A[::-1] if dtype == "complex128" else 0.0)).astype(dtype)
    b = a[:, :2]
    found, expected = (PLAIN[name](m, a, b) for m in (linalg, np.linalg))
    assert len(found) == len(expected) if isinstance(expected, tuple) else not isinstance(found, tuple)
    assert getattr(found, "_fields", None) == getattr(expected, "_fields", None)
    for x, y in zip(*(f if isinstance(f, tuple) else (f,) for f in (found, expected))):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-6, atol=1e-6, strict=True)


def test_lists_are_matrices():
    rows = [[2.0, 1.0], [1.0, 3.0]]
    assert linalg.det(rows) == pytest.approx(5.0) and linalg.trace(rows) == 5.0 and linalg.norm([3, 4]) == 5.0
    np.testing.assert_allclose(linalg.solve(rows, [3.0, 4.0]), [1.0, 1.0])
    np.testing.assert_allclose(linalg.solve_triangular(rows, [3.0, 6.0]), [0.5, 2.0])
    np.testing.assert_allclose(grad(lambda b: mg.sum(linalg.solve(rows, b)))(np.ones(2)), np.linalg.inv(rows).sum(0))


# ------------------------------------------------------------------------------------------------- singular matrices

@pytest.mark.parametrize("a", [
    SINGULAR, np.outer([1.0, 2.0, 3.0], [1.0, -1.0, 2.0]), np.zeros((3, 3)), np.zeros((1, 1)), np.stack([SINGULAR, A]), np.ones((2, 2)),
    np.diag([1.0, 0.0, 2.0, 3.0]), np.diag([1.0, 2.0, 0.0, 0.0]) + np.eye(4)[::-1] * 0.5, np.diag([3.0, 1.0, 2.0, 1e-9])])
def test_derivatives_of_det_are_right_at_singular_matrices(a):
    check_derivatives(linalg.det, a, order=3, analytic=True)


def test_derivatives_of_det_keep_their_digits_near_singular_matrices():
    """det is 5 numbers in a diagonal: its second derivatives are products of three of them."""
    d = np.array([1.0, 2.0, 3.0, 4.0, 1e-7])
    H = hessian(lambda x: linalg.det(mg.multiply(np.eye(5), x)))(d)
    for i in range(5):
        for j in range(5):
            expected = 0.0 if i == j else np.prod(np.delete(d, [i, j]))
            assert H[i, j] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_minors_are_for_small_or_singular_matrices(monkeypatch):
    """They cost n^5; a regular matrix, and a large one that is nearly singular, takes one inverse."""
    calls, det = [], np.linalg.det
    monkeypatch.setattr(np.linalg, "det", lambda a: (calls.append(a.shape), det(a))[1])
    for a, expected in ((np.eye(4), 1), (np.diag([1.0] * 59 + [1e-9]), 1), (np.diag([1.0] * 5 + [1e-9]), 2), (np.eye(3), 2)):
        calls.clear()
        grad(linalg.det)(a)
        assert len(calls) == expected


def test_det_of_a_large_matrix_needs_an_inverse():
    a = np.eye(60)
    np.testing.assert_allclose(grad(linalg.det)(a), a)
    a[0, 0] = 0.0
    with pytest.raises(linalg.LinAlgError, match="inv.a.: Singular matrix"):
        grad(linalg.det)(a)


@pytest.mark.parametrize("f", [linalg.inv, lambda a: linalg.solve(a, a[0]), lambda a: linalg.matrix_power(a, -1), lambda a: grad(lambda a: linalg.slogdet(a)[1])(a)])
def test_singular_matrices_are_told(f):
    for a in (np.ones((2, 2)), np.zeros((3, 2, 2))):
        with pytest.raises(linalg.LinAlgError, match="Singular matrix") as caught:
            f(a)
        assert isinstance(caught.value, (mg.MinigradError, np.linalg.LinAlgError)) and "float64" in str(caught.value)
    with pytest.raises(np.linalg.LinAlgError, match="cholesky.*ositive definite"):
        linalg.cholesky(-np.eye(2))


def test_pinv_of_constant_rank():
    """Along matrices of rank 1 the pseudo-inverse is smooth."""
    u, v = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.5])
    check_derivatives(lambda u, v: linalg.pinv(mg.outer(u, v), 1e-9), u, v)
    b = np.array([1.0, 2.0, -1.0])
    check_derivatives(lambda u, v: linalg.lstsq(mg.outer(u, v), b, 1e-9)[0], u, v, order=2)
    for rcond in (None, 0.1, -1):                           # -1: the rounding error
        np.testing.assert_allclose(jvp(lambda a, rcond=rcond: linalg.lstsq(a, b, rcond)[0], (np.outer(u, v),), (np.outer(u, v),))[0], np.linalg.lstsq(np.outer(u, v), b, rcond)[0], rtol=1e-6)
    for size in (1.0, 1e8):                                 # no sums of squares, as in NumPy, where the rank is not full
        sums = []
        gradient = grad(lambda u: (sums.extend(linalg.lstsq(mg.outer(u, v * size), b)[1:3]), mg.sum(u))[1])(u)
        assert sums[0].shape == (0,) and sums[1] == 1 and (gradient == 1.0).all()
    ranks, thin = [], np.eye(20, 2) * [1.0, 2e-15]          # above the rounding error, below 20 times that
    grad(lambda a: (ranks.append(linalg.lstsq(a, np.ones(20))[2]), mg.sum(a))[1])(thin)
    assert ranks[0] == np.linalg.lstsq(thin, np.ones(20))[2] == 1


# -------------------------------------------------------------------------------------------------- equal values

def test_symmetric_functions_of_equal_eigenvalues_have_a_gradient():
    np.testing.assert_allclose(grad(lambda a: mg.sum(linalg.eigvalsh(a) ** 3))(2.0 * np.eye(3)), 12.0 * np.eye(3))
    np.testing.assert_allclose(grad(lambda a: mg.sum(linalg.eigh(a)[0] ** 3))(np.zeros((3, 3))), np.zeros((3, 3)))
    np.testing.assert_allclose(grad(lambda a: linalg.norm(a, "nuc"))(np.eye(3)), np.eye(3), atol=1e-15)


def test_vectors_of_equal_values_have_no_derivative():
    """... and say so: NaN, not a number that looks right."""
    for f in (lambda a: linalg.eigh(a)[1], lambda a: linalg.svd(a)[0], lambda a: linalg.svd(a)[2]):
        assert np.isnan(grad(lambda a: mg.sum(f(a)))(np.eye(3))).any()
        assert np.isnan(jvp(f, (np.eye(3),), (A,))[1]).any()
    assert np.isnan(grad(lambda a: mg.sum(linalg.svd(a, full_matrices=False)[0]))(np.zeros((3, 1)))).any()
    assert np.isnan(hessian(lambda a: mg.sum(linalg.eigvalsh(a) ** 2))(np.eye(2))).any()       # it goes through the vectors


@pytest.mark.parametrize("ord, axis", [(None, None), (2, 0), (None, (0, 1)), ("fro", (0, 1)), ("f", (1, 0)), (3, 0), (1.5, 1)])
def test_a_norm_of_zero_has_derivative_zero(ord, axis):
    def f(x):
        return mg.sum(linalg.norm(x, ord, axis))
    np.testing.assert_array_equal(grad(f)(np.zeros((2, 2))), np.zeros((2, 2)))
    x = np.array([[0.0, 3.0], [0.0, 4.0]])                  # one zero column beside one that is not
    assert np.isfinite(grad(f)(x)).all() and grad(f)(x)[1, 1] > 0.0


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), (1, -1), (-1, 0)])
def test_the_norm_of_a_traced_value_is_that_of_a_plain_one(axis, keepdims):
    x = np.stack([A, A.T * 1.5])
    x = x[0] if axis in (None, (0, 1)) else x
    orders = [None, 1, -1, 2, -2, math.inf, -math.inf] + ([0, 3, 0.5] if isinstance(axis, int) else ["fro", "nuc"])
    for ord in orders:
        np.testing.assert_allclose(jvp(lambda x: linalg.norm(x, ord, axis, keepdims), (x,), (x,))[0], np.linalg.norm(x, ord, axis, keepdims), rtol=1e-12, strict=True)
    for ord in (-2, -math.inf, 0, 1, 3):                    # of infinities and of zeros
        for row in ([math.inf, math.inf], [math.inf, 2.0], [0.0, 2.0]):
            with np.errstate(all="ignore"):
                assert jvp(lambda x, ord=ord: linalg.norm(x, ord), (np.array(row),), (np.ones(2),))[0] == np.linalg.norm(row, ord)


def test_of_equal_extremes_the_first_counts():
    np.testing.assert_array_equal(grad(lambda x: linalg.norm(x, math.inf))(np.array([1.0, -2.0, 2.0])), [0.0, -1.0, 0.0])
    np.testing.assert_array_equal(grad(lambda x: linalg.norm(x, 1))(np.array([1.0, 0.0, -2.0])), [1.0, 0.0, -1.0])
    np.testing.assert_array_equal(grad(lambda x: linalg.norm(x, 0))(np.array([1.0, 0.0])), [0.0, 0.0])


# ---------------------------------------------------------------------------------------------- triangles and signs

@pytest.mark.parametrize("f, lower", [(lambda a: mg.sum(linalg.eigh(a)[0] ** 3), True), (lambda a: mg.sum(linalg.eigvalsh(a, "U") ** 3), False),
                                      (linalg.cholesky, True), (lambda a: linalg.cholesky(a, upper=True), False),
                                      (lambda a: linalg.solve_triangular(a, np.ones(3), lower=True), True), (lambda a: linalg.solve_triangular(a, np.ones(3)), False)])
def test_only_the_triangle_that_is_read_has_a_derivative(f, lower):
    a = A @ A.T + np.eye(3)
    g = grad(lambda a: mg.sum(f(a)))(a)
    other = np.triu(g, 1) if lower else np.tril(g, -1)
    assert (other == 0.0).all() and np.count_nonzero(g) == 6


def test_signs_of_vectors_do_not_matter():
    """A matrix is put together again from its parts, so that its derivative is the identity."""
    s, t = A + A.T, np.array([[1.0, 2.0, 3.0], [2.0, -1.0, 0.5], [3.0, 0.5, 4.0]])
    for f, a in ((lambda a: (lambda w, v: (v * w) @ v.T)(*linalg.eigh(a)), s), (lambda a: (lambda u, s, v: (u * s) @ v)(*linalg.svd(a)), A),
                 (lambda a: (lambda q, r: q @ r)(*linalg.qr(a)), A), (lambda a: (lambda x: x @ x.T)(linalg.cholesky(a)), s @ s)):
        y, tangent = jvp(f, (a,), (t,))
        np.testing.assert_allclose(y, a, atol=1e-12)
        np.testing.assert_allclose(tangent, t, atol=1e-12)


def test_decompositions_are_computed_once(monkeypatch):
    """... also where derivatives nest: what a level needs follows from the rules."""
    calls = []
    for name in ("eigh", "svd", "qr"):
        monkeypatch.setattr(np.linalg, name, (lambda f: lambda *args: (calls.append(1), f(*args))[1])(getattr(np.linalg, name)))
    for f in (lambda a: linalg.eigh(a)[1][0, 0] ** 2, lambda a: linalg.svd(a)[0][0, 0] ** 2, lambda a: linalg.qr(a)[1][0, 0]):
        hessian(lambda a: grad(f)(a)[0, 0])(A)
    assert len(calls) == 3


# --------------------------------------------------------------------------------------------------- what is refused

@pytest.mark.parametrize("call, text", [
    (lambda: linalg.inv(np.ones((2, 3))), "linalg.inv(a): the last two axes are those of a square matrix\n  a  (2, 3)  float64"),
    (lambda: linalg.svd(np.ones(3)), "linalg.svd(a): a matrix is needed\n  a  (3,)  float64"),
    (lambda: linalg.solve(np.eye(2), np.ones(3)), "linalg.solve(a, b): the number of equations differs\n  a  (2, 2)  float64\n  b  (3,)    float64\n  help: a has shape (..., n, n), b (n,) or (..., n, k)"),
    (lambda: linalg.lstsq(np.eye(2), np.ones(3)), "linalg.lstsq(a, b): the shapes do not fit\n  a  (2, 2)  float64\n  b  (3,)    float64\n  help: a has shape (m, n), b (m,) or (m, k)"),
    (lambda: linalg.eigh(np.eye(2), "X"), "linalg.eigh(a, UPLO): UPLO is 'L' or 'U', not 'X'\n  a  (2, 2)  float64"),
    (lambda: linalg.solve_triangular(np.eye(2), np.ones(2), trans=2), "linalg.solve_triangular(a, b): trans is 0 or 'N', 1 or 'T', not 2\n  a  (2, 2)  float64"),
    (lambda: grad(lambda a: mg.sum(linalg.svd(a)[1]))(np.ones((2, 3))), "linalg.svd(a): vectors beyond the singular values have no derivative\n  a  (2, 3)  float64\n  help: pass full_matrices=False"),
    (lambda: grad(lambda a: mg.sum(linalg.qr(a, "complete")[1]))(np.ones((2, 2))), "linalg.qr(a, mode): mode 'complete' has no derivative\n  a  (2, 2)  float64\n  help: pass mode='reduced' or mode='r'"),
    (lambda: grad(lambda a: linalg.norm(a, 7))(np.ones((2, 2))), "linalg.norm(x, ord=7): there is no such norm over 2 axes\n  a  (2, 2)  float64"),
    (lambda: linalg.solve(np.eye(3), np.ones((2, 3))), "linalg.solve(a, b): the number of equations differs\n  a  (3, 3)  float64\n  b  (2, 3)  float64\n  help: a has shape (..., n, n), b (n,) or (..., n, k)"),
    (lambda: grad(lambda a: linalg.norm(a, axis=(0, 1, 2)))(np.ones((2, 2, 2))), "linalg.norm(x, ord=None): there is no such norm over 3 axes\n  a  (2, 2, 2)  float64"),
    (lambda: grad(lambda a: linalg.norm(a, "fro"))(np.ones(2)), "linalg.norm(x, ord='fro'): there is no such norm over 1 axes\n  a  (2,)  float64")])
def test_what_is_wrong_is_told(call, text):
    with pytest.raises(ShapeError) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.parametrize("f", [lambda a: linalg.cholesky(a), lambda a: linalg.eigh(a)[0], linalg.eigvalsh, lambda a: linalg.svd(a)[1], lambda a: linalg.qr(a)[1],
                               linalg.pinv, lambda a: linalg.lstsq(a, np.ones(2))[0], lambda a: linalg.slogdet(a)[1], linalg.norm])
def test_traced_complex_matrices_are_refused(f):
    with pytest.raises(DTypeError, match="only real (matrices|numbers) have derivatives here"):
        grad(lambda a: mg.sum(f(a * 1j)))(np.eye(2))


def test_half_precision_is_refused_as_in_numpy():
    for f in (linalg.inv, linalg.det, linalg.svd):
        with pytest.raises(DTypeError, match="float16 is unsupported"):
            f(np.eye(2, dtype="float16"))
    assert linalg.norm(np.ones(4, "float16")).dtype == np.float16
    assert jvp(linalg.norm, (np.ones(4, "float16"),), (np.ones(4, "float16"),))[1].dtype == np.float16


def test_multi_dot_takes_the_cheapest_product_first():
    x, a, b = np.ones(50), np.ones((50, 40)), np.ones((40, 30))
    for call in (lambda x, a, b: linalg.multi_dot([x, a, b]), lambda x, a, b: linalg.multi_dot([b.T, a.T, x])):
        drawn = mg.draw(call, x, a, b)
        assert not any(op.shape in ((50, 30), (30, 50)) for op in drawn.operations)
    for wrong in ([], [a, np.ones((1, 40, 30))]):
        with pytest.raises(mg.MinigradError, match="help: a @ b @ c" if wrong else None):
            linalg.multi_dot(wrong)


def test_a_constant_of_integers_beside_a_traced_value():
    """Its type has no rounding error; values and derivatives are those of the same numbers as floats."""
    whole = np.array([[1, 0, 2], [0, 1, 1], [1, 1, 0]])
    for f, x in ((lambda a, b: mg.linalg.lstsq(a[:, :2], b)[0], np.ones(3)), (mg.linalg.solve, np.ones(3)), (mg.matmul, np.ones((3, 2))), (mg.dot, np.ones(3)), (mg.kron, np.ones((2, 2))),
                 (lambda a, b: mg.linalg.multi_dot([a, b, a]), np.eye(3)), (lambda a, b: mg.where(a > 0, a, b), np.ones((3, 3))), (mg.hypot, np.ones(3)), (mg.power, np.full(3, 2.0))):
        found, right = (mg.vjp(lambda b, a=a: f(a, b), x) for a in (whole, whole.astype(float)))
        np.testing.assert_allclose(found[0], right[0], rtol=1e-14)
        np.testing.assert_allclose(found[1](right[0])[0], right[1](right[0])[0], rtol=1e-14)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_results_may_be_written_to_where_numpys_may(name):
    """... and so may those of the next call: nothing is kept, and no argument is changed."""
    a = 4.0 * A
    before = a.copy()
    for _ in range(2):
        found, expected = (PLAIN[name](m, a, a[:, :2]) for m in (linalg, np.linalg))
        for x, y in zip(*(f if isinstance(f, tuple) else (f,) for f in (found, expected))):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
            if isinstance(y, np.ndarray):
                assert x.flags.writeable == y.flags.writeable
                if y.flags.writeable and not np.shares_memory(x, a):
                    x[...] = 0.0
    np.testing.assert_array_equal(a, before)


def test_a_cut_of_0_cuts_nothing():
    """0 is not None: the smallest singular value counts."""
    a = np.diag([1.0, 1e-20])
    for cut in (0.0, 0, np.float64(0.0)):
        np.testing.assert_allclose(linalg.pinv(a, cut), np.diag([1.0, 1e20]))
        np.testing.assert_allclose(jvp(lambda a, cut=cut: linalg.pinv(a, cut), (a,), (a,)), [np.diag([1.0, 1e20]), np.diag([-1.0, -1e20])])
        assert linalg.matrix_rank(a, cut) == 2
    assert linalg.pinv(a)[1, 1] == 0.0 and linalg.matrix_rank(a) == 1


@pytest.mark.parametrize("cut", [0.0, -1, None, 1e-30, 0.5])
def test_a_cut_of_least_squares_is_the_same_where_it_is_traced(cut):
    a, b = np.diag([1.0, 1e-20]), np.array([1.0, 1e-20])
    np.testing.assert_allclose(jvp(lambda a: linalg.lstsq(a, b, cut)[0], (a,), (a,))[0], linalg.lstsq(a, b, cut)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rank_of_least_squares_is_the_same_where_it_is_traced(dtype):
    """A singular value is 0 up to the rounding error of the array's own type, where it is traced as where it is plain."""
    eps = float(np.finfo(dtype).eps)
    for least in (0.5, 30.0):
        a, b = np.eye(6, 3, dtype=dtype) * np.array([1.0, 0.5, least * 6 * eps], dtype), np.arange(6).astype(dtype)
        told = []
        jvp(lambda a: told.append(linalg.lstsq(a, b)) or a[0, 0], (a,), (a,))
        assert told[0][2] == linalg.lstsq(a, b)[2]


@pytest.mark.parametrize("dtype, power", [("float32", -66), ("float32", 60), ("float64", -500), ("float64", 500)])
@pytest.mark.parametrize("f", [lambda x: mg.linalg.svd(x)[0][0, 0] ** 2, lambda x: mg.linalg.svd(x, False)[2][0, 0] ** 2, lambda x: mg.linalg.eigh(x + mg.transpose(x))[1][0, 0] ** 2, lambda x: mg.linalg.qr(x)[0][0, 0] ** 2])
def test_directions_have_derivatives_at_any_scale(f, dtype, power):
    """U(c A) = U(A), so the gradient at c A is that at A over c: nothing on the way leaves the range of the type."""
    a, c = np.random.default_rng(0).normal(size=(3, 3)).astype(dtype), np.array(2.0, dtype) ** power
    np.testing.assert_allclose(mg.grad(f)(a * c) * c, mg.grad(f)(a), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(mg.jvp(f, (a * c,), (a * c,))[1], mg.jvp(f, (a,), (a,))[1], rtol=1e-3, atol=1e-5)
