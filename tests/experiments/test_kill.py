"""Runs that are killed by SIGKILL and resumed have the same bits; a sweep survives the death of a worker."""
import concurrent.futures
import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from experiments.methods import Weighting
from experiments.training import loop, pool
from experiments.training.folders import read_record
from experiments.training.loop import train
from experiments.training.runs import is_finished
from minigrad import tree

from .test_training import run_of, without_time

LONG = dict(steps=300, every=50)
CHILD = """
import pathlib, sys
from experiments.training import loop
from tests.experiments.test_training import run_of
loop.SAVE_INTERVAL = 0.02
loop.train(run_of(pathlib.Path(sys.argv[1]), sys.argv[2], **{long}), lambda steps, line: print("step", flush=True))
""".replace("{long}", repr(LONG))


def same(run, other):
    assert without_time(read_record(run.record)) == without_time(read_record(other.record))
    a, b = (tree.read(r.checkpoint)[0] for r in (run, other))
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["reweight", "mentor", "smote", "meta_weight_net"])
def test_sigkill_at_a_random_moment(tmp_path, method):
    """The methods: with a clean set, with a memory, with a rebuilt training set, with a memory that has an optimizer."""
    whole = run_of(tmp_path / "whole", method, **LONG)
    train(whole)
    run = run_of(tmp_path / "killed", method, **LONG)
    drawn = moment = random.Random(time.time_ns()).randrange(20, 280)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(run.folder), method], stdout=subprocess.PIPE, text=True,
                             cwd=pathlib.Path(__file__).parents[2])
    while moment > 0 or not run.checkpoint.exists():        # on a quick machine the first may come after that
        assert child.stdout.readline().strip() == "step"
        moment -= 1
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL and not is_finished(run)
    begun = []
    train(run, lambda steps, line: begun.append(steps))
    assert begun[0] < 0 and sum(step for step in begun if step > 0) == 300 + begun[0], f"killed after {drawn} steps"
    same(run, whole)


def test_rows_in_the_middle_of_an_interval_are_kept(tmp_path, monkeypatch):
    """Every step is saved here; a kill between two lines loses no row."""
    whole = run_of(tmp_path / "whole", "random", steps=45)
    train(whole)
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 0.0)
    run, taken = run_of(tmp_path / "killed", "random", steps=45), []

    class Killed(BaseException):
        pass

    def kill(steps, line):
        taken.append(steps)
        if sum(step for step in taken if step > 0) == 33:
            raise Killed
    with pytest.raises(Killed):
        train(run, kill)
    taken.clear()
    train(run, lambda steps, line: taken.append(steps))
    assert taken[0] == -32
    same(run, whole)


def workers():
    """Return the processes started by the pool of this process."""
    found = []
    for children in pathlib.Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in children.read_text().split():
            try:
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_text()
            except OSError:
                continue
            found += [int(pid)] if "spawn_main" in command else []
    return found


@pytest.mark.needs("proc")
def test_a_killed_worker_does_not_stop_the_sweep(tmp_path, capsys):
    whole = [run_of(tmp_path / "whole", "uniform", key, **LONG) for key in (0, 1)]
    runs = [run_of(tmp_path / "swept", "uniform", key, **LONG) for key in (0, 1)]
    for run in whole:
        train(run)

    def kill():
        while not any(run.checkpoint.exists() for run in runs) and not all(is_finished(run) for run in runs):
            time.sleep(0.005)
        os.kill(workers()[0], signal.SIGKILL)
    killer = threading.Thread(target=kill)
    killer.start()
    pool.run_all(runs, 2)
    killer.join()
    for run, other in zip(runs, whole):
        assert is_finished(run)
        same(run, other)
    assert "a worker process died; its run continues" in capsys.readouterr().err


def killed_while_it_sends(run):
    """Work for a pool: die while sending messages the first time, and finish the second time."""
    send, mark = pool._worker["sender"].send, run.folder / f"{run.name}.tried"
    if not mark.exists():
        mark.touch()
        threading.Timer(0.1 * random.random(), os._exit, [1]).start()
        while not pool._worker["stop"].value:
            send((1, run.name, None))
    send((1, run.name))


class Killed(concurrent.futures.ProcessPoolExecutor):
    """A pool whose workers are killed while they send messages."""

    def submit(self, f, *args):
        return super().submit(killed_while_it_sends, *args)


def test_a_worker_that_dies_holds_up_no_other(tmp_path, monkeypatch):
    """It must not hold anything that the others wait for, such as the lock of a queue."""
    monkeypatch.setattr(pool.concurrent.futures, "ProcessPoolExecutor", Killed)
    assert not pool.run_all([run_of(tmp_path, "uniform", key) for key in (0, 1)], 2)
    assert len(list(tmp_path.glob("*.tried"))) == 2


class Mortal:
    """A stand-in for a pool of processes, which trains here; a worker that gets one of the `deadly` runs dies."""
    deadly, taken, heard = (), [], []

    def __init__(self, workers, *context):
        self.workers, self.going = workers, 0

    def __enter__(self):
        self.heard.append(signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)
        return self

    def __exit__(self, *error):
        pass

    def shutdown(self, cancel_futures):
        pass

    def submit(self, work, run):
        future = concurrent.futures.Future()
        self.taken.append(run.name)
        if run.name in self.deadly:
            future.set_exception(concurrent.futures.process.BrokenProcessPool("gone"))
        else:
            future.set_result(pool.attempt(run))
        return future


def test_a_run_whose_workers_die_again_and_again_stops_no_other(tmp_path, monkeypatch, capsys):
    runs = [run_of(tmp_path, "uniform", key, steps=20) for key in range(4)] + [run_of(tmp_path, "fine_tune", 1, steps=20)]
    monkeypatch.setattr(pool.concurrent.futures, "ProcessPoolExecutor", Mortal)
    monkeypatch.setattr(Mortal, "deadly", [runs[1].name])
    for name in ("taken", "heard"):
        monkeypatch.setattr(Mortal, name, [])
    monkeypatch.setattr(signal, "SIG_IGN", lambda *args: None)              # (a suite that runs in the background has Ctrl-C ignored)
    failed = pool.run_all(runs, 1)
    assert [Mortal.taken.count(run.name) for run in runs] == [1, 4, 1, 1, 1]                # three times, then alone
    assert list(failed) == [runs[1].name, runs[4].name]
    assert "dies repeatedly" in failed[runs[1].name] and "--resume continues" in failed[runs[1].name]
    assert "starts from a finished run of uniform, which does not exist" in failed[runs[4].name]
    assert [is_finished(run) for run in runs] == [True, False, True, True, False]
    assert "a worker process died; its run continues" in capsys.readouterr().err
    assert len(Mortal.heard) > 4 and all(Mortal.heard)      # Ctrl-C is heard in every pool, also after one that broke


@pytest.mark.parametrize("cores, jobs, given, threads", [(8, 1, None, "8"), (8, 3, None, "4"), (7, 2, None, "3"), (8, 16, None, "4"), (2, 2, None, "1"), (1, 2, None, "1"),
                                                         (8, 2, "3", "3")])
def test_runs_share_the_cores(tmp_path, monkeypatch, cores, jobs, given, threads):
    """Two runs, never more processes than runs; BLAS has one thread, and the environment is as before at the end."""
    seen, names = [], set(pool.THREADS) - {"MINIGRAD_THREADS"}
    monkeypatch.setattr(pool, "_cores", lambda: cores)
    monkeypatch.setattr(pool, "_run_in_pool", lambda runs, workers, shared, ended, *others: seen.append((dict(os.environ), workers)) or ended.update(
        {run.name: None for run in runs}))
    for name in pool.THREADS:
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv("MINIGRAD_THREADS", given)
    before = dict(os.environ)
    assert pool.run_all([run_of(tmp_path, "uniform", key) for key in (0, 1)], jobs) == {}
    (found, workers), = seen
    assert found["MINIGRAD_THREADS"] == threads and {found[name] for name in names} == {"1"} and workers == min(jobs, 2)
    assert dict(os.environ) == before


def twice_the_first(known, now):
    """Weigh the examples equally, but the first of the batch twice."""
    w = np.ones(len(now.labels))
    w[0] = 2.0
    return w / w.sum()


def test_a_method_of_ones_own_is_sent_to_the_workers(tmp_path):
    """A run carries its method, which need not be in METHODS."""
    own = Weighting("own", "the first twice", "nobody", weigh=twice_the_first)
    run = dataclasses.replace(run_of(tmp_path / "workers", "uniform"), method=own)
    assert pool.run_all([run], 1) == {}
    here = dataclasses.replace(run, folder=tmp_path / "here")
    assert without_time(read_record(run.record)) == without_time(train(here))
    assert without_time(train(here)) != without_time(train(run_of(tmp_path / "uniform", "uniform")))


def test_another_executor_and_bases_first(tmp_path):
    """Any executor of concurrent.futures works; the base of a run is added, and the run waits for it."""
    run = run_of(tmp_path, "fine_tune")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        pool.run_all([run, run_of(tmp_path, "uniform", 1)], 2, threads)
    assert is_finished(run) and is_finished(run.base) and run.base.method.name == "uniform"
    third = dataclasses.replace(run, name="third", base=run)            # a base of a base is pulled in as well
    assert [each.name for each in pool.add_bases([third])] == [run.base.name, run.name, "third"]
    before = run.base.checkpoint.stat().st_mtime_ns
    pool.run_all([run], 1, concurrent.futures.ThreadPoolExecutor(1))
    assert run.base.checkpoint.stat().st_mtime_ns == before
