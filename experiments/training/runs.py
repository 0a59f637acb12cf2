"""A training run: its definition, its files, and how to read them.

NAME.jsonl is the record, with one line for each evaluation. NAME.safetensors is the checkpoint, which also holds the
record up to its step. When a run is repeated, old lines stay in the record until new ones of their step replace them.
"""
import dataclasses
import json
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from minigrad import FileError, MinigradError, ShapeError, backend, tree, xp

from ..data import Task
from ..methods import Boosted, Weighting, find_method
from .folders import check_lines, parse_json, read_record

DATA, INIT, STEPS, REBUILD, METHOD, MASKS, LOOK = range(7)  # second integer of a key: the use of its numbers
DIVERGED = 1e6                          # nats: a mean loss above it counts as divergence, even if it is finite


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of training.

    Args:
        steps: number of steps.
        rate, momentum: of SGD.
        batch: number of examples in a batch.
        every: number of steps between two lines of the record.
        clean_batch: number of clean images in a step, 0 for all.
        decay: weight decay of kernels and matrices.
        drops: the steps at which the rate drops to a tenth.
    """
    steps: int
    rate: float
    momentum: float
    batch: int
    every: int
    clean_batch: int = 0
    decay: float = 0.0
    drops: tuple[int, ...] = ()


def _as_they_are(images, rng):
    """Return images as an array of the array module in use."""
    return xp.asarray(images)


@dataclasses.dataclass(frozen=True)
class Problem:
    """The model of a run, and its input.

    init(rng, classes) -> a model that returns one score for each example (two classes), or one for each class.
    prepare(images, rng) -> the input of the model, augmented unless rng is None. By default the images as they are.
    """
    init: Callable
    prepare: Callable = _as_they_are


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run: task, problem, method, settings and seed, and the folder of its files.

    Args:
        name: of its files.
        labels: part of every line of the record: method, share, seed ...
        method: a Weighting or a Boosted; the name of one in METHODS is replaced by it.
        seed: of all its random numbers.
        task: called without arguments, only when the run is trained.
        problem: the model.
        settings: of training.
        folder: of its files.
        base: the run whose final parameters this one starts from, or None.
        is_base: whether another run will start from this one's checkpoint.
    """
    name: str
    labels: dict
    method: Weighting | Boosted
    seed: int
    task: Callable[[], Task]
    problem: Problem
    settings: Settings
    folder: pathlib.Path
    base: "Run | None" = None
    is_base: bool = False

    def __post_init__(self):
        """Look up a method that is given by its name; raise MinigradError if there is none of that name."""
        if isinstance(self.method, str):
            object.__setattr__(self, "method", find_method(self.method))

    @property
    def record(self):
        """The path of the file with one line for each evaluation."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def checkpoint(self):
        """The path of the file from which the run is resumed."""
        return self.folder / f"{self.name}.safetensors"


class NotFinite(MinigradError, ArithmeticError):
    """Error for a loss that is NaN, infinite, or so large that training has diverged."""


class OutOfMemory(MinigradError, MemoryError):
    """Error for a step that does not fit in memory."""


def _describe_kept(run):
    step = read_position(run).step if run.checkpoint.exists() else 0
    return f"{run.checkpoint}, the record up to step {step}" if step else "nothing was saved yet"


def not_finite_error(run, step, loss):
    """Return the error for this loss, with the step and the checkpoint that is kept."""
    what = f"{loss:.1e}: training has diverged" if math.isfinite(loss) else "not finite"
    return NotFinite(f"{run.name}: the loss is {what} in step {step} of method {run.method.name}\n"
                     f"  kept: {_describe_kept(run)}\n"
                     "  help: a smaller --rate, with --out FOLDER if this folder holds other results")


def out_of_memory_error(run, step, error):
    """Return the error for this MemoryError, with the batch, the memory in use and the checkpoint that is kept."""
    method, clean, used = run.method, run.settings.clean_batch or "all", ""
    count = run.settings.batch if isinstance(method, Boosted) else method.batch or run.settings.batch
    if backend.name() == "cupy":
        free, total = xp.cuda.runtime.memGetInfo()          # CuPy's pool frees nothing, so this is the peak
        used = f", with {(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB of the device in use"
    return OutOfMemory(f"{run.name}: step {step} does not fit in memory{used}: {error}\n"
                       f"  batches: {count} images, and {clean} clean ones\n"
                       f"  kept: {_describe_kept(run)}\n"
                       "  help: --resume with --jobs 1; a smaller --batch or, on CIFAR, --network with another --out; "
                       "in a program a network with checkpoint=True (nn.Checkpoint)")


def identity(run):
    """Return the JSON text that identifies the run in its checkpoint: labels, settings and base."""
    base = {"base": identity(run.base)} if run.base else {}
    return json.dumps({**run.labels, **dataclasses.asdict(run.settings), **base})


class Position(NamedTuple):
    """How far a checkpoint is.

    step: the number of steps; lines: of its record; rows: of the steps since the last line; seconds: of those steps.
    """
    step: int
    lines: list
    rows: list
    seconds: float = 0.0


def read_position(run):
    """Return the Position of a run's checkpoint.

    A checkpoint of the same run with fewer `steps` is valid for this run, if the two runs are the same up to there;
    if not, the position is step 0. Raises FileError for a damaged checkpoint, and for one of another run.
    """
    try:
        metadata, own = tree.read(run.checkpoint)[1], _parse_identity(identity(run))
        found = _parse_identity(metadata["run"])
        if _without_steps(found) != _without_steps(own) or found["steps"] > own["steps"]:
            raise FileError(f"{run.checkpoint}: the checkpoint of another run, {metadata['run']}\n"
                            "  help: --out FOLDER")
        position = _parse_progress(run, metadata)
    except (KeyError, ValueError, TypeError) as error:
        raise _foreign_error(run, error) from error
    uses_steps = not isinstance(run.method, Boosted) and run.method.host    # such a rule may read their number
    if found == own or found.get("base") == own.get("base") and not uses_steps:
        return position
    return Position(0, [], [])


def _parse_identity(text):
    """Return the identity of a run and of its base as nested dicts; raise ValueError or TypeError for other texts."""
    found = dict(parse_json(text))
    return {**found, "base": _parse_identity(found["base"])} if "base" in found else found


def _without_steps(parsed):
    return {key: _without_steps(value) if key == "base" else value for key, value in parsed.items()
            if key != "steps"}


def _parse_progress(run, metadata):
    """Return the Position in the metadata of a checkpoint; raise ValueError if it is inconsistent."""
    step, lines, rows = int(metadata["step"]), parse_json(metadata["record"]), parse_json(metadata["rows"])
    check_lines(lines)
    last = lines[-1]["step"] if lines else 0
    width = len(run.method.row_type._fields)
    if not last <= step <= run.settings.steps:
        raise ValueError(f"step {step} of {run.settings.steps}, after a line of step {last}")
    if not isinstance(rows, list) or len(rows) != step - last or not all(_is_row(row, width) for row in rows):
        raise ValueError(f"it lacks rows of {width} finite numbers for the steps since the last line")
    seconds = float(metadata.get("seconds", 0.0)) if rows else 0.0
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"{seconds} seconds since the last line")
    return Position(step, lines, rows, seconds)


def _is_row(row, width):
    return isinstance(row, list) and len(row) == width and all(
        isinstance(x, (int, float)) and math.isfinite(x) for x in row)


def restore(run, trainer):
    """Return the tree that a run had learned at its last checkpoint; raise FileError if there is no valid one."""
    if not run.checkpoint.exists():
        raise FileError(f"{run.checkpoint}: the checkpoint no longer exists\n  help: delete {run.record.name} as well; "
                        "--resume then trains the run again")
    try:
        return tree.load(run.checkpoint, trainer.template())
    except ShapeError as error:
        raise _foreign_error(run, error) from error


def _foreign_error(run, error):
    return FileError(f"{run.checkpoint}: not a checkpoint of this run ({error})\n"
                     "  help: delete it, and the run starts over")


def is_finished(run):
    """Return whether a run is fully trained and its checkpoint exists."""
    return run.checkpoint.exists() and read_position(run).step == run.settings.steps


def read_lines(run):
    """Return the lines of a run's record, none if there is no record; raise FileError for lines of another run."""
    lines = read_record(run.record) if run.record.exists() else []
    labels = json.loads(json.dumps(run.labels))
    for line in lines:
        if any(line.get(key) != value for key, value in labels.items()):
            raise FileError(f"{run.record}: the record of another run, {line}\n  help: move it away, or --out FOLDER")
    return lines


def has_full_record(run):
    """Return whether the record of a run has all its lines, so that pictures of it need no training.

    A run that was continued with more steps may have one extra line, the last one from before.
    """
    s, lines = run.settings, read_lines(run)
    if not lines or lines[-1]["step"] != s.steps or len(lines) < s.steps // s.every:
        return False
    return {line["step"] for line in lines}.issuperset(range(s.every, s.steps + 1, s.every)) and all(
        isinstance(line.get(key), (int, float)) for line in lines for key in ("train_error", "test_error"))


def split_finished(runs, failed):
    """Return the runs with a full record, and for each other run a text that says how far it got.

    failed: the names of runs that count as unfinished in any case.
    """
    complete, missing = [], []
    for run in runs:
        try:
            lines = read_lines(run)
            if has_full_record(run) and run.name not in failed:
                complete.append(run)
                continue
            progress = f"step {lines[-1]['step']} of {run.settings.steps}" if lines else "nothing is recorded"
        except FileError as error:
            progress = str(error).partition("\n")[0]
        missing.append(f"{run.name}: {progress}")
    return complete, missing


def write_record(run, lines, before=()):
    """Write the record of a run: its lines, then the lines from `before` of later steps, until they are replaced."""
    last = lines[-1]["step"] if lines else 0
    after = [line for line in before if line["step"] > last] if last < run.settings.steps else []
    tree.write_whole(run.record, "".join(json.dumps(line) + "\n" for line in [*lines, *after]).encode())
