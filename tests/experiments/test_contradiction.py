"""The contradiction experiment: verdicts follow from the numbers, tasks are as documented, and a small run works."""
import dataclasses
import json

import numpy as np
import pytest

from experiments import COMMANDS, command_line
from experiments.pages import contradiction
from experiments.pages.contradiction import TASKS, effect, final_errors, verdicts
from experiments.paper import scripts
from experiments.training.folders import read_record
from experiments.training.runs import is_finished

from .test_cifar import Here

# The paper's claim: high losses help against imbalance, low ones against noise, and neither against both.
AS_SAID = {"imbalance": {"uniform": 25.0, "hard_mining": 15.0, "low_loss": 45.0, "reweight": 10.0},
           "noise": {"uniform": 10.0, "hard_mining": 15.0, "low_loss": 5.0, "reweight": 6.0},
           "both": {"uniform": 25.0, "hard_mining": 25.5, "low_loss": 45.0, "reweight": 8.0}}
ALL = ("high losses", "low losses", "clean set", "both at once")


def lines(errors, wobble=(0.0, 2.0)):
    """Return a record with two lines per run, the last one first: only its last line may count."""
    return [{"task": task, "method": method, "seed": seed, "share": 0.9, "step": step, "test_error": error + shift if step == 20 else 1.0}
            for task, row in errors.items() for method, error in row.items() for seed, shift in enumerate(wobble) for step in (20, 10)]


def changed(task, method, error):
    """Return AS_SAID with another error of one method on one task."""
    return {**AS_SAID, task: {**AS_SAID[task], method: error}}


def held(errors):
    return {name: verdict.held for name, verdict in verdicts(lines(errors)).items()}


# ------------------------------------------------------------------------------------------------ verdicts

def test_claims_that_hold():
    assert held(AS_SAID) == dict.fromkeys(ALL, True)
    text = verdicts(lines(AS_SAID))["high losses"].sentence
    assert "it held" in text and "hard_mining helps on imbalance: 16.0 %, uniform 26.0 % (-10.0 ± 0.0)" in text
    assert "hard_mining hurts on noise: 16.0 %, uniform 11.0 % (+5.0 ± 0.0)" in text


@pytest.mark.parametrize("task, method, error, broken", [
    ("imbalance", "hard_mining", 26.5, "high losses"), ("noise", "hard_mining", 10.5, "high losses"),
    ("imbalance", "low_loss", 24.5, "low losses"), ("noise", "low_loss", 12.0, "low losses"),
    ("imbalance", "reweight", 24.5, "clean set"), ("noise", "reweight", 30.0, "clean set"),
    ("both", "hard_mining", 23.5, "both at once"), ("both", "low_loss", 9.0, "both at once"),
    ("both", "reweight", 24.5, "both at once")])
def test_each_claim_falls_with_each_of_its_numbers(task, method, error, broken):
    errors = changed(task, method, error)
    assert held(errors) == {**dict.fromkeys(ALL, True), broken: False}
    assert "did NOT hold" in verdicts(lines(errors))[broken].sentence


@pytest.mark.parametrize("task, method, silent", [("imbalance", "hard_mining", "high losses"), ("noise", "low_loss", "low losses"),
                                                  ("noise", "reweight", "clean set"), ("both", "reweight", "both at once")])
def test_nothing_is_said_of_runs_that_are_missing(task, method, silent):
    errors = {**AS_SAID, task: {name: error for name, error in AS_SAID[task].items() if name != method}}
    assert held(errors) == {**dict.fromkeys(ALL, True), silent: None}
    assert f"not decided, because these runs are missing, or uniform's: {method} on {task}" in verdicts(lines(errors))[silent].sentence


def test_without_plain_training_nothing_can_be_said():
    without = {task: {name: error for name, error in row.items() if name != "uniform"} for task, row in AS_SAID.items()}
    assert held(without) == dict.fromkeys(ALL, None) and held({}) == dict.fromkeys(ALL, None)


def test_mentor_counts_where_it_was_run():
    errors = {task: {**row, "mentor": row["low_loss"]} for task, row in AS_SAID.items()}
    assert held(errors) == dict.fromkeys(ALL, True)
    errors["noise"]["mentor"] = 10.5
    assert held(errors) == {**dict.fromkeys(ALL, True), "low losses": False}
    assert held({task: {name: e for name, e in row.items() if name != "low_loss"} for task, row in errors.items()})["low losses"] is False


def test_effects_compare_seed_by_seed():
    record = lines({"noise": {"uniform": 10.0}}, (0.0, 4.0, 90.0)) + lines({"noise": {"low_loss": 7.0}}, (0.0, 8.0))
    found = effect(final_errors(record), "noise", "low_loss")        # 7 - 10 and 15 - 14; the third seed has no partner
    assert (found.error, found.plain, found.change, found.doubt) == pytest.approx((11.0, 12.0, -1.0, 2.0))
    assert found.word == "changes little"
    assert found._replace(change=-1.5).word == "changes little" and found._replace(change=-2.5).word == "helps"
    assert found._replace(change=-1.0, doubt=0.0).word == "changes little" and found._replace(change=1.1, doubt=0.0).word == "hurts"


def test_the_table():
    rows = {row.split()[0]: row.split()[1:] for row in contradiction.table(lines({**AS_SAID, "both": {}})).splitlines()[3:-1]}
    assert list(rows) == ["uniform", "hard_mining", "low_loss", "reweight"]
    assert rows["hard_mining"] == "16.0 ± 1.4 (2) 16.0 ± 1.4 (2) -".split()
    assert "test error %" in contradiction.table([])


# --------------------------------------------------------------------------------------------------- tasks

@pytest.mark.parametrize("name, counts, wrong, called_four", [
    ("imbalance", (12, 395), (0, 0), 12), ("noise", (323, 395), (0, 118), 441), ("both", (44, 395), (18, 0), 26)])
def test_tasks(name, counts, wrong, called_four):
    """With 395 nines: 12 / 407 = 3 % fours; 0.3 * 395 = 118 nines labeled four; 0.4 * 44 = 18 fours labeled nine."""
    task, other = contradiction.task(name, 0), contradiction.task(name, 1)
    assert tuple(np.bincount(task.train.true)) == counts and np.sum(task.train.labels == 0) == called_four
    assert tuple(np.sum(task.train.wrong[task.train.true == c]) for c in (0, 1)) == wrong
    assert abs(counts[1] / sum(counts) - TASKS[name]["share"]) < 0.002
    for part, each in ((task.clean, 5), (task.test, 100)):
        assert tuple(np.bincount(part.labels)) == (each, each) and not part.wrong.any()
    indices = np.concatenate([part.indices for part in (task.train, task.clean, task.test)])
    assert len(np.unique(indices)) == len(indices) == sum(counts) + 210
    assert set(task.test.indices) != set(other.test.indices)
    assert task.baseline is task.train                                  # only reweight sees the clean images


def test_the_network_sees_the_mean_of_four_pixels():
    images = np.arange(2 * 784, dtype="float32").reshape(2, 28, 28, 1)
    prepared = contradiction._prepare(images, None)
    assert prepared.shape == (2, 196) and prepared[1, 15] == images[1, 2:4, 2:4].mean()


# --------------------------------------------------------------------------------------------- the script

def planned(*arguments):
    options = scripts.parse_options(COMMANDS["contradiction"].script, list(arguments))
    return COMMANDS["contradiction"].script.plan(options)


def test_the_plan():
    kept, runs = planned()
    assert len(runs) == len({run.name for run in runs}) == 3 * 4 * 10 and json.loads(json.dumps(kept)) == kept
    assert {run.settings for run in runs} == {contradiction.QUICK}
    assert runs[-1].labels == {"task": "both", "method": "reweight", "share": 0.9, "seed": 9}
    assert planned("--steps", "40", "--rate", "0.5")[1][0].settings == dataclasses.replace(contradiction.QUICK, steps=40, rate=0.5, drops=(30,))


@pytest.mark.parametrize("arguments, says", [
    (["--methods", "magic"], "there is no method magic"),
    (["--methods", "fine_tune"], "fine_tune cannot be used here"), (["--steps", "0"], "--steps 0")])
def test_what_cannot_be_run(arguments, says, tmp_path, capsys):
    assert command_line.main(["contradiction", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert says in error and not (tmp_path / "out").exists()


def test_a_small_run(tmp_path, capsys):
    arguments = ["--steps", "5", "--out", str(tmp_path)]
    assert command_line.main(["contradiction", *arguments, "--methods", "uniform", "low_loss", "--seeds", "0"], Here()) == 0
    text = capsys.readouterr().out
    assert "6 runs" in text and "noise: training: 323 of class 0" in text and "118 labels wrong" in text
    assert "low losses: weights on low losses hurt" in text and "high losses: weights on high losses help" in text
    assert text.count("not decided") == 3                            # only the claim on low losses has its runs
    assert (tmp_path / "contradiction.png").read_bytes()[:4] == b"\x89PNG"
    _, runs = planned(*arguments, "--methods", "uniform", "low_loss", "--seeds", "0")
    for run in runs:
        last = read_record(run.record)[-1]
        assert is_finished(run) and last["step"] == 5 and {key: last[key] for key in run.labels} == run.labels
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert command_line.main(["contradiction", *arguments, "--methods", "hard_mining", "--seeds", "0", "--resume"], Here()) == 0
    text = capsys.readouterr().out                                      # the results of earlier runs are kept
    assert text.count("not decided") == 2 and "hard_mining" in text and {path: path.stat().st_mtime_ns for path in before} == before


def test_the_picture(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(contradiction, "save", lambda figure, path: drawn.append(figure))
    contradiction.picture(lines({**AS_SAID, "both": {"low_loss": 40.0}}), tmp_path / "a.png", "quick mode")
    contradiction.picture([], tmp_path / "b.png", "quick mode")
    axes = drawn[0].axes[0]
    assert [bar.get_height() for bar in axes.patches] == [26.0, 16.0, 46.0, 11.0, 11.0, 16.0, 6.0, 7.0, 41.0]
    levels = [c.get_segments()[0][0][1] for c in axes.collections if c.get_label().startswith("plain training")]
    assert levels == [26.0, 11.0]                                       # the third task has no plain training here
    assert axes.get_xticklabels()[1].get_text() == "noise\n55% nines,\n30% of the nines labeled 4"
    for figure in drawn:
        contradiction.plt.close(figure)


def test_a_folder_keeps_what_the_three_tasks_are():
    """So that results of other tasks are not mixed with them."""
    script = COMMANDS["contradiction"].script
    kept, _ = script.plan(scripts.parse_options(script, []))
    assert kept["tasks"] == {"imbalance": {"share": 0.97}, "noise": {"share": 0.55, "flip": "background", "flip_share": 0.3, "target": 0},
                             "both": {"share": 0.9, "flip": "background", "flip_share": 0.4, "target": 1}}


def test_the_report_says_what_counts_as_a_change(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(contradiction, "picture", lambda *args: "a path")
    list(contradiction.SCRIPTS["contradiction"].report(type("Options", (), {"out": tmp_path}), [], lines(AS_SAID), ""))
    assert f"exceeds that error and {contradiction.MARGIN:g} percentage point\n" in capsys.readouterr().out and contradiction.MARGIN == 1


def test_what_is_named_twice_is_run_once():
    _, runs = planned("--methods", "uniform", "low_loss", "uniform", "--seeds", "4", "4")
    assert [run.name for run in runs] == [f"{task}-{method}-4" for task in ("imbalance", "noise", "both") for method in ("uniform", "low_loss")]
