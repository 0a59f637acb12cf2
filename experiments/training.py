"""The one training loop: any task, any method, resumable to the bit.

A run leaves two files in its folder: NAME.jsonl, one line for each evaluation, and NAME.safetensors, the checkpoint
that goes with the last line. Everything random in step t is drawn from the key (seed of the run, t), so that a run that
is killed and resumed takes the same steps as one that is not.
"""
import json
import pathlib
import shutil
import time
from typing import Any, Callable, NamedTuple

import numpy as np

from minigrad import FileError, MinigradError, mean, optim, tree, xp
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
    """What to train: a new model from a generator, the loss of each example, and the error in percent of a part."""
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

    progress(steps taken, line or None) is called as training goes on. Raises NotFinite, with the step, when a loss is
    not finite: the last checkpoint and the record up to it are kept.
    """
    lines, start = read_record(run.record), 0
    model = problem.init(generator((run.seed, INIT)))
    optimiser = optim.sgd(run.settings.rate, run.settings.momentum)
    saved = {"model": model, "state": optimiser.init(model)}
    if run.checkpoint.exists():
        saved, start = tree.load(run.checkpoint, saved), int(tree.read(run.checkpoint)[1]["step"])
    lines = [line for line in lines if line["step"] <= start]
    tree.write_whole(run.record, "".join(json.dumps(line) + "\n" for line in lines).encode())
    progress(start, lines[-1] if lines else None)
    if start < run.settings.steps:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found and reported below
            lines += _steps(run, problem, optimiser, saved, start, progress)
    return lines


def _steps(run, problem, optimiser, saved, start, progress):
    task, method, (model, state) = run.task(), METHODS[run.method], (saved["model"], saved["state"])
    pool = task.train if method.uses_clean else task.baseline
    images, labels = xp.asarray(pool.images), xp.asarray(pool.labels)
    shares = np.bincount(pool.labels) / len(pool)
    clean, test = (Batch(xp.asarray(p.images), xp.asarray(p.labels), p.labels) for p in (task.clean, task.test))
    record, lines = _Interval(run, task.minority), []
    for step in range(start, run.settings.steps):
        rng = generator((run.seed, STEPS, step))
        chosen = method.sampler(pool.labels, method.batch_size or run.settings.batch, rng)
        where = xp.asarray(chosen)
        batch = Batch(images[where], labels[where], pool.labels[chosen])
        result = method.rule(problem.loss, model, batch, clean, Context(rng, shares))
        model, state = optimiser.update(result.gradient, state, model, step)
        record.add(result, batch)
        progress(1, None)
        if (step + 1) % run.settings.every == 0 or step + 1 == run.settings.steps:
            lines.append(record.close(step + 1, problem, model, clean, test))
            with open(run.record, "a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            tree.save(run.checkpoint, {"model": model, "state": state}, {"step": str(step + 1)})
            progress(0, lines[-1])
    return lines


class _Interval:
    """What happened since the last line of the record. Values stay on the device until the line is written."""

    def __init__(self, run, minority):
        self.run, self.minority, self.steps, self.started = run, minority, [], time.perf_counter()

    def add(self, result, batch):
        rare = xp.asarray((batch.host_labels == self.minority).astype(np.float32))
        self.steps.append(xp.stack([mean(result.losses), (result.weights * rare).sum(), result.weights.sum()]))

    def close(self, step, problem, model, clean, test):
        losses, rare, total = to_host(xp.stack(self.steps)).astype(float).T
        if not np.isfinite(losses).all():
            first = step - len(losses) + int(np.argmin(np.isfinite(losses))) + 1
            raise NotFinite(f"{self.run.name}: the loss is {losses[~np.isfinite(losses)][0]} in step {first} of method "
                            f"{self.run.method}\n  kept: {self.run.checkpoint} and the record up to step "
                            f"{step - len(losses)}\n  help: a smaller --rate")
        line = {**self.run.labels, "step": step, "train_loss": losses.mean(),
                "clean_loss": float(mean(problem.loss(model, clean.images, clean.labels))),
                "test_error": 100.0 * float(mean(problem.wrong(model, test.images, test.labels))),
                "minority_weight": rare.sum() / total.sum() if total.sum() else 0.0,
                "seconds": time.perf_counter() - self.started}
        self.__init__(self.run, self.minority)
        return line


# --------------------------------------------------------------------------------------------------- files

def read_record(path):
    """The lines of a record. A last line that was cut off in writing is dropped; anything else odd is refused."""
    if not path.exists():
        return []
    *whole, rest = path.read_text().split("\n")
    try:
        return [json.loads(line) for line in whole]
    except json.JSONDecodeError as error:
        raise FileError(f"{path}: not a record of a run ({error})\n  help: move it away; the run starts again "
                        "where its checkpoint stands") from error


def prepare_folder(folder, settings, resume, megabytes):
    """Make sure, before any training, that the folder can take the results and holds no others.

    settings: a dict that says what is in the folder; kept as settings.json. Raises MinigradError if the folder holds
    results of other settings, or of the same without `resume`; FileError if it cannot be written or the disk is full.
    """
    kept = folder / "settings.json"
    if kept.exists():
        old = json.loads(kept.read_text())
        differ = [f"  {key}: {old.get(key)} there, {settings.get(key)} now"
                  for key in sorted({*old, *settings}) if old.get(key) != settings.get(key)]
        if differ:
            raise MinigradError("\n".join([f"{folder} holds results of another configuration:", *differ,
                                           "  help: choose another folder with --out"]))
        if not resume:
            raise MinigradError(f"{folder} already holds results of this configuration\n"
                                "  help: --resume continues them (finished runs are not repeated), "
                                "--out FOLDER starts anew")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < megabytes * 1e6:
            raise OSError(f"less than {megabytes:.0f} MB free")
        tree.write_whole(folder / ".probe", bytes(1 << 20))
        (folder / ".probe").unlink()
        tree.write_whole(kept, json.dumps(settings, indent=1).encode())
    except OSError as error:
        raise FileError(f"{folder}: results cannot be written there ({error})\n  help: --out FOLDER, with room for "
                        f"{megabytes:.0f} MB") from error
