"""Windows that slide over images, on CuPy: unfold and its adjoint fold, max pooling and its adjoint; see cuda.Kernel.

Images are (n, h, w, c), windows (n, rows, columns, A, B, c). Windows are `down` and `across` pixels apart; `top` and
`left` are the zeros (for pooling: nothing) before the image. Sums are taken in a fixed order.
"""
from typing import Any

from ..backend import module_of
from ..ops.windows import Border, Pair, output_size
from ..typing import Array
from .cublas import has_kernels
from .cuda import Kernel

GEOMETRY = "int32 down, int32 across, int32 top, int32 left"
COVER = """
// The first and the last of `count` windows, `stride` apart and this long, that cover element y of a padded axis.
__device__ int first_window(int y, int length, int stride) { return max(0, (y - length + stride) / stride); }
__device__ int last_window(int y, int stride, int count) { return min(count - 1, y / stride); }
"""


def _geometry(stride: Pair, padding: Border) -> tuple[int, int, int, int]:
    return (*stride, padding[0][0], padding[1][0])


_unfold = Kernel("unfold", f"raw T x, {GEOMETRY}", "T window", """
    const ptrdiff_t *at = _ind.get(), *size = x.shape();                // n r s a b k
    int y = at[1] * down + at[3] - top, z = at[2] * across + at[4] - left;
    ptrdiff_t pixel[] = {at[0], y, z, at[5]};
    window = y >= 0 && y < size[1] && z >= 0 && z < size[2] ? x[pixel] : T(0);
    """, by_axes=True)


def unfold(x: Array, counts: Pair, window: Pair, stride: Pair, padding: Border) -> Array:
    """Return the windows of images (n, h, w, c), one in each row of a matrix: (n rows columns, A B c).

    An index takes five divisions, however few bytes are copied then. So where the channels of a pixel fill multiples of
    16 bytes, these are copied as one number: they are viewed as complex. Windows of one pixel need no copy.
    """
    if window == stride == (1, 1) and padding == ((0, 0), (0, 0)):
        return x.reshape(-1, x.shape[3])
    wide = x.shape[3] * x.itemsize % 16 == 0 and x.flags.c_contiguous and x.data.ptr % 16 == 0
    pixels = x.view("complex128") if wide else x
    windows = module_of(x).empty((len(x), *counts, *window, pixels.shape[3]), pixels.dtype)
    _unfold(pixels, *_geometry(stride, padding), windows)
    return windows.view(x.dtype).reshape(len(x) * counts[0] * counts[1], -1)


_fold = Kernel("fold", f"raw T windows, {GEOMETRY}", "T x", """
    const ptrdiff_t *at = _ind.get(), *size = windows.shape();          // n y z k
    int y = at[1] + top, z = at[2] + left;
    T total = 0;
    int last_r = last_window(y, down, size[1]), last_s = last_window(z, across, size[2]);
    int rows = last_r - first_window(y, size[3], down) + 1, columns = last_s - first_window(z, size[4], across) + 1;
    for (int i = 0; i < rows; i++)          // backwards, in NumPy's order; NVRTC 13.0 miscompiles loops that count down
        for (int j = 0; j < columns; j++) {
            int r = last_r - i, s = last_s - j;
            ptrdiff_t element[] = {at[0], r, s, y - r * down, z - s * across, at[3]};
            total += windows[element];
        }
    x = total;
    """, by_axes=True, preamble=COVER)


def fold(windows: Array, size: Pair, stride: Pair, padding: Border, out: Array = None) -> Array:
    """Return images (n, *size, c) with the windows (n, rows, columns, A, B, c) added up: the adjoint of unfold.

    They are written to `out` where that is given.
    """
    if not has_kernels(windows):
        return NotImplemented
    shape = (len(windows), *size, windows.shape[5])
    x = module_of(windows).empty(shape, windows.dtype) if out is None else out
    return _fold(windows, *_geometry(stride, padding), x)


_max_pool2d = Kernel("max_pool2d", f"raw T x, int32 A, int32 B, {GEOMETRY}", "T best, int64 winner", """
    const ptrdiff_t *at = _ind.get(), *size = x.shape();                // n r s k
    T largest = 0;
    ptrdiff_t index = -1;
    for (int a = 0; a < A; a++)
        for (int b = 0; b < B; b++) {
            int y = at[1] * down + a - top, z = at[2] * across + b - left;
            if (y < 0 || y >= size[1] || z < 0 || z >= size[2]) continue;
            ptrdiff_t pixel[] = {at[0], y, z, at[3]};
            T value = x[pixel];
            if (index < 0 || value > largest || (value != value && largest == largest)) {   // so the first NaN wins
                largest = value;
                index = (y * size[2] + z) * size[3] + at[3];
            }
        }
    best = largest;
    winner = index;
    """, by_axes=True)


def max_pool2d(x: Array, window: Pair, stride: Pair, padding: Border, winners: bool = True) -> Any:
    """Return the largest element of each window of images, and its index in the flattened image.

    Of equal elements, and of NaN, it is the first.
    """
    if not has_kernels(x):
        return NotImplemented
    shape, xp = (len(x), *output_size(x.shape[1:3], window, stride, padding), x.shape[3]), module_of(x)
    return _max_pool2d(x, *window, *_geometry(stride, padding), xp.empty(shape, x.dtype), xp.empty(shape, "int64"))


_take_winners = Kernel("take_winners", "raw T x, int64 winner", "T y", """
    ptrdiff_t at[] = {_ind.get()[0], winner};
    y = x[at];
    """, by_axes=True)


def take_winners(x: Array, winners: Array, **geometry: Any) -> Array:
    """Return the elements of each flattened image at these indices: x (n, size), winners (n, pooled)."""
    return _take_winners(x, winners) if has_kernels(x) else NotImplemented


_put_winners = Kernel("put_winners", f"raw T y, raw int64 winners, int32 w, int32 c, int32 A, int32 B, {GEOMETRY}",
                      "T x", """
    const ptrdiff_t *at = _ind.get(), *size = y.shape();                // n v z k
    ptrdiff_t here = (at[1] * w + at[2]) * c + at[3];
    int v = at[1] + top, z = at[2] + left;
    T total = 0;
    for (int r = first_window(v, A, down); r <= last_window(v, down, size[1]); r++)
        for (int s = first_window(z, B, across); s <= last_window(z, across, size[2]); s++) {
            ptrdiff_t window[] = {at[0], r, s, at[3]};
            if (winners[window] == here) total += y[window];
        }
    x = total;
    """, by_axes=True, preamble=COVER)


def put_winners(y: Array, winners: Array, image: tuple[int, int, int], window: Pair, stride: Pair,
                padding: Border) -> Array:
    """Return flattened images (n, h w c) with y (n, pooled) added at the winners: the adjoint of take_winners.

    image: (h, w, c).
    """
    if not has_kernels(y):
        return NotImplemented
    shape = (len(y), *output_size(image[:2], window, stride, padding), image[2])
    x = module_of(y).empty((len(y), *image), y.dtype)
    _put_winners(y.reshape(shape), winners.reshape(shape), *image[1:], *window, *_geometry(stride, padding), x)
    return x.reshape(len(y), -1)
