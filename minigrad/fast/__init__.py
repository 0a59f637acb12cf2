"""One table of what makes minigrad fast. The engine is complete without it: use("numpy", fast=False) leaves it out.

A row of TABLE is an operation and its faster forms in three columns, None where there is none:

    in C       for NumPy arrays, by a kernel of kernels/*.c. It is tried first, unless MINIGRAD_NATIVE=0
    NumPy      for NumPy arrays that the form in C is not made for, and where there is no C compiler
    CuPy       for arrays on a GPU

Where no form is made for the arguments, the operation's own definition computes. `Primitive.__call__`,
`core.replaceable` and `with_derivative` look for a form where all arguments are plain.

To add a row:

1. Write the form: a function of the same arguments as the operation, with plain arrays. Its results have the values,
   shapes and types of the definition's, no argument is changed, and NaN, infinity and ties come out alike. For
   arguments that it is not made for it returns NotImplemented: the next form, or the definition, is used then.
2. Add the row here, and how to draw its arguments to ROWS in tests/fast/test_table.py: that holds every form equal to
   its definition, and fails for a row without arguments.
3. Measure: a form that does not make a training step faster is not worth its lines.

A form in C is a Python function like the others, in a file native_*.py: it takes the library from `native.kernels(x)`,
which is None where there is none, checks every shape, because C does not, and calls the kernel for each chunk.
kernels/README.md says how to write one.

**A form replaces a value, never a rule**: derivatives are those of the definition, of every order. There are two
exceptions, for measured speed: batch normalization (with ReLU) and, on CuPy, cross-entropy. Their forms return the
value, and its push and pull where nothing is traced, as `with_derivative` describes. Higher orders are those of the
definition here, too.

    threads.py             NumPy: chunks that stay in cache, and the threads that work on them
    elementwise.py         ... ufuncs, masks, ReLU and dropout
    products.py            ... matrix products and sums of columns
    convolution.py         ... a few images at a time; no copies of windows where channels are few
    pooling.py             ... the first element of all windows, then the second, and so on
    batch_norm.py          ... moments, and the whole layer, in few passes over memory
    memory.py              ... the C library reuses the memory of freed arrays
    native.py, kernels/    in C: the kernels, and how they are compiled and loaded
    native_convolution.py  ... the functions that call them (also native_batch_norm, native_pooling, native_optim)
    cuda.py, sums.cu       CuPy: kernels, and the functions that launch them
    cuda_windows.py        ... those of windows and pooling
    cuda_convolution.py    ... convolution, by a kernel and cuBLAS
    cuda_leaves.py         ... the steps of the optimizers, and copies: all leaves in one kernel, leaves.cu
    cublas.py              ... matrix products that can be captured
    capture.py             ... a whole step as one CUDA graph
    info.py                what minigrad runs on
"""
from collections.abc import Callable
from typing import Any

import numpy

from .. import backend, core, distributed, kinds, losses, normalization, ops, optim, reweight
from ..ops.dropout import _keep  # ops.dropout is the function
from . import (
    batch_norm,
    convolution,
    cublas,
    cuda,
    cuda_convolution,
    cuda_leaves,
    cuda_windows,
    elementwise,
    memory,
    native,
    native_batch_norm,
    native_convolution,
    native_optim,
    native_pooling,
    pooling,
    products,
)
from .threads import chunked

Form = Callable[..., Any]

UFUNCS = (ops.add, ops.subtract, ops.negative, ops.multiply, ops.square, ops.exp, ops.expm1, ops.log, ops.log1p,
          ops.sqrt, ops.sin, ops.cos, ops.tanh, ops.abs, ops.maximum, ops.minimum, ops.power)

# operation: (its form in C, on NumPy, on CuPy)
TABLE: dict[Form, tuple[Form | None, Form | None, Form | None]] = {
    **{ufunc: (None, chunked(getattr(numpy, ufunc.name)), None) for ufunc in UFUNCS},
    core.add: (None, elementwise.add, None),
    core.add_in_place: (None, elementwise.add_in_place, None),
    kinds._broadcast: (None, elementwise.broadcast_to, None),
    kinds._sum_back: (native_batch_norm.sum_to, elementwise.sum_to, cuda.sum_to),
    ops.relu: (None, elementwise.relu, None),
    ops.elementwise._gate: (None, elementwise.gate, cuda.gate),
    ops.elementwise.scale: (None, elementwise.scale, cuda.scale),
    ops.sigmoid: (None, elementwise.sigmoid, None),
    ops.elementwise._bell: (None, elementwise.sigmoid_slope, None),
    _keep: (None, elementwise.keep, None),
    ops.products._matmul: (None, products.matmul, cublas.matmul),
    ops.convolution._conv: (native_convolution.conv2d, convolution.conv2d, cuda_convolution.conv2d),
    ops.convolution._conv_input: (
        native_convolution.conv2d_input, convolution.conv2d_input, cuda_convolution.conv2d_input),
    ops.convolution._conv_kernel: (
        native_convolution.conv2d_kernel, convolution.conv2d_kernel, cuda_convolution.conv2d_kernel),
    ops.windows._fold_primitive: (None, None, cuda_windows.fold),
    ops.windows._max_pool2d: (native_pooling.max_pool2d, pooling.max_pool2d, cuda_windows.max_pool2d),
    ops.windows._take: (native_pooling.take_winners, pooling.take_winners, cuda_windows.take_winners),
    ops.windows._put: (native_pooling.put_winners, pooling.put_winners, cuda_windows.put_winners),
    ops.windows._mean_primitive: (native_pooling.mean_pool2d, pooling.mean_pool2d, None),
    ops.windows._mean_input: (native_pooling.mean_pool2d_input, pooling.mean_pool2d_input, None),
    ops.normalize.moments: (native_batch_norm.moments, batch_norm.moments, cuda.moments),
    optim._sgd_step: (native_optim.sgd_step, None, None),
    optim._sgd_steps: (None, None, cuda_leaves.sgd),
    optim._adam_step: (native_optim.adam_step, None, None),
    optim._adam_steps: (None, None, cuda_leaves.adam),
    normalization._move_averages: (None, None, cuda.move_averages),
    reweight._zero_unless: (None, None, cuda_leaves.zero_unless),
    distributed._join: (None, None, cuda_leaves.join),
    # the two exceptions: value, push and pull
    normalization._batch_norm: (native_batch_norm.batch_norm, batch_norm.batch_norm, cuda.batch_norm),
    losses._cross_entropy: (None, None, cuda.cross_entropy),
}


def on_host(native_form: Form | None, form: Form | None) -> Form | None:
    """Return the form for NumPy arrays: that in C, and the other one for what that is not made for."""
    if native_form is None or not native.wanted():
        return form
    if form is None:
        return native_form

    def either(*args: Any, **params: Any) -> Any:
        y = native_form(*args, **params)
        return y if y is not NotImplemented else form(*args, **params)
    return either


backend.add_rows({operation: (on_host(in_c, on_numpy), on_cupy)
                  for operation, (in_c, on_numpy, on_cupy) in TABLE.items()})
if backend.flag("MINIGRAD_KEEP_MEMORY", True):
    memory.keep_memory()
