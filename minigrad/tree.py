"""Trees: nested dicts, lists, tuples and modules whose leaves are arrays. Also their files.

A model is a tree, and so are its gradients, a direction in its parameter space and the state of an optimiser.

    flatten(tree)         -> leaves, structure          unflatten(structure, leaves) -> tree
    map(f, tree, *rest)   -> tree of f(leaf, ...)        paths(tree)                  -> "conv1.kernel", ...
    save(path, tree)                                    load(path, like)             -> tree

A node is a dict (in the order of its sorted keys), list, tuple, named tuple, or a class made known by `register`.
None, strings and functions hold no array: they belong to the structure. Everything else is a leaf.
"""
import builtins
import collections
import math
import os
import pathlib
from typing import Any, NamedTuple

import safetensors
import safetensors.numpy

from .backend import to_host, xp
from .errors import FileError, ShapeError, message, shape


class Structure(NamedTuple):
    """A tree without its leaves."""
    node: Any               # the type of the node; LEAF or STATIC where the tree ends
    names: tuple            # of the children: keys, positions or fields
    static: Any             # what the node holds besides its children
    children: tuple         # one Structure each


class _Node(NamedTuple):
    split: Any              # tree -> names, children, static
    join: Any               # names, children, static -> tree


LEAF, STATIC = "leaf", "static"
_leaf = Structure(LEAF, (), None, ())


def _positions(sequence):
    return range(len(sequence)), sequence, None


def _split_dict(tree):
    names = sorted(tree, key=lambda key: (type(key).__name__, key))
    return names, [tree[name] for name in names], None


_nodes = {
    collections.OrderedDict: _Node(_split_dict, lambda names, children, static: collections.OrderedDict(
        zip(names, children))),
    collections.defaultdict: _Node(lambda tree: (*_split_dict(tree)[:2], tree.default_factory),
                                   lambda names, children, static: collections.defaultdict(
                                       static, zip(names, children))),
    tuple: _Node(_positions, lambda names, children, static: tuple(children)),
    list: _Node(_positions, lambda names, children, static: list(children)),
    dict: _Node(_split_dict, lambda names, children, static: dict(zip(names, children))),
}


def register(cls, split, join):
    """Make a class a node: split(tree) -> names, children, static; join(names, children, static) -> tree."""
    _nodes[cls] = _Node(split, join)


def _node(tree):
    """The node type of a tree, or None at a leaf. Named tuples become known when they are first seen."""
    cls = type(tree)
    if cls not in _nodes and isinstance(tree, tuple) and hasattr(cls, "_fields"):
        register(cls, lambda t: (cls._fields, t, None), lambda names, children, static: cls(*children))
    return _nodes.get(cls)


def flatten(tree):
    """The leaves, from left to right, and the structure that holds them."""
    leaves = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree, leaves):
    node = _nodes.get(type(tree)) or (None if hasattr(tree, "dtype") else _node(tree))
    if node is not None:
        names, children, static = node.split(tree)
        return Structure(type(tree), tuple(names), static, tuple([_flatten(child, leaves) for child in children]))
    if tree is None or isinstance(tree, str) or callable(tree):
        return Structure(STATIC, (), tree, ())
    leaves.append(tree)
    return _leaf


def unflatten(structure, leaves):
    """The tree of this structure with these leaves."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure, leaves):
    if structure.node is LEAF:
        return next(leaves)
    if structure.node is STATIC:
        return structure.static
    children = [_unflatten(child, leaves) for child in structure.children]
    return _nodes[structure.node].join(structure.names, children, structure.static)


def map(f, tree, *rest):
    """The tree of f(leaf, leaf of each of the rest). Raises ShapeError, with the place, where structures differ."""
    leaves, structure = flatten(tree)
    columns = [leaves]
    for other in rest:
        others, other_structure = flatten(other)
        check_same(structure, other_structure, "tree.map")
        columns.append(others)
    return unflatten(structure, [f(*row) for row in zip(*columns)])


def check_same(a, b, call):
    """Raise ShapeError, naming the first place where two structures differ."""
    place = _difference(a, b, ())
    if place is not None:
        raise ShapeError(f"{call}: two trees differ in structure at {place or 'the top'}\n"
                         "  help: gradients, directions and states have the shape of the parameters they belong to")


def _difference(a, b, path):
    if a == b:
        return None
    if a.node != b.node or a.names != b.names or a.static != b.static:
        return ".".join(path)
    places = (_difference(x, y, (*path, str(name))) for name, x, y in zip(a.names, a.children, b.children))
    return next(place for place in places if place is not None)


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
    return builtins.sum(math.prod(shape(leaf)) for leaf in flatten(tree)[0])


# ------------------------------------------------------------------------------------------------- files

def save(path, tree, metadata=None):
    """Write the leaves to a safetensors file under their paths. The file appears whole or not at all.

    metadata: a dict of strings to strings, written beside the arrays.
    """
    names = paths(tree)
    if len(set(names)) < len(names):
        raise ShapeError(f"tree.save({str(path)!r}): two leaves have the same name, "
                         f"{max(names, key=names.count)!r}\n  help: use keys without dots, and of one type")
    arrays = {name: to_host(leaf).copy(order="C") for name, leaf in zip(names, flatten(tree)[0])}
    write_whole(path, safetensors.numpy.save(arrays, metadata))


def write_whole(path, data):
    """Write bytes beside the path and rename them into place, so that no reader ever sees half a file."""
    path = pathlib.Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


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
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})\n"
                        "  help: delete it; what was saved there has to be made again") from error
