"""Linear algebra under NumPy's names: minigrad.linalg. All but norm takes stacks of matrices, in the last two axes.

Where a derivative is a convention, or is not there:

    norm              0 where a 2-norm or a p-norm with p > 1 is 0; of equal extremes the first counts
    det               right at singular matrices, to any order, up to about 30 x 30; beyond that LinAlgError there
    slogdet           the sign is a constant; LinAlgError at a singular matrix
    eigh, cholesky    one triangle is read, and it alone has a derivative
    eigh, svd         vectors: NaN where two values are equal, or a singular value of a matrix that is not square is 0;
                      values: those of the basis that was found, right for sums over all of equal ones
    qr                of full rank, reduced; pinv, lstsq: where the rank does not change
    complex matrices  plain results alone, but for solve, inv, det, matrix_power, multi_dot and trace

Eigenvectors, singular vectors and Q have signs that mean nothing: differentiate what does not depend on them. CuPy
raises nothing for a singular matrix, but in cupyx.errstate(linalg="raise").
"""
from __future__ import annotations

import math
import operator
from collections import namedtuple
from collections.abc import Iterable
from typing import Any

import numpy

from . import ops
from .backend import as_array, module_of
from .boundary import guard
from .box import Box, raw
from .core import LISTS, NUMBERS, LinearMap, Primitive, as_arrays
from .errors import DTypeError, LinAlgError, ShapeError, message, shape
from .kinds import sum_to
from .ops import expand_dims, getitem, matmul, moveaxis, power, reshape, square, squeeze, sum, where
from .ops.reductions import _root
from .ops.shaping import as_axes, matrix_transpose
from .typing import Array

__all__ = ["LinAlgError", "cholesky", "det", "eigh", "eigvalsh", "inv", "lstsq", "matrix_power", "matrix_rank",
           "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd", "trace"]

SlogdetResult = namedtuple("SlogdetResult", "sign logabsdet")
EighResult = namedtuple("EighResult", "eigenvalues eigenvectors")
SVDResult = namedtuple("SVDResult", "U S Vh")
QRResult = namedtuple("QRResult", "Q R")
MINORS = 1 << 20            # the most elements of all minors of the singular matrices that det differentiates


def _matrix(name: str, a: Array, square: bool = True, real: bool = True) -> Array:
    """Return a as an array. Raises ShapeError unless it is a matrix, DTypeError where it is complex and traced."""
    a = a if type(a) is Box else as_array(a)
    s = shape(a)
    if len(s) < 2 or square and s[-1] != s[-2]:
        kind = "a square matrix" if square else "a matrix"
        raise ShapeError(message(f"linalg.{name}(a)", f"the last two axes are those of {kind}", [("a", a, "")]))
    if real and type(a) is Box and a.dtype.kind == "c":
        raise DTypeError(message(f"linalg.{name}(a)", "only real matrices have derivatives here", [("a", a, "")],
                                 "keep real and imaginary part as two arrays"))
    return a


def _triangle(a: Array, k: int = 0, lower: bool = True, other: Array = 0.0) -> Array:
    """Return a with `other` beyond its diagonal k: above it, or, where lower is False, below it."""
    mask = module_of(raw(a)).tri(*shape(a)[-2:], k if lower else k - 1, dtype=bool)
    return where(mask, a, other) if lower else where(mask, other, a)


def _column(x: Array) -> Array:
    """Return numbers as matrices of one element."""
    return expand_dims(x, (-1, -2))


# ---------------------------------------------------------------------------------- solutions and determinants

def _inv_rule(i: int, y: Array, a: Array) -> LinearMap:
    yt = matrix_transpose(y)
    return LinearMap(lambda t: -(y @ t @ y), lambda g: -(yt @ g @ yt))


_inv = Primitive(lambda a: module_of(a).linalg.inv(a), _inv_rule, "inv")


def inv(a: Array) -> Array:
    """Return the inverse. Raises LinAlgError for a singular matrix."""
    return _inv(_matrix("inv", a, real=False))


def _solve_plain(a: Array, b: Array) -> Array:
    xp, lead = module_of(a, b), numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])      # CuPy broadcasts nothing
    return xp.linalg.solve(*[x if x.shape[:-2] == lead else xp.broadcast_to(x, lead + x.shape[-2:]) for x in (a, b)])


def _solve_rule(i: int, y: Array, a: Array, b: Array) -> LinearMap:
    at = matrix_transpose(a)
    if i == 0:
        yt, s = matrix_transpose(y), shape(a)
        return LinearMap(lambda t: -_solve(a, t @ y), lambda g: -sum_to(_solve(at, g) @ yt, s))
    s = shape(b)
    return LinearMap(lambda t: _solve(a, t), lambda g: sum_to(_solve(at, g), s))


_solve = Primitive(_solve_plain, _solve_rule, "solve")


def solve(a: Array, b: Array) -> Array:
    """Return x with a x = b. b is a vector (n,), or a matrix (..., n, k) of columns. Raises LinAlgError, ShapeError."""
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    n = shape(_matrix("solve", a, real=False))[-1]
    if n not in shape(b)[-2:][:1]:
        raise ShapeError(message("linalg.solve(a, b)", "the number of equations differs", [("a", a, ""), ("b", b, "")],
                                 "a has shape (..., n, n), b (n,) or (..., n, k)"))
    if len(shape(b)) > 1:
        return _solve(a, b)
    return reshape(_solve(a, expand_dims(b, 1)), shape(a)[:-1])


def solve_triangular(a: Array, b: Array, trans: int | str = 0, lower: bool = False,
                     unit_diagonal: bool = False) -> Array:
    """Return x with a x = b as SciPy does, where one triangle of a is read: the upper one, or the lower one.

    trans: 1 or "T" for the transpose of a. unit_diagonal: the diagonal counts as ones. Raises LinAlgError, ShapeError.
    """
    a = _triangle(_matrix("solve_triangular", a, real=False), lower=lower)
    if trans not in (0, 1, "N", "T"):
        raise ShapeError(f"linalg.solve_triangular(a, b): trans is 0 or 'N', 1 or 'T', not {trans!r}")
    if unit_diagonal:
        a = where(module_of(raw(a)).eye(shape(a)[-1], dtype=bool), 1.0, a)
    return solve(matrix_transpose(a) if trans in (1, "T") else a, b)


def _cofactors(y: Array, a: Array) -> Array:
    """Return the derivative of y = det(a) by each element: det(a) inv(a)^T, or the signed minors.

    These are right where a is singular, and keep the digits of higher derivatives where it nearly is.
    """
    n, xp = shape(a)[-1], module_of(raw(a))
    if 0 in shape(a):
        return a
    few = raw(a).size * (n - 1) ** 2 <= MINORS
    if not few or n > 3 and (raw(y) != 0).all():
        inverse = _inv(a)
        condition = n * abs(raw(inverse)).max() * abs(raw(a)).max()
        if not (few and condition > numpy.finfo(raw(a).dtype).eps ** (-1 / 3)):
            return _column(y) * matrix_transpose(inverse)
    index = xp.arange(n)
    rest = xp.arange(n - 1) + (xp.arange(n - 1) >= index[:, None])          # all but one, for each
    minors = getitem(a, (..., rest[:, None, :, None], rest[None, :, None, :]))
    return _det(minors) * (1 - 2 * ((index[:, None] + index) % 2)).astype(raw(a).dtype)


def _det_rule(i: int, y: Array, a: Array) -> LinearMap:
    d = _cofactors(y, a)
    return LinearMap(lambda t: sum(d * t, (-2, -1)), lambda g: _column(g) * d)


_det = Primitive(lambda a: module_of(a).linalg.det(a), _det_rule, "det")


def det(a: Array) -> Array:
    """Return the determinant. Its derivatives are right at singular matrices, too."""
    return _det(_matrix("det", a, real=False))


def _logabsdet_rule(i: int, y: Array, a: Array, parts: Any) -> LinearMap:
    d = matrix_transpose(_inv(a))
    return LinearMap(lambda t: sum(d * t, (-2, -1)), lambda g: _column(g) * d)


_logabsdet = Primitive(lambda a, parts: parts[1], _logabsdet_rule, "slogdet")


def slogdet(a: Array) -> SlogdetResult:
    """Return the sign of the determinant, a constant, and the logarithm of its absolute value."""
    a = _matrix("slogdet", a)
    parts = module_of(raw(a)).linalg.slogdet(raw(a))
    return SlogdetResult(parts[0], _logabsdet(a, parts=parts))


# ------------------------------------------------- decompositions: computed once, outside of every derivative

def _symmetric(a: Array, lower: bool) -> Array:
    return _triangle(a, 0, lower, matrix_transpose(a))


def _cholesky_rule(i: int, y: Array, a: Array) -> LinearMap:
    z, yt = _inv(y), matrix_transpose(y)
    zt = matrix_transpose(z)
    half = _triangle(module_of(raw(a)).ones(shape(a)[-2:], raw(a).dtype))
    half = half - 0.5 * half * half.T
    return LinearMap(lambda t: y @ (half * (z @ t @ zt)), lambda g: zt @ (half * (yt @ g)) @ z)


_cholesky = Primitive(lambda a: module_of(a).linalg.cholesky(a), _cholesky_rule, "cholesky")


def cholesky(a: Array, upper: bool = False) -> Array:
    """Return the lower triangle L with L L^T = a, or the upper one with U^T U = a: that triangle of a alone is read.

    Raises LinAlgError where a is not positive definite.
    """
    a = _matrix("cholesky", a)
    if upper:
        return _adjoint(cholesky(_adjoint(a)))
    return _cholesky(_symmetric(a, True) if type(a) is Box else a)


def _adjoint(a: Array) -> Array:
    return matrix_transpose(a.conj() if a.dtype.kind == "c" else a)


def _inverse_gaps(a: Array, b: Array) -> Array:
    """Return 1 / (a_j + b_i) at row i and column j, 0 on the diagonal, NaN where it would be infinite."""
    gaps = expand_dims(a, -2) + expand_dims(b, -1)
    diagonal = module_of(raw(a)).eye(shape(a)[-1], dtype=bool)
    return where(diagonal, 0.0, 1.0 / where(diagonal | (raw(gaps) == 0), math.nan, gaps))


def _eigenvalues_rule(i: int, y: Array, a: Array, parts: Any) -> LinearMap:
    v = _eigenvectors(a, parts=parts)
    return LinearMap(lambda t: sum(v * (t @ v), -2), lambda g: v * expand_dims(g, -2) @ matrix_transpose(v))


def _eigenvectors_rule(i: int, v: Array, a: Array, parts: Any) -> LinearMap:
    w, vt = _eigenvalues(a, parts=parts), matrix_transpose(v)
    gaps = _inverse_gaps(w, -w)
    return LinearMap(lambda t: v @ (gaps * (vt @ t @ v)), lambda g: v @ (gaps * (vt @ g)) @ vt)


_eigenvalues = Primitive(lambda a, parts: parts[0], _eigenvalues_rule, "eigenvalues")
_eigenvectors = Primitive(lambda a, parts: parts[1], _eigenvectors_rule, "eigenvectors")


def eigh(a: Array, UPLO: str = "L") -> EighResult:
    """Return the eigenvalues, in ascending order, and eigenvectors, as columns, of symmetric matrices.

    UPLO: the triangle that is read, "L" or "U".
    """
    a, plain = _matrix("eigh", a), raw(a)
    if UPLO not in ("L", "U"):
        raise ShapeError(f"linalg.eigh(a, UPLO): UPLO is 'L' or 'U', not {UPLO!r}")
    parts = module_of(plain).linalg.eigh(plain, UPLO)
    if type(a) is Box:
        a = _symmetric(a, UPLO == "L")
        parts = _eigenvalues(a, parts=parts), _eigenvectors(a, parts=parts)
    return EighResult(*parts)


def eigvalsh(a: Array, UPLO: str = "L") -> Array:
    """Return the eigenvalues of symmetric matrices, in ascending order. UPLO: as for eigh."""
    return eigh(a, UPLO)[0]


def _swapped(parts: Any) -> Any:
    """Return the decomposition of the transposed matrix."""
    return matrix_transpose(parts[2]), parts[1], matrix_transpose(parts[0])


def _right(a: Array, parts: Any) -> Array:
    """Return the right singular vectors, as columns: the left ones of the transposed matrix."""
    return _left(matrix_transpose(a), parts=_swapped(parts))


def _singular_rule(i: int, y: Array, a: Array, parts: Any) -> LinearMap:
    u, v = _left(a, parts=parts), _right(a, parts)
    return LinearMap(lambda t: sum(u * (t @ v), -2), lambda g: u * expand_dims(g, -2) @ matrix_transpose(v))


def _left_rule(i: int, u: Array, a: Array, parts: Any) -> LinearMap:
    s, v, ut = _singular(a, parts=parts), _right(a, parts), matrix_transpose(u)
    gaps, row, vt = _inverse_gaps(s, -s) * _inverse_gaps(s, s), expand_dims(s, -2), matrix_transpose(v)
    wide = shape(u)[-2] == shape(u)[-1]                     # then there is nothing beside the space of u
    inverse = 0.0 if wide else 1.0 / where(raw(row) == 0, math.nan, row)

    def beside(x: Array) -> Array:
        return (x - u @ (ut @ x)) * inverse

    def push(t: Array) -> Array:
        p = ut @ t @ v * row
        y = u @ (gaps * (p + matrix_transpose(p)))
        return y if wide else y + beside(t @ v)

    def pull(g: Array) -> Array:
        h = gaps * (ut @ g)
        y = u @ ((h + matrix_transpose(h)) * row)
        return (y if wide else y + beside(g)) @ vt
    return LinearMap(push, pull)


_singular = Primitive(lambda a, parts: parts[1], _singular_rule, "singular values")
_left = Primitive(lambda a, parts: parts[0], _left_rule, "singular vectors")


def svd(a: Array, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Return U, S and Vh with a = (U * S) @ Vh, the singular values S in descending order; or S alone.

    full_matrices: as in NumPy, U and Vh are square. Their columns beyond S have no derivative: ShapeError there.
    """
    a, plain = _matrix("svd", a, square=False), raw(a)
    if type(a) is not Box:
        parts = module_of(plain).linalg.svd(plain, full_matrices, compute_uv)
        return SVDResult(*parts) if compute_uv else parts
    if compute_uv and full_matrices and shape(a)[-1] != shape(a)[-2]:
        raise ShapeError(message("linalg.svd(a)", "vectors without a singular value have no derivative", [("a", a, "")],
                                 "pass full_matrices=False"))
    parts = module_of(plain).linalg.svd(plain, False)
    s = _singular(a, parts=parts)
    return SVDResult(_left(a, parts=parts), s, matrix_transpose(_right(a, parts))) if compute_uv else s


def _q_rule(i: int, q: Array, a: Array, parts: Any) -> LinearMap:
    qt = matrix_transpose(q)
    r = _triangle(qt @ a, lower=False)

    def push(t: Array) -> Array:
        c = matrix_transpose(_solve(matrix_transpose(r), matrix_transpose(t)))
        below = _triangle(qt @ c, -1)
        return c - q @ (qt @ c - below + matrix_transpose(below))

    def pull(g: Array) -> Array:
        w = qt @ g
        wt = matrix_transpose(w)
        c = g - q @ (_triangle(w, lower=False) + _triangle(wt, -1))
        return matrix_transpose(_solve(r, matrix_transpose(c)))
    return LinearMap(push, pull)


_q = Primitive(lambda a, parts: parts[0], _q_rule, "qr")


def qr(a: Array, mode: str = "reduced") -> Any:
    """Return Q, with orthonormal columns, and the upper triangle R, with a = Q R; with mode "r", R alone.

    The other modes of NumPy have no derivative: ShapeError there.
    """
    a, plain = _matrix("qr", a, square=False), raw(a)
    if type(a) is not Box:
        parts = module_of(plain).linalg.qr(plain, mode)
        return QRResult(*parts) if mode in ("reduced", "complete") else parts
    if mode not in ("reduced", "r"):
        raise ShapeError(message("linalg.qr(a)", f"mode {mode!r} has no derivative", [("a", a, "")],
                                 "pass mode='reduced' or mode='r'"))
    square = getitem(a, (..., slice(shape(a)[-2])))         # R of further columns follows from Q
    q = _q(square, parts=module_of(plain).linalg.qr(raw(square)))
    r = _triangle(matrix_transpose(q) @ a, lower=False)
    return r if mode == "r" else QRResult(q, r)


# ------------------------------------------------------------------------------ least squares, powers and norms

def _pinv_rule(i: int, y: Array, a: Array, rcond: Any) -> LinearMap:
    yt = matrix_transpose(y)

    def derivative(t: Array) -> Array:                      # of a change t of a^T; it is its own transpose
        left, right = y @ yt @ t, t @ yt @ y
        return left - left @ a @ y + right - y @ (a @ right) - y @ matrix_transpose(t) @ y
    return LinearMap(lambda t: derivative(matrix_transpose(t)), lambda g: matrix_transpose(derivative(g)))


_pinv = Primitive(lambda a, rcond: module_of(a).linalg.pinv(a, **({} if rcond is None else {"rcond": rcond})),
                  _pinv_rule, "pinv")


def pinv(a: Array, rcond: float | None = None) -> Array:
    """Return the pseudo-inverse, in which singular values up to rcond times the largest one count as 0."""
    return _pinv(_matrix("pinv", a, square=False), rcond=rcond)


def lstsq(a: Array, b: Array, rcond: float | None = None) -> tuple[Array, Array, Any, Array]:
    """Return the shortest x for which |a x - b|^2 is smallest, these sums for each column, the rank of a, and its S.

    rcond: as for pinv; None: the rounding error times the longer side. The sums are there for full rank and more rows
    than columns.
    """
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    m, n = shape(_matrix("lstsq", a, square=False))[-2:]
    if len(shape(a)) > 2 or m not in shape(b)[:1] or len(shape(b)) > 2:
        raise ShapeError(message("linalg.lstsq(a, b)", "the shapes do not fit", [("a", a, ""), ("b", b, "")],
                                 "a has shape (m, n), b (m,) or (m, k)"))
    if Box not in (type(a), type(b)):
        x: tuple[Array, Array, Any, Array] = module_of(a, b).linalg.lstsq(a, b, rcond)
        return x
    rcond = numpy.finfo(raw(a).dtype).eps * max(m, n) if rcond is None else rcond
    x, s = matmul(_pinv(a, rcond=rcond), b), svd(a, compute_uv=False)
    rank = (raw(s) > rcond * raw(s)[:1]).sum()
    rest = sum(square(b - matmul(a, x)), 0, keepdims=len(shape(b)) == 1)
    return x, rest if rank == n < m else getitem(rest, slice(0, 0)), rank, s


def matrix_power(a: Array, n: int) -> Array:
    """Return the product of n equal matrices; of inverses for n < 0. Raises LinAlgError for a singular one."""
    a, n = _matrix("matrix_power", a, real=False), operator.index(n)
    if n == 0:
        xp = module_of(raw(a))
        return xp.broadcast_to(xp.eye(shape(a)[-1], dtype=raw(a).dtype), shape(a))
    a, n = (inv(a), -n) if n < 0 else (a, n)
    half = matrix_power(a, n // 2) if n > 1 else a
    return half if n == 1 else half @ half @ a if n % 2 else half @ half


def multi_dot(arrays: Iterable[Array]) -> Array:
    """Return the product of matrices, of which the first and the last may be vectors, the cheapest pairs first."""
    left = list(as_arrays(list(arrays), LISTS))
    if len(left) < 2:
        raise ShapeError("linalg.multi_dot(arrays): at least two arrays are needed")
    while len(left) > 1:
        costs = [math.prod(shape(a)) * math.prod(shape(b)[1:]) for a, b in zip(left, left[1:])]
        i = costs.index(min(costs))
        left[i:i + 2] = [matmul(left[i], left[i + 1])]
    return left[0]


def trace(x: Array, offset: int = 0) -> Array:
    """Return the sum of a diagonal of the last two axes: x[i, i + offset]."""
    x, xp = _matrix("trace", x, square=False, real=False), module_of(raw(x))
    m, n = shape(x)[-2:]
    rows = xp.arange(m)
    rows = rows[(rows + offset >= 0) & (rows + offset < n)]
    return sum(getitem(x, (..., rows, rows + offset)), -1)


def matrix_rank(A: Array, tol: float | None = None) -> Any:
    """Return the number of singular values above tol: plain integers, without a derivative."""
    A = as_array(raw(A))
    return module_of(A).linalg.matrix_rank(A, tol)


def norm(x: Array, ord: float | str | None = None, axis: int | tuple[int, int] | None = None,
         keepdims: bool = False) -> Array:
    """Return a norm of vectors (one axis) or matrices (two axes); without ord and axis the 2-norm of all elements.

    Of a vector, sum(|x|^ord)^(1/ord): 2 by default; infinity and -infinity: the largest and smallest |x|; 0: the count
    of elements that are not 0, a constant. Of a matrix: "fro" by default; "nuc", 2, -2: the sum, the largest and the
    smallest singular value; 1, -1, infinity, -infinity: the largest and smallest sum of |x| over columns and rows.
    Where a 2-norm is 0, so is its derivative. Raises ShapeError.
    """
    if type(x) is not Box:
        x = as_array(x)
        return module_of(x).linalg.norm(x, ord, axis, keepdims)
    axes = as_axes(axis, len(shape(x)), "norm")
    count = len(axes)
    if x.dtype.kind == "c":
        raise DTypeError(message("linalg.norm(x)", "only real numbers have derivatives here", [("x", x, "")],
                                 "keep real and imaginary part as two arrays"))
    if ord is None and (axis is None or count < 3) or (ord, count) in ((2, 1), ("fro", 2), ("f", 2)):
        return _root(sum(square(x), axes, keepdims))
    if count == 1 and not isinstance(ord, str):
        return _vector_norm(x, ord, axes, keepdims)
    if count == 2 and ord in ("nuc", 2, -2):
        s = svd(moveaxis(x, axes, (-2, -1)), compute_uv=False)
        y = sum(s, -1) if ord == "nuc" else ops.max(s, -1) if ord == 2 else ops.min(s, -1)
        return expand_dims(y, axes) if keepdims else y
    if count == 2 and ord in (1, -1, math.inf, -math.inf):
        rows, columns = axes if ord in (1, -1) else axes[::-1]
        sums = sum(ops.abs(x), rows, keepdims=True)
        y = (ops.min if ord in (-1, -math.inf) else ops.max)(sums, columns, keepdims=True)
        return y if keepdims else squeeze(y, axes)
    raise ShapeError(message(f"linalg.norm(x, ord={ord!r})", f"there is no such norm over {count} axes", [("x", x, "")],
                             "axis is one axis, of vectors, or two, of matrices"))


def _vector_norm(x: Array, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    x = ops.abs(x)
    if ord in (math.inf, -math.inf):
        return (ops.max if ord > 0 else ops.min)(x, axes, keepdims)
    if ord == 0:
        return (raw(x) != 0).sum(axes, raw(x).dtype, keepdims=keepdims)
    total = sum(x if ord == 1 else power(x, ord), axes, keepdims)
    zero = raw(total) == 0
    return total if ord == 1 else where(zero, 0.0, power(where(zero, 1.0, total), 1.0 / ord))


guard(__name__)
