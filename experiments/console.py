"""What every command does with its terminal: output that cannot fail, progress, paths, and errors in words."""
import os
import pathlib
import sys
import time
import traceback

from tqdm import tqdm

from minigrad import MinigradError

BETWEEN = 60.0                          # seconds between two lines of progress in a file, at least


def prepare():
    """Let standard output replace what its encoding does not have, so that no sign of a table can end a command."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def folder(text):
    """The path of a folder on the command line; ~ is expanded here, as `--out=~/x` is not by every shell."""
    return pathlib.Path(os.path.expanduser(text))


def reason(error):
    """An error in words: one of minigrad as it is, any other with its type and the line that raised it."""
    if isinstance(error, MinigradError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error}\n  help: the last checkpoint is kept; --resume goes on"
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"\n  raised in {place[0].filename}, line {place[0].lineno}" if place else ""
    return f"{type(error).__name__}: {error}{where}"


class Progress:
    """How far a sweep is: a bar on a terminal; in a file, which a bar would fill, a line for each run that ended.

    total: steps; count: runs. A file gets a line between two ends at most once a minute.
    """

    def __init__(self, total, count):
        self.count, self.ended, self.said = count, 0, time.monotonic()
        self.bar = tqdm(total=total, unit="step", smoothing=0.05, dynamic_ncols=True, mininterval=0.5, disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def advance(self, steps, name, line=None):
        """Count steps of a run, negative ones where they were taken before; line: of its record, if there is one."""
        if steps < 0:
            self.bar.total += steps
        self.bar.update(max(steps, 0))
        self.bar.set_description(f"{self.ended}/{self.count} done, {name}", refresh=False)
        if line:
            errors = {"train": f"{line['train_error']:.1f}%", "test": f"{line['test_error']:.1f}%"}
            self.bar.set_postfix(errors)
            if time.monotonic() - self.said > BETWEEN:
                self._say(f"{name}, step {line['step']}: {', '.join(map(' '.join, errors.items()))} wrong")

    def end(self, name, failed):
        """Count a run that ended, one way or the other."""
        self.ended += 1
        self.bar.set_description(f"{self.ended}/{self.count} done, {name}")
        self._say(f"{self.ended}/{self.count} runs done: {name}{' (failed)' * failed}")

    def restart(self, total):
        """Begin again with so many steps to take."""
        self.bar.reset(total)

    def _say(self, text):
        if self.bar.disable:
            print(text, file=sys.stderr, flush=True)
            self.said = time.monotonic()
