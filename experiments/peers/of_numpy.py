"""The scores of a dense network in bare NumPy: what minigrad's evaluation of plain arrays is measured against."""
import numpy as np

from . import Library, data, mlp, traced_memory, weights
from .clocks import on_host


class Ops:
    """The operations in NumPy's words."""
    relu = staticmethod(lambda x: np.maximum(x, 0.0))
    dense = staticmethod(lambda x, weight, bias: x @ weight + bias)


def use(problem):
    """NumPy."""
    x, params = data(problem)[0], weights(problem)
    return Library(np.__version__, {"evaluation": lambda: [mlp(Ops, params, x, problem.size)]}, on_host, list,
                   traced_memory)
