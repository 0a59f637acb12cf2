"""What a method is made of: the batch that a rule is given, what else it may know, and what it gives back."""
from typing import Any, NamedTuple

from minigrad import MinigradError


class Batch(NamedTuple):
    """Images as the network takes them and labels, on the array module in use.

    key: integers from which dropout draws its masks for this batch. weights: (n,), float32, of rules whose weights are
    known before the losses.
    """
    images: Any
    labels: Any
    key: Any = None
    weights: Any = None


class Context:
    """What a rule may know besides the batch, under these names; what a context was not given cannot be read.

    Always there, and constant during a run but for the memory:
      shares   (classes,), the share of each class in training
      trust    (classes,), the share of the examples with this label that have it rightly; only oracles may look
      decay    of the weights, by the optimizer
      memory   what the rule handed out in the step before
    Of this step, and on the host, so only for methods with host=True (a captured step would freeze it) and for `weigh`,
    which comes before the step:
      step, steps   the number of this step, from 0, and of all
      rate     of the optimizer, now
      labels   (n,), of the batch
      rng      the generator of this step
    """
    HOST = "step", "steps", "rate", "labels", "rng"

    def __init__(self, **known):
        vars(self).update(known)

    def __getattr__(self, name):
        if name in self.HOST:
            raise NotGiven(f"context.{name}: it is not given to a rule whose step may be captured, where it would stay "
                           "as it was at first\n  help: Method(..., host=True)")
        raise NotGiven(f"context.{name}: this context holds {', '.join(sorted(vars(self)))} and nothing else")


class NotGiven(MinigradError, AttributeError):
    """Something about a step that its rule asks for and is not given."""


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
