"""Samplers, which draw the examples of a batch: sampler(labels, n, rng) -> indices."""
import numpy as np


def any_examples(labels, n, rng):
    """Draw n examples without repetition, all equally likely; if there are fewer, all of them."""
    return rng.choice(len(labels), min(n, len(labels)), replace=False)


def with_repetition(labels, n, rng):
    """Draw n examples with repetition; n may be larger than the number of examples."""
    return rng.choice(len(labels), n)


def balanced_classes(labels, n, rng):
    """Draw n examples, equally many of each class, without repetition unless the class has too few.

    These are the paper's "class-balanced mini-batches". The authors' list of experiments lacks their Resample, and the
    class for it in their code fills up the minority with examples of the majority.
    """
    parts = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    each = max(n // len(parts), 1)
    return np.concatenate([rng.choice(part, each, replace=len(part) < each) for part in parts])
