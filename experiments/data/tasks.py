"""Tasks: a biased training set with its clean set and validation set, and an unbiased test set.

    imbalance(source, share, rng, ...)      two classes, one of them rare
    noisy(source, test_source, seed, ...)   many classes: wrong labels (flips.py), a long tail, or both

All parts are disjoint by index, which is asserted. Every part keeps the true labels beside the given ones. The variant
of the flip is that of the whole task: "exact" for counts that are exactly as asked for, "paper" for what the authors'
code does.
"""
import dataclasses
import math
from typing import NamedTuple

import numpy as np

from minigrad.backend import generator
from minigrad.errors import shape
from minigrad.losses import label_array

from .flips import NO_FLIP, Flip, check_labels, require
from .images import Images


class Part(NamedTuple):
    """Some images of a source, with the labels as given, the indices in the source, and the true labels."""
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
        """A mask of the wrong labels, (n,)."""
        return self.labels != self.true


@dataclasses.dataclass(frozen=True)
class Task:
    """A training set whose distribution differs from that of the test set, and the sets that go with it.

    Args:
        statement: how training differs from test, in words and counts.
        train: the biased set without the clean images.
        clean: the small unbiased set.
        validation: unbiased true labels, flipped like those of `train`; None for no validation set.
        test: the unbiased test set.
        baseline: the training set of methods that use no clean set: `train`, or train and clean together.
        classes: number of classes.
        minority: the label of the rare class, or None.
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
        """Convert columns of tables to arrays; raise MinigradError for labels outside 0 to classes - 1."""
        for name in ("train", "clean", "validation", "test", "baseline"):
            part = getattr(self, name)
            if part is not None:
                labels, true = (check_labels(labels, self.classes) for labels in (part.labels, part.true))
                if labels is not part.labels or true is not part.true:
                    object.__setattr__(self, name, Part(part.images, labels, part.indices, true))


# ------------------------------------------------------------------------------------------------- two classes

def check_share(share):
    """Raise MinigradError unless the share of the majority class lies strictly between 0.5 and 1."""
    require(0.5 < share < 1.0, f"share {share}: the share of the majority class must lie between 0.5 and 1, both "
            "excluded", "the paper uses 0.9 0.95 0.98 0.99 0.995")


def imbalance(source, share, rng, test_source=None, total=None, clean=5, tests=100, digits=(4, 9), flip=NO_FLIP):
    """Return a task of two digits, label 0 the minority and label 1 the majority, a share of the training set.

    Args:
        source: Images of all digits.
        share: of the majority in the biased set, by true labels.
        rng: NumPy generator.
        test_source: Images to take the test set from; None: the source.
        total: size of the biased set with the clean images, which `train` then lacks (the paper: 5,000 with 10 clean
            ones). None: every image of the majority that is not a clean or test image, and a minority to match; the
            baselines then do not see the clean images.
        clean: number of clean images of each class.
        tests: number of test images of each class.
        digits: of class 0, the minority, and of class 1.
        flip: how labels of `train` are made wrong. Its variant "exact" rounds the numbers of images; "paper" truncates
            them like the authors' code, which loses one image to floating point at a share of 0.9 of 5,000: 499 and
            4,500.

    Raises MinigradError for what the source does not have enough images for.
    """
    check_share(share)
    _check_flip(flip, 2)
    source, test_source = _check_source(source), _check_source(test_source)
    require(min(clean, tests) >= 1, f"clean {clean}, tests {tests}: each class needs at least one",
            "clean=5, tests=100")
    flip = flip.with_target(2, rng)
    free = [rng.permutation(np.flatnonzero(source.labels == digit)) for digit in digits]
    if test_source is None:
        test = _make_part(source, [indices[:tests] for indices in free])
        free = [indices[tests:] for indices in free]
    else:
        test = _make_part(test_source, [rng.permutation(np.flatnonzero(test_source.labels == digit))[:tests]
                                        for digit in digits])
    require(len(test) == 2 * tests, f"tests {tests}: the source has fewer images of a class",
            "tests=N with a smaller N")
    clean_set = _make_part(source, [indices[:clean] for indices in free])
    free = [indices[clean:] for indices in free]
    counts = _count_two_classes(share, total, clean, len(free[1]), flip.variant)
    require(min(counts) >= 1 and all(count <= len(indices) for count, indices in zip(counts, free)),
            f"share {share}: it needs {counts} images of the two classes beside the clean ones, of "
            f"{[len(indices) for indices in free]}", "choose a milder share or a larger source")
    train = _make_part(source, [indices[:count] for indices, count in zip(free, counts)])
    train = Part(train.images, flip(train.true, 2, rng), train.indices, train.true)
    _assert_disjoint(train, clean_set, *([test] if test_source is None else []))
    statement = (f"training: {counts[0]} of class 0 (digit {digits[0]}), {counts[1]} of class 1 (digit {digits[1]})"
                 f"{flip.describe(train, 2)}; clean: {clean} + {clean}; test: {tests} + {tests}")
    return Task(statement, train, clean_set, None, test, train if total is None else train + clean_set, 2, 0)


def _count_two_classes(share, total, clean, most, variant):
    """Return the numbers of minority and majority examples in `train`; most: majority examples in the source."""
    to_integer = round if variant == "exact" else math.floor
    if total is None:
        return [to_integer(most * (1.0 - share) / share), most]
    few = to_integer(total * (1.0 - share))
    return [few - clean, (total - few if variant == "exact" else to_integer(total * share)) - clean]


def _make_part(source: Images, chosen):
    """Return the Part with these indices, a list of arrays, one for each class."""
    indices = np.concatenate(chosen)
    labels = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
    return Part(source.images[indices], labels, indices, labels)


# ------------------------------------------------------------------------------------------------- many classes

def noisy(source, test_source, seed, flip=NO_FLIP, clean=100, validation=5000, ratio=1.0, classes=10, size=None,
          tests=None):
    """Return a task of all classes of a source, with a share of the labels flipped, a long tail, or both.

    The source is divided into train, clean and validation. `train` is reduced to a long tail, then to `size` random
    examples; then the labels of `train` and of `validation` are flipped in the same way. Baselines train on `train`
    alone, as in the authors' code.

    "exact": clean holds equally many examples of each class (up to one), validation and test each class in proportion.
    "paper" (Ren et al. 2018, section 4.2, the authors' code): the source is shuffled with RandomState(seed), and its
    end is validation. The rest is shuffled in the same way, and its end is clean, which is hence not balanced. Of the
    rest and of validation the first int(share n) are relabeled, with a background drawn from RandomState(seed + 1) if
    none is given (seed 0: class 3 of 10, 41 of 100).

    Args:
        source: Images to take train, clean and validation from.
        test_source: Images to take the test set from; None: the source.
        seed: of all random numbers, 0 or more.
        flip: how labels of `train` and `validation` are made wrong, and the variant of the task.
        clean: number of clean images.
        validation: number of validation images.
        ratio: of the largest class to the smallest in `train`, 1 for no long tail.
        classes: number of classes.
        size: of `train`; None: all that is left.
        tests: number of test images; None: all of the test source.

    Raises MinigradError for what is impossible, before any image is copied.
    """
    _check_flip(flip, classes)
    _check_ratio(ratio)
    source, test_source = _check_source(source, classes), _check_source(test_source, classes)
    _check_numbers(source, test_source, seed, clean, validation, size, tests)
    test_from = source if test_source is None else test_source
    rng, free, test_indices = generator(seed), np.arange(len(source.labels)), np.arange(len(test_from.labels))
    if tests is not None:
        test_indices = _draw_in_proportion(test_from.labels, test_indices, tests, classes, rng)
    if test_source is None:
        free = np.setdiff1d(free, test_indices)
    split = _split_like_the_authors if flip.variant == "paper" else _split
    train_indices, clean_indices, validation_indices = split(source.labels, free, clean, validation, classes, seed, rng)
    train_indices = _reduce(source.labels, train_indices, ratio, size, classes, rng)
    rng = _authors_generator(seed + 1) if flip.variant == "paper" else rng
    flip = flip.with_target(classes, rng)
    train, validation_set = (_flipped_part(source, indices, flip, classes, rng)
                             for indices in (train_indices, validation_indices))
    clean_set, test = _part(source, clean_indices), _part(test_from, test_indices)
    _assert_disjoint(train, clean_set, validation_set, *([test] if test_source is None else []))
    sizes = np.bincount(train.true, minlength=classes)
    statement = (f"training: {len(train)} images of {classes} classes, {sizes.min()} to {sizes.max()} of each"
                 f"{flip.describe(train, classes)}; clean: {clean}{_describe_absence(clean_set, classes)}; "
                 f"validation: {validation}; test: {len(test)}")
    return Task(statement, train, clean_set, validation_set if validation else None, test, train, classes,
                classes - 1 if ratio > 1 else None)


def _check_flip(flip, classes):
    require(isinstance(flip, Flip), f"flip {flip!r}: it must be a Flip",
            "flip=Flip('uniform', share=0.4), or leave it out for right labels")
    flip.check(classes)


def _check_source(source, classes=None):
    """Return a source with its labels as an array of integers; raise MinigradError unless there is one per image."""
    if source is None:
        return None
    labels, images = label_array("a task of images and labels", source.labels), shape(source.images)
    require(labels.ndim == 1 and images[:1] in ((), labels.shape),
            f"images of shape {images} and labels of shape {labels.shape} do not fit", "one label for each image")
    return Images(source.images, labels if classes is None else check_labels(labels, classes))


def _check_numbers(source, test_source, seed, clean, validation, size, tests):
    for name, number, least in (("seed", seed, 0), ("clean", clean, 1), ("validation", validation, 0),
                                ("size", size, 1), ("tests", tests, 1)):
        require(number is None or number >= least, f"{name} {number}: it must be at least {least}", f"{name}={least}")
    available = len(source.labels)
    if test_source is None:
        require(tests is not None, "no test images: there is no test source, and no number of images to set aside",
                "tests=1000")
        available -= tests
    else:
        most = len(test_source.labels)
        require(tests is None or tests <= most, f"tests {tests}: the test source has {most}", f"tests={most} or fewer")
    require(clean + validation < available, f"clean {clean} and validation {validation} leave no training images of "
            f"{available}", "choose fewer, or a larger source")


def _split(labels, free, clean, validation, classes, seed, rng):
    """Return disjoint indices of train, clean (balanced) and validation (each class in proportion)."""
    clean_indices = _draw_from_each(labels, free, _apportion(clean, np.ones(classes), rng), rng)
    free = np.setdiff1d(free, clean_indices)
    validation_indices = _draw_in_proportion(labels, free, validation, classes, rng)
    return rng.permutation(np.setdiff1d(free, validation_indices)), clean_indices, validation_indices


def _split_like_the_authors(labels, free, clean, validation, classes, seed, rng):
    """Return disjoint indices of train, clean and validation, drawn as in the authors' code."""
    free, validation_indices = np.split(_authors_generator(seed).permutation(free), [-validation or len(free)])
    train_indices, clean_indices = np.split(_authors_generator(seed).permutation(free), [-clean])
    return train_indices, clean_indices, validation_indices


def _authors_generator(seed):
    """Return NumPy's legacy generator, as in the authors' code; a seed of 2**32 or more is passed as 32-bit words."""
    words = [seed >> k & 0xFFFFFFFF for k in range(0, seed.bit_length(), 32)]
    return np.random.RandomState(seed if seed < 2**32 else words)


def _reduce(labels, indices, ratio, size, classes, rng):
    """Return a part of the indices, in the same order, with a long tail and at most `size` of them."""
    if ratio > 1:
        indices = indices[long_tail(labels[indices], ratio, rng, classes)]
    most = len(indices)
    require(size is None or size <= most, f"size {size}: only {most} examples are left to train on",
            f"size={most} or fewer")
    return indices if size is None else indices[np.sort(rng.permutation(most)[:size])]


def _draw_in_proportion(labels, free, total, classes, rng):
    """Draw `total` of the indices `free`, each class in proportion to its frequency among them."""
    return _draw_from_each(labels, free, _apportion(total, np.bincount(labels[free], minlength=classes), rng), rng)


def _apportion(total, weights, rng):
    """Apportion `total` by the largest-remainder method: integers (K,) of that sum; ties are broken at random."""
    exact = total * weights / weights.sum()
    counts = np.floor(exact).astype(int)
    order = rng.permutation(len(weights))
    order = order[np.argsort((counts - exact)[order], kind="stable")]
    counts[order[:total - counts.sum()]] += 1
    return counts


def _draw_from_each(labels, free, counts, rng):
    """Draw counts[k] of the indices `free` from each class k, and shuffle them."""
    members = [free[labels[free] == k] for k in range(len(counts))]
    for k, count in enumerate(counts):
        require(count <= len(members[k]), f"class {k}: {count} examples are needed, of {len(members[k])}",
                "choose fewer, or a larger source")
    return rng.permutation(np.concatenate([rng.permutation(some)[:count] for some, count in zip(members, counts)]))


def _part(source, indices):
    """Return the Part with these indices, its labels as they are."""
    return Part(source.images[indices], source.labels[indices], indices, source.labels[indices])


def _flipped_part(source, indices, flip, classes, rng):
    """Return the Part with these indices, its labels flipped; in the paper variant a flip also shuffles them."""
    part = _part(source, indices)
    if flip.kind is None or flip.variant == "exact":
        return Part(part.images, flip(part.true, classes, rng), indices, part.true)
    first = np.arange(int(flip.share * len(part)))          # the authors shuffle before and after
    labels, order = flip.redraw(part.true, first, classes, rng), rng.permutation(len(part))
    return Part(part.images[order], labels[order], indices[order], part.true[order])


def _describe_absence(part, classes):
    """Return a text with the number of classes that do not occur in the part; "" where all occur."""
    absent = classes - len(np.unique(part.true))
    return f" (which lack {absent} of the {classes} classes)" if absent else ""


def _assert_disjoint(*parts):
    indices = np.concatenate([part.indices for part in parts])
    assert len(np.unique(indices)) == len(indices), "the parts of a task share images"


def _check_ratio(ratio):
    require(ratio >= 1 and math.isfinite(ratio), f"ratio {ratio}: the ratio of the largest class to the smallest must "
            "be finite, and at least 1", "ratio=1 for no long tail; 10 to 100 are usual")


def long_tail(labels, ratio, rng, classes):
    """Return sorted indices of a part with floor(n_0 ratio^(-k / (K - 1))) random examples of each class k.

    ratio: the size of the first and largest class divided by that of the last and smallest. n_0 is the size of the
    first class, or less where another class has too few examples for that. (Cui et al. 2019, section 5.1.)
    Raises MinigradError for a ratio below 1, and for one at which a class would lose its last example.
    """
    _check_ratio(ratio)
    labels = check_labels(labels, classes)
    profile = float(ratio) ** (-np.arange(classes) / max(classes - 1, 1))
    sizes = np.bincount(labels, minlength=classes)
    counts = np.floor((sizes / profile).min() * profile + 1e-6).astype(int)     # 1e-6: an integer may round down
    require(counts.min() >= 1, f"ratio {ratio}: it leaves {counts.tolist()} examples of the classes",
            "choose a smaller ratio or a larger source")
    return np.sort(_draw_from_each(labels, np.arange(len(labels)), counts, rng))
