"""Rebuilt training sets, in which all classes have the same size.

    under_sample(x, y, rng)     drop examples of each class, to the size of the smallest
    over_sample(x, y, rng)      add copies to each class, to the size of the largest
    smote(x, y, rng)            the same with synthetic examples between neighbors of a class

Each takes images x (n, ...), float32, integer labels y (n,) and a NumPy generator, and returns (x, y, origin). origin
(n',), int64: the input index of which the row is a copy, or -1 for a synthetic example. The originals come first, in
their order. The result depends on the key of the generator only; imbalanced-learn draws the examples.

Classes are the labels that occur. All functions raise ShapeError where images and labels do not fit together,
DTypeError for labels that are not integers, and MinigradError without imbalanced-learn.
"""
import numpy as np

from minigrad import MinigradError, ShapeError
from minigrad.errors import message
from minigrad.losses import label_array


def under_sample(x, y, rng):
    """Drop random examples of every class, to the size of the smallest; return (x, y, origin)."""
    x, y, _, counts = _count_classes("under_sample(x, y, rng)", x, y)
    return _take_rows(x, y, _drop_to(y, counts.min(), rng))


def over_sample(x, y, rng):
    """Add random copies to every class, to the size of the largest; return (x, y, origin)."""
    x, y, classes, _ = _count_classes("over_sample(x, y, rng)", x, y)
    if len(classes) == 1:                                   # an error in imbalanced-learn
        return _take_rows(x, y, np.arange(len(y)))
    sampler = _import_library().over_sampling.RandomOverSampler(random_state=_draw_seed(rng))
    sampler.fit_resample(np.arange(len(y))[:, None], y)     # indices, so that no images are copied
    return _take_rows(x, y, sampler.sample_indices_)


def smote(x, y, rng, k=5, under=None):
    """Add synthetic examples x + r (x_nn - x), r ~ U(0, 1), to every class, to the size of the largest.

    x is a random example of the class and x_nn a random one of its k nearest neighbors in the class, by the Euclidean
    distance of pixels. In a class of fewer than k + 1 examples all others are the neighbors. A class of one example
    gets copies, with its index as origin.

    Args:
        x: images, (n, ...).
        y: labels, (n,).
        rng: NumPy generator.
        k: number of neighbors.
        under: None, or a share in (0, 1]: larger classes are reduced to this share of the largest one (but not below
            the smallest), smaller ones raised to it.

    Returns (x, y, origin). Chawla, Bowyer, Hall & Kegelmeyer, 2002, sections 4.2 (synthesis) and 4.3 (under-sampling).
    """
    x, y, classes, counts = _count_classes("smote(x, y, rng)", x, y)
    if k < 1 or (under is not None and not 0.0 < under <= 1.0):
        raise MinigradError(f"smote: k = {k}, under = {under}\n  help: k is the number of neighbors, 1 or more; under "
                            "is a share of the largest class, above 0 and at most 1, or None")
    size = counts.max() if under is None else max(round(under * counts.max()), counts.min())
    parts = [_take_rows(x, y, _drop_to(y, size, rng))]
    for c, count in zip(classes, counts):
        few = np.flatnonzero(y == c)
        if count == 1 < size:
            parts.append(_take_rows(x, y, np.repeat(few, size - 1)))
        elif count < size:
            made = _synthesize(x[few].reshape(count, -1), size, min(k, count - 1), rng)
            parts.append((made.reshape(-1, *x.shape[1:]), np.full(len(made), c, y.dtype), np.full(len(made), -1)))
    return tuple(np.concatenate(column) for column in zip(*parts))


def _synthesize(x, size, k, rng):
    """Return size - n synthetic points between neighbors among the points x (n, pixels) of one class."""
    # imbalanced-learn needs at least two classes: a row of zeros is the other one.
    data, labels = np.concatenate([x, np.zeros_like(x[:1])]), np.repeat([0, 1], [len(x), 1])
    library = _import_library()
    sampler = library.over_sampling.SMOTE(sampling_strategy={0: size}, k_neighbors=k, random_state=_draw_seed(rng))
    return sampler.fit_resample(data, labels)[0][len(data):]


def _drop_to(y, size, rng):
    """Return the sorted indices that are kept when every class is reduced to at most `size` examples."""
    larger = [c for c, count in zip(*np.unique(y, return_counts=True)) if count > size]
    if not larger:
        return np.arange(len(y))
    library = _import_library()
    sampler = library.under_sampling.RandomUnderSampler(sampling_strategy=dict.fromkeys(larger, size),
                                                        random_state=_draw_seed(rng))
    sampler.fit_resample(np.arange(len(y))[:, None], y)
    return np.sort(sampler.sample_indices_)


def _take_rows(x, y, origin):
    return x[origin], y[origin], origin.astype(np.int64)


def _draw_seed(rng):
    """Draw an integer seed: imbalanced-learn accepts no np.random.Generator."""
    return int(rng.integers(2 ** 31 - 1))


def _count_classes(call, x, y):
    """Return x and y as arrays, the classes, and the number of examples of each; raise ShapeError if they do not fit.

    Columns of tables become arrays, as indexing a column goes by its labels, not by position.
    """
    x, y = np.asarray(x), label_array(call, y)
    if y.ndim != 1 or not len(y) or x.shape[:1] != y.shape:
        raise ShapeError(message(call, "images and labels do not fit", [("x", x, ""), ("y", y, "")],
                                 "n > 0 examples have images (n, ...) and labels (n,)"))
    return x, y, *np.unique(y, return_counts=True)


def _import_library():
    """Return imbalanced-learn, imported when it is first needed; raise MinigradError if that is impossible."""
    try:
        import imblearn.over_sampling
        import imblearn.under_sampling
    except ImportError as error:
        raise MinigradError(f"resampling needs imbalanced-learn, which cannot be imported ({error})\n"
                            "  help: pip install -e '.[experiments]'") from None
    return imblearn
