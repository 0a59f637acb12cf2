"""Runs on other machines: stretches, lost workers, Dask and MPI with real processes; the bits are those of one machine."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types

import pytest

from experiments import command_line
from experiments.paper import figure2, scripts
from experiments.training import executors, loop, pool, workers
from experiments.training.folders import prepare_folder, read_record
from experiments.training.loop import train
from experiments.training.runs import is_finished
from minigrad import MinigradError, backend

from .. import requirements
from .test_cifar import Here
from .test_kill import same
from .test_training import run_of

ROOT = pathlib.Path(command_line.__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGRAD_BACKEND": "numpy", "PYTHONUNBUFFERED": "1"}
SWEEP = ["imbalance", "--shares", "0.95", "--batch", "10"]
LIMIT = 100                                                 # seconds for any process; they take three to ten


class Elsewhere:
    """An executor that works at once, on what a network would carry, while the folder of the runs is out of sight."""

    def __init__(self, folder):
        self.folder, self.hidden = folder, folder.with_name("hidden")
        self.stretches = []

    def submit(self, f, *args):
        assert len(self.stretches) < 100                    # none begins again for ever
        f, args, future = pickle.loads(pickle.dumps(f)), pickle.loads(pickle.dumps(args)), concurrent.futures.Future()
        self.folder.rename(self.hidden)
        future.set_result(pickle.loads(pickle.dumps(f(*args))))
        assert not self.folder.exists()
        self.hidden.rename(self.folder)
        self.stretches.append((args[0].name, future.result()))
        return future

    def taken(self, run):
        return [(stretch.skipped, stretch.taken) for name, stretch in self.stretches if name == run.name]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Return an Elsewhere for runs in tmp_path / "here", whose temporary folders must be gone at the end."""
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there"))
    yield Elsewhere(tmp_path / "here")
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("method", ["reweight", "fine_tune", "mentor"])
def test_a_run_goes_on_in_stretches_with_the_same_bits(tmp_path, elsewhere, monkeypatch, method):
    """A checkpoint after each step, and a stretch for each; the base of the run travels with it."""
    whole, run = run_of(tmp_path / "whole", method, steps=25), run_of(tmp_path / "here", method, steps=25)
    for each in filter(None, [whole.base, whole]):
        train(each)
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 0.0)
    assert pool.run_all([run], 1, elsewhere, quiet=True) == {}
    same(run, whole)
    assert elsewhere.taken(run) == [(step, 1) for step in range(25)]
    kept = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    assert len(kept) == (4 if run.base else 2)
    assert pool.run_all([run], 1, elsewhere, quiet=True) == {} and elsewhere.taken(run)[-1] == (25, 0)
    assert kept == {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}    # nothing is written again


def test_a_stretch_lasts_as_long_as_it_is_told(tmp_path, elsewhere, monkeypatch):
    """It ends with a checkpoint; here there is one for each of the three lines of the record, and one stretch for all."""
    run = run_of(tmp_path / "here")
    monkeypatch.setattr(pool, "loop", types.SimpleNamespace(SAVE_INTERVAL=0.0))
    pool.run_all([run], 1, elsewhere, quiet=True)
    assert elsewhere.taken(run) == [(0, 20), (20, 20), (40, 20)]
    monkeypatch.setattr(pool, "loop", types.SimpleNamespace(SAVE_INTERVAL=60.0))
    other = run_of(tmp_path / "here", key=1)
    pool.run_all([other], 1, elsewhere, quiet=True)
    assert elsewhere.taken(other) == [(0, 60)]


def test_a_failing_run_fails_alone_and_names_its_own_files(tmp_path, elsewhere):
    bad, good = run_of(tmp_path / "here", key=0, steps=20), run_of(tmp_path / "here", key=1, steps=20)
    bad.record.write_text('{"step": 1, "method": "another"}\n')
    failed = pool.run_all([bad, good], 1, elsewhere, quiet=True)
    assert list(failed) == [bad.name] and f"{bad.record}: the record of another run" in failed[bad.name]
    assert is_finished(good) and bad.record.read_text() == '{"step": 1, "method": "another"}\n'


def test_what_a_failing_run_reached_comes_back(tmp_path, elsewhere, monkeypatch):
    """The loss is not finite in step 30; the checkpoint of step 20 is kept, under its own name."""
    run, fetch = run_of(tmp_path / "here"), loop.trainer_of

    def trainer_of(run, comm):
        trainer = fetch(run, comm)
        step = trainer.step
        trainer.step = lambda learned, t: step(learned, t) if t < 30 else 1 / 0
        return trainer
    monkeypatch.setattr(loop, "trainer_of", trainer_of)
    assert "ZeroDivisionError" in pool.run_all([run], 1, elsewhere, quiet=True)[run.name]
    assert [line["step"] for line in read_record(run.record)] == [20] and run.checkpoint.exists()
    monkeypatch.setattr(loop, "trainer_of", fetch)
    assert pool.run_all([run], 1, elsewhere, quiet=True) == {} and elsewhere.taken(run) == [(0, 30), (20, 40)]


def test_a_run_whose_worker_is_lost_for_good_keeps_what_came_back(tmp_path, elsewhere, monkeypatch):
    """The second stretch is lost with its worker, again and again; the other run goes on."""
    run, other = run_of(tmp_path / "here"), run_of(tmp_path / "here", "uniform")
    submit = elsewhere.submit

    def lossy(f, task, *args):
        if task is not None and task.name == run.name and elsewhere.taken(run):
            raise RuntimeError("all those workers died")
        return submit(f, task, *args)
    monkeypatch.setattr(elsewhere, "submit", lossy)
    monkeypatch.setattr(pool, "loop", types.SimpleNamespace(SAVE_INTERVAL=0.0))
    failed = pool.run_all([run, other], 1, elsewhere, quiet=True)
    assert list(failed) == [run.name] and is_finished(other)
    assert "all those workers died" in failed[run.name] and "help: --resume continues from the last checkpoint" in failed[run.name]
    monkeypatch.setattr(elsewhere, "submit", submit)
    assert pool.run_all([run], 1, elsewhere, quiet=True) == {} and elsewhere.taken(run) == [(0, 20), (20, 20), (40, 20)]


def test_a_full_disk_here_fails_the_run(tmp_path, elsewhere, monkeypatch):
    def full(path, data):
        raise OSError("No space left on device")
    monkeypatch.setattr(pool, "tree", types.SimpleNamespace(write_whole=full))
    run = run_of(tmp_path / "here", steps=20)
    assert "No space left on device" in pool.run_all([run], 1, elsewhere, quiet=True)[run.name]


def test_no_more_runs_are_submitted_than_there_is_room_for(tmp_path):
    """Also when one of several ends, and when there is less room than before."""
    runs, rooms, futures, counts = [run_of(tmp_path, key=key, steps=20) for key in range(6)], [3, 3, 1], [], []

    def room():
        return rooms.pop(0) if len(rooms) > 1 else rooms[0]

    def submit(run):
        futures.append(concurrent.futures.Future())
        return futures[-1]

    def take(run, future):
        ended[run.name] = None
    ended, going = {}, {}

    def wait(waiting, *how):
        """Count the runs that go on, and let the oldest one end."""
        counts.append(len(waiting))
        oldest = next(future for future in futures if future in waiting)
        return {oldest}, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.concurrent.futures, "wait", wait)
        pool._run_in_order(submit, runs, ended, going, take, room)
    assert counts == [3, 3, 2, 1, 1, 1] and list(ended) == [run.name for run in runs]


def test_the_first_runs_go_on_before_others_begin(tmp_path, elsewhere, monkeypatch):
    """With room for one: no run waits halfway while others take turns."""
    runs = [run_of(tmp_path / "here", key=key, steps=40) for key in range(3)]
    elsewhere.room = lambda: 1
    monkeypatch.setattr(pool, "loop", types.SimpleNamespace(SAVE_INTERVAL=0.0))
    pool.run_all(runs, 1, elsewhere, quiet=True)
    assert [name for name, _ in elsewhere.stretches] == [run.name for run in runs for _ in range(2)]


def test_the_bar_counts_the_steps_that_come_back(tmp_path, elsewhere, monkeypatch):
    run, seen = run_of(tmp_path / "here"), []
    monkeypatch.setattr(pool, "loop", types.SimpleNamespace(SAVE_INTERVAL=0.0))
    monkeypatch.setattr(pool.Progress, "advance", lambda bar, steps, name, line=None: seen.append((steps, line and line["step"])))
    pool.run_all([run], 1, elsewhere, quiet=True)
    assert seen == [(0, None), (20, 20), (20, 40), (20, 60)]
    seen.clear()
    pool.run_all([run], 1, elsewhere, quiet=True)
    assert seen == [(-60, None), (0, 60)]


class Waiting:
    """An executor whose second task is interrupted; the first one does not begin before that."""

    def __init__(self, end):
        self.end, self.futures = end, []

    def submit(self, *work):
        self.futures.append(concurrent.futures.Future())
        if len(self.futures) == 2:
            self.end(self.futures)
        return self.futures[-1]


def test_ctrl_c_cancels_what_has_not_begun(tmp_path):
    def interrupt(futures):
        raise KeyboardInterrupt
    queue = Waiting(interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.run_all([run_of(tmp_path, key=key) for key in (0, 1)], 1, queue, quiet=True)
    assert queue.futures[0].cancelled()


def test_a_scheduler_that_gives_up_a_run_is_an_error(tmp_path):
    queue = Waiting(lambda futures: [each.cancel() and each.set_running_or_notify_cancel() for each in futures])      # as Dask does
    with pytest.raises(MinigradError, match="the executor broke down: it gave up a run\n  help: --resume"):
        pool.run_all([run_of(tmp_path, key=key) for key in (0, 1)], 1, queue, quiet=True)


# ------------------------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize("arguments, says", [
    (["--executor", "slurm"], "--executor slurm: there is no such executor\n  help: dask=ADDRESS"),
    (["--executor=dask"], "--executor dask: there is no such executor"), (["--executor=mpi=3"], "--executor mpi=3: there is no such"),
    (["--executor", "dask=tcp://a:1"], "it needs a package that cannot be imported (import of distributed halted"),
    (["--exec=dask=tcp://a:1"], "help: pip install -e '.[cluster]'"), (["--executor", "mpi"], "help: pip install -e '.[mpi]'")])
def test_executors_that_cannot_be_had(tmp_path, capsys, monkeypatch, arguments, says):
    """Nothing is written; the packages are hidden, so that this is tested where they are as well."""
    for name in ("dask", "distributed", "mpi4py"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "dask", types.ModuleType("dask"))
    assert command_line.main([*SWEEP, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_mpi_with_one_process_is_refused(tmp_path, capsys, monkeypatch):
    alone, futures = types.ModuleType("mpi4py"), types.ModuleType("mpi4py.futures")
    alone.MPI, futures.MPICommExecutor = types.SimpleNamespace(COMM_WORLD=types.SimpleNamespace(size=1, rank=0)), None
    monkeypatch.setitem(sys.modules, "mpi4py", alone)
    monkeypatch.setitem(sys.modules, "mpi4py.futures", futures)
    assert command_line.main([*SWEEP, "--executor", "mpi", "--out", str(tmp_path / "out")]) == 2
    assert "help: mpiexec -n 5 python -m experiments" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_jobs_beside_an_executor_are_refused_and_help_opens_none(tmp_path, capsys, monkeypatch):
    with pytest.raises(MinigradError, match="--jobs beside --executor: its workers decide"):
        scripts.parse_options(figure2.SCRIPTS["imbalance"], ["--executor", "dask=tcp://a:1", "--jobs", "2"])
    monkeypatch.setattr(executors, "_dask", lambda address: pytest.fail("it was opened"))
    with pytest.raises(SystemExit) as end:
        command_line.main(["imbalance", "--executor", "dask=tcp://a:1", "--help"])
    assert end.value.code == 0 and "--executor E" in capsys.readouterr().out


def test_a_scheduler_without_workers_for_long_breaks_the_sweep(monkeypatch):
    now, threads = [0.0], {}
    monkeypatch.setattr(executors.time, "monotonic", lambda: now[0])
    client = types.SimpleNamespace(nthreads=lambda: threads, get_executor=lambda pure: types.SimpleNamespace(submit=None))
    dask = executors._DaskExecutor(client, "tcp://a:1")
    now[0] = 299.0
    assert dask.room() == 1                                 # a task may wait for a worker
    threads.update(a=1, b=2)
    assert dask.room() == 3
    threads.clear()
    now[0] += 299.0
    assert dask.room() == 1
    now[0] += 2.0
    with pytest.raises(concurrent.futures.BrokenExecutor, match="tcp://a:1 has had no worker for 300 s"):
        dask.room()
    client.nthreads = lambda: exec("raise OSError('closed')")
    with pytest.raises(concurrent.futures.BrokenExecutor, match="the scheduler at tcp://a:1 is gone"):
        dask.room()


@pytest.mark.parametrize("version, says", [
    ("0.0.1", "its worker b has minigrad 0.0.1, and this program"), (ImportError("No module"), "its worker b cannot import the experiments")])
def test_workers_of_another_kind_are_refused(version, says):
    answers = {"a": executors.minigrad.__version__}
    client = types.SimpleNamespace(run=lambda f, name, on_error: {each: f(name) for each in "a"} | answers)
    executors._check_workers(client, "tcp://a:1")
    answers["b"] = version
    with pytest.raises(MinigradError, match=says):
        executors._check_workers(client, "tcp://a:1")


# ------------------------------------------------------------------------------------------------- real processes

@contextlib.contextmanager
def started(*command, **how):
    """Run a process in the background, and kill it in the end."""
    process = subprocess.Popen([*map(str, command)], env={**ENVIRONMENT, **how.pop("env", {})}, **how)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(true):
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def plan_of(out, *arguments):
    """Return settings and runs of the sweep in a folder."""
    script = figure2.SCRIPTS["imbalance"]
    return script.plan(scripts.parse_options(script, [*SWEEP[1:], *arguments, "--out", str(out)]))


def check(out, *arguments):
    """Compare the runs in a folder with the same ones trained in this process."""
    for run, other in zip(plan_of(out, *arguments)[1], plan_of(out.with_name("whole"), *arguments)[1]):
        for each in filter(None, [other.base, other]):
            train(each)
        same(run, other)


@pytest.fixture
def scheduler(tmp_path):
    """Return the address of a Dask scheduler."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "scheduler.log"
    with log.open("w") as file, started(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
                                        "--port", port, "--no-dashboard", stderr=file):
        wait_until(lambda: "Scheduler at" in log.read_text())
        yield f"tcp://127.0.0.1:{port}"


@contextlib.contextmanager
def worker(address, folder):
    """Start a Dask worker with a working directory and a folder for temporary files of its own."""
    folder.mkdir()
    with (folder / "log").open("w") as file, started(
            sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard", "--no-nanny", "--nthreads", 1,
            cwd=folder, stderr=file, env={"TMPDIR": str(folder)}) as process:
        yield process


@contextlib.contextmanager
def registered(*folders):
    """Wait for these workers."""
    wait_until(lambda: all("Registered to" in (folder / "log").read_text() for folder in folders))
    yield


QUICK_STRETCHES = """
import sys
import matplotlib.figure
from experiments import command_line
from experiments.training import executors, loop, pool
matplotlib.figure.Figure.savefig = lambda figure, path, **how: None         # it takes seconds
loop.SAVE_INTERVAL = 0.0
pool.Progress.advance = lambda bar, steps, name, line=None: print("advance", name, steps)
sys.exit(command_line.main())
"""


@pytest.mark.needs("dask")
def test_a_dask_worker_that_is_killed_is_replaced(tmp_path, scheduler):
    """A third run fails, alone. Two are left and two workers; one is killed in a stretch that began from a checkpoint."""
    out, runs = tmp_path / "out", ["--methods", "uniform", "--steps", "100", "--seeds", "1", "2"]
    settings, (*others, bad) = plan_of(out, *runs, "3")
    prepare_folder(out, settings, False, 5).close()
    bad.record.write_text('{"step": 1, "method": "another"}\n')
    folders = tmp_path / "first", tmp_path / "second"
    def in_the_middle():
        assert sweep.poll() is None
        return any((out / path.name).exists() for path in folders[0].glob("minigrad-*/*.safetensors"))
    with worker(scheduler, folders[0]) as victim, worker(scheduler, folders[1]), registered(*folders), started(
            sys.executable, "-c", QUICK_STRETCHES, *SWEEP, *runs, "3", "--executor", f"dask={scheduler}", "--resume", "--out", out,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sweep:
        wait_until(in_the_middle)
        os.kill(victim.pid, signal.SIGSTOP)
        while not in_the_middle():                          # it was between two stretches
            os.kill(victim.pid, signal.SIGCONT)
            wait_until(in_the_middle)
            os.kill(victim.pid, signal.SIGSTOP)
        victim.kill()
        text, errors = sweep.communicate(timeout=LIMIT)
    assert sweep.returncode == 1, errors
    assert errors.count("failed:") == 1 and f"{bad.record}: the record of another run" in errors and "Traceback" not in errors
    steps = [line.split()[1:] for line in text.splitlines() if line.startswith("advance")]
    for run in others:
        assert [int(step) for name, step in steps if name == run.name] == [0, *[20] * 5]    # 20 steps that were lost count once
    assert list(folders[0].glob("minigrad-*")) and not list(folders[1].glob("minigrad-*"))  # killed in the middle
    check(out, *runs)
    assert json.loads((out / "plan.json").read_text())["starts"][-1]["options"]["executor"] == f"dask={scheduler}"


@pytest.mark.needs("dask")
def test_a_scheduler_without_workers(tmp_path, scheduler):
    out, runs = tmp_path / "out", ["--methods", "uniform", "--seeds", "0", "--steps", "20"]
    short = QUICK_STRETCHES.replace("loop.SAVE", "executors.PATIENCE = 0.5; loop.SAVE")
    done = subprocess.run([sys.executable, "-c", short, *SWEEP, *runs, "--executor", f"dask={scheduler}", "--out", out],
                          capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT)
    assert done.returncode == 2 and not out.exists() and "Traceback" not in done.stderr
    assert f"waiting for a worker of {scheduler}" in done.stderr and f"help: dask worker {scheduler}" in done.stderr


@pytest.mark.needs("dask")
@pytest.mark.parametrize("listens", [False, True])
def test_an_address_without_a_scheduler(tmp_path, capsys, monkeypatch, listens):
    """Nobody listens there, or something that never answers."""
    monkeypatch.setattr(executors, "ANSWER", 0.5)
    server = socket.create_server(("127.0.0.1", 0))
    with server if listens else contextlib.nullcontext():
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if not listens:
            server.close()
        assert command_line.main([*SWEEP, "--executor", f"dask={address}", "--out", str(tmp_path / "out")]) == 2
    assert f"--executor dask={address}: no scheduler answers there" in capsys.readouterr().err and not (tmp_path / "out").exists()


def mpi(out, *arguments, ranks=3, code=QUICK_STRETCHES):
    return [requirements.mpiexec(), "-n", str(ranks), sys.executable, "-c", code, *SWEEP, "--executor", "mpi", "--out", str(out), *arguments]


@pytest.mark.needs("mpi")
def test_mpi_from_end_to_end(tmp_path):
    """Rank 0 alone writes and prints, and a mistake is told once and ends all ranks."""
    out, runs = tmp_path / "out", ["--methods", "uniform", "fine_tune", "--seeds", "0", "--steps", "40"]
    done = subprocess.run(mpi(out, *runs), capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written:") == 3 and done.stdout.count("records:") == 1 and "Traceback" not in done.stderr
    check(out, *runs)
    for arguments, says in ((runs, "--resume continues them"), (["--stepz", "1"], "has no option --stepz")):
        done = subprocess.run(mpi(out, *arguments, ranks=2), capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT)
        assert done.returncode and done.stderr.count("error:") == 1 and says in done.stderr and "written" not in done.stdout


@pytest.mark.needs("mpi")
def test_ctrl_c_ends_all_ranks(tmp_path):
    """mpiexec sends it to all: one in a stretch that would last for an hour, and one that waits. What came back is kept."""
    out, runs = tmp_path / "out", ["--methods", "uniform", "--seeds", "0", "--steps", "1000000"]
    long = QUICK_STRETCHES.replace('print("advance", name, steps)', 'steps and setattr(loop, "SAVE_INTERVAL", 3600.0)')
    with started(*mpi(out, *runs, code=long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                 preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as sweep:
        wait_until(lambda: list(out.glob("*.safetensors")) or sweep.poll() is not None)
        time.sleep(0.5)                                     # until the next stretch has begun
        sweep.send_signal(signal.SIGINT)
        text, errors = sweep.communicate(timeout=LIMIT)     # all ranks have closed their ends
    assert sweep.returncode == 130 and text.count("stopped; everything up to the last line of the record is kept") == 1
    assert "  mpiexec -n 3 python -m experiments imbalance" in text and "--executor mpi" in text and "Traceback" not in errors and list(out.glob("*.safetensors"))


def test_a_run_that_fails_says_why_even_where_its_files_cannot_be_written(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError("no space left")
    monkeypatch.setattr(pool.tree, "write_whole", full)
    for why, said in ((None, "no space left\n  help: "), ("it diverged", "it diverged")):
        monkeypatch.setattr(pool, "continue_run", lambda *args, why=why: workers.Stretch(why, files={"a.jsonl": b""}))
        run = run_of(tmp_path, "uniform")
        assert pool.run_all([run], 1, Here(), quiet=True)[run.name].startswith(said)


def test_a_stretch_tells_the_last_line_also_where_it_ends_later(tmp_path, monkeypatch):
    def attempt(run, progress):
        for steps, line in ((-3, None), (1, None), (0, {"step": 4}), (1, None), (0, {"step": 5}), (1, None), (0, None)):
            progress(steps, line)
    monkeypatch.setattr(workers, "attempt", attempt)
    assert workers.continue_run(run_of(tmp_path, "uniform"), {}, backend.name(), 1e9)[:6] == (None, True, {}, 3, 3, {"step": 5})


def test_ranks_that_are_done_are_forgotten():
    """A sweep of a night submits thousands of stretches, each with a checkpoint."""
    futures = [concurrent.futures.Future() for _ in range(9)]
    executor = executors._MPIExecutor(types.SimpleNamespace(num_workers=3, submit=lambda *work: futures[work[0]]))
    for k, future in enumerate(futures):
        assert executor.submit(k) is future and executor.going == [each for each in futures[:k + 1] if not each.done()]
        if k % 3:
            future.set_result(k)
