"""Tasks and labels with flips whose fields are arguments, and P(given label | true label)."""
import numpy as np

from experiments.data import Flip, tasks
from experiments.data.flips import check_labels


def uniform_flip(labels, share, classes, rng, variant="exact"):
    """Return the labels after a uniform flip."""
    return Flip("uniform", share, None, variant)(labels, classes, rng)


def background_flip(labels, share, classes, rng, target=None, variant="exact"):
    """Return the labels after a background flip."""
    return Flip("background", share, target, variant)(labels, classes, rng)


def noisy(source, test_source, seed, flip=None, share=0.4, target=None, variant="exact", **how):
    """Return the task of many classes with these flips."""
    return tasks.noisy(source, test_source, seed, Flip(flip, share, target, variant), **how)


def imbalance(source, share, rng, test_source=None, total=None, clean=5, tests=100, minority=4, majority=9, variant="exact",
              flip=None, flip_share=0.4, target=None):
    """Return the task of two digits with these flips."""
    return tasks.imbalance(source, share, rng, test_source, total, clean, tests, (minority, majority), Flip(flip, flip_share, target, variant))


def flip_matrix(part, classes):
    """Return P(given label | true label), (K, K), counted in the part; the identity's row for a class that does not occur."""
    given, true = check_labels(part.labels, classes), check_labels(part.true, classes)
    counts = np.bincount(true * classes + given, minlength=classes * classes).reshape(classes, classes)
    counts = np.where(counts.sum(1, keepdims=True), counts, np.eye(classes))
    return counts / counts.sum(1, keepdims=True)
