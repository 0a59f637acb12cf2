"""Dropout. Its random bits are a hash of the key and of an element's place: the same on every device, made there."""
import math

import numpy

from ..backend import as_array, module_of, on_device
from ..core import Box, raw
from ..errors import DTypeError, ShapeError, message, shape
from ..pieces import cut, each
from .elementwise import scaled

ODD = numpy.uint32(0x9E3779B9)                              # 2^32 over the golden ratio: multiples of it lie far apart


def dropout(x, rate, key):
    """Each element is set to 0 with probability `rate`, the others divided by 1 - rate.

    key: an integer or a sequence of integers, of which 32 bits count; the same key drops the same elements, so that a
    function that is run again (checkpoint, finite differences) stays the same function. Integers in arrays are as good:
    in a step that is captured (see `capture`) those that change from step to step have to be. Srivastava et al., 2014.
    Raises ShapeError for a rate outside [0, 1), DTypeError without a key.
    """
    if not isinstance(rate, (int, float, numpy.number)) or not 0.0 <= rate < 1.0:
        raise ShapeError(f"dropout(x): the rate must lie in [0, 1), not {rate!r}")
    if key is None:
        raise DTypeError("dropout(x): it draws its mask from a key, and there is none\n"
                         "  help: give an integer, or several: (seed of the run, step)")
    x = x if type(x) is Box else as_array(x)
    if x.dtype.kind not in "fiubc":
        raise DTypeError(message("dropout(x)", "the elements are no numbers", [("x", x, "")]))
    rate = float(rate)                                      # a number of NumPy's would change types
    known, count, plain = _hash(key), math.prod(shape(x)), raw(x)
    xp = module_of(plain)
    stays = xp.empty(count, bool)

    def draw(piece):
        places = xp.arange(piece.start, piece.stop, dtype="uint32")
        stays[piece] = _scrambled(places * ODD ^ known) >= numpy.uint32(rate * 2**32)
    each(draw, cut(count, 4, plain), plain)
    return scaled(x, by=stays.reshape(shape(x)).astype(x.dtype) / (1.0 - rate))


def _scrambled(x):
    """32 bits, each of which depends on all bits of x; one to one.

    The shifts and factors are those of Chris Wellons's lowbias32 (Prospecting for hash functions, 2018).
    """
    x = (x ^ x >> 16) * numpy.uint32(0x7FEB352D)
    x = (x ^ x >> 15) * numpy.uint32(0x846CA68B)
    return x ^ x >> 16


def _hash(key):
    """One integer for those of a key: the sum of their hashes, each with its place. The same for integers in arrays."""
    total, place = numpy.zeros(1, "uint32"), 0              # what is known on the host is added up there
    moving = None
    for part in key if isinstance(key, (tuple, list)) else (key,):
        if not isinstance(part, int) and getattr(getattr(part, "dtype", None), "kind", "") not in ("i", "u"):
            raise DTypeError(message("dropout(x)", "a key is an integer, or several", [("key", part, "")],
                                     "(seed of the run, step)"))
        part = part.ravel() if hasattr(part, "dtype") else numpy.array([part & 0xFFFFFFFF], "uint32")
        at = _scrambled(module_of(part).arange(place, place + part.size, dtype="uint32") * ODD + ODD)
        term = _scrambled(part.astype("uint32") ^ at).sum(keepdims=True, dtype="uint32")
        place += part.size
        if on_device(part):
            moving = term if moving is None else moving + term
        else:
            total = total + term
    return total[0] if moving is None else moving + total[0]
