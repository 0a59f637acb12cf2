"""The common part of the figures and tables on CIFAR: schedules, tasks, and the names of runs.

Suffixes of a method's name change its schedule: `uniform+es+ft` is plain training by the shorter schedule, then
fine-tuning on the clean set. The runs of all figures are in one folder for each mode, so that a run that two figures
need is trained once.

    schedule    steps       rate drops to a tenth at       paper, ResNet-32
    (none)      T           T / 2, 3 T / 4                 80,000: 40,000 and 60,000
    +es         3 T / 4     T / 2, 5 T / 8                 60,000: 40,000 and 50,000; also WRN-28-10's
    +half       T / 2       never                          Figure 3: 40,000 at rate 0.1
    +short      T / 4       9 T / 40                       not in the paper: 20,000, 18,000 (see below)
    +ft         T / 16      (rate / 100)                   5,000 on the clean set, after the run it is added to

uniform+short is a fair baseline: long training at a high rate fits wrong labels, and plain training that ends early has
been reported to reach 88.5 % where Table 1 has 67.97 for it (github.com/xjtushujun/meta-weight-net, issue 1).

Quick mode takes few and small images, so that 16,000 steps memorize the wrong labels, as the paper's 80,000 do.

Night mode is a night on two cores, Algorithm 1 on one and plain training on the other, with all images. With ResNet-20
a step of Algorithm 1 took 0.66 s on one core, and a plain step on the other 0.25 s; so 28,000 steps are five hours, and
the figures that compare two tasks take seven.
"""
import dataclasses
import functools
import pathlib
import textwrap
from collections.abc import Callable
from typing import NamedTuple

from minigrad import MinigradError

from .. import data
from ..data import noisy
from ..methods import Boosted
from ..training.runs import Run, Settings
from . import scripts
from .entries import parse_entry
from .networks import problem

CLASSES = {"cifar10": 10, "cifar100": 100}
NAMES = "plane car bird cat deer dog frog horse ship truck".split()
TARGETS = {"cifar10": (0, 1, 3, 5, 7), "cifar100": (7, 12, 41, 62, 85)}     # backgrounds of the paper's five runs
TARGET = {"cifar10": 3, "cifar100": 41}                                     # and of its figures
RATE, BATCH = 0.1, 100
SEVERAL = {"shares": "figure5", "cleans": "figure4"}                        # the figure that compares several values


class Mode(NamedTuple):
    """The settings of a mode."""
    steps: int                  # of the long schedule
    every: int                  # steps between two evaluations
    sizes: dict                 # of the parts of a task
    variant: str                # of the flips, see flips.py
    clean: int = 1_000          # number of clean images beside uniform flips
    pixels: int = 32            # height and width of the images that a network sees


MODES = {"quick": Mode(16_000, 1_000, {"size": 5_000, "validation": 2_000, "tests": 5_000}, "exact", 250, 16),
         "night": Mode(28_000, 1_000, {"validation": 5_000}, "paper"),
         "paper": Mode(80_000, 1_000, {"validation": 5_000}, "paper")}


class Grid(NamedTuple):
    """The runs of a figure: all combinations of method, bias, share of flips, number of clean images, and seed."""
    network: str
    methods: tuple
    biases: tuple = ("background",)
    shares: tuple = (0.4,)
    cleans: tuple = (None,)     # None: ten for each class with background flips, those of the mode with uniform flips
    seeds: tuple = (0,)
    targets: Callable = lambda name, seed: TARGET[name]


# ---------------------------------------------------------------------------------------------------- runs

def settings(entry, mode, network, steps=None, rate=None, batch=None):
    """Return the Settings of a run, by the table in the docstring of this module.

    For a run with several stages, such as uniform+es+ft, these are the settings of the last one.

    Args:
        entry: an Entry, or its name.
        mode: "quick", "night" or "paper".
        network: its name.
        steps: of the long schedule; None: those of the mode.
        rate: initial learning rate; None: 0.1.
        batch: number of images in a step, and of clean images; None: 100.

    Raises MinigradError for a suffix that would not change the schedule.
    """
    entry = parse_entry(entry) if isinstance(entry, str) else entry
    method, suffixes = entry
    for suffix in set(suffixes) - {"ft"}:
        T = MODES[mode].steps
        if _schedule(method, suffix, network, T) == _schedule(method, "", network, T):
            plain = entry.name.replace(f"+{suffix}", "")
            raise MinigradError(f"{entry.name}: +{suffix} changes nothing, as {method.name} on {network} has that "
                                f"schedule or its own\n  help: --methods {plain}")
    T, rate, batch = steps or MODES[mode].steps, rate or RATE, batch or BATCH
    steps, drops = _schedule(method, suffixes[-1] if suffixes else "", network, T)
    tuned = entry.trained_by.name == "fine_tune"
    every = 1 if isinstance(method, Boosted) else MODES[mode].every
    return Settings(steps, rate / 100 if tuned else rate, 0.9, batch, every, clean_batch=batch, decay=2e-4, drops=drops)


def _schedule(method, suffix, network, T):
    """Return the number of steps, and the steps at which the rate drops, of a method with this suffix or ""."""
    if suffix == "ft" or method.name == "fine_tune":
        return max(T // 16, 1), ()
    if method.name == "clean_only":
        return max(T // 40, 1), ()
    if isinstance(method, Boosted):
        return min(method.rounds, T), ()
    if suffix == "short":
        return max(T // 4, 1), (9 * T // 40,)
    if suffix == "half":
        return max(T // 2, 1), ()
    if suffix == "es" or network.startswith("wrn"):
        return max(3 * T // 4, 1), (T // 2, 5 * T // 8)
    return T, (T // 2, 3 * T // 4)


@functools.lru_cache(maxsize=1)
def _source(name):
    return {"cifar10": data.cifar10, "cifar100": data.cifar100}[name]()


def task(name, seed, given=None, **how):
    """Return the task of a run: tasks.noisy on CIFAR, with given labels of all training images if there are any."""
    made = noisy(*_source(name), seed, classes=CLASSES[name], **how)
    return made if given is None else data.relabel(made, given)


def clean_images(name, bias, mode):
    """Return the number of clean images for a data set, a kind of flips and a mode; in paper mode it is the paper's."""
    return MODES[mode].clean if bias == "uniform" else 10 * CLASSES[name]


def run_of(options, entry, bias, share, clean, seed):
    """Return one Run, with the run it starts from as its base.

    Args:
        options: of the command line, checked.
        entry: the Entry.
        bias: "uniform", "background", or the name of the labels of --labels.
        share: of flipped labels.
        clean: number of clean images; None: see clean_images.
        seed: of the run.
    """
    mode, target = MODES[options.mode], None
    if bias == "background":
        target = options.grid.targets(options.data, seed) if options.target is None else options.target
    clean = clean_images(options.data, bias, options.mode) if clean is None else clean
    labels = {"data": options.data, "network": options.network, "bias": bias, "share": share, "clean": clean,
              **({} if target is None else {"target": target}), "method": entry.name, "seed": seed}
    how = {"flip": data.Flip(bias, share, target, mode.variant)}
    if options.given:
        how = {"flip": data.Flip(variant=mode.variant), "given": options.given.labels}
    return Run("-".join(str(label) for label in labels.values()), labels, entry.trained_by, seed,
               functools.partial(task, options.data, seed, clean=clean, **how, **mode.sizes),
               problem(options.network, options.steps or mode.steps, mode.pixels),
               settings(entry, options.mode, options.network, options.steps, options.rate,
                        options.batch), options.out,
               run_of(options, entry.base, bias, share, clean, seed) if entry.base else None)


# ------------------------------------------------------------------------------------------------- scripts

def choose_runs(runs, wanted):
    """Return the runs for a picture of networks: wanted(run, first run) and with a checkpoint; print the others."""
    available = [run for run in runs if run.checkpoint.exists()]
    chosen = [run for run in available if wanted(run, available[0])]
    left_out = [run.name for run in runs if run not in chosen]
    if left_out:
        print(f"not drawn, of {len(runs)} runs: {', '.join(left_out)}")
    return chosen


@dataclasses.dataclass(frozen=True)
class Options(scripts.Options):
    """The options of a figure on CIFAR; `methods` are Entries once they are checked."""
    network: str | None
    shares: list | None
    cleans: list | None
    target: int | None
    labels: str | None
    grid: Grid | None = None    # of the mode
    given: data.Given | None = None


def _selection(options):
    """Return the end of a picture's name that tells it from that of the default task: "" for this."""
    def values(chosen, which):
        standard = clean_images(options.data, options.grid.biases[0], options.mode) if which == "cleans" else None
        return [standard if value is None else value for value in getattr(chosen, which)]
    parts = [options.network] * (options.network != options.grid.network)
    for which in ("shares", "cleans"):
        if values(options, which) != values(options.grid, which):
            parts += [which, *map(str, values(options, which))]
    parts += ["target", str(options.target)] * (options.target is not None)
    return "".join(f"-{part}" for part in parts)


@dataclasses.dataclass(frozen=True)
class Figure(scripts.Script):
    """A figure or table on CIFAR.

    Args:
        name: of the command.
        title: what it shows.
        grids: {mode: its Grid}.
        draw: a generator of the paths of its pictures, see grids.py.
        along: the option that may have several values, "shares" or "cleans", or None.
        needs_network: whether the report needs the networks of the runs, from their checkpoints.
    """
    name: str
    title: str
    grids: dict[str, Grid]
    draw: Callable
    along: str | None = None
    needs_network: bool = False
    Options = Options

    @property
    def about(self):
        """The description for --help."""
        _, _, schedules = __doc__.partition("\n\n")
        return f"{self.title}\n\n{schedules}"

    @property
    def defaults(self):
        """The Grids, for --help."""
        texts = {mode: f"{grid.network}; methods {' '.join(grid.methods)}; shares {' '.join(map(str, grid.shares))}; "
                       f"clean images {self._cleans(mode)}; seeds {' '.join(map(str, grid.seeds))}; "
                       f"{self._schedule(mode)}; rate {RATE}; batch {BATCH}" for mode, grid in self.grids.items()}
        return "\n".join(textwrap.fill(text, 110, initial_indent=f"  {mode:6s} ", subsequent_indent=9 * " ",
                                       break_on_hyphens=False) for mode, text in texts.items())

    def _cleans(self, mode):
        """Return the numbers of clean images of a mode, as a text."""
        def on(source):
            found = [clean or clean_images(source, bias, mode)
                     for clean in self.grids[mode].cleans for bias in self.grids[mode].biases]
            return " ".join(map(str, dict.fromkeys(found)))
        return on("cifar10") + f" (cifar100: {on('cifar100')})" * (on("cifar100") != on("cifar10"))

    def _schedule(self, mode):
        """Return the steps of a mode, as a text, and those of plain training where its network takes fewer."""
        steps, network = MODES[mode].steps, self.grids[mode].network
        own, _ = _schedule(parse_entry("uniform").method, "", network, steps)
        return f"steps {steps}" + f", of which {network} takes {own}" * (own != steps)

    def add_options(self, parser):
        """Add the options of this script alone."""
        parser.add_argument("--data", choices=tuple(CLASSES), default="cifar10",
                            help="from $MINIGRAD_DATA or a download of 170 MB (default: cifar10)")
        parser.add_argument("--network", metavar="N", help="resnet-8-1-2 (quick), resnet-8, resnet-32, resnet-20-4 "
                            "(four times as wide), standard-32 (He et al.), wrn-28-10 ...")
        parser.add_argument("--shares", type=float, nargs="+", metavar="S", help="share of flipped labels")
        parser.add_argument("--cleans", type=int, nargs="+", metavar="C", help="number of clean images")
        parser.add_argument("--target", type=int, metavar="K", help="the background class")
        parser.add_argument("--labels", metavar="FILE[:KEY]", help="instead of flips, the labels of a .npy, .npz, .pt, "
                            ".csv or .txt file, such as CIFAR-10_human.pt:worse_label")

    def check(self, options):
        """Return the options with all defaults; raise MinigradError for what it cannot show or would not change it."""
        grid, given = self.grids[options.mode], None
        if options.labels is not None:
            given = self._read_labels(options)
            cleans = tuple(clean or clean_images(options.data, grid.biases[0], options.mode) for clean in grid.cleans)
            grid = grid._replace(biases=(given.name,), shares=(given.share,), cleans=cleans)
        values = {which: scripts.choose_values(getattr(options, which), getattr(grid, which))
                  for which in ("methods", "shares", "cleans", "seeds")}
        entries = [parse_entry(name) for name in values["methods"]]
        scripts.check_methods([entry.method for entry in entries],
                              lambda method: self._reason_against(method, CLASSES[options.data]))
        for which, elsewhere in SEVERAL.items():
            first, *others = values[which]
            if others and which != self.along:
                raise MinigradError(f"--{which} {' '.join(map(str, values[which]))}: {self.name} shows one value at a "
                                    f"time\n  help: --{which} {first}; {elsewhere} compares several")
        if None not in values["cleans"] and min(values["cleans"]) < 1:
            raise MinigradError(f"--cleans {min(values['cleans'])}: it must be at least 1")
        if options.target is not None and not 0 <= options.target < CLASSES[options.data]:
            raise MinigradError(f"--target {options.target}: {options.data} has no such class\n"
                                f"  help: --target K, with K from 0 to {CLASSES[options.data] - 1}")
        if options.target is not None and "background" not in grid.biases:
            raise MinigradError(f"--target {options.target}: {self.name} has no background flips\n"
                                "  help: leave out --target")
        return dataclasses.replace(options, **values | {"methods": entries}, network=options.network or grid.network,
                                   grid=grid, given=given)

    def _read_labels(self, options):
        """Return the Given of --labels; raise MinigradError beside options of flips."""
        if self.along == "shares":
            raise MinigradError(f"--labels {options.labels}: {self.name} compares shares of flips, and the labels of a "
                                "file have one\n  help: leave out --labels; table1, table2 and figure4 show them")
        for which in ("shares", "target"):
            if getattr(options, which) is not None:
                raise MinigradError(f"--{which} beside --labels: the labels of a file are not flipped\n"
                                    f"  help: leave out --{which}, or --labels")
        return data.read_labels(options.labels, _source(options.data)[0].labels, CLASSES[options.data])

    def _reason_against(self, method, classes):
        if self.needs_network and isinstance(method, Boosted):
            return f"{self.name} needs a network, and it trains none"
        return scripts.class_mismatch(method, classes)

    def plan(self, options):
        """Return the settings to save in the folder, and the runs that the options ask for."""
        own = {"steps": MODES[options.mode].steps, "rate": RATE, "batch": BATCH}
        for name, usual in own.items():                     # None for the usual value, named or not
            own[name] = None if getattr(options, name) == usual else getattr(options, name)
        saved = {"experiment": "cifar", "mode": options.mode, **own,
                 "labels": options.given and f"{options.given.name}, {options.given.digest}"}
        if options.mode == "quick":
            saved |= {"images": MODES["quick"].sizes["size"], "pixels": MODES["quick"].pixels}
        return saved, [run_of(options, entry, bias, share, clean, seed)
                       for bias in options.grid.biases for share in options.shares for clean in options.cleans
                       for seed in options.seeds for entry in options.methods]

    def name_task(self, labels):
        """Return a name for the task of a run with these labels."""
        return f"{labels['bias']} {labels['share']}, {labels['clean']} clean"

    def report(self, options, runs, lines, caption):
        """Print tables and draw pictures; yield the paths."""
        def file(ending=""):
            return options.out / f"{self.name}-{options.data}{_selection(options)}{ending}.png"
        if options.given:
            caption += f", {options.given.share:.1%} wrong labels of {pathlib.Path(options.labels).name}"
        yield from self.draw(lines, runs, options, f"{caption}, {options.network}", file)

    def folder(self, options):
        """Return the name of the folder that all figures of a mode, or of a mode and the labels of a file, share."""
        return "-".join(filter(None, ["cifar", options.mode, options.given and options.given.name]))
