"""Tasks: a biased training set, the clean set that goes with it, and a test set that is not biased.

All three are disjoint by index, and that is asserted. Labels are those of the task (0, 1, ...), not of the digits.
"""
import dataclasses
from typing import NamedTuple

import numpy as np

from minigrad import MinigradError

from .data import Images


class Part(NamedTuple):
    """Some of the images of a source: images, labels, and which ones they are."""
    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self):
        return len(self.labels)

    def __add__(self, other):
        return Part(*(np.concatenate(pair) for pair in zip(self, other)))


@dataclasses.dataclass(frozen=True)
class Task:
    """statement: how the distribution of `train` differs from that of `test`; it is true of the counts.

    train: the biased set without the clean images. clean: the small unbiased set. test: unbiased.
    baseline: what a method that knows no clean set is trained on: `train`, or train and clean together.
    minority: the label of the class that is rare in training.
    """
    statement: str
    train: Part
    clean: Part
    test: Part
    baseline: Part
    minority: int = 0


def check_share(share):
    """Raise unless the share of the majority lies between balance and absence of the minority."""
    if not 0.5 < share < 1.0:
        raise MinigradError(f"share {share}: the share of the majority class must lie between 0.5 and 1, both "
                            "excluded\n  help: the paper uses 0.9 0.95 0.98 0.99 0.995")


def imbalance(source, share, rng, test_source=None, total=None, clean=5, tests=100, minority=4, majority=9):
    """Two digits, one of which makes up `share` of the training set: label 0 the minority, label 1 the majority.

    total: the size of the biased set with the clean images in it, which are taken out of it for `train` (the paper:
    5,000, of which 10 clean). None: as many of the majority as the source has when clean and test images are set
    aside, and the minority to match; the clean images then come on top and no baseline sees them.
    clean, tests: images of each class. test_source: where the test images come from, if not from the source.
    """
    check_share(share)
    pools = [rng.permutation(np.flatnonzero(source.labels == digit)) for digit in (minority, majority)]
    if test_source is None:
        test = _part(source, [pool[:tests] for pool in pools])
        pools = [pool[tests:] for pool in pools]
    else:
        test = _part(test_source, [rng.permutation(np.flatnonzero(test_source.labels == digit))[:tests]
                                   for digit in (minority, majority)])
    clean_set = _part(source, [pool[:clean] for pool in pools])
    pools = [pool[clean:] for pool in pools]
    if total is None:
        counts = [round(len(pools[1]) * (1.0 - share) / share), len(pools[1])]
    else:
        few = round(total * (1.0 - share))
        counts = [few - clean, total - few - clean]
    if min(counts) < 1 or any(count > len(pool) for count, pool in zip(counts, pools)):
        raise MinigradError(f"share {share}: it needs {counts} images of the two classes beside the clean ones, of "
                            f"{[len(pool) for pool in pools]}\n  help: choose a milder share or a larger source")
    train = _part(source, [pool[:count] for pool, count in zip(pools, counts)])
    _assert_disjoint(train, clean_set, *([test] if test_source is None else []))
    statement = (f"training: {counts[0]} of class 0 (digit {minority}), {counts[1]} of class 1 (digit {majority}); "
                 f"clean: {clean} + {clean}; test: {tests} + {tests}")
    return Task(statement, train, clean_set, test, train if total is None else train + clean_set)


def _part(source: Images, chosen):
    indices = np.concatenate(chosen)
    labels = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
    return Part(source.images[indices], labels, indices)


def _assert_disjoint(*parts):
    indices = np.concatenate([part.indices for part in parts])
    assert len(np.unique(indices)) == len(indices), "the parts of a task share images"
