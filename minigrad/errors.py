"""Errors that explain themselves: the call, its arrays, the rule broken and the remedy.

    ShapeError: conv2d(x, k): channels differ
      x  (8, 32, 32, 3)  float32    channels 3 (last axis)
      k  (3, 3, 4, 16)   float32    channels 4 (axis 2)
      help: a kernel for this image has shape (3, 3, 3, 16)

Every error of this library is a `MinigradError` and also the built-in error that a reader would expect (a
`ShapeError` is a `ValueError`), so that either may be caught.
"""
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from .typing import Array, Shape


class MinigradError(Exception):
    """The base of all errors that minigrad raises."""


class ShapeError(MinigradError, ValueError):
    """Shapes or tree structures that do not fit together."""


class DTypeError(MinigradError, TypeError):
    """A type that cannot be differentiated, or cannot be used here."""


class LinAlgError(MinigradError, numpy.linalg.LinAlgError):
    """A matrix that an operation of linear algebra cannot take: singular, or not positive definite."""


class IndexingError(MinigradError, IndexError):
    """An index outside the array, or an object that cannot index one."""


class TraceError(MinigradError, RuntimeError):
    """A traced value used in a way that would lose its derivative."""


class TracedAttributeError(TraceError, AttributeError):
    """An attribute of arrays that a traced value does not have."""


class BackendError(MinigradError, RuntimeError):
    """An array module that cannot run here, or arrays of two modules in one operation."""


class RankError(MinigradError, RuntimeError):
    """Ranks of a program that do not do the same thing, or one that no longer answers."""


class SizeError(MinigradError, MemoryError):
    """An array that does not fit into memory."""


class DataError(MinigradError, ValueError):
    """Data or settings that a network cannot be trained with."""


class RequirementError(MinigradError, ImportError):
    """A package that is needed and not installed, or too old."""


class FileError(MinigradError, OSError):
    """A file that cannot be read or written."""


Row = tuple[str, Any, str]      # of an error's table: the name of an argument, its value, a note
KINDS: dict[type[Exception], type[MinigradError]] = {      # the error of Python or NumPy: the error that explains it
    numpy.linalg.LinAlgError: LinAlgError, numpy.exceptions.AxisError: ShapeError, TypeError: DTypeError,
    IndexError: IndexingError, ValueError: ShapeError, AttributeError: DTypeError, KeyError: DTypeError,
    OverflowError: ShapeError}


def message(call: str, rule: str, rows: Iterable[Row] = (), help: str | None = None) -> str:
    """Return the text of an error: "call: rule", one aligned line per row (name, array, note), and the remedy."""
    table = [(str(name), str(getattr(array, "shape", ())), dtype_name(array), note) for name, array, note in rows]
    widths = [max((len(row[column]) for row in table), default=0) for column in range(3)]
    lines = [f"{call}: {rule}"]
    for row in table:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
        lines.append(f"  {cells}    {row[3]}".rstrip())
    if help:
        lines.append(f"  help: {help}")
    return "\n".join(lines)


def parameters(fun: Any) -> list[str]:
    """Return the names of the positional parameters of a function; none where it has no readable signature."""
    try:
        return [p.name for p in inspect.signature(fun).parameters.values() if p.kind < p.VAR_POSITIONAL]
    except (TypeError, ValueError):
        return []


def _describe_call(name: str, fun: Any, args: Sequence[Any]) -> tuple[str, list[Row]]:
    """Return a call as text, such as "add(a, b)", and the rows (name, argument, note) that show its arguments."""
    names = parameters(fun)
    names = (names + list("abcdefgh"))[:len(args)] if len(names) < len(args) else names[:len(args)]
    return f"{name}({', '.join(names)})", [(name, a, "") for name, a in zip(names, args)]


def _explain(call: str, rows: Iterable[Row], error: BaseException, where: str = "") -> MinigradError:
    """Return the error of this library for a TypeError, ValueError ... that Python or NumPy raised in this call."""
    kind = next(ours for theirs, ours in KINDS.items() if isinstance(error, theirs))
    rule = where + str(error).strip()
    help = "shapes fit where, from the right, lengths are equal or one of them is 1" if "broadcast" in rule else None
    return kind(message(call, rule, rows, help))


def check_walk(name: str, walk: str, v: Array, s: Shape | None) -> None:
    """Raise ShapeError unless v, the result of a rule's push or pull, has shape s. None stands for zero."""
    if v is None or s is None or shape(v) == s:         # s of a bundle (functions.py) is None
        return
    what = "tangent of shape {} for a result" if walk == "push" else "cotangent of shape {} for an argument"
    raise ShapeError(f"{name}(...): the {walk} of its rule returns a {what.format(shape(v))} of shape {s}\n"
                     "  help: minigrad.check_derivatives tests a rule")


def undifferentiable(call: str, name: str, x: Any) -> DTypeError:
    """Return the error for an argument that is not a floating-point array, and so has no derivative."""
    if hasattr(x, "dtype") or isinstance(x, (int, complex)):
        help = "convert it (x.astype(float)), or leave it out of the differentiated arguments"
    else:
        cls = type(x).__name__
        help = (f"leave it out; or, if there are arrays in it, make {cls} a subclass of minigrad.nn.Module, or call "
                f"minigrad.tree.register({cls}, split, join)")
    return DTypeError(message(call, "only floating-point arrays have derivatives", [(name, x, "")], help))


def shape(x: Array) -> Shape:
    """Return the shape of an array, a traced value, a number or a list of numbers; None for a bundle (functions.py).

    Raises DTypeError for a list that is not an array of numbers, and for an object with another kind of shape.
    """
    try:
        s = x.shape
    except AttributeError:
        return to_numpy(x).shape if isinstance(x, (list, tuple)) else ()
    if type(s) is tuple or s is None:
        return s        # type: ignore[return-value]
    raise DTypeError(f"{x!r} is not an array\n  help: an array has a tuple of lengths as its shape")


def to_numpy(x: Any) -> NDArray[Any]:
    """Return a number or a list of numbers as an array of NumPy. Raises DTypeError for anything else."""
    try:
        return numpy.asarray(x)
    except (TypeError, ValueError, RuntimeError):       # RuntimeError: from a traced value in the list
        raise DTypeError(f"this {type(x).__name__} is not an array of numbers\n"
                         "  help: stack(x) if it holds traced values; rows must have equal lengths") from None


def dtype_name(x: Any) -> str:
    """Return the name of an array's dtype, such as "float32", or of the Python type of anything else."""
    return str(getattr(x, "dtype", type(x).__name__))


# --------------------------------------------------------------------------------------- errors of primitives

def failure(primitive: Any, args: Sequence[Any], error: Exception, where: str = "") -> Exception:
    """Return the error to raise where a primitive fails: it names the operation and shows every argument.

    That is the error itself if it already does so, or if the argument is a bundle: the primitive is then a function of
    the user's (functions.py).
    """
    if isinstance(error, MinigradError) or args and getattr(args[0], "shape", ()) is None:
        return error
    call, rows = _describe_call(primitive.name, primitive.fun, args)
    return mixture(call, rows) or _explain(call, rows, error, where)


def keyword(primitive: Any, params: Mapping[str, Any]) -> DTypeError | None:
    """Return the error to raise where an array is passed by keyword; None where none is."""
    arrays = [p.name for p in primitive.__signature__.parameters.values() if p.kind is p.POSITIONAL_ONLY]
    rows = [(name, params[name], "") for name in arrays if name in params]
    if not rows:
        return None
    return DTypeError(message(f"{primitive.name}(...)", "arrays are passed by position, not by keyword", rows,
                              f"pass {', '.join(arrays)} in this order, without names"))


def untraceable(primitive: Any, trace: Any, args: Sequence[Any], params: Mapping[str, Any], box: type) -> TraceError:
    """Return the error for a primitive that cannot be traced with these arguments, some of which are of type `box`."""
    call = f"{primitive.name}(...)"
    if trace.closed:
        boxes = [(f"argument {i}", a, "") for i, a in enumerate(args) if type(a) is box]
        return TraceError(message(call, "a value from inside a derivative was used after it ended", boxes,
                                  "return the value from the function that is differentiated (has_aux=True), "
                                  "or keep stop_gradient(value)"))
    if primitive.rule is None:
        return TraceError(f"{call}: this primitive has no rule, so it has no derivative\n"
                          "  help: Primitive(fun, rule), or declare it by its kind: elementwise, linear, bilinear")
    boxes = [(name, value, "") for name, value in params.items() if type(value) is box]
    return TraceError(message(call, "a traced value is passed by keyword, as a setting", boxes,
                              "pass arrays by position"))


def hidden(name: str) -> TraceError:
    """Return the error for a value that depends on a traced one which is no argument of the primitive."""
    return TraceError(f"{name}(...): it computes with a traced value that is not one of its arguments: one in a "
                      "closure, a setting or a list\n  its derivative would be lost\n"
                      "  help: pass whatever is differentiated as an argument")


def no_map(name: str, found: Any) -> DTypeError:
    """Return the error for a rule that returned something else than a LinearMap."""
    return DTypeError(f"{name}(...): its rule returned a {type(found).__name__}, not a LinearMap\n"
                      "  help: return LinearMap(push, pull)")


def mixture(call: str, rows: Sequence[Row]) -> BackendError | None:
    """Return the error for arrays of both NumPy and CuPy in these rows (name, array, note); None if there is no mix."""
    modules = ["numpy" if isinstance(a, numpy.ndarray) else "cupy" if type(a).__module__ == "cupy" else ""
               for _, a, _ in rows]
    if {"numpy", "cupy"} <= {*modules}:
        rows = [(name, a, module) for (name, a, _), module in zip(rows, modules)]
        return BackendError(message(call, "arrays of NumPy and of CuPy are mixed", rows,
                                    "move all to one place with xp.asarray(x) or to_host(x)"))
    return None


def signature(fun: Any, names: Sequence[str] | None = None) -> inspect.Signature:
    """Return the signature of a primitive: its arrays by position, under these names or those of fun, then settings."""
    try:
        known = list(inspect.signature(fun).parameters.values()) if fun else []
    except (TypeError, ValueError):     # a function of C
        known = []
    positional = [p for p in known if p.kind <= p.POSITIONAL_OR_KEYWORD]
    names = [p.name for p in positional] if names is None else names
    settings = [p.replace(kind=p.KEYWORD_ONLY) for p in positional[len(names):]]
    settings += [p for p in known if p.kind > p.VAR_POSITIONAL or p.kind == p.VAR_POSITIONAL and not names]
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names] + settings)
