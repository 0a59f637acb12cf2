"""The one training loop: any task, any method, resumable to the bit.

A run leaves two files in its folder: NAME.jsonl, one line for each evaluation, and NAME.safetensors, the checkpoint of
the last one, which holds the record up to there as well. Everything random in step t is drawn from the key (seed of
the run, t), so that a run that is killed at any moment and resumed takes the same steps as one that is not.
"""
import json
import pathlib
import shutil
import time
from typing import Any, Callable, NamedTuple

import filelock
import numpy as np

from minigrad import FileError, MinigradError, ShapeError, mean, optim, tree, xp
from minigrad.backend import seed as generator
from minigrad.backend import to_host

from .methods import METHODS, Batch, Context

DATA, INIT, STEPS = 0, 1, 2                 # the second integer of a key: what the random numbers are for


class Settings(NamedTuple):
    """How to train: steps, rate and momentum of SGD, examples in a batch, steps between two lines of the record."""
    steps: int
    rate: float
    momentum: float
    batch: int
    every: int


class Problem(NamedTuple):
    """What to train: how a model begins, the loss of each example, and which examples are classified wrongly."""
    init: Callable              # rng -> model
    loss: Callable              # model, images, labels -> (n,)
    wrong: Callable             # model, images, labels -> (n,) of booleans


class Run(NamedTuple):
    """One training run: what, with which method and settings, from which seed, and where its files are."""
    name: str
    labels: dict                # goes into every line of the record: method, share, seed ...
    method: str
    seed: int
    task: Any                   # () -> Task: built only when the run is really taken up
    settings: Settings
    folder: pathlib.Path

    @property
    def record(self):
        return self.folder / f"{self.name}.jsonl"

    @property
    def checkpoint(self):
        return self.folder / f"{self.name}.safetensors"


class NotFinite(MinigradError, ArithmeticError):
    """A loss that is NaN or infinite."""


def train(run, problem, progress=lambda steps, line: None):
    """Train to the end, from the last checkpoint if there is one; gives the lines of the record.

    progress(steps taken, line or None) is called as training goes on, first of all with the negative number of the
    steps that need not be taken again. Raises NotFinite, with the step, when a loss is not finite: the last checkpoint
    and the record up to it are kept. Raises FileError where the checkpoint is broken or another run's.
    """
    model = problem.init(generator((run.seed, INIT)))
    optimiser = optim.sgd(run.settings.rate, run.settings.momentum)
    saved = {"model": model, "state": optimiser.init(model)}
    saved, lines = _restored(run, saved) if run.checkpoint.exists() else (saved, [])
    start = lines[-1]["step"] if lines else 0
    tree.write_whole(run.record, "".join(json.dumps(line) + "\n" for line in lines).encode())
    progress(-start, lines[-1] if lines else None)
    if start < run.settings.steps:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found and reported below
            _steps(run, problem, optimiser, saved, lines, progress)
    return lines


def _identity(run):
    return json.dumps({**run.labels, **run.settings._asdict()})


def _restored(run, like):
    """What the checkpoint holds: model and optimiser state, and the lines of the record."""
    try:
        metadata = tree.read(run.checkpoint)[1]
        identity, lines = metadata["run"], json.loads(metadata["record"])
        saved = tree.load(run.checkpoint, like)
    except (ShapeError, KeyError, json.JSONDecodeError) as error:
        raise FileError(f"{run.checkpoint}: not a checkpoint of this run ({error})\n"
                        "  help: delete it; the run then starts again") from error
    if identity != _identity(run):
        raise FileError(f"{run.checkpoint}: the checkpoint of another run, {identity}\n  help: --out FOLDER")
    return saved, lines


def _steps(run, problem, optimiser, saved, lines, progress):
    task, method, (model, state) = run.task(), METHODS[run.method], (saved["model"], saved["state"])
    pool = task.train if method.uses_clean else task.baseline
    images, labels = xp.asarray(pool.images), xp.asarray(pool.labels)
    shares = np.bincount(pool.labels) / len(pool)
    clean, test = (Batch(xp.asarray(p.images), xp.asarray(p.labels), p.labels) for p in (task.clean, task.test))
    interval = _Interval(run, task.minority)
    for step in range(lines[-1]["step"] if lines else 0, run.settings.steps):
        rng = generator((run.seed, STEPS, step))
        chosen = method.sampler(pool.labels, method.batch_size or run.settings.batch, rng)
        where = xp.asarray(chosen)
        batch = Batch(images[where], labels[where], pool.labels[chosen])
        result = method.rule(problem.loss, model, batch, clean, Context(rng, shares))
        model, state = optimiser.update(result.gradient, state, model, step)
        interval.add(result, batch)
        progress(1, None)
        if (step + 1) % run.settings.every == 0 or step + 1 == run.settings.steps:
            lines.append(interval.close(step + 1, problem, model, clean, test))
            with open(run.record, "a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            tree.save(run.checkpoint, {"model": model, "state": state},
                      {"run": _identity(run), "record": json.dumps(lines)})
            progress(0, lines[-1])


class _Interval:
    """What happened since the last line of the record. Values stay on the device until the line is written."""

    def __init__(self, run, minority):
        self.run, self.minority = run, minority
        self.begin()

    def begin(self):
        self.steps, self.started = [], time.perf_counter()

    def add(self, result, batch):
        rare = xp.asarray((batch.host_labels == self.minority).astype(np.float32))
        self.steps.append(xp.stack([mean(result.losses), (result.weights * rare).sum(), result.weights.sum()]))

    def close(self, step, problem, model, clean, test):
        losses, rare, total = to_host(xp.stack(self.steps)).astype(float).T
        clean_loss = float(mean(problem.loss(model, clean.images, clean.labels)))
        if not np.isfinite(losses).all():
            self.refuse(step - len(losses) + 1 + int(np.argmin(np.isfinite(losses))), step - len(losses))
        if not np.isfinite(clean_loss):
            self.refuse(step, step - len(losses))
        line = {**self.run.labels, "step": step, "train_loss": losses.mean(), "clean_loss": clean_loss,
                "test_error": 100.0 * float(mean(problem.wrong(model, test.images, test.labels))),
                "minority_weight": rare.sum() / total.sum() if total.sum() else 0.0,
                "seconds": time.perf_counter() - self.started}
        self.begin()
        return line

    def refuse(self, step, kept):
        raise NotFinite(f"{self.run.name}: the loss is not finite in step {step} of method {self.run.method}\n  kept: "
                        + (f"{self.run.checkpoint}, the record up to step {kept}" if kept else "nothing was saved yet")
                        + "\n  help: a smaller --rate")


# --------------------------------------------------------------------------------------------------- files

def read_record(path):
    """The lines of a record. A last line that was cut off in writing is left out; anything else odd is refused."""
    *whole, _ = path.read_bytes().split(b"\n")
    try:
        lines = [json.loads(line) for line in whole]
        return sorted(lines, key=lambda line: line["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path}: not a record of a run ({error})\n  help: move it away; --resume writes it again from "
                        "the checkpoint") from error


def prepare_folder(folder, settings, resume, megabytes):
    """Make sure, before any training, that the folder can take the results and holds no others; gives its lock.

    settings: a dict that says what is in the folder; kept as settings.json. Raises MinigradError if the folder holds
    results of other settings, or of the same without `resume`, or if another process is writing there; FileError if it
    cannot be written or the disk is full. Hold the lock while you write there: it goes with the process.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
        try:
            _check_settings(folder, settings, resume)
            _check_room(folder, megabytes)
            tree.write_whole(folder / "settings.json", json.dumps(settings, indent=1).encode())
        except BaseException:
            lock.release()
            raise
        return lock
    except filelock.Timeout:
        raise MinigradError(f"{folder}: another process is writing there\n"
                            "  help: wait for it, or --out FOLDER") from None
    except OSError as error:
        if isinstance(error, MinigradError):
            raise
        raise FileError(f"{folder}: results cannot be written there ({error})\n  help: --out FOLDER, with room for "
                        f"{megabytes:.0f} MB") from error


def _check_room(folder, megabytes):
    for left_over in [*folder.glob(".*.safetensors.*"), *folder.glob(".*.jsonl.*")]:
        left_over.unlink()                                  # of a process that was killed while it wrote
    if shutil.disk_usage(folder).free < megabytes * 1e6:
        raise OSError(f"less than {megabytes:.0f} MB free")
    tree.write_whole(folder / ".probe", bytes(4 << 20))
    (folder / ".probe").unlink()


def _check_settings(folder, settings, resume):
    kept = folder / "settings.json"
    if not kept.exists():
        if any(folder.glob("*.jsonl")) or any(folder.glob("*.safetensors")):
            raise MinigradError(f"{folder} holds results, but no settings.json that says of what\n"
                                "  help: choose another folder with --out")
        return
    try:
        old = dict(json.loads(kept.read_text()))
    except (ValueError, TypeError) as error:
        raise FileError(f"{kept}: not the settings of an experiment ({error})\n"
                        "  help: choose another folder with --out") from error
    differ = [f"  {key}: {old.get(key)} there, {settings.get(key)} now"
              for key in sorted({*old, *settings}) if old.get(key) != settings.get(key)]
    if differ:
        raise MinigradError("\n".join([f"{folder} holds results of another configuration:", *differ,
                                       "  help: choose another folder with --out"]))
    if not resume:
        raise MinigradError(f"{folder} already holds results of this configuration\n  help: --resume continues them "
                            "(finished runs are not repeated), --out FOLDER starts anew")
