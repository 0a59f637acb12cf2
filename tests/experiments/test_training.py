"""The training loop, its files, and the command line on top of it."""
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import gc
import io
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from experiments import COMMANDS, command_line
from experiments.methods import METHODS, TrainsOn
from experiments.paper import command, figure2, scripts
from experiments.training import folders, loop, pool, ranks, runs, trainers
from experiments.training.folders import prepare_folder, read_record
from experiments.training.loop import train
from experiments.training.runs import NotFinite, OutOfMemory, Problem, Run, Settings
from minigrad import FileError, MinigradError, nn, tree
from minigrad.backend import generator
from minigrad.distributed import Alone


class Logistic(nn.Module):
    """One score of flattened images."""
    layer: nn.Linear

    def __call__(self, x):
        return self.layer(x.reshape(len(x), -1))[:, 0]


def init(rng, classes):
    return Logistic(nn.Linear.init(rng, 784, 1))


def prepare(images, rng):
    return images


SMALL = Problem(init, prepare)                              # a logistic regression: fast, same loop
SETTINGS = Settings(steps=60, rate=0.05, momentum=0.9, batch=20, every=20)


def run_of(folder, method="reweight", key=0, problem=SMALL, **changes):
    folder.mkdir(exist_ok=True)
    base = METHODS[method].base
    return Run(f"{method}-0.95-{key}", {"method": method, "share": 0.95, "seed": key}, method, key,
               functools.partial(figure2.task, "sample", 0.95, key), problem, dataclasses.replace(SETTINGS, **changes), folder,
               base and run_of(folder, base.name, key, problem))


def without_time(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("method", ["uniform", "random", "hard_mining", "reweight"])
def test_a_run_leaves_a_record_and_learns(tmp_path, method):
    run = run_of(tmp_path, method)
    lines = train(run)
    assert [line["step"] for line in lines] == [20, 40, 60] and lines == read_record(run.record)
    assert {"method", "share", "seed", "step", "train_loss", "clean_loss", "test_error", "minority_weight"} <= set(lines[0])
    assert lines[-1]["clean_loss"] < lines[0]["clean_loss"] + 0.5 and 0 <= lines[-1]["test_error"] <= 60
    assert 0 <= lines[-1]["minority_weight"] <= 1


def test_reweighting_beats_uniform_even_here(tmp_path):
    errors = {method: train(run_of(tmp_path, method, steps=200, every=200))[-1] for method in ("uniform", "reweight")}
    assert errors["reweight"]["test_error"] + 10 < errors["uniform"]["test_error"]
    assert errors["reweight"]["minority_weight"] > 0.3 > 0.1 > errors["uniform"]["minority_weight"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [1, 19, 20, 21, 45, 59])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, moment):
    whole = train(run_of(tmp_path / "whole"))
    run, seen = run_of(tmp_path / "killed"), []

    def kill(steps, line):
        seen.extend([0] * steps)
        if len(seen) == moment and steps > 0:
            raise Killed
    with pytest.raises(Killed):
        train(run, kill)
    with open(run.record, "a") as file:                     # a line that its checkpoint never followed, and half a line
        file.write(json.dumps({**run.labels, "step": 10_000, "train_loss": 0.0}) + '\n{"method": "rew')     # as it may be
    resumed = train(run)
    assert without_time(resumed) == without_time(whole) == without_time(read_record(run.record))
    a, b = (tree.read(r.checkpoint)[0] for r in (run, run_of(tmp_path / "whole")))
    assert all(np.array_equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


def test_a_finished_run_is_not_repeated(tmp_path):
    run, steps = run_of(tmp_path), []
    first = train(run)
    assert train(run, lambda n, line: steps.append(n)) == first
    assert steps == [-60]                                   # reported as done, not taken


@pytest.mark.parametrize("method", ["uniform", "hard_mining"])
def test_a_kill_while_saving_loses_nothing(tmp_path, monkeypatch, method):
    """The kill comes between the line and the checkpoint, or before the checkpoint is renamed."""
    whole = train(run_of(tmp_path / "whole", method))
    for place in ("save", "write_whole"):
        run, original, calls = run_of(tmp_path / place, method), getattr(tree, place), []

        def kill(*args, original=original, calls=calls):
            calls.append(args)
            if len(calls) == 3:
                raise Killed
            return original(*args)
        monkeypatch.setattr(loop.tree, place, kill)
        with pytest.raises(Killed):
            train(run)
        monkeypatch.undo()
        assert without_time(train(run)) == without_time(whole) == without_time(read_record(run.record))


def test_a_record_is_never_shortened_before_better_lines_exist(tmp_path):
    """Old lines stay until new ones of the same step replace them, whenever the run is stopped again."""
    run = run_of(tmp_path, steps=100)
    whole = train(run)

    def stopped_at(moment):
        """Continue the run and stop it after some steps; assert that its record has all steps at all times."""
        taken = []

        def kill(steps, line):
            assert [line["step"] for line in read_record(run.record)] == [20, 40, 60, 80, 100]
            taken.extend([0] * max(steps, 0))
            if len(taken) == moment:
                raise Killed
        with pytest.raises(Killed):
            train(dataclasses.replace(run, is_base=True), kill)
    early = run.checkpoint.read_bytes()
    for moment in (1, 20, 45, 99):
        run.checkpoint.unlink(missing_ok=True)              # another run begins from this one, so it is trained again
        stopped_at(moment)
        if moment == 45:
            early = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(early)                       # an older checkpoint, of step 40, brought back
    stopped_at(10)
    assert without_time(train(run)) == without_time(whole) == without_time(read_record(run.record))


def test_a_complete_record_without_a_checkpoint_is_a_finished_run(tmp_path):
    run, taken = run_of(tmp_path), []
    lines = train(run)
    run.checkpoint.unlink()
    before = run.record.read_bytes()
    assert train(run, lambda steps, line: taken.append(steps)) == lines
    assert run.record.read_bytes() == before and taken == [-60] and not run.checkpoint.exists()
    run.record.write_bytes(before.replace(b'"step": 40', b'"step": 30'))            # as many lines, but not at its steps
    assert not runs.has_full_record(run)
    run.record.write_bytes(b"".join(before.splitlines(keepends=True)[:2]))          # not complete: it is trained again
    assert without_time(train(run)) == without_time(lines) and run.checkpoint.exists()


def test_which_runs_of_a_chain_need_their_checkpoints(tmp_path):
    """Those of the bases of what is to be trained; of a base that has lost its own, that of the base below too."""
    second = run_of(tmp_path, "fine_tune")
    third = dataclasses.replace(second, name="third", base=second)
    chain = [second.base, second, third]

    def needed():
        return [run.is_base for run in pool.add_bases([third])]
    assert needed() == [True, True, False]
    for run in chain[:2]:
        train(run)
    assert needed() == [False, True, False]
    second.checkpoint.unlink()
    assert needed() == [True, True, False]
    train(dataclasses.replace(second, is_base=True))
    train(third)
    for run in chain:
        run.checkpoint.unlink()
    assert needed() == [False, False, False]


def test_a_base_is_trained_again_only_where_it_is_needed(tmp_path, capsys):
    def sweep():
        pool.run_all([tuned], 1, concurrent.futures.ThreadPoolExecutor(1))
    tuned = run_of(tmp_path, "fine_tune")
    base = tuned.base
    sweep()
    kept, times = tree.read(tuned.checkpoint)[0], [run.record.read_bytes() for run in (base, tuned)]
    for run in (base, tuned):
        run.checkpoint.unlink()
    sweep()
    assert [run.record.read_bytes() for run in (base, tuned)] == times and not base.checkpoint.exists()
    tuned.record.write_text('{"step": 1}\n')                # a record of something else, which stops no other run
    other = run_of(tmp_path, "uniform", 1)
    failed = pool.run_all([tuned, other], 1, concurrent.futures.ThreadPoolExecutor(1))
    assert list(failed) == [tuned.name] and "the record of another run" in failed[tuned.name] and runs.is_finished(other)
    base.checkpoint.unlink()                                # it was trained again, in vain
    tuned.record.write_text("")
    sweep()
    again = tree.read(tuned.checkpoint)[0]
    assert base.checkpoint.exists() and all(np.array_equal(kept[name], again[name]) for name in kept)


def test_the_seconds_of_a_line_are_those_since_the_line_before(tmp_path, monkeypatch):
    """One second for each step here, with a checkpoint after every eighth, at which the count goes on."""
    now, step = [100.0], trainers.Descent.step

    def slow(self, learned, t):
        now[0] += 1.0
        return step(self, learned, t)
    monkeypatch.setattr(trainers.Descent, "step", slow)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 7.0)
    assert [line["seconds"] for line in train(run_of(tmp_path, steps=50))] == [20.0, 20.0, 10.0]


@given(moments=st.lists(st.integers(1, 49), max_size=4, unique=True), interval=st.sampled_from([0.0, 3.0, 7.0, 1000.0]))
@settings(max_examples=20)
def test_seconds_do_not_depend_on_where_a_run_was_stopped(tmp_path_factory, moments, interval):
    """A step takes a second here; what is repeated after a kill takes it again, and is not counted twice."""
    now, step, run = [100.0], trainers.Descent.step, run_of(tmp_path_factory.mktemp("run"), "uniform", steps=50)

    def slow(self, learned, t):
        now[0] += 1.0
        return step(self, learned, t)

    def kill_at(moment):
        count = [0]

        def kill(steps, line):
            count[0] += abs(steps)
            if steps > 0 and count[0] == moment:
                raise Killed
        return kill
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers.Descent, "step", slow)
        patch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
        patch.setattr(loop, "SAVE_INTERVAL", interval)
        for moment in sorted(moments):
            with contextlib.suppress(Killed):
                train(run, kill_at(moment))
            now[0] += 1000.0                                # the pause does not count
        assert [line["seconds"] for line in train(run)] == [20.0, 20.0, 10.0]


@pytest.mark.parametrize("text", ["hello\n", '{"method": "uniform"}\n', '{"step": 20, "method": "another"}\n'])
def test_a_record_that_is_not_this_runs_is_left_as_it_is(tmp_path, text):
    run = run_of(tmp_path)
    for checkpoint in (False, True):
        run.record.write_text(text)
        with pytest.raises(FileError, match="record of"):
            train(run)
        assert run.record.read_text() == text
        run.record.unlink()
        train(run)


def test_a_lost_or_shortened_record_comes_back_from_the_checkpoint(tmp_path):
    run = run_of(tmp_path)
    lines = train(run)
    run.record.write_text(run.record.read_text().split("\n")[0] + "\n")
    assert train(run) == lines == read_record(run.record)
    run.record.unlink()
    assert train(run) == lines == read_record(run.record)


class Diverging:
    """Prepares images as they are, and as NaN in one step."""

    def __init__(self, step):
        self.calls, self.step = 0, step

    def __call__(self, images, rng):
        self.calls += rng is not None
        return images * np.float32(np.nan if self.calls == self.step else 1.0)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    run = run_of(tmp_path, "uniform")
    with pytest.raises(NotFinite) as caught:
        train(run_of(tmp_path, "uniform", problem=dataclasses.replace(SMALL, prepare=Diverging(47))))
    assert str(caught.value) == (f"{run.name}: the loss is not finite in step 47 of method uniform\n"
                                 f"  kept: {run.checkpoint}, the record up to step 40\n  help: a smaller --rate, with "
                                 "--out FOLDER if this folder holds other results")
    assert all(np.isfinite(x).all() for x in tree.read(run.checkpoint)[0].values())
    assert [line["step"] for line in read_record(run.record)] == [20, 40]
    with pytest.raises(NotFinite) as caught:
        train(run_of(tmp_path / "early", "uniform", problem=dataclasses.replace(SMALL, prepare=Diverging(3))))
    assert str(caught.value) == (f"{run.name}: the loss is not finite in step 3 of method uniform\n"
                                 "  kept: nothing was saved yet\n  help: a smaller --rate, with --out FOLDER if this "
                                 "folder holds other results")


@pytest.mark.parametrize("method", ["uniform", "reweight"])
def test_a_loss_that_is_finite_and_beyond_all_use_stops_the_run_too(tmp_path, method):
    """A loss of 1e31 does not become NaN, and would be shown as a result."""
    with pytest.raises(NotFinite, match=f"the loss is .*e.*: training has diverged in step .* of method {method}"):
        train(run_of(tmp_path, method, rate=1e12))
    assert not read_record(run_of(tmp_path, method).record)


def test_a_model_that_diverges_in_the_last_step_of_an_interval_is_not_saved(tmp_path):
    run = run_of(tmp_path, "uniform", steps=1, rate=3e38)
    with pytest.raises(NotFinite, match="in step 1 of method uniform"):
        train(run)
    assert not run.checkpoint.exists() and not run.record.read_text()


@pytest.mark.parametrize("method", ["reweight", "hard_mining"])
def test_a_network_that_diverges_is_reported_too(tmp_path, method):
    run = run_of(tmp_path, method, problem=figure2.LENET, steps=20, rate=1e30)
    with pytest.raises(NotFinite, match=f"of method {method}"):
        train(run)


def test_a_step_that_does_not_fit_in_memory_says_what_was_too_large(device, tmp_path, monkeypatch):
    run, step = run_of(tmp_path, "uniform"), trainers.Descent.step

    def full(self, learned, t):
        if t == 46:
            raise MemoryError("Unable to allocate 96.0 GiB")
        return step(self, learned, t)
    monkeypatch.setattr(trainers.Descent, "step", full)
    if device == "cupy":
        monkeypatch.setattr(mg.xp.cuda.runtime, "memGetInfo", lambda: (2 << 30, 80 << 30))
    with pytest.raises(OutOfMemory) as caught:
        train(run)
    first, *others = str(caught.value).split("\n")
    used = "" if device == "numpy" else ", with 78.0 of 80.0 GiB of the device in use"
    assert first == f"{run.name}: step 47 does not fit in memory{used}: Unable to allocate 96.0 GiB"
    assert others == [f"  batches: {run.settings.batch} images, and {run.settings.clean_batch or 'all'} clean ones",
                      f"  kept: {run.checkpoint}, the record up to step 40",
                      "  help: --resume with --jobs 1; a smaller --batch or, on CIFAR, --network with another --out; in a program "
                      "a network with checkpoint=True (nn.Checkpoint)"]
    assert isinstance(caught.value.__cause__, MemoryError) and tree.read(run.checkpoint)


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b"", lambda b: b"garbage" * 50])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    run = run_of(tmp_path)
    train(run)
    run.checkpoint.write_bytes(damage(run.checkpoint.read_bytes()))
    with pytest.raises(FileError, match="not a whole safetensors file.*\n  help: delete it"):
        train(run)


def test_where_a_longer_run_goes_on(tmp_path):
    """After the shorter one's steps, unless its rule may have read how many there are, or its base has grown too."""
    def longer(run, steps):
        return dataclasses.replace(run, settings=dataclasses.replace(run.settings, steps=steps))
    for method in ("uniform", "mentor", "fine_tune"):
        run = run_of(tmp_path / method, method)
        for each in filter(None, (run.base, run)):
            train(each)
        step, lines, rows, _ = runs.read_position(longer(run, 80))
        assert (step, len(lines), rows) == ((0, 0, []) if method == "mentor" else (60, 3, []))
    grown = dataclasses.replace(run, base=longer(run.base, 80))
    assert runs.read_position(grown) == runs.read_position(longer(grown, 80)) == (0, [], [], 0.0)
    assert runs.read_position(run).step == 60


def test_a_failed_run_does_not_count_as_complete(tmp_path):
    """Not even with a full record, which may be of an earlier time."""
    run, other = run_of(tmp_path), run_of(tmp_path, "uniform")
    for each in (run, other):
        train(each)
    assert runs.split_finished([run, other], {run.name: "why"}) == ([other], [f"{run.name}: step 60 of 60"])
    assert runs.split_finished([run, other], {}) == ([run, other], [])


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(run_of(tmp_path))
    for changes in ({"rate": 0.1}, {"steps": 40}):          # (with more steps it would be this one's)
        with pytest.raises(FileError, match="the checkpoint of another run"):
            train(run_of(tmp_path, **changes))
    tree.save(run_of(tmp_path).checkpoint, {"x": np.ones(1)})
    with pytest.raises(FileError, match="not a checkpoint of this run"):
        train(run_of(tmp_path))


def test_a_record_that_is_none_is_refused(tmp_path):
    for text in (b"hello\n{}\n", b"{}\n", b"\xff\xfe\n", b"[1]\n"):
        (tmp_path / "a.jsonl").write_bytes(text)
        with pytest.raises(FileError, match="not a record of a run"):
            read_record(tmp_path / "a.jsonl")


def test_a_rule_gets_what_it_should(tmp_path, monkeypatch):
    """Rules with a clean set train without it, the others with it; clean batches come from it; batches have their size."""
    part = figure2.task("sample", 0.95, 0)
    task = dataclasses.replace(part, baseline=part.train + part.clean)
    seen = []

    def spy(losses, params, batch, clean, memory, known, now):
        seen.append((batch, clean, known, now))
        return METHODS["uniform"].rule(losses, params, batch, clean, memory, known, now)
    parts = {TrainsOn.TRAIN: task.train, TrainsOn.BASELINE: task.baseline, TrainsOn.CLEAN: task.clean}
    for trains_on, size in ((TrainsOn.TRAIN, None), (TrainsOn.BASELINE, None), (TrainsOn.BASELINE, 50), (TrainsOn.CLEAN, 5)):
        monkeypatch.setitem(METHODS, "spy", METHODS["uniform"]._replace(rule=spy, trains_on=trains_on, batch=size,
                                                                          host=True))
        seen.clear()
        train(dataclasses.replace(run_of(tmp_path / f"{trains_on.name}{size}", "spy"), task=lambda: task))
        pool = parts[trains_on]
        rows = {image.tobytes() for image in pool.images}
        for t, (batch, clean, known, now) in enumerate(seen):
            if trains_on is TrainsOn.TRAIN:
                np.testing.assert_array_equal(clean.images, task.clean.images)
            else:
                assert clean is None
            np.testing.assert_array_equal(batch.labels, now.labels)
            assert len(batch.labels) == (size or 20) and {image.tobytes() for image in batch.images} <= rows
            np.testing.assert_allclose(known.frequencies, np.bincount(pool.labels) / len(pool))
            assert (now.step, now.steps, now.rate) == (t, 60, 0.05)
        if trains_on is TrainsOn.BASELINE:
            reached = {image.tobytes() for batch, *_ in seen for image in batch.images}
            assert reached & {image.tobytes() for image in task.clean.images}


def test_one_score_is_the_log_odds_of_class_1():
    """The two scores are 0 and y, so that the cross-entropy is -log sigmoid(+-y)."""
    class Given(nn.Module):
        def __call__(self, x):
            return x
    z = np.array([1.5, -2.0])
    two, _ = trainers.scores(Given(), z)
    np.testing.assert_allclose(nn.cross_entropy(two, np.array([1, 1])), np.log1p(np.exp(-z)))
    np.testing.assert_allclose(nn.cross_entropy(two, np.array([0, 0])), np.log1p(np.exp(z)))
    assert trainers.scores(Given(), np.ones((3, 4)))[0].shape == (3, 4)


def test_the_papers_settings():
    """The authors' code: 8,000 steps of SGD 1e-3 with momentum 0.9, batch 100; 4,000 for their method; ten seeds."""
    options = scripts.parse_options(COMMANDS["imbalance"].script, ["--mode", "paper", "--data", "mnist"])
    kept, runs = COMMANDS["imbalance"].script.plan(options)
    assert len(runs) == 5 * 6 * 10 and {(run.settings.rate, run.settings.momentum, run.settings.batch) for run in runs} == {(1e-3, 0.9, 100)}
    assert {(run.method.name == "reweight", run.settings.steps) for run in runs} == {(True, 4000), (False, 8000)}
    assert options.seeds == [t * 123456789 % 100000 for t in range(10)]
    assert METHODS["hard_mining"].batch == 500


# ------------------------------------------------------------------------------------------------ the folder

def test_a_folder_holds_one_configuration(tmp_path):
    folder = tmp_path / "out"
    prepare_folder(folder, {"steps": 1, "rate": 2}, False, 1).close()
    with pytest.raises(MinigradError) as caught:
        prepare_folder(folder, {"steps": 1, "rate": 2}, False, 1)
    assert str(caught.value) == (f"{folder} already holds results of this configuration\n  help: --resume continues them "
                                 "(finished runs are not repeated), --out FOLDER starts over")
    prepare_folder(folder, {"steps": 1, "rate": 2}, True, 1).close()
    with pytest.raises(MinigradError) as caught:
        prepare_folder(folder, {"steps": 1, "rate": 3}, True, 1)
    assert str(caught.value) == (f"{folder} holds results of another configuration:\n  rate: 2 there, 3 now\n"
                                 "  help: choose another folder with --out")
    assert set(os.listdir(folder)) <= {"settings.json", ".lock"}


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f".a-0.95-0.{ending}.{ended.pid}" for ending in ("safetensors", "jsonl")] + [f".settings.json.{ended.pid}.{'0a' * 8}"]
    own = [".a-0.95-0.jsonl.swp", ".notes.jsonl.bak", ".probe", ".a.json", f"a.jsonl.{ended.pid}", f".notes.{ended.pid}",
           f".a-0.95-0.jsonl.{os.getpid()}", f".a-0.95-0.jsonl.{10 ** 12}x", f".jsonl.{ended.pid}", f".a.jsonl.{ended.pid}.0a0a",
           f".a.jsonl.{os.getpid()}.{'0a' * 8}"]
    for name in left + own:
        (tmp_path / name).write_text("mine")
    prepare_folder(tmp_path, {}, False, 1).close()
    assert {*os.listdir(tmp_path)} - {".lock", "settings.json"} == {*own}
    assert all((tmp_path / name).read_text() == "mine" for name in own)


def test_a_folder_is_written_by_one_process(tmp_path):
    lock = prepare_folder(tmp_path, {}, False, 1)
    with pytest.raises(MinigradError) as caught:
        prepare_folder(tmp_path, {}, True, 1)
    assert str(caught.value) == f"{tmp_path}: another process is writing there\n  help: wait for it, or --out FOLDER"
    lock.close()


DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a run with a checkpoint between two lines, its arrays and its metadata."""
    run, taken = run_of(tmp_path_factory.mktemp("saved") / "r", "uniform", steps=5, every=2), []

    def stop(steps, line):
        taken.append(steps)
        if sum(taken) == 4:
            raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAVE_INTERVAL", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(run, stop)
    return run, *tree.read(run.checkpoint)


@pytest.mark.parametrize("metadata", [
    {"step": "-1"}, {"step": "6"}, {"step": "2"}, {"step": "three"}, {"step": "3.0"}, {"step": ""}, {"record": "5"}, {"record": "null"}, {"record": "{}"}, {"record": "[1]"},
    {"record": "[{}]"}, {"record": DEEP}, {"record": '[{"step": "2"}]'}, {"record": '[{"step": 2}, {"step": 2}]'}, {"record": '[{"step": true}]'}, {"record": "["},
    {"rows": "7"}, {"rows": "null"}, {"rows": '["abc"]'}, {"rows": "[[1.0]]"}, {"rows": json.dumps([[math.nan] * 10])}, {"rows": json.dumps([[math.inf] * 10])},
    {"rows": json.dumps([["1"] * 10])}, {"rows": json.dumps([[None] * 10])}, {"rows": "[]"}, {"rows": json.dumps([[1] * 10] * 2)}, {"rows": DEEP}, {"run": "{}"}, {"run": "[]"}, {"run": DEEP}],
    ids=lambda metadata: "-".join(*metadata.items())[:20])
def test_checkpoints_whose_metadata_do_not_fit_are_refused(saved, tmp_path, metadata):
    run, arrays, good = saved
    assert good["step"] == "3" and json.loads(good["record"])[0]["step"] == 2 and len(json.loads(good["rows"])) == 1
    changed = dataclasses.replace(run, folder=tmp_path)
    tree.save(changed.checkpoint, arrays, {**good, **metadata})
    with pytest.raises(FileError, match="not a checkpoint of this run|the checkpoint of another run"):
        train(changed)


@pytest.mark.parametrize("missing", ["step", "record", "rows", "run"])
def test_checkpoints_without_their_metadata_are_refused(saved, tmp_path, missing):
    run, arrays, good = saved
    changed = dataclasses.replace(run, folder=tmp_path)
    tree.save(changed.checkpoint, arrays, {name: value for name, value in good.items() if name != missing})
    with pytest.raises(FileError, match="not a checkpoint of this run"):
        train(changed)


@pytest.mark.parametrize("text", ["5\n", "null\n", "[]\n", '"text"\n', "{}\n", '{"step": null}\n', '{"step": "2"}\n', '{"step": 2.5}\n', '{"step": 0}\n', "{\n", DEEP + "\n",
                                  '{"step": 2}\n{"step": 2}\n', '{"step": 3}\n{"step": 2}\n', '\n{"step": 2}\n', "\xff\n",
                                  '{"step": 2, "test_error": NaN}\n', '{"step": 2, "weight": -Infinity}\n', '{"step": 2, "x": 1e999}\n'], ids=lambda text: text[:12].strip())
def test_strange_records_are_refused(tmp_path, text):
    (tmp_path / "a.jsonl").write_bytes(text.encode("latin1"))
    with pytest.raises(FileError, match="a.jsonl: not a record of a run"):
        read_record(tmp_path / "a.jsonl")
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(FileError, match="not a record of a run"):
            read_record(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"a"', "[[1, 2]]", "5", DEEP, "\xff"], ids=lambda text: text[:9])
def test_settings_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "settings.json").write_bytes(text.encode("latin1"))
    with pytest.raises(FileError, match="not the settings of an experiment"):
        prepare_folder(tmp_path, {}, True, 1)


@pytest.mark.parametrize("old", [{}, {"steps": None}, {"steps": "4"}, {"steps": [4]}, {"steps": True}, {"steps": 12}])
def test_settings_of_other_steps_are_refused_whatever_they_are(tmp_path, old):
    """Only a whole number of fewer steps may grow."""
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "settings.json").write_text(json.dumps(old))
    with pytest.raises(MinigradError, match=f"another configuration:\n  steps: {re.escape(str(old.get('steps')))} there, 8 now\n  help"):
        prepare_folder(tmp_path, {"steps": 8}, True, 1, grows=True)
    if old == {"steps": 12}:                                # fewer steps are those that the command was not told again
        with pytest.raises(MinigradError, match="\n  help: --steps 12 --resume, or choose another folder with --out$"):
            prepare_folder(tmp_path, {"steps": 8}, True, 1, grows=True)
    (tmp_path / "settings.json").write_text('{"steps": 4}')
    prepare_folder(tmp_path, {"steps": 8}, True, 1, grows=True).close()


def test_results_without_settings_are_left_alone(tmp_path):
    (tmp_path / "uniform-0.95-0.safetensors").write_text("somebody's")
    with pytest.raises(MinigradError, match="holds results, but no settings.json"):
        prepare_folder(tmp_path, {}, True, 1)


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    unwritable, out = tmp_path / "file" / "out", tmp_path / "out"
    with pytest.raises(FileError) as caught:
        prepare_folder(unwritable, {}, False, 1)
    assert str(caught.value) == (f"{unwritable}: results cannot be written there ([Errno 20] Not a directory: '{unwritable}')\n"
                                 "  help: --out FOLDER, with 1 MB of free space")
    with pytest.raises(FileError) as caught:
        prepare_folder(out, {}, False, 1e9)
    assert str(caught.value) == (f"{out}: results cannot be written there (less than 1000000000 MB free)\n"
                                 "  help: --out FOLDER, with 1000000000 MB of free space")

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(loop.tree, "write_whole", full)
    with pytest.raises(FileError) as caught:
        prepare_folder(out, {}, False, 1)
    assert str(caught.value) == (f"{out}: results cannot be written there ([Errno 28] No space left on device)\n"
                                 "  help: --out FOLDER, with 1 MB of free space")


# ------------------------------------------------------------------------------------------ the command line

def test_command_line_end_to_end(tmp_path, capsys):
    arguments = ["--steps", "4", "--shares", "0.9", "--seeds", "0", "1", "--jobs", "2", "--out", str(tmp_path / "out"),
                 "--methods", "uniform", "reweight"]
    assert command_line.main(["imbalance", *arguments]) == 0
    out = capsys.readouterr().out
    assert "imbalance, quick mode, sample data" in out and "share 0.9: training: 44 of class 0" in out
    assert "test error %" in out and "(2)" in out and f"written: {tmp_path / 'out' / 'error.png'}" in out
    assert {p.name for p in (tmp_path / "out").glob("*.jsonl")} == {
        f"{m}-0.9-{s}.jsonl" for m in ("uniform", "reweight") for s in (0, 1)}
    assert (tmp_path / "out" / "weight.png").read_bytes()[:4] == b"\x89PNG"
    assert command_line.main(["imbalance", *arguments]) == 2                   # the same again needs --resume
    assert "--resume continues them" in capsys.readouterr().err
    assert command_line.main(["imbalance", *arguments, "--seeds", "0", "0", "--methods", "proportion", "--resume"]) == 0
    out = capsys.readouterr().out
    assert "1 runs" in out and all(method in out for method in ("uniform", "reweight", "proportion"))     # all it holds


def test_a_disk_that_fills_up_while_training_is_reported(tmp_path, capsys, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(command, "run_all", full)
    assert command_line.main(["imbalance", "--out", str(tmp_path / "out")]) == 2
    assert "No space left on device\n  help: the last checkpoint is kept; --resume continues" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, says", [
    (["--methods", "uniform", "magic"], "there is no method magic\n  help: choose from uniform, random, proportion, resample, "
                                        "hard_mining, reweight, reweight_decay"),
    (["--shares", "0.4"], "must lie between 0.5 and 1"),
    (["--shares", "0.95", "0.9999"], "share 0.9999: it needs"),
    (["--steps", "0"], "--steps 0: it must be at least 1"),
    (["--rate", "-0.1"], "--rate -0.1: it must be"), (["--rate", "0"], "--rate 0.0"), (["--rate", "nan"], "--rate nan"),
    (["--jobs", "-1"], "--jobs -1"), (["--seeds", "-1"], "a seed must not be negative"),
    (["--backend", "cupy"], "use('cupy')"),
])
def test_bad_options_are_explained_before_anything_is_written(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.setattr(mg.backend, "cupy_or_reason", lambda: (None, "no device"))
    assert command_line.main(["imbalance", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def alive(pid):
    """Return whether a process is running; a zombie is not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.needs("proc")
def test_ctrl_c_stops_cleanly_and_a_killed_process_resumes(tmp_path):
    command = [sys.executable, "-m", "experiments.imbalance", "--shares", "0.95", "--seeds", "0", "--methods", "reweight",
               "--steps", "30", "--jobs", "1"]
    environment, record = {**os.environ, "PYTHONUNBUFFERED": "1"}, tmp_path / "an out" / "reweight-0.95-0.jsonl"

    def stopped_by(how, ready):
        process = subprocess.Popen([*command, "--out", str(record.parent), "--resume"], text=True, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        deadline = time.monotonic() + 60                    # (a suite that runs in the background has Ctrl-C ignored)
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        how(process)
        out, err = process.communicate(timeout=60)
        deadline = time.monotonic() + 20
        while any(map(alive, children)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert children and not any(map(alive, children))   # no worker goes on by itself
        return process.returncode, out, err
    code, out, err = stopped_by(lambda process: os.killpg(process.pid, signal.SIGINT),
                                lambda: record.exists() and record.read_text())
    assert code == 130 and "stopped; everything up to the last line of the record is kept" in out
    assert f"--out '{record.parent}' --resume" in out and "Traceback" not in err
    before = record.stat().st_mtime_ns                      # it is written anew when the run is taken up
    stopped_by(lambda process: process.kill(), lambda: record.stat().st_mtime_ns != before)     # the parent alone
    subprocess.run([*command, "--out", str(record.parent), "--resume"], check=True, capture_output=True, env=environment)
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True, env=environment)
    a, b = (read_record(folder / record.name) for folder in (record.parent, tmp_path / "whole"))
    assert without_time(a) == without_time(b) and len(a) == 2


def test_what_a_worker_tells_the_progress_bar(monkeypatch):
    """At once the steps that are not repeated and every line; other steps ten at a time, and what is left at the end."""
    sent, line = [], {"step": 15, "train_error": 1.0, "test_error": 2.0, "seconds": 3.0}

    def attempt(run, progress):
        progress(-200, None)
        for steps, text in [(1, None)] * 14 + [(1, line)] + [(1, None)] * 3:
            progress(steps, text)
        return "why"
    monkeypatch.setattr(pool, "attempt", attempt)
    monkeypatch.setattr(pool, "_worker", {"stop": types.SimpleNamespace(value=False), "sender": types.SimpleNamespace(send=sent.append)})
    assert pool._attempt_in_worker(types.SimpleNamespace(name="a")) == "why"
    assert sent == [(-200, "a", None), (10, "a", None), (5, "a", {"step": 15, "train_error": 1.0, "test_error": 2.0}), (3, "a")]


def test_an_error_in_a_worker_reaches_the_caller(tmp_path):
    run = run_of(tmp_path, rate=3e38)
    failed = pool.run_all([run], 1)
    assert list(failed) == [run.name] and failed[run.name].startswith("reweight-0.95-0: the loss is not finite in step ")


def test_keys_of_runs_are_apart():
    keys = [(7, runs.DATA), (7, runs.INIT), *((7, runs.STEPS, t) for t in range(3)), (7, runs.REBUILD), (8, runs.DATA)]
    assert len({generator(key).integers(2**62) for key in keys}) == len(keys)


@pytest.mark.parametrize("other", [{"method": "uniform"}, {"key": 1}])
def test_a_checkpoint_under_the_name_of_another_run_is_refused(tmp_path, other):
    """A copy, of the same settings: it has another method, or another seed."""
    run, foreign = run_of(tmp_path / "a"), run_of(tmp_path / "b", **other)
    train(foreign)
    run.checkpoint.write_bytes(foreign.checkpoint.read_bytes())
    with pytest.raises(FileError, match="the checkpoint of another run"):
        train(run)
    assert not run.record.exists()


@pytest.mark.parametrize("change", [{"test_error": None}, {"train_error": "few"}])
def test_a_record_without_its_errors_is_not_complete(tmp_path, change):
    """Pictures of it would fail."""
    run = run_of(tmp_path)
    *first, last = train(run)
    run.record.write_text("".join(json.dumps(line) + "\n" for line in [*first, {**last, **change}]))
    assert not runs.has_full_record(run)
    assert train(run)[-1] == last and runs.has_full_record(run)


def test_a_folder_must_have_room(tmp_path, monkeypatch):
    """Free space is in megabytes; and where a quota says otherwise, the first bytes that are written tell."""
    for free, enough in ((7_000_001, True), (6_999_999, False)):
        monkeypatch.setattr(folders.shutil, "disk_usage", lambda path, free=free: types.SimpleNamespace(free=free))
        with contextlib.nullcontext() if enough else pytest.raises(FileError, match="less than 7 MB free.*\n  help: --out FOLDER, with 7 MB"):
            folders.check_folder(tmp_path, 7)

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
    monkeypatch.setattr(folders.tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(FileError, match="results cannot be written there .*Disk quota exceeded.*\n  help: --out FOLDER, with 5 MB"):
        folders.check_folder(tmp_path / "other")


def test_files_of_processes_that_may_not_be_asked_stay(tmp_path, monkeypatch):
    """A process of another user is alive. A number beyond all processes belongs to none."""
    kill, big = os.kill, 10 ** 30

    def guarded(pid, number):
        if pid == 77:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return kill(pid, number)
    monkeypatch.setattr(os, "kill", guarded)
    for pid in (77, big):
        (tmp_path / f".a.jsonl.{pid}").write_text("somebody's")
    prepare_folder(tmp_path, {}, False, 1).close()
    assert {*os.listdir(tmp_path)} - {".lock", "settings.json"} == {".a.jsonl.77"}


@pytest.mark.parametrize("sweep", [lambda run, work: pool.run_all([run], 1, types.SimpleNamespace(submit=work), quiet=True), lambda run, work: ranks.train_all([run], Alone(), work, quiet=True)],
                         ids=["processes", "ranks"])
def test_sigterm_ends_a_sweep_as_ctrl_c_does(tmp_path, sweep):
    """And afterwards it does what it did before."""
    heard = []
    before = [signal.signal(number, lambda *args: heard.append(args)) for number in (signal.SIGTERM, signal.SIGINT)]
    mine = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep(run_of(tmp_path), lambda *work: os.kill(os.getpid(), signal.SIGTERM))
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == mine and not heard
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before):
            signal.signal(number, handler)


def test_nothing_of_a_run_stays_in_memory(tmp_path, monkeypatch):
    """A trainer and its step refer to each other: without a collection it would stay, with its images and its graph on a GPU."""
    kept = []
    monkeypatch.setattr(loop, "gc", gc)

    def watched(run, comm):
        trainer = trainers.trainer_of(run, comm)
        kept.append(weakref.ref(trainer))
        return trainer
    monkeypatch.setattr(loop, "trainer_of", watched)
    gc.disable()
    try:
        train(run_of(tmp_path))
        assert kept[0]() is None
    finally:
        gc.enable()


def test_one_run_at_a_time_on_a_gpu_and_workers_with_the_same_backend(monkeypatch):
    monkeypatch.setattr(pool, "_cores", lambda: 6)
    for name, jobs in (("cupy", 1), ("numpy", 6)):
        monkeypatch.setattr(pool.backend, "name", lambda name=name: name)
        assert pool.default_jobs() == jobs and pool._environment(2)["MINIGRAD_BACKEND"] == name


@pytest.mark.parametrize("method, batch", [("uniform", 20), ("hard_mining", 500), ("adaboost", 20)])
def test_what_did_not_fit_in_memory_is_the_batch_of_the_method(tmp_path, method, batch):
    assert f"\n  batches: {batch} images, and all clean ones\n" in str(runs.out_of_memory_error(run_of(tmp_path, method), 1, MemoryError()))


@pytest.mark.parametrize("now, why", [({"steps": 8, "drops": [6]}, True), ({"steps": 8, "drops": [6], "rate": 2}, False), ({"steps": 8}, False), ({"drops": [2]}, False)], ids=str)
def test_why_more_steps_alone_are_another_configuration(tmp_path, now, why):
    prepare_folder(tmp_path, {"steps": 4, "drops": [3], "rate": 1}, False, 1).close()
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(MinigradError, match="another configuration") as caught:
        prepare_folder(tmp_path, {"steps": 4, "drops": [3], "rate": 1} | now, True, 1)
    assert str(caught.value).endswith("; with another number of steps the rate drops at other steps") == why


@pytest.mark.parametrize("seconds", ["-1", "-inf", "inf", "nan", "long"])
def test_a_time_that_cannot_be_is_refused(saved, tmp_path, seconds):
    run, arrays, good = saved
    changed = dataclasses.replace(run, folder=tmp_path)
    tree.save(changed.checkpoint, arrays, {**good, "seconds": seconds})
    with pytest.raises(FileError, match="not a checkpoint of this run .*\n  help: delete it, and the run starts over"):
        runs.read_position(changed)
