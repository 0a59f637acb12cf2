"""The methods of the comparison by name: METHODS is the table.

A Weighting consists of a sampler (draws the batch), a rule (weighs the examples of a batch) and a criterion (the loss
of each example), and may rebuild the training set. A Boosted method consists of a weak learner and a number of rounds.
The training loop (training/loop.py) runs both.
"""
import difflib
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad import MinigradError

from . import boosting, criteria, resampling, rules, samplers
from .rules import ByCleanLoss, ByLosses, by_weights
from .step import NOT_GIVEN, Aux, Batch, Known, Now, Row, Step


class TrainsOn(enum.Enum):
    """The part of a task from which a method draws its batches."""
    BASELINE = enum.auto()      # the training set of methods that use no clean set
    TRAIN = enum.auto()         # the training set without the clean set, which is passed to the rule
    CLEAN = enum.auto()         # the clean set alone

    def part(self, task):
        """Return that part of a task."""
        return {TrainsOn.BASELINE: task.baseline, TrainsOn.TRAIN: task.train, TrainsOn.CLEAN: task.clean}[self]


class NoiseLayer(enum.Enum):
    """The initial value of a noise layer, which a criterion learns together with the model."""
    IDENTITY = enum.auto()
    CONFUSION = enum.auto()     # the confusion matrix of the trained base


class Weighting(NamedTuple):
    """A method that trains one network by gradient descent on a weighted loss.

    Args:
        name: of the method.
        summary, source: one line each, for the list of methods.
        rule: the gradient and the example weights of a batch, see rules.py.
        weigh: (known, now) -> (n,), weights that do not depend on the losses; for the rule `by_weights`.
        sampler: draws the examples of a batch, see samplers.py.
        criterion: the loss of each example, see criteria.py.
        trains_on: the part of the task from which batches are drawn.
        batch: number of examples in a batch; None: that of the settings.
        layer: the noise layer that the criterion learns, or None.
        memory: rng -> the initial memory, a tree that the rule keeps from step to step, or None.
        host: whether the rule needs values on the host in every step: it is then passed a Now, and its steps are not
            captured as a CUDA graph.
        rebuild: (images, labels, rng) -> images, labels, origins, before training; see resampling.py.
        base: the method whose finished run this one starts from, or None.
        classes: the only number of classes that the method can handle; None: any.
    """
    name: str
    summary: str
    source: str
    rule: Callable = by_weights
    weigh: Callable = rules.equal
    sampler: Callable = samplers.any_examples
    criterion: Callable = criteria.plain
    trains_on: TrainsOn = TrainsOn.BASELINE
    batch: int | None = None
    layer: NoiseLayer | None = None
    memory: Callable | None = None
    host: bool = False
    rebuild: Callable | None = None
    base: Any = None
    classes: int | None = None

    row_type = Row              # of the numbers of a step

    @property
    def divides(self):
        """Whether its batch can be divided among ranks: whether its rule is of one of the three kinds in rules.py."""
        return self.rule is by_weights or isinstance(self.rule, (ByLosses, ByCleanLoss))


class Boosted(NamedTuple):
    """A method that trains many weak learners, one in each round, on the baseline part of the task.

    Args:
        name: of the method.
        summary, source: one line each, for the list of methods.
        rounds: number of rounds, unless the settings have fewer steps.
        learner: a classifier of scikit-learn; None: a stump.
        first: frequencies -> (classes,), the cost of each class in the initial weights.
        costs: frequencies -> (classes,), the cost of each class in every round.
    """
    name: str
    summary: str
    source: str
    rounds: int
    learner: Any = None
    first: Callable = np.ones_like
    costs: Callable = np.ones_like

    divides = False             # these methods have no batches,
    base = None                 # start from no other run,
    classes = None              # and handle any number of classes
    row_type = boosting.Round   # of the numbers of a round


PAPER = "Ren et al. 2018, section 4"

UNIFORM = Weighting("uniform", "equal weights", PAPER)

METHODS = {method.name: method for method in [
    UNIFORM,
    Weighting("random", "random weights, new at every step", PAPER, weigh=rules.rectified_noise),
    Weighting("proportion", "weights inverse to the class frequency", PAPER, weigh=rules.inverse_frequency),
    Weighting("resample", "class-balanced batches", PAPER, sampler=samplers.balanced_classes),
    Weighting("hard_mining", "the hardest examples of each class", PAPER, rules.hard_mining, batch=500, host=True),
    Weighting("reweight", "Algorithm 1: weights that reduce the clean loss", PAPER, ByCleanLoss(),
              trains_on=TrainsOn.TRAIN),
    Weighting("reweight_decay", "Algorithm 1, weight decay in the clean loss", PAPER, ByCleanLoss(decay=True),
              trains_on=TrainsOn.TRAIN),
    Weighting("reweight_authors", "Algorithm 1 as the authors' code runs it", PAPER,
              ByCleanLoss(decay=True, redraw=True), trains_on=TrainsOn.TRAIN),
    Weighting("under_sample", "the majority cut down to the minority", "He & Garcia 2009",
              rebuild=resampling.under_sample),
    Weighting("over_sample", "copies of the minority", "He & Garcia 2009", rebuild=resampling.over_sample),
    Weighting("smote", "synthetic minority between neighbors", "Chawla et al. 2002", rebuild=resampling.smote),
    Boosted("adaboost", "boosted stumps", "Freund & Schapire 1997", rounds=100),
    Boosted("adaboost_networks", "boosted small networks", "Schwenk & Bengio 2000", rounds=10,
            learner=boosting.Network()),
    Boosted("cost_boost", "boosted stumps, costs in the initial weights", "Landesa-Vázquez & Alba-Castro 2012",
            rounds=100, first=boosting.inverse_costs),
    Boosted("cost_boost_csb2", "boosted stumps, a cost of 2 in each round", "Ting 2000", rounds=40,
            costs=boosting.double_rare),
    Weighting("focal", "low weight of well-learned examples", "Lin et al. 2017", criterion=criteria.focal),
    Weighting("dice", "self-adjusting dice loss (two classes)", "Li et al. 2020", criterion=criteria.dice, classes=2),
    Weighting("low_loss", "the lowest losses of the batch", "Kumar et al. 2010", ByLosses(rules.low_loss), host=True),
    Weighting("mentor", "MentorNet's predefined curriculum", "Jiang et al. 2018", ByLosses(rules.mentor),
              memory=rules.mentor_memory, host=True),
    Weighting("bootstrap_soft", "labels mixed with predicted probabilities", "Reed et al. 2015",
              criterion=criteria.bootstrap_soft),
    Weighting("bootstrap_hard", "labels mixed with predicted labels", "Reed et al. 2015",
              criterion=criteria.bootstrap_hard),
    Weighting("adaptation", "noise layer, initially the identity", "Goldberger & Ben-Reuven 2017",
              criterion=criteria.adaptation, layer=NoiseLayer.IDENTITY),
    Weighting("adaptation_confusion", "noise layer, initially a confusion matrix", "Goldberger & Ben-Reuven 2017",
              criterion=criteria.adaptation, layer=NoiseLayer.CONFUSION, base=UNIFORM),
    Weighting("oracle", "weights in proportion to the label precision", PAPER, weigh=rules.oracle),
    Weighting("clean_only", "the clean set only", PAPER, sampler=samplers.with_repetition, trains_on=TrainsOn.CLEAN),
    Weighting("fine_tune", "uniform, then the clean set only", PAPER, sampler=samplers.with_repetition,
              trains_on=TrainsOn.CLEAN, base=UNIFORM),
    Weighting("meta_weight_net", "a network from loss to weight", "Shu et al. 2019", rules.meta_weight_net,
              trains_on=TrainsOn.TRAIN, memory=rules.meta_weight_net_memory, host=True),
]}


def find_method(name):
    """Return the method of this name; raise MinigradError, with the nearest names, if there is none."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS) or METHODS
        raise MinigradError(f"there is no method {name}\n  help: choose from {', '.join(near)}")
    return METHODS[name]
