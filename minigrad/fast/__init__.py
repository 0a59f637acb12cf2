"""What makes it fast, and what it replaces: one table. The engine is complete without it: use("numpy", fast=False).

Each row has an operation, as the ground floor defines it, and its faster forms on NumPy and on CuPy; None where the
definition serves. A form takes plain arrays and the arguments of the operation, and returns NotImplemented for those
that it is not made for. tests/fast/test_table.py holds every form equal to its definition.

A row replaces a value, never a rule, with two exceptions, for measured speed: batch normalization (with ReLU) and, on
CuPy, cross-entropy. Their forms are the passes of `with_derivative`: the value, and its push and pull where nothing is
traced. Derivatives of higher order are those of the definition.

    threads.py             NumPy: chunks that stay in cache, and the threads that work on them
    elementwise.py         ... ufuncs, masks, ReLU and dropout in chunks
    products.py            ... matrix products and sums of columns
    convolution.py         ... a few images at a time; nothing is copied where channels are few
    pooling.py             ... all windows at once, one of their elements after the other
    batch_norm.py          ... moments, and the whole layer, in few passes
    memory.py              ... the memory of freed arrays is kept
    cuda.py, *.cu          CuPy: kernels, and the functions that launch them
    cuda_convolution.py    ... convolution, by a kernel and cuBLAS
    cublas.py              ... matrix products that a capture may hold
    capture.py             ... a whole step as one CUDA graph
"""
import os

import numpy

from .. import backend, core, kinds, losses, normalization, ops, optim
from ..ops.dropout import _keep
from . import batch_norm, convolution, cublas, cuda, cuda_convolution, elementwise, memory, pooling, products
from .threads import chunked

UFUNCS = (ops.add, ops.subtract, ops.negative, ops.multiply, ops.square, ops.exp, ops.expm1, ops.log, ops.log1p,
          ops.sqrt, ops.sin, ops.cos, ops.tanh, ops.abs, ops.maximum, ops.minimum, ops.power)

TABLE = {operation: (chunked(getattr(numpy, operation.name)), None) for operation in UFUNCS} | {
    # operation                       NumPy                            CuPy
    core.add:                        (elementwise.add,                 None),
    core.add_in_place:               (elementwise.add_in_place,        None),
    kinds._broadcast:                (elementwise.broadcast_to,        None),
    kinds._sum_back:                 (elementwise.sum_to,              cuda.sum_to),
    ops.relu:                        (elementwise.relu,                None),
    ops.elementwise._gate:           (elementwise.gate,                None),
    ops.elementwise.scale:           (elementwise.scale,               None),
    ops.sigmoid:                     (elementwise.sigmoid,             None),
    ops.elementwise._bell:           (elementwise.sigmoid_slope,       None),
    _keep:                           (elementwise.keep,                None),
    ops.products._matmul:            (products.matmul,                 cublas.matmul),
    ops.convolution._conv:           (convolution.conv2d,              cuda_convolution.conv2d),
    ops.convolution._conv_input:     (convolution.conv2d_input,        cuda_convolution.conv2d_input),
    ops.convolution._conv_kernel:    (convolution.conv2d_kernel,       cuda_convolution.conv2d_kernel),
    ops.windows._fold_primitive:     (None,                            cuda.fold),
    ops.windows._max_pool2d:         (pooling.max_pool2d,              cuda.max_pool2d),
    ops.windows._take:               (pooling.take_winners,            cuda.take_winners),
    ops.windows._put:                (pooling.put_winners,             cuda.put_winners),
    ops.normalize.moments:           (batch_norm.moments,              cuda.moments),
    optim._sgd_step:                 (None,                            cuda.sgd),
    # value, push and pull
    normalization._batch_norm:       (batch_norm.batch_norm,           cuda.batch_norm),
    losses._cross_entropy:           (None,                            cuda.cross_entropy),
}

backend.add_rows(TABLE)
if os.environ.get("MINIGRAD_KEEP_MEMORY", "1") != "0":
    memory.keep_memory()
