"""Normalisation and dropout."""
from ..backend import seed, xp
from ..core import LinearMap, Primitive
from ..errors import DTypeError, ShapeError, shape
from ..pieces import column_sums, cut, each, scratch, share, summed
from .elementwise import sqrt, square
from .reductions import mean
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


def standardize(x, axes, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) over these axes: batch normalisation without its gain and bias.

    Ioffe & Szegedy, 2015, Algorithm 1.
    """
    return _standardize_primitive(x, axes=normal_axes(axes, len(shape(x)), "standardize"), eps=eps)


def moments(x):
    """The mean and the variance (without Bessel's correction) of each channel, the last axis, of plain x: (c,) each."""
    if not x.size:
        return x.mean(tuple(range(x.ndim - 1))), x.var(tuple(range(x.ndim - 1)))

    def one(piece):                                         # of each piece, while it is in the cache
        count = x[piece].size // x.shape[-1]
        mean = column_sums(x[piece]) / count
        far = xp.subtract(x[piece], _wide(mean, x), out=scratch("far", x[piece].shape, x.dtype))
        return count, mean, column_sums(far, far)
    n, mean, squares = 0, 0.0, 0.0
    for m, mean_here, squares_here in each(one, cut(len(x), x.nbytes // len(x))):      # Chan, Golub & LeVeque, 1979
        far = mean_here - mean
        squares = squares + squares_here + far * far * (n * m / (n + m))
        n, mean = n + m, mean + far * (m / (n + m))
    return mean, squares / n


def _wide(a, x):
    """A number for each channel of x, repeated along the axis before: NumPy likes long rows."""
    return xp.ascontiguousarray(xp.broadcast_to(a, x.shape[-2:])) if x.ndim > 2 else a


# ------------------------------------------- normalisation, gain, bias and ReLU of plain arrays, in few passes

def normalise_passes(x, gain, bias, known, eps, rectify):
    """y = A c + bias with c = x - mean, A = gain / sqrt(var + eps), and relu if `rectify`; its push and its pull.

    All of plain arrays; x: channels last; known: moments(x). With r = 1 / sqrt(var + eps), for each channel,

        push    t A + c B + C,  where y > 0    B = r t_gain - A r^2 mean(c t)    C = t_bias - A mean(t)
        pull    v A + c B + C                  B = -A r^2 mean(c v)              C = -A mean(v)      v = g where y > 0

    and the cotangents of gain and bias are r sum(c v) and sum(v). Each walks over its arrays twice: for the sums over
    the batch, and for the rest. Gives (y, push, pull).
    """
    mean, r = known[0], 1.0 / xp.sqrt(known[1] + eps)
    A, n, pieces = r if gain is None else gain * r, x.size / x.shape[-1], cut(len(x), x.nbytes // max(len(x), 1))
    mean, y = _wide(mean, x), xp.empty_like(x, order="C")

    def forward(some, A=_wide(A, x), bias=_wide(bias, x)):
        for piece in some:
            xp.subtract(x[piece], mean, out=y[piece])
            xp.multiply(y[piece], A, out=y[piece])
            xp.add(y[piece], bias, out=y[piece])
            if rectify:
                xp.maximum(y[piece], 0.0, out=y[piece])
    share(forward, pieces)

    def centred(piece):
        return xp.subtract(x[piece], mean, out=scratch("c", x[piece].shape, x.dtype))

    def sloped(v, A, B, C, out, gated):
        A, B, C = (_wide(a, x) for a in (A, B, C))

        def work(some):
            for piece in some:
                part, c = out[piece], centred(piece)
                xp.multiply(v[piece], A, out=part)
                part += xp.multiply(c, B, out=c)
                part += C
                if gated:
                    part *= y[piece] > 0
        share(work, pieces)
        return out

    def push(t, t_gain, t_bias):
        t, a = (x, 0.0 * A) if t is None else (t, A)        # no tangent of x: whatever t is, it is multiplied by 0
        total = summed(lambda piece: xp.stack([column_sums(t[piece]), column_sums(centred(piece), t[piece])]), pieces) / n
        B = (0.0 if t_gain is None else r * t_gain) - a * r * r * total[1]
        C = (0.0 if t_bias is None else t_bias) - a * total[0]
        return sloped(t, a, B, C, xp.empty_like(y), rectify)

    def pull(g):
        v = xp.empty_like(y) if rectify else g

        def sums(piece):
            part = xp.multiply(g[piece], y[piece] > 0, out=v[piece]) if rectify else g[piece]
            return xp.stack([column_sums(part), column_sums(centred(piece), part)])
        total = summed(sums, pieces)
        gx = sloped(v, A, -A * r * r * (total[1] / n), -A * (total[0] / n), v if rectify else xp.empty_like(y), False)
        return gx, None if gain is None else r * total[1], total[0]
    return y, push, pull


def dropout(x, rate, key):
    """Each element is set to 0 with probability `rate`, the others divided by 1 - rate.

    key: an integer or a sequence of integers; the same key drops the same elements, so that a function that is run
    again (checkpoint, finite differences) stays the same function. Srivastava et al., 2014.
    """
    if not 0.0 <= rate < 1.0:
        raise ShapeError(f"dropout(x): the rate must lie in [0, 1), not {rate}")
    if key is None:
        raise DTypeError("dropout(x): it draws its mask from a key, and there is none\n"
                         "  help: give an integer, or several: (seed of the run, step)")
    stays = seed(key).random(shape(x), "float32") >= rate
    return x * (xp.asarray(stays).astype(x.dtype) / (1.0 - rate))
