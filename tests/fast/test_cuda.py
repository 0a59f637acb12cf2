"""The kernels and the matrix product of the device compute what NumPy computes."""
import itertools
import logging
import pathlib
import re
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import BackendError, backend, nn, optim
from minigrad.backend import generator, to_host
from minigrad.fast import batch_norm, cublas, cuda, cuda_convolution, cuda_windows, threads
from minigrad.ops import normalize, windows

from ..fakecuda import device as standin

GEOMETRIES = [((2, 5, 6, 3), (3, 3), (1, 1), ((1, 1), (1, 1))), ((1, 7, 4, 4), (3, 2), (2, 1), ((0, 1), (2, 0))),
              ((3, 4, 4, 8), (1, 1), (2, 2), ((0, 0), (0, 0))), ((2, 6, 6, 1), (5, 5), (1, 1), ((2, 2), (2, 2))),
              ((1, 8, 9, 2), (3, 3), (2, 3), ((0, 1), (1, 0)))]
TYPES = ["float32", "float64"]
KERNELS = {kernel.name for module in (cuda, cuda_windows) for kernel in vars(module).values()
           if isinstance(kernel, cuda.Kernel)}
FOLDER = pathlib.Path(cuda.__file__).parent
IN_FILES = {name for path in FOLDER.glob("*.cu")
            for name in re.findall(r"^// kernel: (\w+)", path.read_text(), re.M)}


pytestmark = pytest.mark.usefixtures("exact")


def drawn(s, dtype="float64", key=0):
    return generator((key, *s)).standard_normal(s).astype(dtype)


def on_device(*arrays):
    return [None if a is None else mg.xp.asarray(a) for a in arrays]


def turned(x):
    """Return this array on the device with its last axis first in memory."""
    return mg.xp.moveaxis(mg.xp.asarray(np.moveaxis(x, -1, 0).copy()), 0, -1)


def with_gaps(x):
    """Return this array on the device with unused elements between its elements."""
    return mg.xp.asarray(np.repeat(x, 2, axis=-1))[..., ::2]


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

def test_no_loop_of_a_kernel_counts_down():
    """NVRTC 13.0 unrolls such loops wrongly (seen on an H100, in fold): neither a compiler's message nor the stand-in shows it."""
    for path in [*FOLDER.glob("*.cu"), *FOLDER.glob("*.py")]:
        assert not re.search(r"for \([^)]*--", path.read_text()), f"{path.name}: count up, and subtract"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("s, window, stride, padding", GEOMETRIES)
def test_windows(cupy, s, window, stride, padding, dtype):
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
    apart = mg.xp.asarray(np.repeat(x, 2, axis=2))[:, :, ::2]
    np.testing.assert_array_equal(to_host(cuda_windows.unfold(apart, counts, window, stride, padding)), rows)
    np.testing.assert_array_equal(to_host(cuda_windows.unfold(turned(x), counts, window, stride, padding)), rows)
    np.testing.assert_array_equal(to_host(cuda_windows.fold(turned(v), s[1:3], stride, padding)), to_host(images[1]))


def test_what_kernels_read_is_aligned(cupy, monkeypatch):
    """Several elements are only read as one number where they lie at a multiple of its size: else a device refuses."""
    called, launch = [], cuda.Kernel.__call__

    def noted(kernel, *args):
        called.extend(a for a in args if hasattr(a, "dtype") and a.dtype.kind == "c")
        return launch(kernel, *args)
    monkeypatch.setattr(cuda.Kernel, "__call__", noted)
    geometry = ((2, 2), (2, 2), (1, 1), ((0, 0), (0, 0)))
    x = drawn((1, 3, 3, 4))
    aligned, shifted = mg.xp.asarray(x), mg.xp.empty(x.size + 1)[1:].reshape(x.shape)
    shifted[...] = aligned
    rows = cuda_windows.unfold(aligned, *geometry)
    assert len(called) == 2                                 # as complex numbers
    np.testing.assert_array_equal(to_host(cuda_windows.unfold(shifted, *geometry)), to_host(rows))
    assert all(a.data.ptr % a.itemsize == 0 for a in called)


def of_pooling(s, window, stride, padding):
    """Return whether every window of this geometry has an element that is no padding."""
    return all(p < w for w, pair in zip(window, padding) for p in pair)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("s, window, stride, padding", [each for each in GEOMETRIES if of_pooling(*each)])
def test_pooling(cupy, s, window, stride, padding, dtype):
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

@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("s", [(5, 3), (2, 3, 4, 16), (700, 20), (40, 300), (1, 1)])
def test_sums(cupy, s, dtype):
    x = drawn(s, dtype) + 3
    rows = x.reshape(-1, s[-1])
    for laid_out in (mg.xp.asarray, turned, with_gaps):
        same(cuda.column_sums(laid_out(x)), rows.sum(0))
        mean, var = cuda.moments(laid_out(x))
        same(mean, rows.mean(0))
        same(var, rows.var(0))


def test_the_variance_of_numbers_far_from_0_does_not_cancel(cupy):
    x = drawn((1000, 2)) + 1e9
    np.testing.assert_allclose(to_host(cuda.moments(*on_device(x))[1]), x.var(0), rtol=1e-9)
    constant = cuda.moments(*on_device(np.full((9, 3), 0.1, "float32")))
    assert (to_host(constant[1]) == 0).all() and (to_host(constant[0]) == np.float32(0.1)).all()


@pytest.mark.parametrize("gained, then_relu", [*itertools.product([True, False], repeat=2)])
@pytest.mark.parametrize("dtype", TYPES)
def test_normalization(cupy, gained, then_relu, dtype):
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
    for laid_out in (mg.xp.asarray, turned):
        for found, expected in zip(ours.pull(laid_out(g)), with_numpy(lambda: theirs.pull(g)), strict=True):
            assert (found is None) == (expected is None)
            if found is not None:
                same(found, expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_closed_relu_lets_nothing_through(cupy, dtype):
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

@pytest.mark.parametrize("labels", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("dtype", TYPES)
def test_cross_entropy(cupy, dtype, labels):
    x, t, g = drawn((300, 5), dtype) * 20, drawn((300, 5), dtype, 1), drawn((300,), dtype, 2)
    y = generator(0).integers(0, 5, 300).astype(labels)
    losses, J = with_numpy(lambda: mg.linearize(lambda x: nn.cross_entropy(x, y), x))
    found, push, pull = cuda.cross_entropy(*on_device(x, y))
    same(found, losses)
    same(push(*on_device(t)), with_numpy(lambda: J.push(t)))
    same(pull(*on_device(g))[0], with_numpy(lambda: J.pull(g)))


@pytest.mark.parametrize("dtype", TYPES)
def test_cross_entropy_far_out(cupy, dtype):
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


def test_cross_entropy_of_scores_that_are_not_finite(cupy):
    x = np.array([[0.0, -np.inf], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 1.0], [1e300, -1e300],
                  [-1e300, 1e300]])
    y = np.zeros(6, int)
    with np.errstate(all="ignore"):
        losses, J = with_numpy(lambda: mg.linearize(lambda x: nn.cross_entropy(x, y), x))
        expected = with_numpy(lambda: J.pull(np.ones(6)))
    found, _, pull = cuda.cross_entropy(*on_device(x, y))
    np.testing.assert_array_equal(to_host(found), losses)
    np.testing.assert_array_equal(to_host(pull(*on_device(np.ones(6)))[0]), expected)


@pytest.mark.parametrize("nesterov, decay", [*itertools.product([True, False], [0.0, 0.1])])
@pytest.mark.parametrize("dtype", TYPES)
def test_sgd(cupy, dtype, nesterov, decay):
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


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n, k, m", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (7, 2, 1)])
def test_products(cupy, n, k, m, dtype):
    a, b = drawn((n, k), dtype), drawn((k, m), dtype, 1)
    for left, right in itertools.product(LAYOUTS.values(), repeat=2):
        same(cublas.product(left(mg.xp.asarray(a)), right(mg.xp.asarray(b))), a @ b)
    y = mg.xp.asarray(np.zeros((2, n, m), dtype))
    cublas.product(*on_device(a, b), out=y[1])
    same(y, np.stack([np.zeros((n, m), dtype), a @ b]))


@pytest.mark.parametrize("a, b", [((2, 3, 4), (4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((4,), (4, 5))])
def test_products_that_are_not_for_the_handle(cupy, a, b):
    """They are NumPy's or CuPy's own."""
    a, b = drawn(a), drawn(b)
    assert cublas.matmul(*on_device(a, b)) is NotImplemented
    same(mg.matmul(*on_device(a, b)), np.matmul(a, b))


def test_products_of_integers_are_not_for_the_handle(cupy):
    a, b = np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)
    assert cublas.matmul(*on_device(a, b)) is NotImplemented
    np.testing.assert_array_equal(to_host(mg.matmul(*on_device(a, b))), a @ b)


class Noted:
    """A library that does nothing but record its calls."""
    def __init__(self, status=0):
        self.calls, self.status = [], status

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, args)) or self.status


def test_precision_of_products(cupy, monkeypatch):
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


def test_what_cublas_refuses_is_an_error(cupy, monkeypatch):
    broken = Noted(status=3)
    monkeypatch.setattr(cublas, "library", lambda: broken)
    with pytest.raises(BackendError, match="cublasCreate_v2: cuBLAS returns status 3\n  help: .* memory is full"):
        cublas.product(*on_device(np.ones((2, 2)), np.ones((2, 2))))


def test_without_cublas_the_product_is_cupys(cupy, monkeypatch, caplog):
    import cuda.pathfinder
    cupy.matmul(cupy.ones((2, 2)), cupy.ones((2, 2)))       # CuPy finds it in the same way

    def missing(name):
        raise RuntimeError(f"no {name}")
    monkeypatch.setattr(cuda.pathfinder, "load_nvidia_dynamic_lib", missing)
    monkeypatch.setattr(cublas, "library", cublas.library.__wrapped__)         # without what it has found before
    with caplog.at_level(logging.WARNING):
        same(cublas.product(*on_device(np.full((2, 2), 2.0), np.ones((2, 2)))), np.full((2, 2), 4.0))
    assert "cuBLAS was not found (no cublas): matrix products go through CuPy" in caplog.text


# ------------------------------------------------------------------------------------ where kernels are taken

def test_what_there_are_kernels_for(cupy):
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


def kernels_of(function, *args):
    """Return the names of our kernels that a function launches, of templates without the type."""
    standin.reset()
    function(*args)
    names = {re.sub(r"^kernel (ne\d+_)?|(_(float|double)|<.*>)$", "", name) for name in standin.report()["kernels"]}
    return names & (KERNELS | IN_FILES)


@pytest.mark.needs("fakecuda")
def test_the_operations_take_them(cupy):
    """A step of a small network runs every kernel there is; in float16, only batch normalization and cross entropy have some, in float32."""
    x, y = on_device(drawn((5, 9, 9, 4), "float32"), np.arange(5) % 3)
    assert kernels_of(small_step, x, y) == KERNELS | {"sums", "sgd"} and small_step(x, y).dtype == "float32"
    x = x.astype("float16")
    assert kernels_of(small_step, x, y) == {"normalize", "normalize_slope", "sums", "move_averages", "cross_entropy", "cross_entropy_push", "cross_entropy_pull"} and small_step(x, y).dtype == "float16"


def test_a_batch_is_convolved_in_chunks(cupy, monkeypatch):
    assert threads.split(3, 1 << 31, cuda_convolution.CHUNK) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    monkeypatch.setattr(cuda_convolution, "CHUNK", 600)
    x, k, g = drawn((5, 4, 4, 2)), drawn((3, 3, 2, 3), key=1), drawn((5, 2, 2, 3), key=2)
    y, J = with_numpy(lambda: mg.linearize(mg.conv2d, x, k))
    found, on = mg.linearize(mg.conv2d, *on_device(x, k))
    same(found, y)
    for a, b in zip(on.pull(*on_device(g)), with_numpy(lambda: J.pull(g))):
        same(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [7, 5000])
def test_moments_of_what_is_not_finite(device, dtype, rows):
    """A NaN is seen in the mean and in the variance of its channel, an infinity in its mean; the others are those of numbers."""
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype(dtype)
    x[3, 1], x[0, 2], x[rows - 1, 3] = np.nan, np.inf, np.nan
    with np.errstate(invalid="ignore"):
        mean, variance = (mg.to_host(a) for a in normalize.moments(mg.xp.asarray(x)))
    np.testing.assert_allclose(mean, [x[:, 0].mean(), np.nan, np.inf, np.nan], rtol=1e-4)
    np.testing.assert_allclose(variance[0], x[:, 0].var(), rtol=1e-4)
    assert np.isnan(variance[1:]).all()


def test_each_thread_has_a_handle_of_its_own(cupy):
    """A handle of cuBLAS is for one thread at a time."""
    found = [cublas.handle(cupy)]
    other = threading.Thread(target=lambda: found.append(cublas.handle(cupy)))
    other.start()
    other.join()
    assert found[0] is cublas.handle(cupy) is not found[1]
