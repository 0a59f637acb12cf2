"""What a figure or table has to say of itself, and the options of its command: their parser, checks and defaults."""
import abc
import dataclasses
import pathlib

from minigrad import MinigradError

from .. import console
from ..methods import METHODS, Boosted

MODES = {"quick": "quick (default): minutes", "night": "night: a night on two cores",
         "paper": "paper: the authors' settings"}


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that all scripts have, see make_parser; None where none is given, until Script.check."""
    mode: str
    data: str
    methods: list | None
    seeds: list | None
    steps: int | None
    rate: float | None
    batch: int | None
    backend: str | None
    jobs: int | None
    executor: str | None
    out: pathlib.Path | None
    resume: bool
    quiet: bool


class Script(abc.ABC):
    """One figure or table: what it compares, and what it draws of the records."""
    Options = Options           # or a subclass with the fields that add_options adds
    name: str                   # of the command
    about: str                  # the description for --help
    defaults: str               # methods, seeds, steps and rate of each mode, for --help
    modes = tuple(MODES)
    grows = False               # whether a finished run continues when it is given more steps
    owns_folder = False         # whether the report is of all runs in the folder, see run_of

    @abc.abstractmethod
    def add_options(self, parser):
        """Add the options of this script alone."""

    @abc.abstractmethod
    def check(self, options):
        """Return the options with all defaults, and methods for names; raise MinigradError if they cannot be run."""

    @abc.abstractmethod
    def plan(self, options):
        """Return the settings to save in the folder, and the runs that the options ask for."""

    @abc.abstractmethod
    def name_task(self, labels):
        """Return a name for the task of a run with these labels."""

    def statements(self, runs):
        """Return {name of a task: how training differs from test in it}, of the first run of each task."""
        first = {}
        for run in runs:
            first.setdefault(self.name_task(run.labels), run)
        return {name: run.task().statement for name, run in first.items()}

    @abc.abstractmethod
    def report(self, options, runs, lines, caption):
        """Print tables and draw pictures of the finished runs, from the lines of their records; yield the paths."""

    @abc.abstractmethod
    def folder(self, options):
        """Return the name of the default folder of results, under runs/."""

    def run_of(self, options, line):
        """Return the run with this line in its record."""
        raise NotImplementedError


def make_parser(script):
    """Return the argument parser of a script."""
    methods = "\n".join(f"  {name:20s} {method.summary}. {method.source}" for name, method in METHODS.items())
    p = console.Parser(prog=f"python -m experiments.{script.name}", description=script.about,
                       epilog=f"defaults:\n{script.defaults}\n\nmethods:\n{methods}")
    what = p.add_argument_group("what to run")
    what.add_argument("--mode", choices=script.modes, default="quick", help="; ".join(
        MODES[mode] for mode in script.modes))
    script.add_options(what)
    what.add_argument("--methods", nargs="+", metavar="M", help="names of methods, see below")
    what.add_argument("--seeds", type=int, nargs="+", metavar="N", help="one run for each seed")
    what.add_argument("--steps", type=int, help="number of training steps")
    what.add_argument("--rate", type=float, help="initial learning rate; boosting has none")
    what.add_argument("--batch", type=int, metavar="N", help="images in a step, and as many clean ones on CIFAR; some "
                      "methods have a number of their own")
    how = p.add_argument_group("how to run it")
    how.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy if it works")
    how.add_argument("--jobs", type=int, help="concurrent runs, default one a core, on a GPU one; fewer share cores")
    how.add_argument("--executor", metavar="E", help="run on other machines: dask=ADDRESS, those of a Dask scheduler; "
                     "mpi, those that mpiexec starts this command on")
    how.add_argument("--out", type=console.folder, help="folder for results, default runs/...")
    how.add_argument("--resume", action="store_true",
                     help="continue the runs in the folder" + ", also with more --steps than before" * script.grows)
    how.add_argument("--quiet", action="store_true", help="print no progress: only tables, files and errors")
    return p


def choose_values(value, default):
    """Return the value, or the default if it is None, as a list without repetitions."""
    return list(dict.fromkeys(default if value is None else value))


def check_methods(methods, unfit):
    """Return the methods; raise MinigradError, with the list of those that can be used, unless all can.

    unfit: method -> the reason why it cannot be used, or None.
    """
    for method in methods:
        if why := unfit(method):
            choice = ", ".join(name for name, other in METHODS.items() if not unfit(other))
            raise MinigradError(f"{method.name} cannot be used here: {why}\n  help: choose from {choice}")
    return methods


def class_mismatch(method, classes):
    """Return the reason why a method cannot be used with this number of classes, or None."""
    if method.classes not in (None, classes):
        return f"it is for {method.classes} classes, not {classes}"
    return None


def check_options(script, options):
    """Return the options with all defaults; raise MinigradError for options that cannot be run."""
    for name, least in (("steps", 1), ("jobs", 1), ("batch", 1), ("rate", 1e-12)):
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise MinigradError(f"--{name} {value}: it must be at least {least}, and finite")
    if min(options.seeds or [0]) < 0:
        raise MinigradError(f"--seeds {min(options.seeds)}: a seed must not be negative")
    if options.executor and options.jobs:
        raise MinigradError("--jobs beside --executor: its workers decide how many runs go on at once\n"
                            "  help: leave out --jobs")
    given, options = options, script.check(script.Options(**vars(options)))
    boosted = all(isinstance(getattr(each, "method", each), Boosted) for each in options.methods)   # or Entries of them
    for name in ("rate", "batch"):
        if boosted and not options.resume and getattr(given, name) is not None:    # the folder may be made with it
            raise MinigradError(f"--{name} {getattr(given, name)}: boosting has none, it fits one weak learner a step\n"
                                f"  help: leave out --{name}")
    return dataclasses.replace(options, out=options.out or pathlib.Path("runs", script.folder(options)))


def parse_options(script, arguments):
    """Return the options with all defaults; raise MinigradError for options that cannot be run."""
    return check_options(script, make_parser(script).parse_args(arguments))
