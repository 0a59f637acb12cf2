"""The one training loop: any task, any method, resumable to the bit.

Everything random in step t is drawn from the key (seed of the run, what for, t), so that a run that is killed at any
moment and resumed takes the same steps as one that is not.
"""
import gc
import json
import time

import numpy as np

from minigrad import tree

from .folders import make_folder
from .runs import fully_recorded, identity, out_of_memory, position, recorded, restored, write_record
from .trainers import trainer_of

PATIENCE = 240.0                                            # seconds without a checkpoint, at most


def train(run, progress=lambda steps, line: None):
    """Train to the end, from the last checkpoint if there is one; gives the lines of the record.

    A run whose record is complete is not trained again, unless another run begins from it and the checkpoint is gone.

    progress(steps taken, line or None) is called as training goes on, first of all with the negative number of the
    steps that need not be taken again. Raises NotFinite, with the step, when a loss is not finite: the last checkpoint
    and the record up to it are kept. Raises OutOfMemory, with the batch and what memory is used, where a step does not
    fit. Raises FileError where the folder, which is made if it is not there, cannot be written, where the checkpoint or
    the record is broken or another run's, and where the run that this one begins from is not finished.
    """
    make_folder(run.folder)
    start, lines, rows, before = 0, [], [], recorded(run)
    if run.checkpoint.exists():
        start, lines, rows = position(run)
    elif fully_recorded(run) and not run.is_base:           # the checkpoint was removed, and nothing needs it
        start, lines = run.settings.steps, before
    write_record(run, lines, before)
    progress(-start, lines[-1] if lines else None)
    if start < run.settings.steps:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found and reported
            _steps(run, start, lines, rows, before, progress)
        gc.collect()                                        # a trainer and its captured step hold each other
    return lines


def _steps(run, start, lines, rows, before, progress):
    trainer = trainer_of(run)
    learned = restored(run, trainer) if start else trainer.begin()
    began = saved = time.perf_counter()
    for step in range(start, run.settings.steps):
        try:
            learned, row = trainer.step(learned, step)
        except MemoryError as error:                        # NumPy's and CuPy's
            raise out_of_memory(run, step + 1, error) from error
        rows.append(row)
        progress(1, None)
        line = None
        if (step + 1) % run.settings.every == 0 or step + 1 == run.settings.steps:
            rows = trainer.checked(rows, step)
            line = {**run.labels, "step": step + 1, **trainer.line(learned, rows, step),
                    "seconds": time.perf_counter() - began}
            lines.append(line)
            rows, began = [], time.perf_counter()
            write_record(run, lines, before)
        if line or time.perf_counter() - saved > PATIENCE:
            rows, saved = trainer.checked(rows, step), time.perf_counter()
            tree.save(run.checkpoint, learned, {"run": identity(run), "record": json.dumps(lines),
                                                "step": str(step + 1), "rows": json.dumps(rows)})
        if line:
            progress(0, line)
