"""The scores of a dense network in bare NumPy, the reference for minigrad's evaluation on plain arrays."""
import numpy as np

from . import Library, data, mlp, trace_memory, weights
from .clocks import on_host


class Ops:
    """The operations of the network in NumPy."""
    relu = staticmethod(lambda x: np.maximum(x, 0.0))
    dense = staticmethod(lambda x, weight, bias: x @ weight + bias)


def use(problem):
    """Return the Library NumPy with a problem of dense layers."""
    x, params = data(problem)[0], weights(problem)
    return Library(np.__version__, {"evaluation": lambda: [mlp(Ops, params, x, problem.size)]}, on_host, list,
                   trace_memory)
