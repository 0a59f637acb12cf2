"""Sums of products over named axes. Each step is one matrix product, one multiplication, or of one operand alone."""
from __future__ import annotations

import itertools
import math
import string
from collections.abc import Collection, Sequence
from typing import Any

import numpy

from ..box import Box, raw
from ..core import LISTS, NUMBERS, as_arrays
from ..errors import DTypeError, ShapeError, message, shape
from ..typing import Array, Shape
from .elementwise import multiply
from .products import matmul
from .reductions import sum
from .shaping import getitem, reshape, transpose

Names = tuple[str | int, ...]   # of axes: letters, and for those of an ellipsis -1, -2 ... from the last
Named = tuple[Array, Names]
LETTERS = string.ascii_uppercase + string.ascii_lowercase     # in the order of their code points, as integers are


def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Array:
    """Return the sum of products over named axes: "ij,jk->ik" is a matrix product, "ii" a trace, "ij->ji" a transpose.

    Names that the output lacks are summed over; without "->" it has those that occur once, in alphabetical order. "..."
    stands for axes that broadcast. NumPy's other form, einsum(a, [0, 1], b, [1, 2], [0, 2]), has lists of integers for
    names. optimize is NumPy's and changes nothing: the two operands with the smallest product always come next. Raises
    ShapeError and DTypeError.
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _spelled(subscripts, *operands)
    operands = tuple(as_arrays(operands, LISTS + NUMBERS))
    terms, output = _names(subscripts, [shape(x) for x in operands])
    lengths: dict[str | int, int] = {}
    for names, x in zip(terms, operands):
        if any([n != 1 and lengths.setdefault(c, n) != n for c, n in zip(names, shape(x))]):
            raise ShapeError(message(f"einsum({subscripts!r}, ...)", "a name stands for axes of two lengths",
                                     [(f"array {i}", y, "") for i, y in enumerate(operands)]))
    left = [_distinct((x, names), lengths) for x, names in zip(operands, terms)]
    while True:
        left = [_reduced(x, _needed(left, (i,), output)) for i, x in enumerate(left)]
        if len(left) == 1:
            break
        pair = min(itertools.combinations(range(len(left)), 2), key=lambda pair: math.prod(
            [lengths.get(c, 1) for c in {*left[pair[0]][1], *left[pair[1]][1]} & _needed(left, pair, output)]))
        y = _product(left[pair[0]], left[pair[1]], _needed(left, pair, output))
        left = [y, *(x for i, x in enumerate(left) if i not in pair)]
    y, dtype = _arranged(left[0], *zip(output)), numpy.result_type(*[raw(x).dtype for x in operands])
    return y if type(y) is Box or y.dtype == dtype else y.astype(dtype)     # sums of small integers are wider


def _spelled(*args: Any) -> tuple[str, tuple[Array, ...]]:
    """Return names as a string, and the operands, of lists of integers behind the operands and of the output."""
    lists = [*args[1::2], *args[len(args) - len(args) % 2:]]
    try:
        terms = ["".join("..." if c is Ellipsis else LETTERS[c] for c in names) for names in lists]
    except (TypeError, IndexError):
        raise DTypeError(message("einsum(subscripts, ...)", "the names of axes come first, as a string",
                                 [("subscripts", args[0], "")], 'einsum("ij,jk->ik", a, b)')) from None
    count = len(args) // 2
    return "->".join([",".join(terms[:count]), *terms[count:]]), args[:2 * count:2]


def _names(subscripts: str, shapes: Sequence[Shape]) -> tuple[list[Names], Names]:
    """Return the names of the axes of each operand, and those of the output."""
    inputs, arrow, last = subscripts.replace(" ", "").partition("->")
    free = [len(s) - len(term.replace("...", "")) for term, s in zip(inputs.split(","), shapes)]
    dots = max([n for n, term in zip(free, inputs.split(",")) if "..." in term], default=0)

    def named(term: str, free: int) -> Names:
        first, ellipsis, last = term.partition("...")
        if free < 0 or free > 0 and not ellipsis or not (first + last + "a").isalpha():
            raise ShapeError(f"einsum({subscripts!r}, ...): {term!r} is no list of names for its axes\n"
                             "  help: one letter for each axis; '...' once, for any number of them")
        return (*first, *range(-free, 0), *last)
    if inputs.count(",") + 1 != len(shapes):
        raise ShapeError(f"einsum({subscripts!r}, ...): {inputs.count(',') + 1} terms for {len(shapes)} arrays")
    terms = [named(term, n) for term, n in zip(inputs.split(","), free)]
    every = [c for names in terms for c in names]
    if not arrow:
        return terms, (*range(-dots, 0), *sorted([c for c in every if isinstance(c, str) and every.count(c) == 1]))
    output = named(last, dots)
    if len({*output}) < len(output) or not {*output} <= {*every}:
        raise ShapeError(f"einsum({subscripts!r}, ...): the output names each axis once, of those of the operands")
    return terms, output


def _arranged(x: Named, *groups: Collection[str | int]) -> Array:
    """Return the array with one axis for each group of names; a name that it lacks has length 1."""
    array, names = x
    order = [names.index(c) for group in groups for c in group if c in names]
    lengths = dict(zip(names, shape(array)))
    s = tuple([math.prod([lengths.get(c, 1) for c in group]) for group in groups])
    array = array if order == [*range(len(order))] else transpose(array, order)
    return array if shape(array) == s else reshape(array, s)


def _distinct(x: Named, lengths: dict[str | int, int]) -> Named:
    """Return x with diagonals for names that stand twice, and without axes of length 1 that others stretch."""
    array, names = x
    while twice := [c for c in names if names.count(c) > 1]:
        i, j = [k for k, c in enumerate(names) if c == twice[0]][:2]
        rest = [k for k in range(len(names)) if k not in (i, j)]
        n, s = shape(array)[i], tuple([shape(array)[k] for k in rest])
        square = reshape(transpose(array, [i, j, *rest]), (n * n, *s))
        array, names = getitem(square, slice(None, None, n + 1)), (twice[0], *[names[k] for k in rest])
    kept = tuple([c for c, n in zip(names, shape(array)) if n == lengths.get(c, 1)])
    return (array if kept == names else reshape(array, tuple([lengths.get(c, 1) for c in kept]))), kept


def _needed(left: Sequence[Named], done: Sequence[int], output: Names) -> set[str | int]:
    """Return the names that the output or other operands than these have."""
    return {*output, *[c for i, (_, names) in enumerate(left) if i not in done for c in names]}


def _reduced(x: Named, needed: set[str | int]) -> Named:
    """Return x summed over the names that are not needed."""
    axes = tuple([k for k, c in enumerate(x[1]) if c not in needed])
    return (sum(x[0], axes), tuple([c for c in x[1] if c in needed])) if axes else x


def _product(a: Named, b: Named, needed: set[str | int]) -> Named:
    """Return the product of two operands, summed over the names that they share and nothing else needs."""
    both = [c for c in a[1] if c in b[1]]
    inner, batch = [c for c in both if c not in needed], [c for c in both if c in needed]
    rows, columns = ([c for c in names if c not in both] for _, names in (a, b))
    names = (*batch, *rows, *columns)
    if not inner:
        return multiply(_arranged(a, *zip(names)), _arranged(b, *zip(names))), names
    lengths, stacked = dict(zip(a[1] + b[1], shape(a[0]) + shape(b[0]))), [batch] if batch else []
    y = matmul(_arranged(a, *stacked, rows, inner), _arranged(b, *stacked, inner, columns))
    return reshape(y, tuple([lengths[c] for c in names])), names
