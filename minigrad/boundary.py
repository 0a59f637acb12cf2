"""The boundary of the library: what Python and NumPy raise of a wrong argument leaves it as an error that explains it.

Operations check what they can say something useful about. What nobody thought of ends in an exception from somewhere
inside, with words about things that the caller never named. `explains` puts the call and its arguments in front of
them, in one place for all public functions.
"""
import sys
import types

from . import errors
from .errors import IndexingError, MinigradError, ShapeError, SizeError, message, parameters

KINDS = {**errors.KINDS, KeyError: IndexingError, MemoryError: SizeError, ZeroDivisionError: ShapeError,
         RuntimeError: ShapeError}                          # also what only comes from farther inside
OURS = {"minigrad", "numpy", "cupy", "safetensors", "threadpoolctl"} | sys.stdlib_module_names


def explains(f):
    """f, with errors that name it and its arguments.

    Errors of this library stay as they are, and so do those of a function that the caller handed over.
    """
    def called(*args, **params):
        try:
            return f(*args, **params)
        except tuple(KINDS) as error:
            if isinstance(error, MinigradError) or _is_the_callers(error):
                raise
            raise _explained(f, args, params, error) from error
    called.__name__, called.__qualname__, called.__module__ = f.__name__, f.__qualname__, f.__module__
    called.__doc__, called.__wrapped__ = f.__doc__, f       # functools.wraps takes ten times as long, in every grad(f)
    return called


_CALLED = explains(lambda: None).__code__


def _is_the_callers(error):
    """Whether there is code on the way from here to the error that is neither this library's nor of one it uses."""
    step = error.__traceback__.tb_next
    while step:
        if step.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in OURS:
            return True
        step = step.tb_next
    return False


def _explained(f, args, params, error):
    kind = next(ours for theirs, ours in KINDS.items() if isinstance(error, theirs))
    names = parameters(f)
    names += [f"argument {i}" for i in range(len(names), len(args))]
    rows = [(name, value, _brief(value)) for name, value in [*zip(names, args), *params.items()]]
    call = f"{f.__name__}({', '.join(name for name, _, _ in rows)})"
    explained = kind(message(call, str(error).strip().partition("\n")[0] or type(error).__name__, rows))
    for note in getattr(error, "__notes__", ()):
        explained.add_note(note)
    return explained


def _brief(value):
    if hasattr(value, "shape"):
        return ""
    try:
        text = repr(value)
    except Exception:                                       # whatever the repr of a strange object raises
        return ""
    return text if len(text) <= 60 else text[:57] + "..."


def guard(name):
    """Let the public functions that a module has defined so far explain themselves; doctest finds them as they were."""
    module = sys.modules[name]
    found = {key: f for key, f in vars(module).items() if _is_open(key, f) and f.__module__ == name}
    module.__test__ = found
    vars(module).update({key: explains(f) for key, f in found.items()})


def gathered(package):
    """Let the functions that a package has gathered explain themselves there: {name: function}."""
    found = {key: explains(f) for key, f in vars(sys.modules[package]).items() if _is_open(key, f)}
    for f in found.values():
        f.__module__ = package                              # where a pickle looks for it
    return found


def _is_open(name, f):
    return not name.startswith("_") and isinstance(f, types.FunctionType) and f.__code__ is not _CALLED


def guard_class(cls):
    """Let the methods of a layer explain themselves."""
    for name in ("__call__", "apply", "init"):
        method = vars(cls).get(name)
        if isinstance(method, classmethod):
            setattr(cls, name, classmethod(explains(method.__func__)))
        elif method is not None:
            setattr(cls, name, explains(method))
