"""How an error explains itself: what was called, with which arrays, which rule was broken, and what to do.

    ShapeError: conv2d(x, k): channels differ
      x  (8, 32, 32, 3)  float32    channels 3 (last axis)
      k  (3, 3, 4, 16)   float32    channels 4 (axis 2)
      help: a kernel for this image has shape (3, 3, 3, 16)

Every error of this library is a `MinigradError` and also the built-in error that a reader would expect (a
`ShapeError` is a `ValueError`), so that either may be caught.
"""
import inspect

import numpy


class MinigradError(Exception):
    """Anything that minigrad itself refuses."""


class ShapeError(MinigradError, ValueError):
    """Shapes or tree structures that do not fit together."""


class DTypeError(MinigradError, TypeError):
    """A type of array that cannot be differentiated, or cannot be used here."""


class IndexingError(MinigradError, IndexError):
    """An index outside the array."""


class TraceError(MinigradError, RuntimeError):
    """A traced value used in a way that would lose its derivative."""


class TracedAttributeError(TraceError, AttributeError):
    """An attribute of arrays that a traced value does not have."""


class BackendError(MinigradError, RuntimeError):
    """An array module that cannot run here, or two of them in one operation."""


class SizeError(MinigradError, MemoryError):
    """An array that is too large for the memory."""


class FileError(MinigradError, OSError):
    """A file that cannot be read as what it should be."""


KINDS = {TypeError: DTypeError, IndexError: IndexingError, ValueError: ShapeError, AttributeError: DTypeError,
         KeyError: DTypeError, OverflowError: ShapeError}               # what is raised, and what it becomes


def message(call, rule, rows=(), help=None):
    """The text of an error: `call`: `rule`, then one aligned line for each (name, array, note), then the remedy."""
    table = [(str(name), str(getattr(array, "shape", ())), dtype_name(array), note) for name, array, note in rows]
    widths = [max((len(row[column]) for row in table), default=0) for column in range(3)]
    lines = [f"{call}: {rule}"]
    for row in table:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
        lines.append(f"  {cells}    {row[3]}".rstrip())
    if help:
        lines.append(f"  help: {help}")
    return "\n".join(lines)


def parameters(fun):
    """The names of the parameters that a function takes by position; none where Python cannot tell."""
    try:
        return [p.name for p in inspect.signature(fun).parameters.values() if p.kind < p.VAR_POSITIONAL]
    except (TypeError, ValueError):
        return []


def called(name, fun, args):
    """The call of a function with these arguments, as text, and the rows (name, argument, note) that show them."""
    names = parameters(fun)
    names = (names + list("abcdefgh"))[:len(args)] if len(names) < len(args) else names[:len(args)]
    return f"{name}({', '.join(names)})", [(name, a, "") for name, a in zip(names, args)]


def explained(call, rows, error, where=""):
    """The error of this library that says what a TypeError, ValueError ... of another one says, of which call."""
    kind = next(ours for theirs, ours in KINDS.items() if isinstance(error, theirs))
    rule = where + str(error).strip()
    help = "shapes fit where, from the right, lengths are equal or one of them is 1" if "broadcast" in rule else None
    return kind(message(call, rule, rows, help))


def check_walk(name, walk, v, s):
    """Raise ShapeError unless v, which the push or pull of a rule returned, has shape s. None is zero, and fits."""
    if v is None or s is None or shape(v) == s:             # a bundle (functions.py) has None for its shape
        return
    what = "tangent of shape {} for a result" if walk == "push" else "cotangent of shape {} for an argument"
    raise ShapeError(f"{name}(...): the {walk} of its rule gives a {what.format(shape(v))} of shape {s}\n"
                     "  help: minigrad.check_derivatives holds a rule to the laws")


def undifferentiable(call, name, x):
    """The error to raise for an argument that is no floating-point array, and so has no derivative."""
    if hasattr(x, "dtype") or isinstance(x, (int, complex)):
        help = "convert it (x.astype(float)), or leave it out of the differentiated arguments"
    else:
        cls = type(x).__name__
        help = (f"leave it out; or, if there are arrays in it, make {cls} a subclass of minigrad.nn.Module, or "
                f"minigrad.tree.register({cls}, split, join)")
    return DTypeError(message(call, "only floating-point arrays have derivatives", [(name, x, "")], help))


def shape(x):
    """The shape of an array, a traced value, a number, or a list of numbers. Raises DTypeError for another list."""
    try:
        s = x.shape
    except AttributeError:
        return listed(x).shape if isinstance(x, (list, tuple)) else ()
    if type(s) is tuple or s is None:                       # None is that of a bundle (functions.py)
        return s
    raise DTypeError(f"{x!r} is no array\n  help: an array has a tuple of lengths as its shape")


def listed(x):
    """The array of NumPy that is made of a list of numbers, or of one. Raises DTypeError where none can be."""
    try:
        return numpy.asarray(x)
    except (TypeError, ValueError, RuntimeError):           # the last from a traced value
        raise DTypeError(f"a {type(x).__name__} that is no array of numbers\n"
                         "  help: stack(x) if traced values are in it; rows must have equal lengths") from None


def dtype_name(x):
    """The name of the type of the elements: "float32", or the Python type of what is no array."""
    return str(getattr(x, "dtype", type(x).__name__))


# --------------------------------------------------------------------------------------- errors of primitives

def failed(primitive, args, error, where=""):
    """The error to raise where a primitive fails: it names the operation and shows every argument.

    That is the error itself if it does so already, or where the argument is a bundle: the primitive is then a function
    of the user's (functions.py).
    """
    if isinstance(error, MinigradError) or args and getattr(args[0], "shape", ()) is None:
        return error
    call, rows = called(primitive.name, primitive.fun, args)
    return mixture(call, rows) or explained(call, rows, error, where)


def untraceable(primitive, trace, args, params, box):
    """The TraceError to raise where a primitive cannot be traced with these arguments, some of them of type `box`."""
    call = f"{primitive.name}(...)"
    if trace.closed:
        boxes = [(f"argument {i}", a, "") for i, a in enumerate(args) if type(a) is box]
        return TraceError(message(call, "a value from inside a derivative was used after it ended", boxes,
                                  "return the value from the function that is differentiated (has_aux=True), "
                                  "or keep stop_gradient(value)"))
    if primitive.rule is None:
        return TraceError(f"{call}: this primitive has no rule, and a derivative of it was asked for\n"
                          "  help: Primitive(fun, rule), or declare it by its kind: elementwise, linear, bilinear")
    boxes = [(name, value, "") for name, value in params.items() if type(value) is box]
    return TraceError(message(call, "a traced value is passed by keyword, as a setting", boxes,
                              "pass arrays by position"))


def mixture(call, rows):
    """The error to raise where both NumPy and CuPy have arrays among these rows (name, array, note); None elsewhere."""
    modules = ["numpy" if isinstance(a, numpy.ndarray) else "cupy" if type(a).__module__ == "cupy" else ""
               for _, a, _ in rows]
    if {"numpy", "cupy"} <= {*modules}:
        rows = [(name, a, module) for (name, a, _), module in zip(rows, modules)]
        return BackendError(message(call, "arrays of NumPy and of CuPy are mixed", rows,
                                    "move all to one place with xp.asarray(x) or to_host(x)"))
    return None


def signature(fun, names=None):
    """The signature of a primitive: its arrays by position, under these names or those of fun, then its settings."""
    try:
        known = list(inspect.signature(fun).parameters.values()) if fun else []
    except (TypeError, ValueError):                         # a function of C
        known = []
    if names is None:
        names = [p.name for p in known if p.kind <= p.POSITIONAL_OR_KEYWORD]
    settings = [p.replace(kind=max(p.kind, p.KEYWORD_ONLY)) for p in known if p.name not in names]
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names] + settings)
