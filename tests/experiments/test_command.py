"""The command line of every experiment: refused options, the effect of one failed run, and the output."""
import concurrent.futures
import dataclasses
import functools
import io
import itertools
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import time
import types

import hypothesis
import matplotlib.figure
import numpy as np
import pytest
from hypothesis import strategies as st

from experiments import COMMANDS, command_line, console, data
from experiments.benchmark import benchmark
from experiments.data import Images
from experiments.methods import METHODS
from experiments.pages import contradiction, nested
from experiments.paper import cifar, command, figure2, figure3, networks, scripts
from experiments.training import pool, runs, trainers, workers
from experiments.training.folders import prepare_folder, read_record
from experiments.training.runs import NotFinite, Problem, is_finished
from minigrad import FileError, MinigradError, nn, tree

from .flipped import noisy
from .test_benchmark import made_up
from .test_cifar import Here, colored
from .test_training import without_time

ROOT = pathlib.Path(command_line.__file__).parent.parent
SWEPT = [name for name, entry in COMMANDS.items() if entry.script]
OTHERS = [name for name, entry in COMMANDS.items() if not entry.script]
ON_CIFAR = [name for name in SWEPT if name not in ("imbalance", "contradiction")]
FEW = {"imbalance": ["--methods", "uniform", "reweight", "--shares", "0.95"], "contradiction": ["--methods", "uniform", "low_loss"],
       "figure3": ["--methods", "reweight", "--cleans", "30"], "figure4": ["--methods", "uniform", "reweight", "--cleans", "30", "40"],
       "figure5": ["--methods", "uniform", "reweight", "--cleans", "30", "--shares", "0", "0.4"]}      # and of all others one setting
ONE_AT_A_TIME = {"shares": [name for name in ON_CIFAR if name != "figure5"], "cleans": [name for name in ON_CIFAR if name != "figure4"]}


class Linear(nn.Module):
    """Scores of flattened images."""
    layer: nn.Linear

    def __call__(self, x):
        y = self.layer(x.reshape(len(x), -1))
        return y[:, 0] if y.shape[1] == 1 else y


def linear_problem(network, steps, pixels):
    """Stand in for cifar.problem, with a linear model in the place of every network."""
    return Problem(lambda rng, k: Linear(nn.Linear.init(rng, 3072, k)), functools.partial(networks._prepare, pixels))


@pytest.fixture
def small(monkeypatch):
    """Reduce every experiment to four steps of linear models, with synthetic images instead of downloads."""
    rng = np.random.default_rng(0)
    source, digits = (colored(800, rng), colored(100, rng)), Images(rng.random((1000, 28, 28, 1), np.float32), np.tile([4, 9], 500))
    monkeypatch.setattr(data, "cifar10", lambda: source)
    monkeypatch.setattr(data, "cifar100", lambda: source)
    few = Images(digits.images[:260], digits.labels[:260])
    monkeypatch.setattr(figure2, "_source", lambda name: (few, None, None, 20))
    monkeypatch.setattr(contradiction, "_source", lambda: digits)
    for mode, variant in (("quick", "exact"), ("night", "paper"), ("paper", "paper")):
        monkeypatch.setitem(cifar.MODES, mode, cifar.Mode(4, 2, {"size": 200, "validation": 100, "tests": 50}, variant))
    monkeypatch.setattr(cifar, "problem", linear_problem)
    monkeypatch.setattr(figure2, "LENET", Problem(lambda rng, k: Linear(nn.Linear.init(rng, 784, 1))))
    monkeypatch.setattr(figure2, "QUICK", dataclasses.replace(figure2.QUICK, steps=4, every=2))
    monkeypatch.setattr(contradiction, "QUICK", dataclasses.replace(contradiction.QUICK, steps=4, every=2))
    monkeypatch.setattr(figure3, "BATCHES", 2)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, file, **how: file.write(b"a picture"))
    cifar._source.cache_clear()
    yield
    cifar._source.cache_clear()


@pytest.fixture
def cli(small, tmp_path, capsys):
    """Return cli(name, *arguments) -> status, output, errors; results go to tmp_path / "out"."""
    def call(name, *arguments, out="out"):
        status = command_line.main([name, *arguments, "--out", str(tmp_path / out)], executor=Here())
        return status, *capsys.readouterr()
    return call


@pytest.fixture
def ascii_screen(monkeypatch):
    """Return ascii_screen() -> a function that reads a new standard output, which raises an error for non-ASCII text."""
    def begin():
        screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
        monkeypatch.setattr(sys, "stdout", screen)

        def text():
            screen.flush()
            return screen.buffer.getvalue().decode("ascii")
        return text
    return begin


def few(name):
    return FEW.get(name, ["--methods", "uniform", "reweight", "--cleans", "30"])


def planned(name, *arguments):
    module = COMMANDS[name].script
    return module.plan(scripts.parse_options(module, list(arguments)))[1]


@pytest.fixture
def failing(monkeypatch):
    """Return failing(name, error): the run of this name raises the error from its third step on; without a name, none does."""
    step, bad = trainers.Descent.step, {}

    def fail(self, learned, t):
        if self.run.name in bad and t == 2:
            raise bad[self.run.name](f"{self.run.name} came to grief")
        return step(self, learned, t)
    monkeypatch.setattr(trainers.Descent, "step", fail)

    def set_bad(name=None, error=None):
        bad.clear()
        bad.update({name: error} if name else {})
    return set_bad


# ------------------------------------------------------------------------------------- refused before training

REFUSED = [(name, arguments, says) for name in SWEPT for arguments, says in [
    (["--steps", "0"], "--steps 0"), (["--rate", "nan"], "--rate nan"), (["--rate", "inf"], "--rate inf"), (["--jobs", "0"], "--jobs 0"), (["--batch", "0"], "--batch 0"),
    (["--seeds", "0", "-1"], "--seeds -1"), (["--methods", "uniform", "magic"], "there is no method magic")]]
REFUSED += [(name, [f"--{which}", *values], f"--{which} {' '.join(values)}: {name} shows one value at a time")
            for which, values in (("shares", ["0.2", "0.4"]), ("cleans", ["50", "100"])) for name in ONE_AT_A_TIME[which]]
REFUSED += [(name, arguments, says) for name in ON_CIFAR for arguments, says in [
    (["--cleans", "0"], "--cleans 0: it must be at least 1"), (["--shares", "1.5"], "share 1.5"), (["--shares", "nan"], "share nan"),
    (["--methods", "uniform", "dice"], "dice cannot be used here: it is for 2 classes, not 10"), (["--network", "vgg"], "there is no network vgg"),
    (["--methods", "clean_only+es"], "clean_only+es: +es changes nothing"), (["--cleans", "100000"], "leave no training images"),
    (["--methods", "uniform", "adaboost_networks+ft"], "trains no network"), (["--methods", "uniform+ft+es"], "there is no method uniform+ft+es")]]
REFUSED += [("figure3", ["--methods", "adaboost_networks"], "it trains none"), ("figure6", ["--methods", "adaboost"], "it trains none"),
            ("table1", ["--target", "3"], "table1 has no background flips"), ("table2", ["--target", "10"], "--target 10: cifar10 has no such class\n  help: --target K, with K from 0 to 9"), ("table2", ["--target", "-1"], "--target -1"),
            ("imbalance", ["--shares", "0.4"], "between 0.5 and 1"), ("imbalance", ["--shares", "0.99999"], "share 0.99999: it needs"),
            ("imbalance", ["--methods", "adaboost", "cost_boost_csb2", "--rate", "0.1"], "--rate 0.1: boosting has none"), ("table2", ["--methods", "adaboost_networks", "--batch", "100"], "--batch 100: boosting has none"),
            ("figure5", ["--labels", "x.csv"], "--labels x.csv: figure5 compares shares of flips"), ("table1", ["--labels", "x.csv"], "x.csv: the file cannot be read"),
            ("table2", ["--labels", "x.csv", "--target", "3"], "--target beside --labels"), ("figure4", ["--labels", "x.csv", "--shares", "0.2"], "--shares beside --labels"),
            ("contradiction", ["--methods", "adaboost"], "adaboost cannot be used"),
            ("contradiction", ["--methods", "fine_tune"], "fine_tune cannot be used")]


@pytest.mark.parametrize("name, arguments, says", REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else None)
def test_what_cannot_be_shown_is_refused_before_training(cli, tmp_path, monkeypatch, name, arguments, says):
    monkeypatch.setattr(command, "run_all", lambda *args: pytest.fail("a run was started"))
    if arguments == ["--network", "vgg"]:
        monkeypatch.undo()                                  # the real networks
        monkeypatch.setattr(data, "cifar10", lambda: pytest.fail("images were read"))
    status, out, err = cli(name, *arguments)
    assert status == 2 and says in err and "Traceback" not in err and not out and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", SWEPT)
def test_every_method_is_refused_at_once_or_runs(cli, name):
    """Every method of the table runs for one step, or is refused with a list of the possible ones."""
    fit, choice = [], METHODS
    for method in METHODS:
        try:
            planned(name, "--methods", method)
            fit.append(method)
        except MinigradError as error:
            choice = str(error).partition("choose from ")[2].split(", ")
    assert fit == list(choice) and {"uniform", "reweight"} <= set(fit) and ("dice" in fit) == (name not in ON_CIFAR)
    if name in ("imbalance", "contradiction", "table2"):    # the others make the runs of table2
        status, out, err = cli(name, *few(name), "--methods", *fit, "--steps", "1", "--seeds", "0")
        assert (status, "missing:" in out) == (0, False), err


def test_a_suffix_changes_the_schedule_or_is_refused():
    """Every name with a suffix has another schedule or another base than without it, or is refused with a help."""
    def chain(name, network):
        run, found = planned("table2", "--methods", name, "--network", network)[0], []
        while run:
            found.append((run.method.name, run.settings))
            run = run.base
        return found
    for network in ("resnet-8", "wrn-10-1"):
        for method in METHODS:
            for suffix in ("es", "half", "short", "ft", "es+ft", "half+ft"):
                name = f"{method}+{suffix}"
                plain = name.replace("+" + suffix.split("+")[0], "", 1)
                try:
                    assert chain(name, network) != chain(plain, network)
                except MinigradError as error:
                    help = str(error).rpartition("help: ")[2]
                    assert method == "dice" or "+ft" in name or chain(help.removeprefix("--methods "), network), name
    with pytest.raises(MinigradError, match="uniform\\+es: \\+es changes nothing, as uniform on wrn-10-1 has that schedule"):
        planned("table2", "--network", "wrn-10-1")
    assert cifar.settings("adaboost", "quick", "resnet-8", 4).steps == 4 and cifar.settings("adaboost", "quick", "resnet-8").steps == 100


def test_what_a_figure_compares_may_have_several_values(cli):
    for name, more in (("figure5", ["--shares", "0.2", "0.4"]), ("figure4", ["--cleans", "20", "30"])):
        assert cli(name, *more, "--methods", "uniform", out=name)[0] == 0


def test_two_experiments_do_not_share_a_folder(cli, tmp_path, capsys):
    status, out, err = cli("imbalance", "contradiction")
    assert status == 2 and "imbalance and contradiction have different settings" in err and not (tmp_path / "out").exists()
    assert cli("imbalance", *few("imbalance"))[0] == 0
    status, out, err = cli("contradiction", "--resume", *few("contradiction"), "--seeds", "0")
    assert status == 2 and "experiment: imbalance there, contradiction now" in err
    assert cli("table2", "figure7", "--methods", "uniform", out="cifar")[0] == 0                # these have the same


def test_classes_without_a_clean_image_are_told(cli):
    assert "clean: 3 (which lack 7 of the 10 classes);" in cli("figure4", "--methods", "uniform", "--cleans", "3")[1]
    assert "lack" not in cli("figure4", "--methods", "uniform", "--cleans", "10", out="ten")[1]


@pytest.mark.parametrize("seed", [2**32 - 2, 2**32 - 1, 2**32, 2**64 + 5])
def test_seeds_may_be_large(small, seed):
    for name, mode in [(name, mode) for name in SWEPT for mode in ("quick", "paper") if mode in COMMANDS[name].script.modes]:
        first, other = (planned(name, "--mode", mode, "--seeds", str(key), *few(name))[0].task() for key in (seed, seed + 2**32))
        for a, b in ((first.train, other.train), *([(first.validation, other.validation)] if first.validation else [])):
            assert not np.array_equal(a.indices, b.indices), (name, mode)
    for name in ("walkthrough", "nested"):
        assert COMMANDS[name].module.problem(seed)


def test_seeds_of_the_authors_are_as_they_were():
    source = colored(60, np.random.default_rng(0))
    task = noisy(source, source, 2**32 - 3, "uniform", clean=10, validation=10, variant="paper")
    whole = np.random.RandomState(2**32 - 3).permutation(60)
    assert set(task.validation.indices) == set(whole[-10:])
    assert set(task.clean.indices) == set(np.random.RandomState(2**32 - 3).permutation(whole[:-10])[-10:])


# ------------------------------------------------------------------------------------------- labels of a file

@pytest.fixture
def given(small, tmp_path):
    """Return given(share, name): a file in which that share of the labels of the synthetic images is wrong."""
    true = data.cifar10()[0].labels

    def write(share, name="people.npy"):
        labels = np.where(np.arange(len(true)) < share * len(true), (true + 1) % 10, true)
        np.save(tmp_path / name, {"clean_label": true, "worse_label": labels, "aggre_label": true})
        return f"{tmp_path / name}:worse_label"
    return write


@pytest.mark.parametrize("name", [name for name in ON_CIFAR if name != "figure5"])
def test_labels_of_a_file_take_the_place_of_flips(cli, given, tmp_path, monkeypatch, name):
    captions = []
    monkeypatch.setattr(matplotlib.figure.Figure, "suptitle", lambda figure, text, **how: captions.append(text.replace("\n", " ")))
    where = given(0.25)
    status, out, err = cli(name, *few(name), "--labels", where)
    assert (status, "missing:" in out) == (0, False), err
    assert "  labels-people-worse_label 0.25, 30 clean: training: 200 images" in out and "labels of training wrong" in out
    lines = [line for path in (tmp_path / "out").glob("*.jsonl") for line in read_record(path)]
    assert {(line["bias"], line["share"], "target" in line) for line in lines} == {("labels-people-worse_label", 0.25, False)}
    assert captions and all("25.0% wrong labels of " in text and " of people.npy:worse_label" in text for text in captions)
    assert not any(f"{kind} flips" in text for kind in ("uniform", "background") for text in [out, *captions])
    if name.startswith("table"):
        assert "Table " in out and "MentorNet" not in out and "59.54" not in out and "67.97" not in out
    run = planned(name, *few(name), "--labels", where)[0]
    made, true = run.task(), data.cifar10()[0].labels
    wrong = made.train.indices < 200
    np.testing.assert_array_equal(made.train.wrong, wrong)
    np.testing.assert_array_equal(made.validation.wrong, made.validation.indices < 200)
    np.testing.assert_array_equal(made.clean.labels, true[made.clean.indices])


def test_labels_of_a_file_and_the_number_of_clean_images(given):
    where = given(0.25)
    for name, arguments, cleans in (("table1", [], {1000}), ("table2", [], {100}), ("figure4", [], {15, 100, 500}), ("figure6", [], {1000}),
                                    ("table2", ["--data", "cifar100"], {1000}), ("table1", ["--cleans", "7"], {7})):
        assert {run.labels["clean"] for run in planned(name, "--labels", where, *arguments)} == cleans


def test_a_folder_holds_the_labels_of_one_file(cli, given, tmp_path):
    where, arguments = given(0.25), ["--methods", "uniform", "--cleans", "30"]
    options = scripts.parse_options(COMMANDS["table2"].script, ["--labels", where])
    assert options.out == pathlib.Path("runs", "cifar-quick-labels-people-worse_label")
    assert cli("table2", *arguments, "--labels", where)[0] == 0
    assert cli("figure7", *arguments, "--labels", where, "--resume")[0] == 0                # the same task
    kept = json.loads((tmp_path / "out" / "settings.json").read_text())["labels"]
    given(0.3)                                              # another file of the same name
    status, out, err = cli("table2", *arguments, "--labels", where, "--resume")
    assert status == 2 and f"labels: {kept} there, labels-people-worse_label, " in err and f"{kept} now" not in err
    status, out, err = cli("table2", *arguments, "--resume")
    assert status == 2 and f"labels: {kept} there, None now" in err
    status, out, err = cli("table2", *arguments, "--labels", where.replace("worse", "best"), out="other")
    assert status == 2 and "people.npy: it has no best_label" in err and not (tmp_path / "other").exists()


# --------------------------------------------------------------------------------------- night, batch and quiet

def test_a_night_is_resumed(cli, failing, tmp_path):
    arguments = ["table2", "--mode", "night", "--network", "resnet-8", "--cleans", "30"]
    bad = next(run for run in planned(*arguments) if run.labels["method"] == "uniform+es")
    failing(bad.name, RuntimeError)
    status, out, err = cli(*arguments)
    assert status == 1 and "table2, night mode, cifar10 data" in out and "Table 2: background flips (night mode" in out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.safetensors")}
    failing()
    assert cli(*arguments)[0] == 2 and cli(*arguments, "--resume")[0] == 0
    assert [path.name for path, time in before.items() if path.stat().st_mtime_ns != time] == [f"{bad.name}.safetensors"]
    assert cli("table2", *arguments[3:], "--resume")[2].count("mode: night there, quick now") == 1


@pytest.mark.parametrize("name", ["table2", "imbalance", "contradiction"])
def test_another_batch_is_another_setting(cli, name):
    arguments = [name, "--methods", "uniform", "--seeds", "0", *(["--cleans", "30"] if name == "table2" else [])]
    assert cli(*arguments, "--batch", "20")[0] == 0 and cli(*arguments, "--batch", "20", "--resume")[0] == 0
    for batch, now in (([], {"table2": "None", "imbalance": "50", "contradiction": "30"}[name]), (["--batch", "10"], "10")):
        status, out, err = cli(*arguments, *batch, "--resume")
        assert status == 2 and f"batch: 20 there, {now} now" in err


def test_a_batch_larger_than_a_set_is_all_of_it(cli):
    assert cli("figure3", *few("figure3"), "--batch", "300")[0] == 0                        # of 200 images, and 100 to validate


def test_folders_from_before_there_were_labels_and_batches(cli, tmp_path):
    arguments = ["table2", "--methods", "uniform", "--cleans", "30"]
    assert cli(*arguments)[0] == 0
    path = tmp_path / "out" / "settings.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({key: kept[key] for key in ("experiment", "mode", "steps", "rate", "images", "pixels")}))
    assert cli(*arguments, "--resume")[0] == 0
    path.write_text(json.dumps({key: kept[key] for key in ("experiment", "mode", "steps", "rate")}))     # the old quick mode
    status, out, err = cli(*arguments, "--resume")
    assert status == 2 and "images: None there, 200 now" in err and "pixels: None there, 32 now" in err
    assert cli("table2", "--mode", "night", *arguments[1:], out="night")[0] == 0
    assert not {"images", "pixels"} & {*json.loads((tmp_path / "night" / "settings.json").read_text())}  # which goes on


@pytest.mark.parametrize("name", SWEPT)
def test_quiet_prints_tables_files_and_errors_alone(cli, failing, monkeypatch, name):
    monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
    arguments = [name, *few(name), "--seeds", "0", "1"]
    loud, quiet = cli(*arguments, out="loud"), cli(*arguments, "--quiet", out="quiet")
    rest = loud[1][loud[1].index("\n", loud[1].rindex("; test: ")) + 1:].replace("/loud/", "/quiet/")
    assert quiet == (0, rest, "") and "written: " in rest and "runs done" in loud[2] and f"{name}, quick mode" in loud[1]
    bad = planned(*arguments)[0].name
    failing(bad, RuntimeError)
    status, out, err = cli(*arguments, "--quiet", out="failed")
    assert status == 1 and f"missing: {bad}: step 2 of 4" in out and err.startswith("failed: ") and "runs done" not in err


def test_a_quiet_bar_is_none(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with console.Progress(10, 1, quiet=True) as progress:
        progress.advance(10, "a run", {"step": 7, "train_error": 1.0, "test_error": 2.0})
        progress.end("a run", False)
    assert screen.getvalue() == ""


# ------------------------------------------------------------------------------------------------- one bad run

@pytest.mark.parametrize("name", SWEPT)
def test_every_figure_is_drawn_without_a_run_that_failed(small, tmp_path, monkeypatch, failing, ascii_screen, name):
    """On an ASCII terminal: the other runs are trained and drawn, the missing one is printed, and the status is 1."""
    arguments = [name, *few(name), "--seeds", "0", "1", "--out", str(tmp_path / "out")]
    bad, *others = planned(*arguments)
    captions = []
    monkeypatch.setattr(matplotlib.figure.Figure, "suptitle", lambda figure, text, **how: captions.append(text))
    failing(bad.name, RuntimeError)

    def ascii():
        text = ascii_screen()
        return command_line.main([*arguments, "--resume"], executor=Here()), text()
    for attempt in range(2):                                # again with --resume: nothing else is in the way
        status, out = ascii()
        assert status == 1 and f"missing: {bad.name}: step 2 of 4" in out and "written: " in out, attempt
        assert all(is_finished(run) for run in others) and not is_finished(bad)
    assert any(f"without 1 of {1 + len(others)} runs" in caption.replace("\n", " ") for caption in captions)
    failing()
    status, out = ascii()
    assert status == 0 and "missing:" not in out and is_finished(bad)


@pytest.mark.parametrize("error", [NotFinite, RuntimeError, ValueError, MemoryError, OSError, KeyError])
def test_whatever_a_run_raises_is_told_at_the_end(cli, failing, error):
    failing("reweight-0.95-0", error)
    status, out, err = cli("imbalance", *few("imbalance"))
    last = err[err.index("failed: "):]
    assert status == 1 and last.count("failed:") == 1 and "reweight-0.95-0" in last and "came to grief" in last and "Traceback" not in err
    assert "uniform" in out and "missing: reweight-0.95-0: step 2 of 4" in out and "left out" not in out
    if error in (RuntimeError, ValueError, KeyError):
        assert f"{error.__name__}: " in last and f"raised in {__file__}, line " in last             # where to look


def damaged(run):
    run.checkpoint.write_bytes(b"no checkpoint")


def foreign(run):
    run.record.write_text(run.record.read_text().replace('"seed": 0', '"seed": 7'))


def strange(run):
    run.record.write_text('{"step": 1}\n')


@pytest.mark.parametrize("name, damage", zip(SWEPT, itertools.cycle([damaged, foreign, strange])))
def test_a_broken_file_stops_its_run_alone(cli, tmp_path, name, damage):
    arguments = [name, *few(name), "--seeds", "0", "1"]
    bad, *others = planned(*arguments, "--out", str(tmp_path / "out"))
    assert cli(*arguments)[0] == 0
    others[-1].record.unlink(), others[-1].checkpoint.unlink()
    damage(bad)
    status, out, err = cli(*arguments, "--resume")
    assert status == 1 and err.count("\nfailed: ") == 1 and "help: " in err and str(bad.checkpoint if damage is damaged else bad.record) in err
    assert is_finished(others[-1]) and "written: " in out
    (bad.checkpoint if damage is damaged else bad.record).unlink()                                  # the remedy
    status, out, err = cli(*arguments, "--resume")
    assert (status, "missing:" in out, is_finished(bad)) == (0, False, damage is not damaged or bad.checkpoint.exists()), err


def test_where_nothing_came_to_its_end_nothing_is_drawn(cli, tmp_path, failing):
    failing("reweight-0.95-0", NotFinite)
    status, out, err = cli("imbalance", "--methods", "reweight", "--shares", "0.95", "--seeds", "0")
    assert status == 1 and "left out" not in out and "imbalance: no run is finished, nothing is drawn" in out and not list((tmp_path / "out").glob("*.png"))


def test_a_report_that_fails_stops_no_other(cli, monkeypatch, tmp_path):
    def fail(*args):
        raise MinigradError("a report that cannot be made")
    monkeypatch.setattr("experiments.figures.accuracy_table", fail)
    status, out, err = cli("table2", "figure7", "--methods", "uniform")
    assert status == 1 and "failed: the report of table2: a report that cannot be made" in err and (tmp_path / "out" / "figure7-cifar10.png").exists()


def test_what_one_picture_cannot_show_is_said(cli):
    out = cli("figure3", "--methods", "reweight+half", "uniform", "--seeds", "0", "1")[1]
    assert "not drawn, of 4 runs: " in out and out.count("written:") == 1 and out.split("not drawn")[1].count("reweight+half-") == 1
    out = cli("figure6", "--methods", "uniform", "--cleans", "30", "--seeds", "0", "1", out="figure6")[1]
    assert out.count("not drawn, of 2 runs: ") == 2 and out.count("written:") == 2
    out = cli("imbalance", "--methods", "adaboost", "cost_boost", "--shares", "0.95", "--seeds", "0", out="boosted")[1]
    assert "drawn of 2 runs of boosting: adaboost-0.95-0" in out


def test_a_picture_of_networks_whose_checkpoints_are_gone(cli, tmp_path):
    arguments = ["figure3", *few("figure3"), "--seeds", "0", "1", "--resume"]
    assert cli(*arguments)[0] == 0
    (tmp_path / "out" / (planned(*arguments)[0].name + ".safetensors")).unlink()
    status, out, err = cli(*arguments)
    assert status == 0 and planned(*arguments)[0].name in out.partition("not drawn")[2] and "written:" in out
    for path in (tmp_path / "out").glob("*.safetensors"):
        path.unlink()
    status, out, err = cli(*arguments)
    assert status == 0 and "written:" not in out and "not drawn" in out


# ------------------------------------------------------------------------------------------------- the folder

STRANGE = {
    "gone": ('{"method": "l2rw2", "task": "noise", "share": 0.95, "seed": 0, "step": 4}\n', "there is no method l2rw2"),
    "lines": ('{"step": 1}\n', "it has no '"), "null": ('{"step": null}\n', "not a record of a run"), "empty": ("", "it is empty"),
    "text": ("hello\n", "not a record of a run"), "list": ("[1]\n", "not a record of a run"), "binary": ("\0\n", "not a record of a run"),
    "types": ('{"method": "uniform", "share": "x", "seed": 0, "task": "x", "step": 4}\n', ""),
    "nulls": ('{"method": null, "share": 1, "seed": 0, "task": [], "step": 4}\n', ""), "copy": (None, "the file name for its content is ")}


@pytest.mark.parametrize("name", ["imbalance", "contradiction"])
def test_records_of_others_are_left_out(cli, tmp_path, name):
    assert cli(name, *few(name), "--seeds", "0")[0] == 0
    mine = next((tmp_path / "out").glob("*.jsonl")).read_text()
    for stem, (text, _) in STRANGE.items():
        (tmp_path / "out" / f"{stem}.jsonl").write_text(mine if text is None else text)
    status, out, err = cli(name, *few(name), "--seeds", "0", "--resume")
    assert status == 0 and "Traceback" not in err and "missing:" not in out and "written:" in out
    for stem, (_, why) in STRANGE.items():
        assert f"left out: {tmp_path / 'out' / f'{stem}.jsonl'}, which is not a record of {name}: {why}" in out


def test_runs_that_did_not_end_are_missing_from_the_report_of_the_folder(cli, failing):
    failing("uniform-0.95-1", NotFinite)
    assert cli("imbalance", *few("imbalance"), "--seeds", "0", "1")[0] == 1
    status, out, err = cli("imbalance", "--methods", "random", "--shares", "0.95", "--seeds", "0", "--resume")
    assert status == 0 and "missing: uniform-0.95-1: step 2 of 4" in out
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(("uniform ", "reweight ", "random "))}
    assert [row[-1] for row in (table["uniform"], table["reweight"], table["random"])] == ["(1)", "(2)", "(1)"]


def test_the_remedy_is_accepted(cli, tmp_path):
    """A folder without results accepts another rate; with results, the error suggests --out."""
    diverged = cli("imbalance", "--rate", "3e38", "--methods", "uniform", "--shares", "0.95", "--seeds", "0")
    assert diverged[0] == 1 and "help: a smaller --rate, with --out FOLDER if this folder holds other results" in diverged[2]
    assert cli("imbalance", "--rate", "1e-3", *few("imbalance"), "--seeds", "0")[0] == 0
    status, out, err = cli("imbalance", "--rate", "1e-4", *few("imbalance"), "--seeds", "0", "--resume")
    assert status == 2 and "rate: 0.001 there, 0.0001 now" in err and "--out" in err


def test_settings_of_another_program_are_not_overwritten(tmp_path):
    (tmp_path / "settings.json").write_text('{"editor.fontSize": 12}')
    with pytest.raises(MinigradError, match="another configuration"):
        prepare_folder(tmp_path, {"experiment": "imbalance"}, True, 1)
    assert json.loads((tmp_path / "settings.json").read_text()) == {"editor.fontSize": 12}


LONGER = ["uniform", "reweight", "low_loss", "fine_tune", "adaboost", "adaptation_confusion"]


def test_a_sweep_may_be_given_more_steps(cli, tmp_path, capsys, monkeypatch):
    """It continues with the bits of a sweep that had all the steps from the start; runs that depend on their number start over."""
    arguments, begun = ["imbalance", "--methods", *LONGER, "--shares", "0.95", "--seeds", "0"], {}
    monkeypatch.setattr(figure2, "QUICK", dataclasses.replace(figure2.QUICK, every=8))
    step = trainers.Descent.step

    def watched(self, learned, t):
        begun.setdefault(self.run.name.split("-")[0], t)
        return step(self, learned, t)
    assert cli(*arguments, "--steps", "33", out="whole")[0] == 0 and cli(*arguments, "--steps", "16")[0] == 0
    status, out, err = cli(*arguments, "--steps", "33")
    assert status == 2 and "results of 16 steps of this configuration\n  help: --resume" in err
    monkeypatch.setattr(trainers.Descent, "step", watched)
    assert cli(*arguments, "--steps", "33", "--resume")[0] == 0
    assert begun == {"uniform": 16, "reweight": 16, "low_loss": 0, "fine_tune": 0, "adaptation_confusion": 0}
    for method in LONGER:
        name = f"{method}-0.95-0"
        a, b = (tree.read(tmp_path / folder / f"{name}.safetensors")[0] for folder in ("whole", "out"))
        assert a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a), method
        a, b = (without_time(read_record(tmp_path / folder / f"{name}.jsonl")) for folder in ("whole", "out"))
        assert a == b, method
    status, out, err = cli(*arguments, "--steps", "16", "--resume")
    assert status == 2 and "steps: 33 there, 16 now" in err


def test_a_longer_run_keeps_the_line_at_which_it_ended(cli, tmp_path):
    arguments = ["imbalance", *few("imbalance"), "--seeds", "0"]
    assert cli(*arguments, "--steps", "3")[0] == 0 and cli(*arguments, "--steps", "6", "--resume")[0] == 0
    assert [line["step"] for line in read_record(tmp_path / "out" / "uniform-0.95-0.jsonl")] == [2, 3, 4, 6]
    status, out, err = cli(*arguments, "--steps", "6", "--resume")
    assert status == 0 and "missing:" not in out


def test_more_steps_are_refused_where_the_rate_depends_on_them(cli):
    assert cli("contradiction", *few("contradiction"), "--seeds", "0")[0] == 0
    status, out, err = cli("contradiction", *few("contradiction"), "--seeds", "0", "--steps", "8", "--resume")
    assert status == 2 and "--out; with another number of steps the rate drops at other steps" in err
    assert cli("contradiction", *few("contradiction"), "--seeds", "0", "--steps", "8", out="another")[0] == 0     # the remedy


def test_a_run_makes_its_folder(small, tmp_path):
    run = planned("imbalance", *few("imbalance"), "--out", str(tmp_path / "not" / "there"))[0]
    assert command.run_all([run], 1, Here()) == {} and is_finished(run)
    (tmp_path / "file").write_text("")
    run = planned("imbalance", *few("imbalance"), "--out", str(tmp_path / "file" / "out"))[0]
    failed = command.run_all([run], 1, Here())
    assert "file/out: results cannot be written there" in failed[run.name]


def test_complete_records_are_known_without_counting_all_steps(small, tmp_path):
    run = planned("imbalance", "--steps", str(10**13), *few("imbalance"), "--out", str(tmp_path))[0]
    run.record.write_text(json.dumps({**run.labels, "step": 10**13, "train_error": 1.0, "test_error": 1.0}) + "\n")
    assert not runs.has_full_record(run)


def test_paths_may_begin_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert console.folder("~/x") == tmp_path / "x"
    assert scripts.parse_options(COMMANDS["imbalance"].script, ["--out=~/x"]).out == tmp_path / "x" and benchmark._options(["--out=~/x"]).out == tmp_path / "x"


# --------------------------------------------------------------------------------------------- the terminal

@pytest.mark.parametrize("name", SWEPT + OTHERS)
def test_help_on_a_terminal_without_unicode(ascii_screen, name):
    text = ascii_screen()
    with pytest.raises(SystemExit) as end:
        command_line.main([name, "--help"])
    assert end.value.code == 0 and f"usage: python -m experiments.{name}" in text()


def test_pages_on_a_terminal_without_unicode(small, ascii_screen, tmp_path, monkeypatch):
    text = ascii_screen()
    monkeypatch.setattr(nested, "SEEDS", range(1))
    monkeypatch.setattr(benchmark, "measure", lambda *args: made_up())
    for name, arguments in (("tour", []), ("walkthrough", []), ("nested", []), ("benchmark", ["--rounds", "2", "--problems", "mlp"])):
        assert command_line.main([name, *arguments, "--out", str(tmp_path / name)]) == 0
    monkeypatch.setattr(sys, "argv", ["experiments"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("experiments", run_name="__main__")
    assert end.value.code == 0 and command_line.main(["--help"]) == 0
    assert text().count("written: ") == 4


def test_signs_that_a_terminal_lacks_are_replaced(ascii_screen):
    text = ascii_screen()
    console.prepare()
    print("59.5 ± 2.2")
    assert text() == "59.5 ? 2.2\n"


@pytest.mark.parametrize("name", OTHERS)
def test_a_page_that_cannot_be_written_is_refused_before_it_is_made(tmp_path, capsys, monkeypatch, name):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(benchmark, "measure", lambda *args: pytest.fail("something was measured"))
    module = COMMANDS[name].module
    for work in ("solve", "trace"):
        if hasattr(module, work):
            monkeypatch.setattr(module, work, lambda seed: pytest.fail("something was computed"))
    operands = [str(tmp_path)] if COMMANDS[name].operand else []
    assert module.main([*operands, "--out", str(tmp_path / "file" / "out" / "page")]) == 2
    error = capsys.readouterr().err
    assert "results cannot be written there" in error and "help: --out FOLDER" in error and "Traceback" not in error


def test_results_go_to_the_working_directory_unless_said_otherwise(small):
    folders = [scripts.parse_options(COMMANDS[name].script, []).out for name in SWEPT]
    assert all(folder.parts[0] == "runs" for folder in [*folders, benchmark._options([]).out])


def test_progress_in_a_file_is_short(monkeypatch, capsys):
    with console.Progress(100_000, 2) as progress:
        for _ in range(10_000):
            progress.advance(10, "a run", {"step": 7, "train_error": 1.0, "test_error": 2.0})
        progress.end("a run", False)
        progress.end("another", True)
    assert [re.sub(", [0-9:]+ left", ", ... left", line) for line in capsys.readouterr().err.splitlines()] == [
        "1/2 runs done: a run", "2/2 runs done: another (failed)"]
    monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
    with console.Progress(10, 1) as progress:
        progress.advance(-3, "a run")
        progress.advance(3, "a run", {"step": 7, "train_error": 1.0, "test_error": 2.0})
    assert capsys.readouterr().err == ("0/1 runs done: a run\n"
                                       "0/1 runs done, 00:00 left: a run, step 7: train 1.0%, test 2.0% wrong\n")


def test_progress_in_a_file_says_how_long_it_takes(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.Progress(1000, 2) as progress:
        progress.advance(-200, "a run")                     # which are not repeated
        for _ in range(20):
            now[0] += 10.0
            progress.advance(10, "a run", {"step": 7, "train_error": 1.0, "test_error": 2.0})
        progress.end("a run", False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0/2 runs done, 12:40 left: a run, step 7: train 1.0%, test 2.0% wrong"         # 40 of 800 steps in 40 s
    assert lines[-1] == "1/2 runs done, 10:00 left: a run" and len(lines) == 6


@hypothesis.given(runs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50), st.booleans(), st.booleans()), min_size=1, max_size=5), restarted=st.booleans())
def test_when_all_runs_have_ended_nothing_is_left(runs, restarted):
    """However they ended: with steps not repeated, after a failure anywhere, with a late message, in a new pool."""
    with console.Progress(sum(50 for _ in runs), len(runs), quiet=True) as progress:
        if restarted:
            progress.advance(17, "0")
            progress.restart(50 * len(runs))
        for k, (skipped, taken, failed, late) in enumerate(runs):
            taken = min(taken, 50 - skipped) if failed else 50 - skipped
            progress.advance(-skipped, str(k))
            before = taken // 2 if late else taken
            progress.advance(before, str(k))
            progress.end(str(k), failed, 50)
            progress.advance(taken - before, str(k))
        assert progress.done == progress.total == progress.bar.total and progress.ended == progress.count


@pytest.mark.parametrize("terminal, draws", [("xterm", True), ("dumb", False)])
def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch, terminal, draws):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", terminal)
    with console.Progress(10, 1) as progress:
        progress.advance(10, "a run")
        progress.end("a run", False)
    assert ("\r" in screen.getvalue()) == draws and ("1/1 runs done: a run\n" in screen.getvalue()) != draws


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_option_is_answered_with_the_nearest(capsys, name):
    for wrong, right in (("--ouut", "--out"), ("--xyzzy", f"python -m experiments.{name} --help lists the options"),
                         ("--qqq", f"python -m experiments.{name} --help lists the options")):
        with pytest.raises(SystemExit) as end:
            command_line.main([name, wrong, "1"])
        assert end.value.code == 2 and capsys.readouterr().err == f"error: {name} has no option {wrong}\n  help: {right}\n"


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with console.Progress(10, 1) as progress:
        progress.advance(10, "a run", {"step": 7, "train_error": 1.0, "test_error": 2.0})
        progress.end("a run", False)
    text = screen.getvalue()
    assert "1/1 done, a run" in text and "10/10" in text and "test=2.0%" in text and "\r" in text and "runs done" not in text


def test_the_start_depends_on_nothing_of_others(tmp_path):
    """A MPLBACKEND that is not installed, and folders, packages and files of the same names in the working directory, do no harm."""
    for folder in ("models", "minigrad"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("# mine\n")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "script.py").write_text("raise SystemExit('mine')\n")
    names = [f"experiments.{name}" for name in COMMANDS]
    code = f"import sys\nfor name in {names}: __import__(name)\nprint(sys.modules['minigrad.models'].__file__, '' in sys.path, 'models' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={
        **os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "a_backend_that_is_not_here"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(ROOT / "models" / "__init__.py"), "True", "False"]


def test_a_broken_executor_is_told(small, tmp_path):
    class Broken(Here):
        def submit(self, f, *args):
            raise concurrent.futures.BrokenExecutor("gone")
    with pytest.raises(MinigradError, match="the executor broke down: gone\n  help: --resume"):
        command.run_all(planned("imbalance", *few("imbalance"), "--out", str(tmp_path)), 1, Broken())


def test_what_a_missing_checkpoint_says(small, tmp_path):
    run = planned("imbalance", *few("imbalance"), "--out", str(tmp_path))[0]
    with pytest.raises(FileError, match="the checkpoint no longer exists\n  help: delete uniform-0.95-0.jsonl as well"):
        runs.restore(run, None)


def test_ctrl_c_says_how_to_continue_all_commands(cli, tmp_path, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(command, "run_all", interrupted)
    status, out, _ = cli("table2", "figure7", "--methods", "uniform", "--resume")
    assert status == 130 and "  python -m experiments table2 figure7 --methods uniform " in out and out.endswith(" --resume\n")
    assert out.count("--resume") == 1
    monkeypatch.setattr(command, "world", lambda: types.SimpleNamespace(rank=0, size=3))
    monkeypatch.setattr(command, "_main", interrupted)
    monkeypatch.chdir(tmp_path)
    assert command.main([COMMANDS["table2"].script], []) == 130
    assert "  mpiexec -n 3 python -m experiments table2 --resume\n" in capsys.readouterr().out


def test_the_time_left_counts_the_run_that_just_ended(tmp_path, monkeypatch, capsys):
    """In an executor, which reports no single steps: a line after each of four runs, and the first knows the speed."""
    monkeypatch.setattr(pool, "continue_run", lambda *args: time.sleep(0.01) or workers.Stretch(None, taken=10))
    monkeypatch.setattr(pool, "read_files", lambda run: {})
    monkeypatch.setattr(pool, "add_bases", lambda runs: runs)
    runs = [types.SimpleNamespace(name=str(k), base=None, folder=tmp_path, settings=types.SimpleNamespace(steps=10)) for k in range(4)]
    assert pool.run_all(runs, 1, Here()) == {}
    lines = capsys.readouterr().err.splitlines()
    assert [line[:13] for line in lines] == ["1/4 runs done", "2/4 runs done", "3/4 runs done", "4/4 runs done"]
    assert [" left: " in line for line in lines] == [True, True, True, False]


@pytest.mark.parametrize("arguments, jobs", [([], 3), (["--jobs", "2"], 2)])
def test_so_many_runs_at_once_as_are_asked_for(small, tmp_path, monkeypatch, arguments, jobs):
    told = []
    monkeypatch.setattr(command, "default_jobs", lambda: 3)
    monkeypatch.setattr(command, "run_all", lambda runs, *others: told.append(others) or {})
    assert command_line.main(["imbalance", *few("imbalance"), *arguments, "--out", str(tmp_path / "out")]) == 0
    assert told == [(jobs, None, False)]


def test_ctrl_c_while_it_waits_for_workers(tmp_path, monkeypatch, capsys):
    def interrupted(text):
        raise KeyboardInterrupt
    monkeypatch.setattr(command_line.executors, "open_executor", interrupted)
    assert command_line.main(["imbalance", "--executor", "dask=tcp://a:1", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr() == ("", "") and not (tmp_path / "out").exists()


def test_a_command_that_is_named_twice_is_run_once(cli, tmp_path, capsys):
    status, out, err = cli("table2", "table2", "--methods", "uniform", "--cleans", "30")
    assert status == 0 and out.count("Table 2: ") == 1 and out.count("table2, quick mode") == 1
    assert command_line.main(["walkthrough", "walkthrough", "--out", str(tmp_path / "w")]) == 0


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if entry.script])
def test_the_help_says_who_may_go_on_with_more_steps_and_how_many_there_are(name, capsys):
    script = COMMANDS[name].script
    with pytest.raises(SystemExit):
        command_line.main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ("continue the runs in the folder, also with more --steps than before" in text) == script.grows
    for mode in getattr(script, "grids", ()):
        assert re.search(rf"\b{mode} \S+; methods [^;]*; shares [^;]*; clean images [^;]*; seeds [^;]*; steps {cifar.MODES[mode].steps}\b", text)


@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("name", ["uniform+es", "uniform+half", "uniform+short", "uniform+es+ft"])
def test_every_suffix_is_taken_with_few_steps(name, steps):
    """Where two schedules have the same number of them, which is no reason to refuse one: it is a trial."""
    assert cifar.settings(name, "quick", "resnet-8-1-2", steps=steps).steps >= 1


def test_a_report_that_fails_for_an_unknown_reason_says_where(cli, monkeypatch):
    def fail(*args):
        raise KeyError("a bug")
    monkeypatch.setattr("experiments.figures.accuracy_table", fail)
    status, out, err = cli("table2", "--methods", "uniform", "--cleans", "30")
    assert status == 1 and f"failed: the report of table2: KeyError: 'a bug'\n  raised in {__file__}, line " in err


def test_after_the_last_run_nothing_is_left(monkeypatch, capsys):
    """Also where it ended early, after half of its steps."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.Progress(20, 2) as progress:
        for name in ("one", "other"):
            now[0] += 10.0
            progress.advance(5, name)
            progress.end(name, True)
    assert capsys.readouterr().err == "1/2 runs done, 00:30 left: one (failed)\n2/2 runs done: other (failed)\n"


def test_what_is_left_out_is_named_in_order_and_where_the_records_are(cli, tmp_path):
    assert cli("imbalance", *few("imbalance"), "--seeds", "0")[0] == 0
    names = [f"{k}.jsonl" for k in range(9)]
    for name in names:
        (tmp_path / "out" / name).write_text("")
    out = cli("imbalance", *few("imbalance"), "--seeds", "0", "--resume")[1].splitlines()
    assert [line.split()[2] for line in out if line.startswith("left out: ")] == [f"{tmp_path / 'out' / name}," for name in names]
    assert out[-1] == f"records: {tmp_path / 'out'}/*.jsonl"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_nearest_option_is_found_whatever_its_value(capsys, name):
    operands = ["a folder"] if COMMANDS[name].operand else []
    with pytest.raises(SystemExit) as end:
        command_line.main([name, *operands, "--ouut=/a/long/path/to/somewhere"])
    assert end.value.code == 2 and capsys.readouterr().err == f"error: {name} has no option --ouut=/a/long/path/to/somewhere\n  help: --out\n"


def test_of_what_comes_after_the_options_the_first_is_named(capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(["imbalance", "--quiet", "contradiction", "table2"])
    assert end.value.code == 2 and capsys.readouterr().err == ("error: contradiction comes after the options\n"
                                                               "  help: python -m experiments COMMAND ... --OPTION ...\n")


def test_the_runs_of_boosting_are_counted(cli):
    """Not those beside them."""
    out = cli("imbalance", "--methods", "uniform", "adaboost", "reweight", "cost_boost", "--shares", "0.95", "--seeds", "0")[1]
    assert "drawn of 2 runs of boosting: adaboost-0.95-0" in out


@pytest.mark.parametrize("which, values, elsewhere", [("shares", ["0.2", "0.4"], "figure5"), ("cleans", ["50", "30"], "figure4")])
def test_the_first_of_several_values_is_advised(cli, which, values, elsewhere):
    for name in ONE_AT_A_TIME[which]:
        assert cli(name, f"--{which}", *values)[2] == (f"error: --{which} {' '.join(values)}: {name} shows one value at a time\n"
                                                      f"  help: --{which} {values[0]}; {elsewhere} compares several\n")


@pytest.mark.parametrize("name, plain", [("uniform+es", "uniform"), ("uniform+es+ft", "uniform+ft"), ("clean_only+half", "clean_only"), ("adaptation_confusion+es+ft", "adaptation_confusion+ft")])
def test_the_name_without_the_useless_suffix_is_advised(name, plain):
    """All else of it stays."""
    with pytest.raises(MinigradError) as caught:
        cifar.settings(name, "paper", "wrn-28-10")
    assert str(caught.value).endswith(f"\n  help: --methods {plain}") and cifar.settings(plain, "paper", "wrn-28-10")


def test_boosting_joins_a_folder_of_another_rate(cli):
    """It has none, but the folder does: alone and anew it is refused, as the option changes nothing."""
    options = ["--rate", "0.01", "--steps", "2", "--shares", "0.95", "--seeds", "0"]
    assert cli("imbalance", "--methods", "uniform", *options)[0] == 0
    status, out, err = cli("imbalance", "--methods", "adaboost", *options, "--resume")
    assert status == 0 and "missing:" not in out, err
    status, _, err = cli("imbalance", "--methods", "adaboost", *options)
    assert status == 2 and "--rate 0.01: boosting has none" in err
