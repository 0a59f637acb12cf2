"""Samplers: which examples make a batch. sampler(labels, n, rng) -> indices."""
import numpy as np


def any_examples(labels, n, rng):
    """Draw n examples without repetition, all equally likely; all of them where there are fewer."""
    return rng.choice(len(labels), min(n, len(labels)), replace=False)


def with_repetition(labels, n, rng):
    """Draw n examples with repetition: possibly more than there are."""
    return rng.choice(len(labels), n)


def balanced_classes(labels, n, rng):
    """Draw n examples, as many of each class: without repetition where the class has enough, else with.

    These are the paper's "class-balanced mini-batches". The authors' list of experiments leaves their Resample out, and
    the class they have for it fills up the minority from the majority.
    """
    parts = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    each = max(n // len(parts), 1)
    return np.concatenate([rng.choice(part, each, replace=len(part) < each) for part in parts])
