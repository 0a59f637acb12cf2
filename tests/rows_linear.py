"""Rows of the table (table.py): products, and the functions of minigrad.linalg.

Eigenvectors, singular vectors and Q have signs that mean nothing; rows take what does not depend on them.
"""
import math

import numpy as np
from hypothesis import strategies as st

from .strategies import array, full_shapes, shapes, smooth
from .table import KINKED, Row, arrays


def spread(rng, shape):
    """Return matrices with singular values near 1, 2, 3 ..., in no order: of full rank, none equal."""
    lead, (m, n) = shape[:-2], shape[-2:]
    k = min(m, n)
    u, v = (np.linalg.qr(rng.normal(size=(*lead, size, k)))[0] for size in (m, n))
    return (u * (rng.permutation(k) + rng.uniform(0.9, 1.1, (*lead, 1, k)))) @ np.swapaxes(v, -1, -2)


def symmetric(rng, shape):
    """Return symmetric matrices with eigenvalues near -1, 1, 2 ...: none equal, nor opposite."""
    u, n = np.linalg.qr(rng.normal(size=shape))[0], shape[-1]
    w = np.arange(n) + rng.uniform(0.9, 1.1, (*shape[:-2], 1, n))
    w[..., 0] *= rng.choice([-0.5, 0.5])
    return (u * w) @ np.swapaxes(u, -1, -2)


def definite(rng, shape):
    """Return positive definite matrices."""
    a = rng.normal(size=shape) / 2.0
    return a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])


squares = st.sampled_from([(1, 1), (2, 2), (3, 3), (2, 3, 3), (2, 1, 2, 2)])
matrices = squares | st.sampled_from([(3, 2), (2, 3), (1, 3), (2, 3, 2), (2, 1, 3)])
SOLVER = ("cusolver",)


def row(f, values, shape=squares, analytic=True):
    """Return the row of a function f(m, x, choice) of matrices; choice: a number from 0 to 11."""
    @st.composite
    def cases(draw):
        x, choice = array(draw, values, draw(shape)), draw(st.integers(0, 11))
        return (lambda m, x: f(m, x, choice)), (x,)
    return Row(cases(), analytic, SOLVER)


@st.composite
def pair(draw, name, *some):
    """Draw two arrays of shapes that fit, and call the operation."""
    a, b = draw(st.sampled_from(some))
    return (lambda m, a, b: getattr(m, name)(a, b)), (array(draw, smooth, a), array(draw, smooth, b))


@st.composite
def any_pair(draw, f):
    """Draw two arrays of any shapes."""
    return f, (draw(arrays(shape=shapes)), draw(arrays(shape=full_shapes)))


CROSSES = [((3,), (3,), {}), ((2, 3), (3,), {}), ((2, 1, 3), (2, 3), {}), ((3, 2), (3, 2), dict(axis=0)), ((3, 2), (2, 3), dict(axisa=0, axisc=0)),
           ((2,), (2,), {}), ((4, 2), (2,), {}), ((2,), (3,), {}), ((2, 3), (2, 2), {}), ((0, 3), (3,), {})]


@st.composite
def crossed(draw):
    a, b, how = draw(st.sampled_from(CROSSES))
    return (lambda m, a, b: m.cross(a, b, **how)), (array(draw, smooth, a), array(draw, smooth, b))


@st.composite
def convolved_rows(draw):
    n, k, mode = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.sampled_from(["full", "same", "valid"]))
    return (lambda m, a, v: m.convolve(a, v, mode)), (array(draw, smooth, (n,)), array(draw, smooth, (k,)))


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 2)), ("ij,jk", (2, 0), (0, 3)), ("ij,kj->ki", (2, 3), (4, 3)), ("i,i", (3,), (3,)), ("i,j->ji", (3,), (2,)),
    ("ij->ji", (2, 3)), ("ba", (2, 3)), ("ij->j", (2, 3)), ("ij->", (2, 3)), ("ii", (3, 3)), ("ii->i", (2, 2)), ("iij->ji", (2, 2, 3)), ("iii->i", (2, 2, 2)), ("->", ()),
    ("ij,ij->ij", (1, 3), (2, 3)), ("i,i->", (1,), (3,)), ("ij,j->i", (2, 1), (3,)), ("ij,jk->k", (2, 3), (3, 2)), ("ij,kl->", (2, 2), (2, 1)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 1)), ("bij,bij->b", (2, 2, 3), (2, 2, 3)), ("...ij,...jk->...ik", (2, 1, 2, 3), (2, 3, 2)), ("...i->...", (2, 3)), ("i...,i", (3, 2), (3,)),
    ("...,...", (2, 1), (3,)), ("...,...", (3,), (2, 1)), ("ij,...j", (2, 3), (2, 1, 3)), ("i,ij,j->", (2,), (2, 3), (3,)), ("ij,jk,kl->il", (2, 3), (3, 1), (1, 2)), ("i,i,i->i", (3,), (3,), (3,)), ("i,i,i->", (2,), (1,), (2,)), (",ij->ji", (), (2, 3)), ("Ba,aB -> B", (2, 3), (3, 2))]


@st.composite
def summed(draw):
    subscripts, *some = draw(st.sampled_from(EINSUMS))
    return (lambda m, *xs: m.einsum(subscripts, *[x * x for x in xs])), tuple(array(draw, smooth, s) for s in some)


@st.composite
def solved(draw, triangular=False):
    """Draw equations: b is a vector or columns, and leading axes broadcast."""
    a, b = draw(st.sampled_from([((2, 2), (2,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 2, 2), (2, 1)), ((2, 2), (3, 2, 1)), ((2, 1, 1, 1), (2, 1, 2)), ((0, 0), (0, 2)), ((2, 2), (2, 0))]))
    how = dict(zip(("trans", "lower", "unit_diagonal"), (draw(st.sampled_from([0, "N", 1, "T"])), draw(st.booleans()), draw(st.booleans()))))
    xs = array(draw, definite if triangular else spread, a), array(draw, smooth, b)
    return (lambda m, a, b: m.linalg.solve_triangular(a, b, **how) if triangular else m.linalg.solve(a, b)), xs


@st.composite
def fitted(draw):
    a, b = draw(st.sampled_from([((4, 2), (4,)), ((4, 2), (4, 2)), ((2, 3), (2,)), ((2, 2), (2, 1)), ((3, 1), (3,))]))
    return (lambda m, a, b: m.linalg.lstsq(a, b)[:2]), (array(draw, spread, a), array(draw, smooth, b))


@st.composite
def chained(draw):
    some = draw(st.sampled_from([[(2, 3), (3, 2)], [(3,), (3, 2), (2, 4), (4,)], [(2, 3), (3, 1), (1, 3), (3,)], [(2,), (2,)]]))
    return (lambda m, *xs: m.linalg.multi_dot(xs)), tuple(array(draw, smooth, s) for s in some)


def gram(m, u, s):
    """Return U diag(s) U^T, which does not depend on the signs of the columns of U."""
    return (u * s[..., None, :]) @ m.swapaxes(u, -1, -2)


def eigh(m, a, choice):
    w, v = m.linalg.eigh(a, "LU"[choice % 2])
    return w, v * v, gram(m, v, w * w)


def svd(m, a, choice):
    if choice % 3 == 0:
        return m.linalg.svd(a, compute_uv=False)
    u, s, v = m.linalg.svd(a, choice % 2 == 1 and a.shape[-1] == a.shape[-2])
    return u * u, v * v, gram(m, u, m.sin(s)), u @ v


def qr(m, a, choice):
    if choice % 2:
        r = m.linalg.qr(a, "r")
        return r * r, m.swapaxes(r, -1, -2) @ r
    q, r = m.linalg.qr(a)
    return q * q, r * r, q @ r


def slogdet(m, a, choice):
    sign, y = m.linalg.slogdet(a)
    return sign * y


def apart(rng, shape):
    """Return numbers away from 0, of which no two have nearly the same absolute value."""
    n = math.prod(shape)
    return (0.4 * 1.15 ** rng.permutation(n) * rng.choice([-1.0, 1.0], n)).reshape(shape)


@st.composite
def normed(draw):
    """Draw a norm over one or two axes, or over all."""
    shape, keepdims = draw(st.sampled_from([(2, 2), (3, 2), (2, 3, 2)])), draw(st.booleans())
    count = draw(st.sampled_from([0, 1, 2]))
    axes = {0: None, 1: draw(st.integers(-len(shape), len(shape) - 1)), 2: draw(st.sampled_from([(-2, -1), (-1, -2)] + [(0, -1)] * (len(shape) > 2)))}[count]
    ord = draw(st.sampled_from({0: [None], 1: [None, 2, 1, 3, -2, 0.5, math.inf, -math.inf], 2: [None, "fro", "nuc", 2, -2, 1, -1, math.inf, -math.inf]}[count]))
    x = array(draw, spread if ord in ("nuc", 2, -2) and axes != (0, -1) else apart, shape)
    return (lambda m, x: m.linalg.norm(x, ord, axes, keepdims)), (x,)


ROWS = {
    "dot": Row(pair("dot", ((), (2, 3)), ((3,), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 2)), ((2, 3), (2, 3, 1)), ((2, 1, 3), (3,)), ((2, 1, 3), (2, 3, 2)), ((2, 0), (0, 3)))),
    "inner": Row(pair("inner", ((), (2, 3)), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (1, 3)), ((2, 1, 2), (3, 2)), ((0,), (2, 0)))),
    "outer": Row(any_pair(lambda m, a, b: m.outer(a, b))),
    "kron": Row(any_pair(lambda m, a, b: m.kron(a, b))),
    "vdot": Row(pair("vdot", ((), ()), ((3,), (3,)), ((2, 3), (3, 2)), ((0,), (2, 0))), KINKED),      # conj(a) is not analytic
    "cross": Row(crossed()),
    "convolve": Row(convolved_rows()),
    "einsum": Row(summed()),
    "linalg.inv": row(lambda m, a, _: m.linalg.inv(a), spread),
    "linalg.det": row(lambda m, a, _: m.linalg.det(a), spread, st.sampled_from([(1, 1), (2, 2), (3, 3), (2, 4, 4), (0, 0), (0, 4, 4)])),
    "linalg.slogdet": row(slogdet, spread, analytic=False),
    "linalg.solve": Row(solved(), True, SOLVER),
    "linalg.solve_triangular": Row(solved(True), True, SOLVER),
    "linalg.lstsq": Row(fitted(), KINKED, SOLVER),
    "linalg.pinv": row(lambda m, a, choice: m.linalg.pinv(a, *[1e-9] * (choice % 2)), spread, matrices, analytic=False),
    "linalg.cholesky": row(lambda m, a, choice: m.linalg.cholesky(a, upper=choice % 2 == 1), definite, analytic=False),
    "linalg.eigh": row(eigh, symmetric, analytic=False),
    "linalg.eigvalsh": row(lambda m, a, choice: m.linalg.eigvalsh(a, "LU"[choice % 2]), symmetric, analytic=False),
    "linalg.svd": row(svd, spread, matrices, analytic=False),
    "linalg.qr": row(qr, spread, matrices, analytic=False),
    "linalg.matrix_power": row(lambda m, a, choice: m.linalg.matrix_power(a, choice % 8 - 3), spread),
    "linalg.multi_dot": Row(chained()),
    "linalg.trace": Row(st.tuples(st.sampled_from([-3, -1, 0, 1, 2]).map(lambda k: lambda m, x: m.linalg.trace(x * x, offset=k)), st.tuples(arrays(shape=st.sampled_from([(2, 2), (2, 3), (3, 1), (2, 3, 2)]))))),
    "linalg.norm": Row(normed(), KINKED, SOLVER),
}
