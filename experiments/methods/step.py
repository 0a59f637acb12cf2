"""What a method is made of: the batch that a rule is given, what else it may know, and what it gives back."""
from typing import Any, NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Images as the network takes them and labels, on the array module in use.

    key: integers from which dropout draws its masks for this batch. weights: (n,), float32, of rules whose weights are
    known before the losses.
    """
    images: Any
    labels: Any
    key: Any = None
    weights: Any = None


class Context(NamedTuple):
    """What a rule may know besides the batch. Of these labels, rng, step, steps and rate only if its method is of the
    host: in a step that is captured they would be frozen. (What weighs before the step may know all.)

    rng: the generator of this step. shares: (classes,), the share of each class in training. trust: (classes,), the
    share of the examples with this label that have it rightly; only oracles may look. memory: what the rule handed
    out in the step before.
    """
    rng: Any
    shares: np.ndarray
    trust: np.ndarray = None
    memory: Any = None
    step: int = 0
    steps: int = 1
    rate: float = 1.0           # of the optimiser, now
    decay: float = 0.0          # of the weights, by the optimiser
    labels: np.ndarray = None   # of the batch, on the host


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
    memory: Any = None
    clean_loss: Any = None      # of the rules that compute it anyway
