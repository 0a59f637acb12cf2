"""The methods that are compared, by name: METHODS is the table.

Each is a sampler (which examples make a batch), a rule (what a batch is worth) and a criterion (the loss of an
example), over the training set as it is or rebuilt; the one training loop (training.py) runs them all. Boosting, whose
steps are rounds, has a learner instead.
"""
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import boosting, criteria, resampling, rules, samplers
from .rules import by_losses, reweighted, weighted
from .step import NOT_GIVEN, Aux, Batch, Known, NotGiven, Now, Step


class Method(NamedTuple):
    """One row of the table.

    trains_on: "baseline" (what the task gives to methods that know no clean set), "train" (without the clean set, which
    the rule uses) or "clean". batch: examples in a batch, if not those of the settings. layer: what the criterion
    learns beside the model, None, "identity" or "confusion". weigh: (known, now) -> weights that are known before
    the losses, for the rule `weighted`. memory: rng -> what the rule keeps from step to step. host: whether the rule
    looks at the host in every step: it is then passed a Now, with the step, the rate and the labels, and its steps
    cannot be captured as a CUDA graph. rebuild: (images, labels, rng) -> images, labels, origins, before training.
    base: the method whose finished run this one begins from. learner: makes a weak learner of boosting, for `rounds`
    rounds; first, costs: frequencies -> a cost for each class, in the first weights or in every round. classes: how
    many there must be, if the method is for so many alone.
    """
    summary: str
    source: str
    rule: Callable = weighted
    weigh: Callable = rules.equal
    sampler: Callable = samplers.any_examples
    criterion: Callable = criteria.plain
    trains_on: str = "baseline"
    batch: int = None
    layer: str = None
    memory: Callable = None
    host: bool = False
    rebuild: Callable = None
    base: str = None
    learner: Callable = None
    rounds: int = None
    first: Callable = None
    costs: Callable = None
    classes: int = None


def _dearer(frequencies):
    """Costs of 2 for the classes that are rarer than all would be if they were equal, 1 for the others."""
    return np.where(frequencies < 1.0 / len(frequencies), 2.0, 1.0)


def _stump(classes):
    return boosting.stump


def _network(classes):
    return functools.partial(boosting.network, classes=classes)


PAPER = "Ren et al. 2018, section 4"

METHODS = {
    "uniform": Method("every example counts the same", PAPER),
    "random": Method("random weights, new at every step", PAPER, weigh=rules.rectified_noise),
    "proportion": Method("weights inverse to the class's share", PAPER, weigh=rules.inverse_frequency),
    "resample": Method("class-balanced batches", PAPER, sampler=samplers.balanced_classes),
    "hard_mining": Method("of each class the hardest, as many as of the rarest", PAPER, rules.hard_mining, batch=500,
                          host=True),
    "reweight": Method("Algorithm 1: what helps the clean set", PAPER, reweighted(), trains_on="train"),
    "reweight_decay": Method("Algorithm 1, weight decay in the direction", PAPER, reweighted(decay=True),
                             trains_on="train"),
    "reweight_authors": Method("Algorithm 1 as the authors' code runs it", PAPER, reweighted(decay=True, redraw=True),
                               trains_on="train"),
    "under_sample": Method("the majority cut down to the minority", "He & Garcia 2009",
                           rebuild=resampling.under_sampled),
    "over_sample": Method("copies of the minority", "He & Garcia 2009", rebuild=resampling.over_sampled),
    "smote": Method("synthetic minority between neighbors", "Chawla et al. 2002", rebuild=resampling.smote),
    "adaboost": Method("boosted stumps", "Freund & Schapire 1997", learner=_stump, rounds=100),
    "adaboost_networks": Method("boosted small networks", "Schwenk & Bengio 2000", learner=_network,
                                rounds=10),
    "cost_boost": Method("boosted stumps, costs in the first weights", "Landesa-Vázquez & Alba-Castro 2012",
                         learner=_stump, rounds=100, first=boosting.inverse_costs),
    "cost_boost_csb2": Method("boosted stumps, a cost of 2 in each round", "Ting 2000", learner=_stump, rounds=40,
                              costs=_dearer),
    "focal": Method("what is learned already counts little", "Lin et al. 2017", criterion=criteria.focal),
    "dice": Method("self-adjusting dice loss (two classes)", "Li et al. 2020", criterion=criteria.dice,
                   classes=2),
    "low_loss": Method("the lowest losses of the batch", "Kumar et al. 2010", by_losses(rules.low_loss), host=True),
    "mentor": Method("MentorNet's predefined curriculum", "Jiang et al. 2018", by_losses(rules.mentor),
                     memory=rules.mentor_memory, host=True),
    "bootstrap_soft": Method("labels mixed with own probabilities", "Reed et al. 2015",
                             criterion=criteria.bootstrap_soft),
    "bootstrap_hard": Method("labels mixed with own decisions", "Reed et al. 2015",
                             criterion=criteria.bootstrap_hard),
    "adaptation": Method("noise layer, from the identity", "Goldberger & Ben-Reuven 2017",
                         criterion=criteria.adaptation, layer="identity"),
    "adaptation_confusion": Method("noise layer, from a confusion matrix", "Goldberger & Ben-Reuven 2017",
                                   criterion=criteria.adaptation, layer="confusion", base="uniform"),
    "oracle": Method("labels weighted by how often they are right", PAPER, weigh=rules.oracle),
    "clean_only": Method("the clean set alone", PAPER, sampler=samplers.with_repetition, trains_on="clean"),
    "fine_tune": Method("uniform, then the clean set alone", PAPER, sampler=samplers.with_repetition,
                        trains_on="clean", base="uniform"),
    "meta_weight_net": Method("a network from loss to weight", "Shu et al. 2019", rules.meta_weight_net,
                              trains_on="train", memory=rules.meta_weight_net_memory, host=True),
}
