"""The boundary of the library: where an exception of Python or NumPy becomes an error that explains itself.

Operations check the mistakes that they can say something useful about. Any other mistake ends in an exception from
deep inside, in words that the caller never used. `explains` puts the call and its arguments in front of such an
exception, in one place for all public functions.
"""
from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from . import errors
from .errors import DTypeError, IndexingError, MinigradError, ShapeError, SizeError, message, parameters

P = ParamSpec("P")
R = TypeVar("R")
KINDS: dict[type[Exception], type[MinigradError]] = {      # besides those of an operation: what only comes from deeper
    **errors.KINDS, KeyError: IndexingError, MemoryError: SizeError, ZeroDivisionError: ShapeError,
    RuntimeError: ShapeError}
OURS = {"minigrad", "numpy", "cupy", "safetensors", "threadpoolctl"} | sys.stdlib_module_names


def explains(f: Callable[P, R]) -> Callable[P, R]:
    """Return f with errors that name it and its arguments.

    Errors of this library pass unchanged, and so do those of a function that the caller passed.
    """
    def called(*args: P.args, **params: P.kwargs) -> R:
        try:
            return f(*args, **params)
        except tuple(KINDS) as error:
            if isinstance(error, MinigradError) or _is_from_caller(error):
                raise
            raise _explain(f, args, params, error) from error
    called.__name__, called.__qualname__, called.__module__ = f.__name__, f.__qualname__, f.__module__
    called.__doc__ = f.__doc__
    called.__wrapped__ = f      # type: ignore[attr-defined]
    return called               # without functools.wraps, which takes ten times as long: every grad(f) comes here


_CALLED = explains(lambda: None).__code__


def _is_from_caller(error: BaseException) -> bool:
    """Return whether the traceback passes through code that is neither this library's nor of one that it uses."""
    step = error.__traceback__.tb_next if error.__traceback__ else None
    while step:
        if step.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in OURS:
            return True
        step = step.tb_next
    return False


def _explain(f: Callable[..., Any], args: tuple[Any, ...], params: Mapping[str, Any],
             error: Exception) -> MinigradError:
    kind = next(ours for theirs, ours in KINDS.items() if isinstance(error, theirs))
    names = parameters(f)
    names += [f"argument {i}" for i in range(len(names), len(args))]
    rows = [(name, value, _brief(value)) for name, value in [*zip(names, args), *params.items()]]
    call = f"{f.__name__}({', '.join(name for name, _, _ in rows)})"
    text = str(error).strip().partition("\n")[0]
    rule = text.replace(f"{f.__qualname__}()", f"{f.__name__}()") or type(error).__name__
    explained = kind(message(call, rule, rows, _usage(f, args, params)))
    for note in getattr(error, "__notes__", ()):
        explained.add_note(note)
    return explained


def _usage(f: Callable[..., Any], args: tuple[Any, ...], params: Mapping[str, Any]) -> str | None:
    """Return the arguments that f takes, where these do not fit; None where they do."""
    signature = inspect.signature(f)
    try:
        signature.bind(*args, **params)
    except TypeError:
        plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        return f"the arguments are {f.__name__}{signature.replace(parameters=plain, return_annotation=signature.empty)}"
    return None


def _brief(value: Any) -> str:
    if hasattr(value, "shape"):
        return ""
    try:
        text = repr(value)
    except Exception:           # whatever the repr of a strange object raises
        return ""
    return text if len(text) <= 60 else text[:57] + "..."


def guard(name: str) -> None:
    """Let the public functions that the module of this name has defined so far explain their errors.

    Doctest collects the functions as they were, without the wrapper.
    """
    module = sys.modules[name]
    public = {key: f for key, f in vars(module).items() if _is_public(key, f) and f.__module__ == name}
    vars(module).update({"__test__": public}, **{key: explains(f) for key, f in public.items()})


def explain_all(package: str) -> dict[str, Callable[..., Any]]:
    """Return {name: function} of the public functions in a package's namespace, which explain their errors."""
    public = {key: explains(f) for key, f in vars(sys.modules[package]).items() if _is_public(key, f)}
    for f in public.values():
        f.__module__ = package  # pickle looks for the function there
    return public


def _is_public(name: str, f: Any) -> bool:
    return not name.startswith("_") and isinstance(f, types.FunctionType) and f.__code__ is not _CALLED


def guard_class(cls: type) -> None:
    """Let the methods __call__, apply and init of a layer explain their errors."""
    for name in ("__call__", "apply", "init"):
        method = vars(cls).get(name)
        if isinstance(method, classmethod):
            setattr(cls, name, classmethod(explains(method.__func__)))
        elif method is not None:
            setattr(cls, name, explains(method))


def explain_init(cls: type, generated: bool) -> None:
    """Let the constructor of a module say what it takes. generated: whether it is that of a dataclass."""
    init, call = cls.__init__, cls.__name__     # type: ignore[misc]
    takes, fields = inspect.signature(init), dataclasses.fields(cls)
    make: Any = getattr(cls, "init", None)
    takes_arrays = generated and make and bool(fields) and "Array" in str(fields[0].type)

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **params: Any) -> None:
        first = (args[0] if args else params.get(fields[0].name)) if takes_arrays else None
        if type(first) is int:
            raise DTypeError(f"{call}({first}, ...): it takes arrays, and not their sizes\n  help: {call}.init("
                             f"{', '.join(inspect.signature(make).parameters)}) makes them, with initial values")
        try:
            init(self, *args, **params)
        except dataclasses.FrozenInstanceError as error:
            raise DTypeError(f"{call}(...): {error}: a module never changes\n  help: write its fields in the class, "
                             "such as `layer: nn.Linear`, and pass their values; neither __init__ nor __post_init__ "
                             "can set them") from error
        except TypeError as error:
            try:
                takes.bind(self, *args, **params)
            except TypeError as wrong:
                raise DTypeError(f"{call}(...): {wrong}\n  help: the arguments are "
                                 f"{call}({', '.join(map(str, [*takes.parameters.values()][1:]))})") from error
            raise
    cls.__init__ = __init__     # type: ignore[misc]
