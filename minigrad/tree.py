"""Trees: nested dicts, lists, tuples and modules whose leaves are arrays; how to save and load them.

A model is a tree, and so are its gradient, a direction in its parameter space and the state of an optimizer.

    flatten(tree)         -> leaves, structure          unflatten(structure, leaves) -> tree
    map(f, tree, *rest)   -> tree of f(leaf, ...)       paths(tree)                  -> "conv1.kernel", ...
    save(path, tree)                                    load(path, like)             -> tree

A node is a dict, list, tuple, named tuple, or a class that was passed to `register`. A dict keeps the order of its
keys, which may be of any type; where two trees meet, the children of dicts are matched by key, whatever their order.
None, strings and functions hold no array: they belong to the structure. Everything else is a leaf, except containers
and dataclasses that are not registered: these raise DTypeError, because their arrays would be overlooked.
"""
from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy
import safetensors.numpy

from .backend import is_float, to_host, xp
from .boundary import guard
from .errors import DTypeError, ShapeError, message, shape, undifferentiable
from .files import TYPES, read, write_whole
from .nodes import LEAF as LEAF
from .nodes import STATIC as STATIC
from .nodes import Structure as Structure
from .nodes import _is_container, _leaf, _node, _nodes
from .nodes import register as register
from .nodes import same as same
from .typing import Tree

LEAVES = {numpy.ndarray, numpy.float32, numpy.float64, float, int}
METADATA = "__metadata__"       # the name of the strings in a safetensors file, beside those of its arrays


def flatten(tree: Tree) -> tuple[list[Any], Structure]:
    """Return the leaves, from left to right, and the structure without them.

    Raises DTypeError for a container or a dataclass that is not registered, ShapeError for a tree that holds itself.
    """
    leaves: list[Any] = []
    try:
        return leaves, _flatten(tree, leaves)
    except RecursionError:
        raise ShapeError("tree.flatten(x): x is nested too deeply, or holds itself\n"
                         "  help: stack equal layers into one array with one more axis") from None


def _flatten(tree: Tree, leaves: list[Any]) -> Structure:
    cls: Any = type(tree)
    if cls in LEAVES:                                       # the usual ones, at once
        leaves.append(tree)
        return _leaf
    node = _nodes.get(cls) or cls.__dict__.get("_minigrad_node")
    if node is None or node.cls not in (None, cls):         # that of the class that this one is a copy of
        if hasattr(cls, "dtype") and not issubclass(cls, tuple):        # an array, or a traced value
            leaves.append(tree)
            return _leaf
        node = _node(cls)
    if node is not None:
        names, children, static = node.split(tree)
        return Structure(cls, tuple(names), static, tuple([_flatten(child, leaves) for child in children]))
    if tree is None or isinstance(tree, (str, type)):
        return Structure(STATIC, (), tree, ())
    if _is_container(cls):
        name = cls.__name__
        raise DTypeError(f"tree.flatten(x): {name} is not registered as a node: arrays in it would be overlooked\n"
                         f"  help: minigrad.tree.register({name}, split, join); or use minigrad.nn.Module for a "
                         "dataclass, and dict(x), list(x) or tuple(x) for a container")
    if callable(tree):
        return Structure(STATIC, (), tree, ())
    leaves.append(tree)
    return _leaf


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Tree:
    """Return the tree with this structure and these leaves. Raises ShapeError where there are too few or too many."""
    left, missing = iter(leaves), object()
    try:
        tree = _unflatten(structure, left)
    except StopIteration:
        tree = missing
    if tree is missing or next(left, missing) is not missing:
        raise ShapeError("tree.unflatten(structure, leaves): too few or too many leaves for this structure\n"
                         "  help: flatten returns both")
    return tree


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Tree:
    if structure.node is LEAF:
        return next(leaves)
    if structure.node is STATIC:
        return structure.static
    children = [_unflatten(child, leaves) for child in structure.children]
    node = _node(structure.node)
    assert node is not None
    return node.join(structure.names, children, structure.static)


def map(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Return the tree of f(leaf, leaf of each of the rest). Raises ShapeError, with a path, where structures differ."""
    leaves, structure = flatten(tree)
    columns = [leaves, *[leaves_like(structure, other, "tree.map") for other in rest]]
    return unflatten(structure, [f(*row) for row in zip(*columns)])


def leaves_like(structure: Structure, tree: Tree, call: str) -> list[Any]:
    """Return the leaves of a tree in the order of this structure: the children of a dict are matched by key.

    Raises ShapeError, naming the call and the path to the first difference, where the tree has another structure.
    """
    leaves, own = flatten(tree)
    return leaves if own == structure else list(_match(structure, own, _nest(own, iter(leaves)), (), call))


def _nest(structure: Structure, leaves: Iterator[Any]) -> Any:
    """Return the leaves in nested lists, one list for each node of this structure."""
    return next(leaves) if structure.node is LEAF else [_nest(child, leaves) for child in structure.children]


def _match(structure: Structure, own: Structure, nested: Any, path: tuple[str, ...], call: str) -> Iterator[Any]:
    index = {name: i for i, name in enumerate(own.names)}
    if structure.node is not own.node or index.keys() != {*structure.names} or not same(structure.static, own.static):
        differ, help = "", "gradients, directions and states have the structure of the parameters they belong to"
        if structure.node is own.node and index.keys() == {*structure.names}:
            differ = f": the settings are {structure.static!r} and {own.static!r}"
            if "<function" in differ:
                help = "a function as a setting must be the same one: name it, and do not make it again for each tree"
        raise ShapeError(f"{call}: two trees differ in structure at {'.'.join(path) or 'the top'}{differ}\n"
                         f"  help: {help}")
    if structure.node is LEAF:
        yield nested
    for name, child in zip(structure.names, structure.children):
        i = index[name]
        yield from _match(child, own.children[i], nested[i], (*path, str(name)), call)


def paths(tree: Tree) -> list[str]:
    """Return the path of each leaf as its name, such as "layers.0.weight"."""
    return list(_paths(flatten(tree)[1], ()))


def _paths(structure: Structure, path: tuple[str, ...]) -> Iterator[str]:
    if structure.node is LEAF:
        yield ".".join(path)
    for name, child in zip(structure.names, structure.children):
        yield from _paths(child, (*path, str(name)))


def size(tree: Tree) -> int:
    """Return the number of elements in all leaves: for a model, its number of parameters."""
    return sum(math.prod(shape(leaf)) for leaf in flatten(tree)[0])


def float_leaves(xs: Iterable[Tree], call: str) -> tuple[list[Any], Structure]:
    """Return the leaves and the structure of the tuple xs. Raises DTypeError, naming the leaf, unless all are floats.

    A Python float becomes a scalar of NumPy, which goes with arrays of either module.
    """
    xs = tuple(xs)
    leaves, structure = flatten(xs)
    for k, (x, part) in enumerate(zip(xs, structure.children)):
        if part.node is STATIC and x is not None:       # a function, or a callable object
            raise undifferentiable(call, f"argument {k}", x)
    leaves = [numpy.float64(x) if type(x) is float else x for x in leaves]
    for k, x in enumerate(leaves):
        if not is_float(x):
            raise undifferentiable(call, f"argument {paths(xs)[k]}", x)
    return leaves, structure


# ------------------------------------------------------------------------------------------------- files

def save(path: str | os.PathLike[str], tree: Tree, metadata: dict[str, str] | None = None) -> None:
    """Write the leaves to a safetensors file, each under its path. The file appears whole or not at all.

    metadata: strings to write beside the arrays. Raises FileError where the file cannot be written, ShapeError where
    two leaves have the same path, DTypeError for dtypes and metadata that such a file cannot hold.
    """
    call, names, leaves = f"tree.save({str(path)!r})", paths(tree), flatten(tree)[0]
    if len(set(names)) < len(names):
        raise ShapeError(f"{call}: two leaves have the same path, {max(names, key=names.count)!r}\n"
                         "  help: use keys without dots, all of one type")
    if METADATA in names:
        raise ShapeError(f"{call}: no leaf can have the path {METADATA}, which a safetensors file uses itself\n"
                         "  help: use another key")
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise DTypeError(f"{call}: metadata must be a dict of strings to strings, not {metadata!r}\n"
                         "  help: json.dumps(value) makes a string of plain data")
    arrays = {name: to_host(leaf).copy(order="C") for name, leaf in zip(names, leaves)}
    masked = [(name, leaf, "") for name, leaf in zip(names, leaves) if isinstance(leaf, numpy.ma.MaskedArray)]
    if masked:
        raise DTypeError(message(call, "the file would lose the mask", masked, "save x.data and x.mask"))
    unfit = [(name, array, "") for name, array in arrays.items() if array.dtype.name not in TYPES.values()]
    if unfit:
        raise DTypeError(message(call, "a safetensors file cannot hold this type", unfit,
                                 "convert it (x.astype(float)); save the real and imaginary parts of complex numbers"))
    write_whole(path, safetensors.numpy.save(arrays, metadata or None))


def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """Return a tree like `like` with the arrays of a file that `save` wrote, on the array module in use.

    Raises FileError where the file is damaged, ShapeError where its paths, shapes or dtypes are not those of `like`.
    """
    arrays, leaves = read(path)[0], []
    names, (old, structure) = paths(like), flatten(like)
    if set(names) != set(arrays):
        raise ShapeError(f"tree.load({str(path)!r}): the file holds another tree\n"
                         f"  missing  {sorted(set(names) - set(arrays))}\n"
                         f"  unknown  {sorted(set(arrays) - set(names))}\n"
                         "  help: load it into the model that it was saved from")
    for name, leaf in zip(names, old):
        dtype = getattr(leaf, "dtype", arrays[name].dtype)
        if arrays[name].shape != shape(leaf) or arrays[name].dtype.name != dtype.name:      # in any order of the bytes
            rows = [("file", arrays[name], ""), ("tree", leaf, "")]
            raise ShapeError(message(f"tree.load({str(path)!r})", f"{name} does not fit", rows))
        leaves.append(xp.asarray(arrays[name]))
    return unflatten(structure, leaves)


guard(__name__)
