"""Looking at a program: one more trace, which only takes down what happened.

    graph = draw(f, *xs)
    print(graph)                    one line for each operation, with shapes and types
    graph.picture("graph.png")      boxes and arrows; needs matplotlib
"""
from typing import NamedTuple

from . import tree
from .boundary import guard
from .core import levels, run, unbox
from .errors import dtype_name, shape


class Operation(NamedTuple):
    """One line: the value number `place` is `name` of the values at `parents`, with this shape and type."""
    place: int
    name: str
    parents: tuple
    shape: tuple
    dtype: str


class Graph(NamedTuple):
    """What ran: operations in the order they happened (inputs first), and the places of the results."""
    operations: list
    results: list

    def __str__(self):
        rows = []
        for op in self.operations:
            call = f"{op.name}({', '.join(f'v{p}' for p in op.parents)})" if op.parents else op.name
            mark = "   -> result" if op.place in self.results else ""
            rows.append((f"v{op.place}", call, f"{op.dtype}{list(op.shape)}{mark}"))
        widths = [max((len(row[k]) for row in rows), default=0) for k in (0, 1)]
        return "\n".join(f"{a:>{widths[0]}} = {b:{widths[1]}}  {c}" for a, b, c in rows)

    def picture(self, path):
        """Draw the graph into a file, inputs at the top; the file's ending says in which format. Gives the path."""
        import matplotlib.pyplot as plt  # an extra: the engine itself does without
        rows, at = self._layout()
        width, height = max(len(row) for row in rows), len(rows)
        figure, axes = plt.subplots(figsize=(1.0 + 1.9 * width, 0.6 + 0.72 * height))
        for op in self.operations:
            x, y = at[op.place]
            for parent in op.parents:
                px, py = at[parent]
                bend = 1.6 / (py - y) if py - y > 1 else 0.0    # around the boxes between, always by the same width
                axes.annotate("", (x, y + 0.25), (px, py - 0.25), zorder=1, arrowprops=dict(
                    arrowstyle="->", color="#888888", connectionstyle=f"arc3,rad={bend}"))
            color = "#ffe2b8" if op.place in self.results else "#d8e8f8" if not op.parents else "#ffffff"
            axes.text(x, y, f"{op.name}\n{'×'.join(map(str, op.shape)) or 'scalar'}", ha="center", va="center",
                      fontsize=7, bbox=dict(boxstyle="round", facecolor=color, edgecolor="#555555"))
        axes.set(xlim=(-0.6, width - 0.4), ylim=(-height + 0.4, 0.6))
        axes.axis("off")
        figure.savefig(path, dpi=110, bbox_inches="tight")
        plt.close(figure)
        return path

    def _layout(self):
        """Rows of places, one row for each distance from the inputs; an input stands just above its first use."""
        depth = {}
        for op in self.operations:
            depth[op.place] = 1 + max((depth[p] for p in op.parents), default=-1)
        for op in self.operations:
            if not op.parents:
                uses = [depth[other.place] for other in self.operations if op.place in other.parents]
                depth[op.place] = min(uses, default=1) - 1
        rows = [[place for place in depth if depth[place] == d] for d in range(max(depth.values()) + 1)]
        width = max(len(row) for row in rows)
        at = {place: (k + (width - len(row)) / 2, -y) for y, row in enumerate(rows) for k, place in enumerate(row)}
        return rows, at


class Drawing:
    """The trace that keeps no derivative: a box's tag is the place of its operation in the list."""
    interpret = None

    def __init__(self):
        self.level, self.closed, self.operations = next(levels), False, []

    def record(self, primitive, y, maps):
        self.operations.append(Operation(len(self.operations), primitive.name, tuple(place for place, _ in maps),
                                         shape(y), dtype_name(y)))
        return len(self.operations) - 1


def draw(f, *xs):
    """The Graph of one run of f(*xs): every primitive that a derivative of f would meet.

    xs: trees of floating-point arrays; constants (also arrays) that f uses from outside are not shown.

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
    places = [unbox(leaf, trace)[1] for leaf in tree.flatten(y)[0]]
    return Graph(trace.operations, [place for place in places if place is not None])


guard(__name__)
