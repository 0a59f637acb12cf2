"""Pooling on NumPy: the first element of all windows, then the second, and so on, in chunks on threads."""
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy

from ..ops.windows import Border, Pair, _mean_pool_input, _pad, output_size
from ..typing import Array, Shape
from .threads import run, split_rows


def max_pool2d(x: Array, window: Pair, stride: Pair, padding: Border, winners: bool = True) -> tuple[Array, Array]:
    """Return the largest element of each window, and its index in the flattened image if `winners` is true."""
    s, geometry = (len(x), *output_size(x.shape[1:3], window, stride, padding), x.shape[3]), (window, stride, padding)
    best, indices = numpy.empty(s, x.dtype), numpy.empty(s if winners else 0, int)

    def work(chunks: Iterator[slice]) -> None:
        for chunk in chunks:
            taps = _taps(x[chunk], *geometry)
            best[chunk] = taps[0]
            for tap in taps[1:]:
                numpy.maximum(best[chunk], tap, out=best[chunk])
            if winners:
                indices[chunk] = _winners(best[chunk], taps, x.shape, *geometry)
    run(work, split_rows(x))
    return best, indices


def _winners(best: Array, taps: Sequence[Array], s: Shape, window: Pair, stride: Pair, padding: Border) -> Array:
    """Return for each window the index of its largest element in the flattened image of shape s[1:]."""
    (_, _, w, c), (rows, columns) = s, best.shape[1:3]
    lost, winner = numpy.ones(best.shape, bool), numpy.zeros(best.shape, "uint8" if len(taps) < 256 else "int32")
    careful = numpy.isnan(best).any()
    for tap in taps[:-1]:                                   # index = number of leading taps that lose
        lost &= tap != best
        if careful:
            lost &= tap == tap                              # as in argmax, the first NaN wins
        winner += lost.view("uint8")
    a, b = numpy.arange(window[0])[:, None], numpy.arange(window[1])
    top = numpy.arange(rows)[:, None, None, None] * stride[0] - padding[0][0] + a
    left = numpy.arange(columns)[:, None, None] * stride[1] - padding[1][0] + b
    pixel = numpy.maximum(top, 0) * w + numpy.maximum(left, 0)     # padding "wins" against -inf alone
    which = winner + numpy.arange(rows * columns).reshape(rows, columns, 1) * len(taps)
    return numpy.take((pixel * c).ravel(), which) + numpy.arange(c)


def take_winners(x: Array, winners: Array, **geometry: Any) -> Array:
    """Return the elements of each flattened image at the indices of its winners."""
    y = numpy.empty(winners.shape, x.dtype)

    def work(chunks: Iterator[slice]) -> None:
        for chunk in chunks:
            y[chunk] = numpy.take_along_axis(x[chunk], winners[chunk], 1)
    run(work, split_rows(x))
    return y


def put_winners(g: Array, winners: Array, image: Shape, **geometry: Any) -> Array:
    """Add g to flattened images of zeros at the indices of the winners: the adjoint of take_winners."""
    size = math.prod(image)
    x = numpy.zeros((len(g), size), g.dtype)

    def work(chunks: Iterator[slice]) -> None:              # adding up in one row is many times faster than in rows
        for chunk in chunks:
            part = x[chunk]
            indices = winners[chunk] + numpy.arange(len(part))[:, None] * size
            numpy.add.at(part.reshape(-1), indices.ravel(), g[chunk].ravel())
    run(work, split_rows(x))
    return x


def mean_pool2d(x: Array, window: Pair, stride: Pair, padding: Border) -> Any:
    """Return the mean of each window; padding counts as zeros."""
    if x.dtype.kind != "f":
        return NotImplemented
    (rows, columns), (down, across) = output_size(x.shape[1:3], window, stride, padding), stride
    y = numpy.empty((len(x), rows, columns, x.shape[3]), x.dtype)

    def work(chunks: Iterator[slice]) -> None:
        for chunk in chunks:
            image, total = _pad(x[chunk], padding), y[chunk]
            for k, (a, b) in enumerate(numpy.ndindex(*window)):
                tap = image[:, a:a + down * rows:down, b:b + across * columns:across]
                numpy.add(total, tap, out=total) if k else numpy.copyto(total, tap)
            total /= math.prod(window)
    run(work, split_rows(x))
    return y


def mean_pool2d_input(g: Array, size: Pair, window: Pair, stride: Pair, padding: Border) -> Any:
    """Return images with each number of g shared equally among the pixels of its window: the adjoint."""
    if g.dtype.kind != "f":
        return NotImplemented
    x = numpy.empty((len(g), *size, g.shape[3]), g.dtype)

    def work(chunks: Iterator[slice]) -> None:
        for chunk in chunks:
            x[chunk] = _mean_pool_input(g[chunk], size, window, stride, padding)
    run(work, split_rows(x))
    return x


def _taps(x: Array, window: Pair, stride: Pair, padding: Border) -> list[Array]:
    """Return the first, second ... element of all windows: one view (n, rows, columns, c) for each.

    The pixels are sorted by their remainders modulo the stride first, so that neighbors in a view are neighbors in
    memory.
    """
    n, h, w, c = x.shape
    (rows, columns), (sh, sw) = output_size((h, w), window, stride, padding), stride
    down, across = rows + (window[0] - 1) // sh, columns + (window[1] - 1) // sw
    (top, _), (left, _) = padding
    image = numpy.full((n, max(down * sh, top + h), max(across * sw, left + w), c), -numpy.inf, x.dtype)
    image[:, top:top + h, left:left + w] = x
    image = image[:, :down * sh, :across * sw].reshape(n, down, sh, across, sw, c).transpose(2, 4, 0, 1, 3, 5)
    phases = numpy.ascontiguousarray(image)
    return [phases[a % sh, b % sw, :, a // sh:a // sh + rows, b // sw:b // sw + columns]
            for a in range(window[0]) for b in range(window[1])]
