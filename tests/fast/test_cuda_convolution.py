"""Products and convolutions on CuPy: few outputs have a kernel, long sums are split, windows overlap in memory, and the
numbers are NumPy's."""
import itertools
import threading
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import ShapeError, backend
from minigrad.backend import generator, to_host
from minigrad.fast import cublas, cuda, cuda_convolution
from minigrad.ops import convolution
from minigrad.ops.windows import output_size

pytestmark = pytest.mark.parametrize("device", ["cupy"], indirect=True)
TYPES = ["float32", "float64"]
ONE = (1, 1), ((0, 0), (0, 0))                              # stride and padding
SAME = (1, 1), ((1, 1), (1, 1))


def drawn(s, dtype="float64", key=0):
    return generator((key, *s)).standard_normal(s).astype(dtype)


def close(found, expected, terms=1):
    """Compare with a result in float64 that is a sum of so many terms."""
    found = to_host(found)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=(1e-13 if found.dtype == "float64" else 1e-6) * (10 + terms))


@pytest.fixture
def products(monkeypatch):
    """Note (m, n, k, number of matrices) of each product that cuBLAS is asked for."""
    noted, call = [], cublas.Handle._call

    def note(own, name, *args):
        if "Gemm" in name:
            n, m, k = args[3:6]
            noted.append((m, n, k, args[-3] if "Batched" in name else 1))
        return call(own, name, *args)
    monkeypatch.setattr(cublas.Handle, "_call", note)
    return noted


@pytest.fixture
def kernels(monkeypatch):
    """Note the name of each kernel that is launched."""
    noted, launch = [], cuda.Kernel.__call__
    monkeypatch.setattr(cuda.Kernel, "__call__", lambda kernel, *args: noted.append(kernel.name) or launch(kernel, *args))
    return noted


@pytest.fixture
def launches(monkeypatch):
    """Note the name of each kernel of conv2d.cu that is launched, and its grid."""
    noted, launch = [], cuda_convolution.launch

    def note(xp, file, name, grid, *args):
        noted.append((name, grid))
        return launch(xp, file, name, grid, *args)
    monkeypatch.setattr(cuda_convolution, "launch", note)
    return noted


@pytest.fixture
def by_cublas(monkeypatch):
    """Leave all convolutions to cuBLAS."""
    monkeypatch.setattr(cuda_convolution, "FEW", 0)


@pytest.fixture
def by_bands(by_cublas, monkeypatch):
    """Compute by bands wherever windows overlap, however small the arrays."""
    monkeypatch.setattr(cuda_convolution, "SMALL", 0)
    monkeypatch.setattr(cuda_convolution, "BANDS", 1)


# ------------------------------------------------------------------------------------------------ long sums

@pytest.mark.parametrize("m, n, k, parts", [
    (144, 16, 102400, 128), (288, 32, 25600, 80), (576, 64, 6400, 25), (27, 16, 102400, 256),       # ResNet-32
    (1440, 160, 102400, 10), (5760, 640, 6400, 1), (25, 16, 78400, 245), (1, 1, 1 << 20, 256),
    (102400, 16, 144, 1), (100, 10, 64, 1), (3, 1, 511, 1), (3, 1, 512, 2), (3, 1, 521, 2), (3, 1, 0, 1)])
def test_number_of_parts(device, m, n, k, parts):
    """They fill the device, are worth their blocks, and divide the sum if a number near does."""
    assert cublas._parts(m, n, k) == parts
    blocks = -(-m // cublas.TILE) * -(-n // cublas.TILE) * parts
    assert parts == 1 or blocks <= cublas.BLOCKS and k // parts >= cublas.TERMS


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("k", [1, 255, 512, 521, 2560, 2563])
def test_long_sums(device, products, k, dtype):
    turned = {"rows": mg.xp.asarray, "columns": lambda a: mg.xp.asarray(a.T.copy()).T,
              "gaps": lambda a: mg.xp.asarray(np.repeat(a, 2, axis=1))[:, ::2], "backwards": lambda a: mg.xp.asarray(a[::-1].copy())[::-1]}
    for (m, n), left, right in itertools.product([(1, 1), (5, 1), (1, 6), (7, 3)], turned.values(), turned.values()):
        a, b = drawn((m, k), dtype), drawn((k, n), dtype, 1)
        products.clear()
        close(cublas.product(left(a), right(b)), a.astype(float) @ b, k)
        parts = cublas._parts(m, n, k)
        assert products[0] == (m, n, k // parts, parts)
        assert products[1:] == ([(m, n, k % parts, 1)] if k % parts else [])


def test_a_long_sum_is_written_where_it_is_wanted(device):
    a, b = drawn((3, 2563)), drawn((2563, 2), key=1)
    y = mg.xp.full((2, 3, 2), np.nan)
    assert cublas.product(mg.xp.asarray(a), mg.xp.asarray(b), y[1]).data.ptr == y[1].data.ptr
    close(y[1], a @ b, 2563)
    assert np.isnan(to_host(y[0])).all()


def test_a_long_sum_has_the_same_bits_every_time(device):
    a, b = (mg.xp.asarray(drawn(s, "float32")) for s in ((9, 70001), (70001, 5)))
    first = to_host(cublas.product(a, b))
    for _ in range(3):
        np.testing.assert_array_equal(to_host(cublas.product(a, b)), first)


@pytest.mark.parametrize("s", [(0, 5), (5, 0)])
def test_sums_without_terms_or_rows(device, products, s):
    x = mg.xp.zeros(s)
    np.testing.assert_array_equal(to_host(mg.matmul(x, x.T)), np.zeros((s[0], s[0])))
    assert not products


def test_no_gradient_has_a_long_sum(device, products):
    """Neither of a kernel nor of a weight, whatever its size: two or three blocks would do all the work."""
    x, k = mg.xp.asarray(drawn((12, 32, 32, 16), "float32")), mg.xp.asarray(drawn((3, 3, 16, 16), "float32"))
    g = mg.xp.asarray(drawn((12, 32, 32, 16), "float32", 1))
    _, pull = mg.vjp(lambda k: mg.conv2d(x, k, 1, 1), k)
    products.clear()
    close(pull(g)[0], convolution._conv2d_kernel(*(to_host(a).astype(float) for a in (x, g)), (3, 3), *SAME), 12 << 10)
    assert products == [(144, 16, 256, 48)]
    _, pull = mg.vjp(lambda w: x.reshape(-1, 16) @ w, k[0, 0])
    products.clear()
    pull(g.reshape(-1, 16))
    assert products == [(16, 16, 256, 48)]


# ---------------------------------------------------------------------------------------- stacks of matrices

@pytest.mark.parametrize("dtype", TYPES)
def test_stacks(device, products, dtype):
    """By one matrix or by as many; also of views that overlap, into every other row; NaN there is not read."""
    a, b, c = drawn((4, 5, 3), dtype), drawn((3, 2), dtype, 1), drawn((4, 3, 2), dtype, 2)
    on = [mg.xp.asarray(x) for x in (a, b, c)]
    close(cublas.product(on[0], on[1]), a.astype(float) @ b)
    close(cublas.product(on[0], on[2]), a.astype(float) @ c)
    close(cublas.product(on[0].transpose(0, 2, 1), on[0]), a.astype(float).transpose(0, 2, 1) @ a)
    close(cublas.product(on[0][:, :, ::-1], on[2]), a.astype(float)[:, :, ::-1] @ c)
    overlapping = mg.xp.lib.stride_tricks.as_strided(on[0], (4, 5, 5), [n * a.itemsize for n in (3, 6, 1)])
    y = mg.xp.full((5, 4, 5), np.nan, dtype)
    cublas.product(overlapping, overlapping.transpose(0, 2, 1), out=y.transpose(1, 0, 2))
    wanted = to_host(overlapping).astype(float)
    close(y, (wanted @ wanted.transpose(0, 2, 1)).transpose(1, 0, 2))
    assert [stack for *_, stack in products] == [4] * 5


@pytest.mark.parametrize("a, b, stack", [((4, 5, 3), (4, 3, 2), 4), ((2, 3, 5, 4), (2, 3, 4, 1), 6), ((1, 2, 3), (1, 3, 2), 1),
                                         ((1, 2, 3), (4, 3, 2), None), ((2, 3), (4, 3, 2), None), ((0, 2, 3), (0, 3, 2), None)])
def test_stacks_of_as_many_are_for_the_handle(device, products, a, b, stack):
    """Others are CuPy's own. Their derivatives are products of transposed views."""
    x, y = drawn(a), drawn(b, key=1)
    on = mg.xp.asarray(x), mg.xp.asarray(y)
    value, pull = mg.vjp(mg.matmul, *on)
    close(value, x @ y)
    assert [each[3] for each in products] == ([] if stack is None else [stack])
    for found, wanted in zip(pull(value), mg.vjp(mg.matmul, x, y)[1](x @ y), strict=True):
        close(found, wanted)


# -------------------------------------------------------------------------------------------------- by a kernel

def by_kernel(x, k, stride, padding):
    """The convolution by the kernel, whether it pays or not, of arrays in float32. Its output holds NaN before."""
    counts = output_size(x.shape[1:3], k.shape[:2], stride, padding)
    y = mg.xp.full((len(x), *counts, k.shape[3]), np.nan, x.dtype)
    cuda_convolution._conv2d_by_kernel(x, k, stride, padding, y)
    return y


@pytest.mark.parametrize("outputs", [1, 3, 16, 20, 33, 64, 130])
@pytest.mark.parametrize("channels", [1, 3, 4, 16, 20])
def test_the_kernel(device, exact, launches, channels, outputs):
    """Any channels, some that are read four at a time; any outputs, of one tile or of several; of images with gaps."""
    for size, window, stride, padding in [
            ((7, 5), (3, 3), *SAME), ((9, 8), (2, 3), (2, 3), ((0, 2), (3, 1))), ((6, 7), (1, 1), (2, 2), ONE[1]),
            ((4, 3), (5, 4), (3, 1), ((4, 0), (2, 5))), ((19, 17), (3, 2), *ONE), ((2, 2), (2, 2), *ONE)]:
        x, k = drawn((2, *size, channels), "float32"), drawn((*window, channels, outputs), "float32", 1)
        expected, terms = convolution._conv2d(x.astype(float), k, stride, padding), k[..., 0].size
        close(by_kernel(mg.xp.asarray(x), mg.xp.asarray(k), stride, padding), expected, terms)
        with_gaps, turned = mg.xp.asarray(np.repeat(x, 2, axis=2))[:, :, ::2], mg.xp.asarray(k[::-1].copy())[::-1]
        close(by_kernel(with_gaps, turned, stride, padding), expected, terms)
    assert {name for name, _ in launches} == {"conv2d<256, 16, 16>" if outputs <= 16 else "conv2d<128, 32, 32>"}


def test_the_kernel_of_every_geometry(device, exact):
    """Windows far apart, wider than the image, in borders wider than they are."""
    for of_image, of_kernel, stride, padding in geometries(60):
        x, k = drawn(of_image, "float32"), drawn(of_kernel, "float32", 1)
        expected = convolution._conv2d(x.astype(float), k, stride, padding)
        close(by_kernel(mg.xp.asarray(x), mg.xp.asarray(k), stride, padding), expected, 80)


def test_what_the_kernel_reads_is_aligned(device):
    """Four numbers are read as one only where they lie at a multiple of 16 bytes: else a device refuses."""
    x, k = drawn((2, 5, 6, 4), "float32"), drawn((3, 3, 4, 2), "float32", 1)
    shifted = mg.xp.empty(x.size + 1, "float32")[1:].reshape(x.shape)
    shifted[...] = mg.xp.asarray(x)
    found = [to_host(by_kernel(each, mg.xp.asarray(k), *SAME)) for each in (mg.xp.asarray(x), shifted)]
    np.testing.assert_array_equal(*found)
    close(found[0], convolution._conv2d(x.astype(float), k, *SAME), 36)


def test_the_kernel_spreads_nothing_that_is_not_a_number(device):
    """What lies outside of an image is 0, whatever its neighbor in memory is; a NaN reaches the windows that hold it."""
    x, k = drawn((3, 4, 4, 4), "float32"), drawn((3, 3, 4, 3), "float32", 1)
    x[1] = np.nan
    x[2, 0, 0, 0] = np.nan
    y = to_host(by_kernel(mg.xp.asarray(x), mg.xp.asarray(k), *SAME))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(convolution._conv2d(x, k, *SAME)))
    assert not np.isnan(y[0]).any() and np.isnan(y[2]).sum() == 4 * 3


def test_the_kernel_has_the_same_bits_every_time(device):
    """And each image has those that it has alone."""
    x, k = mg.xp.asarray(drawn((5, 9, 9, 16), "float32")), mg.xp.asarray(drawn((3, 3, 16, 16), "float32", 1))
    first = to_host(by_kernel(x, k, *SAME))
    np.testing.assert_array_equal(to_host(by_kernel(x, k, *SAME)), first)
    for i in range(5):
        np.testing.assert_array_equal(to_host(by_kernel(x[i:i + 1], k, *SAME)), first[i:i + 1])


@pytest.mark.parametrize("dtype, k, stride, padding, used", [
    ("float32", (3, 3, 16, 16), *SAME, True), ("float32", (3, 3, 16, 17), *SAME, True), ("float32", (3, 3, 3, 128), *SAME, True),
    ("float32", (1, 1, 16, 16), (2, 2), ONE[1], True), ("float32", (1, 1, 16, 16), *SAME, True),
    ("float32", (1, 1, 16, 16), *ONE, False),               # a product as it is
    ("float32", (3, 3, 16, 129), *SAME, False),             # many outputs
    ("float32", (3, 3, 29, 4), *SAME, False),               # long sums in few blocks
    ("float64", (3, 3, 16, 16), *SAME, False)])             # on tensor cores
def test_the_kernel_is_for_few_outputs(device, launches, dtype, k, stride, padding, used):
    x, kernel = drawn((2, 5, 6, k[2]), dtype), drawn(k, dtype, 1)
    y = cuda_convolution.conv2d(mg.xp.asarray(x), mg.xp.asarray(kernel), stride, padding)
    close(y, convolution._conv2d(x.astype(float), kernel, stride, padding), kernel[..., 0].size)
    assert len(launches) == used


@pytest.mark.parametrize("y, k, used", [
    ((100, 8, 8, 64), (3, 3, 64, 64), True),                # 100 blocks
    ((1, 8, 8, 64), (3, 3, 64, 64), False), ((1, 8, 8, 64), (3, 3, 28, 64), True),
    ((63, 16, 16, 16), (3, 3, 227, 16), False), ((64, 16, 16, 16), (3, 3, 227, 16), True),
    ((100, 16, 16, 16), (3, 3, 228, 16), False),            # long sums, in however many blocks
    ((100, 16, 16, 128), (3, 3, 128, 128), True), ((100, 16, 16, 160), (3, 3, 160, 160), False),
    (((1 << 15) - 1, 1 << 8, 1 << 8, 1), (3, 3, 1, 1), True), ((1 << 15, 1 << 8, 1 << 8, 1), (3, 3, 1, 1), False)])
def test_where_the_kernel_pays(device, y, k, used):
    """Blocks are many, or windows short; pixels can be counted in 32 bits."""
    one = mg.xp.ones(1, "float32")
    assert cuda_convolution._kernel_pays(mg.xp.broadcast_to(one, y), mg.xp.broadcast_to(one, k), *SAME) == used


def test_the_kernel_leaves_tensor_cores_to_cublas(device, launches, products):
    x, k = (mg.xp.asarray(drawn(s, "float32")) for s in ((2, 5, 6, 4), (3, 3, 4, 2)))
    for precision, used in (("tf32", (0, 1)), ("float32", (1, 1))):
        try:
            backend.matmul_precision(precision)
            cuda_convolution.conv2d(x, k, *SAME)
        finally:
            backend.matmul_precision("float32")
        assert (len(launches), len(products)) == used


def test_gradients_by_the_kernel_are_those_of_numpy(device, launches):
    """The pull to the image is a convolution, and so by the kernel; so are derivatives of the second order."""
    x, k = drawn((2, 5, 6, 4)), drawn((3, 2, 4, 3), key=1)

    def f(both):
        return mg.sum(mg.tanh(mg.conv2d(*both, (1, 1), "same")))
    on = mg.xp.asarray(x, "float32"), mg.xp.asarray(k, "float32")
    for a, b in zip(mg.hvp(f, on, on), mg.hvp(f, (x, k), (x, k)), strict=True):
        close(a, b, 100)
    assert len(launches) > 3


# ------------------------------------------------------------------------------------------------- windows

def geometries(count):
    """Return sizes and geometries at random: (images, kernel, stride, padding)."""
    rng = generator(5)
    while count:
        (A, B), stride, (c, o) = rng.integers(1, 5, 2), rng.integers(1, 4, 2), rng.integers(1, 6, 2)
        padding = rng.integers(0, 4, (2, 2))
        h, w = (int(max(n - zeros, 1) + rng.integers(0, 6)) for n, zeros in zip((A, B), padding.sum(1)))
        yield (int(rng.integers(1, 4)), h, w, int(c)), (int(A), int(B), int(c), int(o)), tuple(map(int, stride)), tuple(
            tuple(map(int, side)) for side in padding)
        count -= 1


@pytest.mark.parametrize("chunk", [cuda_convolution.CHUNK, 500])
@pytest.mark.parametrize("dtype", TYPES)
def test_by_bands(device, by_bands, products, monkeypatch, dtype, chunk):
    """Windows of every geometry: far apart, wider than the image, in borders wider than they are, of images in chunks."""
    monkeypatch.setattr(cuda_convolution, "CHUNK", chunk)
    counted = 0
    for of_image, of_kernel, stride, padding in geometries(40):
        x, k = drawn(of_image, dtype), drawn(of_kernel, dtype, 1)
        expected = convolution._conv2d(x.astype(float), k, stride, padding)
        products.clear()
        close(cuda_convolution.conv2d(mg.xp.asarray(x), mg.xp.asarray(k), stride, padding), expected, 80)
        if of_kernel[1] > stride[1]:
            assert all(stack == expected.shape[2] for *_, stack in products)
            counted += 1
        with_gaps = mg.xp.asarray(np.repeat(x, 2, axis=2))[:, :, ::2]
        close(cuda_convolution.conv2d(with_gaps, mg.xp.asarray(k[::-1].copy())[::-1], stride, padding), expected, 80)
        g = drawn(expected.shape, dtype, 2)
        close(cuda_convolution.conv2d_input(mg.xp.asarray(g), mg.xp.asarray(k), of_image[1:3], stride, padding),
              convolution._conv2d_input(g.astype(float), k, of_image[1:3], stride, padding), 80)
        close(cuda_convolution.conv2d_kernel(mg.xp.asarray(x), mg.xp.asarray(g), of_kernel[:2], stride, padding),
              convolution._conv2d_kernel(x.astype(float), g, of_kernel[:2], stride, padding), 200)
    assert counted > 10


@pytest.mark.parametrize("s, k, stride, stack", [
    ((32, 32, 32, 16), (3, 3, 16, 16), (1, 1), 32), ((32, 32, 32, 16), (3, 3, 16, 16), (2, 2), 16),
    ((3, 32, 32, 16), (3, 3, 16, 16), (1, 1), 1),           # few bands
    ((8, 32, 32, 16), (3, 3, 16, 257), (1, 1), 1),          # more arithmetic than memory
    ((32, 32, 32, 16), (3, 3, 16, 16), (3, 3), 1),          # windows side by side
    ((32, 8, 8, 16), (3, 3, 16, 16), (1, 1), 1)])           # small arrays
def test_bands_are_for_many_windows_that_overlap(device, by_cublas, products, s, k, stride, stack):
    """They save memory: those of A x B windows are 1 / B of the size, and the zeros at the sides."""
    x, kernel = mg.xp.asarray(drawn(s, "float32")), mg.xp.asarray(drawn(k, "float32"))
    y = cuda_convolution.conv2d(x, kernel, stride, SAME[1])
    assert [each[3] for each in products] == [stack] and products[0][2] == 144
    close(y[-1:], convolution._conv2d(to_host(x[-1:]).astype(float), to_host(kernel), stride, SAME[1]), 144)


def test_bands_are_smaller_than_windows(device, by_cublas, monkeypatch):
    sizes, unfold = [], cuda_convolution.unfold
    monkeypatch.setattr(cuda_convolution, "unfold", lambda *args: sizes.append(unfold(*args)) or sizes[-1])
    x, k = mg.xp.ones((32, 32, 32, 16), "float32"), mg.xp.ones((3, 3, 16, 16), "float32")
    cuda_convolution.conv2d(x, k, *SAME)
    cuda_convolution.conv2d_input(x, k, (32, 32), *SAME)
    cuda_convolution.conv2d_kernel(x, x, (3, 3), *SAME)
    assert [each.nbytes for each in sizes] == [3 * x.nbytes * 34 // 32] * 2 + [9 * x.nbytes]


def test_windows_of_one_pixel_are_the_image(device, by_cublas, kernels):
    """A 1 x 1 convolution is a product, and launches no kernel; with a stride or a border it needs one."""
    x, k, g = (mg.xp.asarray(drawn(s)) for s in ((2, 5, 4, 3), (1, 1, 3, 6), (2, 5, 4, 6)))
    close(cuda_convolution.conv2d(x, k, *ONE), to_host(x) @ to_host(k)[0, 0])
    close(cuda_convolution.conv2d(x[:, ::-1], k, *ONE), to_host(x)[:, ::-1] @ to_host(k)[0, 0])
    close(cuda_convolution.conv2d_input(g, k, (5, 4), *ONE), to_host(g) @ to_host(k)[0, 0].T)
    close(cuda_convolution.conv2d_kernel(x, g, (1, 1), *ONE)[0, 0], to_host(x).reshape(-1, 3).T @ to_host(g).reshape(-1, 6))
    assert not kernels
    close(cuda_convolution.conv2d(x, k, (2, 2), ONE[1]), to_host(x)[:, ::2, ::2] @ to_host(k)[0, 0])
    assert kernels == ["unfold"]


def test_without_cublas_windows_are_multiplied_by_cupy(device, by_bands, monkeypatch):
    monkeypatch.setattr(cublas, "library", lambda: None)
    x, k = drawn((3, 5, 6, 2)), drawn((3, 3, 2, 4), key=1)
    close(cuda_convolution.conv2d(mg.xp.asarray(x), mg.xp.asarray(k), *SAME), convolution._conv2d(x, k, *SAME), 18)
    g = drawn((3, 5, 6, 4), key=2)
    close(cuda_convolution.conv2d_kernel(mg.xp.asarray(x), mg.xp.asarray(g), (3, 3), *SAME),
          convolution._conv2d_kernel(x, g, (3, 3), *SAME), 90)


def test_gradients_of_bands_are_those_of_numpy(device, by_bands):
    """Of the second order as well, which is again made of convolutions."""
    x, k = drawn((2, 5, 6, 2)), drawn((3, 2, 2, 3), key=1)

    def f(x, k):
        return mg.sum(mg.tanh(mg.conv2d(x, k, (1, 1), "same")))
    found = mg.hvp(lambda both: f(*both), (mg.xp.asarray(x), mg.xp.asarray(k)), (mg.xp.asarray(x), mg.xp.asarray(k)))
    for a, b in zip(found, mg.hvp(lambda both: f(*both), (x, k), (x, k)), strict=True):
        close(a, b, 100)


# ------------------------------------------------------------------------------------------------- the handle

def test_every_stream_has_a_workspace(device):
    """Products on two streams may run at the same time, and would write to the same memory."""
    own, x, seen = cublas.handle(mg.xp), mg.xp.ones((2, 2)), []
    streams = [mg.xp.cuda.Stream(non_blocking=True) for _ in range(2)]
    mg.xp.cuda.Device().synchronize()
    for stream in streams:
        with stream:
            close(cublas.product(x, x), np.full((2, 2), 2.0))
            close(cublas.product(x, x), np.full((2, 2), 2.0))
            seen.append((own.stream, own.workspace.data.ptr))
    assert [stream for stream, _ in seen] == [stream.ptr for stream in streams] and len({memory for _, memory in seen}) == 2


def test_every_device_has_a_handle(device, monkeypatch):
    """A handle of cuBLAS belongs to the device that was in use when it was made."""
    here = cublas.handle(mg.xp)
    current = mg.xp.cuda.runtime.getDevice()
    monkeypatch.setattr(mg.xp.cuda.runtime, "getDevice", lambda: current + 1)
    there = cublas.handle(mg.xp)
    assert there is not here and cublas.handle(mg.xp) is there
    monkeypatch.undo()
    assert cublas.handle(mg.xp) is here


def test_every_thread_has_a_handle(device):
    found = []
    thread = threading.Thread(target=lambda: found.append((cublas.handle(mg.xp), to_host(cublas.product(mg.xp.eye(2), mg.xp.eye(2))))))
    thread.start()
    thread.join()
    assert found[0][0] is not cublas.handle(mg.xp)
    np.testing.assert_array_equal(found[0][1], np.eye(2))


def test_precision_of_split_products(device, monkeypatch):
    """That of others: a product of float32 in parts uses tensor cores where they are allowed, and one of float64 never."""
    computed, call = [], cublas.Handle._call
    monkeypatch.setattr(cublas.Handle, "_call", lambda own, name, *args: computed.append(args[-2]) or call(own, name, *args))
    a, b = mg.xp.full((1, 520), 1 + 2.0**-12, "float32"), mg.xp.ones((520, 1), "float32")
    cublas.product(a, b), cublas.product(a.astype(float), b.astype(float))              # the stream is known from here on
    computed.clear()
    try:
        values = []
        for name in ("float32", "tf32"):
            backend.matmul_precision(name)
            values.append(float(to_host(cublas.product(a, b))[0, 0]))
            cublas.product(a.astype(float), b.astype(float))
    finally:
        backend.matmul_precision("float32")
    exact = 520 * (1 + 2.0**-12)
    assert computed == [68, 70, 77, 70] and values[0] == exact and values[1] in (exact, 520.0)


def test_more_rows_than_cublas_can_count(device, products):
    """They would be passed to C modulo 2**32: an error says so. A single long row is no matter of the memory's step."""
    long = mg.xp.lib.stride_tricks.as_strided(mg.xp.ones(1), (1 << 31, 1), (8, 8))
    with pytest.raises(ShapeError, match=r"matmul\(a, b\): cuBLAS counts rows and columns up to 2147483647\n  a  \(2147483648, 1\)"):
        cublas.product(long, mg.xp.ones((1, 1)))
    assert not products
    row = types.SimpleNamespace(shape=(1, 5), strides=(1 << 40, 8), itemsize=8)
    assert cublas.handle(mg.xp)._layout(row) == (row, False, 5)
