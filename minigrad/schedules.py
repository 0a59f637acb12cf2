"""Schedules of the learning rate: functions step -> rate. Public as optim.piecewise and optim.cosine.

The step may be an array of a device: nothing is read from it.
"""
import builtins
import math
from collections.abc import Callable, Iterable
from typing import Any

from .backend import module_of
from .boundary import explains, guard
from .typing import Rate


def piecewise(rate: Rate, boundaries: Iterable[int], factor: Rate = 0.1, warmup: int = 0) -> Callable[[Any], Any]:
    """Return the schedule that multiplies the rate by `factor` at each of the boundaries (steps).

    In the first `warmup` steps it also rises in proportion to the number of the step, from 1 / warmup.
    """
    boundaries = tuple(boundaries)

    @explains
    def schedule(step: Any) -> Any:
        now = rate * factor ** builtins.sum(step >= b for b in boundaries)
        return now * module_of(step).minimum((step + 1) / warmup, 1.0) if warmup else now
    return schedule


def cosine(rate: Rate, steps: int, warmup: int = 0) -> Callable[[Any], Any]:
    """Return the schedule that rises to the rate in `warmup` steps, then falls to 0 by half a cosine until `steps`."""
    @explains
    def schedule(step: Any) -> Any:
        xp = module_of(step)
        done = xp.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
        rising, falling = (step + 1) / max(warmup, 1), 0.5 * (1.0 + xp.cos(math.pi * done))
        return rate * xp.where(xp.asarray(step < warmup), rising, falling)
    return schedule


guard(__name__)
