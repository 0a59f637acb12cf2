"""The methods that are compared, by name: METHODS is the table.

A Weighting is a sampler (which examples make a batch), a rule (what a batch is worth) and a criterion (the loss of an
example), over the training set as it is or rebuilt. A Boosted method is a weak learner and a number of rounds. The one
training loop (training.py) runs them all.
"""
import enum
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import boosting, criteria, resampling, rules, samplers
from .rules import by_losses, reweighted, weighted
from .step import NOT_GIVEN, Aux, Batch, Known, NotGiven, Now, Step


class TrainsOn(enum.Enum):
    """The part of a task from which a method draws its batches."""
    BASELINE = enum.auto()      # what the task offers to methods that know no clean set
    TRAIN = enum.auto()         # all but the clean set, which the rule is passed instead
    CLEAN = enum.auto()         # the clean set alone

    def part(self, task):
        """Return that part."""
        return {TrainsOn.BASELINE: task.baseline, TrainsOn.TRAIN: task.train, TrainsOn.CLEAN: task.clean}[self]


class NoiseLayer(enum.Enum):
    """What the noise layer that a criterion learns beside the model begins with."""
    IDENTITY = enum.auto()
    CONFUSION = enum.auto()     # the confusion matrix of the base's network


class Weighting(NamedTuple):
    """A method that trains one network by gradient descent on a weighted loss.

    Args:
        summary, source: one line each, for the list of methods.
        rule: what a batch is worth, see rules.py.
        weigh: (known, now) -> (n,), weights that are known before the losses; for the rule `weighted`.
        sampler: which examples make a batch, see samplers.py.
        criterion: the loss of each example, see criteria.py.
        trains_on: what batches are drawn from.
        batch: examples in a batch, if not those of the settings.
        layer: the noise layer that the criterion learns, or None.
        memory: rng -> what the rule keeps from step to step, or None.
        host: whether the rule looks at the host in every step: it is then passed a Now, and its steps cannot be
            captured as a CUDA graph.
        rebuild: (images, labels, rng) -> images, labels, origins, before training; see resampling.py.
        base: the method whose finished run this one begins from, or None.
        classes: how many there must be, if the method is for so many alone.
    """
    summary: str
    source: str
    rule: Callable = weighted
    weigh: Callable = rules.equal
    sampler: Callable = samplers.any_examples
    criterion: Callable = criteria.plain
    trains_on: TrainsOn = TrainsOn.BASELINE
    batch: int | None = None
    layer: NoiseLayer | None = None
    memory: Callable | None = None
    host: bool = False
    rebuild: Callable | None = None
    base: str | None = None
    classes: int | None = None


class Boosted(NamedTuple):
    """A method that trains many weak learners, one in each round, on what the task offers without a clean set.

    Args:
        summary, source: one line each, for the list of methods.
        learner: classes -> a weak learner, see boosting.py.
        rounds: how many, if the settings do not allow fewer steps.
        first: frequencies -> (classes,), what each class costs in the first weights; None: all weights equal.
        costs: frequencies -> (classes,), what each class costs in every round; None: nothing.
    """
    summary: str
    source: str
    learner: Callable
    rounds: int
    first: Callable | None = None
    costs: Callable | None = None

    base = None                 # begins from no other run, and is for any number of classes
    classes = None


def _dearer(frequencies):
    """Return a cost of 2 for each class that is rarer than the average one, 1 for the others."""
    return np.where(frequencies < 1.0 / len(frequencies), 2.0, 1.0)


def _stump(classes):
    return boosting.stump


def _network(classes):
    return functools.partial(boosting.network, classes=classes)


PAPER = "Ren et al. 2018, section 4"

METHODS = {
    "uniform": Weighting("every example counts the same", PAPER),
    "random": Weighting("random weights, new at every step", PAPER, weigh=rules.rectified_noise),
    "proportion": Weighting("weights inverse to the class's share", PAPER, weigh=rules.inverse_frequency),
    "resample": Weighting("class-balanced batches", PAPER, sampler=samplers.balanced_classes),
    "hard_mining": Weighting("of each class the hardest, as many as of the rarest", PAPER, rules.hard_mining, batch=500,
                             host=True),
    "reweight": Weighting("Algorithm 1: what helps the clean set", PAPER, reweighted(), trains_on=TrainsOn.TRAIN),
    "reweight_decay": Weighting("Algorithm 1, weight decay in the direction", PAPER, reweighted(decay=True),
                                trains_on=TrainsOn.TRAIN),
    "reweight_authors": Weighting("Algorithm 1 as the authors' code runs it", PAPER,
                                  reweighted(decay=True, redraw=True), trains_on=TrainsOn.TRAIN),
    "under_sample": Weighting("the majority cut down to the minority", "He & Garcia 2009",
                              rebuild=resampling.under_sampled),
    "over_sample": Weighting("copies of the minority", "He & Garcia 2009", rebuild=resampling.over_sampled),
    "smote": Weighting("synthetic minority between neighbors", "Chawla et al. 2002", rebuild=resampling.smote),
    "adaboost": Boosted("boosted stumps", "Freund & Schapire 1997", _stump, rounds=100),
    "adaboost_networks": Boosted("boosted small networks", "Schwenk & Bengio 2000", _network, rounds=10),
    "cost_boost": Boosted("boosted stumps, costs in the first weights", "Landesa-Vázquez & Alba-Castro 2012", _stump,
                          rounds=100, first=boosting.inverse_costs),
    "cost_boost_csb2": Boosted("boosted stumps, a cost of 2 in each round", "Ting 2000", _stump, rounds=40,
                               costs=_dearer),
    "focal": Weighting("what is learned already counts little", "Lin et al. 2017", criterion=criteria.focal),
    "dice": Weighting("self-adjusting dice loss (two classes)", "Li et al. 2020", criterion=criteria.dice, classes=2),
    "low_loss": Weighting("the lowest losses of the batch", "Kumar et al. 2010", by_losses(rules.low_loss), host=True),
    "mentor": Weighting("MentorNet's predefined curriculum", "Jiang et al. 2018", by_losses(rules.mentor),
                        memory=rules.mentor_memory, host=True),
    "bootstrap_soft": Weighting("labels mixed with own probabilities", "Reed et al. 2015",
                                criterion=criteria.bootstrap_soft),
    "bootstrap_hard": Weighting("labels mixed with own decisions", "Reed et al. 2015",
                                criterion=criteria.bootstrap_hard),
    "adaptation": Weighting("noise layer, from the identity", "Goldberger & Ben-Reuven 2017",
                            criterion=criteria.adaptation, layer=NoiseLayer.IDENTITY),
    "adaptation_confusion": Weighting("noise layer, from a confusion matrix", "Goldberger & Ben-Reuven 2017",
                                      criterion=criteria.adaptation, layer=NoiseLayer.CONFUSION, base="uniform"),
    "oracle": Weighting("labels weighted by how often they are right", PAPER, weigh=rules.oracle),
    "clean_only": Weighting("the clean set alone", PAPER, sampler=samplers.with_repetition, trains_on=TrainsOn.CLEAN),
    "fine_tune": Weighting("uniform, then the clean set alone", PAPER, sampler=samplers.with_repetition,
                           trains_on=TrainsOn.CLEAN, base="uniform"),
    "meta_weight_net": Weighting("a network from loss to weight", "Shu et al. 2019", rules.meta_weight_net,
                                 trains_on=TrainsOn.TRAIN, memory=rules.meta_weight_net_memory, host=True),
}
