"""The kernels and the matrix product of the device, in the emulator and on CuPy, compute what NumPy does."""
import itertools
import logging

import numpy as np
import pytest

import minigrad as mg
from minigrad import BackendError, backend, nn, optim
from minigrad.backend import generator, to_host
from minigrad.fast import batch_norm, cublas, cuda, cuda_convolution, cuda_windows, threads
from minigrad.ops import normalize, windows

from .. import emulator
from ..test_device import other_devices

GEOMETRIES = [((2, 5, 6, 3), (3, 3), (1, 1), ((1, 1), (1, 1))), ((1, 7, 4, 4), (3, 2), (2, 1), ((0, 1), (2, 0))),
              ((3, 4, 4, 8), (1, 1), (2, 2), ((0, 0), (0, 0))), ((2, 6, 6, 1), (5, 5), (1, 1), ((2, 2), (2, 2))),
              ((1, 8, 9, 2), (3, 3), (2, 3), ((0, 1), (1, 0)))]
TYPES = ["float32", "float64"]
KERNELS = {kernel.name for module in (cuda, cuda_windows) for kernel in vars(module).values()
           if isinstance(kernel, cuda.Kernel)}
FIND = cublas.library.__wrapped__                             # before a fixture puts a stand-in there


def drawn(s, dtype="float64", key=0):
    return generator((key, *s)).standard_normal(s).astype(dtype)


def on_device(*arrays):
    return [None if a is None else mg.xp.asarray(a) for a in arrays]


def same(found, expected, tolerance=1e-12):
    found = to_host(found)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5 if expected.dtype == "float32" else tolerance,
                               atol=1e-5 if expected.dtype == "float32" else tolerance)


def with_numpy(function):
    """Return what a function returns on NumPy, in the middle of a test on a device."""
    before = backend.name()
    mg.use("numpy")
    try:
        return function()
    finally:
        mg.use(before)


# ------------------------------------------------------------------------------------------------- windows

@other_devices
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("s, window, stride, padding", GEOMETRIES)
def test_windows(device, s, window, stride, padding, dtype):
    x, counts = drawn(s, dtype), windows.output_size(s[1:3], window, stride, padding)
    expected = with_numpy(lambda: windows._unfold(x, window, stride, padding))
    (device_x,) = on_device(x)
    rows = to_host(cuda_windows.unfold(device_x, counts, window, stride, padding))
    np.testing.assert_array_equal(rows, expected.reshape(rows.shape))
    v = drawn(expected.shape, dtype, 1)
    same(cuda_windows.fold(*on_device(v), s[1:3], stride, padding),
         with_numpy(lambda: windows._fold(v, s[1:3], stride, padding)))
    images = mg.xp.full((2, *x.shape), 7.0, dtype)
    cuda_windows.fold(*on_device(v), s[1:3], stride, padding, images[1])   # written where it is wanted
    np.testing.assert_array_equal(to_host(images[1]), to_host(cuda_windows.fold(*on_device(v), s[1:3], stride, padding)))
    assert (to_host(images[0]) == 7.0).all()
    with_gaps = mg.xp.asarray(np.repeat(x, 2, axis=2))[:, :, ::2]
    np.testing.assert_array_equal(to_host(cuda_windows.unfold(with_gaps, counts, window, stride, padding)), rows)
    turned = mg.xp.asarray(v.transpose(5, 0, 1, 2, 3, 4).copy()).transpose(1, 2, 3, 4, 5, 0)
    np.testing.assert_array_equal(to_host(cuda_windows.fold(turned, s[1:3], stride, padding)), to_host(images[1]))


def of_pooling(s, window, stride, padding):
    """Return whether every window of this geometry has an element that is no padding."""
    return all(p < w for w, pair in zip(window, padding) for p in pair)


@other_devices
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("s, window, stride, padding", [each for each in GEOMETRIES if of_pooling(*each)])
def test_pooling(device, s, window, stride, padding, dtype):
    x = np.round(drawn(s, dtype) * 2) / 2                                   # with equal elements
    x.reshape(-1)[::7] = np.nan
    x.reshape(-1)[1::11] = -np.inf
    geometry = window, stride, padding
    best, winners = with_numpy(lambda: windows._max_pool2d.__wrapped__(x, *geometry))
    found, chosen = cuda_windows.max_pool2d(*on_device(x), *geometry)
    np.testing.assert_array_equal(to_host(found), best)
    finite = ~np.isinf(best)                                # a border ties with -infinity: NumPy's code may choose it
    np.testing.assert_array_equal(to_host(chosen)[finite], winners[finite])
    n, count = len(x), best[0].size
    flat, y = drawn((n, x[0].size), dtype, 1), drawn((n, count), dtype, 2)
    w = winners.reshape(n, count)
    same(cuda_windows.take_winners(*on_device(flat, w)), np.take_along_axis(flat, w, 1))
    expected = with_numpy(lambda: windows._put_winners(y, w, s[1:], *geometry))
    same(cuda_windows.put_winners(*on_device(y, w), s[1:], *geometry), expected)


# ------------------------------------------------------------------------------------------- normalization

@other_devices
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("s", [(5, 3), (2, 3, 4, 16), (700, 20), (40, 300), (1, 1)])
def test_sums(device, s, dtype):
    x = drawn(s, dtype) + 3
    (device_x,) = on_device(x)
    same(cuda.column_sums(device_x), x.reshape(-1, s[-1]).sum(0))
    mean, var = cuda.moments(device_x)
    same(mean, x.reshape(-1, s[-1]).mean(0))
    same(var, x.reshape(-1, s[-1]).var(0))


@other_devices
def test_the_variance_of_numbers_far_from_0_does_not_cancel(device):
    x = drawn((1000, 2)) + 1e9
    np.testing.assert_allclose(to_host(cuda.moments(*on_device(x))[1]), x.var(0), rtol=1e-9)
    constant = cuda.moments(*on_device(np.full((9, 3), 0.1, "float32")))
    assert (to_host(constant[1]) == 0).all() and (to_host(constant[0]) == np.float32(0.1)).all()


@other_devices
@pytest.mark.parametrize("gained, then_relu", [*itertools.product([True, False], repeat=2)])
@pytest.mark.parametrize("dtype", TYPES)
def test_normalization(device, gained, then_relu, dtype):
    x, g, t = (drawn((6, 5, 4, 7), dtype, k) for k in range(3))
    gain, bias, t_gain, t_bias = (drawn((7,), dtype, k) for k in range(4))
    gain, t_gain = (gain, t_gain) if gained else (None, None)
    settings = {"eps": 1e-3, "then_relu": then_relu}
    theirs = with_numpy(lambda: batch_norm.Passes(x, gain, bias, normalize.moments(x), **settings))
    known = on_device(*with_numpy(lambda: normalize.moments(x)))
    ours = cuda.BatchNormPasses(*on_device(x, gain, bias), known, **settings)
    same(ours.y, theirs.y)
    for tangents in [(t, t_gain, t_bias), (t, None, None), (None, t_gain, t_bias), (None, None, t_bias)]:
        same(ours.push(*on_device(*tangents)), with_numpy(lambda: theirs.push(*tangents)))
    for found, expected in zip(ours.pull(*on_device(g)), with_numpy(lambda: theirs.pull(g)), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            same(found, expected)


@other_devices
@pytest.mark.parametrize("dtype", TYPES)
def test_a_closed_relu_lets_nothing_through(device, dtype):
    """Neither NaN nor infinity from above; what is NaN itself stays so."""
    x, bias = drawn((40, 3), dtype), np.array([0.0, 0.5, -0.5], dtype)
    known = on_device(*with_numpy(lambda: normalize.moments(x)))
    passes = cuda.BatchNormPasses(*on_device(x, None, bias), known, eps=1e-3, then_relu=True)
    shut, g = to_host(passes.y) == 0.0, drawn((40, 3), dtype, 1)
    for bad in (np.inf, np.nan):
        for found, expected in zip(passes.pull(*on_device(np.where(shut, bad, g).astype(dtype))),
                                   passes.pull(*on_device(np.where(shut, 0.0, g).astype(dtype)))):
            np.testing.assert_array_equal(*[None if a is None else to_host(a) for a in (found, expected)])
    t = g.copy()
    t[0, 0] = np.inf
    pushed = to_host(passes.push(*on_device(t), None, None))
    assert (pushed[shut] == 0.0).all() and not np.isfinite(pushed[:, 0][~shut[:, 0]]).any()
    x[0, 1] = np.nan
    theirs = with_numpy(lambda: batch_norm.Passes(x, None, bias, normalize.moments(x), eps=1e-3, then_relu=True))
    ours = cuda.BatchNormPasses(*on_device(x, None, bias), cuda.moments(*on_device(x)), eps=1e-3, then_relu=True)
    same(ours.y, theirs.y)
    with np.errstate(invalid="ignore"):
        same(ours.pull(*on_device(g))[0], with_numpy(lambda: theirs.pull(g))[0])


# ------------------------------------------------------------------------------------------ loss and update

@other_devices
@pytest.mark.parametrize("labels", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("dtype", TYPES)
def test_cross_entropy(device, dtype, labels):
    x, t, g = drawn((300, 5), dtype) * 20, drawn((300, 5), dtype, 1), drawn((300,), dtype, 2)
    y = generator(0).integers(0, 5, 300).astype(labels)
    losses, J = with_numpy(lambda: mg.linearize(lambda x: nn.cross_entropy(x, y), x))
    found, push, pull = cuda.cross_entropy(*on_device(x, y))
    same(found, losses)
    same(push(*on_device(t)), with_numpy(lambda: J.push(t)))
    same(pull(*on_device(g))[0], with_numpy(lambda: J.pull(g)))


@other_devices
@pytest.mark.parametrize("dtype", TYPES)
def test_cross_entropy_far_out(device, dtype):
    """Where a label is almost certain, or all scores are large, the error is small relative to the loss itself."""
    x = np.array([[0.0, -1.0, -2.0], [17.0, 0.0, 3.0], [80.0, 0.0, 1.0], [0.0, 80.0, 79.0]]) + np.array([[0.0], [-1e6], [1e6], [0.0]])
    x, t, y = x.astype(dtype), drawn((4, 3), dtype), np.zeros(4, int)
    right = np.log1p(np.exp(x[:, 1:].astype(float) - x[:, :1]).sum(1))
    found, push, pull = cuda.cross_entropy(*on_device(x, y))
    losses, J = with_numpy(lambda: mg.linearize(lambda x: nn.cross_entropy(x, y), x))
    g = np.ones(4, dtype)
    for a, b in ((found, right), (losses, right), (push(*on_device(t)), J.push(t)), (pull(*on_device(g))[0], J.pull(g))):
        np.testing.assert_allclose(to_host(a), b, rtol=1e-5 if dtype == "float32" else 1e-13, atol=0.0)
    np.testing.assert_allclose(J.pull(g)[:, 0], np.expm1(-right), rtol=1e-5)


@other_devices
def test_cross_entropy_of_scores_that_are_not_finite(device):
    x = np.array([[0.0, -np.inf], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 1.0], [1e300, -1e300]])
    y = np.zeros(5, int)
    with np.errstate(all="ignore"):
        losses, J = with_numpy(lambda: mg.linearize(lambda x: nn.cross_entropy(x, y), x))
        expected = with_numpy(lambda: J.pull(np.ones(5)))
    found, _, pull = cuda.cross_entropy(*on_device(x, y))
    np.testing.assert_array_equal(to_host(found), losses)
    np.testing.assert_array_equal(to_host(pull(*on_device(np.ones(5)))[0]), expected)


@other_devices
@pytest.mark.parametrize("nesterov, decay", [*itertools.product([True, False], [0.0, 0.1])])
@pytest.mark.parametrize("dtype", TYPES)
def test_sgd(device, dtype, nesterov, decay):
    p, m, g = (drawn((3, 5), dtype, k) for k in range(3))
    optimizer = optim.sgd(momentum=0.9, nesterov=nesterov, weight_decay=decay)
    (new, state) = with_numpy(lambda: optimizer.update(g, {"momentum": m}, p, 0.25))
    for rate in (0.25, *(mg.xp.asarray(np.array(0.25, kind)) for kind in TYPES)):
        found, moved = optimizer.update(*on_device(g), {"momentum": on_device(m)[0]}, *on_device(p), rate)
        same(found, new)
        same(moved["momentum"], state["momentum"])
    found, moved = optimizer.update(mg.xp.asarray(g.T.copy()).T, {"momentum": on_device(m)[0]}, *on_device(p), 0.25)
    same(found, new)
    same(moved["momentum"], state["momentum"])


# ----------------------------------------------------------------------------------------- matrix products

LAYOUTS = {"rows": lambda a: a, "turned": lambda a: mg.xp.asarray(to_host(a).T.copy()).T,
           "rows with gaps": lambda a: mg.xp.asarray(np.hstack([to_host(a)] * 2))[:, :a.shape[1]],
           "gaps everywhere": lambda a: mg.xp.asarray(np.repeat(to_host(a), 2, axis=1))[:, ::2]}


@other_devices
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n, k, m", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (7, 2, 1)])
def test_products(device, n, k, m, dtype):
    a, b = drawn((n, k), dtype), drawn((k, m), dtype, 1)
    for left, right in itertools.product(LAYOUTS.values(), repeat=2):
        same(cublas.product(left(mg.xp.asarray(a)), right(mg.xp.asarray(b))), a @ b)
    y = mg.xp.asarray(np.zeros((2, n, m), dtype))
    cublas.product(*on_device(a, b), out=y[1])
    same(y, np.stack([np.zeros((n, m), dtype), a @ b]))


@other_devices
@pytest.mark.parametrize("a, b", [((2, 3, 4), (4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((4,), (4, 5))])
def test_products_that_are_not_for_the_handle(device, a, b):
    """They are NumPy's or CuPy's own."""
    a, b = drawn(a), drawn(b)
    assert cublas.matmul(*on_device(a, b)) is NotImplemented
    same(mg.matmul(*on_device(a, b)), np.matmul(a, b))


@other_devices
def test_products_of_integers_are_not_for_the_handle(device):
    a, b = np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)
    assert cublas.matmul(*on_device(a, b)) is NotImplemented
    np.testing.assert_array_equal(to_host(mg.matmul(*on_device(a, b))), a @ b)


class Noted:
    """A library that does nothing but record its calls."""
    def __init__(self, status=0):
        self.calls, self.status = [], status

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, args)) or self.status


def test_precision_of_products(impersonator, monkeypatch):
    noted = Noted()
    monkeypatch.setattr(cublas, "library", lambda: noted)
    x, y = on_device(np.ones((2, 2), "float32"), np.ones((2, 2)))
    try:
        for name in ("float32", "tf32"):
            assert backend.matmul_precision(name) == backend.matmul_precision() == name
            cublas.product(x, x), cublas.product(y, y)
    finally:
        backend.matmul_precision("float32")
    computed = [args[-2] for name, args in noted.calls if name == "cublasGemmEx"]
    assert computed == [68, 70, 77, 70]
    assert [name for name, _ in noted.calls[:4]] == [
        "cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmEx"]
    assert [name for name, _ in noted.calls[4:]] == ["cublasGemmEx"] * 3            # the stream is the same
    with pytest.raises(BackendError, match=r"matmul_precision\('half'\): there is no such precision\n  help: 'float32' or"):
        backend.matmul_precision("half")


def test_what_cublas_refuses_is_an_error(impersonator, monkeypatch):
    broken = Noted(status=3)
    monkeypatch.setattr(cublas, "library", lambda: broken)
    with pytest.raises(BackendError, match="cublasCreate_v2: cuBLAS returns status 3\n  help: .* memory is full"):
        cublas.product(*on_device(np.ones((2, 2)), np.ones((2, 2))))


def test_without_cublas_the_product_is_cupys(impersonator, monkeypatch, caplog):
    import cuda.pathfinder

    def missing(name):
        raise RuntimeError(f"no {name}")
    monkeypatch.setattr(cuda.pathfinder, "load_nvidia_dynamic_lib", missing)
    monkeypatch.setattr(cublas, "library", FIND)
    with caplog.at_level(logging.WARNING):
        same(cublas.product(*on_device(np.full((2, 2), 2.0), np.ones((2, 2)))), np.full((2, 2), 4.0))
    assert "cuBLAS was not found (no cublas): matrix products go through CuPy" in caplog.text


# ------------------------------------------------------------------------------------ where kernels are taken

def test_what_there_are_kernels_for(impersonator):
    f, d, i = on_device(np.ones(2, "float32"), np.ones(2), np.ones(2, int))
    assert cublas.has_kernels(f) and cublas.has_kernels(d, d)
    for arrays in [(f, d), (i,), (f, np.ones(2, "float32")), (f, 1.0), (f, None), on_device(np.ones((0, 3)))]:
        assert not cublas.has_kernels(*arrays)
    mg.use("numpy")                                         # which decides what is created, and nothing else
    assert cublas.has_kernels(f) and not cublas.has_kernels(np.ones(2))


def small_step(x, y):
    """Take a step with a small network that runs every kernel there is; its parameters are float32."""
    rng = generator(0)
    net = nn.Sequential((nn.Conv2d.init(rng, 4, 8, padding=1), nn.BatchNorm.init(8), mg.relu,
                         lambda x: mg.max_pool2d(x, 3, 2, 1), nn.Conv2d.init(rng, 8, 3, stride=2),
                         lambda x: mg.mean(mg.abs(mg.relu(x)), (1, 2))))
    net = mg.tree.map(lambda p: p.astype(x.dtype), net)

    averages = net.init_state()

    def loss(net):
        scores, moved = net.apply(x, averages)
        return mg.mean(nn.cross_entropy(scores, y)), moved
    optimizer = optim.sgd(momentum=0.9)
    value, J, _ = mg.linearize(loss, net, has_aux=True)
    J.push(net)
    gradient = J.pull(mg.xp.ones((), x.dtype))
    optimizer.update(gradient, optimizer.init(net), net, 0.1)
    return value


def test_the_operations_take_them(impersonator, monkeypatch):
    """A step of a small network runs every kernel there is; in float16, only batch normalization has some, in float32."""
    launched, of_elements, of_files = [], cuda.Kernel.__call__, cuda.launch

    def noted(kernel, *args):
        launched.append(kernel.name)
        return of_elements(kernel, *args)

    def noted_in_file(xp, file, name, *args):
        launched.append(name.partition("<")[0])
        of_files(xp, file, name, *args)
    monkeypatch.setattr(cuda.Kernel, "__call__", noted)
    monkeypatch.setattr(cuda, "launch", noted_in_file)
    x, y = on_device(drawn((5, 9, 9, 4), "float32"), np.arange(5) % 3)
    assert small_step(x, y).dtype == "float32"
    assert set(launched) == KERNELS | {"sums", "sgd"}
    launched.clear()
    assert small_step(x.astype("float16"), y).dtype == "float16"
    assert set(launched) == {"normalize", "normalize_slope", "sums"}


@other_devices
def test_a_batch_is_convolved_in_chunks(device, monkeypatch):
    assert threads.split(3, 1 << 31, cuda_convolution.CHUNK) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    monkeypatch.setattr(cuda_convolution, "CHUNK", 600)
    x, k, g = drawn((5, 4, 4, 2)), drawn((3, 3, 2, 3), key=1), drawn((5, 2, 2, 3), key=2)
    y, J = with_numpy(lambda: mg.linearize(mg.conv2d, x, k))
    found, on = mg.linearize(mg.conv2d, *on_device(x, k))
    same(found, y)
    for a, b in zip(on.pull(*on_device(g)), with_numpy(lambda: J.pull(g))):
        same(a, b)


# ---------------------------------------------------------------------------------- the emulator would notice

FAULTY = """
__global__ void beyond(float* y, int n) {
    for (int i = 0; i <= n; i++) y[i] = 1;
}
__global__ void before(float* y, int n) {
    y[-1] = n;
}
__device__ void wait() { __syncthreads(); }
__global__ void some_wait(float* y, int n) {
    if (threadIdx.x < n) wait();
    y[threadIdx.x] = 1;
}
__global__ void all_wait(float* y, int n) {
    __shared__ float first;
    if (threadIdx.x == n) first = 7;
    wait();
    y[threadIdx.x] = first;
}
"""


@pytest.mark.needs("g++")
@pytest.mark.parametrize("name, n, complaint", [
    ("beyond", np.int32(4), "writes outside"), ("before", np.int32(4), "writes outside"), ("some_wait", np.int32(2), "barrier"),
    ("beyond", np.int64(3), "argument 1: int64"), ("beyond", np.float32(3), "argument 1: float32"), ("beyond", 3, "needs a type"),
    ("all_wait", np.int32(3), None)])
def test_the_emulator_finds_faults(name, n, complaint):
    kernel = emulator.RawModule(FAULTY, (), ("beyond", "before", "some_wait", "all_wait")).get_function(name)
    y = np.zeros(4, "float32")
    if complaint is None:
        kernel((1,), (4,), (y, n))
        assert (y == 7).all()                               # the last of the four threads has written it for all
        return
    with pytest.raises(AssertionError, match=complaint):
        kernel((1,), (4,), (y, n))


def kernel_of(statements, inputs="T x", outputs="T y", **settings):
    return mg.xp.ElementwiseKernel(inputs, outputs, statements, "tried", **settings)


@pytest.mark.parametrize("index", ["i + 1", "i - 1", "i == 0 ? -1 : i"])
def test_the_emulator_finds_an_index_outside_of_an_array(impersonator, index):
    x = mg.xp.arange(4.0)
    inside = kernel_of("y = x[3 - i] + z", "raw T x, T z")
    assert to_host(inside(x, x)).tolist() == [3.0] * 4
    for faulty in (kernel_of(f"y = x[{index}] + z", "raw T x, T z"), kernel_of(f"y[{index}] = x", outputs="raw T y"),
                   kernel_of(f"ptrdiff_t at[] = {{{index}}}; y = x[at] + z", "raw T x, T z")):
        with pytest.raises(AssertionError, match="tried uses an index outside of an array"):
            faulty(x, x)


@other_devices
@pytest.mark.parametrize("misuse", [
    lambda x: kernel_of("y = x")(np.ones(3)), lambda x: kernel_of("y = x")([1.0]), lambda x: kernel_of("y = x")(None),
    lambda x: kernel_of("y = x")(x, x, x), lambda x: kernel_of("y = x")(), lambda x: kernel_of("y = x")(x, x[:2]),
    lambda x: kernel_of("y = x")(x, x.astype("float32")), lambda x: kernel_of("y = x", "int64 x")(x),
    lambda x: kernel_of("y = a + b", "T a, T b")(x, x.astype("float32")), lambda x: kernel_of("y = x[i]", "raw T x")(x),
    lambda x: kernel_of("y = a + b", "T a, T b")(x, x[:2]), lambda x: kernel_of("y = x", "T i"),
    lambda x: kernel_of("y = x", "T x, more T z")])
def test_what_an_elementwise_kernel_refuses(device, misuse):
    with pytest.raises(Exception) as caught:
        misuse(mg.xp.ones(3))
    assert type(caught.value) in (TypeError, ValueError, Exception)         # the last for what it cannot read


@other_devices
def test_what_an_elementwise_kernel_takes(device):
    x, y = mg.xp.arange(6.0).reshape(2, 3), mg.xp.empty((2, 3))
    assert to_host(kernel_of("y = x + by", "T x, T by")(x, 1)).tolist() == [[1, 2, 3], [4, 5, 6]]
    kernel_of("y = x * 2")(x.T, y.T)
    assert to_host(y).tolist() == [[0, 2, 4], [6, 8, 10]]
    both = kernel_of("y = _ind.get()[0]; z = _ind.get()[1] + x * 0", outputs="T y, int64 z", reduce_dims=False)(x)
    assert [to_host(part).tolist() for part in both] == [[[0] * 3, [1] * 3], [[0, 1, 2]] * 2]
    assert kernel_of("y = x")(mg.xp.ones((0, 3))).shape == (0, 3) and float(kernel_of("y = x")(mg.xp.ones(()))) == 1.0
    assert to_host(kernel_of("y = a - b", "T a, T b")(x, x[:, :1])).tolist() == [[0, 1, 2]] * 2


@pytest.mark.needs("g++")
def test_the_emulator_wants_all_arguments():
    kernel = emulator.RawModule(FAULTY, (), ("beyond",)).get_function("beyond")
    with pytest.raises(AssertionError, match="has 2 parameters, not 1"):
        kernel((1,), (4,), (np.zeros(4, "float32"),))
    with pytest.raises(AssertionError, match="with gaps, or no pointer"):
        kernel((1,), (4,), (np.zeros(8, "float32")[::2], np.int32(3)))
