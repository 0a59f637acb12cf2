"""What the kernels in C promise beyond the values of their forms: bits, special values, digits, memory.

test_table.py holds the values, test_native.py the loader.
"""
import signal
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import fast, kinds, normalization, ops, optim
from minigrad.fast import native, native_pooling, threads
from minigrad.functions import with_derivative

from .test_table import IN_C, ON_NUMPY, SMALL_CHUNKS, compare, definition, outcome, without_table

pytestmark = pytest.mark.needs("cc")
CONVOLUTIONS = {            # name: (images, window, outputs, stride, padding)
    "winograd": ((7, 5, 7, 16), (3, 3), 32, (1, 1), ((1, 1), (1, 1))),
    "direct": ((7, 9, 6, 3), (5, 4), 17, (1, 1), ((2, 1), (0, 3))),
    "strides": ((7, 9, 6, 9), (3, 2), 20, (2, 3), ((0, 1), (1, 1)))}
POOLING = {"window": (3, 2), "stride": (2, 2), "padding": ((1, 1), (0, 1))}


def normal(rng, shape, dtype):
    return rng.normal(size=shape).astype(dtype)


def of_convolution(name, face):
    """A function (rng, dtype) -> (operation, args, params) for one of the three faces of a convolution."""
    shape, window, outputs, stride, padding = CONVOLUTIONS[name]

    def arguments(rng, dtype):
        x, k = normal(rng, shape, dtype), normal(rng, (*window, shape[3], outputs), dtype)
        geometry = {"stride": stride, "padding": padding}
        g = normal(rng, (len(x), *ops.windows.output_size(shape[1:3], window, stride, padding), outputs), dtype)
        return {"image": (ops.convolution._conv, [x, k], geometry),
                "input": (ops.convolution._conv_input, [g, k], {"size": shape[1:3], **geometry}),
                "kernel": (ops.convolution._conv_kernel, [x, g], {"window": window, **geometry})}[face]
    return arguments


def of_winners(rng, dtype, put):
    x = normal(rng, (6, 7, 5, 9), dtype)
    winners = without_table(ops.windows._max_pool2d, x, *POOLING.values())[1].reshape(len(x), -1)
    params = {"winners": winners, "image": x.shape[1:], **POOLING}
    return (ops.windows._put, [normal(rng, winners.shape, dtype)], params) if put else (ops.windows._take, [x.reshape(len(x), -1)], params)


def of_batch_norm(rng, dtype, then_relu):
    x = normal(rng, (40, 3, 19), dtype)
    return normalization._batch_norm, [x, normal(rng, 19, dtype), normal(rng, 19, dtype)], {
        "eps": 0.1, "then_relu": then_relu, "statistics": None}


CALLS = {                   # name: (rng, dtype) -> (operation, args, params)
    **{f"{name} {face}": of_convolution(name, face) for name in CONVOLUTIONS for face in ("image", "input", "kernel")},
    "max pool": lambda rng, dtype: (ops.windows._max_pool2d, [normal(rng, (6, 7, 5, 9), dtype), *POOLING.values()], {}),
    "take": lambda rng, dtype: of_winners(rng, dtype, False),
    "put": lambda rng, dtype: of_winners(rng, dtype, True),
    "mean pool": lambda rng, dtype: (ops.windows._mean_primitive, [normal(rng, (6, 7, 5, 9), dtype)], POOLING),
    "mean pool input": lambda rng, dtype: (ops.windows._mean_input, [normal(rng, (6, 4, 3, 9), dtype)], {"size": (7, 5), **POOLING}),
    "sums": lambda rng, dtype: (kinds._sum_back, [normal(rng, (40, 3, 19), dtype)], {"shape": (19,)}),
    "moments": lambda rng, dtype: (ops.normalize.moments, [normal(rng, (40, 3, 19), dtype)], {}),
    "batch norm": lambda rng, dtype: of_batch_norm(rng, dtype, False),
    "batch norm, relu": lambda rng, dtype: of_batch_norm(rng, dtype, True),
    "sgd": lambda rng, dtype: (optim._sgd_step, [*(normal(rng, (9, 31), dtype) for _ in range(3)), 0.1, 0.9, 0.01, False], {}),
    "nesterov": lambda rng, dtype: (optim._sgd_step, [*(normal(rng, (9, 31), dtype) for _ in range(3)), 0.1, 0.9, 0.01, True], {}),
    "adam": lambda rng, dtype: (optim._adam_step, [*(np.abs(normal(rng, (9, 31), dtype)) for _ in range(4)), 0.1, 0.9, 0.999, 0.1,
                                                   0.001, 1e-8, 0.01], {}),
}
FLOATS = ["float32", "float64"]


def call(name, dtype="float32"):
    """The operation, arguments and parameters of a call."""
    return CALLS[name](np.random.default_rng(0), dtype)


def answer(f, args, params):
    """The arrays of the result, of batch norm also those of push and pull; or the type of the error; or NotImplemented."""
    def all_results():
        y = f(*args, **params)
        if not isinstance(y, tuple) or not callable(y[1]):
            return y
        value, push, pull = y
        return value, push(args[0], args[1], args[2]), push(None, args[1], None), *pull(value + 1)
    return outcome(all_results)


def in_c(operation, args, params):
    return answer(fast.TABLE[operation][IN_C], args, params)


def expected(operation, args, params):
    """What the definition returns; the form on NumPy for batch norm, where it is held to the definition itself."""
    if isinstance(operation, with_derivative):
        return answer(fast.TABLE[operation][ON_NUMPY], args, params)
    return answer(lambda *args, **params: without_table(definition(operation), *args, **params), args, params)


@pytest.fixture
def small(monkeypatch):
    """Forms answer for small arrays, in many chunks."""
    for module, name, value in SMALL_CHUNKS:
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CALLS)
def test_the_number_of_threads_changes_no_bit(name, dtype, small, monkeypatch):
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "threads", lambda count=count: count)
        found.append(in_c(*call(name, dtype)))
        assert found[0] is not NotImplemented
        for a, b in zip(found[0], found[-1], strict=True):
            assert a.tobytes() == b.tobytes()


# ----------------------------------------------------------------------------------------------- special values

def put_at(x, values):
    """A copy of x with these values at as many places, one in each of the first images, or rows."""
    x = x.copy()
    flat = x.reshape(len(x), -1)
    for i, value in enumerate(values):
        flat[i, (5 * i + 3) % flat.shape[1]] = value
    return x


SPECIAL = {"infinity": [np.inf, 1, -np.inf], "NaN": [np.nan, 1, np.nan], "overflow": [3e38, 1, -3e38], "near overflow": [2e38, 2e38]}
WITH_PIXELS = [name for name in CALLS if name not in ("adam", "take")]


@pytest.mark.parametrize("what", SPECIAL)
@pytest.mark.parametrize("name", WITH_PIXELS)
def test_what_is_not_finite_is_so_where_it_is_in_the_plain_form(name, what, small):
    operation, (x, *rest), params = call(name)
    args = [put_at(x, SPECIAL[what]), *rest]
    found, plain = in_c(operation, args, params), expected(operation, args, params)
    assert what in ("overflow", "near overflow") or not all(np.isfinite(a).all() for a in plain if a.dtype.kind == "f")
    for a, b in zip(found, plain, strict=True):
        finite = np.isfinite(b)
        np.testing.assert_array_equal(np.isfinite(a), finite)
        largest = np.abs(b[finite]).max(initial=0.0)
        np.testing.assert_allclose(a[finite] / max(largest, 1.0), b[finite] / max(largest, 1.0), atol=1e-5)


@pytest.mark.parametrize("face, of", [("image", 0), ("input", 0), ("kernel", 0), ("image", 1), ("input", 1), ("kernel", 1)])
def test_sums_that_overflow_in_winograds_form_alone(face, of):
    """Neighbors that are huge, times numbers so small that their products are none: transformed, they would overflow."""
    operation, args, params = call(f"winograd {face}")
    args[1 - of] = args[1 - of] * np.float32(1e-3)
    args[of][0, :2, :2] = 3e38 * np.sign(args[of][0, :2, :2])
    found, plain = in_c(operation, args, params)[0], expected(operation, args, params)[0]
    assert np.isfinite(plain).all() and np.isfinite(found).all()
    np.testing.assert_allclose(found / 3e38, plain / 3e38, atol=1e-6)


def test_denormal_numbers_stay():
    """In the results, and in this process, whose flags no library has changed when it was loaded."""
    tiny = np.float32(1e-40)
    assert native.library("f") and tiny * np.float32(1) == tiny and tiny / np.float32(2) > 0
    found = 0
    for name in CALLS:
        operation, args, params = call(name)
        if operation in (optim._adam_step, ops.normalize.moments, normalization._batch_norm):      # squares, and quotients
            continue
        if name.split()[0] in CONVOLUTIONS:
            args[1] = np.sign(args[1])
        args[:1] = [np.abs(args[0]) * tiny]
        if name in ("sgd", "nesterov"):
            args[1:3] = [np.abs(a) * tiny for a in args[1:3]]
        y, plain = in_c(operation, args, params), expected(operation, args, params)
        if y is not NotImplemented:
            found += 1
            for a, b in zip(y, plain, strict=True):
                assert (b != 0).any()
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=200 * 1.5e-45)
    assert found > 10


# -------------------------------------------------------------------------------------------------------- digits

ERRORS = {          # about three times what was measured: the largest error, as a part of the largest result
    ("winograd", "image"): 1e-6, ("winograd", "input"): 1e-6, ("winograd", "kernel"): 2e-6,
    ("direct", "image"): 5e-6, ("direct", "input"): 4e-6, ("direct", "kernel"): 3e-6,
}


@pytest.mark.parametrize("name, face", ERRORS)
def test_digits_of_a_convolution(name, face, monkeypatch):
    """float32 against float64, for images and kernels as in a ResNet."""
    geometry = ((3, 3), 64, (1, 1), ((1, 1), (1, 1))) if name == "winograd" else ((5, 5), 33, (1, 1), ((2, 2), (2, 2)))
    monkeypatch.setitem(CONVOLUTIONS, name, ((20, 16, 16, 64), *geometry))
    operation, args, params = of_convolution(name, face)(np.random.default_rng(0), "float32")
    exact = expected(operation, [a.astype("float64") for a in args], params)[0]
    found = in_c(operation, args, params)[0]
    assert found.dtype == "float32"
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert error <= ERRORS[name, face]


# ------------------------------------------------------------------------------------------------ wrong arguments

def unaligned(x):
    """The same numbers at addresses that are no multiples of their size, with gaps that are none."""
    y = np.zeros(x.shape, [("gap", "u1"), ("x", x.dtype)])["x"]
    y[...] = x
    return y


def shifted(x):
    """The same numbers in C order at an address that is no multiple of their size."""
    y = np.zeros(x.nbytes + 1, "u1")[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def pixels(x, count):
    """The images cut to so many rows and columns."""
    return x[(slice(None), *[slice(count)] * (x.ndim - 2))]


LAYOUTS = {"unaligned": unaligned, "shifted": shifted, "read-only": read_only, "Fortran's order": np.asfortranarray,
           "reversed": lambda x: x[::-1].copy()[::-1], "every other": lambda x: np.repeat(x, 2, -1)[..., ::2],
           "another byte order": lambda x: x.astype(x.dtype.newbyteorder()), "one for all": lambda x: np.broadcast_to(x[:1], x.shape)}
CHANGES = {"one row less": lambda x: x[:-1], "one column less": lambda x: x[..., :-1], "one row": lambda x: x[:1], "no row": lambda x: x[:0],
           "no column": lambda x: x[..., :0], "no pixel": lambda x: pixels(x, 0), "one pixel": lambda x: pixels(x, 1), "one axis more": lambda x: x[None], "one axis less": lambda x: x[0], "flat": lambda x: x.ravel(),
           "a number": lambda x: x.ravel()[0], "half precision": lambda x: x.astype("float16"), "integers": lambda x: x.astype("int32"),
           "complex": lambda x: x.astype("complex64"), "of another precision": lambda x: x.astype("float64" if x.itemsize == 4 else "float32"),
           "objects": lambda x: x.astype(object), "a matrix": lambda x: x.reshape(len(x), -1).view(np.matrix), "a list": lambda x: x.tolist()}


def varied(args, params, changes=CHANGES):
    """Yield (what, args, params) with one array changed, in each way."""
    for what, change in changes.items():
        for i, a in enumerate(args):
            if isinstance(a, np.ndarray):
                yield f"{what}, argument {i}", [*args[:i], change(a), *args[i + 1:]], params
        if "winners" in params:
            yield f"{what}, winners", args, {**params, "winners": change(params["winners"])}


def hold_to_plain(operation, args, params):
    """A form refuses these arguments, or raises an error, or returns what the definition does."""
    found = in_c(operation, args, params)
    if found is not NotImplemented and not isinstance(found, type):
        plain = expected(operation, args, params)
        assert not isinstance(plain, type), plain
        compare(found, plain, False)


@pytest.mark.parametrize("name", CALLS)
def test_arrays_of_any_layout(name, small):
    operation, args, params = call(name)
    for what, args, params in varied(args, params, LAYOUTS):
        before = [np.array(a) for a in args]
        try:
            hold_to_plain(operation, args, params)
        except AssertionError as error:
            raise AssertionError(what) from error
        for a, b in zip(args, before):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CALLS)
def test_arrays_of_a_wrong_shape_or_type(name, small):
    operation, args, params = call(name)
    for what, args, params in varied(args, params):
        try:
            hold_to_plain(operation, args, params)
        except AssertionError as error:
            raise AssertionError(what) from error


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3), (2, 0, 0, 16), (0, 5, 5, 3), (2, 5, 5, 0), (2, 1, 1, 16)])
def test_images_without_pixels_and_of_one(shape, small):
    """... under padding: all windows of a pooling that are there lie in it."""
    x, where = np.ones(shape, "float32"), {"window": (3, 3), "stride": (1, 1), "padding": ((2, 2), (2, 2))}
    k, where_k = np.ones((3, 3, shape[3], 16), "float32"), {"stride": (1, 1), "padding": ((3, 3), (3, 3))}
    y = without_table(ops.conv2d, x, k, 1, 3)
    for operation, args, params in (
            (ops.windows._max_pool2d, [x, *where.values()], {}), (ops.windows._mean_primitive, [x], where),
            (ops.windows._mean_input, [without_table(ops.avg_pool2d, x, 3, 1, 2)], {"size": shape[1:3], **where}),
            (ops.convolution._conv, [x, k], where_k), (ops.convolution._conv_input, [y, k], {"size": shape[1:3], **where_k}),
            (ops.convolution._conv_kernel, [x, y], {"window": (3, 3), **where_k})):
        hold_to_plain(operation, args, params)


def with_odd_strides(x):
    """The same array, whose strides along axes of length 1 are others. NumPy calls it contiguous all the same."""
    return np.lib.stride_tricks.as_strided(x, strides=[13 * x.itemsize if n == 1 else step for n, step in zip(x.shape, x.strides)])


@pytest.mark.parametrize("shape", [(1, 5, 4, 16), (4, 1, 5, 16), (4, 5, 1, 16), (4, 5, 3, 1), (1, 2, 1, 1), (1, 1, 3, 1), (1, 1, 1, 1)])
def test_strides_of_axes_of_length_one_mean_nothing(shape, small):
    rng = np.random.default_rng(0)
    for outputs in (1, 16, 17):
        x, k, g = (normal(rng, s, "float32") for s in (shape, (3, 3, shape[3], outputs), (*shape[:3], outputs)))
        geometry = {"stride": (1, 1), "padding": ((1, 1), (1, 1))}
        bias = normal(rng, shape[3], "float32")
        for operation, args, params in (
                (ops.convolution._conv, [x, k], geometry), (ops.convolution._conv_input, [g, k], {"size": shape[1:3], **geometry}),
                (ops.convolution._conv_kernel, [x, g], {"window": (3, 3), **geometry}),
                (ops.windows._max_pool2d, [x, (3, 3), *geometry.values()], {}), (ops.windows._mean_primitive, [x], {"window": (3, 3), **geometry}),
                (ops.normalize.moments, [x], {}), (kinds._sum_back, [x], {"shape": shape[3:]}),
                (normalization._batch_norm, [x, bias, bias], {"eps": 0.1, "then_relu": True, "statistics": None})):
            hold_to_plain(operation, [with_odd_strides(a) if isinstance(a, np.ndarray) else a for a in args], params)


READS = """
import ctypes
from tests.fast.guard_pages import allocate
x = allocate({side!r}, (3,), "float32")
x[...] = 1
ctypes.string_at(x.ctypes.data + {start}, 12)
"""


@pytest.mark.needs("linux")
@pytest.mark.parametrize("side, start, ends", [("end", 0, False), ("end", 1, True), ("start", 0, False), ("start", -1, True)])
def test_the_guard_of_an_array_ends_a_process(side, start, ends):
    status = subprocess.run([sys.executable, "-c", READS.format(side=side, start=start)], capture_output=True, timeout=60).returncode
    assert status == (-signal.SIGSEGV if ends else 0)


@pytest.mark.needs("linux")
@pytest.mark.parametrize("side", ["start", "end"])
def test_nothing_outside_of_an_array_is_touched(side):
    result = subprocess.run([sys.executable, "-W", "ignore", "-m", "tests.fast.guard_pages", side], capture_output=True, text=True, timeout=300)
    assert result.stdout.endswith("fine\n"), result.stdout[-200:] + result.stderr[-3000:]


@pytest.mark.parametrize("then_relu", [False, True])
@pytest.mark.parametrize("change", [lambda g: g.astype("float64"), lambda g: g[::-1].copy()[::-1], np.asfortranarray, lambda g: np.broadcast_to(g[:1], g.shape), lambda g: np.repeat(g, 2, -1)[..., ::2]])
def test_tangents_and_cotangents_of_any_type_and_layout(change, then_relu):
    """A cotangent is of a wider type, and a view, where a step behind the layer makes it so."""
    rng = np.random.default_rng(0)
    x, gain, bias, g = (normal(rng, s, "float32") for s in ((40, 3, 19), 19, 19, (40, 3, 19)))
    params = {"eps": 0.1, "then_relu": then_relu, "statistics": None}
    y, push, pull = fast.TABLE[normalization._batch_norm][IN_C](x, gain, bias, **params)
    for found, expected in ((pull(change(g)), pull(np.array(change(g), "float32"))), ((push(change(g), gain, bias),), (push(np.array(change(g), "float32"), gain, bias),))):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    wide = rng.normal(size=x.shape)
    found, expected = (mg.grad(lambda x: mg.sum(mg.nn.batch_norm(x, gain, bias) * wide))(v) for v in (x, x.astype("float64")))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_indices_of_winners_are_those_of_one_type():
    """C reads 8 bytes for each: others are left to NumPy."""
    for dtype in ("int32", "uint64", "int16", "uint8"):
        winners = np.zeros(100, dtype)[:6].reshape(2, 3)        # what lies behind them is 0, too
        assert native_pooling.take_winners(np.ones((2, 4), "float32"), winners) is NotImplemented
        assert native_pooling.put_winners(np.ones((2, 3), "float32"), winners, image=(2, 2, 1)) is NotImplemented


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("outputs", [16, 17, 32])
def test_a_kernel_reversed_along_any_axis(axis, outputs, small):  # noqa: F811
    """... is a view with a negative stride, which is packed, or transformed, as it reads."""
    rng = np.random.default_rng(0)
    for c, stride in ((16, (1, 1)), (3, (1, 1)), (3, (2, 1))):
        k = np.flip(normal(rng, (3, 3, c, outputs), "float32"), axis)
        x = normal(rng, (2, 6, 5, c), "float32")
        geometry = {"stride": stride, "padding": ((1, 1), (1, 1))}
        g = normal(rng, (2, *ops.windows.output_size((6, 5), (3, 3), stride, ((1, 1), (1, 1))), outputs), "float32")
        hold_to_plain(ops.convolution._conv, [x, k], geometry)
        hold_to_plain(ops.convolution._conv_input, [g, k], {"size": (6, 5), **geometry})


def test_two_huge_pixels_anywhere_overflow_in_winograds_form_alone():
    """... to NaN, or to infinity alone: what is finite is computed in the other form then."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        x, g = ((rng.normal(size=s) * 1e-3).astype("float32") for s in ((2, 4, 4, 16), (2, 4, 4, 32)))
        for i, j in rng.integers(0, 4, (2, 2)):
            x[0, i, j, 0] = rng.choice([3e38, -3e38])
        params = {"window": (3, 3), "stride": (1, 1), "padding": ((1, 1), (1, 1))}
        found = fast.TABLE[ops.convolution._conv_kernel][IN_C](x, g, **params)
        right = without_table(definition(ops.convolution._conv_kernel), x.astype("float64"), g.astype("float64"), **params)
        assert np.isfinite(right.astype("float32")).all() and np.isfinite(found).all()
        np.testing.assert_allclose(found / 3e38, right / 3e38, atol=1e-6)
