"""Tasks have the stated counts, disjoint parts, and true labels."""
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments import data
from experiments.data import Images, tasks
from experiments.data.tasks import Part, long_tail
from minigrad import MinigradError
from minigrad.backend import generator

from .flipped import background_flip, flip_matrix, imbalance, noisy, uniform_flip

FLIPS, VARIANTS = ("uniform", "background"), ("exact", "paper")
shares, seeds, variants = st.floats(0, 1), st.integers(0, 2**31), st.sampled_from(VARIANTS)


@pytest.fixture(scope="module")
def sample():
    return data.sample()


def images_of(each, classes=10):
    """Return a source whose pixels are the index of the image; each: images of every class, or a list of them."""
    labels = generator(8).permutation(np.repeat(np.arange(classes), each))
    return Images(np.arange(len(labels)).reshape(-1, 1, 1, 1), labels)


def assert_sound(task, source, test_source=None):
    """Assert that all parts are disjoint parts of their sources, with the true labels."""
    parts = [task.train, task.clean] + [task.validation] * (task.validation is not None)
    parts += [task.test] * (test_source is None)
    indices = np.concatenate([part.indices for part in parts])
    assert len(set(indices)) == len(indices)
    for part, whole in [(part, source) for part in parts] + [(task.test, test_source or source)]:
        np.testing.assert_array_equal(part.images, whole.images[part.indices])
        np.testing.assert_array_equal(part.true, whole.labels[part.indices])
        assert part.labels.dtype == part.true.dtype == np.int64 and len(part) == len(part.labels)
        np.testing.assert_array_equal(part.wrong, part.labels != part.true)
    assert not task.clean.wrong.any() and not task.test.wrong.any()


@pytest.mark.parametrize("share, counts", [(0.95, [21, 395]), (0.99, [4, 395]), (0.9, [44, 395])])
def test_imbalance_of_the_sample(sample, share, counts):
    task = imbalance(sample, share, generator(0))
    assert np.bincount(task.train.labels).tolist() == counts
    assert np.bincount(task.clean.labels).tolist() == [5, 5] and np.bincount(task.test.labels).tolist() == [100, 100]
    assert task.baseline is task.train
    assert task.statement == (f"training: {counts[0]} of class 0 (digit 4), 395 of class 1 (digit 9); clean: 5 + 5; "
                              "test: 100 + 100")
    everything = np.concatenate([task.train.indices, task.clean.indices, task.test.indices])
    assert len(set(everything)) == len(everything)
    assert (task.classes, task.minority, task.validation) == (2, 0, None)
    for part in (task.train, task.clean, task.test):
        assert part.true is part.labels and not part.wrong.any()
        np.testing.assert_array_equal(sample.labels[part.indices], np.where(part.labels == 0, 4, 9))
        np.testing.assert_array_equal(sample.images[part.indices], part.images)


@pytest.mark.parametrize("share, counts", [(0.9, [495, 4495]), (0.95, [245, 4745]), (0.98, [95, 4895]),
                                           (0.99, [45, 4945]), (0.995, [20, 4970])])
def test_counts_of_the_paper(share, counts):
    """Ren et al. 2018, section 4.1: 5,000 images including the clean ones; at 0.9 the authors lose one to rounding."""
    source = Images(np.zeros((12000, 1, 1, 1), np.float32), np.repeat([4, 9], 6000))
    for variant, lost in (("exact", 0), ("paper", int(share == 0.9))):
        task = imbalance(source, share, generator(0), test_source=source, total=5000, tests=250, variant=variant)
        assert np.bincount(task.train.labels).tolist() == [counts[0] - lost, counts[1]]
        assert np.bincount(task.baseline.labels).tolist() == [counts[0] - lost + 5, counts[1] + 5]
        assert np.bincount(task.test.labels).tolist() == [250, 250]


def test_another_seed_is_another_draw(sample):
    a, b, c = (imbalance(sample, 0.95, generator(k)) for k in (0, 0, 1))
    assert (a.train.indices == b.train.indices).all() and (a.clean.indices != c.clean.indices).any()


def test_impossible_shares_are_refused(sample):
    for share in (0.5, 1.0, 1.5, 0.0):
        with pytest.raises(MinigradError) as caught:
            imbalance(sample, share, generator(0))
        assert str(caught.value) == (f"share {share}: the share of the majority class must lie between 0.5 and 1, both excluded\n"
                                     "  help: the paper uses 0.9 0.95 0.98 0.99 0.995")
    with pytest.raises(MinigradError) as caught:
        imbalance(sample, 0.9999, generator(0))
    assert str(caught.value) == ("share 0.9999: it needs [0, 395] images of the two classes beside the clean ones, of [395, 395]\n"
                                 "  help: choose a milder share or a larger source")
    with pytest.raises(MinigradError, match="choose a milder share or a larger source"):
        imbalance(sample, 0.9, generator(0), total=5000)
    for wrong in (dict(clean=0), dict(tests=0), dict(tests=501), dict(tests=501, test_source=sample), dict(flip="sideways"),
                  dict(variant="false"), dict(flip="uniform", flip_share=1.1), dict(flip="background", target=2)):
        with pytest.raises(MinigradError, match="\n  help: "):
            imbalance(sample, 0.9, generator(0), **wrong)


@pytest.mark.parametrize("variant", VARIANTS)
def test_imbalance_together_with_wrong_labels(sample, variant):
    plain = imbalance(sample, 0.9, generator(0), variant=variant)
    task = imbalance(sample, 0.9, generator(0), variant=variant, flip="background", target=1, flip_share=0.25)
    few = len(plain.train) - 395
    np.testing.assert_array_equal(task.train.true, plain.train.labels)          # the share holds of the true labels
    assert set(task.train.labels[task.train.wrong]) == {1} and set(task.train.true[task.train.wrong]) == {0}
    if variant == "exact":
        assert task.train.wrong.sum() == round(0.25 * few)
    assert f"; {task.train.wrong.sum()} labels wrong (" in task.statement and "have label 1" in task.statement
    assert not task.clean.wrong.any() and not task.test.wrong.any()
    swapped = imbalance(sample, 0.9, generator(0), variant=variant, flip="uniform", flip_share=0.25)
    if variant == "exact":
        assert swapped.train.wrong.sum() == round(0.25 * (few + 395)) and flip_matrix(swapped.train, 2).min() > 0
    else:                                                   # floor(U(0, 1)) is 0: of two classes the first alone
        assert set(swapped.train.labels[swapped.train.wrong]) == {0}


# ------------------------------------------------------------------------------------------------- wrong labels

@given(st.lists(st.integers(0, 4), max_size=60), shares, seeds)
def test_true_uniform_flips_are_exact(labels, share, key):
    labels = np.array(labels, int)
    before = labels.copy()
    new = uniform_flip(labels, share, 5, generator(key))
    assert (new != labels).sum() == round(share * len(labels)) and set(new) <= set(range(5))
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(new, uniform_flip(labels, share, 5, generator(key)))


@example([0] * 7, 0.5, 0, 1, "paper")                     # int(3.5) labels, where round(3.5) is 4
@given(st.lists(st.integers(0, 4), max_size=60), shares, seeds, st.integers(0, 4), variants)
def test_background_flips_go_one_way(labels, share, key, target, variant):
    labels = np.array(labels, int)
    new = background_flip(labels, share, 5, generator(key), target, variant)
    changed = new != labels
    assert set(new[changed]) <= {target}
    for k in set(range(5)) - {target}:
        if variant == "exact":
            assert changed[labels == k].sum() == round(share * (labels == k).sum())
    if variant == "paper":
        assert int(share * len(labels)) - (labels == target).sum() <= changed.sum() <= int(share * len(labels))


@pytest.mark.parametrize("classes", [3, 10])
def test_true_uniform_flips_reach_every_other_class_alike(classes):
    labels = np.repeat(np.arange(classes), 3000)
    new = uniform_flip(labels, 0.5, classes, generator(0))
    found = flip_matrix(Part(None, new, None, labels), classes)
    np.testing.assert_allclose(found, np.where(np.eye(classes), 0.5, 0.5 / (classes - 1)), atol=0.04)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("flip", [uniform_flip, background_flip])
def test_which_labels_are_flipped_is_drawn(flip, variant):
    labels = np.repeat(np.arange(3), 100)
    how = dict(target=0) if flip is background_flip else {}
    changed = [flip(labels, 0.5, 3, generator(k), variant=variant, **how)[200:] != 2 for k in (0, 1)]
    assert (changed[0] != changed[1]).any() and 10 < changed[0][:50].sum() < 40 and 10 < changed[0][50:].sum() < 40


@pytest.mark.parametrize("rng", [generator(0), np.random.RandomState(0)])
def test_uniform_flips_of_the_paper_spare_the_last_class(rng):
    """A share of 0.4 with 10 classes makes 36.0 % wrong; the last class is never drawn."""
    labels = np.repeat(np.arange(10), 10000)
    new = uniform_flip(labels, 0.4, 10, rng, "paper")
    assert 0.3550 < (new != labels).mean() < 0.3655         # 0.4 (0.9 8/9 + 0.1) = 0.36
    found = flip_matrix(Part(None, new, None, labels), 10)
    assert (found[:9, 9] == 0).all() and abs(found[9, 9] - 0.6) < 0.02
    np.testing.assert_allclose(found[:, :9] - 0.6 * np.eye(10)[:, :9], 0.4 / 9, atol=0.02)


def test_with_two_classes_the_paper_draws_the_first_alone():
    labels = np.repeat([0, 1], 500)
    for new in (uniform_flip(labels, 0.5, 2, generator(0), "paper"), background_flip(labels, 0.5, 2, generator(0), variant="paper")):
        assert (new[labels == 0] == 0).all() and 200 < (new[labels == 1] == 0).sum() < 300
    assert {background_flip(labels, 1, 2, generator(k)).max() for k in range(20)} == {0, 1}         # "exact": any
    assert (uniform_flip(labels, 1, 2, generator(0)) == 1 - labels).all()


def test_the_flip_matrix_by_hand():
    part = Part(None, np.array([0, 1, 1, 2, 2, 2, 0]), None, np.array([0, 0, 1, 1, 1, 1, 0]))
    np.testing.assert_allclose(flip_matrix(part, 4), [[2 / 3, 1 / 3, 0, 0], [0, 1 / 4, 3 / 4, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_rows_of_the_flip_matrix_sum_to_one(pairs):
    given_labels, true = np.array(pairs).T
    part = Part(None, given_labels, None, true)
    found = flip_matrix(part, 4)
    assert found.shape == (4, 4) and (found >= 0).all()
    np.testing.assert_allclose(found.sum(1), 1)
    shares = np.bincount(true, minlength=4) / len(true)     # and it brings the true shares to the given ones
    np.testing.assert_allclose(shares @ found, np.bincount(given_labels, minlength=4) / len(true), atol=1e-12)


# ------------------------------------------------------------------------------------------------- long tails

@pytest.mark.parametrize("classes, each, total", [(10, 5000, 12406), (100, 500, 10847)])
def test_the_long_tail_of_the_literature(classes, each, total):
    """CIFAR-10-LT and CIFAR-100-LT at ratio 100 hold 12,406 and 10,847 images."""
    labels = generator(0).permutation(np.repeat(np.arange(classes), each))
    kept = long_tail(labels, 100, generator(0), classes)
    counts = np.bincount(labels[kept])
    assert len(kept) == total and counts[0] == each and counts[-1] == each // 100
    if classes == 10:
        assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert (np.diff(kept) > 0).all() and (kept != long_tail(labels, 100, generator(1), classes)).any()


@given(st.lists(st.integers(30, 60), min_size=2, max_size=6), st.floats(1, 30), seeds)
def test_long_tails_fall_at_one_rate(sizes, ratio, key):
    classes = len(sizes)
    labels = np.repeat(np.arange(classes), sizes)
    counts = np.bincount(labels[long_tail(labels, ratio, generator(key), classes)], minlength=classes)
    assert (counts <= sizes).all() and (np.diff(counts) <= 0).all()
    first = counts[0] + np.array([0, 1])                    # before it was cut off to a whole number
    for k, count in enumerate(counts):
        low, high = first * ratio ** (-k / (classes - 1))
        assert low - 1 - 1e-5 <= count <= high + 1e-5


# ------------------------------------------------------------------------------------------------- many classes

@given(seeds, st.sampled_from((None, *FLIPS)), shares, variants, st.integers(1, 60), st.integers(0, 60), st.floats(1, 8),
       st.booleans(), st.integers(2, 5))
def test_noisy_tasks_are_sound(key, flip, share, variant, clean, validation, ratio, one_source, classes):
    source = images_of(60, classes)
    test_source = None if one_source else images_of(20, classes)
    if clean + validation > 25 * classes:
        clean, validation = 10, 20
    how = dict(flip=flip, share=share, variant=variant, clean=clean, validation=validation, ratio=ratio, classes=classes,
               tests=17 if one_source else None)
    task = noisy(source, test_source, key, **how)
    assert_sound(task, source, test_source)
    assert len(task.clean) == clean and len(task.test) == (17 if one_source else 20 * classes)
    assert (task.validation is None) == (validation == 0) and (validation == 0 or len(task.validation) == validation)
    assert task.baseline is task.train and task.classes == classes
    assert task.minority == (classes - 1 if ratio > 1 else None)
    if ratio == 1:
        assert len(task.train) == 60 * classes - clean - validation - 17 * one_source
    if variant == "exact":
        assert np.ptp(np.bincount(task.clean.labels, minlength=classes)) <= 1
    if variant == "exact" and flip == "uniform":
        assert task.train.wrong.sum() == round(share * len(task.train))
        assert validation == 0 or task.validation.wrong.sum() == round(share * validation)
    if flip == "background" and validation:                 # one background for both
        assert len(set(task.train.labels[task.train.wrong]) | set(task.validation.labels[task.validation.wrong])) <= 1
    if flip is None:
        assert not task.train.wrong.any()
    again = noisy(source, test_source, key, **how)
    for a, b in zip((task.train, task.clean, task.test), (again.train, again.clean, again.test)):
        assert all((x == y).all() for x, y in zip(a, b))


def test_another_seed_is_another_task():
    for variant in VARIANTS:
        a, b = (noisy(images_of(100), images_of(10), k, "uniform", variant=variant, validation=50) for k in (0, 1))
        for part, other in ((a.train, b.train), (a.clean, b.clean), (a.validation, b.validation)):
            assert (part.indices != other.indices).any()
            assert (np.diff(part.indices) < 0).any()        # and no order of the source is kept


@pytest.mark.parametrize("classes, target", [(10, 3), (100, 41)])
def test_the_background_that_the_authors_drew(classes, target):
    """The authors' seed is 0, which is why Figure 4 has "label 3"."""
    task = noisy(images_of(30, classes), images_of(2, classes), 0, "background", classes=classes, variant="paper", validation=100)
    assert set(task.train.labels[task.train.wrong]) == set(task.validation.labels[task.validation.wrong]) == {target}
    assert f"have label {target}," in task.statement


def test_the_split_of_the_paper():
    """Validation is the end of the shuffled source, clean the end of the rest, shuffled; then the first are relabeled."""
    source = images_of(40)
    task = noisy(source, source, 7, "background", target=5, variant="paper", clean=30, validation=70)
    order = np.arange(400)
    np.random.RandomState(7).shuffle(order)
    rest, held = order[:330].copy(), order[330:]
    np.random.RandomState(7).shuffle(rest)
    assert set(task.validation.indices) == set(held) and set(task.clean.indices) == set(rest[300:])
    drawn = np.isin(task.train.indices, rest[:120])
    assert set(task.train.indices) == set(rest[:300]) and (task.train.labels[drawn] == 5).all()
    assert not task.train.wrong[~drawn].any()
    assert task.validation.wrong.sum() == (source.labels[held[:28]] != 5).sum()
    assert 80 < np.flatnonzero(drawn).mean() < 220          # shuffled again afterwards: not all at the front


def test_true_form_is_balanced_and_in_proportion():
    sizes = [200, 100, 100, 50, 50]
    source = images_of(sizes, 5)
    for k in range(5):
        task = noisy(source, source, k, classes=5, clean=12, validation=50, tests=100)
        assert sorted(np.bincount(task.clean.labels)) == [2, 2, 2, 3, 3]
        assert np.abs(np.bincount(task.validation.true) - np.array([20, 10, 10, 5, 5])).max() <= 1
        assert np.bincount(task.test.labels).tolist() == [40, 20, 20, 10, 10]
    uneven = noisy(source, images_of([34, 33, 33], 3), 0, classes=5, clean=12, validation=50, tests=10)
    assert np.bincount(uneven.test.labels).tolist() == [4, 3, 3]                # the largest remainder first
    assert len({tuple(np.bincount(noisy(source, source, k, classes=5, clean=12, validation=50).clean.labels))
                for k in range(10)}) > 1                    # who has one more is drawn


def test_size_and_tail_come_before_the_flips():
    source = images_of(200)
    for variant in VARIANTS:
        task = noisy(source, source, 0, "uniform", share=0.5, ratio=10, size=300, validation=200, tests=50, variant=variant)
        assert len(task.train) == 300 and len(task.test) == 50 and task.minority == 9
        counts = np.bincount(task.train.true, minlength=10)
        assert counts[0] > 2.5 * counts[8] and abs(task.train.wrong.sum() - 150) <= (0 if variant == "exact" else 30)
        assert np.bincount(task.validation.true, minlength=10).min() >= 8       # no tail there
        with pytest.raises(MinigradError, match="examples are left to train on\n  help: size="):
            noisy(source, source, 0, ratio=10, size=1900, validation=50, variant=variant)


def test_the_statement_is_true_of_the_counts():
    source, other = images_of(100), images_of(10)
    task = noisy(source, other, 0, "background", share=0.4, target=2, validation=100)
    say = (task.train.labels == 2).sum()
    assert task.statement == (
        "training: 800 images of 10 classes, 80 to 80 of each; 288 labels wrong (36.0%, background flip): 368 (46.0%) have "
        "label 2, 78.3% of them wrongly; 48 have each other label, on average; clean: 100; validation: 100; test: 100")
    assert (task.train.wrong.sum(), say) == (288, 368)
    task = noisy(source, other, 0, "uniform", share=0.25, ratio=4, validation=0)
    counts = np.bincount(task.train.true)
    numbers = [int(n) for n in re.findall(r"(\d+)(?: images| to| of each| labels)", task.statement)]
    assert numbers == [len(task.train), counts.min(), counts.max(), task.train.wrong.sum()]
    assert noisy(source, other, 0, validation=100).statement == (
        "training: 800 images of 10 classes, 80 to 80 of each; clean: 100; validation: 100; test: 100")


def test_the_sample_of_mnist_as_a_noisy_task(sample):
    task = noisy(sample, None, 0, "uniform", clean=15, validation=500, tests=1000)
    assert_sound(task, sample)
    assert task.train.images.dtype == np.float32 and np.bincount(task.test.labels).tolist() == [100] * 10
    assert sorted(np.bincount(task.clean.labels)) == [1] * 5 + [2] * 5 and task.train.wrong.sum() == 0.4 * 3485


@pytest.mark.needs("cifar10")
def test_cifar10_is_as_wrong_as_in_the_paper():
    train, test = data.cifar10()
    assert np.array_equal(noisy(train, test, 0, variant="paper").test.images, test.images)
    task = noisy(train, test, 0, "uniform", variant="paper")
    assert_sound(task, train, test)
    assert task.train.images.shape == (44900, 32, 32, 3) and task.train.images.dtype == np.uint8
    assert abs(task.train.wrong.mean() - 0.36) < 0.005 and abs(task.validation.wrong.mean() - 0.36) < 0.015
    assert (flip_matrix(task.train, 10)[:9, 9] == 0).all()
    task = noisy(train, test, 0, "background", variant="paper")
    background = task.train.labels == 3
    assert abs(background.mean() - 0.46) < 0.005 and abs(background.sum() / ((~background).sum() / 9) - 7.7) < 0.1
    assert abs(task.train.wrong[background].mean() - 0.78) < 0.005 and not task.train.wrong[~background].any()


@pytest.mark.parametrize("wrong, message", [
    (dict(flip="sideways"), "flip 'sideways': there is no such flip"), (dict(variant="false"), "variant 'false': there is no such variant"),
    (dict(share=1.01), "share 1.01: the share of labels to flip must lie between 0 and 1"), (dict(share=-0.1), "share -0.1:"),
    (dict(share=float("nan")), "share nan:"), (dict(target=10), "target 10: no class has this label"), (dict(target=-1), "target -1:"),
    (dict(clean=0), "clean 0: it must be at least 1"), (dict(validation=-1), "validation -1: it must be at least 0"), (dict(seed=-1), "seed -1:"),
    (dict(size=0), "size 0: it must be at least 1"), (dict(tests=0), "tests 0: it must be at least 1"), (dict(ratio=0.5), "ratio 0.5: the ratio of the largest"),
    (dict(ratio=float("inf")), "ratio inf:"), (dict(ratio=float("nan")), "ratio nan:"), (dict(classes=1), "classes 1: there must be"),
    (dict(classes=9), "classes 9: there are labels other than 0 to 8"), (dict(tests=101), "tests 101: the test source has 100"),
    (dict(clean=900, validation=100), "clean 900 and validation 100 leave no training images of 1000"),
    (dict(test_source=None), "no test images: there is no test source, and"), (dict(size=801), "size 801: only 800 examples are left"),
    (dict(test_source=None, tests=900), "clean 100 and validation 100 leave no training images"),
    (dict(ratio=1e4), "ratio 10000.0: it leaves "),
], ids=str)
def test_impossible_tasks_are_refused(wrong, message):
    source = Images(Forbidden(), images_of(100).labels)          # and before any image is copied
    for variant in VARIANTS:
        how = dict(source=source, test_source=Images(Forbidden(), images_of(10).labels), seed=0, validation=100, variant=variant)
        with pytest.raises(MinigradError) as caught:
            noisy(**{**how, **wrong})
        assert str(caught.value).startswith(message) and "\n  help: " in str(caught.value)


@pytest.mark.parametrize("task", [
    lambda source, flip: tasks.noisy(source, None, 0, flip), lambda source, flip: tasks.imbalance(source, 0.9, generator(0), flip=flip)],
    ids=["noisy", "imbalance"])
@pytest.mark.parametrize("flip", ["uniform", None, ("uniform", 0.4)], ids=str)
def test_a_flip_is_a_flip(task, flip):
    """Until 0.1 it was its kind alone."""
    with pytest.raises(MinigradError) as caught:
        task(images_of(100), flip)
    assert str(caught.value) == f"flip {flip!r}: it must be a Flip\n  help: flip=Flip('uniform', share=0.4), or leave it out for right labels"


class Forbidden:
    """Images that must not be touched."""

    def __getitem__(self, index):
        raise AssertionError("images were copied")


def test_a_class_without_enough_clean_images_is_named():
    source = images_of([50, 50, 3, 50], 4)
    with pytest.raises(MinigradError, match="class 2: 5 examples are needed, of 3\n  help: choose fewer"):
        noisy(source, source, 0, classes=4, clean=20, validation=20)


def test_impossible_flips_and_tails_are_refused():
    labels = np.arange(10)
    for call in (lambda: uniform_flip(labels, 2, 10, generator(0)), lambda: uniform_flip(labels, 0.4, 9, generator(0)),
                 lambda: uniform_flip(labels[:, None], 0.4, 10, generator(0)), lambda: background_flip(labels[None], 0.4, 10, generator(0)),
                 lambda: uniform_flip(labels, 0.4, 10, generator(0), "false"), lambda: background_flip(labels, 0.4, 10, generator(0), 10),
                 lambda: background_flip(labels - 1, 0.4, 10, generator(0)), lambda: long_tail(labels, 0.9, generator(0), 10),
                 lambda: long_tail(labels, 2, generator(0), 10), lambda: long_tail(labels, 2, generator(0), 5),
                 lambda: flip_matrix(Part(None, labels, None, labels), 9)):
        with pytest.raises(MinigradError, match="\n  help: "):
            call()


def test_parts_that_share_images_are_noticed(monkeypatch):
    from experiments.data import tasks
    monkeypatch.setattr(tasks, "_split", lambda labels, free, clean, validation, *rest: (free, free[:clean], free[:validation]))
    with pytest.raises(AssertionError, match="the parts of a task share images"):
        noisy(images_of(100), images_of(10), 0, validation=100)


def test_both_classes_of_one_digit_are_noticed(sample):
    with pytest.raises(AssertionError, match="the parts of a task share images"):
        tasks.imbalance(sample, 0.9, generator(0), digits=(4, 4))


def test_methods_without_a_clean_set_see_the_wrong_labels_too():
    """They train on the biased set, as it is, and the clean images."""
    source = Images(np.arange(2000).reshape(-1, 1, 1, 1), np.repeat([4, 9], 1000))
    task = imbalance(source, 0.7, generator(0), total=400, flip="background", target=0, flip_share=0.5)
    for whole, train, clean in zip(task.baseline, task.train, task.clean):
        np.testing.assert_array_equal(whole, np.concatenate([train, clean]))
    assert task.baseline.wrong.sum() == task.train.wrong.sum() > 100 and len(task.baseline) == 400
