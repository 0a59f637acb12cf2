"""Rows of the table (table.py) for the operations of ops/more_elementwise.py, joining.py and ordering.py, and how to call each on numbers and lists."""
import numpy as np
from hypothesis import strategies as st

from .strategies import array, distinct, full_shapes, generator, halves, positive, shapes, smooth
from .table import KINKED, Row, apart, axis_of, binary, on, reduced, unary, with_choice


def inside(rng, shape):
    """Return numbers in ±[0.1, 0.9]."""
    return rng.uniform(0.1, 0.9, shape) * rng.choice([-1.0, 1.0], shape)


def above(rng, shape):
    """Return numbers in [1.3, 2.7]."""
    return rng.uniform(1.3, 2.7, shape)


def wide(rng, shape):
    """Return numbers in [-6, 6], some of them 0."""
    return rng.uniform(-6.0, 6.0, shape) * rng.integers(0, 4, shape).clip(0, 1)


def holes(rng, shape):
    """Return numbers of which some are 0."""
    return smooth(rng, shape) * rng.integers(0, 3, shape).clip(0, 1)


@st.composite
def quotients(draw, f):
    """Draw a and b of one shape whose quotient is at least 0.2 away from every integer."""
    s = draw(shapes)
    b = array(draw, smooth, s)
    return f, (array(draw, halves, s) * b, b)


@st.composite
def calls(draw, *cases, values=smooth):
    """Draw one of these: (a function of m and arrays, the shape of each array)."""
    f, *found = draw(st.sampled_from(cases))
    return f, tuple(array(draw, values, s) for s in found)


def flat(f):
    """Return a row of a function whose values are plain: a product with x."""
    return Row(unary(lambda m, x: f(m, x) * x * x, halves), KINKED)


def masked(f, fill):
    """Return cases of a reduction with a mask and an initial value."""
    def make(draw, x):
        mask, axis = generator(draw).random(x.shape) < 0.6, draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
        return lambda m, x: f(m, x * x * x, axis=axis, where=on(m, mask), **({} if fill is None else {"initial": fill}))
    return make


def over_axis(f, more=(None,)):
    def make(draw, x):
        axis = draw(st.sampled_from([*range(-x.ndim, x.ndim), *more]))
        return lambda m, x: f(m, x * x, axis)
    return make


def quantiles(draw, x):
    q, axis = draw(st.sampled_from([0.3, [0.1, 0.77], 1.0, [[0.21, 0.0]]])), draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
    keepdims = draw(st.booleans())
    if draw(st.booleans()):
        return lambda m, x: m.percentile(x * x * x, on(m, np.multiply(q, 100.0, dtype=np.float32)), axis=axis, keepdims=keepdims)
    return lambda m, x: m.quantile(x * x * x, on(m, np.asarray(q, np.float32)), axis, keepdims=keepdims)


def nan_in(x):
    """Return x with NaN in it, as a constant: (an array to add)."""
    hole = np.zeros(x.shape)
    hole.reshape(-1)[::2] = np.nan
    return hole


def without_nan(name):
    def make(draw, x):
        hole, axis = nan_in(x), draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
        if np.isnan(hole).all(axis).any():
            hole, axis = np.zeros(x.shape), None
            hole.reshape(-1)[1:2] = np.nan
        return lambda m, x: getattr(m, name)(m.where(on(m, np.isnan(hole)), np.nan, x * x * x), axis)
    return make


def weighted(draw, x):
    axis = draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
    return lambda m, x: m.average(x, axis, weights=x * x) if axis is None else m.average(x, axis=axis, weights=on(m, np.arange(1, 1 + x.shape[axis], dtype=np.float32)))


def list_of(f):
    """Return f, whose result is a list of arrays, with the sum of their squares, which any order looks at."""
    return lambda m, x: [y * y for y in f(m, x)]


A, B, C = (2, 3), (2, 3, 2), (3,)
ROWS = {
    **{name: Row(unary(name, values), analytic) for name, values, analytic in [
        ("tan", inside, True), ("arcsin", inside, True), ("arccos", inside, True), ("arctan", smooth, True), ("sinh", smooth, True),
        ("cosh", smooth, True), ("arcsinh", smooth, True), ("arccosh", above, True), ("arctanh", inside, True), ("exp2", smooth, True),
        ("log2", positive, True), ("log10", positive, True), ("cbrt", smooth, KINKED), ("reciprocal", smooth, True), ("sinc", wide, True),
        ("positive", smooth, True)]},
    **{name: Row(unary(lambda m, x, name=name: m.square(getattr(m, name)(x)), smooth), KINKED) for name in "deg2rad rad2deg radians degrees fabs absolute".split()},
    **{name: Row(binary(name, smooth, smooth), KINKED) for name in "hypot arctan2 logaddexp logaddexp2".split()},
    "true_divide": Row(binary("true_divide", smooth, smooth)),
    "copysign": Row(binary("copysign", smooth, smooth).map(lambda case: ((lambda m, a, b: m.copysign(a, b) * a * b), case[1])), KINKED),
    "fmax": Row(apart(lambda m, a, b: m.fmax(a, b) * a), KINKED),
    "fmin": Row(apart(lambda m, a, b: m.fmin(a, b) * a), KINKED),
    **{name: flat(lambda m, x, name=name: getattr(m, name)(x)) for name in "sign floor ceil trunc".split()},
    "rint": flat(lambda m, x: m.rint(x + 0.5)),
    **{name: flat(lambda m, x, name=name: getattr(m, name)(x + 0.5) + getattr(m, name)(x * 0.1 + 0.05, decimals=1)) for name in ("round", "around")},
    **{name: Row(quotients(lambda m, a, b, name=name: getattr(m, name)(a, b) * a * b), KINKED) for name in "mod remainder fmod floor_divide".split()},
    "divmod": Row(quotients(lambda m, a, b: [part * a * b for part in m.divmod(a, b)]), KINKED),
    "nan_to_num": Row(unary(lambda m, x: m.nan_to_num(m.where(x > 1.0, np.nan, x * x), nan=2.0)), KINKED),
    # ---------------------------------------------------------------------------------------------- joining.py
    "array": Row(calls((lambda m, x: m.array([[x[0] * x[1], x[1]], [x[0], x[2]]]), C), (lambda m, x: m.array([x, x * x]), C), (lambda m, x: m.array(x * x), A))),
    "asarray": Row(calls((lambda m, x: m.asarray([x[0] * x[1], x[2]]), C), (lambda m, x: m.asarray(x * x), A))),
    "zeros_like": flat(lambda m, x: m.zeros_like(x) + 1.0),
    "ones_like": flat(lambda m, x: m.ones_like(x, dtype=x.dtype)),
    "full_like": Row(calls((lambda m, a, x: m.full_like(a, x * x), A, ()), (lambda m, a, x: m.full_like(a, x) * x, A, C), (lambda m, x: m.full_like(x, 2.0) * x, A)), KINKED),
    "append": Row(calls((lambda m, a, b: m.append(a * a, b), A, B), (lambda m, a, b: m.append(a * a, b, axis=1), A, A))),
    "hstack": Row(calls((lambda m, a, b: m.hstack((a * a, b)), A, A), (lambda m, a, b: m.hstack([a * a, b]), C, ()), (lambda m, a, b: m.hstack([a * a, b]), B, B))),
    "vstack": Row(calls((lambda m, a, b: m.vstack((a * a, b)), A, C), (lambda m, a, b: m.vstack([a * a, b]), B, B))),
    "dstack": Row(calls((lambda m, a, b: m.dstack((a * a, b)), A, A), (lambda m, a, b: m.dstack([a * a, b]), B, A), (lambda m, a, b: m.dstack([a * a, b]), C, C))),
    "column_stack": Row(calls((lambda m, a, b: m.column_stack((a * a, b)), A, (2,)), (lambda m, a, b: m.column_stack([a * a, b]), C, C))),
    "split": Row(calls((list_of(lambda m, x: m.split(x, 3)), (6,)), (list_of(lambda m, x: m.split(x, [1], axis=-1)), A))),
    "array_split": Row(calls((list_of(lambda m, x: m.array_split(x, 4)), (6, 2)), (list_of(lambda m, x: m.array_split(x, [2, 5, 9], axis=1)), (1, 7)))),
    "hsplit": Row(calls((list_of(lambda m, x: m.hsplit(x, 3)), A), (list_of(lambda m, x: m.hsplit(x, [1])), C))),
    "vsplit": Row(calls((list_of(lambda m, x: m.vsplit(x, 2)), A))),
    "dsplit": Row(calls((list_of(lambda m, x: m.dsplit(x, 2)), B))),
    "atleast_1d": Row(calls((lambda m, x: m.atleast_1d(x * x), ()), (lambda m, x, y: m.atleast_1d(x, y * y), (), A))),
    "atleast_2d": Row(calls((lambda m, x: m.atleast_2d(x * x), ()), (lambda m, x: m.atleast_2d(x * x), C), (lambda m, x, y: m.atleast_2d(x, y * y), C, B))),
    "atleast_3d": Row(calls((lambda m, x: m.atleast_3d(x * x), ()), (lambda m, x: m.atleast_3d(x * x), C), (lambda m, x, y: m.atleast_3d(x * x, y), A, B))),
    "repeat": Row(calls((lambda m, x: m.repeat(x * x, 2), A), (lambda m, x: m.repeat(x * x, [0, 2, 1], axis=-1), A), (lambda m, x: m.repeat(x * x, 3, 0), B), (lambda m, x: m.repeat(x * x, [2]), C))),
    "tile": Row(calls((lambda m, x: m.tile(x * x, 2), A), (lambda m, x: m.tile(x * x, (2, 1, 3)), C), (lambda m, x: m.tile(x * x, (2, 3)), B), (lambda m, x: m.tile(x, (0, 2)), A), (lambda m, x: m.tile(x * x, 3), ()))),
    "roll": Row(calls((lambda m, x: m.roll(x * x, 4), A), (lambda m, x: m.roll(x * x, -1, axis=1), A), (lambda m, x: m.roll(x * x, (1, 2), axis=(0, -1)), B), (lambda m, x: m.roll(x * x, 1, (0, 1)), A))),
    "rot90": Row(with_choice(lambda draw, x: (lambda k, axes: lambda m, x: m.rot90(m.square(x)[None], k, axes))(draw(st.integers(-5, 5)), draw(st.sampled_from([(0, 1), (1, 0), (-1, 0)]))), shape=full_shapes)),
    "fliplr": Row(calls((lambda m, x: m.fliplr(x * x), A))),
    "flipud": Row(calls((lambda m, x: m.flipud(x * x), C))),
    **{name: Row(calls(*[(lambda m, x, k=k, name=name: getattr(m, name)(x * x, k), s) for k in (-2, 0, 1) for s in (A, B, (2, 0))])) for name in ("tril", "triu")},
    "row_stack": Row(calls((lambda m, x, y: m.row_stack([x * x, y]), A, C))),
    "rollaxis": Row(calls(*[(lambda m, x, axis=axis, start=start: m.rollaxis(x * x, axis, start), B) for axis in (-1, 0, 1) for start in (-2, 0, 2, 3)])),
    **{name: Row(unary(lambda m, x, name=name: m.square(getattr(m, name)(x)), smooth), KINKED) for name in "real conj conjugate real_if_close".split()},
    "imag": flat(lambda m, x: m.imag(x)),
    "angle": flat(lambda m, x: m.angle(x)),
    "diag": Row(calls(*[(lambda m, x, k=k: m.diag(x * x, k), s) for k in (-1, 0, 2, 5) for s in (A, C)])),
    "diagonal": Row(calls(*[(lambda m, x, k=k: m.diagonal(x * x, k), s) for k in (-1, 0, 2, -5) for s in (A, B)], (lambda m, x: m.diagonal(x * x, axis1=-1, axis2=0), B))),
    "trace": Row(calls(*[(lambda m, x, k=k: m.trace(x * x, k), s) for k in (-1, 0, 2) for s in (A, B)], (lambda m, x: m.trace(x * x, axis1=2, axis2=0), B))),
    "select": Row(calls((lambda m, x: m.select([x > 1.0, x > 0.0], [x * x, x], 4.0), A), (lambda m, x: m.select([x > 0.0], [x * x]), C)), KINKED),
    "meshgrid": Row(calls((lambda m, x, y: m.meshgrid(x * x, y), C, (2,)), (lambda m, x, y: m.meshgrid(x * x, y, indexing="ij"), C, (2,)), (lambda m, x, y, z: m.meshgrid(x * x, y, z, sparse=True), C, (2,), (1,)), (lambda m, x: m.meshgrid(x * x), C))),
    "linspace": Row(calls((lambda m, a, b: m.linspace(a * a, b, 5), (), ()), (lambda m, a, b: m.linspace(a * a, b, 4, endpoint=False, axis=-1), A, C), (lambda m, b: m.linspace(0.0, b * b, 1), ()), (lambda m, b: m.linspace(0.0, b * b, 0), ()))),
    "broadcast_arrays": Row(calls((lambda m, x, y: m.broadcast_arrays(x * x, y), A, C))),
    # ---------------------------------------------------------------------------------------------- ordering.py
    "amax": Row(reduced(lambda m, x, **how: m.amax(x * x * x, **how), distinct), KINKED),
    "amin": Row(reduced(lambda m, x, **how: m.amin(x * x * x, **how), distinct), KINKED),
    "prod": Row(st.one_of(reduced("prod", holes, shapes), with_choice(masked(lambda m, x, **how: m.prod(x, **how), 2.5), holes))),
    "cumsum": Row(calls(*[(lambda m, x: m.cumsum(x * x), s) for s in (B, (4,), ())])),     # the stand-in for CUDA refuses CuPy's kernel for axes of several: test_numpy.py
    "cumprod": Row(calls(*[(lambda m, x: m.cumprod(x), s) for s in (B, (5,), ())], values=holes)),
    "diff": Row(calls((lambda m, x: m.diff(x * x), B), (lambda m, x: m.diff(x * x, 2, axis=1), B), (lambda m, x: m.diff(x * x, n=0), C), (lambda m, x: m.diff(x * x, 1, 0), (1, 2)))),
    "gradient": Row(calls((lambda m, x: m.gradient(x * x), (4,)), (lambda m, x: m.gradient(x * x, 0.5), A), (lambda m, x: m.gradient(x * x, on(m, np.array([0.0, 1.0, 3.0])), axis=1), A),
                          (lambda m, x: m.gradient(x * x, 2.0, on(m, np.array([0.0, 1.0, 3.0]))), (2, 3)))),
    "sort": Row(with_choice(over_axis(lambda m, x, axis: m.sort(x * x * x, axis=axis)), distinct, full_shapes), KINKED),
    "matrix_transpose": Row(calls((lambda m, x: m.matrix_transpose(x * x), B))),
    "take_along_axis": Row(calls(*[(lambda m, x, i=i, k=k: m.take_along_axis(x * x, on(m, np.array(i)), k), (3, 2)) for i, k in (([[0, 1], [1, 1], [0, 0]], -1), ([[2, 0], [2, -1]], 0), ([[1]], 1), ([5, 0, 0], None))])),
    "partition": Row(with_choice(lambda draw, x: (lambda axis: lambda m, x: m.sort(m.partition(x * x * x, 0, axis=axis), axis=axis))(axis_of(draw, x)), distinct), KINKED),
    "median": Row(reduced(lambda m, x, **how: m.median(x * x * x, **how), distinct), KINKED),
    "quantile": Row(with_choice(quantiles, distinct), KINKED),
    "percentile": Row(st.one_of(with_choice(quantiles, distinct), calls((lambda m, x, q: m.percentile(x * x, 50.0 + q), (4,), ()), values=distinct)), KINKED),
    **{name: Row(with_choice(without_nan(name), distinct, full_shapes), KINKED) for name in "nansum nanmean nanmax nanmin".split()},
    "ptp": Row(reduced(lambda m, x, **how: m.ptp(x * x * x, **how), distinct), KINKED),
    "average": Row(st.one_of(with_choice(weighted), calls((lambda m, x: m.average(x, axis=(2, 0), weights=m.square(x[:, 0]), keepdims=True), (2, 1, 2)), (lambda m, x: m.average(x * x, 0, returned=True), A)))),
}
WITHOUT = {"all", "any", "iscomplex", "argsort", "argpartition", "count_nonzero"}        # of no derivative: see NOT_A_PRIMITIVE
MASKED = {
    "sum": Row(with_choice(masked(lambda m, x, **how: m.sum(x, **how), 2.5))),
    "mean": Row(with_choice(lambda draw, x: (lambda mask: lambda m, x: m.mean(x * x, where=on(m, mask)))((lambda r: (r < 0.6) | (r == r.max()))(generator(draw).random(x.shape))))),
    "max": Row(with_choice(masked(lambda m, x, **how: m.max(x, **how), -0.03), distinct), KINKED),
    "min": Row(with_choice(masked(lambda m, x, **how: m.min(x, **how), 0.03), distinct), KINKED),
}

X, V = [[0.1, 0.4, 0.3], [0.7, 0.9, 0.6]], [0.3, 0.8, 0.5]  # of test_fuzz.py
UNARY = """absolute fabs arctan arcsinh cosh sinh tan exp2 cbrt positive deg2rad rad2deg radians degrees sinc sign floor ceil trunc rint round around nan_to_num
           all any count_nonzero zeros_like ones_like array asarray atleast_1d atleast_2d atleast_3d amax amin prod cumsum cumprod median
           nansum nanmean nanmax nanmin ptp average log2 log10 reciprocal real imag conj conjugate angle real_if_close iscomplex""".split()
BINARY = "hypot arctan2 logaddexp logaddexp2 copysign fmax fmin mod remainder fmod floor_divide divmod true_divide append".split()
NUMBERS = {                                                 # calls of m on a number or an array without axes, for test_numbers.py
    **{name: lambda m, x, name=name: getattr(m, name)(x) for name in UNARY},
    **{name: lambda m, x, name=name: getattr(m, name)(x, x) for name in BINARY},
    "arcsin": lambda m, x: m.arcsin(m.multiply(x, 0.4)), "arccos": lambda m, x: m.arccos(m.multiply(x, 0.4)), "arccosh": lambda m, x: m.arccosh(m.add(x, 1)), "arctanh": lambda m, x: m.arctanh(m.multiply(x, 0.4)),
    "full_like": lambda m, x: m.full_like(x, x), "hstack": lambda m, x: m.hstack([x, x]), "vstack": lambda m, x: m.vstack([x, x]), "row_stack": lambda m, x: m.row_stack([x, x]), "dstack": lambda m, x: m.dstack([x, x]),
    "column_stack": lambda m, x: m.column_stack([x, x]), "repeat": lambda m, x: m.repeat(x, 3), "tile": lambda m, x: m.tile(x, (2, 2)), "roll": lambda m, x: m.roll(x, 2),
    "select": lambda m, x: m.select([np.asarray(True)], [x]), "meshgrid": lambda m, x: m.meshgrid(x, x)[0], "linspace": lambda m, x: m.linspace(x, x, 3), "broadcast_arrays": lambda m, x: m.broadcast_arrays(x, x)[0],
    "quantile": lambda m, x: m.quantile(x, 0.5), "percentile": lambda m, x: m.percentile(x, 50), "argsort": lambda m, x: m.argsort(x, None), "argpartition": lambda m, x: m.argpartition(x, 0, None),
    "sort": lambda m, x: m.sort(x, None), "take_along_axis": lambda m, x: m.take_along_axis(x, np.array([0, 0]), None), "partition": lambda m, x: m.partition(x, 0, None)}
NEED_AXES = {                                               # ... which a number has too few axes for
    "array_split": lambda m, x: m.array_split(x, 2), "split": lambda m, x: m.split(x, 2), "hsplit": lambda m, x: m.hsplit(x, 2), "vsplit": lambda m, x: m.vsplit(x, 2), "dsplit": lambda m, x: m.dsplit(m.array([x]), 2),
    "rollaxis": lambda m, x: m.rollaxis(x, 0), "rot90": lambda m, x: m.rot90(x), "fliplr": lambda m, x: m.fliplr(x), "flipud": lambda m, x: m.flipud(x), "tril": lambda m, x: m.tril(x), "triu": lambda m, x: m.triu(x),
    "diag": lambda m, x: m.diag(x), "diagonal": lambda m, x: m.diagonal(x), "trace": lambda m, x: m.trace(x), "diff": lambda m, x: m.diff(x), "gradient": lambda m, x: m.gradient([x, x], axis=1) if np.ndim(x) == 0 else m.gradient(x)}
ARGUMENTS = {                                               # of valid calls, for test_fuzz.py
    **{name: (X,) for name in UNARY if name != "average"}, **{name: (X, V) for name in BINARY}, **{name: (V,) for name in "arcsin arccos arctanh".split()}, "arccosh": ([1.5, 2.0],), "full_like": (X, 2.0), "round": (X, 1),
    "hstack": ([V, V],), "vstack": ([V, V],), "rollaxis": (X, 1, 0), "row_stack": ([V, V],), "dstack": ([V, V],), "column_stack": ([V, V],), "append": (X, V, None), "repeat": (X, 2, 1), "tile": (X, (2, 1)), "roll": (X, 1, 0), "rot90": (X, 1, (0, 1)), "fliplr": (X,), "flipud": (X,),
    "tril": (X, 1), "triu": (X, 0), "diag": (X, 0), "diagonal": (X, 0, 0, 1), "trace": (X, 0, 0, 1), "select": ([np.array(X) > 0.5], [X], 1.0), "meshgrid": (V, V), "linspace": (V, 1.0, 4), "broadcast_arrays": (X, V),
    "array": (X, "float32"), "asarray": (X, "float32"), "array_split": (X, 2, 1), "split": (X, 3, 1), "hsplit": (X, [1]), "vsplit": (X, 2), "dsplit": ([X], 3), "diff": (X,), "gradient": (X, 0.5), "prod": (X, 0), "cumsum": (X, 0), "cumprod": (X, 0),
    "sort": (X, 0), "take_along_axis": (X, [[0]], 1), "matrix_transpose": (X,), "partition": (X, 1, 0), "argsort": (X, 0), "argpartition": (X, 1, 0), "quantile": (X, 0.3, 0), "percentile": (X, 30, 0), "median": (X, 0), "average": (X, 1, V), "nansum": (X, 0), "nanmean": (X, 0), "ptp": (X, 0),
    "all": (X, 0), "any": (X, 0), "count_nonzero": (X, 0), "nan_to_num": (X, True, 0.0)}
