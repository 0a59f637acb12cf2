"""NumPy's names on the arrays in use, with derivatives: `import minigrad.numpy as np`, and the program stays as it is.

    np.exp, np.sum, np.linalg.norm ...      minigrad's operations of these names
    np.zeros, np.pi, np.random ...          those of minigrad.xp, which is NumPy or CuPy

A function of the array module that minigrad lacks takes plain arrays. For a traced value it raises TraceError, unless
its result has no derivative anyway, as that of np.isnan.
"""
from __future__ import annotations

import functools
import sys
from typing import Any

import numpy

from . import backend, ops
from . import linalg as _linalg
from .box import WITHOUT_DERIVATIVE, plain
from .errors import TraceError
from .ops.by_numpy import is_traced

ALSO_IN_LINALG = "matmul", "outer", "tensordot"             # the same functions as NumPy's without linalg


class _Names:
    """The names of a module of minigrad, and beyond them those of the array module, or of a module inside of it."""

    def __init__(self, own: Any, names: list[str], inside: str | None = None) -> None:
        self._own, self._names, self._inside = own, {*names}, inside

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and not name.endswith("__"):
            raise AttributeError(name)
        if name in self._names:
            return getattr(self._own, name)
        if self._inside and name in ALSO_IN_LINALG:
            return getattr(ops, name)
        value = getattr(self._others(), name)
        alias = str(getattr(value, "__name__", "")).removeprefix("cupy_")
        if alias in self._names:                            # np.concat is np.concatenate
            return getattr(self._own, alias)
        is_function = callable(value) and not isinstance(value, type)
        return functools.wraps(value)(functools.partial(_call, value, name)) if is_function else value

    def __dir__(self) -> list[str]:
        return sorted({*self._names, *dir(self._others())})

    def _others(self) -> Any:
        return getattr(backend.xp, self._inside) if self._inside else backend.xp


def _call(function: Any, name: str, *args: Any, **params: Any) -> Any:
    """Return function(*args, **params). Raises TraceError where that would lose a derivative."""
    if is_traced((*args, *params.values())):
        if getattr(numpy, name, None) not in WITHOUT_DERIVATIVE:
            raise TraceError(f"np.{name}(x): minigrad has no such function of a traced value\n"
                             "  help: write it with those that it has")
        args, params = plain(args), plain(params)
    return function(*args, **params)


linalg = _Names(_linalg, _linalg.__all__, "linalg")
_names = _Names(sys.modules[__package__], ops.__all__)
__getattr__, __dir__ = _names.__getattr__, _names.__dir__
