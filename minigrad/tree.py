"""Trees: nested dicts, lists, tuples and modules whose leaves are arrays. Also their files.

A model is a tree, and so are its gradients, a direction in its parameter space and the state of an optimiser.

    flatten(tree)         -> leaves, structure          unflatten(structure, leaves) -> tree
    map(f, tree, *rest)   -> tree of f(leaf, ...)        paths(tree)                  -> "conv1.kernel", ...
    save(path, tree)                                    load(path, like)             -> tree

What is a node and what a leaf, says nodes.py. Where two trees meet, the children of dicts are matched by name, in
whatever order they stand.
"""
import contextlib
import math
import os
import pathlib
import secrets
import stat

import safetensors
import safetensors.numpy

from .backend import to_host, xp
from .errors import DTypeError, FileError, ShapeError, message, shape
from .nodes import LEAF, STATIC, Structure, flatten, register, same, unflatten

__all__ = ["LEAF", "STATIC", "Structure", "flatten", "leaves_like", "load", "map", "paths", "read", "register", "same",
           "save", "size", "unflatten", "write_whole"]


def map(f, tree, *rest):
    """The tree of f(leaf, leaf of each of the rest). Raises ShapeError, with the place, where structures differ."""
    leaves, structure = flatten(tree)
    columns = [leaves, *[leaves_like(structure, other, "tree.map") for other in rest]]
    return unflatten(structure, [f(*row) for row in zip(*columns)])


def leaves_like(structure, tree, call):
    """The leaves of a tree in the order of this structure: the children of a dict are matched by name.

    Raises ShapeError, naming the call and the first place of difference, where the tree has another structure.
    """
    leaves, own = flatten(tree)
    return leaves if own == structure else list(_matched(structure, own, _nested(own, iter(leaves)), (), call))


def _nested(structure, leaves):
    """The leaves in lists like the nodes of this structure."""
    return next(leaves) if structure.node is LEAF else [_nested(child, leaves) for child in structure.children]


def _matched(structure, own, nested, path, call):
    index = {name: i for i, name in enumerate(own.names)}
    if structure.node is not own.node or index.keys() != {*structure.names} or not same(structure.static, own.static):
        raise ShapeError(f"{call}: two trees differ in structure at {'.'.join(path) or 'the top'}\n"
                         "  help: gradients, directions and states have the shape of the parameters they belong to")
    if structure.node is LEAF:
        yield nested
    for name, child in zip(structure.names, structure.children):
        i = index[name]
        yield from _matched(child, own.children[i], nested[i], (*path, str(name)), call)


def paths(tree):
    """A name for each leaf: the way to it, such as "layers.0.weight"."""
    return list(_paths(flatten(tree)[1], ()))


def _paths(structure, path):
    if structure.node is LEAF:
        yield ".".join(path)
    for name, child in zip(structure.names, structure.children):
        yield from _paths(child, (*path, str(name)))


def size(tree):
    """The number of elements of all leaves: of a model, its parameters."""
    return sum(math.prod(shape(leaf)) for leaf in flatten(tree)[0])


# ------------------------------------------------------------------------------------------------- files

def save(path, tree, metadata=None):
    """Write the leaves to a safetensors file under their paths. The file appears whole or not at all.

    metadata: a dict of strings to strings, written beside the arrays. Raises FileError where the file cannot be
    written, ShapeError for leaves of the same name, DTypeError for what such a file cannot hold.
    """
    call, names, leaves = f"tree.save({str(path)!r})", paths(tree), flatten(tree)[0]
    if len(set(names)) < len(names):
        raise ShapeError(f"{call}: two leaves have the same name, {max(names, key=names.count)!r}\n"
                         "  help: use keys without dots, and of one type")
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise DTypeError(f"{call}: metadata must be a dict of strings to strings, not {metadata!r}\n"
                         "  help: json.dumps(value) makes a string of anything plain")
    arrays = {name: to_host(leaf).copy(order="C") for name, leaf in zip(names, leaves)}
    unfit = [(name, array, "") for name, array in arrays.items() if array.dtype.name not in TYPES.values()]
    if unfit:
        raise DTypeError(message(call, "a safetensors file cannot hold this type", unfit,
                                 "convert it (x.astype(float)); of complex numbers save real and imaginary part"))
    write_whole(path, safetensors.numpy.save(arrays, metadata or None))


def write_whole(path, data):
    """Write bytes beside the path and rename them into place, so that no reader ever sees half a file.

    They are on the disk when this returns, and so is the new name. The file keeps the permissions of the one that it
    replaces; a new one gets those of any new file. Raises FileError, with the path, where it cannot be written.
    """
    beside = None
    try:
        path = pathlib.Path(path)
        named = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
        with open(named, "xb") as file:                     # a new file: no link is followed, nobody else has it
            beside = named
            file.write(data)
            if path.exists() and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        beside = None
        _sync(path.parent)
    except (OSError, ValueError, TypeError) as error:       # ValueError: of a path with a zero byte in it
        raise FileError(f"{path}: the file cannot be written ({getattr(error, 'strerror', None) or error})\n"
                        "  help: give the path of a file, in a folder that is there and may be written") from error
    finally:
        if beside:
            beside.unlink(missing_ok=True)


def _sync(folder):
    """Bring the names in a folder to the disk, where the system knows how: a power cut may take back a rename alone."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):                  # some file systems refuse it
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def load(path, like):
    """The tree of the shape of `like` with the arrays of a file that `save` wrote, on the array module in use.

    Raises FileError where the file is not whole, ShapeError where its names, shapes or types are not those of `like`.
    """
    arrays, leaves = read(path)[0], []
    names, (old, structure) = paths(like), flatten(like)
    if set(names) != set(arrays):
        raise ShapeError(f"tree.load({str(path)!r}): the file holds another tree\n"
                         f"  missing  {sorted(set(names) - set(arrays))}\n"
                         f"  unknown  {sorted(set(arrays) - set(names))}\n"
                         "  help: load it into the model that it was saved from")
    for name, leaf in zip(names, old):
        if arrays[name].shape != shape(leaf) or arrays[name].dtype != getattr(leaf, "dtype", arrays[name].dtype):
            rows = [("file", arrays[name], ""), ("tree", leaf, "")]
            raise ShapeError(message(f"tree.load({str(path)!r})", f"{name} does not fit", rows))
        leaves.append(xp.asarray(arrays[name]))
    return unflatten(structure, leaves)


def read(path):
    """All NumPy arrays of a safetensors file by name, and its metadata. Raises FileError where it is not whole."""
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            return {name: _array(file, name) for name in file.keys()}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})\n"
                        "  help: delete it; what was saved there has to be made again") from error
    except (OSError, ValueError, TypeError) as error:
        reason = "it is a folder" if isinstance(path, (str, os.PathLike)) and os.path.isdir(path) else error
        raise FileError(f"{path}: the file cannot be read ({reason})\n"
                        "  help: give the path of a file that tree.save wrote") from error


TYPES = dict(BOOL="bool", U8="uint8", I8="int8", U16="uint16", I16="int16", U32="uint32", I32="int32", U64="uint64",
             I64="int64", F16="float16", F32="float32", F64="float64")      # of safetensors, and of NumPy


def _array(file, name):
    """One array of an open file. Raises ValueError for those that NumPy cannot hold."""
    part = file.get_slice(name)
    if part.get_dtype() not in TYPES or len(part.get_shape()) > 32:
        raise ValueError(f"NumPy has no array for {name}, of {part.get_dtype()} with {len(part.get_shape())} axes")
    return file.get_tensor(name)
