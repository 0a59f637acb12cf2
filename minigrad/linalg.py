"""Linear algebra under NumPy's names: minigrad.linalg. Matrices are the last two axes of a stack.

Where a derivative is a convention, or is not there:

    norm              0 where a 2-norm, or a p-norm with p > 1, is 0; of equal extremes the first counts
    det               right at singular matrices, to any order, up to about 30 x 30; beyond that LinAlgError there
    slogdet           the sign is a constant; LinAlgError at a singular matrix
    eigh, cholesky    one triangle is read, and it alone has a derivative
    eigh, svd         vectors: NaN where two values are equal, or, of a matrix that is not square, a singular value is 0
    qr                reduced, of full rank; pinv, lstsq: where the rank stays the same
    complex matrices  plain results alone, but for solve, inv, det, matrix_power, multi_dot and trace

The signs of eigenvectors, of singular vectors and in Q and R mean nothing: differentiate what does not depend on them.
CuPy raises nothing for a singular matrix, but in cupyx.errstate(linalg="raise").
"""
from __future__ import annotations

import math
import operator
import sys
from collections import namedtuple
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy

from . import box, ops
from .backend import as_array, module_of
from .boundary import guard
from .box import Box, raw
from .core import LISTS, NUMBERS, as_arrays
from .errors import DTypeError, LinAlgError, ShapeError, message, shape
from .ops import expand_dims, getitem, matmul, matrices, moveaxis, power, reshape, square, squeeze, sum, where
from .ops.joining import triangle
from .ops.reductions import _root
from .ops.shaping import as_axes, gathered
from .ops.shaping import matrix_transpose as T
from .typing import Array

__all__ = ["LinAlgError", "cholesky", "det", "eigh", "eigvalsh", "inv", "lstsq", "matrix_power", "matrix_rank",
           "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd", "trace"]

SlogdetResult = namedtuple("SlogdetResult", "sign logabsdet")
EighResult = namedtuple("EighResult", "eigenvalues eigenvectors")
SVDResult = namedtuple("SVDResult", "U S Vh")
QRResult = namedtuple("QRResult", "Q R")


def _refuse(name: str, rule: str, a: Array, help: str | None = None, error: Any = ShapeError) -> NoReturn:
    raise error(message(f"linalg.{name}", rule, [("a", a, "")], help))


def _matrix(name: str, a: Array, square: bool = True, real: bool = True) -> Array:
    """Return a as an array. Raises ShapeError unless it is a matrix, DTypeError where it is complex and traced."""
    a = a if type(a) is Box else as_array(a)
    if len(shape(a)) < 2 or square and shape(a)[-1] != shape(a)[-2]:
        _refuse(f"{name}(a)", "the last two axes are those of a square matrix" if square else "a matrix is needed", a)
    if real and type(a) is Box and a.dtype.kind == "c":
        _refuse(f"{name}(a)", "only real matrices have derivatives here", a,
                "keep real and imaginary part as two arrays", DTypeError)
    return a


# ---------------------------------------------------------------------------------- solutions and determinants

def inv(a: Array) -> Array:
    """Return the inverse. Raises LinAlgError for a singular matrix."""
    return matrices.inv(_matrix("inv", a, real=False))


def solve(a: Array, b: Array) -> Array:
    """Return x with a x = b. b is a vector (n,), or a matrix (..., n, k) of columns. Raises LinAlgError, ShapeError."""
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    n = shape(_matrix("solve", a, real=False))[-1]
    if n not in shape(b)[-2:][:1]:
        raise ShapeError(message("linalg.solve(a, b)", "the number of equations differs", [("a", a, ""), ("b", b, "")],
                                 "a has shape (..., n, n), b (n,) or (..., n, k)"))
    return matrices.solve(a, b) if len(shape(b)) > 1 else reshape(matrices.solve(a, expand_dims(b, 1)), shape(a)[:-1])


def solve_triangular(a: Array, b: Array, trans: int | str = 0, lower: bool = False,
                     unit_diagonal: bool = False) -> Array:
    """Return x with a x = b as SciPy does, where one triangle of a is read: the upper one, or the lower one.

    trans: 1 or "T" for the transpose of a. unit_diagonal: the diagonal counts as ones. Raises LinAlgError, ShapeError.
    """
    a = triangle(_matrix("solve_triangular", a, real=False), lower=lower)
    a = where(module_of(raw(a)).eye(shape(a)[-1], dtype=bool), 1.0, a) if unit_diagonal else a
    if trans not in (0, 1, "N", "T"):
        _refuse("solve_triangular(a, b)", f"trans is 0 or 'N', 1 or 'T', not {trans!r}", a)
    return solve(T(a) if trans in (1, "T") else a, b)


def det(a: Array) -> Array:
    """Return the determinant. Its derivatives are right at singular matrices, too."""
    return matrices.det(_matrix("det", a, real=False))


def slogdet(a: Array) -> SlogdetResult:
    """Return the sign of the determinant, a constant, and the logarithm of its absolute value."""
    a = _matrix("slogdet", a)
    parts = module_of(raw(a)).linalg.slogdet(raw(a))
    return SlogdetResult(parts[0], matrices.logabsdet(a, parts=parts))


# ------------------------------------------------- decompositions: computed once, outside of every derivative

def cholesky(a: Array, upper: bool = False) -> Array:
    """Return the lower triangle L with L L^T = a, or the upper one with U^T U = a: that triangle of a alone is read.

    Raises LinAlgError where a is not positive definite.
    """
    a = _matrix("cholesky", a)
    if upper:
        y = cholesky(T(a.conj() if a.dtype.kind == "c" else a))
        return T(y.conj() if a.dtype.kind == "c" else y)
    return matrices.cholesky(triangle(a, other=T(a)) if type(a) is Box else a)


def eigh(a: Array, UPLO: str = "L") -> EighResult:
    """Return eigenvalues, in ascending order, and eigenvectors, as columns, of symmetric matrices.

    UPLO: the triangle that is read, "L" or "U".
    """
    a, plain = _matrix("eigh", a), raw(a)
    lower = {"L": True, "U": False}.get(str(UPLO).upper())
    if lower is None:
        _refuse("eigh(a, UPLO)", f"UPLO is 'L' or 'U', not {UPLO!r}", a)
    parts = module_of(plain).linalg.eigh(plain, UPLO)
    if type(a) is Box:
        a = triangle(a, lower=lower, other=T(a))
        parts = matrices.eigenvalues(a, parts=parts), matrices.eigenvectors(a, parts=parts)
    return EighResult(*parts)


def eigvalsh(a: Array, UPLO: str = "L") -> Array:
    """Return the eigenvalues of symmetric matrices, in ascending order. UPLO: as for eigh."""
    if type(a) is Box:
        return eigh(a, UPLO)[0]
    a = _matrix("eigvalsh", a)
    return module_of(a).linalg.eigvalsh(a, UPLO)


def svd(a: Array, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Return U, S and Vh with a = (U * S) @ Vh, the singular values S in descending order.

    full_matrices: U and Vh are square, as in NumPy. Their columns beyond S have no derivative: ShapeError there.
    compute_uv: without it, S alone is returned.
    """
    a, plain = _matrix("svd", a, square=False), raw(a)
    if type(a) is not Box:
        parts = module_of(a).linalg.svd(a, full_matrices, compute_uv)
        return SVDResult(*parts) if compute_uv else parts
    if compute_uv and full_matrices and shape(a)[-1] != shape(a)[-2]:
        _refuse("svd(a)", "vectors beyond the singular values have no derivative", a, "pass full_matrices=False")
    parts = module_of(plain).linalg.svd(plain, False)
    s = matrices.singular(a, parts=parts)
    return SVDResult(matrices.left(a, parts=parts), s, T(matrices.right(a, parts))) if compute_uv else s


def qr(a: Array, mode: str = "reduced") -> Any:
    """Return Q, with orthonormal columns, and the upper triangle R, with a = Q R; with mode "r", R alone.

    NumPy's other modes have no derivative: ShapeError there.
    """
    a = _matrix("qr", a, square=False)
    if type(a) is not Box:
        parts = module_of(a).linalg.qr(a, mode)
        return QRResult(*parts) if mode in ("reduced", "complete") else parts
    if mode not in ("reduced", "r"):
        _refuse("qr(a, mode)", f"mode {mode!r} has no derivative", a, "pass mode='reduced' or mode='r'")
    first = getitem(a, (..., slice(shape(a)[-2])))          # as many columns as rows: R of the others follows from Q
    q = matrices.q(first, parts=module_of(raw(a)).linalg.qr(raw(first)))
    r = triangle(T(q) @ a, lower=False)
    return r if mode == "r" else QRResult(q, r)


# ------------------------------------------------------------------------------ least squares, powers and norms

def pinv(a: Array, rcond: float | None = None) -> Array:
    """Return the pseudo-inverse, in which singular values up to rcond times the largest one count as 0."""
    return matrices.pinv(_matrix("pinv", a, square=False), rcond=rcond)


def lstsq(a: Array, b: Array, rcond: float | None = None) -> tuple[Array, Array, Any, Array]:
    """Return the shortest x of those with the least |a x - b|^2, these sums, the rank of a and its singular values.

    a: (m, n); b: (m,) or (m, k). rcond: as for pinv; None: the rounding error times the longer side. There are sums
    only for full rank and m > n. Raises ShapeError.
    """
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    m, n = shape(_matrix("lstsq", a, square=False))[-2:]
    if len(shape(a)) > 2 or len(shape(b)) > 2 or m not in shape(b)[:1]:
        raise ShapeError(message("linalg.lstsq(a, b)", "the shapes do not fit", [("a", a, ""), ("b", b, "")],
                                 "a has shape (m, n), b (m,) or (m, k)"))
    if Box not in (type(a), type(b)):
        return module_of(a, b).linalg.lstsq(a, b, rcond)        # type: ignore[no-any-return]
    if rcond is None or rcond <= 0:                         # NumPy's -1, and 0, are the rounding error itself
        theirs = module_of(raw(a)) is not numpy and raw(a).dtype.kind in "fc"       # NumPy counts in float64
        rcond = numpy.finfo(raw(a).dtype if theirs else float).eps * (max(m, n) if rcond is None else 1)
    x, s = matmul(matrices.pinv(a, rcond=rcond), b), svd(a, compute_uv=False)
    rank = (raw(s) > rcond * raw(s)[:1]).sum()
    sums = sum(square(b - matmul(a, x)), 0, keepdims=len(shape(b)) == 1)
    return x, sums if rank == n < m else getitem(sums, slice(0)), rank, s


def matrix_power(a: Array, n: int) -> Array:
    """Return the product of n equal matrices; of inverses for n < 0. Raises LinAlgError for a singular one."""
    a, n = _matrix("matrix_power", a, real=False), operator.index(n)
    if n == 0:
        xp = module_of(raw(a))
        return xp.broadcast_to(xp.eye(shape(a)[-1], dtype=raw(a).dtype), shape(a)).copy()
    a, n = (inv(a), -n) if n < 0 else (a, n)
    half = matrix_power(a, n // 2) if n > 1 else a
    return half if n == 1 else half @ half @ a if n % 2 else half @ half


def multi_dot(arrays: Iterable[Array]) -> Array:
    """Return the product of matrices, of which the first and the last may be vectors; the cheapest pairs come first."""
    left = list(as_arrays(list(arrays), LISTS))
    if not left:
        raise ShapeError("linalg.multi_dot(arrays): there are none\n  help: pass one matrix or more")
    if not all(len(shape(a)) in (1, 2) for a in left):
        raise ShapeError(message("linalg.multi_dot(arrays)", "stacks are not multiplied", [("", a, "") for a in left],
                                 "a @ b @ c multiplies stacks of matrices"))
    while len(left) > 1:
        costs = [math.prod(shape(a)) * math.prod(shape(b)[1:]) for a, b in zip(left, left[1:])]
        i = costs.index(min(costs))
        left[i:i + 2] = [matmul(left[i], left[i + 1])]
    return left[0]


def trace(x: Array, offset: int = 0) -> Array:
    """Return the sum of a diagonal of the last two axes: x[i, i + offset]."""
    x = _matrix("trace", x, square=False, real=False)
    return sum(ops.diagonal(x, offset, -2, -1), -1)


def matrix_rank(A: Array, tol: float | None = None) -> Any:
    """Return the number of singular values above tol: plain integers, without a derivative."""
    A = as_array(raw(A))
    return module_of(A).linalg.matrix_rank(A, tol)


def norm(x: Array, ord: Any = None, axis: int | tuple[int, int] | None = None, keepdims: bool = False) -> Array:
    """Return a norm of vectors (one axis) or matrices (two axes); without ord and axis the 2-norm of all elements.

    ord of vectors: sum(|x|^ord)^(1/ord), 2 by default; infinity and -infinity: the extremes of |x|; 0: the count of
    elements that are not 0, a constant. Of matrices: "fro" by default; "nuc", 2, -2: the sum and the extremes of the
    singular values; 1, -1, infinity, -infinity: the extremes of the sums of |x| over columns and over rows.
    """
    x = gathered(x)
    if type(x) is not Box:
        x = as_array(x)
        return module_of(x).linalg.norm(x, ord, axis, keepdims)
    axes = as_axes(axis, len(shape(x)), "norm")
    count, extreme = len(axes), ops.max if ord in (1, 2, math.inf) else ops.min
    if x.dtype.kind == "c":
        _refuse("norm(x)", "only real numbers have derivatives here", x, error=DTypeError)
    if ord is None and (axis is None or count < 3) or (ord, count) in ((2, 1), ("fro", 2), ("f", 2)):
        return _root(sum(square(x), axes, keepdims))
    if count == 2 and ord in ("nuc", 2, -2):
        s = svd(moveaxis(x, axes, (-2, -1)), compute_uv=False)
        y = sum(s, -1) if ord == "nuc" else extreme(s, -1)
        return expand_dims(y, axes) if keepdims else y
    if count == 2 and ord in (1, -1, math.inf, -math.inf):
        rows, columns = axes if ord in (1, -1) else axes[::-1]
        y = extreme(sum(ops.abs(x), rows, keepdims=True), columns, keepdims=True)
        return y if keepdims else squeeze(y, axes)
    if count != 1 or isinstance(ord, str):
        _refuse(f"norm(x, ord={ord!r})", f"there is no such norm over {count} axes", x)
    x = ops.abs(x)
    if ord in (math.inf, -math.inf):
        return extreme(x, axes, keepdims)
    if ord == 0:
        return (raw(x) != 0).sum(axes, raw(x).dtype, keepdims=keepdims)
    total = sum(x if ord == 1 else power(x, ord), axes, keepdims)
    zero = (raw(total) == 0) & (ord > 1)
    return total if ord == 1 else where(zero, 0.0, power(where(zero, 1.0, total), 1.0 / ord))


guard(__name__)
box.linalg = sys.modules[__name__]     # what NumPy's functions of traced values are
