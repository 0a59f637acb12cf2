"""The types in the signatures of this library.

`Array` and `Tree` say what an argument means, but a type checker takes any value for them. A protocol for arrays was
tried: NumPy's overloaded stubs do not satisfy one, and CuPy has no stubs. The other three are checked.
"""
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias


class Scalar(Protocol):
    """An array of no axes, a scalar of NumPy or CuPy, or a traced value: whatever has a shape and a dtype."""

    @property
    def shape(self) -> Any:
        """The lengths of the axes: () for a scalar."""

    @property
    def dtype(self) -> Any:
        """The type of the elements."""


Array: TypeAlias = Any
"""A NumPy or CuPy array, or a traced value. Operations also take numbers and lists of numbers."""

Tree: TypeAlias = Any
"""Arrays in nested dicts, lists, tuples and modules (tree.py): parameters, gradients, states; also a single array."""

Rate: TypeAlias = float | Scalar
"""A hyper-parameter, such as a learning rate: a number, or a scalar that may be traced or lie on a device."""

Key: TypeAlias = int | Scalar | Sequence[int | Scalar]
"""The seed of random numbers: an integer or several, each of which may be a scalar on a device."""

Shape: TypeAlias = tuple[int, ...]
"""The lengths of an array's axes."""
