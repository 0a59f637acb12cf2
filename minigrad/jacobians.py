"""All partial derivatives at once. For trees, the result is the tree of y with the tree of x in place of each leaf."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from . import tree
from .backend import module_of
from .box import raw
from .errors import shape
from .kinds import is_integer
from .ops import reshape, stack
from .transforms import _bind, _full_like, _linearize, named, title
from .typing import Array, Tree

P = ParamSpec("P")


def jacobian(f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[P, Any]:
    """Return the function that returns all partial derivatives: for y of shape sy and x of shape sx, shape sy + sx.

    It is built from pulls if y has no more elements than x, else from pushes. argnums: as in grad. With has_aux, f
    returns (y, aux) and the function returns (jacobian, aux). Raises ShapeError and DTypeError.

    >>> import numpy as np
    >>> jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _all_partials(f, argnums, has_aux, "jacobian", lambda rows, columns: rows <= columns)


def jacfwd(f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[P, Any]:
    """Return jacobian(f), always built from pushes."""
    return _all_partials(f, argnums, has_aux, "jacfwd", lambda rows, columns: False)


def jacrev(f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[P, Any]:
    """Return jacobian(f), always built from pulls."""
    return _all_partials(f, argnums, has_aux, "jacrev", lambda rows, columns: True)


def _all_partials(f: Callable[P, Any], argnums: int | Sequence[int], has_aux: bool, name: str,
                  by_pulls: Callable[[int, int], bool]) -> Callable[P, Any]:
    """Return the function of jacobian. by_pulls(elements of y, elements of x): whether to pull its rows."""
    @named(f, name)
    def full(*xs: Tree, **params: Any) -> Any:
        chosen, inner = _bind(f, argnums, xs, params, f"{name}(f)")
        y, push, pull, aux = _linearize(inner, chosen, has_aux, f"{name}(f)")
        (ins, structure), (outs, out_structure) = tree.float_leaves(chosen, f"{name}(f)"), tree.flatten(y)
        if by_pulls(tree.size(outs), tree.size(ins)):
            rows = [_sweep(pull, out_structure, outs, i, ins, 0) for i in range(len(outs))]
        else:
            columns = [_sweep(lambda t: push(*t), structure, ins, j, outs, -1) for j in range(len(ins))]
            rows = [[column[i] for column in columns] for i in range(len(outs))]
        trees = [tree.unflatten(structure, row) for row in rows]
        J = tree.unflatten(out_structure, [t[0] for t in trees] if is_integer(argnums) else trees)
        return (J, aux) if has_aux else J
    return full


def _sweep(walk: Callable[[Tree], Tree], structure: tree.Structure, leaves: list[Any], chosen: int,
           others: list[Any], axis: int) -> list[Array]:
    """Push or pull every unit vector of one leaf, and stack the results for each leaf at the other end.

    The axes of the chosen leaf come first in the stack (axis 0) or last (axis -1).
    """
    s, results = shape(leaves[chosen]), []
    for k in range(math.prod(s)):
        unit = [_full_like(leaf, 0.0) for leaf in leaves]
        if s:
            unit[chosen].reshape(-1)[k] = 1.0
        else:
            unit[chosen] = _full_like(leaves[chosen], 1.0)
        results.append(tree.flatten(walk(tree.unflatten(structure, unit)))[0])
    joined = [s + shape(x) if axis == 0 else shape(x) + s for x in others]
    if not results:
        return [module_of(raw(x)).zeros(s, raw(x).dtype) for s, x in zip(joined, others)]
    return [reshape(stack([r[i] for r in results], axis), s) for i, s in enumerate(joined)]


def hessian(f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[P, Any]:
    """Return the function that returns all second derivatives: jacobian(jacobian(f)).

    For y of shape sy and x of shape sx the result has shape sy + sx + sx and is symmetric in the two x; for a scalar f
    of a vector it is a symmetric matrix. argnums: as in grad. With has_aux, f returns (y, aux) and the function returns
    (hessian, aux).

    >>> import numpy as np
    >>> hessian(lambda x: x[0] * x[1])(np.array([1.0, 2.0]))
    array([[0., 1.],
           [1., 0.]])
    """
    second: Callable[..., Any] = jacobian(jacobian(f, argnums, has_aux), argnums, has_aux)
    second.__name__ = second.__qualname__ = title(f, "hessian")
    return second
