"""Dropout. Its random bits are a hash of the key and of an element's index: the same on every device, made there."""
from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy

from ..backend import as_array, module_of
from ..box import Box, raw
from ..core import replaceable
from ..errors import DTypeError, ShapeError, message, shape
from ..typing import Array, Key
from .elementwise import scale

ODD = numpy.uint32(0x9E3779B9)                              # 2^32 over the golden ratio: multiples of it lie far apart


def dropout(x: Array, rate: float, key: Key) -> Array:
    """Return x with each element set to 0 with probability `rate`, and the others divided by 1 - rate.

    key: an integer or a sequence of integers, of which 32 bits count. The same key drops the same elements, so that a
    function that runs again (checkpoint, finite differences) stays the same function. The integers may be in arrays: in
    a captured step (see `capture`) those that change from step to step must be. Srivastava et al., 2014.
    Raises ShapeError for a rate outside [0, 1), DTypeError without a key.
    """
    if not isinstance(rate, (int, float, numpy.number)) or not 0.0 <= rate < 1.0:
        raise ShapeError(f"dropout(x): the rate must lie in [0, 1), not {rate!r}")
    if key is None:
        raise DTypeError("dropout(x): it draws its mask from a key, and there is none\n"
                         "  help: pass an integer, or several: (seed of the run, step)")
    x = x if type(x) is Box else as_array(x)
    if x.dtype.kind not in "fiubc":
        raise DTypeError(message("dropout(x)", "the elements are not numbers", [("x", x, "")]))
    rate = float(rate)                                      # a scalar of NumPy would change types
    mask = _keep(math.prod(shape(x)), rate, _hash(key), raw(x)).reshape(shape(x))
    return scale(x, by=mask.astype(x.dtype) / (1.0 - rate))


@replaceable
def _keep(count: int, rate: float, seed: Array, x: Array) -> Array:
    """Return a mask of `count` elements, True with probability 1 - rate, on the device of x. seed: _hash(key)."""
    return _stays(module_of(x).arange(count, dtype="uint32"), rate, seed)


def _stays(index: Array, rate: float, seed: Array) -> Array:
    """Return for each index whether its element is kept."""
    return _scramble(index * ODD ^ seed) >= numpy.uint32(rate * 2**32)


def _scramble(x: Array) -> Array:
    """Return 32 bits, each of which depends on all bits of x; one to one.

    The shifts and factors are those of Chris Wellons's lowbias32 (Prospecting for hash functions, 2018).
    """
    x = (x ^ x >> 16) * numpy.uint32(0x7FEB352D)
    x = (x ^ x >> 15) * numpy.uint32(0x846CA68B)
    return x ^ x >> 16


def _hash(key: Any) -> Array:
    """Return one integer for the integers of a key: the sum of their hashes, each hashed with its index."""
    terms, index = [], 0
    for part in key if isinstance(key, (tuple, list)) else (key,):
        if not isinstance(part, int) and getattr(getattr(part, "dtype", None), "kind", "") not in ("i", "u"):
            raise DTypeError(message("dropout(x)", "a key is an integer, or several", [("key", part, "")],
                                     "(seed of the run, step)"))
        part = part.ravel() if hasattr(part, "dtype") else numpy.array([part & 0xFFFFFFFF], "uint32")
        at = _scramble(module_of(part).arange(index, index + part.size, dtype="uint32") * ODD + ODD)
        terms.append(_scramble(part.astype("uint32") ^ at).sum(dtype="uint32"))
        index += part.size
    terms.sort(key=lambda term: isinstance(term, numpy.generic))       # NumPy's last: arrays of a device take them
    with numpy.errstate(over="ignore"):
        return functools.reduce(operator.add, terms or [numpy.uint32(0)])
