"""Samplers: which examples make a batch. sampler(labels, n, rng) -> indices."""
import numpy as np


def any_examples(labels, n, rng):
    """n examples without repetition, all equally likely; all of them where there are fewer."""
    return rng.choice(len(labels), min(n, len(labels)), replace=False)


def with_repetition(labels, n, rng):
    """n examples, drawn anew each time: also more than there are."""
    return rng.choice(len(labels), n)


def balanced_classes(labels, n, rng):
    """n examples, as many of each class: drawn without repetition where the class has enough, else with.

    The authors' list of experiments leaves their Resample out, and the class they have for it fills up the minority
    from the majority; this is the paper's "class-balanced mini-batches".
    """
    parts = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    each = max(n // len(parts), 1)
    return np.concatenate([rng.choice(part, each, replace=len(part) < each) for part in parts])
