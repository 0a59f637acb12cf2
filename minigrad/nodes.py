"""The nodes of trees, containers and registered classes, and structures: trees without their leaves.

Public in tree.py, which says what is a node and what a leaf.
"""
from __future__ import annotations

import collections
import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy

from .backend import to_host
from .boundary import guard

T = TypeVar("T")


class End(enum.Enum):
    """The end of a structure, in place of the type of a node. Copies and pickles of a member are the member itself."""
    LEAF = "leaf"
    STATIC = "static"


LEAF, STATIC = End.LEAF, End.STATIC


class Structure(NamedTuple):
    """A tree without its leaves. Equal structures have the same nodes, names in the same order, and settings."""
    node: Any                               # the type of the node; LEAF or STATIC where the tree ends
    names: tuple[Any, ...]                  # of the children: keys, indices or fields
    static: Any                             # settings that the node holds besides its children
    children: tuple[Structure, ...]

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Structure) and self.node is other.node and self.names == other.names
            and (self.static is other.static or same(self.static, other.static)) and self.children == other.children)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.node, self.names, self.children))


class _Node(NamedTuple):
    split: Callable[[Any], tuple[Iterable[Any], Iterable[Any], Any]]        # tree -> names, children, static
    join: Callable[[Any, Any, Any], Any]                                    # names, children, static -> tree
    cls: Any = None                                                         # that it was registered for


_leaf = Structure(LEAF, (), None, ())


def _split_sequence(sequence: Sequence[Any]) -> tuple[Iterable[Any], Iterable[Any], None]:
    return range(len(sequence)), sequence, None


def _split_dict(tree: Mapping[Any, Any]) -> tuple[Iterable[Any], Iterable[Any], None]:
    return tree.keys(), tree.values(), None


_nodes: dict[type, _Node] = {
    dict: _Node(_split_dict, lambda names, children, static: dict(zip(names, children))),
    collections.OrderedDict: _Node(_split_dict, lambda names, children, static: collections.OrderedDict(
        zip(names, children))),
    collections.defaultdict: _Node(lambda tree: (*_split_dict(tree)[:2], tree.default_factory),
                                   lambda names, children, static: collections.defaultdict(
                                       static, zip(names, children))),
    tuple: _Node(_split_sequence, lambda names, children, static: tuple(children)),
    list: _Node(_split_sequence, lambda names, children, static: list(children)),
}


def register(cls: type[T], split: Callable[[T], tuple[Iterable[Any], Iterable[Any], Any]],
             join: Callable[[tuple[Any, ...], list[Any], Any], T]) -> None:
    """Make a class a node: split(tree) -> names, children, static; join(names, children, static) -> tree.

    names: one for each child, hashable and all different.
    """
    node = _Node(split, join, cls)
    try:
        cls._minigrad_node = node       # type: ignore[attr-defined]
    except (TypeError, AttributeError):                     # a class of Python or of C
        _nodes[cls] = node


def _node(cls: Any) -> _Node | None:
    """Return how to split and join this class, or None for a leaf. Registers a named tuple when it meets one.

    The node of a class is an attribute of it, and ends with it; a class does not inherit it.
    """
    node: _Node | None = _nodes.get(cls) or cls.__dict__.get("_minigrad_node")
    if node is not None and node.cls not in (None, cls):    # that of the class that this one is a copy of
        node = None
    if node is None and issubclass(cls, tuple) and hasattr(cls, "_fields"):
        register(cls, lambda t: (cls._fields, t, None), lambda names, children, static: cls._make(children))
        return _node(cls)
    return node


def _is_container(cls: type) -> bool:
    """Return whether this class, which is not a node, is a container or a dataclass, and so not a leaf either."""
    return dataclasses.is_dataclass(cls) or issubclass(cls, (Mapping, list, tuple, collections.deque,
                                                             collections.UserList))


def same(a: Any, b: Any) -> bool:
    """Return whether two settings are equal.

    Arrays are equal if dtype, shape and elements are; NaN equals NaN; objects without == are compared by attributes.
    """
    if a is b:
        return True
    if type(a) is type(b):
        cls: Any = type(a)
        if cls is tuple and len(a) == len(b) and all([x is y for x, y in zip(a, b)]):       # the usual case, at once
            return True
        node = _node(cls)
        if node is not None:
            (a_names, a_children, a_static), (b_names, b_children, b_static) = node.split(a), node.split(b)
            x, y = dict(zip(a_names, a_children)), dict(zip(b_names, b_children))
            return x.keys() == y.keys() and all([same(x[k], y[k]) for k in x]) and same(a_static, b_static)
        if issubclass(cls, functools.partial):
            return same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
        if (cls.__eq__ is object.__eq__ or dataclasses.is_dataclass(cls)) and getattr(a, "__dict__", None):
            return same(vars(a), vars(b))
    if hasattr(type(a), "dtype") or hasattr(type(b), "dtype"):
        a, b = to_host(a), to_host(b)
        return bool(a.dtype == b.dtype and numpy.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    return bool(a == b or (isinstance(a, float) and isinstance(b, float) and a != a and b != b))


guard(__name__)
