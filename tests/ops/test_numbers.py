"""In every operation, a number acts as an array without axes, and a list as the array that NumPy makes of it."""
import math
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, grad, linearize

from ..plain import plain
from ..table import TABLE, rows_numpy

UNARY = """negative square exp expm1 log log1p sqrt sin cos tanh sigmoid softplus relu abs stop_gradient sum mean std max
           min logsumexp ravel transpose squeeze flip""".split()
BINARY = "add subtract multiply divide power maximum minimum dot inner outer kron vdot convolve".split()
AXES = "softmax log_softmax".split()                        # they need an axis, which a number does not have

# How each operation of m, minigrad or plain NumPy, is called on x, a number or an array without axes.
CALLS = {
    **{name: lambda m, x, name=name: getattr(m, name)(x) for name in UNARY},
    **{name: lambda m, x, name=name: getattr(m, name)(x, x) for name in BINARY},
    **{name: lambda m, x, name=name: getattr(m, name)(x, ()) for name in AXES},
    "where": lambda m, x: m.where(x > 1, x, x), "clip": lambda m, x: m.clip(x, 0, 5), "astype": lambda m, x: m.astype(x, "float32"),
    "var": lambda m, x: m.var(x), "tensordot": lambda m, x: m.tensordot(x, x, 0), "argmax": lambda m, x: m.argmax(x),
    "argmin": lambda m, x: m.argmin(x), "einsum": lambda m, x: m.einsum(",", x, x), "reshape": lambda m, x: m.reshape(x, (1, -1)), "moveaxis": lambda m, x: m.moveaxis(x, (), ()),
    "expand_dims": lambda m, x: m.expand_dims(x, (0, 1)), "getitem": lambda m, x: m.getitem(x, (None, ...)),
    "scatter_add": lambda m, x: m.scatter_add(x, (3,), 1), "take": lambda m, x: m.take(x, np.array([0, 0])), "pad": lambda m, x: m.pad(x, 0) if m is mg else x,
    "crop": lambda m, x: m.crop(x, 0), "concatenate": lambda m, x: m.concatenate([x, x], None) if m is mg else np.array([x, x]),
    "stack": lambda m, x: m.stack([x, x]), "broadcast_to": lambda m, x: m.broadcast_to(x, (2, 3)),
    "sum_to": lambda m, x: m.sum_to(x, ()), "standardize": lambda m, x: m.standardize(x, (), 0.1),
    **{name: lambda m, x, name=name: getattr(m, name)(x) for name in "silu gelu leaky_relu elu selu".split()},
    **rows_numpy.NUMBERS, "dropout": lambda m, x: m.dropout(x, 0.3, 2), "checkpoint": lambda m, x: m.checkpoint(lambda x: m.exp(x) * 2.0)(x)}
REFUSED = {                                                 # a number has too few axes for these
    "matmul": lambda m, x: m.matmul(x, x), "cross": lambda m, x: m.cross(x, x), "swapaxes": lambda m, x: m.swapaxes(x, 0, 0), "matrix_transpose": lambda m, x: m.matrix_transpose(x), "conv2d": lambda m, x: m.conv2d(x, x),
    "conv1d": lambda m, x: m.conv1d(x, x), "conv_transpose2d": lambda m, x: m.conv_transpose2d(x, x),
    "max_pool2d": lambda m, x: m.max_pool2d(x, 2), "avg_pool2d": lambda m, x: m.avg_pool2d(x, 2),
    "unfold": lambda m, x: m.unfold(x, 2), "fold": lambda m, x: m.fold(x, (2, 2), 1, 0), **rows_numpy.NEED_AXES}


OPERATIONS = [name for name in TABLE if "." not in name]      # nn: labels in lists, see test_losses.py; linalg: test_linalg.py


def test_every_operation_is_called():
    assert {*CALLS, *REFUSED} == {*OPERATIONS, *rows_numpy.WITHOUT, "argmax", "argmin"} - {"with_derivative"}


@pytest.mark.parametrize("number", [0.75, 2.0, 2, np.float32(0.75)])
@pytest.mark.parametrize("name", CALLS)
def test_a_number_is_an_array_of_no_axes(name, number):
    x = np.asarray(number)
    found, expected = CALLS[name](mg, number), CALLS[name](mg, x)
    np.testing.assert_array_equal(found, expected, strict=True)
    np.testing.assert_allclose(np.asarray(found), np.asarray(CALLS[name](plain, x)), rtol=1e-6, strict=name not in ("dropout", "relu"))
    if x.dtype.kind == np.asarray(expected).dtype.kind == "f" and name != "std":       # std has a kink at one element
        (_, by_number), (_, by_array) = linearize(CALLS[name].__get__(mg), number), linearize(CALLS[name].__get__(mg), x)
        np.testing.assert_array_equal(by_number.push(1.0), by_array.push(1.0))
        np.testing.assert_array_equal(by_number.pull(found), by_array.pull(expected))


@pytest.mark.parametrize("number", [0.75, 2])
@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_axes_says_so(name, number):
    for x in (number, np.asarray(number)):
        with pytest.raises(mg.MinigradError):
            REFUSED[name](mg, x)


IMAGE = (np.arange(32.0).reshape(1, 4, 4, 2) % 5 + 1.0).tolist()
ON_LISTS = {**CALLS, **REFUSED, **{name: lambda m, x, name=name: getattr(m, name)(x) for name in AXES},
            "transpose": lambda m, x: m.transpose(x, (1, 0)), "moveaxis": lambda m, x: m.moveaxis(x, 0, -1),
            "swapaxes": lambda m, x: m.swapaxes(x, 0, 1), "scatter_add": lambda m, x: m.scatter_add(x, (3, 2), slice(1, 3)),
            "take": lambda m, x: m.take(x, [0, 0, 1], 1), "pad": lambda m, x: m.pad(x, 1), "crop": lambda m, x: m.crop(x, 1),
            "getitem": lambda m, x: m.getitem(x, [0, 0]), "broadcast_to": lambda m, x: m.broadcast_to(x, (2, 2, 2)),
            "squeeze": lambda m, x: m.squeeze([x], 0), "concatenate": lambda m, x: m.concatenate([x, x], 1),
            "stack": lambda m, x: m.stack([x, x], 1), "sum_to": lambda m, x: m.sum_to(x, (1, 2)),
            "tensordot": lambda m, x: m.tensordot(x, x, 1), "convolve": lambda m, x: m.convolve(x[0], x[1]), "einsum": lambda m, x: m.einsum("ij,jk", x, x), "standardize": lambda m, x: m.standardize(x, 0),
            "where": lambda m, x: m.where([[True, False], [False, True]], x, [0.0, 5.0]),
            "conv1d": lambda m, x: m.conv1d(IMAGE[0], np.ones((2, 2, 1)).tolist()), "conv_transpose2d": lambda m, x: m.conv_transpose2d(IMAGE, np.ones((2, 2, 1, 2)).tolist()),
            "conv2d": lambda m, x: m.conv2d(IMAGE, np.ones((2, 2, 2, 1)).tolist()), "max_pool2d": lambda m, x: m.max_pool2d(IMAGE, 2),
            "avg_pool2d": lambda m, x: m.avg_pool2d(IMAGE, 2), "unfold": lambda m, x: m.unfold(IMAGE, 2),
            "fold": lambda m, x: m.fold(np.ones((1, 3, 3, 2, 2, 2)).tolist(), (4, 4), (1, 1), ((0, 0), (0, 0)))}


def arrays(args):
    """Return the same arguments, with an array in place of every list of numbers."""
    return [np.asarray(a) if isinstance(a, list) else a for a in args]


@pytest.mark.parametrize("name", ON_LISTS)
def test_a_list_is_the_array_that_numpy_makes_of_it(name):
    """Every primitive and every public operation is called with lists, and with the arrays that they stand for."""
    rows = [[0.25, 0.5], [1.5, 2.0]]
    outer = {f: getattr(mg, f) for f in OPERATIONS}
    found = ON_LISTS[name](mg, rows) if name != "checkpoint" else None
    lists = types.SimpleNamespace(**{**vars(mg), **{f: lambda *args, f=f, **how: outer[f](*arrays(args), **how) for f in outer}})
    if name != "checkpoint":                                # its arguments are trees: a list is one
        np.testing.assert_array_equal(found, ON_LISTS[name](lists, rows), strict=True)


@pytest.mark.parametrize("f, x", [
    (lambda x, c: x * c, [1.0, 2.0]), (lambda x, c: c - x, [1.0, 2.0]), (lambda x, c: x ** c, [1, 2]), (lambda x, c: x @ c, [[1.0], [2.0]]),
    (lambda x, c: mg.maximum(c, x), [0.0, 9.0]), (lambda x, c: mg.concatenate([x, c]), [1.0]), (lambda x, c: mg.stack([c, x]), (1.0, 2.0)),
    (lambda x, c: mg.tensordot(x, c, 0), [1.0, 2.0]), (lambda x, c: mg.where([True, False], x, c), [1.0, 2.0]),
    (lambda x, c: mg.stack([x[0], x[1], c]), 0.0), (lambda x, c: mg.concatenate([x, mg.expand_dims(c, 0)]), 0.0),
    (lambda x, c: mg.tensordot(x, c, 0), 2), (lambda x, c: mg.stack([mg.sum(x), 1, c]), 0.0), (lambda x, c: x / c, (2, 4))])
def test_lists_and_numbers_beside_a_traced_value(f, x):
    a = np.array([3.0, 4.0])
    (y, J), (z, K) = (linearize(lambda a: f(a, c), a) for c in (x, np.asarray(x)))
    np.testing.assert_array_equal(y, z, strict=True)
    np.testing.assert_array_equal(J.push(a), K.push(a))
    np.testing.assert_array_equal(J.pull(y), K.pull(z))
    H, L = (mg.hessian(lambda a: mg.sum(mg.sin(f(a, c))))(a) for c in (x, np.asarray(x)))
    np.testing.assert_array_equal(H, L)


def test_lists_go_where_the_arrays_are(device):
    for f in (mg.add, lambda x, c: c * x, mg.matmul, mg.maximum, lambda x, c: mg.stack([x, c]), lambda x, c: mg.concatenate([c, x]),
              lambda x, c: mg.where([True, False], x, c), lambda x, c: mg.stack([x[0], 1.0, 2]), lambda x, c: mg.take(x, [0, 0]),
              lambda x, c: mg.tensordot(c, x, 0)):
        x, c = np.array([3.0, 4.0]), [1.0, 2.0]
        (y, J), (z, K) = linearize(lambda x: f(x, c), mg.xp.asarray(x)), linearize(lambda x: f(x, c), x)
        for a, b in ((y, z), (J.push(mg.xp.asarray(x)), K.push(x)), (J.pull(y), K.pull(z))):
            assert mg.backend.on_device(a) == (device != "numpy")
            np.testing.assert_allclose(mg.to_host(a), b, rtol=1e-12)


def test_lists_beside_large_arrays():
    """Above a megabyte an operation processes its arguments in chunks."""
    x = np.ones((300_000, 1))
    for other in ([1.0], [[1.0]], (1.0,), 1.0, 1):
        np.testing.assert_array_equal(mg.add(x, other), x + 1.0, strict=True)
        np.testing.assert_array_equal(mg.add(other, x), x + 1.0, strict=True)
        np.testing.assert_array_equal(grad(lambda x: mg.sum(x * other))(x), x)


@pytest.mark.parametrize("call", [lambda x: mg.exp([x, x]), lambda x: mg.add([x, 1.0], 2.0), lambda x: mg.matmul([[x]], [1.0]),
                                  lambda x: x * [x, 1.0], lambda x: mg.reshape([x], (1, 1)), lambda x: mg.relu((x, x))])
def test_traced_values_in_a_list_are_refused(call):
    with pytest.raises(DTypeError, match=r"is not an array of numbers\n  help: stack\(x\) if it holds traced values"):
        grad(call)(1.0)
    with pytest.raises(DTypeError, match="rows must have equal lengths"):
        mg.sum([[1.0], [1.0, 2.0]])


def test_a_function_of_math_makes_a_primitive():
    erf = mg.elementwise(math.erf, lambda y, x: 2.0 / math.sqrt(math.pi) * mg.exp(-x * x), name="erf")
    slope = 2.0 / math.sqrt(math.pi) * math.exp(-0.25)
    for x in (0.5, np.float32(0.5), np.array(0.5)):
        np.testing.assert_allclose([grad(erf)(x), grad(grad(erf))(x), mg.jvp(erf, (x,), (x,))[1]], [slope, -slope, 0.5 * slope], rtol=1e-6)
    with pytest.raises(DTypeError, match=r"^erf\("):
        erf(np.ones(3))
    rows = mg.Primitive(lambda x: [float(x), 2.0], lambda i, y, x: mg.LinearMap(lambda t: t * np.array([1.0, 0.0]), lambda g: g[0]))
    assert list(mg.jacobian(rows)(3.0)) == [1.0, 0.0]       # its result is converted as NumPy does


ROWS = [[0.3, 1.5, 2.0], [0.5, -1.0, 4.0]]
OF_ROWS = {"softmax": (), "log_softmax": (0,), "logsumexp": (1,), "sum": (0,), "mean": (-1,), "var": (0,), "std": (1,), "max": (0,), "min": (1,), "ravel": (), "flip": (1,), "transpose": (), "expand_dims": (0,), "squeeze": (),
           "moveaxis": (0, 1), "swapaxes": (0, 1), "matrix_transpose": (), "cumsum": (1,), "prod": (0,), "sort": (0,), "median": (1,), "diff": (), "standardize": (0,), "take": ([1, 0], 1), "tril": (), "roll": (1, 0), "relu": (),
           "tanh": (), "gelu": (), "elu": (), "clip": (0.0, 1.0), "pad": (1,), "dropout": (0.5, 1), "argmax": (1,), "reshape": ((3, 2),), "broadcast_to": ((2, 2, 3),), "crop": (0,), "outer": (ROWS,), "dot": (np.ones(3),)}


@pytest.mark.parametrize("name", OF_ROWS)
def test_tuples_are_arrays_where_lists_are(name):
    def outcome(x):
        try:
            return np.asarray(getattr(mg, name)(x, *OF_ROWS[name]))
        except mg.MinigradError as error:
            return type(error)
    found, expected = outcome(tuple(map(tuple, ROWS))), outcome(ROWS)
    assert isinstance(found, type) == isinstance(expected, type)
    np.testing.assert_array_equal(found, expected)
