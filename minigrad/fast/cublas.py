"""Matrix products on CuPy, by a cuBLAS handle of our own.

CuPy's own product cannot be captured in a CUDA graph (its cuBLAS calls refuse a stream that is capturing), although
cuBLAS itself can. So two-dimensional products of float32 and float64 go to the same library through ctypes: its C
interface has not changed in ten years, and no other package is needed for it. Sums are in the type of the operands;
backend.matmul_precision("tf32") allows tensor cores for float32.
"""
import ctypes
import functools
import logging
import threading
from typing import Any

from .. import backend
from ..backend import module_of, on_device
from ..errors import BackendError
from ..typing import Array

WORKSPACE = 32 << 20                                        # bytes, NVIDIA's recommendation for Hopper
REAL = {"float32": 0, "float64": 1}                         # cudaDataType: CUDA_R_32F, CUDA_R_64F
COMPUTE = {"float32": 68, "float64": 70}                    # cublasComputeType: CUBLAS_COMPUTE_32F, _64F
TF32 = 77                                                   # CUBLAS_COMPUTE_32F_FAST_TF32


def has_kernels(*xs: Any) -> bool:
    """Return whether there are kernels for these arrays: all CuPy's, all float32 or all float64, none of them empty."""
    if not all(map(on_device, xs)):
        return False
    types = {x.dtype for x in xs}
    return len(types) == 1 and next(iter(types)) in ("float32", "float64") and all(x.size for x in xs)


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b of two matrices."""
    return product(a, b) if a.ndim == b.ndim == 2 and has_kernels(a, b) else NotImplemented


def product(a: Array, b: Array, out: Array = None) -> Array:
    """Return a @ b of two matrices of one type, written to `out` where that is given.

    Where cuBLAS is not found the product is CuPy's own.
    """
    own, xp = handle(module_of(a)), module_of(a)
    if own:
        return own.product(a, b, out)
    return xp.matmul(a, b) if out is None else xp.matmul(a, b, out=out)


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
    """A cuBLAS handle with its workspace, for one thread. xp: CuPy."""

    def __init__(self, xp: Any, library: Any) -> None:
        self.xp, self.library, self.handle = xp, library, ctypes.c_void_p()
        self.stream: int | None = None
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        self.workspace = xp.empty(WORKSPACE, "uint8")

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self.library, name)(*args)
        if status:
            raise BackendError(f"{name}: cuBLAS returns status {status}\n  help: 1 and 3 mean that the device could"
                               " not be set up or that its memory is full; use('numpy') runs without a GPU")

    def _use_stream(self) -> None:
        stream = self.xp.cuda.get_current_stream().ptr
        if stream != self.stream:                           # a new stream takes the workspace away
            self._call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
            self._call("cublasSetWorkspace_v2", self.handle, ctypes.c_void_p(self.workspace.data.ptr),
                       ctypes.c_size_t(WORKSPACE))
            self.stream = stream

    def product(self, a: Array, b: Array, out: Array = None) -> Array:
        """Return a @ b of two matrices of the same type.

        cuBLAS stores matrices by columns: what lies in memory by rows is to it the transpose, and (a b)^T = b^T a^T.
        """
        (a, a_turned, a_step), (b, b_turned, b_step) = self._layout(a), self._layout(b)
        (m, k), n, kind = a.shape, b.shape[1], a.dtype.name
        out = self.xp.empty((m, n), a.dtype) if out is None else out
        self._use_stream()
        number = ctypes.c_double if kind == "float64" else ctypes.c_float
        compute = TF32 if kind == "float32" and backend.matmul_precision() == "tf32" else COMPUTE[kind]
        self._call("cublasGemmEx", self.handle, int(b_turned), int(a_turned), n, m, k, ctypes.byref(number(1.0)),
                   ctypes.c_void_p(b.data.ptr), REAL[kind], b_step, ctypes.c_void_p(a.data.ptr), REAL[kind], a_step,
                   ctypes.byref(number(0.0)), ctypes.c_void_p(out.data.ptr), REAL[kind], n, compute, -1)
        return out

    def _layout(self, a: Array) -> tuple[Array, bool, int]:
        """Return a matrix, whether it is a transposed view, and the elements from one line in memory to the next."""
        down, across = (step // a.itemsize for step in a.strides)
        if across == 1 and down >= a.shape[1]:
            return a, False, down
        if down == 1 and across >= a.shape[0]:
            return a, True, across
        return self.xp.ascontiguousarray(a), False, a.shape[1]


_own = threading.local()


def handle(xp: Any) -> Handle | None:
    """Return the handle of this thread, None without cuBLAS. xp: CuPy. A graph keeps it, for its workspace."""
    found = library()
    if found is None:
        return None
    if getattr(_own, "handle", None) is None or _own.handle.library is not found:
        _own.handle = Handle(xp, found)
    own: Handle = _own.handle
    return own
