"""Training sets rebuilt before training, so that every class counts the same: fewer of the many, more of the few.

    under_sampled(x, y, rng)    every class dropped to the size of the smallest
    over_sampled(x, y, rng)     every class raised to the size of the largest, with copies
    smote(x, y, rng)            the same, with new examples between neighbors of a class

Each takes images x (n, ...), float32, of any shape, integer labels y (n,) and a NumPy generator, and gives (x, y,
origin). origin (n',), int64: the index in the input of which this row is a copy, -1 for an example that was not there
before. The originals come first, in their order. One key, one result. The drawing is that of imbalanced-learn.

Classes are the labels that occur. All functions raise ShapeError where images and labels do not fit together,
DTypeError for labels that are not integers, and MinigradError without imbalanced-learn.
"""
import numpy as np

from minigrad import MinigradError, ShapeError
from minigrad.errors import message
from minigrad.losses import label_array


def under_sampled(x, y, rng):
    """Every class dropped to the size of the smallest: no example of the smallest is lost, none occurs twice."""
    x, y, _, counts = _counted("under_sampled(x, y, rng)", x, y)
    return _rows(x, y, _dropped(y, counts.min(), rng))


def over_sampled(x, y, rng):
    """Every class raised to the size of the largest: all the originals, then copies of the rarer ones at random."""
    x, y, classes, _ = _counted("over_sampled(x, y, rng)", x, y)
    if len(classes) == 1:                                   # which the library refuses
        return _rows(x, y, np.arange(len(y)))
    sampler = _library().over_sampling.RandomOverSampler(random_state=_seed(rng))
    sampler.fit_resample(np.arange(len(y))[:, None], y)     # of indices: it need not copy images to choose among them
    return _rows(x, y, sampler.sample_indices_)


def smote(x, y, rng, k=5, under=None):
    """Every class raised to one size by synthetic examples, x + r (x_nn - x), r ~ U(0, 1).

    x is an example of the class and x_nn one of its k nearest in the same class, both drawn at random; near is the
    Euclidean distance of pixels. A class of fewer than k + 1 examples has fewer neighbors: k is lowered to all the
    others there. A class of one has none, and can only be copied: its new rows have its index as origin, not -1.

    under: None, or a share in (0, 1] for the combination with under-sampling: larger classes are dropped at random to
    this share of the largest (but not below the smallest), smaller ones raised to it. None drops nothing.

    Chawla, Bowyer, Hall & Kegelmeyer, 2002, sections 4.2 (synthesis) and 4.3 (under-sampling).
    """
    x, y, classes, counts = _counted("smote(x, y, rng)", x, y)
    if k < 1 or (under is not None and not 0.0 < under <= 1.0):
        raise MinigradError(f"smote: k = {k}, under = {under}\n  help: k is the number of neighbors, 1 or more; under "
                            "a share of the largest class, above 0 and at most 1, or None")
    size = counts.max() if under is None else max(round(under * counts.max()), counts.min())
    parts = [_rows(x, y, _dropped(y, size, rng))]
    for c, count in zip(classes, counts):
        few = np.flatnonzero(y == c)
        if count == 1 < size:
            parts.append(_rows(x, y, np.repeat(few, size - 1)))
        elif count < size:
            made = _between(x[few].reshape(count, -1), size, min(k, count - 1), rng)
            parts.append((made.reshape(-1, *x.shape[1:]), np.full(len(made), c, y.dtype), np.full(len(made), -1)))
    return tuple(np.concatenate(column) for column in zip(*parts))


def _between(x, size, k, rng):
    """size - n new points between neighbors, of the points x (n, pixels) of one class."""
    # SMOTE works on one class at a time, but refuses data of a single one: a row of zeros stands for all the others.
    data, labels = np.concatenate([x, np.zeros_like(x[:1])]), np.repeat([0, 1], [len(x), 1])
    sampler = _library().over_sampling.SMOTE(sampling_strategy={0: size}, k_neighbors=k, random_state=_seed(rng))
    return sampler.fit_resample(data, labels)[0][len(data):]


def _dropped(y, size, rng):
    """The indices that are left, in order, when every class with more than `size` examples is dropped to that."""
    larger = [c for c, count in zip(*np.unique(y, return_counts=True)) if count > size]
    if not larger:
        return np.arange(len(y))
    sampler = _library().under_sampling.RandomUnderSampler(sampling_strategy=dict.fromkeys(larger, size),
                                                           random_state=_seed(rng))
    sampler.fit_resample(np.arange(len(y))[:, None], y)
    return np.sort(sampler.sample_indices_)


def _rows(x, y, origin):
    return x[origin], y[origin], origin.astype(np.int64)


def _seed(rng):
    """The seed of a sampler, which knows no generators of the newer kind."""
    return int(rng.integers(2 ** 31 - 1))


def _counted(call, x, y):
    """x and y as arrays, the classes and how many examples of each there are, once it is certain that there are any.

    Columns of tables become arrays: they would be taken by their own index, not by position.
    """
    x, y = np.asarray(x), label_array(call, y)
    if y.ndim != 1 or not len(y) or x.shape[:1] != y.shape:
        raise ShapeError(message(call, "images and labels do not fit", [("x", x, ""), ("y", y, "")],
                                 "n > 0 examples have images (n, ...) and labels (n,)"))
    return x, y, *np.unique(y, return_counts=True)


def _library():
    """imbalanced-learn, imported when it is first needed."""
    try:
        import imblearn.over_sampling
        import imblearn.under_sampling
    except ImportError as error:
        raise MinigradError(f"resampling needs imbalanced-learn, which cannot be imported ({error})\n"
                            "  help: pip install -e '.[experiments]'") from None
    return imblearn
