"""Max and average pooling by the kernels in C."""
import ctypes
import math
from typing import Any

import numpy

from ..ops.windows import Border, Pair, output_size
from ..typing import Array, Shape
from .native import address, contiguous, kernels
from .threads import map_chunks, split_rows


class _Windows(ctypes.Structure):
    """The struct `windows` of kernels/pooling.c."""
    _fields_ = [(name, ctypes.c_ssize_t) for name in "h w c A B down across top left rows columns".split()]

    @classmethod
    def of(cls, image: Shape, window: Pair, stride: Pair, padding: Border) -> "_Windows":
        """Return those of images of shape (h, w, c)."""
        size = output_size((image[0], image[1]), window, stride, padding)
        return cls(*image, *window, *stride, padding[0][0], padding[1][0], *size)


def max_pool2d(x: Array, window: Pair, stride: Pair, padding: Border, winners: bool = True) -> Any:
    """Return the largest element of each window, and its index in the flattened image if `winners` is true."""
    library = kernels(x)
    if not (library and x.ndim == 4 and x.size and math.prod(x.shape[1:]) < 1 << 31    # indices are as wide as floats
            and all(p < n for n, pair in zip(window, padding) for p in pair)):
        return NotImplemented
    x, geometry = contiguous(x), _Windows.of(x.shape[1:], window, stride, padding)
    s = (len(x), *output_size(x.shape[1:3], window, stride, padding), x.shape[3])
    best, indices = numpy.empty(s, x.dtype), numpy.empty(s if winners else 0, int)

    def of_chunk(chunk: slice) -> None:
        at = address(indices[chunk]) if winners else None
        library.max_pool(address(x[chunk]), address(best[chunk]), at, len(x[chunk]), ctypes.byref(geometry))
    map_chunks(of_chunk, split_rows(x))
    return best, indices


def take_winners(x: Array, winners: Array, **geometry: Any) -> Any:
    """Return the elements of each flattened image at the indices of its winners."""
    return _at_winners("take", x, winners, winners.shape[1:], x)


def put_winners(g: Array, winners: Array, image: Shape, **geometry: Any) -> Any:
    """Add g to flattened images of zeros at the indices of the winners: the adjoint of take_winners."""
    return _at_winners("put", g, winners, (math.prod(image),), winners) if g.shape == winners.shape else NotImplemented


def _at_winners(name: str, x: Array, winners: Array, shape: Shape, large: Array) -> Any:
    library = kernels(x)
    if not (library and x.ndim == winners.ndim == 2 and len(x) == len(winners) and winners.dtype == "int64"):
        return NotImplemented
    x, winners = contiguous(x), contiguous(winners)
    y, f = numpy.empty((len(x), *shape), x.dtype), getattr(library, name)
    size = x.shape[1] if name == "take" else shape[0]
    done = map_chunks(lambda chunk: f(address(x[chunk]), address(winners[chunk]), address(y[chunk]), len(x[chunk]),
                                      size, winners.shape[1]), split_rows(large))
    return y if all(done) else NotImplemented               # an index outside of an image: NumPy says which


def mean_pool2d(x: Array, window: Pair, stride: Pair, padding: Border) -> Any:
    """Return the mean of each window; padding counts as zeros."""
    library = kernels(x)
    if not (library and x.ndim == 4 and x.size):
        return NotImplemented
    x, geometry = contiguous(x), _Windows.of(x.shape[1:], window, stride, padding)
    y = numpy.empty((len(x), *output_size(x.shape[1:3], window, stride, padding), x.shape[3]), x.dtype)
    map_chunks(lambda chunk: library.mean_pool(
        address(x[chunk]), address(y[chunk]), len(x[chunk]), ctypes.byref(geometry)), split_rows(x))
    return y


def mean_pool2d_input(g: Array, size: Pair, window: Pair, stride: Pair, padding: Border) -> Any:
    """Return images with each number of g shared equally among the pixels of its window: the adjoint."""
    library = kernels(g)
    if not (library and g.ndim == 4 and g.size and g.shape[1:3] == output_size(size, window, stride, padding)):
        return NotImplemented
    g, x = contiguous(g), numpy.empty((len(g), *size, g.shape[3]), g.dtype)
    geometry = _Windows.of(x.shape[1:], window, stride, padding)
    map_chunks(lambda chunk: library.mean_pool_input(
        address(g[chunk]), address(x[chunk]), len(x[chunk]), ctypes.byref(geometry)), split_rows(x))
    return x
