"""The types in the signature of rules, rule(losses, params, batch, clean, memory, known, now) -> Step, and its Row."""
from typing import Any, NamedTuple

import numpy as np

from minigrad import MinigradError
from minigrad.distributed import Alone, Communicator


class Batch(NamedTuple):
    """A batch, arrays of the array module in use."""
    images: Any                 # (n, ...), the input of the network
    labels: Any                 # (n,)
    key: Any = None             # integers, the key of the dropout masks
    weights: Any = None         # (n,), float32, for the rule `by_weights`


class Known(NamedTuple):
    """Facts that every rule may use, constant during a run, so that a captured step may contain them."""
    frequencies: np.ndarray     # (classes,), of the labels in training: their sum is 1
    precision: np.ndarray       # (classes,), label precision: P(label is right | label); for oracles only
    decay: float                # the optimizer's weight decay
    comm: Communicator = Alone()        # of the ranks, each of which has a part of the batch


class Now(NamedTuple):
    """Values on the host that change from step to step, for rules with host=True and for every `weigh`.

    A step without host=True may be captured as a CUDA graph, in which these values would never change; its rule is
    passed NOT_GIVEN instead.
    """
    step: int                   # the index of this step
    steps: int                  # number of steps of the run
    rate: float                 # learning rate of this step
    labels: np.ndarray          # (n,), of the batch, on the host
    rng: np.random.Generator    # of this step


class NotGiven(MinigradError, AttributeError):
    """Error for a rule without host=True that reads a field of Now."""


class _NotGiven:
    """A placeholder for a Now: reading any field raises NotGiven."""

    def __getattr__(self, name):
        raise NotGiven(f"now.{name}: not given to a rule whose step may be captured, where it would never change\n"
                       "  help: Weighting(..., host=True)")


NOT_GIVEN = _NotGiven()


class Aux(NamedTuple):
    """The outputs of the network besides the losses."""
    state: Any = None           # the new running averages of batch norm
    scores: Any = None          # (n, classes)


class Step(NamedTuple):
    """The result of a rule."""
    gradient: Any               # a tree with the structure of the parameters
    weights: Any                # (n,), of the examples, for the record
    losses: Any                 # (n,)
    aux: Aux
    memory: Any = None          # passed to the rule in the next step
    clean_loss: Any = None      # if the rule computes it


class Row(NamedTuple):
    """The numbers of a step that the record needs, one array on the device until they are fetched; or their columns."""
    loss: Any                   # mean over the batch
    weight: Any                 # sum of the weights
    minority_weight: Any        # sum of the weights of the minority,
    wrong_weight: Any           # of examples with wrong labels,
    right_weight: Any           # and of examples with right labels
    wrong: Any                  # number of wrong labels
    right: Any                  # number of right labels
    other: Any                  # number of examples for which the model predicts another label,
    other_right: Any            # and for which that label is the true one
    clean_loss: Any             # -1 if the rule does not compute it
