"""The experiments on CIFAR: the paper's settings, names of methods, and whole figures on synthetic images."""
import concurrent.futures
import dataclasses
import functools
import pathlib

import numpy as np
import pytest

from experiments import COMMANDS, command_line, data, figures
from experiments.data import Flip, Images
from experiments.paper import cifar, figure3, scripts
from experiments.training import trainers
from experiments.training.folders import read_record
from experiments.training.loop import train
from experiments.training.runs import is_finished, restore
from minigrad import MinigradError, to_host, tree
from minigrad.backend import generator

NAMES = [name for name, entry in COMMANDS.items() if entry.script and name not in ("imbalance", "contradiction")]


def of(name):
    return COMMANDS[name].script


def planned(name, *arguments):
    options = scripts.parse_options(of(name), list(arguments))
    return of(name).plan(options)[1]


# ------------------------------------------------------------------------------------ settings of the paper

@pytest.mark.parametrize("name, steps, drops, rate", [
    ("uniform", 80_000, (40_000, 60_000), 0.1), ("reweight", 80_000, (40_000, 60_000), 0.1),
    ("uniform+es", 60_000, (40_000, 50_000), 0.1), ("uniform+es+ft", 5_000, (), 0.001), ("uniform+ft", 5_000, (), 0.001),
    ("clean_only", 2_000, (), 0.1), ("reweight+half", 40_000, (), 0.1), ("uniform+short", 20_000, (18_000,), 0.1), ("fine_tune", 5_000, (), 0.001),
])
def test_the_papers_schedules(name, steps, drops, rate):
    """paper.md 1.2: SGD 0.1 with momentum 0.9, decay 2e-4, batches of 100 + 100."""
    s = cifar.settings(name, "paper", "resnet-32")
    assert (s.steps, s.drops, s.momentum, s.batch, s.clean_batch, s.decay) == (steps, drops, 0.9, 100, 100, 2e-4)
    assert np.isclose(s.rate, rate)
    if name == "uniform":
        wide = cifar.settings(name, "paper", "wrn-28-10")
        assert (wide.steps, wide.drops) == (60_000, (40_000, 50_000))


def test_the_papers_runs():
    runs = planned("table2", "--mode", "paper")
    assert len(runs) == 16 * 5 and {r.labels["method"] for r in runs} == set(figures.paper.TABLE_2["cifar10"])
    assert {(r.seed, r.labels["target"]) for r in runs} == {(0, 0), (1, 1), (2, 3), (3, 5), (4, 7)}
    assert {(r.labels["network"], r.labels["clean"], r.labels["share"]) for r in runs} == {("resnet-32", 100, 0.4)}
    runs = planned("table2", "--mode", "paper", "--data", "cifar100")
    assert {(r.seed, r.labels["target"], r.labels["clean"]) for r in runs} == {
        (0, 7, 1000), (1, 12, 1000), (2, 41, 1000), (3, 62, 1000), (4, 85, 1000)}
    runs = planned("table1", "--mode", "paper")
    assert {r.labels["method"] for r in runs} == {
        m for m in figures.paper.TABLE_1["cifar10"] if "quoted" not in m} | {"uniform+short"}
    assert {(r.labels["network"], r.labels["clean"], r.labels["bias"]) for r in runs} == {("wrn-28-10", 1000, "uniform")}
    assert {r.labels["clean"] for r in planned("figure4", "--mode", "paper")} == set(
        figures.paper.FIGURE_4["cifar10"]["reweight"])
    assert {r.labels["share"] for r in planned("figure5", "--mode", "paper")} == set(
        figures.paper.FIGURE_5["cifar10"]["reweight"])
    for name in ("figure4", "figure5"):
        table = {"figure4": figures.paper.FIGURE_4, "figure5": figures.paper.FIGURE_5}[name]["cifar10"]
        assert {r.labels["method"] for r in planned(name, "--mode", "paper")} == set(table)


def test_fine_tuning_begins_where_the_other_run_ends():
    run, = planned("table2", "--methods", "adaptation_confusion+es+ft")
    assert run.method.name == "fine_tune" and run.base.labels["method"] == "adaptation_confusion+es"
    assert run.base.base.labels["method"] == "uniform" and run.base.base.base is None
    assert {r.labels["seed"] for r in (run, run.base, run.base.base)} == {0}


def test_figures_share_runs():
    """Table 2 and Figure 7 train the same network on the same task, in one run."""
    a, b = ({r.name: r for r in planned(name)} for name in ("table2", "figure7"))
    assert {a[name].settings == b[name].settings for name in set(a) & set(b)} == {True} and len(set(a) & set(b)) == 4


@pytest.mark.parametrize("name, says", [
    ("magic", "there is no method magic"), ("uniform+ft+es", "uniform may be followed by"), ("uniform+x", "uniform may be followed"),
    ("uniform+es+half", "uniform may be followed"), ("uniform+es+short", "uniform may be followed"), ("uniform+", "uniform may be followed"), ("uniform+es+es", "uniform may be followed")])
def test_names_that_are_none(name, says):
    with pytest.raises(MinigradError, match=says):
        cifar.parse_entry(name)


@pytest.mark.parametrize("network", ["resnet-9", "resnet", "vgg-16", "wrn-28-0", "wrn-26", "resnet-2", "standard-8-1-2"])
def test_networks_that_are_none(network):
    with pytest.raises(MinigradError, match=f"there is no network {network}"):
        cifar.problem(network, 100)


@pytest.mark.parametrize("network, size", [("resnet-32", 462_954), ("standard-32", 464_154), ("resnet-8", 75_050),
                                           ("resnet-8-1-2", 75_050)])
def test_networks(network, size):
    problem = cifar.problem(network, 80_000)
    model = problem.init(generator(0), 10)
    assert tree.size(model) == size
    assert trainers.scores(model, np.zeros((2, 32, 32, 3), "float32"))[0].shape == (2, 10)
    momenta = {layer.momentum for layer in model.layers if hasattr(layer, "momentum")}
    assert momenta == {0.999}


def test_images_are_averaged_after_augmentation():
    """A network of quick mode sees 2 x 2 blocks of what one of the other modes sees."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    whole, half = (cifar.problem("resnet-8", 100, *pixels).prepare for pixels in ((), (16,)))
    for key in (None, 1):
        x, y = (to_host(prepare(images, key and generator(key))) for prepare in (whole, half))
        assert x.shape == (3, 32, 32, 3) and y.dtype == np.float32
        np.testing.assert_allclose(y, x.reshape(3, 16, 2, 16, 2, 3).mean((2, 4)), rtol=1e-6, atol=1e-6)
    assert [mode.pixels for mode in cifar.MODES.values()] == [16, 32, 32]


# ------------------------------------------------------------------------- a whole figure on made-up images

def colored(n, rng):
    """Return 32 x 32 images of ten classes that a small network can learn: each has a bright square at its own position."""
    labels = rng.permutation(np.arange(n) % 10)
    images = rng.integers(0, 60, (n, 32, 32, 3), dtype=np.uint8)
    for i, k in enumerate(labels):
        images[i, 4 + 5 * (k % 5):8 + 5 * (k % 5), 8 + 12 * (k // 5):14 + 12 * (k // 5), k % 3] += 150
    return Images(images, labels.astype(np.int64))


@pytest.fixture
def small(monkeypatch):
    """Replace CIFAR by a small data set, and quick mode by small parts of it."""
    rng = np.random.default_rng(0)
    source = colored(1800, rng), colored(200, rng)
    monkeypatch.setattr(data, "cifar10", lambda: source)
    cifar._source.cache_clear()
    monkeypatch.setitem(cifar.MODES, "quick", cifar.Mode(4, 2, {"size": 300, "validation": 100, "tests": 100}, "exact"))
    monkeypatch.setattr(figure3, "BATCHES", 4)
    yield
    cifar._source.cache_clear()


class Here:
    """An executor that does the work at once in this process."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, f, *args):
        future = concurrent.futures.Future()
        future.set_result(f(*args))
        return future


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_from_end_to_end(small, tmp_path, capsys, name):
    """Each figure runs in quick mode with its default methods, in another executor than the default one."""
    out = tmp_path / "out"
    assert command_line.main([name, "--out", str(out)], executor=Here()) == 0
    text = capsys.readouterr().out
    assert "quick mode, cifar10 data" in text and ("flip" in text or "wrong" in text)
    pictures = [line.split()[1] for line in text.splitlines() if line.startswith("written:")]
    assert pictures and all(pathlib.Path(path).read_bytes()[:4] == b"\x89PNG" for path in pictures)
    for run in planned(name, "--out", str(out)):
        assert is_finished(run) and read_record(run.record)[-1]["step"] == run.settings.steps


def test_two_figures_at_once_share_their_runs(small, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--methods", "uniform", "--out", str(out)]
    assert command_line.main(["table2", "figure7", "table2", *arguments], executor=Here()) == 0         # one of them twice, by mistake
    assert capsys.readouterr().out.count("table2-cifar10.png") == 1
    assert len(list(out.glob("*.jsonl"))) == 1
    assert {"table2-cifar10.png", "figure7-cifar10.png"} <= {path.name for path in out.glob("*.png")}
    before = [path.stat().st_mtime_ns for path in out.glob("*.safetensors")]
    assert command_line.main(["figure7", *arguments], executor=Here()) == 2 and "--resume" in capsys.readouterr().err
    assert command_line.main(["figure7", *arguments, "--resume"], executor=Here()) == 0
    assert [path.stat().st_mtime_ns for path in out.glob("*.safetensors")] == before        # not run again


@pytest.mark.parametrize("mode, named", [("quick", ["--steps", "16000", "--rate", "0.1", "--batch", "100"]), ("night", ["--steps", "28000"]), ("paper", ["--rate", "0.1"])])
def test_a_default_that_is_named_changes_nothing(mode, named):
    """Neither the settings of the folder, which would be refused to --resume, nor the runs."""
    (saved, runs), (same, others) = (of("table2").plan(scripts.parse_options(of("table2"), ["--mode", mode, *more])) for more in ([], named))
    assert saved == same and saved["steps"] is saved["rate"] is saved["batch"] is None
    assert [(run.name, run.settings) for run in runs] == [(run.name, run.settings) for run in others]
    other = of("table2").plan(scripts.parse_options(of("table2"), ["--steps", "16", "--rate", "0.2", "--batch", "50"]))[0]
    assert (other["steps"], other["rate"], other["batch"]) == (16, 0.2, 50)


@pytest.mark.parametrize("arguments, ending", [([], ""), (["--shares", "0.4", "--cleans", "100"], ""), (["--shares", "0.2"], "-shares-0.2"), (["--cleans", "30"], "-cleans-30"),
                                               (["--network", "resnet-8"], "-resnet-8"), (["--target", "5", "--shares", "0.1"], "-shares-0.1-target-5"), (["--seeds", "4"], "")])
def test_the_picture_of_another_task_has_another_name(tmp_path, arguments, ending):
    """Or it would replace the picture of the default one, in the folder that all tasks share."""
    script = dataclasses.replace(of("table2"), draw=lambda lines, runs, options, caption, file: [file("-more")])
    names = list(script.report(scripts.parse_options(script, [*arguments, "--out", str(tmp_path)]), [], [], ""))
    assert names == [tmp_path / f"table2-cifar10{ending}-more.png"]


@pytest.mark.parametrize("arguments, error", [
    (["figure9"], "there is no command figure9\n  help: figure"), (["tabel2"], "there is no command tabel2\n  help: table2"),
    (["x"], "there is no command x\n  help: choose from imbalance, table1"), (["--jobs", "2"], "a command must come before the options"),
    (["table1", "tour"], "tour trains no runs and goes with no other command\n  help: python -m experiments tour")])
def test_commands_that_cannot_be_run(capsys, arguments, error):
    assert command_line.main(arguments) == 2 and f"error: {error}" in capsys.readouterr().err


def test_reweighting_tells_wrong_labels_apart_even_here(small, tmp_path, monkeypatch):
    """After 60 steps on synthetic images wrong labels have less weight than right ones, also in the batches of Figure 3."""
    monkeypatch.setitem(cifar.MODES, "quick", cifar.MODES["quick"]._replace(every=30))
    run, = planned("figure3", "--steps", "90", "--out", str(tmp_path))
    lines = train(run)
    assert lines[-1]["noisy_weight"] < 0.5
    trainer = trainers.trainer_of(run)
    learned = restore(run, trainer)
    pairs = figure3.histogram_data(trainer, learned, 3, generator(1))
    assert np.mean(pairs[0][0]) < 0.7 * np.mean(pairs[0][1])        # (of one class alone it cannot tell so early)
    sizes = [len(wrong) + len(right) for wrong, right in pairs]
    assert sizes == [400, 400] and len(pairs[1][0]) == 160
    rows = trainers.confusion(trainer, learned)
    np.testing.assert_allclose(rows.sum(1), 1)


def test_fine_tuning_starts_from_the_trained_model(small, tmp_path):
    run, = planned("table2", "--methods", "uniform+ft", "--out", str(tmp_path))
    with pytest.raises(MinigradError, match="starts from a finished run of uniform, which does not exist"):
        train(run)
    train(run.base)
    begun = trainers.trainer_of(run).init()
    there = restore(run.base, trainers.trainer_of(run.base))
    for part in ("params", "state"):
        for a, b in zip(tree.flatten(begun[part])[0], tree.flatten(there[part])[0]):
            np.testing.assert_array_equal(a, b)
    assert not any(leaf.any() for leaf in tree.flatten(begun["momentum"])[0])
    train(run)


def test_the_noise_layer_starts_from_the_confusion_of_the_trained_model(small, tmp_path):
    run, = planned("table2", "--methods", "adaptation_confusion", "--steps", "40", "--out", str(tmp_path))
    train(run.base)
    base = trainers.trainer_of(run.base)
    learned, validation = restore(run.base, base), base.task.validation
    images = (validation.images / 127.5 - 1).astype("float32")
    taken = np.asarray(learned["params"]["model"].apply(images, learned["state"], train=False)[0]).argmax(1)
    counts = np.zeros((10, 10))
    for true, label in zip(validation.true, taken):
        counts[true, label] += 1
    rows = counts / counts.sum(1, keepdims=True)
    assert (validation.true != validation.labels).any() and len(set(taken)) > 1
    begun = trainers.trainer_of(run).init()
    np.testing.assert_allclose(begun["params"]["layer"], np.log(rows + 1e-3).ravel(), rtol=1e-5)
    fresh = trainers.trainer_of(run).template()["params"]["model"]
    for a, b in zip(tree.flatten(begun["params"]["model"])[0], tree.flatten(fresh)[0]):
        np.testing.assert_array_equal(a, b)                 # the network itself starts anew


def test_tasks_of_the_figures_are_the_papers():
    """The arguments of tasks.noisy are those of functools.partial(task, ...)."""
    run = planned("table2", "--mode", "paper", "--methods", "uniform", "--seeds", "3")[0]
    assert isinstance(run.task, functools.partial) and run.task.keywords == {
        "flip": Flip("background", 0.4, 5, "paper"), "clean": 100, "validation": 5000}
