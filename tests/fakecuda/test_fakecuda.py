"""The stand-in for CUDA notices what it is there to notice."""
import ctypes
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from .. import requirements
from . import device

cupy = requirements.module("cupy")
pytestmark = pytest.mark.needs("fakecuda")

SOURCE = r"""
__device__ void wait() { __syncthreads(); }
extern "C" {
__global__ void beyond(float* y, int n) { for (int i = 0; i <= n; i++) y[i] = 1; }
__global__ void before(float* y, int n) { y[-1] = n; }
__global__ void reads(float* y, int n) { y[0] = y[n]; }
__global__ void some_wait(float* y, int n) { if (threadIdx.x < n) wait(); y[threadIdx.x] = 1; }
__global__ void all_wait(float* y, int n) {
    __shared__ float seen;
    if (threadIdx.x == n) seen = 7;
    wait();
    y[threadIdx.x] = seen;
}
__global__ void none_waits(float* y, int n) {
    __shared__ float seen;
    if (threadIdx.x == n) seen = 7;
    y[threadIdx.x] = seen;
}
__global__ void other_block(float* y, int n) {
    __shared__ float seen;
    if (blockIdx.x == n) seen = 7;
    y[blockIdx.x] = seen;
}
__global__ void dynamic(float* y, int n) {
    extern __shared__ float seen[];
    seen[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = seen[n - 1 - threadIdx.x];
}
__global__ void turn(float* y, int n) {
    y[threadIdx.x] = __shfl_xor_sync(~0u, (float)threadIdx.x, 1);
}
}
"""


@pytest.fixture(scope="module")
def kernels():
    return cupy.RawModule(code=SOURCE)


@pytest.fixture(autouse=True)
def working_device():
    device.reset()
    yield
    device.reset()


def launch(kernels, name, n=4, grid=1, block=4, **settings):
    """Run a kernel on an array of 4 numbers that has guards beside it, and return the numbers."""
    with device.exact_allocations():
        y = cupy.zeros(4, "float32")
        kernels.get_function(name)((grid,), (block,), (y, np.int32(n)), **settings)
        return y.get().tolist()


def error_of(call, *args, **settings):
    """Return the text of the error of CUDA that a call raises, at the latest when the device has done the work."""
    with pytest.raises((cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError)) as found:
        call(*args, **settings)
        cupy.cuda.Device().synchronize()
    return str(found.value)


# ------------------------------------------------------------------------------------------- kernels

@pytest.mark.parametrize("name, message", [
    ("beyond", "kernel beyond writes outside of an array (block 0 0 0, thread "), ("before", "kernel before writes outside of an array"),
    ("reads", "kernel reads reads outside of an array"), ("some_wait", "kernel some_wait has a barrier that only some threads of a block reach")])
def test_a_kernel_at_fault_is_named(kernels, name, message):
    assert message in error_of(launch, kernels, name, 2 if name == "some_wait" else 4)
    assert device.check() and "cudaError" in error_of(cupy.zeros, 4)         # as on a device, nothing works after it
    device.reset()
    assert device.check() == 0 and cupy.zeros(4).sum() == 0


def test_kernels_that_are_right_run(kernels):
    assert launch(kernels, "beyond", 3) == [1, 1, 1, 1] and launch(kernels, "all_wait", 3) == [7] * 4
    assert launch(kernels, "dynamic", shared_mem=16) == [3, 2, 1, 0] and launch(kernels, "turn") == [1, 0, 3, 2]


@pytest.mark.parametrize("index", ["i + 1", "i - 2"])
@pytest.mark.parametrize("statement", ["y = x[{}] + z", "ptrdiff_t at[] = {{{}}}; y = x[at] + z"])
def test_an_index_outside_of_an_array_is_noticed(index, statement):
    x = cupy.arange(8.0)[2:6]                               # within the memory that it is a part of

    def made(index):
        return cupy.ElementwiseKernel("raw T x, T z", "T y", statement.format(index), "tried")
    assert made("3 - i")(x, x).tolist() == [7.0] * 4
    assert "kernel tried uses an index outside of an array: " in error_of(made(index), x, x)


def test_shared_memory_is_new_in_every_block(kernels):
    first, *others = launch(kernels, "other_block", 0, grid=4, block=1)
    assert first == 7 and np.isnan(others).all()


@pytest.mark.parametrize("grid, block, shared", [((1,), (1025,), 0), ((1, 65536), (1,), 0), ((1,), (32, 33), 0),
                                                 ((1,), (1, 1, 65), 0), ((1,), (1,), 49153)])
def test_a_launch_beyond_the_limits_is_refused(kernels, grid, block, shared):
    y, kernel = cupy.zeros(4, "float32"), kernels.get_function("beyond")
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="INVALID|cudaErrorInvalidValue"):
        kernel(grid, block, (y, np.int32(0)), shared_mem=shared)
    assert y.sum() == 0 and device.check() == 0


def test_shared_memory_beyond_48_kb_has_to_be_asked_for(kernels):
    kernel = kernels.get_function("dynamic")
    kernel.max_dynamic_shared_size_bytes = 65536
    assert launch(kernels, "dynamic", shared_mem=65536) == [3, 2, 1, 0]


@pytest.mark.parametrize("argument, reason", [
    (np.int64(4), "argument 1: int64 for a signed integer of 4 bytes"), (np.float32(4), "argument 1: float32 for a signed"),
    (4, "argument 1: 4 needs a type of NumPy"), (None, "1 parameters|argument 1")])
def test_an_argument_of_another_type_is_refused(monkeypatch, argument, reason):
    monkeypatch.setattr(cupy, "RawModule", getattr(cupy.RawModule, "args", [cupy.RawModule])[0])
    device.check_arguments()
    kernel, y = cupy.RawModule(code=SOURCE).get_function("beyond"), cupy.zeros(4, "float32")
    with pytest.raises(TypeError, match=reason):
        kernel((1,), (1,), (y, argument))
    for arguments in ((y,), (y, y), (y[::2], np.int32(1)), (np.float32(1), np.int32(1))):
        with pytest.raises(TypeError):
            kernel((1,), (1,), arguments)
    kernel((1,), (1,), (y, np.int32(3)))
    assert y.tolist() == [1] * 4


def test_memory_that_nothing_was_written_to_is_nan():
    with device.exact_allocations():                        # CuPy's pool may hold what another test wrote to
        assert all(np.isnan(cupy.empty(1000, dtype).get()).all() for dtype in ("float16", "float32", "float64", "complex64"))


def test_a_product_of_what_lies_elsewhere_is_refused():
    library, handle = ctypes.CDLL("libcublas.so.13"), ctypes.c_void_p()
    library.cublasCreate_v2(ctypes.byref(handle))
    a, one, zero = cupy.arange(12, dtype="float32").reshape(3, 2, 2), ctypes.c_float(1), ctypes.c_float(0)

    def multiply(address, out):
        matrix = ctypes.c_void_p(address), 2, ctypes.c_longlong(4)
        return library.cublasSgemmStridedBatched(handle, 0, 0, 2, 2, 2, ctypes.byref(one), *matrix, *matrix, ctypes.byref(zero),
                                                 ctypes.c_void_p(out.data.ptr), 2, ctypes.c_longlong(4), 3)
    out = cupy.empty_like(a)
    assert multiply(a.data.ptr, out) == 0
    np.testing.assert_array_equal(out.get(), a.get() @ a.get())
    assert multiply(np.ones(12, "float32").ctypes.data, out) and device.check() == 700


# ------------------------------------------------------------------------------------------- waits

@pytest.mark.parametrize("reads", [
    lambda x: bool(x.sum() > 0), lambda x: float(x[0]), lambda x: int(x[0]), lambda x: x[0].item(), lambda x: x.tolist(),
    lambda x: x.get(), lambda x: x[x > 0], lambda x: cupy.nonzero(x), lambda x: cupy.asnumpy(x), lambda x: cupy.where(x > 0),
    lambda x: x.__setitem__(x > 0, 2.0), lambda x: cupy.add.at(x, x > 0, 1.0), lambda x: cupy.arange(x[0]), lambda x: repr(x), lambda x: x.tobytes(), lambda x: bool(cupy.allclose(x, x)),
    lambda x: cupy.unique(x), lambda x: cupy.cuda.Device().synchronize(), lambda x: cupy.cuda.get_current_stream().synchronize(),
    lambda x: cupy.cuda.get_current_stream().record().synchronize()])
def test_a_host_read_is_refused_where_it_happens(reads):
    x = cupy.ones(3)
    reads(x)
    with device.no_host_reads():
        with device.no_host_reads():
            pass
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="HostRead: this waits for the device"):
            reads(x)
        cupy.where(x > 0, x, 0.0)
        cupy.asarray(np.ones(3))
    reads(x)
    assert device.report()["counters"]["waits refused"] >= 1


def test_counts_are_those_of_the_program_also_where_it_is_not_run():
    def program():
        device.reset()
        y = a @ b
        y += 1
        float(y.sum())
        return device.report()
    a, b = cupy.ones((20, 30), "float32"), cupy.ones((30, 40), "float32")
    program()
    found = program()
    assert {name: found["counters"][name] for name in ("operations", "kernels", "gemms", "copies", "bytes device to host")} \
        == {"operations": 4, "kernels": 2, "gemms": 1, "copies": 1, "bytes device to host": 4}
    (product,) = (sums for name, sums in found["kernels"].items() if name.startswith("gemm"))
    assert product == [1, 4 * (20 * 30 + 30 * 40 + 20 * 40), 2 * 20 * 30 * 40]
    device.dry()
    try:
        dry = program()
    finally:
        device.dry(False)
    assert dry == found


# ------------------------------------------------------------------------------------------- captures

def malloc(stream, x, event):
    with device.exact_allocations():
        cupy.empty(4)


def read_event(stream, x, event):
    event.record(stream)
    event.synchronize()


def after_a_failure(stream, x, event):
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        cupy.cuda.runtime.streamSynchronize(stream.ptr)
    x += 1


@pytest.mark.parametrize("forbidden, error", [
    (malloc, "cudaErrorStreamCaptureUnsupported"), (lambda s, x, e: cupy.cuda.runtime.streamSynchronize(s.ptr), "cudaErrorStreamCaptureUnsupported"),
    (lambda s, x, e: cupy.cuda.runtime.deviceSynchronize(), "cudaErrorStreamCaptureUnsupported"), (after_a_failure, "cudaErrorStreamCaptureInvalidated"),
    (lambda s, x, e: s.wait_event(e), "cudaErrorStreamCaptureIsolation"),
    (lambda s, x, e: cupy.cuda.runtime.memsetAsync(x.data.ptr, 0, 8, 0), "cudaErrorStreamCaptureImplicit"), (read_event, "cudaErrorCapturedEvent")])
def test_what_cuda_refuses_in_a_capture_is_refused(forbidden, error):
    stream, other, x, event = cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True), cupy.ones(3), cupy.cuda.Event()
    event.record(other)
    x += 1
    with stream:
        stream.begin_capture(cupy.cuda.runtime.streamCaptureModeGlobal)
        with pytest.raises((cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)) as found:
            forbidden(stream, x, event)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    assert error in str(found.value)
    assert x.tolist() == [2, 2, 2] and device.check() == 0


def test_a_graph_repeats_what_was_captured():
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x = cupy.ones(3)
        x += 1
        stream.begin_capture()
        x += 1
        x *= 2
        graph = stream.end_capture()
        captured = x.tolist()
        graph.launch(stream)
        graph.launch(stream)
        assert captured == [2, 2, 2] and x.tolist() == [14, 14, 14]
    assert device.report()["counters"]["nodes captured"] == 2


# ------------------------------------------------------------------------------------------- the modes

PROGRAM = """
import json, cupy, cupyx, numpy as np
from tests.fakecuda import device, test_fakecuda as t
kernels, found = cupy.RawModule(code=t.SOURCE), {}
for name in "none_waits", "all_wait":
    found[name] = [t.launch(kernels, name, n) for n in (0, 3)]

a, b, host = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True), cupyx.zeros_pinned(1)
x = cupy.ones(1)
cupy.cuda.Device().synchronize()
with a:
    y = x + 1
    y.get(out=host, blocking=False)
found["pinned memory"] = [float(host[0])]
a.synchronize()
found["pinned memory"].append(float(host[0]))

for waits in False, True:           # memory of stream a that stream b still reads when a uses it again
    with a:
        x = cupy.ones(1000)
        address = x.data.ptr
    a.synchronize()
    with b:
        y = x + 1
    if waits:
        b.synchronize()
    del x
    with a:
        x = cupy.full(1000, 5.0)
        assert x.data.ptr == address
    a.synchronize()
    with b:
        found["waits" if waits else "reused too early"] = float(y[0])
    del x
print(json.dumps(found))
"""


def test_the_modes_show_missing_synchronizations_and_races():
    """Each fault goes unnoticed in the usual mode, in which everything is done at once and in order."""
    def run(**mode):
        bare = {name: value for name, value in os.environ.items() if not name.startswith("FAKECUDA_")}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=bare | mode, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)
    usual, lazy, backwards = run(), run(FAKECUDA_LAZY="1"), run(FAKECUDA_BACKWARDS="1")
    assert usual["all_wait"] == lazy["all_wait"] == backwards["all_wait"] == [[7] * 4] * 2
    assert usual["none_waits"][0] == [7] * 4 and usual["none_waits"][1] != [7] * 4
    assert backwards["none_waits"][1] == [7] * 4 and backwards["none_waits"][0] != [7] * 4
    assert usual["pinned memory"] == [2, 2] and lazy["pinned memory"] == [0, 2]
    assert usual["reused too early"] == usual["waits"] == lazy["waits"] == 2 and lazy["reused too early"] == 6
