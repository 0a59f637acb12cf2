"""Printed tables: each number stands below the name of what it is."""
import re
import types

import numpy as np
import pytest

from experiments import COMMANDS, command_line
from experiments.benchmark import precision
from experiments.benchmark import ranks as costs
from experiments.pages import nested, nested_page, own, own_training, walkthrough


def assert_below(lines, start, expected):
    """Compare columns, which end where their names do, with numbers as they are printed; the head follows the line that begins with `start`."""
    at = next(k for k, line in enumerate(lines) if line.startswith(start)) + 1
    head = lines[at]
    for name in sorted(expected, key=len, reverse=True):    # "accuracy" is not found in "balanced accuracy"
        place = re.search(rf"(?<!\S){re.escape(name)}(?!\S)", head)
        head = head[:place.start()] + len(name) * "_" + head[place.end():]
        for line, value in zip(lines[at + 1:], expected[name]):
            cell = line[:place.end()].split()[-1]
            assert cell.replace(",", "") == f"{value + 0.0:.{len(cell.partition('.')[2])}f}", (name, line)


def test_walkthrough():
    t = walkthrough.trace(1)
    lines, by_epsilon = walkthrough.page(t).splitlines(), [walkthrough.flat({key: value[..., k] for key, value in t.by_epsilon.items()})[1] for k in range(3)]
    for start, batch, values, back in (("1  ", t.noisy, t.forward, ("3  ", t.back)), ("4  ", t.clean, t.forward_clean, ("5  ", t.back_clean))):
        assert_below(lines, start, {"x1": batch.x[:, 0], "x2": batch.x[:, 1], "label": batch.label[:, 0], "h1": values["h"][:, 0], "h2": values["h"][:, 1],
                                    "score s": values["s"][:, 0], "loss l": values["l"]})
        assert_below(lines, back[0], {"dl/da1": back[1]["a"][:, 0], "dl/da2": back[1]["a"][:, 1], "dl/ds": back[1]["s"][:, 0]})
    assert_below(lines, "   The gradient is 0", {"gradient": np.zeros(9), **{f"d/d eps_{name}": by_epsilon[k] for k, name in enumerate("ABC")}})
    assert_below(lines, "   By hand", {"layer 1": t.layers[:, 0], "layer 2": t.layers[:, 1], "u by hand": t.scores, "u, engine": t.scores, "J.push(v)": t.scores, "-dL/d eps": t.descent})
    assert_below(lines, "7  ", {"max(u, 0)": np.maximum(t.scores, 0), "w": t.weights, "w, unrolled": t.weights_unrolled})
    assert_below(lines, f"   {t.verdict}", {name: walkthrough.flat(values)[1] for name, values in (("theta", t.theta), ("gradient", t.gradient), ("theta after", t.theta_after))})


def test_two_loops():
    found = nested.solve(1)
    lines, groups = nested_page.page(found, [found]).splitlines(), [~found.flipped, found.flipped]
    two, single = found.routes.values()
    best, one = two.weights, single.weights
    assert_below(lines, "1  ", {"examples": [own.sum() for own in groups], "u > 0": [(found.scores[own] > 0).sum() for own in groups], "mean w*": [best[own].mean() for own in groups],
                                "w* > 1": [(best[own] > 1).sum() for own in groups], "w* = 0": [(best[own] < 1e-9).sum() for own in groups],
                                "mean online": [one[own].mean() for own in groups], "online > 1": [(one[own] > 1).sum() for own in groups]})
    head = next(line for line in lines if "clean loss" in line and "backward" in line)
    for name, route in found.routes.items():
        row = next(line for line in lines if line.startswith(f"   {name} "))
        assert_below(["", head, row], "", {"clean loss": [found.ends[name][0]], "test acc. %": [found.ends[name][1]], "forward": [route.cost.forward], "backward": [route.cost.backward],
                                           "gradients": [route.path[-1][0]], "seconds": [route.seconds]})
    assert (f"   The two loops cost {two.path[-1][0] / single.path[-1][0]:.1f} times the gradients of the single one, "
            f"{two.seconds / single.seconds:.1f} times the seconds.") in lines


def test_data_of_ones_own():
    scores = {method: {"accuracy": 60.0 + k, "balanced": 40.0 + k, "auc": 0.1 * k} for k, method in enumerate(own_training.METHODS)}
    lines = own.table(types.SimpleNamespace(tested=types.SimpleNamespace(names=range(100)), scores=scores)).splitlines()
    assert_below(["", *lines], "", {"accuracy, %": [60, 61, 62, 63], "balanced accuracy, %": [40, 41, 42, 43], "AUC": [0, 0.1, 0.2, 0.3]})
    at = lines[0].index("95 % interval")
    for line, each in zip(lines[1:], scores.values(), strict=True):
        assert line[at:].startswith("{:.1f} to {:.1f}".format(*own_training.wilson(each["accuracy"], 100)))


def test_ranks():
    row = {"workload": "lenet", "ranks": 2, "ms": 12.5, "messages": 6, "bytes": 8000, "parameters": 500}
    assert_below(["", *costs.table([row]).splitlines()], "", {"ranks": [2], "ms": [12.5], "messages": [6], "bytes": [8000], "/ 4 P": [4]})
    head, line = costs.model_table([{"network": "a", "gpus": 16, "own": 12.5, "all": 20.5, "efficiency": [0.9, 0.5]}]).splitlines()
    assert re.findall(r" {2,}(\S+(?: \S+)*)", head) == ["GPUs", "ms, own statistics", "of all ranks"]
    assert re.findall(r"[^\s()]+", line) == ["a", "16", "12.5", "90%", "20.5", "50%"]


def test_precision():
    lines = precision.table([{"problem": "net", "precision": "float32", "backend": "numpy", "gradient": 0.25, "weights": 0.5}]).splitlines()
    assert lines[0].split()[-2:] == ["gradient", "weights"] and lines[1].split()[-2:] == ["2.5e-01", "5.0e-01"]


@pytest.mark.parametrize("name", COMMANDS)
def test_list_of_commands(name):
    lines, entry = command_line.overview().splitlines(), COMMANDS[name]
    head = next(line for line in lines if line.endswith("paper mode"))
    quick, night, paper = (head.index(text) for text in ("quick mode, two cores", "night mode", "paper mode"))
    line = next(line for line in lines[lines.index(head):] if line.startswith(f"  {name} "))
    assert [line[quick:night].strip(), line[night:paper].strip(), line[paper:].strip()] == [entry.quick, entry.night, entry.paper] and entry.about in line[:quick]
