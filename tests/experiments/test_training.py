"""The training loop, its files, and the command line on top of it."""
import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import minigrad as mg
from experiments import figures, imbalance, sweep, training
from experiments.training import NotFinite, Problem, Run, Settings, prepare_folder, read_record, train
from minigrad import FileError, MinigradError, nn, tree
from minigrad.backend import seed


def init(rng):
    return nn.Linear.init(rng, 784, 1)


def scores(model, images):
    return model(images.reshape(len(images), -1))[:, 0]


def loss(model, images, labels):
    return nn.sigmoid_cross_entropy(scores(model, images), labels)


def wrong(model, images, labels):
    return (scores(model, images) > 0) != (labels == 1)


SMALL = Problem(init, loss, wrong)                          # a logistic regression: fast, same loop
SETTINGS = Settings(steps=60, rate=0.05, momentum=0.9, batch=20, every=20)


def run_of(folder, method="reweight", key=0, **changes):
    folder.mkdir(exist_ok=True)
    return Run(f"{method}-0.95-{key}", {"method": method, "share": 0.95, "seed": key}, method, key,
               functools.partial(imbalance.task, "sample", 0.95, key), SETTINGS._replace(**changes), folder)


def without_time(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("method", ["uniform", "random", "hard_mining", "reweight"])
def test_a_run_leaves_a_record_and_learns(tmp_path, method):
    run = run_of(tmp_path, method)
    lines = train(run, SMALL)
    assert [line["step"] for line in lines] == [20, 40, 60] and lines == read_record(run.record)
    assert {"method", "share", "seed", "step", "train_loss", "clean_loss", "test_error", "minority_weight"} <= set(lines[0])
    assert lines[-1]["clean_loss"] < lines[0]["clean_loss"] + 0.5 and 0 <= lines[-1]["test_error"] <= 60
    assert 0 <= lines[-1]["minority_weight"] <= 1


def test_reweighting_beats_uniform_even_here(tmp_path):
    errors = {method: train(run_of(tmp_path, method, steps=200, every=200), SMALL)[-1] for method in ("uniform", "reweight")}
    assert errors["reweight"]["test_error"] + 10 < errors["uniform"]["test_error"]
    assert errors["reweight"]["minority_weight"] > 0.3 > 0.1 > errors["uniform"]["minority_weight"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [1, 19, 20, 21, 45, 59])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, moment):
    whole = train(run_of(tmp_path / "whole"), SMALL)
    run, seen = run_of(tmp_path / "killed"), []

    def kill(steps, line):
        seen.extend([0] * steps)
        if len(seen) == moment and steps:
            raise Killed
    with pytest.raises(Killed):
        train(run, SMALL, kill)
    with open(run.record, "a") as file:                     # a line that its checkpoint never followed, and half a line
        file.write(json.dumps({**run.labels, "step": 10_000, "train_loss": 0.0}) + '\n{"method": "rew')
    resumed = train(run, SMALL)
    assert without_time(resumed) == without_time(whole) == without_time(read_record(run.record))
    a, b = (tree.read(r.checkpoint)[0] for r in (run, run_of(tmp_path / "whole")))
    assert all(np.array_equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


def test_a_finished_run_is_not_repeated(tmp_path):
    run, steps = run_of(tmp_path), []
    first = train(run, SMALL)
    assert train(run, SMALL, lambda n, line: steps.append(n)) == first
    assert steps == [60]                                    # reported as done, not taken


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    def poisoned(model, images, labels):
        poisoned.calls += len(images) == 20
        return loss(model, images, labels) * (np.nan if poisoned.calls == 47 else 1.0)
    poisoned.calls = 0
    run = run_of(tmp_path, "uniform")
    with pytest.raises(NotFinite, match="the loss is nan in step 47 of method uniform\n  kept: .*safetensors and the record up "
                                        "to step 40\n  help: a smaller --rate"):
        train(run, SMALL._replace(loss=poisoned))
    assert tree.read(run.checkpoint)[1] == {"step": "40"}
    assert all(np.isfinite(x).all() for x in tree.read(run.checkpoint)[0].values())
    assert [line["step"] for line in read_record(run.record)] == [20, 40]


def test_a_record_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("hello\n{}\n")
    with pytest.raises(FileError, match="not a record of a run"):
        read_record(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    run = run_of(tmp_path)
    train(run, SMALL)
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:100])
    with pytest.raises(FileError, match="not a whole safetensors file"):
        train(run, SMALL)


# ------------------------------------------------------------------------------------------------ the folder

def test_a_folder_holds_one_configuration(tmp_path):
    folder = tmp_path / "out"
    prepare_folder(folder, {"steps": 1, "rate": 2}, False, 1)
    with pytest.raises(MinigradError, match="already holds results of this configuration\n  help: --resume"):
        prepare_folder(folder, {"steps": 1, "rate": 2}, False, 1)
    prepare_folder(folder, {"steps": 1, "rate": 2}, True, 1)
    with pytest.raises(MinigradError, match="another configuration:\n  rate: 2 there, 3 now\n  help: choose another folder"):
        prepare_folder(folder, {"steps": 1, "rate": 3}, True, 1)
    assert os.listdir(folder) == ["settings.json"]


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="results cannot be written there"):
        prepare_folder(tmp_path / "file" / "out", {}, False, 1)
    with pytest.raises(FileError, match="less than 1000000000 MB free"):
        prepare_folder(tmp_path / "out", {}, False, 1e9)

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(training.tree, "write_whole", full)
    with pytest.raises(FileError, match="No space left on device"):
        prepare_folder(tmp_path / "out", {}, False, 1)


# ------------------------------------------------------------------------------------------ the command line

def test_command_line_end_to_end(tmp_path, capsys):
    arguments = ["--steps", "4", "--shares", "0.9", "--seeds", "0", "1", "--jobs", "2", "--out", str(tmp_path / "out"),
                 "--methods", "uniform", "reweight"]
    assert imbalance.main(arguments) == 0
    out = capsys.readouterr().out
    assert "imbalance, quick mode, sample data" in out and "share 0.9: training: 44 of class 0" in out
    assert "test error %" in out and "(2)" in out and f"written: {tmp_path / 'out' / 'error.png'}" in out
    assert {p.name for p in (tmp_path / "out").glob("*.jsonl")} == {
        f"{m}-0.9-{s}.jsonl" for m in ("uniform", "reweight") for s in (0, 1)}
    assert (tmp_path / "out" / "weight.png").read_bytes()[:4] == b"\x89PNG"
    assert imbalance.main(arguments) == 2                   # the same again needs --resume
    assert "--resume continues them" in capsys.readouterr().err
    assert imbalance.main([*arguments, "--resume"]) == 0


@pytest.mark.parametrize("arguments, says", [
    (["--methods", "uniform", "magic"], "there is no method magic\n  help: choose from uniform, random"),
    (["--shares", "0.4"], "must lie between 0.5 and 1"),
    (["--steps", "0"], "at least one step"),
    (["--backend", "cupy"], "use('cupy')"),
])
def test_bad_options_are_explained_before_anything_is_written(tmp_path, capsys, arguments, says):
    if "cupy" in arguments and mg.backend.cupy_or_reason()[0] is not None:
        pytest.skip("CuPy runs here")
    assert imbalance.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_stops_cleanly_and_a_killed_process_resumes(tmp_path):
    command = [sys.executable, "-m", "experiments.imbalance", "--shares", "0.95", "--seeds", "0", "--methods", "reweight",
               "--steps", "30", "--jobs", "1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def stopped_by(how):
        process = subprocess.Popen([*command, "--out", str(tmp_path / "out"), "--resume"], text=True, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        record, before = tmp_path / "out" / "reweight-0.95-0.jsonl", len(read_record(tmp_path / "out" / "reweight-0.95-0.jsonl"))
        deadline = time.monotonic() + 60
        while len(read_record(record)) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        how(process)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err
    code, out, err = stopped_by(lambda process: os.killpg(process.pid, signal.SIGINT))
    assert code == 130 and "stopped; nothing up to the last line of the record is lost" in out and "--resume" in out
    assert "Traceback" not in err
    stopped_by(lambda process: os.killpg(process.pid, signal.SIGKILL))
    subprocess.run([*command, "--out", str(tmp_path / "out"), "--resume"], check=True, capture_output=True, env=environment)
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True, env=environment)
    a, b = (read_record(tmp_path / name / "reweight-0.95-0.jsonl") for name in ("out", "whole"))
    assert without_time(a) == without_time(b)


def test_an_error_in_a_worker_reaches_the_caller(tmp_path):
    run = run_of(tmp_path, rate=3e38)
    with pytest.raises(NotFinite, match="reweight-0.95-0"):
        sweep.run_all([run], SMALL, 1)


# --------------------------------------------------------------------------------------------------- figures

def test_table_and_final_errors():
    lines = [{"method": m, "share": s, "seed": k, "step": t, "test_error": e + t / 10 + k}
             for m, e in (("uniform", 20.0), ("reweight", 5.0)) for s in (0.9, 0.99) for k in (0, 2) for t in (20, 10)]
    errors = figures.final_errors(lines)
    assert errors["reweight"] == {0.9: [7.0, 9.0], 0.99: [7.0, 9.0]}
    assert "uniform         23.0 ± 1.4 (2)  23.0 ± 1.4 (2)" in figures.table(lines)


def test_keys_of_runs_are_apart():
    keys = [(7, training.DATA), (7, training.INIT), *((7, training.STEPS, t) for t in range(3)), (8, training.DATA)]
    assert len({seed(key).integers(2**62) for key in keys}) == len(keys)
