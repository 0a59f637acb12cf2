"""The terminal of a command: output encoding, progress, paths, and the text of errors."""
import os
import pathlib
import sys
import time
import traceback

from tqdm import tqdm

from minigrad import MinigradError

LINE_INTERVAL = 60.0            # seconds between two lines of progress in a file, at least


def prepare():
    """Let standard output replace characters that it cannot encode, rather than raise an error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def folder(text):
    """Return the path of an option, with ~ expanded: not every shell expands it in `--out=~/x`."""
    return pathlib.Path(os.path.expanduser(text))


def reason(error):
    """Return the text of an error; of one that is neither minigrad's nor an OSError, with its type and source line."""
    if isinstance(error, MinigradError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error}\n  help: the last checkpoint is kept; --resume continues from it"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"\n  raised in {last[0].filename}, line {last[0].lineno}" if last else ""
    return f"{type(error).__name__}: {error}{where}"


class Progress:
    """The progress of a sweep: a bar on a terminal; in a file a line for each run that ends, and one a minute.

    total: number of steps; count: number of runs.
    """

    def __init__(self, total, count):
        self.count, self.ended, self.printed = count, 0, time.monotonic()
        self.bar = tqdm(total=total, unit="step", smoothing=0.05, dynamic_ncols=True, mininterval=0.5, disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def advance(self, steps, name, line=None):
        """Count the steps of a run; -n: n steps are not repeated. line: the last line of its record, or None."""
        if steps < 0:
            self.bar.total += steps
        self.bar.update(max(steps, 0))
        self.bar.set_description(f"{self.ended}/{self.count} done, {name}", refresh=False)
        if line:
            errors = {"train": f"{line['train_error']:.1f}%", "test": f"{line['test_error']:.1f}%"}
            self.bar.set_postfix(errors)
            if time.monotonic() - self.printed > LINE_INTERVAL:
                self._print_line(f"{name}, step {line['step']}: {', '.join(map(' '.join, errors.items()))} wrong")

    def end(self, name, failed):
        """Count a run that finished or failed."""
        self.ended += 1
        self.bar.set_description(f"{self.ended}/{self.count} done, {name}")
        self._print_line(f"{self.ended}/{self.count} runs done: {name}{' (failed)' * failed}")

    def restart(self, total):
        """Reset the bar to this total number of steps."""
        self.bar.reset(total)

    def _print_line(self, text):
        if self.bar.disable:
            print(text, file=sys.stderr, flush=True)
            self.printed = time.monotonic()
