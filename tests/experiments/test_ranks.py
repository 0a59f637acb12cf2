"""Runs on many ranks: the record and the network of one rank, also after a failure and with another number of ranks."""
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from experiments.methods import METHODS, Boosted
from experiments.training import loop, trainers
from experiments.training import ranks as training
from experiments.training.loop import train
from experiments.training.runs import read_lines
from minigrad import MinigradError, RankError, tree
from minigrad.distributed import Alone

from .. import ranks, requirements
from .test_trainers import run_of

DIVIDED = [name for name, method in METHODS.items() if method.divides]


def without_time(line):
    return {key: value for key, value in line.items() if key != "seconds"}


def numbers(lines):
    """Return the numbers of the lines of a record, but for the time."""
    return [[value for value in without_time(line).values() if isinstance(value, float)] for line in lines]


def arrays(run):
    return [*tree.read(run.checkpoint)[0].values()]


def assert_same(run, other, tolerance):
    """Compare the record and the checkpoint of two runs."""
    np.testing.assert_allclose(numbers(read_lines(run)), numbers(read_lines(other)), rtol=tolerance, atol=tolerance)
    for a, b in zip(arrays(run), arrays(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def with_bases(run):
    return [*with_bases(run.base), run] if run.base else [run]


def on_ranks(size, run):
    """Train a run, and those it starts from, on ranks that are threads; return what failed on each."""
    return ranks.run(size, lambda comm: training.train_all(with_bases(run), comm, train, quiet=True))


@pytest.mark.parametrize("name", [name for name in DIVIDED if METHODS[name].classes is None])
def test_every_method_that_divides_does_what_one_rank_does(tmp_path, name):
    """Batches of 50 on three ranks; two lines, of which the second goes on from the first."""
    one, three = run_of(tmp_path / "one", name), run_of(tmp_path / "three", name)
    for run in with_bases(one):
        train(run)
    assert on_ranks(3, three) == [{}] * 3
    assert_same(three, one, 2e-4)
    assert len(read_lines(three)) == 2


def test_the_other_methods_are_refused():
    assert [name for name, method in METHODS.items() if not method.divides and not isinstance(method, Boosted)] == ["hard_mining", "meta_weight_net"]
    with pytest.raises(MinigradError, match="adaboost cannot be trained on 2 ranks: .*\n  help: train it without mpiexec, or choose from uniform, random"):
        ranks.run(2, lambda comm: training.check_methods([Some("adaboost")], comm))
    training.check_methods([Some("adaboost")], Alone())


class Some:
    """A run of which only the method counts."""
    def __init__(self, name):
        self.method = METHODS[name]


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path):
    """It is stopped after the first line, in the middle of an interval, and goes on with three ranks, then with one."""
    run, whole = run_of(tmp_path / "run", "reweight", steps=9), run_of(tmp_path / "whole", "reweight", steps=9)
    train(whole)

    def stop_after(count):
        taken = []

        def progress(steps, line):
            taken.append(steps)
            if taken.count(1) == count:
                raise KeyboardInterrupt
        return progress
    for size, count in ((2, 4), (3, 4)):
        with pytest.raises(KeyboardInterrupt):
            ranks.run(size, lambda comm: train(run, stop_after(count), comm))
    assert [line["step"] for line in read_lines(run)] == [3, 6]
    train(run)
    assert_same(run, whole, 1e-3)


def test_a_rank_that_fails_ends_the_run_on_all_and_the_next_one_goes_on(tmp_path, monkeypatch):
    step = trainers.Descent.step

    def failing(self, learned, t):
        if self.run.seed == 1 and t == 4 and self.comm.rank == 1:
            raise MemoryError("no more")
        return step(self, learned, t)
    monkeypatch.setattr(trainers.Descent, "step", failing)
    runs = [run_of(tmp_path, key=key) for key in (1, 2)]
    failed = ranks.run(3, lambda comm: training.train_all(runs, comm, train, quiet=True))
    assert failed[0] == failed[1] == failed[2] and [*failed[0]] == ["uniform-1"]
    assert "rank 1: an error: uniform-1: step 5 does not fit in memory" in failed[0]["uniform-1"]
    assert "rank 0: allsum" in failed[0]["uniform-1"] and "rank 2: allsum" in failed[0]["uniform-1"]
    assert [line["step"] for line in read_lines(runs[0])] == [3] and [line["step"] for line in read_lines(runs[1])] == [3, 6]


def test_what_all_ranks_raise_is_one_error(tmp_path):
    failed = ranks.run(2, lambda comm: training.train_all([run_of(tmp_path, rate=1e30)], comm, train, quiet=True))
    assert failed[0] == failed[1] and failed[0]["uniform-0"].startswith("uniform-0: the loss is")


def test_ranks_that_come_to_differ_are_noticed(tmp_path, monkeypatch):
    step = trainers.Descent.step

    def wrong(self, learned, t):
        learned, row = step(self, learned, t)
        return tree.map(lambda leaf: leaf + (self.comm.rank == 2) * np.float32(1e-6), learned), row
    monkeypatch.setattr(trainers.Descent, "step", wrong)
    failed = ranks.run(3, lambda comm: training.train_all([run_of(tmp_path)], comm, train, quiet=True))
    assert failed[1]["uniform-0"].startswith("the parameters of rank 2 differ from those of rank 0")


def test_an_error_of_rank_0_is_raised_on_all():
    def program(comm):
        try:
            return training.on_first(comm, lambda: 1 / 0)
        except MinigradError as error:
            return str(error)
    first, second = ranks.run(2, program)
    assert first == second and first.startswith("ZeroDivisionError: division by zero")
    assert ranks.run(2, lambda comm: training.on_first(comm, lambda: comm.rank + 5)) == [5, 5]


def test_a_lost_rank_is_no_failure_of_one_run():
    comm = Alone()
    comm.lost = True
    with pytest.raises(RankError):
        training.tell(comm, RankError("rank 0 has waited"))


# ------------------------------------------------------------------------------------------------ with mpiexec

ARGUMENTS = "imbalance --shares 0.95 --seeds 0 --steps 8".split()       # later, rounding decides between equal pixels


def command(folder, *arguments, size=2, **environment):
    """Run a command of the experiments on several ranks; return the completed process."""
    return ranks.start(size, "-m", "experiments", *arguments, "--out", folder, MINIGRAD_BACKEND="numpy", **environment)


@pytest.mark.needs("mpi")
def test_a_command_on_two_ranks_and_then_on_three(tmp_path):
    done = command(tmp_path / "two", *ARGUMENTS, "--methods", "uniform", "reweight")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test error %") == 1 and done.stdout.count("rank 1: process") == 1 and "2/2 runs done" in done.stderr
    one = subprocess.run([sys.executable, "-m", "experiments", *ARGUMENTS, "--methods", "uniform", "reweight", "--out", tmp_path / "one"],
                         capture_output=True, text=True, cwd=requirements.ROOT, env={**os.environ, "MINIGRAD_BACKEND": "numpy"}, timeout=120)
    assert one.returncode == 0, one.stderr
    assert [path.name for path in sorted((tmp_path / "one").iterdir())] == [path.name for path in sorted((tmp_path / "two").iterdir())]
    for name in ("uniform", "reweight"):
        lines = [[json.loads(text) for text in (tmp_path / folder / f"{name}-0.95-0.jsonl").read_text().splitlines()] for folder in ("one", "two")]
        np.testing.assert_allclose(*map(numbers, lines), rtol=1e-4, atol=1e-6)
    assert command(tmp_path / "two", *ARGUMENTS, "--methods", "uniform").returncode == 2
    longer = command(tmp_path / "two", "imbalance", "--shares", "0.95", "--seeds", "0", "--steps", "16", "--methods", "uniform", "--resume", size=3)
    assert longer.returncode == 0, longer.stderr
    lines = [json.loads(text) for text in (tmp_path / "two" / "uniform-0.95-0.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [8, 16]


@pytest.mark.needs("mpi")
@pytest.mark.parametrize("arguments, what", [
    ([*ARGUMENTS, "--methods", "hard_mining"], "error: hard_mining cannot be trained on 2 ranks"),
    ([*ARGUMENTS, "--jobs", "2"], "error: --jobs 2: 2 ranks train one run at a time"),
    ([*ARGUMENTS, "--methods", "nothing"], "error: there is no method nothing"),
    ([*ARGUMENTS, "--wrong"], "error: imbalance has no option --wrong"),
])
def test_errors_are_printed_once(tmp_path, arguments, what):
    done = command(tmp_path, *arguments)
    assert done.returncode == 2 and done.stderr.count(what) == 1 and not [*tmp_path.iterdir()], done.stderr


@pytest.mark.needs("mpi")
def test_commands_of_one_process_are_refused(tmp_path):
    done = command(tmp_path, "tables")
    assert done.returncode == 2 and "error: tables runs in one process\n  help: leave out mpiexec" in done.stderr and not [*tmp_path.iterdir()]


@pytest.mark.needs("mpi", "proc")
def test_a_killed_rank_ends_all_and_the_run_can_be_resumed(tmp_path):
    arguments = [requirements.mpiexec(), "-n", "2", sys.executable, "-m", "experiments", *"imbalance --shares 0.95 --seeds 0 --methods reweight --out".split(), tmp_path]
    environment = {**os.environ, "MINIGRAD_BACKEND": "numpy"}
    with subprocess.Popen([*arguments, "--steps", "100000"], cwd=requirements.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            places = [running.stdout.readline() for _ in range(2)]
            record = tmp_path / "reweight-0.95-0.jsonl"
            deadline = time.monotonic() + 120
            while not (record.exists() and record.read_text()):
                assert time.monotonic() < deadline and running.poll() is None
                time.sleep(0.05)
            os.kill(int(places[1].split()[3]), signal.SIGKILL)
            _, errors = running.communicate(timeout=100)
        finally:
            running.kill()
    assert running.returncode != 0 and places[1].startswith("rank 1: process") and places[1].split()[3] in errors + places[1]
    reached = json.loads(record.read_text().splitlines()[-1])["step"]
    again = arguments[:2] + ["3"] + arguments[3:] + ["--steps", "100000", "--resume"]
    with subprocess.Popen(again, cwd=requirements.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            first = int(running.stdout.readline().split()[3])
            deadline = time.monotonic() + 120
            while json.loads(record.read_text().splitlines()[-1])["step"] <= reached:
                assert time.monotonic() < deadline and running.poll() is None
                time.sleep(0.05)
            os.kill(first, signal.SIGSTOP)                  # rank 0, which has the last word, is late, as on a busy machine
            running.send_signal(signal.SIGINT)
            time.sleep(0.5)
            os.kill(first, signal.SIGCONT)
            output, _ = running.communicate(timeout=100)
        finally:
            running.kill()
    assert running.returncode != 0 and output.count("stopped; everything up to the last line of the record is kept") == 1
    steps = [json.loads(line)["step"] for line in record.read_text().splitlines()]
    assert steps == [*range(20, steps[-1] + 1, 20)]         # no line is lost, none repeated


@pytest.mark.parametrize("name", [name for name in DIVIDED if METHODS[name].classes is None])
def test_weight_decay_counts_once_however_many_ranks_there_are(tmp_path, name):
    """Also where it is a part of the clean loss."""
    one, three = run_of(tmp_path / "one", name, decay=0.05, steps=3), run_of(tmp_path / "three", name, decay=0.05, steps=3)
    for run in with_bases(one):
        train(run)
    assert on_ranks(3, three) == [{}] * 3
    assert_same(three, one, 2e-4)


def test_rank_0_alone_touches_files_and_says_when(tmp_path, monkeypatch):
    """Here a step takes a second on rank 0 and longer on the others; a checkpoint is due 1.5 seconds after the one before."""
    run, step, own, told = run_of(tmp_path, "reweight"), trainers.Descent.step, threading.local(), []

    def slow(self, learned, t):
        own.now += 1.0 + self.comm.rank
        return step(self, learned, t)

    def noted(name, f):
        return lambda *args, **how: told.append((own.rank, name)) or f(*args, **how)
    monkeypatch.setattr(trainers.Descent, "step", slow)
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 1.5)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: own.now))
    for place, name in ((loop, "_open"), (loop, "write_record"), (loop.tree, "save")):
        monkeypatch.setattr(place, name, noted(name, getattr(place, name)))

    def program(comm):
        own.rank, own.now = comm.rank, 0.0
        train(run, comm=comm)
    ranks.run(3, program)
    assert told == [(0, name) for name in ("_open", "write_record", "save", "write_record", "save", "save", "write_record", "save")]    # of steps 2, 3, 5, 6


def test_each_rank_drops_units_of_its_own(tmp_path, monkeypatch):
    """In every step and for both batches; or an example and its neighbor on the next rank would lose the same ones."""
    keys, key = [], trainers.Descent._key
    monkeypatch.setattr(trainers.Descent, "_key", lambda self, *which: keys.append(tuple(key(self, *which))) or key(self, *which))
    run = run_of(tmp_path, "reweight", steps=2, every=2)
    ranks.run(3, lambda comm: train(run, comm=comm))
    assert len(keys) == len({*keys}) == 3 * 2 * 2


def test_ranks_on_the_same_cores_share_them(monkeypatch):
    """Three of six ranks are here, one of them bound to cores of its own; mpiexec may have said how many threads there are."""
    limits, here = [], platform.node()
    others = [(here, [*range(8)]), (here, [8, 9]), *[("elsewhere", [*range(8)])] * 3]
    comm = types.SimpleNamespace(size=6, rank=0, gather=lambda mine: [mine, *others] if isinstance(mine, tuple) else ["a process"] * 6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {*range(8)}, raising=False)
    monkeypatch.setattr(training.threadpoolctl, "threadpool_limits", limits.append)
    monkeypatch.setenv("MINIGRAD_THREADS", "3")
    assert training.share_machine(comm).splitlines()[5] == "rank 5: a process" and os.environ["MINIGRAD_THREADS"] == "3"
    monkeypatch.delenv("MINIGRAD_THREADS")
    training.share_machine(comm)
    assert os.environ["MINIGRAD_THREADS"] == "4" and limits == [3, 4] and training.share_machine(Alone()) == ""


@pytest.mark.parametrize("rank, quiet", [(0, False), (0, True), (1, False), (1, True)])
def test_rank_0_alone_shows_progress(tmp_path, capsys, rank, quiet):
    run = run_of(tmp_path, "uniform")
    assert training.train_all([run], types.SimpleNamespace(rank=rank, size=2), lambda run, progress, comm: progress(6, None), quiet) == {}
    assert capsys.readouterr() == ("", f"1/1 runs done: {run.name}\n" * (rank == 0 and not quiet))


def test_steps_that_a_failed_run_does_not_take_are_not_waited_for(tmp_path, monkeypatch):
    made, progress_of = [], training.Progress
    monkeypatch.setattr(training, "Progress", lambda *args: made.append(progress_of(*args)) or made[-1])

    def train(run, progress, comm):
        progress(20, None)
        if run.seed == 0:
            raise MinigradError("it went wrong")
        progress(40, None)
    failed = training.train_all([run_of(tmp_path, "uniform", key, steps=60) for key in (0, 1)], trainers.ALONE, train, quiet=True)
    assert [*failed.values()] == ["it went wrong"] and (made[0].done, made[0].total, made[0].ended) == (80, 80, 2)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.divides])
def test_beside_a_method_that_is_refused_all_others_are_named(name):
    run = types.SimpleNamespace(method=METHODS[name])
    with pytest.raises(MinigradError, match=f"{name} cannot be trained on 3 ranks") as caught:
        training.check_methods([run], types.SimpleNamespace(size=3))
    choice = str(caught.value).rpartition("choose from ")[2].split(", ")
    training.check_methods([types.SimpleNamespace(method=METHODS[each]) for each in choice], types.SimpleNamespace(size=3))
    training.check_methods([run], types.SimpleNamespace(size=1))
    assert {"uniform", "reweight"} <= {*choice}
