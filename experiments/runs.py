"""A training run: what it is, where its files are, and what they say.

NAME.jsonl holds one line for each evaluation; NAME.safetensors is the checkpoint, which holds the record up to there
as well. Lines are replaced by those of the same step, and never removed before.
"""
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from minigrad import FileError, MinigradError, ShapeError, backend, tree, xp

from .folders import check_lines, parsed, read_record
from .methods import METHODS, Boosted

DATA, INIT, STEPS, REBUILD, METHOD, MASKS, LOOK = range(7)  # the second integer of a key: what the numbers are for
DIVERGED = 1e6                          # nats: a mean loss above it is no result, though it be finite


class Settings(NamedTuple):
    """How to train. steps; rate and momentum of SGD; batch: examples in it; every: steps between lines of the record.

    clean_batch: clean images in a step, 0 for all of them. decay: of kernels and matrices. drops: the steps at which
    the rate falls to a tenth.
    """
    steps: int
    rate: float
    momentum: float
    batch: int
    every: int
    clean_batch: int = 0
    decay: float = 0.0
    drops: tuple = ()


class Problem(NamedTuple):
    """What to train: init(rng, classes) -> model, which gives one score (two classes) or one for each class;
    prepare(images, rng or None) -> what the model takes, augmented if there is a generator."""
    init: Callable
    prepare: Callable


class Run(NamedTuple):
    """One training run: what, with which method and settings, from which seed, and where its files are."""
    name: str
    labels: dict                # goes into every line of the record: method, share, seed ...
    method: str
    seed: int
    task: Any                   # () -> Task: built only when the run is really taken up
    problem: Problem
    settings: Settings
    folder: pathlib.Path
    base: Any = None            # the finished run that this one begins from
    is_base: bool = False       # whether another run is to begin from this one's checkpoint

    @property
    def record(self):
        """The file with a line for each evaluation."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def checkpoint(self):
        """The file from which the run goes on."""
        return self.folder / f"{self.name}.safetensors"


class NotFinite(MinigradError, ArithmeticError):
    """A loss that is NaN or infinite, or so large that training has diverged."""


class OutOfMemory(MinigradError, MemoryError):
    """A step that does not fit in memory."""


def _kept(run):
    step = position(run)[0] if run.checkpoint.exists() else 0
    return f"{run.checkpoint}, the record up to step {step}" if step else "nothing was saved yet"


def not_finite(run, step, loss):
    """The error to raise: where it happened, and what is kept."""
    what = f"{loss:.1e}: training has diverged" if math.isfinite(loss) else "not finite"
    return NotFinite(f"{run.name}: the loss is {what} in step {step} of method {run.method}\n  kept: {_kept(run)}\n"
                     "  help: a smaller --rate, with --out FOLDER if this one holds other results")


def out_of_memory(run, step, error):
    """The error to raise: what did not fit, and what is kept."""
    method, clean, used = METHODS[run.method], run.settings.clean_batch or "all", ""
    count = run.settings.batch if isinstance(method, Boosted) else method.batch or run.settings.batch
    if backend.name() == "cupy":
        free, total = xp.cuda.runtime.memGetInfo()          # pools give nothing back, so this is the peak
        used = f", with {(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB of the device in use"
    return OutOfMemory(f"{run.name}: step {step} does not fit in memory{used}: {error}\n"
                       f"  batches: {count} images, and {clean} clean ones\n"
                       f"  kept: {_kept(run)}\n  help: --resume with --jobs 1; on CIFAR a smaller --network; in a "
                       "program a smaller batch (Settings), or a network made with checkpoint=True (nn.Checkpoint)")


def identity(run):
    """What the run is, as its checkpoint keeps it."""
    return json.dumps({**run.labels, **run.settings._asdict(), **({"base": identity(run.base)} if run.base else {})})


def position(run):
    """What the checkpoint says: the step, the lines of the record, and the rows since the last of them.

    A checkpoint of the same run with fewer steps is one of this run as well, if its course up to there would have been
    the same; else the run begins anew, at step 0. Raises FileError for one that is broken, or of another run.
    """
    try:
        metadata, own = tree.read(run.checkpoint)[1], _described(identity(run))
        found = _described(metadata["run"])
        if _without_steps(found) != _without_steps(own) or found["steps"] > own["steps"]:
            raise FileError(f"{run.checkpoint}: the checkpoint of another run, {metadata['run']}\n"
                            "  help: --out FOLDER")
        step, lines, rows = _progress(run, metadata)
    except (KeyError, ValueError, TypeError) as error:
        raise _foreign(run, error) from error
    method = METHODS[run.method]                            # a rule on the host may look at how many steps there are
    looks = not isinstance(method, Boosted) and method.host
    if found == own or found.get("base") == own.get("base") and not looks:
        return step, lines, rows
    return 0, [], []


def _described(text):
    """The identity of a run, and of its base, as dicts. Raises ValueError or TypeError for other texts."""
    found = dict(parsed(text))
    return {**found, "base": _described(found["base"])} if "base" in found else found


def _without_steps(described):
    return {key: _without_steps(value) if key == "base" else value for key, value in described.items()
            if key != "steps"}


def _progress(run, metadata):
    """The step, the lines and the rows in the metadata of a checkpoint. Raises ValueError where they do not fit."""
    step, lines, rows = int(metadata["step"]), parsed(metadata["record"]), parsed(metadata["rows"])
    check_lines(lines)
    since = lines[-1]["step"] if lines else 0
    width = 2 if isinstance(METHODS[run.method], Boosted) else 10       # see trainers.py
    if not since <= step <= run.settings.steps:
        raise ValueError(f"step {step} of {run.settings.steps}, after a line of step {since}")
    if not isinstance(rows, list) or len(rows) != step - since or not all(_is_row(row, width) for row in rows):
        raise ValueError(f"no rows of {width} finite numbers for the steps since the last line")
    return step, lines, rows


def _is_row(row, width):
    return isinstance(row, list) and len(row) == width and all(
        isinstance(x, (int, float)) and math.isfinite(x) for x in row)


def restored(run, trainer):
    """What a run had learned at its last checkpoint. Raises FileError where there is none that fits the run."""
    if not run.checkpoint.exists():
        raise FileError(f"{run.checkpoint}: the checkpoint is not there any more\n  help: delete {run.record.name} as "
                        "well; --resume then trains the run again")
    try:
        return tree.load(run.checkpoint, trainer.blank())
    except ShapeError as error:
        raise _foreign(run, error) from error


def _foreign(run, error):
    return FileError(f"{run.checkpoint}: not a checkpoint of this run ({error})\n"
                     "  help: delete it; the run then starts again")


def finished(run):
    """Whether a run has been trained to its end, and its checkpoint is there."""
    return run.checkpoint.exists() and position(run)[0] == run.settings.steps


def recorded(run):
    """The lines that the record of a run holds; none without a record. Raises FileError for those of another run."""
    lines = read_record(run.record) if run.record.exists() else []
    labels = json.loads(json.dumps(run.labels))
    for line in lines:
        if any(line.get(key) != value for key, value in labels.items()):
            raise FileError(f"{run.record}: the record of another run, {line}\n  help: move it away, or --out FOLDER")
    return lines


def fully_recorded(run):
    """Whether the record of a run has all its lines, so that it need not be trained again to be drawn.

    There may be one more where a run was given more steps when it had ended: its last of then.
    """
    s, lines = run.settings, recorded(run)
    if not lines or lines[-1]["step"] != s.steps or len(lines) < s.steps // s.every:
        return False
    return {line["step"] for line in lines}.issuperset(range(s.every, s.steps + 1, s.every)) and all(
        isinstance(line.get(key), (int, float)) for line in lines for key in ("train_error", "test_error"))


def results(runs, failed):
    """The runs that came to their end, and a line of text for each of the others that says how far it came.

    failed: the names of those that are not to be trusted, whatever their records say.
    """
    whole, missing = [], []
    for run in runs:
        try:
            lines = recorded(run)
            if fully_recorded(run) and run.name not in failed:
                whole.append(run)
                continue
            far = f"step {lines[-1]['step']} of {run.settings.steps}" if lines else "nothing is recorded"
        except FileError as error:
            far = str(error).partition("\n")[0]
        missing.append(f"{run.name}: {far}")
    return whole, missing


def write_record(run, lines, before=()):
    """Write the lines of a run, and of those there were before the ones that come after them: they stay until then."""
    last = lines[-1]["step"] if lines else 0
    after = [line for line in before if line["step"] > last] if last < run.settings.steps else []
    tree.write_whole(run.record, "".join(json.dumps(line) + "\n" for line in [*lines, *after]).encode())
