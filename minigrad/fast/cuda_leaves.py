"""Forms for CuPy that work on all leaves of a tree in one kernel: the steps of the optimizers; and copies, for capture.

The kernels are in leaves.cu.
"""
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy

from .. import optim
from ..backend import module_of, on_device
from ..typing import Array
from . import cuda
from .cublas import has_kernels
from .cuda import THREADS, type_name

TABLE = 4000            # bytes: see leaves.cu
BLOCKS = 1024           # at most, for a leaf


def _launch(xp: Any, name: str, rows: Sequence[Sequence[int]], *args: Any) -> None:
    """Launch a kernel of leaves.cu, several times if the leaves are many.

    rows: for each leaf the members of Leaf: its size, whether it decays, and the addresses of its arrays.
    """
    most = TABLE // (8 * len(rows[0]))
    for first in range(0, len(rows), most):
        some = numpy.array(rows[first:first + most], "int64")
        table = numpy.zeros(TABLE // 8, "int64")
        table[:some.size] = some.reshape(-1)
        blocks = min(-(-int(some[:, 0].max()) // (4 * THREADS)), BLOCKS)
        cuda.launch(xp, "leaves.cu", name, (blocks, len(some)), table.view(f"V{TABLE}"), *args)


def copy(pairs: Iterable[tuple[Array, Array]]) -> None:
    """Write to the first array of each pair what the second one holds, which has the same shape and type.

    No array may overlap one of another pair. All lie on the device.
    """
    rows = []
    for to, source in pairs:
        addresses = to.data.ptr, source.data.ptr
        in_words = not any(n % 4 for n in (*addresses, to.nbytes))
        if to.size and in_words and to.flags.c_contiguous and source.flags.c_contiguous:
            rows.append((to.nbytes // 4, 0, *addresses))
            xp = module_of(to)
        else:
            to[...] = source
    if rows:
        _launch(xp, "copy_words", rows)


def join(*leaves: Array) -> Any:
    """Return the elements of all leaves in one row, without a table of addresses from the host."""
    if not all(map(on_device, leaves)) or len({leaf.dtype for leaf in leaves}) > 1:
        return NotImplemented
    xp = module_of(*leaves)
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    joined = xp.empty(ends[-1], leaves[0].dtype)
    copy([(joined[end - leaf.size:end], xp.ascontiguousarray(leaf).reshape(-1)) for end, leaf in zip(ends, leaves)])
    return joined


def zero_unless(condition: Array, *leaves: Array) -> Any:
    """Return the leaves, or zeros if the condition, an array of one bool, is false."""
    is_bool = on_device(condition) and condition.dtype == bool and condition.size == 1
    if not (leaves and is_bool and has_kernels(*leaves)):
        return NotImplemented
    xp = module_of(condition)
    pairs = [(xp.empty(leaf.shape, leaf.dtype), xp.ascontiguousarray(leaf)) for leaf in leaves]
    _launch(xp, f"zero_unless<{type_name(leaves[0].dtype)}>",
            [(to.size, 0, to.data.ptr, source.data.ptr) for to, source in pairs], condition)
    return tuple([to for to, _ in pairs])


def sgd(rate: Any, momentum: Any, decay: Any, nesterov: bool, decays: tuple[bool, ...], *leaves: Array) -> Any:
    """Return the parameters of all leaves after a step, then the momenta; see optim._sgd_steps."""
    if not (_is_number(rate) and type(momentum) is type(decay) is float):
        return NotImplemented

    def settings(dtype: Any) -> tuple[Any, ...]:
        return (*_number(rate, dtype), dtype.type(momentum), dtype.type(decay), numpy.int32(nesterov))

    def of_one(decays: bool, p: Array, g: Array, m: Array = None) -> Any:
        return optim._sgd_step(p, g, m, rate, momentum, decay if decays else 0.0, nesterov)
    columns = optim._columns(leaves, 2 if momentum == 0.0 else 3)
    return _step("sgd", 5, settings, of_one, decay, decays, columns)


def adam(rate: Any, b1: Any, b2: Any, fair1: Any, fair2: Any, eps: Any, decay: Any, decays: tuple[bool, ...],
         *leaves: Array) -> Any:
    """Return the parameters of all leaves after a step, then the averages; see optim._adam_steps."""
    if not (all(map(_is_number, (rate, fair1, fair2))) and type(b1) is type(b2) is type(eps) is type(decay) is float):
        return NotImplemented

    def settings(dtype: Any) -> tuple[Any, ...]:
        return (*_number(rate, dtype), *_number(fair1, dtype), *_number(fair2, dtype),
                *map(dtype.type, (b1, b2, 1.0 - b1, 1.0 - b2, eps, decay)))

    def of_one(decays: bool, p: Array, g: Array, m: Array, v: Array) -> Any:
        return optim._adam_step(p, g, m, v, rate, b1, b2, fair1, fair2, eps, decay if decays else 0.0)
    return _step("adam", 7, settings, of_one, decay, decays, optim._columns(leaves, 4))


def _is_number(x: Any) -> bool:
    """Return whether x is a Python float, or an array of the device without axes."""
    return type(x) is float or on_device(x) and not x.ndim


def _number(x: Any, dtype: Any) -> tuple[Array, Any]:
    """Return the two parameters of a kernel that stand for a number: where on the device it is, or what it is."""
    return (x.astype(dtype, copy=False), dtype.type(0)) if on_device(x) else (None, dtype.type(x))


def _step(name: str, width: int, settings: Callable[..., Any], of_one: Callable[..., Any], decay: float,
          decays: tuple[bool, ...], columns: list[Sequence[Array]]) -> tuple[Array, ...]:
    """Return the results of an optimizer's kernel for the leaves that it is made for, and of its definition for others.

    Args:
        name: of the kernel.
        width: how many arrays a leaf has in its table.
        settings: settings(dtype) -> the parameters after the table.
        of_one: of_one(decays, p, g, *state) -> the new p and state, by the definition.
        decay: of the leaves that decay.
        decays: which leaves do.
        columns: all parameters, all gradients, and each part of the state.
    """
    found: list[Any] = []
    groups: dict[Any, list[tuple[Any, ...]]] = {}
    for decaying, arrays in zip(decays, zip(*columns), strict=True):
        p, g, *state = arrays
        if not has_kernels(*arrays) or any(x.shape != p.shape for x in arrays):
            found.append(of_one(decaying, *arrays)[:1 + len(state)])
            continue
        xp = module_of(p)
        found.append([xp.empty(p.shape, p.dtype) for _ in (p, *state)])
        groups.setdefault(p.dtype, []).append((decaying, found[-1], *map(xp.ascontiguousarray, arrays)))
    for dtype, group in groups.items():                     # which keeps the arrays until the kernel is launched
        rows = []
        for decaying, (new_p, *new), p, g, *state in group:
            arrays = (p, g, new_p, *(x for pair in zip(state, new) for x in pair))
            addresses = [x.data.ptr for x in arrays]
            rows.append((p.size, decaying and decay != 0.0, *addresses, *[0] * (width - len(addresses))))
        xp = module_of(group[0][2])
        _launch(xp, f"{name}<{type_name(dtype)}>", rows, *settings(dtype))
    return tuple([x for column in zip(*found) for x in column])
