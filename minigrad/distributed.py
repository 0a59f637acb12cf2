"""Many ranks that compute one thing: collectives as linear maps.

    mpiexec -n 4 python -m mpi4py program.py        # the same program on four ranks, which all end if one fails

    comm = world()                                  # Alone without mpiexec: then all of this costs nothing
    x, y = part(x, comm), part(y, comm)             # this rank's examples
    r = reweighted_gradient(losses, clean_loss, params, comm=comm)      # Algorithm 1 on the whole batch

A value of such a program is an array on each rank, and **what the ranks compute adds up**: a derivative is that of the
sum over ranks of what they return. So a rank returns its part, such as `mean_part(losses)`. A value that all ranks have
already, such as `allsum(...)`, would be added `size` times.

    allsum(x)       the sum over ranks, on each of them            its own adjoint
    share(params)   parameters that all ranks hold alike           push: itself; pull: the sum over ranks

Both are linear, and their adjoints are written with them, so that the derivatives of every order are exact: what is
computed on many ranks is the same linear map as on one. Communicators are those of communicators.py: each `comm` here
is one of them or one of mpi4py, and None stands for the world.
"""
from __future__ import annotations

import builtins
import dataclasses
import hashlib
import math
from typing import Any, TypeVar

import numpy

from . import tree
from .backend import module_of, to_host
from .boundary import guard
from .box import Box, raw
from .communicators import Alone, Communicator, MPICommunicator, find, world
from .core import LinearMap, Primitive, replaceable
from .errors import RankError, shape
from .functions import _bundle, _unpack
from .ops import collectives, concatenate, mean, pad, reshape, sum, where
from .transforms import _Form, as_type_of
from .typing import Array, Tree

T = TypeVar("T")
__all__ = ["Alone", "Communicator", "MPICommunicator", "allmean", "allsum", "broadcast", "check_equal", "mean_part",
           "part", "rank", "share", "size", "synchronize", "whole", "world"]


def rank(comm: Any = None) -> int:
    """Return the number of this rank, from 0."""
    return find(comm).rank


def size(comm: Any = None) -> int:
    """Return the number of ranks: 1 without mpiexec."""
    return find(comm).size


def allsum(x: Array, comm: Any = None) -> Array:
    """Return the sum over all ranks of x, which has the same shape and type on each; every rank gets the same bits.

    It is linear, and its own adjoint. Raises RankError where ranks do not do the same thing or do not answer.
    """
    return collectives.allsum(x, find(comm))


def allmean(x: Array, comm: Any = None) -> Array:
    """Return the mean over all ranks of x, element by element: allsum(x) / size. Linear, and its own adjoint.

    The mean over examples, of which ranks may have different numbers, is allsum(mean_part(x)).
    """
    return allsum(x, comm) / size(comm)


def mean_part(x: Array, comm: Any = None) -> Array:
    """Return this rank's part of the mean over all examples, sum(x) / their number on all ranks: the parts add up.

    x: (n,), of this rank's examples; a loss to differentiate. For one rank it is their mean.
    """
    ranks = find(comm)
    if ranks.size == 1:
        return mean(x)
    return sum(x) / ranks.allsum(module_of(raw(x)).full((), shape(x)[0], raw(x).dtype))


def broadcast(x: Tree, root: int = 0, comm: Any = None) -> Tree:
    """Return the tree of arrays that the rank `root` has, on all ranks; each passes one of the same shapes and types.

    It is linear: its pull is the sum over ranks, at the root. To start from the same parameters everywhere, pass them
    through it. Raises RankError where there is no such rank.
    """
    ranks = find(comm)
    if not 0 <= root < ranks.size:
        raise RankError(f"broadcast(x, root={root}): there are ranks 0 to {ranks.size - 1}")
    if ranks.size == 1:
        return x

    def of_root(leaf: Any) -> Array:
        leaf = leaf if hasattr(leaf, "dtype") else numpy.asarray(leaf)
        if leaf.dtype == bool:
            return of_root(leaf.astype("uint8")).astype(bool)
        return collectives.allsum(where(ranks.rank == root, leaf, raw(leaf).dtype.type(0)), ranks)
    return tree.map(of_root, x)


def share(params: T, comm: Any = None) -> T:
    """Return the parameters themselves, as what all ranks hold alike: the pull adds up the cotangents of all ranks.

    params: a tree of the same values on all ranks. The gradients of all its leaves travel in one message for each type.
    """
    ranks = find(comm)
    leaves, structure = tree.flatten(params)
    watched = [k for k, leaf in enumerate(leaves) if type(leaf) is Box]
    if ranks.size > 1 and watched:
        together = _share(_bundle(*[leaves[k] for k in watched]), comm=ranks)
        for k, leaf in zip(watched, _unpack(together, len(watched))):
            leaves[k] = leaf
    shared: T = tree.unflatten(structure, leaves)
    return shared


def _share_rule(i: int, y: Any, xs: Any, comm: Communicator) -> LinearMap:
    forms = [_Form(x) for x in raw(xs)]
    return LinearMap(lambda ts: ts, lambda gs: _sum_together([as_type_of(*pair) for pair in zip(forms, gs)], comm))


def _sum_together(gs: list[Array], comm: Communicator) -> tuple[Array, ...]:
    """Return the sums over ranks of these arrays: those of one type are joined and summed in one message."""
    sums: dict[int, Array] = {}
    for dtype in dict.fromkeys(raw(g).dtype for g in gs):
        some = [k for k, g in enumerate(gs) if raw(g).dtype == dtype]
        total = collectives.allsum(_join(*[gs[k] for k in some]), comm)
        start = 0
        for k in some:
            end = start + math.prod(shape(gs[k]))
            sums[k] = reshape(total[start:end], shape(gs[k]))
            start = end
    return tuple(sums[k] for k in range(len(gs)))


@replaceable
def _join(*xs: Array) -> Array:
    """Return the elements of all arrays, of one type, in one row."""
    return concatenate([reshape(x, -1) for x in xs])


_share = Primitive(lambda xs, comm: xs, _share_rule, "share")


def synchronize(model: T, comm: Any = None) -> T:
    """Return a model whose layers with a setting `comm`, such as nn.BatchNorm, compute over all ranks.

    model: a module, or any tree of them.
    """
    ranks, (leaves, structure) = find(comm), tree.flatten(model)

    def over_ranks(part: tree.Structure) -> tree.Structure:
        static, fields = part.static, dataclasses.fields(part.node) if dataclasses.is_dataclass(part.node) else ()
        names = [f.name for f in fields if f.metadata.get("static")]
        if "comm" in names:
            static = tuple(ranks if name == "comm" else value for name, value in zip(names, static))
        return part._replace(static=static, children=tuple(map(over_ranks, part.children)))
    synchronized: T = tree.unflatten(over_ranks(structure), leaves)
    return synchronized


def part(x: Any, comm: Any = None) -> Any:
    """Return this rank's rows of x, consecutive ones: as many as the other ranks have, or one more or fewer.

    x: an array or a sequence, the same on all ranks; also one of indices.
    """
    ranks = find(comm)
    first, end = (len(x) * k // ranks.size for k in (ranks.rank, ranks.rank + 1))
    return x[first:end]


def whole(x: Array, comm: Any = None) -> Array:
    """Return the rows of all ranks joined in the order of ranks: that of which `part` takes one. Linear."""
    ranks = find(comm)
    if ranks.size == 1:
        return x
    counts = ranks.gather(shape(x)[0])
    before, after = builtins.sum(counts[:ranks.rank]), builtins.sum(counts[ranks.rank + 1:])
    return collectives.allsum(pad(x, [(before, after)] + [(0, 0)] * (len(shape(x)) - 1)), ranks)


def check_equal(params: Tree, comm: Any = None) -> None:
    """Raise RankError, on all ranks, unless the arrays of a tree have the same bits on each of them."""
    ranks = find(comm)
    if ranks.size == 1:
        return
    digest = hashlib.sha256()
    for leaf in tree.flatten(params)[0]:
        digest.update(numpy.ascontiguousarray(to_host(leaf)).tobytes())
    digests = ranks.gather(digest.hexdigest())
    others = [k for k, each in enumerate(digests) if each != digests[0]]
    if others:
        raise RankError(f"the parameters of rank {', '.join(map(str, others))} differ from those of rank 0\n"
                        "  help: all ranks start from the same parameters (broadcast), and take the same steps with "
                        "gradients that were summed over all ranks")


guard(__name__)
