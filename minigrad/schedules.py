"""Schedules of the learning rate: functions step -> rate. Public as optim.piecewise and optim.cosine.

The step may be an array of a device: nothing is read from it.
"""
import builtins
import functools
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import numpy

from . import deprecated
from .backend import module_of
from .boundary import explains, guard
from .errors import DTypeError, message
from .typing import Rate, Tree

F = TypeVar("F", bound=Callable[..., Any])


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


# ------------------------------------------------------------ a rate of an optimizer's own, as in minigrad 0.1

def takes_rate(*old: str) -> Callable[[F], F]:
    """Let the constructor of an optimizer take its rate first, as in minigrad 0.1. old: the settings after it."""
    def decorate(make: F) -> F:
        @functools.wraps(make)
        def called(*args: Any, **settings: Any) -> Any:
            if not args and "rate" not in settings:
                return make(**settings)
            settings = dict(zip(("rate", *old), args)) | settings
            rate = settings.pop("rate", None)
            if not callable(rate) and not isinstance(rate, numbers.Real) and not hasattr(rate, "dtype"):
                raise DTypeError(message(
                    make.__name__, "the rate is an argument of update, and settings are passed by name", [],
                    "sgd(momentum=0.9) or adam(beta1=0.9), then optimizer.update(gradient, state, params, rate)"))
            deprecated.warn(f"{make.__name__}(rate, ...): the rate is now an argument of update, and settings are "
                            "passed by name")
            return _with_rate(make(**settings), rate)
        return cast(F, called)
    return decorate


def _with_rate(optimizer: Any, own: Any) -> Any:
    """Return an optimizer with a rate of its own, whose update is that of minigrad 0.1: with step=None, rate=None.

    own: a number, or a schedule; the state then counts the steps.
    """
    def init(params: Tree) -> Tree:
        state = optimizer.init(params)
        return {"count": numpy.zeros((), "int64"), **state} if callable(own) else state

    def update(gradient: Tree, state: Tree, params: Tree, step: Any = None, rate: Any = None) -> tuple[Tree, Tree]:
        if step is not None:
            state = {**state, "count": numpy.asarray(step, "int64")}
        now = state.get("count", 0)
        used = rate if rate is not None else own(now) if callable(own) else own
        params, new = optimizer.update(gradient, state, params, used)
        return params, {"count": now + 1, **new} if callable(own) else new
    return type(optimizer)(explains(init), explains(update))


guard(__name__)
