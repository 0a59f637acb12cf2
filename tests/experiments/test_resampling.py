"""Rebuilt training sets have equal counts, keep the original examples, and have synthetic ones between neighbors."""
import sys

import numpy as np
import pytest

from experiments.methods import resampling
from experiments.methods.resampling import over_sample, smote, under_sample
from minigrad import MinigradError, ShapeError
from minigrad.backend import generator

ALL = [under_sample, over_sample, smote]


def images(*counts, key=0, shape=(3, 2, 1)):
    """Return this many images of classes 0, 1, ..., shuffled, all different."""
    rng = generator(key)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return rng.uniform(size=(len(y), *shape)).astype(np.float32), y


@pytest.mark.parametrize("f", ALL)
@pytest.mark.parametrize("counts", [(7, 40), (40, 7, 20), (3, 3), (1, 5), (6,)])
def test_class_counts_are_equal_and_every_row_is_what_its_origin_says(f, counts):
    x, y = images(*counts)
    before = x.copy(), y.copy()
    a, b, origin = f(x, y, generator(1))
    size = min(counts) if f is under_sample else max(counts)
    assert np.bincount(b).tolist() == [size] * len(counts)
    assert a.shape == (len(b), 3, 2, 1) and a.dtype == np.float32 and b.dtype == y.dtype
    assert origin.shape == b.shape and origin.dtype == np.int64
    copies = origin >= 0
    np.testing.assert_array_equal(a[copies], x[origin[copies]])
    np.testing.assert_array_equal(b[copies], y[origin[copies]])
    assert copies.all() or f is smote
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("f", ALL)
def test_the_key_decides(f):
    x, y = images(7, 40)
    one, same, other = f(x, y, generator(1)), f(x, y, generator(1)), f(x, y, generator(2))
    for p, q in zip(one, same):
        np.testing.assert_array_equal(p, q)
    assert (one[0] != other[0]).any()


def test_under_sampling_loses_nothing_of_the_minority_and_repeats_nothing():
    x, y = images(7, 40, 12)
    origin = under_sample(x, y, generator(1))[2]
    assert set(np.flatnonzero(y == 0)) <= set(origin)
    assert len(set(origin)) == len(origin) and (np.diff(origin) > 0).all()
    reached = np.concatenate([under_sample(x, y, generator(k))[2] for k in range(100)])
    assert set(reached) == set(range(len(y)))               # each of the majority may be among those that stay


@pytest.mark.parametrize("f", [over_sample, smote])
def test_nothing_is_lost_when_classes_are_raised(f):
    x, y = images(7, 40, 12)
    origin = f(x, y, generator(1))[2]
    np.testing.assert_array_equal(origin[:len(y)], np.arange(len(y)))
    if f is over_sample:
        assert len(set(origin[len(y):])) > 15               # of 19 to copy: not always the same
        assert (y[origin[len(y):]] != 1).all()
    else:
        assert (origin[len(y):] == -1).all()


def segments(points, k):
    """Return the ends of the segments from each point to its k nearest neighbors: two arrays (n k, pixels)."""
    distance = ((points[:, None] - points) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argsort(1)[:, :k]
    return np.repeat(points, nearest.shape[1], 0), points[nearest.ravel()]


def where_on(made, start, end):
    """Return for each point the r of the nearest segment, start + r (end - start), and the distance from it."""
    along = end - start
    r = ((made[:, None] - start) * along).sum(-1) / (along ** 2).sum(-1)
    r = r.clip(0, 1)
    off = np.sqrt(((made[:, None] - (start + r[..., None] * along)) ** 2).sum(-1))
    best = off.argmin(1)
    return r[np.arange(len(made)), best], off.min(1), best


@pytest.mark.parametrize("counts, k, near", [((20, 300), 5, 5), ((20, 300), 2, 2), ((4, 60), 5, 3), ((2, 60), 5, 1)])
def test_synthetic_points_lie_between_neighbors_of_their_class(counts, k, near):
    x, y = images(*counts)
    a, b, origin = smote(x, y, generator(1), k=k)
    assert (b[origin < 0] == 0).all()
    made, few = (z.reshape(len(z), -1).astype(np.float64) for z in (a[origin < 0], x[y == 0]))
    start, end = segments(few, near)
    r, off, best = where_on(made, start, end)
    assert off.max() < 1e-6
    used = {frozenset(map(bytes, (start[i], end[i]))) for i in best}
    assert len(used) >= 0.8 * len({frozenset(map(bytes, pair)) for pair in zip(start, end)})     # all, given time
    if len(few) == 2:                                       # then r is known without doubt: uniform on (0, 1)
        assert r.min() < 0.15 and r.max() > 0.85 and abs(r.mean() - 0.5) < 0.15
    if near < len(few) - 1:                                 # k is respected: one neighbor fewer does not explain all
        assert where_on(made, *segments(few, near - 1))[1].max() > 1e-3


def test_a_class_of_one_can_only_be_copied():
    x, y = images(1, 30)
    a, b, origin = smote(x, y, generator(1))
    only = np.flatnonzero(y == 0)[0]
    assert (origin[b == 0] == only).all() and (b == 0).sum() == 30
    assert (a[b == 0] == x[only]).all()


def test_smote_with_under_sampling():
    x, y = images(7, 40, 15)
    a, b, origin = smote(x, y, generator(1), under=0.5)
    assert np.bincount(b).tolist() == [20, 20, 20]
    assert (b[origin < 0] != 1).all() and (origin < 0).sum() == 13 + 5
    assert set(np.flatnonzero(y != 1)) <= set(origin)       # nothing of the smaller classes is lost
    np.testing.assert_array_equal(a[origin >= 0], x[origin[origin >= 0]])
    assert np.bincount(smote(x, y, generator(1), under=0.01)[1]).tolist() == [7, 7, 7]   # not below the smallest


@pytest.mark.parametrize("setting", [{"k": 0}, {"under": 0.0}, {"under": 1.5}])
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(MinigradError, match="help: k is the number of neighbors"):
        smote(*images(3, 6), generator(0), **setting)


@pytest.mark.parametrize("f", ALL)
def test_images_and_labels_must_fit(f):
    x, y = images(3, 6)
    for x, y in [(x, y[:-1]), (x, y[:, None]), (x[:0], y[:0])]:
        with pytest.raises(ShapeError, match="images and labels do not fit"):
            f(x, y, generator(0))


@pytest.mark.parametrize("f", ALL)
def test_without_imbalanced_learn(f, monkeypatch):
    for name in ("imblearn", "imblearn.over_sampling", "imblearn.under_sampling"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MinigradError) as caught:
        f(*images(3, 6), generator(0))
    assert "needs imbalanced-learn" in str(caught.value)
    assert str(caught.value).endswith("\n  help: pip install -e '.[experiments]'")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_only_example_of_a_class_is_copied(size):
    """As often as needed, once for a class of two: it has no neighbor."""
    x, y = np.arange(size + 1, dtype="float32")[:, None], np.array([1] + [0] * size)
    made, labels, origin = resampling.smote(x, y, generator(0))
    assert np.bincount(labels).tolist() == [size, size] and (made[labels == 1] == 0).all() and (origin[labels == 1] == 0).all()
