"""The terminal of a command: output encoding, progress, paths, and the text of errors."""
import argparse
import collections
import difflib
import os
import pathlib
import re
import sys
import time
import traceback

from tqdm import tqdm

from minigrad import MinigradError

LINE_INTERVAL = 30.0            # seconds between two lines of progress in a file, at least
KEPT, SPACE = "the last checkpoint is kept; --resume continues from it", "--out FOLDER, with free space"


def prepare():
    """Let standard output replace characters that it cannot encode, rather than raise an error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def folder(text):
    """Return the path of an option, with ~ expanded: not every shell expands it in `--out=~/x`."""
    return pathlib.Path(os.path.expanduser(text))


def reason(error, remedy=KEPT):
    """Return the text of an error; of one that is neither minigrad's nor an OSError, with its type and source line.

    remedy: what to do about an OSError.
    """
    if isinstance(error, MinigradError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error}\n  help: {remedy}"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"\n  raised in {last[0].filename}, line {last[0].lineno}" if last else ""
    return f"{type(error).__name__}: {error}{where}"


class Parser(argparse.ArgumentParser):
    """A parser of options that keeps the lines of texts, and answers a wrong option with the nearest right one."""

    def __init__(self, **settings):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def parse_args(self, args=None, namespace=None):
        """Return the options; print an error and exit with status 2 for wrong ones."""
        options, left = super().parse_known_args(args, namespace)
        wrong = next((each for each in left if each.startswith("-")), None)
        if wrong:
            own = [each.lstrip("-") for each in re.findall(r"--[\w-]+", self.format_usage())]
            near = difflib.get_close_matches(wrong.partition("=")[0].lstrip("-"), own, 1)   # dashes are no likeness
            name = self.prog.rpartition(".")[2]
            self.error(f"{name} has no option {wrong}" + (f"\n  help: --{near[0]}" if near else ""))
        if left:
            self.error(f"{left[0]} comes after the options\n  help: python -m experiments COMMAND ... --OPTION ...")
        return options

    def given(self, args=None):
        """Return the names of the options that these arguments give, whatever their values."""
        nothing = argparse.Namespace(**dict.fromkeys(action.dest for action in self._actions))
        return [name for name, value in vars(self.parse_args(args, nothing)).items() if value is not None]

    def error(self, message):
        """Print an error in the manner of all others, and exit with status 2."""
        remedy = "" if "\n  help:" in message else f"\n  help: {self.prog} --help lists the options"
        self.exit(2, f"error: {message}{remedy}\n")


class Progress:
    """The progress of a sweep: a bar on a terminal; elsewhere a line for each run that ends, and one every half minute.

    total: number of steps; count: number of runs; quiet: whether to show nothing.
    """

    def __init__(self, total, count, quiet=False):
        self.quiet = quiet
        self.count, self.ended, self.total, self.done = count, 0, total, 0
        self.seen, self.over = collections.Counter(), set()         # steps of each run; the runs that ended
        self.start = self.printed = time.monotonic()
        draws = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.bar = tqdm(total=total, unit="step", smoothing=0.05, dynamic_ncols=True, mininterval=0.5,
                        disable=quiet or not draws)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def advance(self, steps, name, line=None):
        """Count the steps of a run; -n: n steps are not repeated. line: the last line of its record, or None."""
        self.seen[name] += abs(steps)
        if steps < 0 or name in self.over:                  # what a worker sent before its end may arrive after it
            self.total = self.bar.total = self.total + steps
        self.done += max(steps, 0)
        self.bar.update(max(steps, 0))
        self.bar.set_description(f"{self.ended}/{self.count} done, {name}", refresh=False)
        errors = {"train": f"{line['train_error']:.1f}%", "test": f"{line['test_error']:.1f}%"} if line else {}
        if line:
            self.bar.set_postfix(errors)
        if time.monotonic() - self.printed > LINE_INTERVAL:
            at = f", step {line['step']}: {', '.join(map(' '.join, errors.items()))} wrong" if line else ""
            self._print_line(f"{name}{at}")

    def end(self, name, failed, steps=None):
        """Count a run that finished or failed. steps: its number; those that it will not take do not count any more."""
        self.ended += 1
        if steps is not None:
            self.over.add(name)
            self.total = self.bar.total = self.total - (steps - self.seen[name])
        self.bar.set_description(f"{self.ended}/{self.count} done, {name}")
        self._print_line(f"{name}{' (failed)' * failed}")

    def restart(self, total):
        """Begin to count anew, with this total number of steps."""
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.seen.clear()
        self.bar.reset(total)

    def _print_line(self, text):
        if self.bar.disable and not self.quiet:
            self.printed = time.monotonic()
            left = (self.printed - self.start) * (self.total - self.done) / self.done if self.done else None
            eta = f", {tqdm.format_interval(left)} left" if left and self.ended < self.count else ""
            print(f"{self.ended}/{self.count} runs done{eta}: {text}", file=sys.stderr, flush=True)
