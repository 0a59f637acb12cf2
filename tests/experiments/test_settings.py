"""The settings of every experiment, in numbers: the paper's and our quick ones, figure by figure.

Sources: Ren et al. 2018 and the authors' code; where they disagree, see figure2.py and cifar.py in experiments/paper/.
"""
import dataclasses
import hashlib
import inspect
import json
import pathlib
import re

import numpy as np
import pytest

from experiments import COMMANDS, figures
from experiments.benchmark import benchmark, peers
from experiments.data import Flip, Images
from experiments.figures import paper
from experiments.methods import METHODS, Boosted, Weighting
from experiments.pages import contradiction, nested, nested_page, walkthrough
from experiments.paper import cifar, entries, figure2, figure3, networks, scripts
from experiments.training.runs import Settings
from minigrad import MinigradError


def planned(name, *arguments):
    chosen = COMMANDS[name].script
    options = scripts.parse_options(chosen, list(arguments))
    return chosen.plan(options)[1]


def values(runs, key):
    return list(dict.fromkeys(run.labels[key] for run in runs))


# -------------------------------------------------------------------------------------------------- Figure 2

def test_imbalance_in_the_papers_mode():
    """8,000 steps of SGD at 1e-3 with momentum 0.9, batches of 100, all ten clean images in each; 4,000 steps of theirs."""
    runs = planned("imbalance", "--mode", "paper", "--data", "mnist")
    assert values(runs, "method") == ["uniform", "random", "proportion", "resample", "hard_mining", "reweight"]
    assert values(runs, "share") == [0.9, 0.95, 0.98, 0.99, 0.995]
    assert values(runs, "seed") == [0, 56789, 13578, 70367, 27156, 83945, 40734, 97523, 54312, 11101]
    assert len(runs) == 300 and {run.problem for run in runs} == {figure2.LENET}
    whole = Settings(steps=8000, rate=1e-3, momentum=0.9, batch=100, every=200, clean_batch=0, decay=0.0, drops=())
    assert {(run.method.name == "reweight", run.settings) for run in runs} == {(False, whole), (True, dataclasses.replace(whole, steps=4000))}
    more = planned("imbalance", "--mode", "paper", "--data", "mnist", "--methods", *METHODS, "--shares", "0.9", "--seeds", "0")
    steps = {run.method.name: run.settings for run in more}
    for name, method in METHODS.items():
        expected = {"fine_tune": 500, "reweight": 4000, "reweight_decay": 4000, "reweight_authors": 4000}.get(name, 8000)
        expected, every = (method.rounds, 1) if isinstance(method, Boosted) else (expected, 200)
        assert steps[name] == dataclasses.replace(whole, steps=expected, every=every), name
        assert all(run.settings.steps == 8000 for run in more if run.method == method.base)
    own = planned("imbalance", "--mode", "paper", "--data", "mnist", "--methods", "reweight", "uniform", "--steps", "70", "--rate", "0.5")
    assert {run.settings for run in own} == {dataclasses.replace(whole, steps=70, rate=0.5)}


def test_imbalance_in_quick_mode():
    runs = planned("imbalance")
    assert values(runs, "method") == ["uniform", "proportion", "reweight"]
    assert values(runs, "share") == [0.95, 0.99] and values(runs, "seed") == [0, 1]
    assert {run.settings for run in runs} == {Settings(500, 3e-3, 0.9, 50, 20)}
    by = {run.method.name: run for run in planned("imbalance", "--methods", "fine_tune", "adaboost", "cost_boost_csb2", "--seeds", "0")}
    assert by["fine_tune"].settings == Settings(31, 3e-3, 0.9, 50, 20) and by["fine_tune"].base.settings.steps == 500
    assert by["adaboost"].settings == Settings(100, 3e-3, 0.9, 50, 1) and by["cost_boost_csb2"].settings.steps == 40
    assert planned("imbalance", "--methods", "adaboost", "--steps", "7")[0].settings.steps == 7


def test_imbalance_in_night_mode():
    """Two of the paper's five shares, and nothing else is different."""
    runs, whole = (planned("imbalance", "--mode", mode, "--data", "mnist") for mode in ("night", "paper"))
    assert values(runs, "share") == [0.99, 0.995] and len(runs) == 120
    assert [(r.labels, r.settings) for r in runs] == [(r.labels, r.settings) for r in whole if r.labels["share"] in (0.99, 0.995)]


def test_only_quick_mode_takes_the_sample_where_nobody_says():
    """The authors' settings on a few hundred digits would compare with nothing, after a day."""
    script = COMMANDS["imbalance"].script
    for arguments, name in (([], "sample"), (["--mode", "night"], "mnist"), (["--mode", "paper"], "mnist"), (["--data", "mnist"], "mnist"), (["--mode", "paper", "--data", "sample"], "sample")):
        options = scripts.parse_options(script, arguments)
        assert options.data == name and script.plan(options)[0]["data"] == name and options.out.name.endswith(name)
        assert {run.task.args[0] for run in script.plan(options)[1]} == {name}


def test_what_an_imbalanced_task_is_made_of(monkeypatch):
    asked = []
    monkeypatch.setattr(figure2, "imbalance", lambda source, share, rng, test_source, total, tests, flip: asked.append(
        (share, test_source, total, tests, flip)))
    monkeypatch.setattr(figure2, "_source", {"sample": ("images", None, None, 100), "mnist": ("images", "test", 5000, 250)}.get)
    figure2.task("sample", 0.9, 0), figure2.task("mnist", 0.995, 0)
    assert asked == [(0.9, None, None, 100, Flip(None)), (0.995, "test", 5000, 250, Flip(None, variant="paper"))]


def test_mnist_without_the_5000_images_that_the_authors_set_aside(monkeypatch):
    """They are the first: the authors' loader makes them its validation set."""
    numbers = np.arange(60_000)
    monkeypatch.setattr(figure2.data, "mnist", lambda: (Images(numbers, -numbers), "test"))
    figure2._source.cache_clear()
    train, test, total, tests = figure2._source("mnist")
    figure2._source.cache_clear()
    np.testing.assert_array_equal(train.images, numbers[5000:])
    np.testing.assert_array_equal(train.labels, -numbers[5000:])
    assert (test, total, tests) == ("test", 5000, 250)


# ------------------------------------------------------------------------------- Tables 1 and 2, Figures 3 to 7

TABLE_1 = ["uniform", "uniform+short", "bootstrap_hard", "adaptation", "random", "clean_only", "uniform+ft", "random+ft", "reweight"]
TABLE_2 = ["uniform", "uniform+es", "random", "oracle", "bootstrap_soft+es", "bootstrap_hard+es", "adaptation", "adaptation_confusion",
           "adaptation_confusion+es", "clean_only", "uniform+ft", "uniform+es+ft", "oracle+ft", "adaptation_confusion+ft",
           "adaptation_confusion+es+ft", "reweight"]
CONF = ["adaptation_confusion+ft", "adaptation_confusion+es+ft"]
SMALL = "resnet-8-1-2"
ON_CIFAR = [f"{kind}{k}" for kind, numbers in (("table", (1, 2)), ("figure", (3, 4, 5, 6, 7))) for k in numbers]
# figure, mode: network, methods, biases, shares, clean images of CIFAR-10, seeds
GRIDS = {
    ("table1", "paper"): ("wrn-28-10", TABLE_1, ["uniform"], [0.4], [1000], [0, 1, 2, 3, 4]),
    ("table1", "night"): ("resnet-20", ["reweight", "uniform", "uniform+short", "clean_only", "uniform+ft"], ["uniform"], [0.4], [1000], [0]),
    ("table1", "quick"): (SMALL, TABLE_1, ["uniform"], [0.4], [250], [0]),
    ("table2", "paper"): ("resnet-32", TABLE_2, ["background"], [0.4], [100], [0, 1, 2, 3, 4]),
    ("table2", "night"): ("resnet-20", ["reweight", "uniform", "uniform+es", "clean_only", "uniform+ft"], ["background"], [0.4], [100], [0]),
    ("table2", "quick"): (SMALL, ["uniform", "uniform+es", "random", "oracle", "bootstrap_hard+es", "adaptation", "adaptation_confusion",
                                  "clean_only", "uniform+ft", "reweight"], ["background"], [0.4], [100], [0]),
    ("figure3", "paper"): ("resnet-32", ["reweight+half"], ["background"], [0.4], [100], [0]),
    ("figure3", "night"): ("resnet-20", ["reweight+half"], ["background"], [0.4], [100], [0]),
    ("figure3", "quick"): (SMALL, ["reweight+half"], ["background"], [0.4], [100], [0]),
    ("figure4", "paper"): ("resnet-32", ["uniform+ft", *CONF, "reweight"], ["background"], [0.4], [15, 30, 50, 100, 200, 500, 1000], [0]),
    ("figure4", "night"): ("resnet-20", ["reweight", "uniform+ft"], ["background"], [0.4], [15, 100], [0]),
    ("figure4", "quick"): (SMALL, ["uniform+ft", "reweight"], ["background"], [0.4], [15, 100, 500], [0]),
    ("figure5", "paper"): ("resnet-32", ["uniform", "adaptation_confusion+es", "uniform+ft", CONF[1], "reweight"], ["background"],
                           [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [100], [0]),
    ("figure5", "night"): ("resnet-20", ["reweight", "uniform", "uniform+ft"], ["background"], [0.0, 0.4], [100], [0]),
    ("figure5", "quick"): (SMALL, ["uniform", "uniform+ft", "reweight"], ["background"], [0.0, 0.2, 0.4], [100], [0]),
    ("figure6", "paper"): ("resnet-32", ["uniform", "reweight"], ["uniform", "background"], [0.4], [1000, 100], [0]),
    ("figure6", "night"): ("resnet-20", ["reweight", "uniform"], ["uniform", "background"], [0.4], [1000, 100], [0]),
    ("figure6", "quick"): (SMALL, ["uniform", "reweight"], ["uniform", "background"], [0.4], [250, 100], [0]),
    ("figure7", "paper"): ("resnet-32", ["uniform", "uniform+es", "adaptation_confusion", "reweight"], ["background"], [0.4], [100], [0]),
    ("figure7", "night"): ("resnet-20", ["reweight", "uniform", "uniform+es"], ["background"], [0.4], [100], [0]),
    ("figure7", "quick"): (SMALL, ["uniform", "uniform+es", "adaptation_confusion", "reweight"], ["background"], [0.4], [100], [0]),
}


def test_every_figure_of_the_paper_is_here():
    named = {name for name, entry in COMMANDS.items() if entry.script}
    assert named == {name for name, _ in GRIDS} | {"imbalance", "contradiction"}


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if entry.script])
def test_the_help_of_a_figure_tells_what_it_is_and_what_it_runs(name):
    """Its description is the module's or the table's, each mode can be planned, and its numbers are those of the plan."""
    script = COMMANDS[name].script
    given = next(action for action in scripts.make_parser(script)._actions if action.dest == "mode")
    texts = dict(re.findall(r"^  (quick|night|paper) +((?:.|\n(?!  [a-z]))*)", script.defaults, re.M))
    assert list(given.choices) == list(texts) == (["quick"] if name == "contradiction" else ["quick", "night", "paper"])
    module = {"imbalance": figure2, "contradiction": contradiction}.get(name)
    assert script.about.startswith(module.__doc__ if module else script.title) and len(script.about) > 300
    for mode, text in texts.items():
        runs = planned(name, "--mode", mode, *["--data", "mnist"] * (name == "imbalance" and mode != "quick"))
        words = set(re.split(r"[\s,;]+", text))
        if text.startswith("as paper"):
            assert {*map(str, values(runs, "share"))} == words & {"0.9", "0.95", "0.98", "0.99", "0.995"}
            continue
        told = {"method": True, "share": name != "contradiction", "network": name in ON_CIFAR, "clean": name in ON_CIFAR, "seed": (name, mode) != ("imbalance", "paper")}
        for key in filter(told.get, told):
            assert {*map(str, values(runs, key))} <= words, key
        for run in runs:
            plain = run.method.name in ("uniform", "reweight") and "+" not in run.labels["method"]
            assert {str(run.settings.batch), *[str(run.settings.steps), f"{run.settings.rate:g}"] * plain} <= words, run.name


@pytest.mark.parametrize("name, mode", GRIDS)
def test_what_a_figure_runs(name, mode):
    network, methods, biases, shares, cleans, seeds = GRIDS[name, mode]
    runs = planned(name, "--mode", mode)
    for key, expected in (("network", [network]), ("method", methods), ("bias", biases), ("share", shares), ("clean", cleans),
                          ("seed", seeds), ("data", ["cifar10"])):
        assert values(runs, key) == expected, key
    several = len(cleans) if len(biases) == 1 else 1        # of both kinds of flips each has its own number
    assert len(runs) == len(methods) * len(biases) * len(shares) * several * len(seeds)
    how = {"validation": 2000, "size": 5000, "tests": 5000} if mode == "quick" else {"validation": 5000}
    variant = "exact" if mode == "quick" else "paper"
    for run in runs:
        background = {"target": run.labels["target"]} if run.labels["bias"] == "background" else {}
        flip = Flip(run.labels["bias"], run.labels["share"], background.get("target"), variant)
        assert run.task.keywords == how | {"clean": run.labels["clean"], "flip": flip}
        drawn_by_seed = name == "table2" and mode == "paper"
        assert background.get("target", 3) == ((0, 1, 3, 5, 7)[run.seed] if drawn_by_seed else 3)
    hundred = planned(name, "--mode", mode, "--data", "cifar100")
    ten = {"uniform": 250 if mode == "quick" else 1000, "background": 1000}
    assert values(hundred, "clean") == ([*dict.fromkeys(ten[bias] for bias in biases)] if name != "figure4" else cleans)
    targets = [run.labels["target"] for run in hundred if run.labels["bias"] == "background"]
    assert set(targets) == ({7, 12, 41, 62, 85} if drawn_by_seed else {41} if targets else set())
    if "background" in biases:
        own = [run.labels["target"] for run in planned(name, "--mode", mode, "--target", "9") if run.labels["bias"] == "background"]
        assert set(own) == {9}


def test_night_mode():
    """A night, by the measured seconds of a step: Algorithm 1 on one core and all others on the other, or all runs in two queues."""
    night, half = (Settings(steps, 0.1, 0.9, 100, 1000, clean_batch=100, decay=2e-4, drops=drops)
                   for steps, drops in ((28_000, (14_000, 21_000)), (14_000, ())))
    assert cifar.settings("reweight", "night", "resnet-20") == night and cifar.settings("reweight+half", "night", "resnet-20") == half
    a_step, on_both = {True: 0.66, False: 0.25}, 0.40
    for name in ("table1", "table2", "figure7"):
        first, *others = planned(name, "--mode", "night")
        hours = first.settings.steps * a_step[True] / 3600
        assert first.method.name == "reweight" and sum(run.settings.steps for run in others) * a_step[False] < hours * 3600 and COMMANDS[name].night == f"{hours:.0f} h"
        assert all(run.base is None or run.base.name in {other.name for other in others} for run in others)
    alone, = planned("figure3", "--mode", "night")
    assert COMMANDS["figure3"].night == f"{alone.settings.steps * on_both / 3600:.1f} h"
    for name in ("figure4", "figure5", "figure6"):
        runs = {run.name: run for each in planned(name, "--mode", "night") for run in (each, each.base) if run}.values()
        hours = sum(run.settings.steps * a_step[run.method.name == "reweight"] for run in runs) / 2 / 3600
        assert COMMANDS[name].night == f"{hours:.0f} h"
    table, figure = ({run.name for run in planned(name, "--mode", "night")} for name in ("table2", "figure5"))
    assert len(table & figure) == len(figure) / 2           # a second night shows Figure 5
    options = scripts.parse_options(COMMANDS["table2"].script, ["--mode", "night"])
    assert options.out.name == "cifar-night" and COMMANDS["table2"].night == "5 h"


@pytest.mark.parametrize("name", ["table2", "imbalance", "contradiction"])
def test_another_batch(name):
    for run, plain in zip(planned(name, "--batch", "70"), planned(name)):
        clean = {"clean_batch": 70} if name == "table2" else {}
        assert run.settings == dataclasses.replace(plain.settings, batch=70, **clean) != plain.settings and run.name == plain.name


WHOLE = Settings(80_000, 0.1, 0.9, 100, 1000, clean_batch=100, decay=2e-4, drops=(40_000, 60_000))
PARTS = {                                                   # name: what its last part has in the paper's mode, of the long schedule
    "uniform": {}, "reweight": {}, "random": {}, "uniform+es": {"steps": 60_000, "drops": (40_000, 50_000)},
    "reweight+half": {"steps": 40_000, "drops": ()}, "uniform+short": {"steps": 20_000, "drops": (18_000,)},
    "uniform+ft": {"steps": 5_000, "drops": (), "rate": 0.001}, "uniform+es+ft": {"steps": 5_000, "drops": (), "rate": 0.001},
    "fine_tune": {"steps": 5_000, "drops": (), "rate": 0.001}, "clean_only": {"steps": 2_000, "drops": ()},
    "adaboost": {"steps": 100, "drops": (), "every": 1},
}


@pytest.mark.parametrize("name", PARTS)
def test_schedules_on_cifar(name):
    """80,000 steps with drops at 40,000 and 60,000; WRN-28-10 and "ES": 60,000 with 40,000 and 50,000; fine-tuning 5,000."""
    expected = dataclasses.replace(WHOLE, **PARTS[name])
    found = cifar.settings(name, "paper", "resnet-32")
    assert dataclasses.replace(found, rate=0) == dataclasses.replace(expected, rate=0) and found.rate == pytest.approx(expected.rate)
    if "+es" in name:                                       # WRN-28-10 has that schedule without being told
        with pytest.raises(MinigradError, match="changes nothing"):
            cifar.settings(name, "paper", "wrn-28-10")
    else:
        wide = dataclasses.replace(WHOLE, steps=60_000, drops=(40_000, 50_000)) if PARTS[name] == {} else found
        assert cifar.settings(name, "paper", "wrn-28-10") == wide
    scale = 16_000 / 80_000                                 # quick mode: the same at a smaller size
    quick = cifar.settings(name, "quick", SMALL)
    steps = round(expected.steps * scale) if name != "adaboost" else 100
    assert dataclasses.replace(quick, rate=0) == dataclasses.replace(expected, steps=steps, rate=0, drops=tuple(round(d * scale) for d in expected.drops),
                                                       every=1 if name == "adaboost" else 1000)
    own = cifar.settings(name, "paper", "resnet-32", steps=800, rate=0.7)
    assert own.steps == (round(expected.steps / 100) if name != "adaboost" else 100) and own.rate == pytest.approx(7 * expected.rate)


def test_what_cifar_is_called():
    assert cifar.CLASSES == {"cifar10": 10, "cifar100": 100} and entries.SUFFIXES == ("es", "half", "short", "ft")
    assert cifar.TARGETS == {"cifar10": (0, 1, 3, 5, 7), "cifar100": (7, 12, 41, 62, 85)} and cifar.TARGET == {"cifar10": 3, "cifar100": 41}
    assert cifar.NAMES == ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize("network, family, depth, widen, stride", [
    ("resnet-32", "resnet", 32, 1, 1), ("resnet-20-4", "resnet", 20, 4, 1), (SMALL, "resnet", 8, 1, 2), ("standard-14", "standard", 14, 1, 1),
    ("wrn-10-2", "wide", 10, 2, 1), ("wrn-28-10", "wide", 28, 10, 1)])
@pytest.mark.parametrize("steps, momentum", [(80_000, 0.999), (50_000, 0.999), (6_000, 1 - 1 / 120), (100, 0.9)])
def test_networks_by_their_names(network, family, depth, widen, stride, steps, momentum, monkeypatch):
    asked = []
    for name in ("resnet", "standard_resnet", "wide_resnet"):
        monkeypatch.setattr(networks.models, name, lambda rng, *args, name=name, **more: asked.append((name, rng, args, more)))
    cifar.problem(network, steps).init("rng", 7)
    (name, rng, args, more), = asked
    assert (name, rng, args) == ({"resnet": "resnet", "standard": "standard_resnet", "wide": "wide_resnet"}[family], "rng", (depth, widen, 7))
    assert more.pop("momentum") == pytest.approx(momentum) and more == ({"stride": stride} if family == "resnet" else {})


def test_averages_of_batch_norm_know_how_long_training_is():
    for arguments, momentum in (([], 1 - 50 / 16000), (["--mode", "paper"], 0.999), (["--steps", "1000"], 0.95)):
        run, = planned("table2", *arguments, "--methods", "uniform", "--seeds", "0")
        assert run.problem.init.args[-1] == pytest.approx(momentum)


def test_figure_3_looks_at_fifty_batches():
    assert figure3.BATCHES == 50
    np.testing.assert_allclose(figures.training.BINS, np.arange(50) * 0.04 / 49, atol=1e-15)


# ------------------------------------------------------------------------------------------- what is ours alone

def test_the_contradiction():
    assert {"imbalance": {"share": 0.97}, "noise": {"share": 0.55, "flip": Flip("background", 0.3, 0)},
                                   "both": {"share": 0.9, "flip": Flip("background", 0.4, 1)}} == contradiction.TASKS
    runs = planned("contradiction")
    assert values(runs, "task") == ["imbalance", "noise", "both"] and values(runs, "seed") == list(range(10))
    assert values(runs, "method") == ["uniform", "hard_mining", "low_loss", "reweight"]
    assert {run.settings for run in runs} == {Settings(600, 0.03, 0.9, 30, 100, drops=(450,))}
    assert {run.labels["share"] for run in runs if run.labels["task"] == "both"} == {0.9}
    assert {run.settings for run in planned("contradiction", "--steps", "10", "--rate", "1")} == {Settings(10, 1.0, 0.9, 30, 100, drops=(7,))}
    assert contradiction.MARGIN == 1.0 and contradiction.HIGH == ("hard_mining",) and contradiction.LOW == ("low_loss", "mentor")
    model = contradiction.SMALL.init(np.random.default_rng(0), 3)
    assert [layer.weight.shape for layer in model.layers if hasattr(layer, "weight")] == [(196, 32), (32, 3)]
    for name, method in METHODS.items():                    # one training of the network makes what is compared
        if not isinstance(method, Weighting) or method.base:
            with pytest.raises(MinigradError):
                planned("contradiction", "--methods", name)
        else:
            assert values(planned("contradiction", "--methods", name), "method") == [name]


def test_the_pages():
    assert (nested.EXAMPLES, nested.CLEAN, nested.TEST, nested.FEATURES) == (60, 30, 5000, 3)
    assert (0.3, 0.03, 0.5, 200, 0.1, range(10)) == (nested.FLIPPED, nested.L2, nested.RATE, nested.STEPS, nested.SMALL, nested.SEEDS)
    assert (walkthrough.RATE, walkthrough.TOLERANCE, nested_page.ZERO) == (0.5, 1e-6, 1e-9)
    assert [len(nested.problem(0).x), len(nested.problem(0).x_clean), len(nested.problem(0).x_test)] == [60, 30, 5000]


def test_the_benchmark():
    assert {name: tuple(workload) for name, workload in peers.WORKLOADS.items()} == {
        "mlp-tiny": ("mlp", 6, 0, (8, 16, 16, 16, 10)), "mlp": ("mlp", 100, 10, (784, 256, 256, 10)), "lenet": ("lenet", 100, 10, ()),
        "resnet32": ("resnet", 100, 100, (32, 1)), "wrn-28-10": ("resnet", 100, 100, (26, 10))}
    assert (peers.RATE, peers.MOMENTUM, peers.EPS) == (1e-3, 0.9, 1e-3) and benchmark.AGREEMENT == {"float32": 1e-5, "tf32": 1e-4}
    assert benchmark.GROWTH == [(32, 12), (32, 25), (32, 50), (32, 100), (8, 50), (14, 50), (20, 50)] and benchmark.SECONDS == 60.0
    assert benchmark.ON_GPU == ["lenet", "resnet32", "wrn-28-10"] and benchmark.PAUSE == 0.2 and peers.BATCH_ON_CPU == {"wrn-28-10": 16}
    assert [p.image for p in peers.WORKLOADS.values()] == [(8,), (784,), (28, 28, 1), (32, 32, 3), (32, 32, 3)]
    for name, workload in peers.WORKLOADS.items():
        x, y, x_clean, y_clean = peers.data(workload._replace(noisy=4, clean=3))
        rng = np.random.default_rng(0)
        for images, labels, n in ((x, y, 4), (x_clean, y_clean, 3)):
            np.testing.assert_array_equal(images, rng.standard_normal((n, *workload.image), "float32"))
            np.testing.assert_array_equal(labels, rng.integers(0, 2 if name == "lenet" else 10, n))


def test_settings_that_nobody_gives():
    assert Settings(1, 2, 3, 4, 5) == Settings(1, 2, 3, 4, 5, 0, 0.0, ())


# ------------------------------------------------------------------------------------------- the paper's values

def digest(values):
    """Return a checksum of a tree of numbers and names, independent of their formatting in the source."""
    def plain(x):
        if isinstance(x, dict):
            return [[str(key), plain(value)] for key, value in x.items()]
        return [plain(each) for each in x] if isinstance(x, (tuple, list)) else x
    return hashlib.sha256(json.dumps(plain(values)).encode()).hexdigest()[:16]


DIGESTS = {"FIGURE_2": "6155b67a4a666fcf", "TABLE_1": "b378f5f3a0292a4a", "TABLE_2": "311c16c014d51a45", "FIGURE_3": "ec4226678a9989b1",
           "FIGURE_4": "cd084987c1c333a3", "FIGURE_5": "e63c5aecfe10e626", "FIGURE_6": "5f0e93ac1d7c8462", "FIGURE_7": "fb8a50168489e2b0",
           "NAMES": "85aaedb3795f8660", "SUFFIXES": "84a7ba02b3670d5e"}


@pytest.mark.parametrize("name", DIGESTS)
def test_no_value_of_the_paper_was_changed(name):
    """They were compared with the paper's tables and vector drawings when they were entered; a few are compared again here."""
    assert digest(getattr(paper, name)) == DIGESTS[name]


def test_some_values_of_the_paper():
    assert paper.FIGURE_2["uniform"][0.995] == (18.26, 1.7) and paper.FIGURE_2["reweight"][0.995] == (3.62, 0.65)
    assert paper.TABLE_1["cifar10"]["reweight"] == (86.92, 0.19) and paper.TABLE_1["cifar100"]["uniform"] == (50.66, 0.24)
    assert paper.TABLE_2["cifar10"]["uniform"] == (59.54, 2.16) and paper.TABLE_2["cifar100"]["reweight"] == (59.30, 0.60)
    assert paper.FIGURE_3["unconditional"] == {"noisy": 0.997, "clean": 0.245}
    assert paper.FIGURE_4["cifar10"]["reweight"][15] == 84.40 and paper.FIGURE_5["cifar10"]["uniform"][0.5] == 48.75
    assert paper.FIGURE_6["background"]["uniform"][3] == 0.89 and paper.FIGURE_7["reweight"]["validation"][80_000] == 87.3
    assert paper.FIGURE_7_STEPS == 80_000


def test_how_long_quick_mode_takes():
    """As the page says: two runs at a time, 20 ms for a plain step and 40 ms for one of Algorithm 1. Figure 2 was measured."""
    text = (pathlib.Path(__file__).parents[2] / "experiments" / "README.md").read_text().replace("\n", " ")
    plain, ours = map(int, re.search(r"two at a time: (\d+) ms for a plain step, (\d+) ms for one of Algorithm 1", text).groups())
    for name in ("table1", "table2", "figure4", "figure5", "figure6", "figure7"):
        runs = {run.name: run for each in planned(name) for run in (each, each.base) if run}.values()
        minutes = sum(run.settings.steps * (ours if run.method.name == "reweight" else plain) for run in runs) / 2 / 60e3
        assert abs(minutes - float(COMMANDS[name].quick.removesuffix(" min"))) <= 0.501, name
    assert abs(float(COMMANDS["imbalance"].quick.removesuffix(" min")) - float(re.search(r"`imbalance` took ([\d.]+) minutes", text)[1])) < 0.2


def test_who_invented_a_method_is_told_alike():
    """In the table of methods, and in the docstring of what is its own: criterion, weights, or how it rebuilds the training set."""
    told = []
    for name, method in METHODS.items():
        own = [] if isinstance(method, Boosted) else [method.criterion, method.rule, getattr(method.rule, "weigh", None), method.rebuild]
        docs = " ".join(" ".join(part.__doc__.split()).replace("et al.", "et al") for part in own if inspect.isfunction(part) and part.__doc__)
        if re.search(r"\w, (19|20)\d\d", docs):
            first, year = re.match(r"([\w-]+).* (\d{4})$", method.source).groups()
            assert re.search(rf"\b{first}\b[^.;]* {year}\b", docs), name
            told.append(name)
    assert told == ["smote", "focal", "dice", "low_loss", "mentor", "bootstrap_soft", "bootstrap_hard", "adaptation", "adaptation_confusion", "meta_weight_net"]
