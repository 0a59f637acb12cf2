"""One step of SGD and of Adam by the kernels in C: each leaf in one walk over memory."""
import numbers
from collections.abc import Callable
from typing import Any

import numpy

from ..typing import Array
from .native import address, kernels
from .threads import map_chunks, split

SMALL = 1 << 12         # elements of a leaf: below, a call takes longer than NumPy


def sgd_step(p: Array, g: Array, m: Array | None, rate: Any, momentum: Any, decay: Any, nesterov: bool) -> Any:
    """Return the parameters and the momentum of one leaf after the step."""
    arrays = [p, g] if m is None else [p, g, m]
    library = _library(arrays, rate, momentum, decay)
    if library is None:
        return NotImplemented
    results = [numpy.empty_like(p), None if m is None else numpy.empty_like(p)]
    _walk(lambda at, n: library.sgd(*at, n, float(rate), float(momentum), float(decay), nesterov), [p, g, m, *results])
    return tuple(results)


def adam_step(p: Array, g: Array, m: Array, v: Array, *settings: Any) -> Any:
    """Return the parameters and the averages of one leaf after the step."""
    library = _library([p, g, m, v], *settings)
    if library is None:
        return NotImplemented
    results = [numpy.empty_like(p) for _ in range(3)]
    _walk(lambda at, n: library.adam(*at, n, *map(float, settings)), [p, g, m, v, *results])
    return tuple(results)


def _library(arrays: list[Array], *settings: Any) -> Any:
    """Return the kernels for leaves of one shape and type in C order, and settings that are numbers; else None."""
    if arrays[0].size < SMALL or any(
            x.shape != arrays[0].shape or not x.flags.c_contiguous or not x.flags.aligned for x in arrays):
        return None
    if not all(isinstance(a, numbers.Real) or isinstance(a, numpy.ndarray) and not a.ndim for a in settings):
        return None
    return kernels(*arrays)


def _walk(f: Callable[[list[int | None], int], Any], arrays: list[Array | None]) -> None:
    """Call f(addresses, n) for chunks of flat arrays, on threads. None stands for no array."""
    first: Any = arrays[0]
    starts = [None if x is None else address(x) for x in arrays]

    def of_chunk(chunk: slice) -> None:
        f([None if at is None else at + chunk.start * first.itemsize for at in starts], chunk.stop - chunk.start)
    map_chunks(of_chunk, split(first.size, first.itemsize))
