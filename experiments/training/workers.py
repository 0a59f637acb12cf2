"""What a worker does: train a run to its end, or continue it for a while where none of this machine's files are seen.

A run whose worker is on another machine goes on in stretches: its files travel to the worker and back, so that whatever
worker takes the next stretch starts from the last checkpoint that came back.
"""
import contextlib
import dataclasses
import os
import pathlib
import tempfile
import threading
import time
from typing import NamedTuple

import minigrad
from minigrad import backend
from minigrad.fast import threads

from ..console import reason
from .loop import train

_deciding = threading.Lock()


class Stopped(Exception):
    """Exception that ends training between two steps: the program is being stopped, or a stretch is over."""


class Stretch(NamedTuple):
    """What became of a run in one stretch.

    Args:
        why: the reason of failure, or None.
        ended: whether the run has ended, or failed.
        files: {name: bytes} of the record and the checkpoint, where they are new.
        skipped: number of steps before this stretch, which were not repeated.
        taken: number of steps in it.
        line: the last line of the record, or None.
    """
    why: str | None
    ended: bool = True
    files: dict = {}
    skipped: int = 0
    taken: int = 0
    line: dict | None = None


def attempt(run, progress=lambda steps, line: None):
    """Train a run; return None, or if it fails the reason, a text that can be sent to another process."""
    try:
        train(run, progress)
    except Stopped:
        raise
    except Exception as error:
        return reason(error)


def read_files(run):
    """Return {name: bytes} of the files that continue a run: its record, its checkpoint, and the one it starts from."""
    paths = [run.record, run.checkpoint, *([run.base.checkpoint] if run.base else [])]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def continue_run(run, files, module, seconds):
    """Train a run in a new folder of this machine until it ends, or pauses; return the Stretch.

    It pauses at the first checkpoint that is written when `seconds` have passed. The folder is removed in any case.

    Args:
        run: the run; its own folder is not touched.
        files: {name: bytes}, see read_files.
        module: name of the array module, "numpy" or "cupy".
        seconds: length of the stretch.
    """
    start, skipped, taken, last, ended = time.monotonic(), None, 0, None, True

    def progress(steps, line):
        nonlocal skipped, taken, last
        if skipped is None:
            skipped = -steps                                # the first call: steps that are not repeated
        else:
            taken += steps
        last = line or last
        if steps == 0 and taken and time.monotonic() - start >= seconds:    # a checkpoint was written
            raise Stopped(run.name)
    if backend.name() != module:
        minigrad.use(module)
    with tempfile.TemporaryDirectory(prefix="minigrad-") as folder, _one_thread():
        there = _move(run, pathlib.Path(folder))
        for name, data in files.items():
            (there.folder / name).write_bytes(data)
        try:
            why = attempt(there, progress)
        except Stopped:
            why, ended = None, taken + skipped == run.settings.steps
        new = {name: data for name, data in read_files(there).items() if data != files.get(name)}
    return Stretch(why and why.replace(folder, str(run.folder)), ended, new, skipped or 0, taken, last)


def _move(run, folder):
    """Return the same run, and those it starts from, with its files in this folder."""
    return dataclasses.replace(run, folder=folder, base=run.base and _move(run.base, folder))


@contextlib.contextmanager
def _one_thread():
    """Use one thread: BLAS in this context; minigrad for ever, unless it has begun or MINIGRAD_THREADS is set."""
    with _deciding, environment({"MINIGRAD_THREADS": os.environ.get("MINIGRAD_THREADS", "1")}):
        threads.threads()                                   # which reads it once
    with threads.one_blas_thread:
        yield


@contextlib.contextmanager
def environment(changes):
    """Set environment variables for the processes started in this context."""
    saved = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
