"""Convolution by the kernels in C: register tiles for any geometry, Winograd's form for 3x3 kernels with stride 1.

`conv2d_input` is a convolution of the cotangents with the kernel turned by half a turn; with a stride there is one for
each remainder of a pixel's position modulo the stride, and each fills in its own pixels.
"""
import ctypes
import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy

from ..ops.windows import Border, Pair, output_size
from ..typing import Array
from .native import address, contiguous, kernels
from .threads import GROUPS, map_chunks, scratch, split

LARGE = 1 << 20         # bytes: the gradient of a larger kernel is computed in parts
OUTPUTS = 64            # outputs in such a part; one thread sums it over the batch
TILES = 48              # tiles that Winograd's form transforms at a time: they stay in the second cache


def conv2d(x: Array, k: Array, stride: Pair, padding: Border) -> Any:
    """Return the convolution of x with k."""
    library = kernels(x, k)
    if not (library and x.ndim == k.ndim == 4 and x.shape[3] == k.shape[2] and x.size and k.size):
        return NotImplemented
    y = numpy.empty((len(x), *output_size(x.shape[1:3], k.shape[:2], stride, padding), k.shape[3]), x.dtype)
    _convolve([_Convolution(library, contiguous(x), k, y, stride, (padding[0][0], padding[1][0]))])
    return y


def conv2d_input(g: Array, k: Array, size: Pair, stride: Pair, padding: Border) -> Any:
    """Return the convolution's pull to its image."""
    library = kernels(g, k)
    if not (library and g.ndim == k.ndim == 4 and g.shape[3] == k.shape[3] and g.size and k.size
            and g.shape[1:3] == output_size(size, k.shape[:2], stride, padding)):
        return NotImplemented
    g, all_written = contiguous(g), stride[0] <= k.shape[0] and stride[1] <= k.shape[1]
    x = (numpy.empty if all_written else numpy.zeros)((len(g), *size, k.shape[2]), g.dtype)
    parts = []
    for remainder in numpy.ndindex(*stride):                # the kernel's elements a = remainder modulo stride are for
        part = k[remainder[0]::stride[0], remainder[1]::stride[1]]              # pixels stride i + remainder - border
        if part.size:
            lead = [(side[0], r, s) for side, r, s in zip(padding, remainder, stride)]
            first = [max(-(-(border - r) // s), 0) for border, r, s in lead]    # the least i of a pixel in the image
            start = [s * i + r - border for i, (border, r, s) in zip(first, lead)]
            pixels = x[:, start[0]::stride[0], start[1]::stride[1]]
            if pixels.size:
                turned = part[::-1, ::-1].transpose(0, 1, 3, 2)
                above = part.shape[0] - 1 - first[0], part.shape[1] - 1 - first[1]
                parts.append(_Convolution(library, g, turned, pixels, (1, 1), above))
    _convolve(parts)
    return x


def conv2d_kernel(x: Array, g: Array, window: Pair, stride: Pair, padding: Border) -> Any:
    """Return the convolution's pull to its kernel: the sum over all images."""
    library = kernels(x, g)
    if not (library and x.ndim == g.ndim == 4 and len(x) == len(g) and x.size and g.size
            and g.shape[1:3] == output_size(x.shape[1:3], window, stride, padding)):
        return NotImplemented
    x, g = contiguous(x), contiguous(g)
    geometry = _Geometry.of(x, g, window, stride, (padding[0][0], padding[1][0]))
    with_winograd = geometry.fits_winograd(library)
    k = _kernel_gradient(library, x, g, geometry, with_winograd)
    if with_winograd and not numpy.isfinite(k).all():       # see winograd in kernels/winograd.c
        k = _kernel_gradient(library, x, g, geometry, False)
    return k


_Strides = ctypes.c_ssize_t * 4        # a type made at every call would be garbage in a cycle


class _Geometry(ctypes.Structure):
    """The struct `geometry` of kernels/convolution.c."""
    _fields_ = [(name, ctypes.c_ssize_t) for name in (
        "h w c A B O down across top left rows columns y_image y_row y_pixel").split()]
    h: int
    w: int
    c: int
    A: int
    B: int
    O: int  # noqa: E741
    down: int
    across: int
    rows: int
    columns: int

    @classmethod
    def of(cls, x: Array, y: Array, window: Pair, stride: Pair, border: Sequence[int]) -> "_Geometry":
        """Return that of a convolution from x to y. border: the zeros above and to the left, which may be negative."""
        strides = [step // y.itemsize for step in y.strides[:3]]
        return cls(*x.shape[1:], *window, y.shape[3], *stride, *border, *y.shape[1:3], *strides)

    def fits_winograd(self, library: Any) -> bool:
        """Return whether Winograd's form computes this convolution."""
        return (self.A, self.B, self.down, self.across) == (3, 3, 1, 1) and (
            self.c % library.vector() == self.O % library.panel() == 0)

    def scratch_address(self, x: Array, library: Any, with_winograd: bool) -> int:
        """Return the address of scratch memory for a kernel in C."""
        if with_winograd:
            count = 16 * (TILES * (self.c + self.O) + 2 * library.vector())
        else:
            width = (self.columns - 1) * self.across + self.B
            count = self.h * width * self.c + self.rows * self.columns * library.panel()
        return address(scratch("native", (count,), x))


class _Convolution:
    """A convolution of images x with a kernel k, written to y; k and y are views with any strides."""

    def __init__(self, library: Any, x: Array, k: Array, y: Array, stride: Pair, border: Sequence[int]) -> None:
        whole = k.flags.aligned and not any(step % k.itemsize for step in k.strides)
        self.library, self.x, self.k, self.y = library, x, k if whole else contiguous(k), y
        self.geometry = _Geometry.of(x, y, k.shape[:2], stride, border)
        self.with_winograd = self.geometry.fits_winograd(library)
        self.packed, self.start = self.pack(self.with_winograd), (address(x), address(y))

    def pack(self, with_winograd: bool) -> Array:
        """Return the kernel as the functions in C take it, transformed for Winograd's form."""
        (A, B, c, O), panel = self.k.shape, self.library.panel()      # noqa: E741
        panels = -(-O // panel)
        packed = numpy.empty((16 if with_winograd else A * B) * c * panels * panel, self.x.dtype)
        strides = _Strides(*[step // self.k.itemsize for step in self.k.strides])
        start, to = address(self.k), address(packed)

        def pack(chunk: slice) -> None:
            o, end = chunk.start * panel, chunk.stop * panel
            if with_winograd:
                self.library.transform_kernel(start, to, o, end, c, O, strides)
            else:
                self.library.pack(start, to, o, end, A, B, c, O, strides)
        map_chunks(pack, split(panels, packed.nbytes // panels))
        return packed

    def compute(self, chunk: slice) -> None:
        """Compute the images of a chunk."""
        g, n = self.geometry, chunk.stop - chunk.start
        x, y = (at + chunk.start * a.strides[0] for at, a in zip(self.start, (self.x, self.y)))
        if self.with_winograd:
            memory = g.scratch_address(self.x, self.library, True)
            if self.library.winograd(x, address(self.packed), y, memory, TILES, n, ctypes.byref(g)):
                return
        packed = self.pack(False) if self.with_winograd else self.packed        # again, where y is not finite
        self.library.convolve(x, address(packed), y, g.scratch_address(self.x, self.library, False), n, ctypes.byref(g))


def _convolve(parts: Sequence[_Convolution]) -> None:
    """Compute convolutions of the same images."""
    def compute(chunk: slice) -> None:
        for part in parts:
            part.compute(chunk)
    if parts:
        x = parts[0].x
        map_chunks(compute, split(len(x), x[0].nbytes + sum(part.y[0].nbytes for part in parts)))


def _kernel_gradient(library: Any, x: Array, g: Array, about: _Geometry, with_winograd: bool) -> Array:
    """Return the gradient of the kernel, summed in the order of its chunks."""
    A, B, c, O = about.A, about.B, about.c, about.O         # noqa: E741
    k, panel = numpy.empty((A, B, c, O), x.dtype), library.panel()
    step = OUTPUTS if k.nbytes > LARGE else O
    parts = [slice(o, min(o + step, O)) for o in range(0, O, step)]
    chunks = split(len(x), x[0].nbytes + g[0].nbytes)
    groups = max(GROUPS // len(parts), 1)
    jobs = [(part, chunks[i::groups]) for part in parts for i in range(min(len(chunks), groups))]

    def product(job: tuple[slice, list[slice]]) -> Array:
        """Return the gradient of the packed kernel, of some outputs from some images."""
        outputs, images = job
        count = outputs.stop - outputs.start
        geometry = _Geometry.of(x, g[..., outputs], (A, B), (about.down, about.across), (about.top, about.left))
        packed = numpy.zeros((16 if with_winograd else A * B) * c * -(-count // panel) * panel, x.dtype)
        memory = geometry.scratch_address(x, library, with_winograd)
        for chunk in images:
            args = address(x[chunk]), address(g[chunk, ..., outputs]), address(packed), memory
            n = chunk.stop - chunk.start
            if with_winograd:
                library.winograd_kernel(*args, TILES, n, ctypes.byref(geometry))
            else:
                library.convolve_kernel(*args, n, ctypes.byref(geometry))
        return packed
    sums = map_chunks(product, jobs)
    for i, part in enumerate(parts):
        each = len(jobs) // len(parts)
        total = functools.reduce(operator.iadd, sums[i * each:(i + 1) * each])
        if with_winograd:
            library.transform_gradient(address(total), address(k), part.start, part.stop, c, O)
        else:
            blocks = total.reshape(-1, A * B * c, panel).transpose(1, 0, 2).reshape(A, B, c, -1)
            k[..., part] = blocks[..., :part.stop - part.start]
    return k
