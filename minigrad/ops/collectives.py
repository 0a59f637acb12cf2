"""The sum over ranks: the one collective that all others are made of. Public in distributed.py.

Every rank runs the same program, so that its arrays are the parts of one vector; its inner product adds up those of
the parts. In it the sum over ranks is its own adjoint:

    sum over r of <g_r, T>  ==  <G, T>  ==  sum over r of <G, t_r>      with the sums G of all g_r and T of all t_r
"""
from __future__ import annotations

from ..communicators import Communicator
from ..core import Primitive
from ..kinds import linear
from ..typing import Array

_allsum: Primitive = linear(lambda x, comm: comm.allsum(x), lambda g, s, comm: _allsum(g, comm=comm), "allsum")


def allsum(x: Array, comm: Communicator) -> Array:
    """Return the sum of x over all ranks of a communicator, on each of them: x itself if there is one rank."""
    return x if comm.size == 1 else _allsum(x, comm=comm)
