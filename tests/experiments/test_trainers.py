"""Trainers record what a rule computes, and train the method and the examples of the run."""
import dataclasses
import functools
import re

import numpy as np
import pytest

import minigrad as mg
from experiments import data
from experiments.data.tasks import Part, Task
from experiments.methods import METHODS, Aux, Boosted, ByLosses, Known, Now, Step, boosting
from experiments.paper import figure2
from experiments.training import trainers
from experiments.training.folders import read_record
from experiments.training.loop import train
from experiments.training.runs import INIT, STEPS, Problem, Run, Settings, restore
from minigrad import FileError, MinigradError, nn, optim, tree
from minigrad.backend import generator
from minigrad.models import mlp

from ..test_device import without_host_reads
from .flipped import imbalance, noisy


class Flat(nn.Module):
    """A multilayer perceptron, with batch norm, on flattened images."""
    net: nn.Sequential

    def init_state(self):
        return self.net.init_state()

    def apply(self, x, state=None, train=True, key=None):
        return self.net.apply(x.reshape(len(x), -1), state, train, key)


def init(rng, classes):
    return Flat(mlp(rng, (784, 12, classes), normalize=True))


def prepare(images, rng):
    return images


@functools.lru_cache
def task(seed=0, **how):
    return noisy(data.sample(), None, seed, **{**dict(flip="background", target=3, clean=20, validation=200, tests=200),
                                               **how})


def run_of(folder, method="uniform", key=0, task=task, **changes):
    folder.mkdir(exist_ok=True)
    settings = dataclasses.replace(Settings(steps=6, rate=0.1, momentum=0.9, batch=50, every=3), **changes)
    base = METHODS[method].base
    return Run(f"{method}-{key}", {"method": method, "seed": key}, method, key, functools.partial(task, key),
               Problem(init, prepare), settings, folder, base and run_of(folder, base.name, key, task))


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_the_record_holds_what_the_rule_did(tmp_path, monkeypatch, ratio):
    """Three steps of a rule with known weights, losses and scores: every number of the line is computed by hand."""
    rng, seen = np.random.default_rng(0), []

    def rule(losses, params, batch, clean, memory, known, now):
        n = len(batch.labels)
        scores = np.eye(10)[rng.integers(0, 10, n)].astype("float32")
        step = Step(tree.map(np.zeros_like, params), rng.random(n).astype("float32"), rng.random(n).astype("float32"),
                    Aux(params["model"].init_state(), scores), None, np.float32(rng.random()))
        rows = [next(i for i in np.flatnonzero(part.labels == label) if np.array_equal(part.images[i], image))
                for image, label in zip(batch.images, batch.labels)]
        seen.append((step, batch.labels, part.true[rows]))
        return step
    part = task(0, ratio=ratio).train
    monkeypatch.setitem(METHODS, "told", METHODS["uniform"]._replace(rule=rule))
    run = dataclasses.replace(run_of(tmp_path, "told", steps=3), task=lambda: task(0, ratio=ratio))
    line, = train(run)
    w, given, true = (np.concatenate([row[k] if k else row[0].weights for row in seen]) for k in range(3))
    own = np.concatenate([row[0].aux.scores.argmax(1) for row in seen])
    wrong = given != true
    assert 0.2 < wrong.mean() < 0.5
    assert np.isclose(line["train_loss"], np.mean([row[0].losses.mean() for row in seen]))
    assert np.isclose(line["train_error"], 100 * np.mean(own != given))
    assert np.isclose(line["own_label_right"], np.mean(own[own != given] == true[own != given]))
    assert np.isclose(line["noisy_weight"], w[wrong].mean() / w[~wrong].mean())
    rare = given == 9 if ratio > 1 else np.zeros(len(given), bool)          # a task without a tail has no rare class
    assert rare.any() == (ratio > 1) and np.isclose(line["minority_weight"], w[rare].sum() / w.sum())
    np.testing.assert_allclose(line["clean_losses"], [float(row[0].clean_loss) for row in seen], rtol=1e-3)


def test_a_checkpoint_without_the_count_of_its_optimizer_is_refused(tmp_path):
    """The count is part of the tree: a checkpoint without it is refused by name, and a complete one is loaded."""
    run = run_of(tmp_path, "meta_weight_net", steps=2, every=2)
    train(run)
    arrays, metadata = tree.read(run.checkpoint)
    assert arrays["memory.adam.count"] == 2
    tree.save(run.checkpoint, {name: array for name, array in arrays.items() if "count" not in name}, metadata)
    with pytest.raises(FileError, match=r"not a checkpoint of this run(.|\n)*memory.adam.count(.|\n)*help: delete it"):
        restore(run, trainers.trainer_of(run))


@pytest.mark.parametrize("labels, text", [([0, 1, -1], "labels other than 0 to 1"), (["a", "b", "a"], "labels are the integers"),
                                          ([0.0, 1.0, 0.0], "labels are the integers"), ([[0, 1, 0]], "one for each example")])
def test_a_task_of_ones_own_checks_its_labels(labels, text):
    def own(labels):
        part = Part(np.zeros((3, 2)), labels, np.arange(3), labels)
        return Task("", part, part, None, part, part, 2)
    assert all(type(part.labels) is type(part.true) is np.ndarray for part in (own([0, 1, 1]).train, own((0, 1, 1)).test))
    with pytest.raises(MinigradError, match=text):
        own(labels)


def test_a_rule_cannot_read_what_it_is_not_given(tmp_path, monkeypatch):
    """A rule that reads the step has host=True or fails in its first step; it never sees step 0 repeatedly."""
    seen = []

    def curriculum(name):
        def weigh(losses, memory, known, now):
            seen.append(getattr(known if name in Known._fields else now, name))
            return np.full(len(losses), 1.0 / len(losses), np.float32), None
        return METHODS["uniform"]._replace(rule=ByLosses(weigh))
    for name in Now._fields:
        monkeypatch.setitem(METHODS, "own", curriculum(name))
        with pytest.raises(MinigradError, match=rf"now.{name}: not given to a rule(.|\n)*help: Weighting\(..., host=True\)"):
            train(run_of(tmp_path / name, "own", steps=4, every=4))
    assert not seen
    monkeypatch.setitem(METHODS, "own", curriculum("step")._replace(host=True))
    train(run_of(tmp_path / "host", "own", steps=4, every=4))
    assert seen == [0, 1, 2, 3]
    for name in Known._fields:
        monkeypatch.setitem(METHODS, "own", curriculum(name))
        train(run_of(tmp_path / name, "own", steps=1, every=1))
    for host in (False, True):                              # a name that nothing has, with and without a Now
        monkeypatch.setitem(METHODS, "own", curriculum("epoch")._replace(host=host))
        with pytest.raises(AttributeError, match="epoch"):
            train(run_of(tmp_path / f"epoch{host}", "own", steps=1, every=1))


def test_errors_are_those_of_the_model_with_its_averages(tmp_path):
    run = run_of(tmp_path, "reweight", steps=30, every=30)
    line, = train(run)
    trainer = trainers.trainer_of(run)
    learned = tree.load(run.checkpoint, trainer.template())
    model, state = learned["params"]["model"], learned["state"]
    t = task(0)

    def wrong(part, labels):
        return 100 * np.mean(np.asarray(model.apply(part.images, state, train=False)[0]).argmax(1) != labels)
    assert np.isclose(line["test_error"], wrong(t.test, t.test.labels))
    assert np.isclose(line["validation_error"], wrong(t.validation, t.validation.true))
    assert np.isclose(line["validation_error_biased"], wrong(t.validation, t.validation.labels))
    assert line["validation_error"] != line["validation_error_biased"] and line["test_error"] < 80
    losses = nn.cross_entropy(model.apply(t.clean.images, state, train=False)[0], t.clean.labels)
    assert np.isclose(line["clean_loss"], losses.mean(), rtol=1e-5) and len(line["clean_losses"]) == 30
    rows = trainers.confusion(trainer, learned, t.test)
    assert np.isclose(100 * (1 - np.mean(np.diag(rows)[t.test.labels])), line["test_error"])


def test_equal_weights_are_plain_training(tmp_path):
    """Checklist E5: training with weights 1 / n takes the same steps as a plain loop written here."""
    run = run_of(tmp_path, steps=5, every=5, decay=1e-3, drops=(3,))
    train(run)
    part, optimizer, rate = task(0).train, optim.sgd(momentum=0.9, weight_decay=1e-3), optim.piecewise(0.1, (3,))
    params = {"model": init(generator((0, INIT)), 10), "layer": None}
    averages, state = params["model"].init_state(), optimizer.init(params)
    for t in range(5):
        chosen = generator((0, STEPS, t)).choice(len(part), 50, replace=False)

        def loss(params):
            scores, moved = params["model"].apply(part.images[chosen], averages)
            return mg.mean(nn.cross_entropy(scores, part.labels[chosen])), moved
        gradient, averages = mg.grad(loss, has_aux=True)(params)
        params, state = optimizer.update(gradient, state, params, rate(t))
    saved = tree.load(run.checkpoint, trainers.trainer_of(run).template())
    for a, b in zip(tree.flatten((saved["params"], saved["state"]))[0], tree.flatten((params, averages))[0]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_clean_pass_leaves_the_averages_alone(tmp_path):
    """Checklist F5: the running averages are those of the noisy batches, for any clean set."""
    found = []
    for clean in (task(0).clean, type(task(0).clean)(*(array[[0] * 20] for array in task(0).clean))):
        given = dataclasses.replace(task(0), clean=clean)
        run = dataclasses.replace(run_of(tmp_path / f"{len(found)}", "reweight", steps=1, every=1, rate=1e-6), task=lambda: given)
        train(run)
        found.append(tree.flatten(tree.load(run.checkpoint, trainers.trainer_of(run).template())["state"])[0])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dice"])
def test_every_method_trains_on_ten_classes(tmp_path, method, monkeypatch):
    """Each trains for a few steps or rounds on the same biased task, without a warning."""
    if isinstance(METHODS[method], Boosted):
        monkeypatch.setitem(METHODS, method, METHODS[method]._replace(rounds=2))
    run = run_of(tmp_path, method, batch=30, steps=4, every=2)
    if run.base:
        train(run.base)
    line = train(run)[-1]
    assert line["step"] == 4 and 0 <= line["test_error"] <= 100 and 0 <= line["validation_error_biased"] <= 100
    assert all(value is None or isinstance(value, (str, list)) or np.isfinite(value) for value in line.values())


@pytest.mark.parametrize("method", ["under_sample", "over_sample", "smote"])
def test_a_rebuilt_training_set_is_balanced_and_knows_what_is_true(tmp_path, method):
    run = run_of(tmp_path, method)
    trainer, part = trainers.trainer_of(run), task(0).train
    examples = trainer.examples
    assert len(set(np.bincount(examples.labels))) == 1 and np.allclose(trainer.frequencies, 0.1)
    if method != "smote":
        at = {index: k for k, index in enumerate(part.indices)}
        for image, label, index, true in zip(*examples):
            k = at[index]
            assert np.array_equal(image, part.images[k]) and (label, true) == (part.labels[k], part.true[k])
    assert examples.wrong.any()


def test_the_oracle_is_told_how_far_to_trust_each_label(tmp_path):
    trainer, part = trainers.trainer_of(run_of(tmp_path, "oracle")), task(0).train
    for k in range(10):
        assert np.isclose(trainer.known.precision[k], np.mean(part.true[part.labels == k] == k))
    assert trainer.known.precision[3] < 0.3 and np.delete(trainer.known.precision, 3).min() == 1.0


def test_dice_is_for_two_classes(tmp_path):
    with pytest.raises(MinigradError, match="dice: 10 classes, and this loss is defined for two(.|\n)*experiments.imbalance"):
        train(run_of(tmp_path, "dice"))
    line = train(run_of(tmp_path / "two", "dice", task=functools.partial(figure2.task, "sample", 0.9)))[-1]
    assert 0 < line["train_loss"] < 1


def test_boosting_in_the_loop_is_boosting(tmp_path):
    """The trainer does the same rounds as boosting.py, and records the errors of the vote."""
    part = functools.partial(figure2.task, "sample", 0.9)
    run = run_of(tmp_path, "adaboost", 2, part, steps=5, every=1)
    lines, t = train(run), part(2)
    x, x_test = (images.reshape(len(images), -1) for images in (t.train.images, t.test.images))
    state = boosting.init(np.ones(len(x)), [len(x_test)], 2)
    assert len(lines) == 5
    for k, line in enumerate(lines):
        seed = int(generator((2, STEPS, k)).integers(2**31 - 1))
        state, r = boosting.boost_round(state, None, x, t.train.labels, [x_test], seed)
        assert (line["alpha"], line["learner_error"]) == (r.alpha, 100 * r.error)
        assert line["test_error"] == 100 * np.mean(state.other_votes[0].argmax(1) != t.test.labels)
        assert np.isclose(line["minority_weight"], state.weights[t.train.labels == 0].sum())
    first = trainers.trainer_of(run_of(tmp_path, "cost_boost", 2, part)).init().weights
    assert np.isclose(first[t.train.labels == 0].sum(), first[t.train.labels == 1].sum())


def three_steps(run):
    """Take three steps without a host read; return the tree and the rows, as a list of arrays on the host, and the trainer."""
    trainer = trainers.trainer_of(run)
    learned = trainer.init()
    with without_host_reads():
        learned, first = trainer.step(learned, 0)
    learned, second = trainer.step(learned, 3)              # captures the step, for which it may wait
    with without_host_reads():
        learned, third = trainer.step(learned, 4)           # launches it, with what it is handed now
    return [mg.to_host(leaf) for leaf in tree.flatten((learned, first, second, third))[0]], trainer


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if not isinstance(m, Boosted) and not m.base and name != "dice"])
def test_a_step_of_every_method_on_each_device(cupy, method, tmp_path):
    """The numbers are those on NumPy (see test_what_methods_do.py); no step waits for the device, and most are CUDA graphs."""
    run = run_of(tmp_path, method, decay=1e-3)
    found, trainer = three_steps(run)
    launches = getattr(trainer.update, "launches", None)
    assert (launches is None) == METHODS[method].host
    mg.use("numpy")
    for a, b in zip(found, three_steps(run)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["uniform", "reweight_authors"])
def test_dropout_on_each_device(cupy, method, tmp_path):
    """The masks are those of NumPy in every step, also when a graph is replayed."""
    def with_dropout(rng, classes):
        return Flat(nn.Sequential((nn.Linear.init(rng, 784, 30), nn.Dropout(0.5), nn.Linear.init(rng, 30, classes))))
    run = dataclasses.replace(run_of(tmp_path, method), problem=Problem(with_dropout, prepare))
    found, trainer = three_steps(run)
    assert trainer.update.launches
    mg.use("numpy")
    for a, b in zip(found, three_steps(run)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_confusion_and_boosting_on_each_device(device, tmp_path):
    run = run_of(tmp_path, "uniform", steps=2, every=2)
    train(run)
    trainer = trainers.trainer_of(run)
    np.testing.assert_allclose(trainers.confusion(trainer, tree.load(run.checkpoint, trainer.template())).sum(1), 1)
    boosted = run_of(tmp_path, "adaboost_networks", steps=1, every=1)
    assert 0 <= train(boosted)[0]["test_error"] <= 100


def test_clean_losses_have_four_digits_however_small(tmp_path, monkeypatch):
    """Also one of exactly 0, which a network has that is sure of all clean examples."""
    losses = iter([1.23456789, 0.0, 1.23456789e-7])

    def rule(losses_of, params, batch, clean, memory, known, now):
        n = len(batch.labels)
        return Step(tree.map(np.zeros_like, params), np.full(n, 1 / n, "float32"), np.ones(n, "float32"), Aux(params["model"].init_state(), np.zeros((n, 10), "float32")), None, np.float32(next(losses)))
    monkeypatch.setitem(METHODS, "told", METHODS["uniform"]._replace(rule=rule))
    line, = train(run_of(tmp_path, "told", steps=3, every=3))
    assert line["clean_losses"] == [1.235, 0.0, 1.235e-07]


def test_a_record_is_finite_where_no_example_has_a_weight(tmp_path, monkeypatch):
    """A ratio of nothing to nothing is None: a record with NaN could not be read again."""
    def rule(losses, params, batch, clean, memory, known, now):
        n = len(batch.labels)
        return Step(tree.map(np.zeros_like, params), np.zeros(n, "float32"), np.ones(n, "float32"), Aux(params["model"].init_state(), np.zeros((n, 10), "float32")))
    monkeypatch.setitem(METHODS, "none", METHODS["uniform"]._replace(rule=rule))
    run = run_of(tmp_path, "none", steps=1, every=1)
    line, = train(run)
    assert (line["noisy_weight"], line["minority_weight"]) == (None, 0.0) and read_record(run.record) == [line]


def test_a_network_that_repeats_all_labels_has_no_share_of_right_ones(tmp_path, monkeypatch):
    """There is no label of its own, of which a share could be right."""
    def rule(losses, params, batch, clean, memory, known, now):
        n = len(batch.labels)
        scores = np.eye(10, dtype="float32")[batch.labels]
        return Step(tree.map(np.zeros_like, params), np.ones(n, "float32"), np.ones(n, "float32"), Aux(params["model"].init_state(), scores))
    monkeypatch.setitem(METHODS, "parrot", METHODS["uniform"]._replace(rule=rule))
    line, = train(run_of(tmp_path, "parrot", steps=1, every=1))
    assert (line["train_error"], line["own_label_right"]) == (0.0, None)


@pytest.mark.parametrize("share, known", [(0.0, False), (0.3, True), (1.0, False)])
def test_weights_of_wrong_labels_are_compared_where_there_are_both(tmp_path, share, known):
    def task(key):
        return imbalance(data.sample(), 0.9, generator(key), flip="uniform", flip_share=share)
    line, = train(run_of(tmp_path, "adaboost", task=task, steps=1, every=1))
    assert (line["noisy_weight"] is not None) == known


def test_the_run_that_another_starts_from_is_called_by_its_own_name(tmp_path):
    """With its suffixes, as --methods takes it."""
    run = run_of(tmp_path, "fine_tune")
    run = dataclasses.replace(run, base=dataclasses.replace(run.base, labels={**run.base.labels, "method": "uniform+es"}))
    with pytest.raises(FileError, match=re.escape("starts from a finished run of uniform+es, which does not exist\n  help: train that run first")):
        trainers.trainer_of(run).init()
