"""Hold the forms in C to their definitions with every array against a page of memory that nobody may touch.

    python -m tests.fast.guard_pages end        the page begins where an array ends; or start: it ends where one begins

A kernel that reads or writes outside of an array ends the process; faulthandler then says in which form. Arguments,
results and scratch memory are placed so; and the arguments are also of wrong shapes, which must be refused by then.
"""
import ctypes
import faulthandler
import math
import mmap
import sys
import threading
import types

import numpy as np
from hypothesis import Phase

from minigrad import fast
from minigrad.fast import native_batch_norm, native_convolution, native_optim, native_pooling

from .. import conftest  # noqa: F401   its profile of Hypothesis: the same examples every time
from .test_native_kernels import CALLS, call, in_c, varied
from .test_table import EXAMPLES, IN_C, SMALL_CHUNKS, hold_row

MODULES = native_batch_norm, native_convolution, native_optim, native_pooling
PAGE = mmap.PAGESIZE
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def allocate(side, shape, dtype=float):
    """Return an uninitialized array at this side of a range of pages, between two that nobody may touch."""
    shape, dtype = shape if isinstance(shape, tuple) else (int(shape),), np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    inside = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, inside + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + PAGE + inside):
        assert protect(page, PAGE, 0) == 0
    return np.ndarray(shape, dtype, memory, PAGE + (inside - size if side == "end" else 0))


def main(side):
    """Run all forms with arrays at this side of a page."""
    def empty(shape, dtype=float):
        x = allocate(side, shape, dtype)
        x[...] = np.nan if x.dtype.kind == "f" else -1      # where nothing else is written
        return x

    def zeros(shape, dtype=float):
        return allocate(side, shape, dtype)

    def guarded(x):
        if type(x) is not np.ndarray or x.dtype == object:
            return x
        y = allocate(side, x.shape, x.dtype)
        y[...] = x
        y.flags.writeable = x.flags.writeable
        return y
    numpy = types.ModuleType("numpy")
    vars(numpy).update(vars(np), empty=empty, zeros=zeros, empty_like=lambda x: empty(x.shape, x.dtype))
    for module in MODULES:
        module.numpy = numpy
    kept = threading.local()                                # a thread's scratch memory stays where it is until the next call

    def scratch(role, shape, x):
        kept.array = empty(shape, x.dtype)
        return kept.array
    native_convolution.scratch = scratch
    for module, name, value in SMALL_CHUNKS:
        setattr(module, name, value)
    for operation, row in fast.TABLE.items():
        if row[IN_C]:
            print(operation.__name__, flush=True)
            hold_row(operation, IN_C, "as they are", guarded, [Phase.generate], examples=EXAMPLES // 3)
    for name in CALLS:
        operation, args, params = call(name)
        for what, args, params in varied(args, params):
            print(name, what, flush=True)
            in_c(operation, [guarded(a) for a in args], {key: guarded(a) for key, a in params.items()})


if __name__ == "__main__":
    faulthandler.enable()
    main(sys.argv[1])
    print("fine")
