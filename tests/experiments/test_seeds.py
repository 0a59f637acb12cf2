"""A seed determines all random numbers: the data of a task, and the parameters, batches and masks of a run."""
import dataclasses
import functools
import itertools
import types

import numpy as np
import pytest

from experiments import data
from experiments.data import Flip, Images
from experiments.data.tasks import imbalance
from experiments.methods import METHODS
from experiments.pages import contradiction, nested, walkthrough
from experiments.paper import cifar, figure2, figure3, grids, scripts
from experiments.training import trainers
from experiments.training.runs import DATA, INIT, LOOK, MASKS, METHOD, REBUILD, STEPS, Problem, Run, Settings
from minigrad import nn, to_host, tree
from minigrad.backend import generator

from .flipped import noisy

PARTS = ("train", "clean", "validation", "test", "baseline")


def same(a, b):
    return a.shape == b.shape and np.array_equal(a, b)


def leaves(x):
    return [to_host(leaf) for leaf in tree.flatten(x)[0]]


# ----------------------------------------------------------------------------------------------------- the task

@pytest.fixture
def small_cifar(monkeypatch):
    """Replace CIFAR by 40 images of each class, whose pixels are the index of the image."""
    def numbered(n):
        return Images(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) * np.ones((1, 32, 32, 3), np.uint8), np.arange(n) % 10)
    source = numbered(400), numbered(60)
    monkeypatch.setattr(data, "cifar10", lambda: source)
    cifar._source.cache_clear()
    yield source
    cifar._source.cache_clear()


def tasks():
    """Yield (name, seed -> task, names of the parts that depend on the seed)."""
    yield "imbalance", functools.partial(figure2.task, "sample", 0.95), ("train", "clean", "test", "baseline")
    for name in contradiction.TASKS:
        yield f"contradiction, {name}", functools.partial(contradiction.task, name), ("train", "clean", "test", "baseline")
    for variant, flip in itertools.product(("exact", "paper"), ("uniform", "background")):
        yield f"cifar, {variant}, {flip}", functools.partial(
            cifar.task, "cifar10", flip=Flip(flip, 0.4, 3 if flip == "background" else None, variant), clean=50, validation=80), ("train", "clean", "validation", "baseline")


def of(task, name):
    part = getattr(task, name)
    return part if part is not None else ()


TASKS = {name: (make, drawn) for name, make, drawn in tasks()}


@pytest.mark.parametrize("name", TASKS)
def test_the_seed_of_a_task_draws_all_of_its_parts(name, small_cifar):
    make, drawn = TASKS[name]
    one, again, other = make(4), make(4), make(5)
    for part in PARTS:
        assert all(same(a, b) for a, b in zip(of(one, part), of(again, part), strict=True)), part
        if part in drawn:
            assert not same(getattr(one, part).indices, getattr(other, part).indices), part
    if "cifar" in name or "noise" in name:
        assert not same(one.train.labels, other.train.labels)


def test_tasks_come_from_the_key_of_data(small_cifar):
    """The key is (seed of the run, DATA), which no other random numbers of the run have."""
    for make, expected in ((figure2.task("sample", 0.95, 7), imbalance(data.sample(), 0.95, generator((7, DATA)))),
                           (contradiction.task("both", 7), imbalance(data.sample(), rng=generator((7, DATA)), **contradiction.TASKS["both"])),
                           (cifar.task("cifar10", 7, flip=Flip("uniform"), clean=20, validation=30),
                            noisy(*small_cifar, 7, "uniform", clean=20, validation=30))):
        for part in ("train", "clean", "test"):
            assert all(same(a, b) for a, b in zip(getattr(make, part), getattr(expected, part)))
    assert tuple(range(7)) == (DATA, INIT, STEPS, REBUILD, METHOD, MASKS, LOOK)


@pytest.mark.parametrize("which", [figure2, contradiction])
def test_the_plan_hands_every_run_its_seed(which):
    (script,) = which.SCRIPTS.values()
    options = scripts.parse_options(script, ["--seeds", "3", "5", "--methods", "uniform", "reweight"])
    for run in script.plan(options)[1]:
        assert run.seed == run.labels["seed"] and run.name.endswith(f"-{run.seed}") and run.seed in (3, 5)
        assert run.task.args[-1] == run.seed and run.method.name == run.labels["method"]
        if which is figure2:
            assert run.task.args[:2] == ("sample", run.labels["share"])
        else:
            assert run.task.args[0] == run.labels["task"]


def test_the_plan_of_cifar_hands_every_run_its_seed():
    for script in (grids.SCRIPTS["table1"], grids.SCRIPTS["figure4"]):
        options = scripts.parse_options(script, ["--seeds", "3", "5", "--methods", "uniform+ft", "random"])
        for run in script.plan(options)[1]:
            while run:
                assert run.seed == run.labels["seed"] == run.task.args[1] and run.task.args[0] == "cifar10"
                flip = run.task.keywords["flip"]
                assert (flip.kind, flip.share, flip.target) == (run.labels["bias"], run.labels["share"], run.labels.get("target"))
                assert run.task.keywords["clean"] == run.labels["clean"]
                assert run.name == "-".join(str(value) for value in run.labels.values())
                run = run.base


# ------------------------------------------------------------------------------------------------------ the run

def made_up(number):
    """Return a task of 60 examples, drawn with this seed."""
    rng = np.random.default_rng(number)
    source = Images(rng.standard_normal((300, 3)).astype("float32"), np.arange(300) % 2)
    return noisy(source, None, 0, "uniform", 0.3, clean=10, validation=20, classes=2, size=60, tests=20, ratio=4.0)


def steps_of(folder, method, key, number, steps=3, t0=0):
    """Return everything that the seeds determine: batches, masks, initial parameters, memory, training set."""
    found = {"batches": [], "masks": [], "prepared": []}
    task = made_up(number)

    def init(rng, classes):
        return nn.Sequential((nn.Linear.init(rng, 3, 40), nn.Dropout(0.5), nn.Linear.init(rng, 40, classes)))

    def prepare(images, rng):
        found["prepared"].append(rng is not None)
        return images + (0 if rng is None else rng.random((len(images), 1), "float32"))
    settings = Settings(steps=5, rate=0.1, momentum=0.9, batch=12, every=5, clean_batch=4)
    run = Run(method, {"method": method, "seed": key}, method, key, lambda: task, Problem(init, prepare), settings, folder)
    trainer = trainers.trainer_of(run)
    learned = trainer.init()
    found["begun"] = leaves(learned["params"]["model"])
    found["memory"] = [] if learned["memory"] is None else leaves(learned["memory"])
    found["examples"] = trainer.examples
    criterion = trainer.losses

    def losses(params, batch, state):
        ones = nn.Sequential((nn.Linear(np.zeros((3, 40), "float32"), np.ones(40, "float32")), params["model"].layers[1]))
        found["masks"].append(to_host(ones.apply(batch.images, key=batch.key)[0]) > 0)
        found["batches"].append(to_host(batch.images))
        return criterion(params, batch, state)
    trainer.losses = losses
    for t in range(t0, t0 + steps):
        learned, row = trainer.step(learned, t)
    found["training"] = list(found["prepared"])
    found["prepared"].clear()
    trainer.line(learned, trainer.fetch_rows([row], t), t)
    trainers.confusion(trainer, learned)
    found["evaluating"] = list(found["prepared"])
    found["end"] = leaves(learned["params"]["model"])
    return found


def differ(a, b):
    """Return whether the arrays of each pair differ."""
    return bool(a) and all(not same(x, y) for x, y in zip(a, b, strict=True))


def equal(a, b):
    return all(same(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("method", ["uniform", "reweight", "clean_only", "resample", "meta_weight_net", "smote", "under_sample"])
def test_the_seed_of_a_run_draws_weights_batches_and_masks(method, tmp_path):
    one, again, other = (steps_of(tmp_path, method, key, 1) for key in (4, 4, 5))
    for what in ("begun", "batches", "masks", "memory", "end"):
        assert equal(one[what], again[what]), what
    weights = [0, 2]                                        # biases begin at 0
    assert differ([one["begun"][k] for k in weights], [other["begun"][k] for k in weights])
    assert differ(one["batches"], other["batches"]) and differ(one["masks"], other["masks"])
    assert any(not same(a, b) for a, b in zip(one["memory"], other["memory"])) == (method == "meta_weight_net")
    if METHODS[method].rebuild:
        assert not same(one["examples"].images, other["examples"].images)
    for a, b in itertools.combinations(one["masks"], 2):    # every step and both batches have their own
        if method == "meta_weight_net":                     # which looks at each batch more than once
            break
        assert a.shape != b.shape or not same(a, b)


def test_another_task_leaves_weights_batches_and_masks_alone(tmp_path):
    one, other = (steps_of(tmp_path, "reweight", 4, number) for number in (1, 2))
    assert equal(one["begun"], other["begun"]) and equal(one["masks"], other["masks"])
    assert differ(one["batches"], other["batches"])


def test_a_step_draws_from_its_own_number(tmp_path):
    one, later = (steps_of(tmp_path, "reweight", 4, 1, 1, t0) for t0 in (0, 1))
    assert differ(one["batches"], later["batches"]) and differ(one["masks"], later["masks"])
    assert equal(one["begun"], later["begun"])


@pytest.mark.parametrize("method", ["uniform", "reweight"])
def test_only_training_images_are_augmented(method, tmp_path):
    """Batches and clean batches are prepared with a generator; evaluation, clean loss and confusion matrix without."""
    found = steps_of(tmp_path, method, 0, 1)
    assert found["training"] == [True] * (3 if method == "uniform" else 6)
    assert found["evaluating"] == [False] * 4


def test_images_of_cifar_are_augmented_with_a_generator_alone(small_cifar):
    images = generator(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    for network in ("resnet-8", "wrn-10-1", "standard-8"):
        prepare = cifar.problem(network, 100).prepare
        np.testing.assert_array_equal(prepare(images, None), data.scale(images))
        np.testing.assert_array_equal(prepare(images, generator(3)), data.augment(images, generator(3)))
        assert not same(prepare(images, generator(3)), prepare(images, generator(4)))
    for problem in (figure2.LENET, contradiction.SMALL):      # digits are not augmented at all
        digits = generator(0).random((4, 28, 28, 1), "float32")
        np.testing.assert_array_equal(problem.prepare(digits, None), problem.prepare(digits, generator(0)))
    np.testing.assert_array_equal(figure2.LENET.prepare(digits, None), digits)


def test_the_network_of_a_problem_comes_from_its_generator():
    for problem in (figure2.LENET, contradiction.SMALL, *(cifar.problem(name, 100) for name in ("resnet-8-1-2", "wrn-10-1", "standard-8"))):
        one, again, other = (leaves(problem.init(generator((key, INIT)), 2)) for key in (1, 1, 2))
        assert equal(one, again) and any(not same(a, b) for a, b in zip(one, other))


# --------------------------------------------------------------------------------------------------- the pages

@pytest.mark.parametrize("make", [nested.problem, walkthrough.problem])
def test_the_seed_of_a_page_draws_its_problem(make):
    one, again, other = (leaves(make(key)) for key in (1, 1, 2))
    assert equal(one, again) and sum(not same(a, b) for a, b in zip(one, other)) >= 4


def test_the_problem_of_the_walkthrough_number_by_number():
    """Parameters of deviation 0.6, then examples of deviation 0.4 about (1, 1) and (-1, -1), all to one decimal."""
    rng, (noisy_batch, clean_batch, theta) = generator(3), walkthrough.problem(3)
    for name, size in (("W1", (2, 2)), ("b1", 2), ("W2", (2, 1)), ("b2", 1)):
        np.testing.assert_array_equal(theta[name], np.round(rng.normal(0, 0.6, size), 1))
    for batch, names, label, true in ((noisy_batch, "ABC", (1, 0, 1), (1, 0, 0)), (clean_batch, "DE", (1, 0), (1, 0))):
        centre = 2 * np.array(true)[:, None] - 1.0
        np.testing.assert_array_equal(batch.x, np.round(centre + rng.normal(0, 0.4, (len(names), 2)), 1))
        assert "".join(batch.names) == names and batch.label[:, 0].tolist() == list(label) and batch.true[:, 0].tolist() == list(true)


def test_the_problem_of_the_two_loops_number_by_number():
    """Round clouds of deviation 1 about points 2 apart, then which 18 of 60 labels are flipped, then clean and test."""
    rng, problem = generator(3), nested.problem(3)

    def cloud(n):
        label = np.arange(n) % 2
        x = np.where(label[:, None] == 1, 1, -1) / np.sqrt(3) + rng.standard_normal((n, 3))
        return np.hstack([x, np.ones((n, 1))]), label
    x, label = cloud(60)
    flipped = np.isin(np.arange(60), rng.permutation(60)[:18])
    for part, x, label in ((problem[:2], x, np.where(flipped, 1 - label, label)), (problem[3:5], *cloud(30)), (problem[5:], *cloud(5000))):
        np.testing.assert_array_equal(part[0], x)
        np.testing.assert_array_equal(part[1], label)
    np.testing.assert_array_equal(problem.flipped, flipped)


def test_figure_3_looks_with_a_key_of_its_own(monkeypatch, tmp_path):
    """The key is (seed of the first run, LOOK), and the share in its labels is the share of flips."""
    keys = []
    run = Run("a", {"target": 3, "share": 0.4, "method": "reweight"}, "reweight", 9, None, None, None, tmp_path)
    run.checkpoint.write_text("there")
    monkeypatch.setattr(figure3, "trainer_of", lambda run: "trainer")
    monkeypatch.setattr(figure3, "restore", lambda run, trainer: "learned")
    monkeypatch.setattr(figure3, "histogram_data", lambda trainer, learned, target, rng: keys.append((target, rng.integers(2**62))) or ())
    monkeypatch.setattr(figure3.figures, "weight_histograms", lambda *args: None)
    monkeypatch.setattr(figure3, "generator", generator)
    options = type("Options", (), {"out": tmp_path, "data": "cifar10"})
    list(figure3.figure3([], [run, dataclasses.replace(run, seed=1)], options, "", lambda: None))
    assert keys == [(3, generator((9, LOOK)).integers(2**62))]


def test_each_seed_step_and_batch_has_masks_of_its_own():
    keys = {trainers.Descent._key(types.SimpleNamespace(run=types.SimpleNamespace(seed=seed), comm=trainers.ALONE), t, which).tobytes()
            for seed in (0, 1, 2**31 - 1, 2**31, 2**32 - 1) for t in (0, 1, 70_000) for which in (0, 1)}
    assert len(keys) == 5 * 3 * 2
