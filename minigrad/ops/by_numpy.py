"""Functions that NumPy's own compute where nothing is traced: it decides all values, types and keywords there.

What has a derivative is written with primitives, and so is closed to any order. It also serves where CuPy lacks
something.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy

from ..backend import module_of
from ..box import Box, plain, raw
from ..core import Primitive
from ..typing import Array

F = TypeVar("F", bound=Callable[..., Any])
LACKS = TypeError, AttributeError, NotImplementedError
OWN = "quantile", "percentile"      # CuPy's (14.2) take q of one axis alone, and read outside of their arrays


def leaves(x: Any) -> list[Any]:
    """Return what nested lists and tuples hold."""
    return [leaf for part in x for leaf in leaves(part)] if type(x) in (list, tuple) else [x]


def is_traced(x: Any) -> bool:
    """Return whether x is a traced value, or a list or tuple with one in it."""
    return type(x) is Box or type(x) in (list, tuple) and any(map(is_traced, x))


def by_numpy(f: F) -> F:
    """Return f for traced arguments, and the array module's function of its name for others."""
    def called(*args: Any, **params: Any) -> Any:
        if is_traced((*args, *params.values())):
            return f(*args, **params)
        name, xp = called.__name__, module_of(*leaves(args))
        if name in OWN and xp is not numpy:
            return f(*args, **params)
        try:
            return getattr(xp, name)(*args, **params)
        except LACKS as error:
            try:
                return f(*args, **params)
            except LACKS:
                raise error from None
    called.__name__ = called.__qualname__ = f.__name__
    called.__doc__, called.__module__ = f.__doc__, f.__module__
    called.__wrapped__ = f      # type: ignore[attr-defined]
    return cast(F, called)


def row(name: str, f: Callable[..., Any], doc: str) -> Callable[..., Any]:
    """Return by_numpy(f), with f under this name."""
    f.__name__ = f.__qualname__ = name
    f.__doc__ = doc
    return by_numpy(f)


def constant(name: str, doc: str) -> Callable[..., Any]:
    """Return the array module's function of this name, called on plain values: its results are constants."""
    def f(*args: Any, **params: Any) -> Any:
        return getattr(module_of(*map(raw, leaves(args))), name)(*plain(args), **plain(params))
    f.__name__ = f.__qualname__ = name
    f.__doc__, f.__module__ = doc, "minigrad.ops"
    f.__signature__ = numpys(name)      # type: ignore[attr-defined]
    return f


def numpys(name: str) -> inspect.Signature:
    """Return the signature of NumPy's function of this name."""
    return inspect.signature(getattr(numpy, name))


class Flat(Primitive):
    """A primitive of elements whose derivative is 0 wherever there is one: its values are plain."""

    def __init__(self, fun: str | Callable[..., Array], parameters: str, doc: str, name: str | None = None) -> None:
        super().__init__(fun, name=name, doc=doc, parameters=parameters)

    def __call__(self, *args: Any, **params: Any) -> Array:
        """Return the value of the plain values."""
        return super().__call__(*map(raw, args), **params)
