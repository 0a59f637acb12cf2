"""The derivatives of linear algebra, written with products and solutions. Public in linalg.py.

A decomposition has several results, each of them a primitive. `parts` are all of them as plain arrays, computed once,
outside of every derivative; what they are at each level follows from the rules.
"""
from __future__ import annotations

import math
from typing import Any

import numpy

from ..backend import module_of
from ..box import raw
from ..core import LinearMap, Primitive
from ..errors import shape
from ..kinds import sum_to
from ..typing import Array
from .elementwise import where
from .joining import triangle
from .reductions import sum
from .shaping import expand_dims, getitem
from .shaping import matrix_transpose as T

MINORS = 1 << 20            # the most elements of minors that a derivative of det may compute


# ---------------------------------------------------------------------------------- solutions and determinants

def _solve_plain(a: Array, b: Array) -> Array:
    xp, lead = module_of(a, b), numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])      # CuPy broadcasts nothing
    return xp.linalg.solve(*[xp.broadcast_to(x, lead + x.shape[-2:]) for x in (a, b)])


def _solve_rule(i: int, y: Array, a: Array, b: Array) -> LinearMap:
    if i == 0:
        return LinearMap(lambda t: -solve(a, t @ y), lambda g: -sum_to(solve(T(a), g) @ T(y), shape(a)))
    return LinearMap(lambda t: solve(a, t), lambda g: sum_to(solve(T(a), g), shape(b)))


solve = Primitive(_solve_plain, _solve_rule, "solve")
inv = Primitive(lambda a: module_of(a).linalg.inv(a), lambda i, y, a: LinearMap(
    lambda t: -(y @ t @ y), lambda g: -(T(y) @ g @ T(y))), "inv")


def _cofactors(y: Array, a: Array) -> Array:
    """Return the derivative of y = det(a) by each element: det(a) inv(a)^T, or the signed minors.

    These are right where a is singular, and keep the digits of higher derivatives where it nearly is.
    """
    n, xp = shape(a)[-1], module_of(raw(a))
    if 0 in shape(a):
        return a
    few = raw(a).size * (n - 1) ** 2 <= MINORS
    if not few or n > 3 and (raw(y) != 0).all():
        inverse = inv(a)
        condition = n * abs(raw(inverse)).max() * abs(raw(a)).max()
        if not few or not condition > numpy.finfo(raw(a).dtype).eps ** (-1 / 3):
            return expand_dims(y, (-1, -2)) * T(inverse)
    every = xp.arange(n)
    rest = every[:-1] + (every[:-1] >= every[:, None])      # all but one, for each
    signs = 1 - 2 * ((every[:, None] + every) % 2)
    return det(getitem(a, (..., rest[:, None, :, None], rest[:, None, :]))) * signs.astype(raw(a).dtype)


def _by_element(d: Array) -> LinearMap:
    """Return the linear map of a number with derivative d by each element of a matrix."""
    return LinearMap(lambda t: sum(d * t, (-2, -1)), lambda g: expand_dims(g, (-1, -2)) * d)


det = Primitive(lambda a: module_of(a).linalg.det(a), lambda i, y, a: _by_element(_cofactors(y, a)), "det")
logabsdet = Primitive(lambda a, parts: parts[1], lambda i, y, a, parts: _by_element(T(inv(a))), "slogdet")


# ------------------------------------------------------------------------------------------- decompositions

def _cholesky_rule(i: int, y: Array, a: Array) -> LinearMap:
    z, half = inv(y), triangle(module_of(raw(a)).ones(shape(a)[-2:], raw(a).dtype))
    half = half - 0.5 * half * half.T                       # the lower triangle, and half the diagonal
    return LinearMap(lambda t: y @ (half * (z @ t @ T(z))), lambda g: T(z) @ (half * (T(y) @ g)) @ z)


cholesky = Primitive(lambda a: module_of(a).linalg.cholesky(a), _cholesky_rule, "cholesky")


def _inverse_gaps(a: Array, b: Array) -> Array:
    """Return 1 / (a_j + b_i) at row i and column j, 0 on the diagonal, NaN where it would be infinite."""
    gaps, diagonal = expand_dims(a, -2) + expand_dims(b, -1), module_of(raw(a)).eye(shape(a)[-1], dtype=bool)
    return where(diagonal, 0.0, 1.0 / where(diagonal | (raw(gaps) == 0), math.nan, gaps))


def _diagonal(u: Array, v: Array) -> LinearMap:
    """Return the map of t to the diagonal of u^T t v."""
    return LinearMap(lambda t: sum(u * (t @ v), -2), lambda g: u * expand_dims(g, -2) @ T(v))


def _eigenvectors_rule(i: int, v: Array, a: Array, parts: Any) -> LinearMap:
    w = eigenvalues(a, parts=parts)
    f = _inverse_gaps(w, -w)
    return LinearMap(lambda t: v @ (f * (T(v) @ t @ v)), lambda g: v @ (f * (T(v) @ g)) @ T(v))


eigenvectors = Primitive(lambda a, parts: parts[1], _eigenvectors_rule, "eigenvectors")
eigenvalues = Primitive(lambda a, parts: parts[0], lambda i, y, a, parts: _diagonal(
    *[eigenvectors(a, parts=parts)] * 2), "eigenvalues")


def right(a: Array, parts: Any) -> Array:
    """Return the right singular vectors, as columns: the left ones of the transposed matrix."""
    return left(T(a), parts=(T(parts[2]), parts[1], T(parts[0])))


def _left_rule(i: int, u: Array, a: Array, parts: Any) -> LinearMap:
    s, v = singular(a, parts=parts), right(a, parts)
    row = expand_dims(s, -2)
    gap, share = _inverse_gaps(s, -s), _inverse_gaps(s, s) * row       # their product would leave the range of the type
    tall = shape(u)[-2] > shape(u)[-1]                      # else there is nothing beside the space of u

    def beside(x: Array) -> Array:
        return (x - u @ (T(u) @ x)) / where(raw(row) == 0, math.nan, row) if tall else 0.0

    def push(t: Array) -> Array:
        p = T(u) @ t @ v * share
        return u @ (gap * (p + T(p))) + beside(t @ v)

    def pull(g: Array) -> Array:
        h = gap * (T(u) @ g)
        return (u @ ((h + T(h)) * share) + beside(g)) @ T(v)
    return LinearMap(push, pull)


left = Primitive(lambda a, parts: parts[0], _left_rule, "singular vectors")
singular = Primitive(lambda a, parts: parts[1], lambda i, y, a, parts: _diagonal(
    left(a, parts=parts), right(a, parts)), "singular values")


def _q_rule(i: int, q: Array, a: Array, parts: Any) -> LinearMap:
    r = triangle(T(q) @ a, lower=False)

    def push(t: Array) -> Array:
        c = T(solve(T(r), T(t)))                            # t R^-1
        below = triangle(T(q) @ c)
        return c - q @ (T(q) @ c - below + T(below))

    def pull(g: Array) -> Array:
        w = T(q) @ g
        return T(solve(r, T(g - q @ (triangle(w, lower=False) + triangle(T(w), -1)))))
    return LinearMap(push, pull)


q = Primitive(lambda a, parts: parts[0], _q_rule, "qr")


def _pinv_rule(i: int, y: Array, a: Array, rcond: Any) -> LinearMap:
    def along(t: Array) -> Array:                           # the derivative by a^T, which is its own transpose
        before, after = y @ T(y) @ t, t @ T(y) @ y
        return before - before @ a @ y + after - y @ (a @ after) - y @ T(t) @ y
    return LinearMap(lambda t: along(T(t)), lambda g: T(along(g)))


pinv = Primitive(lambda a, rcond: module_of(a).linalg.pinv(a, **({} if rcond is None else {"rcond": rcond})),
                 _pinv_rule, "pinv")
