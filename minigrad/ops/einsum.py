"""Sums of products over named axes, two operands at a time: each step is one matrix product, or one multiplication.

What an operand alone decides comes first: diagonals, and sums over names that nothing else has. All is written with
other operations, so that derivatives of any order are again products.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy

from ..box import Box, raw
from ..core import LISTS, NUMBERS, as_arrays
from ..errors import DTypeError, ShapeError, message, shape
from ..typing import Array
from .elementwise import multiply
from .products import matmul
from .reductions import sum
from .shaping import getitem, ndim, reshape, transpose

Names = list[str | int]         # of axes: letters, and for those of an ellipsis -1, -2 ... from the last


class Named(NamedTuple):
    """An array whose axes have names."""
    array: Array
    names: Names

    def to(self, *groups: Sequence[str | int]) -> Array:
        """Return the array with one axis for each group of names; the names it lacks have length 1."""
        order = [self.names.index(c) for group in groups for c in group if c in self.names]
        x = self.array if order == [*range(len(order))] else transpose(self.array, order)
        lengths = dict(zip(self.names, shape(self.array)))
        s = tuple(math.prod(lengths.get(c, 1) for c in group) for group in groups)
        return x if shape(x) == s else reshape(x, s)


def einsum(subscripts: str, *operands: Array, optimize: Any = True) -> Array:
    """Return the sum of products over named axes: "ij,jk->ik" is a matrix product, "ii" a trace, "ij->ji" a transpose.

    Names that the output lacks are summed over; without "->" it has those that occur once, in alphabetical order. "..."
    stands for axes that broadcast. optimize is NumPy's and changes nothing: of the operands left, the two with the
    smallest product come next. Raises ShapeError, and DTypeError for NumPy's other form, einsum(a, [0, 1], ...).
    """
    if not isinstance(subscripts, str):
        raise DTypeError(message("einsum(subscripts, ...)", "the names of axes come first, as a string",
                                 [("subscripts", subscripts, "")], 'einsum("ij,jk->ik", a, b)'))
    operands = tuple(as_arrays(operands, LISTS + NUMBERS))
    terms, output = _names(subscripts, operands)
    lengths = _lengths(subscripts, terms, operands)
    left = [_squeezed(Named(x, names), lengths) for x, names in zip(operands, terms)]
    left = [_reduced(x, _others(left, [i], output)) for i, x in enumerate(left)]
    while len(left) > 1:
        pairs = itertools.combinations(range(len(left)), 2)
        i, j = min(pairs, key=lambda pair: _size(left, pair, output, lengths)) if len(left) > 2 else (0, 1)
        y = _product(left[i], left[j], _others(left, [i, j], output))
        left = [y, *(x for k, x in enumerate(left) if k not in (i, j))]
    y = left[0].to(*([c] for c in output))
    dtype = numpy.result_type(*[raw(x).dtype for x in operands])        # sums of small integers are wider
    return y if type(y) is Box or y.dtype == dtype else y.astype(dtype)


def _names(subscripts: str, operands: Sequence[Array]) -> tuple[list[Names], Names]:
    """Return the names of the axes of each operand, and those of the output."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"einsum({subscripts!r}, ...): {len(terms)} terms for {len(operands)} arrays")
    found, dots = [], 0
    for term, x in zip(terms, operands):
        free = ndim(x) - len(term.replace("...", ""))
        if free < 0 or free > 0 and "..." not in term:
            raise ShapeError(message(f"einsum({subscripts!r}, ...)", f"{term!r} does not name the axes of its array",
                                     [("x", x, "")], "one letter for each axis; '...' stands for any number of them"))
        found.append(_term(term, free, subscripts))
        dots = max(dots, free if "..." in term else 0)
    every = list(itertools.chain(*found))
    if not arrow:
        return found, [*range(-dots, 0), *sorted({c for c in every if isinstance(c, str) and every.count(c) == 1})]
    out = _term(output, dots, subscripts)
    if len({*out}) < len(out) or not {*out} <= {*every, *range(-dots, 0)} or dots and "..." not in output:
        raise ShapeError(f"einsum({subscripts!r}, ...): the output names each axis once, of those of the operands, and "
                         "has '...' if one of them has")
    return found, out


def _term(term: str, free: int, subscripts: str) -> Names:
    first, dots, last = term.partition("...")
    if not all(c.isascii() and c.isalpha() for c in first + last):
        raise ShapeError(f"einsum({subscripts!r}, ...): axes are named by letters, and '...' stands once in a term")
    return [*first, *(range(-free, 0) if dots else ()), *last]


def _lengths(subscripts: str, terms: Iterable[Names], operands: Iterable[Array]) -> dict[str | int, int]:
    """Return the length of each name. Raises ShapeError where it has two, of which neither is 1."""
    lengths: dict[str | int, int] = {}
    for names, x in zip(terms, operands):
        own: dict[str | int, int] = {}
        for c, n in zip(names, shape(x)):
            if own.setdefault(c, n) != n or 1 not in (n, lengths.get(c, 1)) and lengths[c] != n:
                raise ShapeError(message(f"einsum({subscripts!r}, ...)", f"axis {c!r} has two lengths",
                                         [(f"array {i}", y, "") for i, y in enumerate(operands)]))
        lengths |= {c: n for c, n in own.items() if n != 1 or c not in lengths}
    return lengths


def _squeezed(x: Named, lengths: dict[str | int, int]) -> Named:
    """Return x with diagonals in place of names that stand twice, without axes of length 1 that others stretch."""
    array, names = x
    for c in {c for c in names if names.count(c) > 1}:
        while names.count(c) > 1:                           # every (n + 1)th element of the n n of a square
            i, j = [k for k, name in enumerate(names) if name == c][:2]
            rest = [k for k in range(len(names)) if k not in (i, j)]
            n, s = shape(array)[i], tuple(shape(array)[k] for k in rest)
            array = getitem(reshape(transpose(array, [i, j, *rest]), (n * n, *s)), slice(None, None, n + 1))
            names = [c, *(names[k] for k in rest)]
    kept = [k for k, c in enumerate(names) if shape(array)[k] == lengths[c]]
    return Named(reshape(array, tuple(shape(array)[k] for k in kept)) if len(kept) < len(names) else array,
                 [names[k] for k in kept])


def _others(left: Sequence[Named], done: Sequence[int], output: Names) -> set[str | int]:
    """Return the names that are needed besides the operands with these indices."""
    return {*output, *(c for k, x in enumerate(left) if k not in done for c in x.names)}


def _reduced(x: Named, needed: set[str | int]) -> Named:
    """Return x summed over the names that nothing else needs."""
    axes = tuple(k for k, c in enumerate(x.names) if c not in needed)
    return Named(sum(x.array, axes), [c for c in x.names if c in needed]) if axes else x


def _size(left: Sequence[Named], pair: tuple[int, int], output: Names, lengths: dict[str | int, int]) -> int:
    """Return the number of elements of the product of two operands."""
    names = {*left[pair[0]].names, *left[pair[1]].names} & _others(left, pair, output)
    return math.prod(lengths[c] for c in names)


def _product(a: Named, b: Named, needed: set[str | int]) -> Named:
    """Return the product of two operands, summed over the names that they share and nothing else needs."""
    both = [c for c in a.names if c in b.names]
    inner, batch = [c for c in both if c not in needed], [c for c in both if c in needed]
    rows, columns = ([c for c in x.names if c not in both] for x in (a, b))
    names = [*batch, *rows, *columns]
    if not inner:
        each = [[c] for c in names]
        return Named(multiply(a.to(*each), b.to(*each)), names)
    stacked = [batch] if batch else []
    lengths = dict(zip(a.names + b.names, shape(a.array) + shape(b.array)))
    y = matmul(a.to(*stacked, rows, inner), b.to(*stacked, inner, columns))
    return Named(reshape(y, tuple(lengths[c] for c in names)), names)
