"""What a rule is called with, and what it returns: rule(losses, params, batch, clean, memory, known, now) -> Step."""
from typing import Any, NamedTuple

import numpy as np

from minigrad import MinigradError


class Batch(NamedTuple):
    """Images as the network takes them and labels, on the array module in use.

    key: integers from which dropout draws its masks for this batch. weights: (n,), float32, for rules whose weights are
    known before the losses.
    """
    images: Any
    labels: Any
    key: Any = None
    weights: Any = None


class Known(NamedTuple):
    """What every rule may know besides the batch. Constant during a run, so that a captured step may hold it."""
    frequencies: np.ndarray     # (classes,), of the labels in training: their sum is 1
    precision: np.ndarray       # (classes,), the share of each label's examples that have it rightly; for oracles only
    decay: float                # the optimizer's weight decay


class Now(NamedTuple):
    """What changes from step to step and lives on the host: for rules with host=True, and for every `weigh`.

    A step without host=True may be captured as a CUDA graph, in which such a value would stay what it was at first. Its
    rule is passed NOT_GIVEN instead.
    """
    step: int                   # the number of this step, from 0
    steps: int                  # of the run
    rate: float                 # of the optimizer, in this step
    labels: np.ndarray          # (n,), of the batch
    rng: np.random.Generator    # of this step


class NotGiven(MinigradError, AttributeError):
    """A rule asks for something about the step that it is not given."""


class _NotGiven:
    """Stands where a Now would be; reading anything from it raises NotGiven."""

    def __getattr__(self, name):
        raise NotGiven(f"now.{name}: not given to a rule whose step may be captured, where it would never change\n"
                       "  help: Weighting(..., host=True)")


NOT_GIVEN = _NotGiven()


class Aux(NamedTuple):
    """What running the network gives besides losses: the moved averages of batch norm, and the scores (n, classes)."""
    state: Any = None
    scores: Any = None


class Step(NamedTuple):
    """What a rule makes of a batch."""
    gradient: Any               # a tree shaped like the parameters
    weights: Any                # (n,) of the batch's examples, for the record
    losses: Any                 # (n,)
    aux: Aux
    memory: Any = None          # passed to the rule in the next step
    clean_loss: Any = None      # from rules that compute it anyway
