"""Normalization."""
from .. import kernels
from ..backend import module_of
from ..core import LinearMap, Primitive
from ..errors import shape
from ..pieces import column_sums, cut_rows, each, scratch, share, summed
from .elementwise import selected, sqrt, square
from .reductions import in_wider, mean
from .shaping import normal_axes


def _standardize(x, axes, eps):
    c = x - mean(x, axes, keepdims=True)
    return c / sqrt(mean(square(c), axes, keepdims=True) + eps)


def _standardize_rule(i, y, x, axes, eps):
    """The Jacobian v -> r (v - mean(v) - y mean(y v)) is symmetric: push and pull are one function.

    r is computed from x by primitives, here and not in the forward function: saved there as a plain array it would be
    a constant to the second derivative, silently wrong at the order where somebody first looks.
    """
    c = x - mean(x, axes, keepdims=True)
    r = 1.0 / sqrt(mean(square(c), axes, keepdims=True) + eps)

    def J(v):
        return r * (v - mean(v, axes, keepdims=True) - y * mean(y * v, axes, keepdims=True))
    return LinearMap(J, J)


_standardize_primitive = Primitive(_standardize, _standardize_rule)


@in_wider
def standardize(x, axes, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) over these axes: batch normalization without its gain and bias.

    Ioffe & Szegedy, 2015, Algorithm 1.
    """
    return _standardize_primitive(x, axes=normal_axes(axes, len(shape(x)), "standardize"), eps=eps)


def moments(x):
    """The mean and the variance (without Bessel's correction) of each channel, the last axis, of plain x: (c,) each."""
    xp = module_of(x)
    if not x.size:
        return xp.zeros(x.shape[-1], x.dtype), xp.zeros(x.shape[-1], x.dtype)
    if kernels.fit(x):
        return kernels.moments(x)
    if x.dtype == "float16":
        return tuple(a.astype("float16") for a in moments(x.astype("float32")))

    def one(piece):                                         # of each piece, while it is in the cache
        count = x[piece].size // x.shape[-1]
        mean = column_sums(x[piece]) / count
        far = xp.subtract(x[piece], _wide(mean, x), out=scratch("far", x[piece].shape, x))
        return count, mean, column_sums(far, far)
    n, mean, squares = 0, 0.0, 0.0
    for m, mean_here, squares_here in each(one, cut_rows(x), x):      # Chan, Golub & LeVeque, 1979
        far = mean_here - mean
        squares = squares + squares_here + far * far * (n * m / (n + m))
        n, mean = n + m, mean + far * (m / (n + m))
    return mean, squares / n


def _wide(a, x):
    """A number for each channel of x, repeated along the axis before: NumPy likes long rows."""
    xp = module_of(x)
    return xp.ascontiguousarray(xp.broadcast_to(a, x.shape[-2:])) if x.ndim > 2 else a


# ------------------------------------------- normalization, gain, bias and ReLU of plain arrays, in few passes

class NormalizePasses:
    """y = A c + bias with c = x - mean, A = gain r, r = 1 / sqrt(var + eps), and relu if `rectify`; its push and pull.

    All of plain arrays; x: channels last; known: moments(x); gain: (c,) or None for 1; bias: (c,). For each channel,

        push    t A + c B + C,  where y > 0    B = r t_gain - A r^2 mean(c t)    C = t_bias - A mean(t)
        pull    v A + c B + C                  B = -A r^2 mean(c v)              C = -A mean(v)      v = g where y > 0

    and the cotangents of gain and bias are r sum(c v) and sum(v). Each walks over its arrays twice: for the sums over
    the batch, and for the rest. Kept are x and y alone.
    """

    def __init__(self, x, gain, bias, known, eps, rectify):
        self.x, self.rectify, self.has_gain = x, rectify, gain is not None
        xp = self.xp = module_of(x)
        self.y = xp.empty(x.shape, xp.result_type(x, bias, bias if gain is None else gain))
        self.mean, self.r = _wide(known[0], x), 1.0 / xp.sqrt(known[1] + eps)
        self.A = self.r if gain is None else gain * self.r
        self.n, self.pieces = max(x.size / x.shape[-1], 1), cut_rows(x)
        A, bias = _wide(self.A, x), _wide(bias, x)

        def work(pieces):
            for piece in pieces:
                y = xp.subtract(x[piece], self.mean, out=self.y[piece])
                y *= A
                y += bias
                if rectify:
                    xp.maximum(y, 0.0, out=y)
        share(work, self.pieces, x)

    def _centered(self, piece):
        x = self.x[piece]
        return self.xp.subtract(x, self.mean, out=scratch("c", x.shape, x))

    def _sloped(self, v, A, B, C, out, gated):
        """v A + c B + C, where y > 0 if it is gated; written to `out`, which may be v."""
        A, B, C = (_wide(a, self.x) for a in (A, B, C))

        def work(pieces):
            for piece in pieces:
                c, part = self._centered(piece), self.xp.multiply(v[piece], A, out=out[piece])
                c *= B
                part += c
                part += C
                if gated:
                    selected(part, self.y[piece] != 0, out=part)
        share(work, self.pieces, self.x)
        return out

    def push(self, t, t_gain, t_bias):
        """The tangent of y; None is zero."""
        t, A = (self.x, 0.0 * self.A) if t is None else (t, self.A)     # whatever t is, it is then multiplied by 0
        sums = summed(lambda piece: self.xp.stack([column_sums(t[piece]),
                                                   column_sums(self._centered(piece), t[piece])]), self.pieces, self.x)
        B = (0.0 if t_gain is None else self.r * t_gain) - A * self.r ** 2 * (sums[1] / self.n)
        C = (0.0 if t_bias is None else t_bias) - A * (sums[0] / self.n)
        return self._sloped(t, A, B, C, self.xp.empty_like(self.y), self.rectify)

    def pull(self, g):
        """The cotangents of x, gain (None if there is no gain) and bias."""
        xp = self.xp
        v = xp.empty_like(self.y) if self.rectify else g

        def sums_of(piece):
            part = selected(g[piece], self.y[piece] != 0, out=v[piece]) if self.rectify else g[piece]
            return xp.stack([column_sums(part), column_sums(self._centered(piece), part)])
        sums = summed(sums_of, self.pieces, self.x)
        B, C = -self.A * self.r ** 2 * (sums[1] / self.n), -self.A * (sums[0] / self.n)
        out = v if self.rectify else xp.empty_like(self.y)
        return self._sloped(v, self.A, B, C, out, False), self.r * sums[1] if self.has_gain else None, sums[0]
