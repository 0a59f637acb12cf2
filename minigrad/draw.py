"""Draw a program: one more trace, which only lists the operations that ran.

    graph = draw(f, *xs)
    print(graph)                    one line for each operation, with shape and dtype
    graph.picture("graph.png")      boxes and arrows; needs matplotlib

A graph shows the primitives that a derivative of f would meet, and not the constants that f uses.
"""
from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from . import tree
from .boundary import guard
from .core import LinearMap, levels, run, unbox
from .errors import dtype_name, shape
from .files import write_whole
from .typing import Array, Shape, Tree

Path = TypeVar("Path", bound=str | os.PathLike[str])


class Operation(NamedTuple):
    """One line: value `number` is the result of `name`, applied to the values with the numbers `parents`."""
    number: int
    name: str
    parents: tuple[int, ...]
    shape: Shape
    dtype: str


class Graph(NamedTuple):
    """The operations that ran, in order and with the inputs first, and the numbers of the results."""
    operations: list[Operation]
    results: list[int]

    def __str__(self) -> str:
        rows = []
        for op in self.operations:
            call = f"{op.name}({', '.join(f'v{p}' for p in op.parents)})" if op.parents else op.name
            mark = "   -> result" if op.number in self.results else ""
            rows.append((f"v{op.number}", call, f"{op.dtype}{list(op.shape)}{mark}"))
        widths = [max((len(row[k]) for row in rows), default=0) for k in (0, 1)]
        return "\n".join(f"{a:>{widths[0]}} = {b:{widths[1]}}  {c}" for a, b, c in rows)

    def picture(self, path: Path) -> Path:
        """Draw the graph into a file and return its path. The suffix is the format; inputs are at the top."""
        import matplotlib.pyplot as plt  # optional: the engine itself does not need it
        rows, at = self._layout()
        width, height = max(len(row) for row in rows), len(rows)
        figure, axes = plt.subplots(figsize=(1.0 + 1.9 * width, 0.6 + 0.72 * height))
        for op in self.operations:
            x, y = at[op.number]
            for parent in op.parents:
                px, py = at[parent]
                bend = 1.6 / (py - y) if py - y > 1 else 0.0    # around the boxes between, always by the same width
                axes.annotate("", (x, y + 0.25), (px, py - 0.25), zorder=1, arrowprops=dict(
                    arrowstyle="->", color="#888888", connectionstyle=f"arc3,rad={bend}"))
            color = "#ffe2b8" if op.number in self.results else "#d8e8f8" if not op.parents else "#ffffff"
            axes.text(x, y, f"{op.name}\n{'×'.join(map(str, op.shape)) or 'scalar'}", ha="center", va="center",
                      fontsize=7, bbox=dict(boxstyle="round", facecolor=color, edgecolor="#555555"))
        axes.set(xlim=(-0.6, width - 0.4), ylim=(-height + 0.4, 0.6))
        axes.axis("off")
        drawn = io.BytesIO()
        figure.savefig(drawn, format=pathlib.Path(path).suffix[1:] or None, dpi=110, bbox_inches="tight")
        plt.close(figure)
        write_whole(path, drawn.getvalue())
        return path

    def _layout(self) -> tuple[list[list[int]], dict[int, tuple[float, float]]]:
        """Return rows of operations, by number, and the (x, y) of each. A row has one distance from the inputs.

        An input stands just above its first use.
        """
        depth: dict[int, int] = {}
        for op in self.operations:
            depth[op.number] = 1 + max((depth[p] for p in op.parents), default=-1)
        for op in self.operations:
            if not op.parents:
                uses = [depth[other.number] for other in self.operations if op.number in other.parents]
                depth[op.number] = min(uses, default=1) - 1
        rows = [[number for number in depth if depth[number] == d] for d in range(max(depth.values()) + 1)]
        width = max(len(row) for row in rows)
        at = {number: (k + (width - len(row)) / 2, -float(y)) for y, row in enumerate(rows)
              for k, number in enumerate(row)}
        return rows, at


class Drawing:
    """The trace of draw. It keeps no derivative: a box's tag is the number of its operation."""
    interpret = None

    def __init__(self) -> None:
        self.level, self.closed = next(levels), False
        self.operations: list[Operation] = []

    def record(self, primitive: Any, y: Array, maps: list[tuple[int, LinearMap]]) -> int:
        """Append the operation and return its number."""
        self.operations.append(Operation(len(self.operations), primitive.name, tuple(number for number, _ in maps),
                                         shape(y), dtype_name(y)))
        return len(self.operations) - 1


def draw(f: Callable[..., Tree], *xs: Tree) -> Graph:
    """Return the Graph of one run of f(*xs): every primitive that a derivative of f would meet.

    xs: trees of floating-point arrays. Constants, such as arrays that f takes from outside, are not shown.

    >>> import numpy as np, minigrad as mg
    >>> print(draw(lambda x: mg.sum(mg.exp(x) * x), np.ones(3)))
    v0 = argument 0        float64[3]
    v1 = exp(v0)           float64[3]
    v2 = multiply(v1, v0)  float64[3]
    v3 = sum(v2)           float64[]   -> result
    """
    leaves, structure = tree.float_leaves(xs, "draw(f, *xs)")
    trace = Drawing()
    for path, x in zip(tree.paths(xs), leaves):
        trace.operations.append(Operation(len(trace.operations), f"argument {path}", (), shape(x), dtype_name(x)))
    y = run(trace, lambda *boxes: f(*tree.unflatten(structure, boxes)), leaves, range(len(leaves)))
    results = [unbox(leaf, trace)[1] for leaf in tree.flatten(y)[0]]
    return Graph(trace.operations, [number for number in results if number is not None])


guard(__name__)
