"""Tasks: a biased training set, the clean set that goes with it, a validation set, and a test set that is not biased.

    imbalance(source, share, rng, ...)      two classes, one of them rare
    noisy(source, test_source, seed, ...)   many classes: wrong labels (flips.py), a long tail, or both

All parts are disjoint by index, and that is asserted. Every part keeps the true labels beside the given ones. `form`
is "true" where a bias does what its name says, and "paper" where it does what the authors' code does.
"""
import dataclasses
import math
from typing import NamedTuple

import numpy as np

from minigrad.backend import generator
from minigrad.errors import shape
from minigrad.losses import label_array

from .data import Images
from .flips import (
    about_labels,
    background_flip,
    check_flips,
    check_labels,
    drawn_again,
    drawn_background,
    require,
    uniform_flip,
)


class Part(NamedTuple):
    """Some of the images of a source: images, labels as given, which ones they are, and their true labels."""
    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    true: np.ndarray

    def __len__(self):
        return len(self.labels)

    def __add__(self, other):
        return Part(*(np.concatenate(pair) for pair in zip(self, other)))

    @property
    def wrong(self):
        """Which labels are wrong: (n,) of booleans."""
        return self.labels != self.true


@dataclasses.dataclass(frozen=True)
class Task:
    """statement: how the distribution of `train` differs from that of `test`; it is true of the counts.

    train: the biased set without the clean images. clean: the small unbiased set. test: unbiased.
    validation: the true labels are unbiased, the given ones flipped as in `train`; None where there is none.
    baseline: what a method that knows no clean set is trained on: `train`, or train and clean together.
    classes: how many. minority: the label of the class that is rare in training, None where none is.
    """
    statement: str
    train: Part
    clean: Part
    validation: Part | None
    test: Part
    baseline: Part
    classes: int
    minority: int | None = None

    def __post_init__(self):
        """Take columns of tables as arrays. Raise MinigradError for labels that are not 0 to classes - 1."""
        for name in ("train", "clean", "validation", "test", "baseline"):
            part = getattr(self, name)
            if part is not None:
                labels, true = (check_labels(labels, self.classes) for labels in (part.labels, part.true))
                if labels is not part.labels or true is not part.true:
                    object.__setattr__(self, name, Part(part.images, labels, part.indices, true))


# ------------------------------------------------------------------------------------------------- two classes

def check_share(share):
    """Raise unless the share of the majority lies between balance and absence of the minority."""
    require(0.5 < share < 1.0, f"share {share}: the share of the majority class must lie between 0.5 and 1, both "
            "excluded", "the paper uses 0.9 0.95 0.98 0.99 0.995")


def imbalance(source, share, rng, test_source=None, total=None, clean=5, tests=100, minority=4, majority=9,
              form="true", flip=None, flip_share=0.4, target=None):
    """Two digits, one of which makes up `share` of the training set: label 0 the minority, label 1 the majority.

    total: the size of the biased set with the clean images in it, which are taken out of it for `train` (the paper:
    5,000, of which 10 clean). None: as many of the majority as the source has when clean and test images are set
    aside, and the minority to match; the clean images then come on top and no baseline sees them.
    clean, tests: images of each class. test_source: where the test images come from, if not from the source.
    form: "true" rounds the numbers of images, "paper" cuts them off as the authors' code does (at share 0.9 of 5,000
    floating point loses one: 499 and 4,500). flip, flip_share, target: wrong labels in `train` as well, see
    `uniform_flip` and `background_flip`; `share` then holds of the true labels.
    Raises MinigradError for what the source cannot give.
    """
    check_share(share)
    check_flips(flip, flip_share, 2, target, form)
    source, test_source = _checked(source), _checked(test_source)
    require(min(clean, tests) >= 1, f"clean {clean}, tests {tests}: each class needs one at least",
            "clean=5, tests=100")
    if flip == "background" and target is None:
        target = drawn_background(2, rng, form)
    pools = [rng.permutation(np.flatnonzero(source.labels == digit)) for digit in (minority, majority)]
    if test_source is None:
        test = _part(source, [pool[:tests] for pool in pools])
        pools = [pool[tests:] for pool in pools]
    else:
        test = _part(test_source, [rng.permutation(np.flatnonzero(test_source.labels == digit))[:tests]
                                   for digit in (minority, majority)])
    require(len(test) == 2 * tests, f"tests {tests}: the source has fewer of a class", "tests=N with a smaller N")
    clean_set = _part(source, [pool[:clean] for pool in pools])
    pools = [pool[clean:] for pool in pools]
    counts = _two_counts(share, total, clean, len(pools[1]), form)
    require(min(counts) >= 1 and all(count <= len(pool) for count, pool in zip(counts, pools)),
            f"share {share}: it needs {counts} images of the two classes beside the clean ones, of "
            f"{[len(pool) for pool in pools]}", "choose a milder share or a larger source")
    train = _part(source, [pool[:count] for pool, count in zip(pools, counts)])
    train = Part(train.images, _flipped(train.true, flip, flip_share, 2, rng, target, form), train.indices, train.true)
    _assert_disjoint(train, clean_set, *([test] if test_source is None else []))
    statement = (f"training: {counts[0]} of class 0 (digit {minority}), {counts[1]} of class 1 (digit {majority})"
                 f"{about_labels(train, flip, 2, target)}; clean: {clean} + {clean}; test: {tests} + {tests}")
    return Task(statement, train, clean_set, None, test, train if total is None else train + clean_set, 2, 0)


def _two_counts(share, total, clean, most, form):
    """How many of the minority and of the majority to train on."""
    whole = round if form == "true" else math.floor
    if total is None:
        return [whole(most * (1.0 - share) / share), most]
    few = whole(total * (1.0 - share))
    return [few - clean, (total - few if form == "true" else whole(total * share)) - clean]


def _part(source: Images, chosen):
    indices = np.concatenate(chosen)
    labels = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
    return Part(source.images[indices], labels, indices, labels)


# ------------------------------------------------------------------------------------------------- many classes

def noisy(source, test_source, seed, flip=None, share=0.4, target=None, clean=100, validation=5000, ratio=1.0,
          classes=10, form="true", size=None, tests=None):
    """All classes of a source, with a share of the labels flipped, a long tail, or both.

    The source is divided into train, clean and validation; `train` is thinned to a long tail of this ratio, then to
    `size` examples at random (None: all); then the labels of `train` and of `validation` are flipped in the same way
    (flip: None, "uniform" or "background"; target: the background). Baselines train on `train` alone, as in the
    authors' code. tests: how many test images (None: all), from the test source or, if that is None, from the source.

    "true": clean holds equally many of each class (as far as the number divides), validation and test each class in
    its proportion. "paper" (Ren et al. 2018, section 4.2, the authors' code): the source is shuffled with
    RandomState(seed) and its end is validation; the rest is shuffled so once more and its end is clean, hence not
    balanced; the first int(share n) of what is left are relabelled, and of validation, with a background drawn from
    RandomState(seed + 1) if none is given (seed 0: class 3 of 10, 41 of 100). For the flips see the functions above.
    Raises MinigradError for what is impossible, before any image is copied.
    """
    check_flips(flip, share, classes, target, form)
    _check_ratio(ratio)
    source, test_source = _checked(source, classes), _checked(test_source, classes)
    _check_numbers(source, test_source, seed, clean, validation, size, tests)
    test_from = source if test_source is None else test_source
    rng, pool, test = generator(seed), np.arange(len(source.labels)), np.arange(len(test_from.labels))
    if tests is not None:
        test = _in_proportion(test_from.labels, test, tests, classes, rng)
    if test_source is None:
        pool = np.setdiff1d(pool, test)
    split = _split_as_the_authors if form == "paper" else _split
    indices, chosen, held = split(source.labels, pool, clean, validation, classes, seed, rng)
    indices = _thinned(source.labels, indices, ratio, size, classes, rng)
    rng = _authors_generator(seed + 1) if form == "paper" else rng
    if flip == "background" and target is None:
        target = drawn_background(classes, rng, form)
    flips = (flip, share, classes, rng, target, form)
    train, kept = (_noisy_part(source, some, *flips) for some in (indices, held))
    clean_set, test = (_noisy_part(*some, None, *flips[1:]) for some in ((source, chosen), (test_from, test)))
    _assert_disjoint(train, clean_set, kept, *([test] if test_source is None else []))
    sizes = np.bincount(train.true, minlength=classes)
    statement = (f"training: {len(train)} images of {classes} classes, {sizes.min()} to {sizes.max()} of each"
                 f"{about_labels(train, flip, classes, target)}; clean: {clean}{_about_absence(clean_set, classes)}; "
                 f"validation: {validation}; test: {len(test)}")
    return Task(statement, train, clean_set, kept if validation else None, test, train, classes,
                classes - 1 if ratio > 1 else None)


def _checked(source, classes=None):
    """A source with its labels as an array of integers. Raises unless there is one for each image."""
    if source is None:
        return None
    labels, images = label_array("a task of images and labels", source.labels), shape(source.images)
    require(labels.ndim == 1 and images[:1] in ((), labels.shape),
            f"images of shape {images} and labels of shape {labels.shape} do not fit", "one label for each image")
    return Images(source.images, labels if classes is None else check_labels(labels, classes))


def _check_numbers(source, test_source, seed, clean, validation, size, tests):
    for name, number, least in (("seed", seed, 0), ("clean", clean, 1), ("validation", validation, 0),
                                ("size", size, 1), ("tests", tests, 1)):
        require(number is None or number >= least, f"{name} {number}: the least is {least}", f"{name}={least} or more")
    given = len(source.labels)
    if test_source is None:
        require(tests is not None, "no test images: neither a source of them, nor how many to set aside", "tests=1000")
        given -= tests
    else:
        most = len(test_source.labels)
        require(tests is None or tests <= most, f"tests {tests}: the test source has {most}", f"tests={most} or fewer")
    require(clean + validation < given, f"clean {clean} and validation {validation} leave none to train on of {given} "
            "images", "choose fewer, or a larger source")


def _flipped(labels, flip, share, classes, rng, target, form):
    if flip is None:
        return labels
    if flip == "uniform":
        return uniform_flip(labels, share, classes, rng, form)
    return background_flip(labels, share, classes, rng, target, form)


def _split(labels, pool, clean, validation, classes, seed, rng):
    """Indices of train, clean (balanced) and validation (each class in its proportion), disjoint."""
    chosen = _of_each(labels, pool, _divided(clean, np.ones(classes), rng), rng)
    pool = np.setdiff1d(pool, chosen)
    held = _in_proportion(labels, pool, validation, classes, rng)
    return rng.permutation(np.setdiff1d(pool, held)), chosen, held


def _split_as_the_authors(labels, pool, clean, validation, classes, seed, rng):
    pool, held = np.split(_authors_generator(seed).permutation(pool), [-validation or len(pool)])
    pool, chosen = np.split(_authors_generator(seed).permutation(pool), [-clean])
    return pool, chosen, held


def _authors_generator(seed):
    """NumPy's older generator, which the authors use; it takes seeds below 2**32, and of larger ones the words."""
    words = [seed >> k & 0xFFFFFFFF for k in range(0, seed.bit_length(), 32)]
    return np.random.RandomState(seed if seed < 2**32 else words)


def _thinned(labels, indices, ratio, size, classes, rng):
    """What is left of them, in the same order, with a long tail and no more than `size`."""
    if ratio > 1:
        indices = indices[long_tailed(labels[indices], ratio, rng, classes)]
    most = len(indices)
    require(size is None or size <= most, f"size {size}: {most} examples are left to train on",
            f"size={most} or fewer")
    return indices if size is None else indices[np.sort(rng.permutation(most)[:size])]


def _in_proportion(labels, pool, total, classes, rng):
    """`total` of a pool of indices, of each class as many as its share of the pool."""
    return _of_each(labels, pool, _divided(total, np.bincount(labels[pool], minlength=classes), rng), rng)


def _divided(total, weights, rng):
    """`total` in whole numbers in proportion to weights; what is over goes to the largest remainders, ties by lot."""
    exact = total * weights / weights.sum()
    counts = np.floor(exact).astype(int)
    order = rng.permutation(len(weights))
    order = order[np.argsort((counts - exact)[order], kind="stable")]
    counts[order[:total - counts.sum()]] += 1
    return counts


def _of_each(labels, pool, counts, rng):
    """So many of each class, drawn from a pool of indices, in random order."""
    members = [pool[labels[pool] == k] for k in range(len(counts))]
    for k, count in enumerate(counts):
        require(count <= len(members[k]), f"class {k}: {count} examples of it are wanted, of {len(members[k])}",
                "choose fewer, or a larger source")
    return rng.permutation(np.concatenate([rng.permutation(some)[:count] for some, count in zip(members, counts)]))


def _noisy_part(source, indices, flip, share, classes, rng, target, form):
    true = source.labels[indices]
    if flip is None or form == "true":
        return Part(source.images[indices], _flipped(true, flip, share, classes, rng, target, form), indices, true)
    first = np.arange(int(share * len(true)))               # the authors shuffle before and after
    labels, order = drawn_again(true, first, classes, rng, target), rng.permutation(len(true))
    return Part(source.images[indices[order]], labels[order], indices[order], true[order])


def _about_absence(part, classes):
    """Of how many classes the part lacks an example, in words; "" where it has one of each."""
    absent = classes - len(np.unique(part.true))
    return f" (which lack {absent} of the {classes} classes)" if absent else ""


def _assert_disjoint(*parts):
    indices = np.concatenate([part.indices for part in parts])
    assert len(np.unique(indices)) == len(indices), "the parts of a task share images"


def _check_ratio(ratio):
    require(ratio >= 1 and math.isfinite(ratio), f"ratio {ratio}: how many times the largest class is the smallest "
            "cannot be less than 1, or infinite", "1 is no long tail; 10 to 100 are usual")


def long_tailed(labels, ratio, rng, classes):
    """Indices, ascending, of a part in which class k has floor(n_0 ratio^(-k / (K - 1))) examples, drawn at random.

    ratio: the first class to the last, the largest to the smallest. n_0 is the size of the first class, or less where
    another class has too few for that. (Cui et al. 2019, section 5.1.)
    Raises MinigradError for a ratio below 1, and for one at which a class would lose its last example.
    """
    _check_ratio(ratio)
    labels = check_labels(labels, classes)
    profile = float(ratio) ** (-np.arange(classes) / max(classes - 1, 1))
    sizes = np.bincount(labels, minlength=classes)
    counts = np.floor((sizes / profile).min() * profile + 1e-6).astype(int)     # 1e-6: where a whole number rounds down
    require(counts.min() >= 1, f"ratio {ratio}: it leaves {counts.tolist()} examples of the classes",
            "choose a smaller ratio or a larger source")
    return np.sort(_of_each(labels, np.arange(len(labels)), counts, rng))
