"""Old names that still work for one version, each with a DeprecationWarning that says the new one.

    names(__name__, put="scatter_add")              last in a module: module.put is module.scatter_add
    @keywords(window="kernel_size")                 on a function: f(window=3) is f(kernel_size=3)
    @flags(rectify=(relu, "relu(f(x))"))            on a function that lost a flag: f(x, rectify=True) is relu(f(x))
    state = Method("init_state")                    in a class: x.state() is x.init_state()
    methods(cls, state="init_state")                when a subclass is made: its own state is its init_state

Every warning points at the line outside minigrad that uses the old name.
"""
from __future__ import annotations

import functools
import operator
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def warn(text: str) -> None:
    """Warn that what the caller does outside minigrad is an old form."""
    warn_outside(f"{text}; the old form goes in minigrad 0.3", "minigrad")


def warn_outside(text: str, package: str) -> None:
    """Warn, at the innermost line that is neither in this package nor in minigrad, nor in the machinery of imports."""
    frame, inside = sys._getframe(), ("minigrad", "importlib", package)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in inside:
        frame = frame.f_back
    found = frame.f_globals
    warnings.warn_explicit(text, DeprecationWarning, frame.f_code.co_filename, frame.f_lineno, found.get("__name__"),
                           found.setdefault("__warningregistry__", {}))


def names(module: str, **new: str) -> None:
    """Let a module answer to old names: old="new"."""
    def __getattr__(name: str) -> Any:
        if name not in new:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name} is now {module}.{new[name]}")
        return operator.attrgetter(new[name])(sys.modules[module])
    sys.modules[module].__getattr__ = __getattr__       # type: ignore[method-assign]


def keywords(**new: str | Callable[[Any], dict[str, Any]]) -> Callable[[F], F]:
    """Let a function take old keywords: old="new", or old=function where function(value) is the new ones, as a dict."""
    def decorate(f: F) -> F:
        @functools.wraps(f)
        def called(*args: Any, **params: Any) -> Any:
            if params and not new.keys().isdisjoint(params):
                params = _translated(f.__qualname__, new, params)
            return f(*args, **params)
        return cast(F, called)
    return decorate


def _translated(name: str, new: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in params.items() if key not in new}
    for old in [key for key in params if key in new]:
        replacement, value = new[old], params[old]
        if isinstance(replacement, str):
            now, text = {replacement: value}, f"{old}= is now {replacement}="
        else:
            now = replacement(value)
            text = f"{old}={value!r} is now {', '.join(f'{key}={now[key]!r}' for key in now)}"
        warn(f"{name}: {text}")
        found = dict(**found, **now)                    # TypeError where old and new are both given
    return found


def flags(**gone: tuple[Callable[[Any], Any], str]) -> Callable[[F], F]:
    """Let a function take flags that it lost: flag=(what to do with the result where it is true, what to write now)."""
    def decorate(f: F) -> F:
        @functools.wraps(f)
        def called(*args: Any, **params: Any) -> Any:
            if not params or gone.keys().isdisjoint(params):
                return f(*args, **params)
            given = {flag: params.pop(flag) for flag in gone if flag in params}
            y = f(*args, **params)
            for flag, value in given.items():
                warn(f"{f.__qualname__}: {flag}= is now {gone[flag][1]}")
                y = gone[flag][0](y) if value else y
            return y
        return cast(F, called)
    return decorate


class Method:
    """An old name of a method, on the instances of a class alone: a field of a subclass may have that name."""

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: Any, owner: type | None = None) -> Callable[..., Any]:
        if instance is None:
            raise AttributeError(f"{owner} has no attribute {self.old!r}")

        def called(*args: Any, **params: Any) -> Any:
            warn(f"{type(instance).__qualname__}.{self.old}() is now {self.new}()")
            return getattr(instance, self.new)(*args, **params)
        return called


def methods(cls: type, **new: str) -> None:
    """Let a class that defines methods under old names, old="new", have them under the new ones."""
    own = vars(cls)
    for old, name in new.items():
        if isinstance(own.get(old), types.FunctionType) and name not in own:
            warn(f"{cls.__qualname__}.{old}: define {name} instead")
            setattr(cls, name, own[old])
