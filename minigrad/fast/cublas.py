"""Matrix products on CuPy, by a cuBLAS handle of our own.

CuPy's own product cannot be captured in a CUDA graph (its cuBLAS calls refuse a stream that is capturing), although
cuBLAS itself can; of stacks of matrices it also copies those that are transposed. So products of float32 and float64 go
to the same library through ctypes: its C interface has not changed in ten years, and no other package is needed for it.
Sums are in the type of the operands; backend.matmul_precision("tf32") allows tensor cores for float32.

The gradient of a kernel is a small matrix of long sums, with a term for each window. cuBLAS computes each tile of a
result in a block of threads. Whether it divides the sums of a tile among several blocks, it does not say; if not, two
or three of the 132 multiprocessors of an H100 work, and the others wait. So `product` splits long sums itself, the same
way every time.
"""
import ctypes
import functools
import logging
import math
import threading
from typing import Any

from .. import backend
from ..backend import module_of, on_device
from ..errors import BackendError, ShapeError, message
from ..typing import Array

WORKSPACE = 32 << 20                                        # bytes, NVIDIA's recommendation for Hopper
REAL = {"float32": 0, "float64": 1}                         # cudaDataType: CUDA_R_32F, CUDA_R_64F
COMPUTE = {"float32": 68, "float64": 70}                    # cublasComputeType: CUBLAS_COMPUTE_32F, _64F
TF32 = 77                                                   # CUBLAS_COMPUTE_32F_FAST_TF32
LONGEST = (1 << 31) - 1                                     # cuBLAS counts rows and columns in 32 bits
STACK = 65535                                               # matrices, at most, that are multiplied in one call
TILE = 128                                                  # rows and columns of a tile, at most
BLOCKS = 264                                                # what fills the device: two for each multiprocessor
TERMS = 256                                                 # of a sum, at least, that are worth a block of their own


def has_kernels(*xs: Any) -> bool:
    """Return whether there are kernels for these arrays: all CuPy's, all float32 or all float64, none of them empty."""
    if not all(map(on_device, xs)):
        return False
    types = {x.dtype for x in xs}
    return len(types) == 1 and next(iter(types)) in ("float32", "float64") and all(x.size for x in xs)


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b of two matrices, or of two stacks of as many."""
    stack = a.shape[:-2]
    if not has_kernels(a, b) or min(a.ndim, b.ndim) < 2 or stack != b.shape[:-2] or math.prod(stack) > STACK:
        return NotImplemented
    if len(stack) < 2:
        return product(a, b)
    return product(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:])).reshape(*stack, a.shape[-2], b.shape[-1])


def product(a: Array, b: Array, out: Array = None) -> Array:
    """Return a @ b of two matrices of one type, written to `out` where that is given.

    a may be a stack of matrices, (s, m, k), and b then a stack or one matrix for all. Where cuBLAS is not found the
    product is CuPy's own.
    """
    xp = module_of(a)
    own = handle(xp)
    if own is None:
        return xp.matmul(a, b) if out is None else xp.matmul(a, b, out=out)
    parts = _parts(len(a), b.shape[1], len(b)) if a.ndim == 2 else 1
    return own.product(a, b, out) if parts == 1 else _split(own, a, b, parts, out)


@functools.lru_cache(1024)
def _parts(m: int, n: int, k: int) -> int:
    """Return in how many parts the sums of a product (m, k) @ (k, n) are computed: a divisor of k if one is near."""
    tiles = -(-m // TILE) * -(-n // TILE)
    most = max(min(BLOCKS // tiles, k // TERMS), 1)
    return next((parts for parts in range(most, most // 2, -1) if k % parts == 0), most)


def _split(own: "Handle", a: Array, b: Array, parts: int, out: Array) -> Array:
    """Return a @ b as the sum of the products of equal parts of a's columns with b's rows, and of those left over."""
    (m, k), n = a.shape, b.shape[1]
    length = k // parts
    split = parts * length
    sums = own.xp.empty((parts + (split < k), m, n), a.dtype)
    own.product(a[:, :split].reshape(m, parts, length).transpose(1, 0, 2), b[:split].reshape(parts, length, n),
                sums[:parts])
    if split < k:
        own.product(a[:, split:], b[split:], sums[parts])
    return sums.sum(0, out=out)


@functools.cache
def library() -> Any:
    """Return cuBLAS, the one that CuPy uses; None, with a warning, where it is not found."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except (ImportError, RuntimeError, OSError) as error:
        logging.getLogger(__name__).warning("cuBLAS was not found (%s): matrix products go through CuPy, and no step "
                                            "can be captured", error)
        return None


class Handle:
    """A cuBLAS handle, for one thread and device, and its workspace on the current stream. xp: CuPy."""

    def __init__(self, xp: Any, library: Any) -> None:
        self.xp, self.library, self.handle = xp, library, ctypes.c_void_p()
        self.stream: int | None = None
        self.workspace: Array = None
        self._call("cublasCreate_v2", ctypes.byref(self.handle))

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self.library, name)(*args)
        if status:
            raise BackendError(f"{name}: cuBLAS returns status {status}\n  help: 1 and 3 mean that the device could"
                               " not be set up or that its memory is full; use('numpy') runs without a GPU")

    def _use_stream(self) -> None:
        """Let cuBLAS work on the current stream, in memory that CuPy's pool has for that stream alone.

        Of a stream that is being captured, that is memory of the graph.
        """
        stream = self.xp.cuda.get_current_stream().ptr
        if stream != self.stream:                           # a new stream takes the workspace away
            self.stream, self.workspace = None, self.xp.empty(WORKSPACE, "uint8")
            self._call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
            self._call("cublasSetWorkspace_v2", self.handle, ctypes.c_void_p(self.workspace.data.ptr),
                       ctypes.c_size_t(WORKSPACE))
            self.stream = stream

    def product(self, a: Array, b: Array, out: Array = None) -> Array:
        """Return a @ b of two matrices of the same type, or of a stack of matrices with a stack or with one matrix.

        cuBLAS stores matrices by columns: what lies in memory by rows is to it the transpose, and (a b)^T = b^T a^T.
        Raises ShapeError for more rows or columns than cuBLAS can count.
        """
        (a, a_turned, a_step), (b, b_turned, b_step) = self._layout(a), self._layout(b)
        (m, k), n, kind, stacked = a.shape[-2:], b.shape[-1], a.dtype.name, a.ndim == 3
        if max(m, n, k, a_step, b_step) > LONGEST:
            raise ShapeError(message("matmul(a, b)", f"cuBLAS counts rows and columns up to {LONGEST}",
                                     [("a", a, ""), ("b", b, "")], "multiply in parts"))
        out = self.xp.empty((*a.shape[:-1], n), a.dtype) if out is None else out
        out_step = max(out.strides[-2] // out.itemsize, n)
        self._use_stream()
        number = ctypes.c_double if kind == "float64" else ctypes.c_float
        compute = TF32 if kind == "float32" and backend.matmul_precision() == "tf32" else COMPUTE[kind]

        def operand(x: Array, step: int) -> tuple[Any, ...]:
            apart = [ctypes.c_longlong(x.strides[0] // x.itemsize if x.ndim == 3 else 0)] if stacked else []
            return ctypes.c_void_p(x.data.ptr), REAL[kind], step, *apart
        self._call("cublasGemmStridedBatchedEx" if stacked else "cublasGemmEx", self.handle, int(b_turned),
                   int(a_turned), n, m, k, ctypes.byref(number(1.0)), *operand(b, b_step), *operand(a, a_step),
                   ctypes.byref(number(0.0)), *operand(out, out_step), *([len(a)] if stacked else []), compute, -1)
        return out

    def _layout(self, a: Array) -> tuple[Array, bool, int]:
        """Return matrices, whether they are transposed views, and the elements from one line in memory to the next."""
        (rows, columns), (down, across) = a.shape[-2:], (step // a.itemsize for step in a.strides[-2:])
        if across == 1 and (down >= columns or rows == 1):
            return a, False, down if rows > 1 else columns
        if down == 1 and (across >= rows or columns == 1):
            return a, True, across if columns > 1 else rows
        return self.xp.ascontiguousarray(a), False, columns


class _Own(threading.local):
    """The handles of one thread, by library and device."""

    def __init__(self) -> None:
        self.handles: dict[Any, Handle] = {}


_own = _Own()


def handle(xp: Any) -> Handle | None:
    """Return the handle of this thread for the current device; None without cuBLAS. xp: CuPy.

    It cannot be made while a stream is captured.
    """
    found = library()
    if found is None:
        return None
    key = found, xp.cuda.runtime.getDevice()
    if key not in _own.handles:
        _own.handles[key] = Handle(xp, found)
    return _own.handles[key]
