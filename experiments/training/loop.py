"""The training loop for every task and method, resumable with identical bits.

All random numbers of step t come from the key (seed of the run, purpose, t), so that a run that is killed and resumed
takes the same steps as one that is not.
"""
import gc
import json
import time

import numpy as np

from minigrad import tree
from minigrad.distributed import check_equal

from .folders import make_folder
from .ranks import as_first, learned_on_first, on_first
from .runs import (
    has_full_record,
    identity,
    out_of_memory_error,
    read_lines,
    read_position,
    restore,
    write_record,
)
from .trainers import ALONE, trainer_of

SAVE_INTERVAL = 240.0           # seconds between two checkpoints, at most


def train(run, progress=lambda steps, line: None, comm=ALONE):
    """Train a run to its end, from its last checkpoint if there is one; return the lines of the record.

    A run with a full record is not trained again, unless another run starts from it and its checkpoint is missing.

    progress(steps, line) is called after every step with 1 and None, and after every checkpoint with 0 and the line of
    the evaluation before it, or None; the first call has minus the number of steps that are not repeated. comm: the
    communicator of the ranks that train the run together, see ranks.py.

    Raises NotFinite when a loss is not finite, and OutOfMemory when a step does not fit in memory; the last checkpoint
    and the record up to it are kept. Raises FileError where the folder cannot be created or written, where the
    checkpoint or the record is damaged or of another run, and where the run that this one starts from is not finished.
    Raises RankError where ranks do not have the same parameters.
    """
    start, lines, rows, before, spent = on_first(comm, lambda: _open(run))
    progress(-start, lines[-1] if lines else None)
    if start < run.settings.steps:
        with np.errstate(over="ignore", invalid="ignore"):  # fetch_rows reports what is not finite
            _steps(run, start, lines, rows, before, spent, progress, comm)
        gc.collect()                                        # a trainer and its captured step are a reference cycle
    return lines


def _open(run):
    """Return the step to start at, lines and rows up to there, all lines of the record, and the seconds of the rows."""
    make_folder(run.folder)
    start, lines, rows, before, spent = 0, [], [], read_lines(run), 0.0
    if run.checkpoint.exists():
        start, lines, rows, spent = read_position(run)
    elif has_full_record(run) and not run.is_base:           # the checkpoint was deleted, and no run needs it
        start, lines = run.settings.steps, before
    write_record(run, lines, before)
    return start, lines, rows, before, spent


def _steps(run, start, lines, rows, before, spent, progress, comm):
    trainer, writes = trainer_of(run, comm), comm.rank == 0
    learned = learned_on_first(comm, trainer, lambda: restore(run, trainer) if start else trainer.init())
    saved = time.perf_counter()
    start_time = saved - spent
    for step in range(start, run.settings.steps):
        try:
            learned, row = trainer.step(learned, step)
        except MemoryError as error:                        # NumPy's and CuPy's
            raise out_of_memory_error(run, step + 1, error) from error
        rows.append(row)
        progress(1, None)
        line = None
        if (step + 1) % run.settings.every == 0 or step + 1 == run.settings.steps:
            rows = trainer.fetch_rows(rows, step)
            line = {**run.labels, "step": step + 1, **trainer.line(learned, rows, step),
                    "seconds": time.perf_counter() - start_time}
            lines.append(line)
            rows, start_time = [], time.perf_counter()
            if writes:
                write_record(run, lines, before)
        if line or as_first(comm, time.perf_counter() - saved > SAVE_INTERVAL):
            rows, saved = trainer.fetch_rows(rows, step), time.perf_counter()
            check_equal(learned, comm)
            if writes:
                tree.save(run.checkpoint, learned, {"run": identity(run), "record": json.dumps(lines),
                                                    "step": str(step + 1), "rows": json.dumps(rows),
                                                    "seconds": str(time.perf_counter() - start_time)})
            progress(0, line)
