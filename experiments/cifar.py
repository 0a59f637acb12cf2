"""What the figures and tables on CIFAR have in common: networks, schedules, tasks, and the names of their runs.

A method's name may carry what the paper adds to it: `uniform+es+ft` is plain training by the shorter schedule, then
fine-tuned on the clean set. Runs of all figures lie in one folder for each mode, so that a run that two figures need is
made once.

    schedule    steps       rate falls to a tenth at       paper, ResNet-32
    (none)      T           T / 2, 3 T / 4                 80,000: 40,000 and 60,000
    +es         3 T / 4     T / 2, 5 T / 8                 60,000: 40,000 and 50,000; also WRN-28-10's
    +half       T / 2       never                          Figure 3: 40,000 at rate 0.1
    +short      T / 4       9 T / 40                       not in the paper: 20,000, 18,000 (see below)
    +ft         T / 16      (rate / 100)                   5,000 on the clean set, after the run it is added to

uniform+short is there for fairness: long training at a high rate fits wrong labels, and plain training that ends early
has been reported to reach 88.5 % where Table 1 gives 67.97 for it (github.com/xjtushujun/meta-weight-net, issue 1).
"""
import functools
import re
from typing import Callable, NamedTuple

import models
from minigrad import MinigradError

from . import data, script
from .biases import noisy
from .folders import read_record
from .methods import METHODS
from .runs import Problem, Run, Settings

CLASSES = {"cifar10": 10, "cifar100": 100}
NAMES = "plane car bird cat deer dog frog horse ship truck".split()
TARGETS = {"cifar10": (0, 1, 3, 5, 7), "cifar100": (7, 12, 41, 62, 85)}     # the backgrounds of the paper's five runs
TARGET = {"cifar10": 3, "cifar100": 41}                                     # of its figures
SUFFIXES = ("es", "half", "short", "ft")


class Mode(NamedTuple):
    """Steps of the long schedule, how often to evaluate, the sizes of the parts of a task, form of the biases."""
    steps: int
    every: int
    sizes: dict
    form: str


MODES = {"quick": Mode(6_000, 500, {"size": 10_000, "validation": 2_000, "tests": 5_000}, "true"),
         "paper": Mode(80_000, 1_000, {"validation": 5_000}, "paper")}


class Grid(NamedTuple):
    """The runs of a figure: every method for every share of noise, number of clean images and seed."""
    network: str
    methods: tuple
    biases: tuple = ("background",)
    shares: tuple = (0.4,)
    cleans: tuple = (0,)        # 0: the paper's, ten for each class with background flips and 1,000 with uniform ones
    seeds: tuple = (0,)
    targets: Callable = lambda name, seed: TARGET[name]


# ------------------------------------------------------------------------------------------------ networks

def _init(family, depth, widen, stride, momentum, rng, classes):
    if family == "standard":
        return models.standard_resnet(rng, depth, widen, classes, momentum=momentum)
    if family == "wrn":
        return models.wide_resnet(rng, depth, widen, classes, momentum=momentum)
    return models.resnet(rng, depth, widen, classes, momentum=momentum, stride=stride)


def _prepare(images, rng):
    return data.scaled(images) if rng is None else data.augmented(images, rng)


def problem(network, steps):
    """A network by its name: resnet-32, resnet-20-4 (four times as wide), standard-32, wrn-28-10; and for quick runs
    resnet-8-1-2, whose first convolution has stride 2.

    The averages of batch norm look back over a fiftieth of training, and no further than the authors', 1,000 steps.
    """
    match = re.fullmatch(r"(resnet|standard|wrn)-(\d+)(?:-(\d+)(?:-([12]))?)?", network)
    family, *numbers = match.groups() if match else (None, 0, 0, 0)
    depth, widen, stride = (int(1 if number is None else number) for number in numbers)
    if depth % 6 != (4 if family == "wrn" else 2) or depth < 8 or not widen or (stride > 1 and family != "resnet"):
        raise MinigradError(f"there is no network {network}\n  help: resnet-8, resnet-32, resnet-20-4 (four times as "
                            "wide), standard-32 (He et al.), wrn-28-10; depths are 6 k + 2, with wrn 6 k + 4")
    momentum = max(min(1.0 - 50.0 / steps, 0.999), 0.9)
    return Problem(functools.partial(_init, family, depth, widen, stride, momentum), _prepare)


# ---------------------------------------------------------------------------------------------------- runs

def split(name):
    """"uniform+es+ft" -> "uniform", ("es", "ft"). Raises MinigradError for what cannot be."""
    method, *suffixes = name.split("+")
    script.check_known([method], METHODS)
    if suffixes != [s for s in SUFFIXES if s in suffixes] or len(set(suffixes) - {"ft"}) > 1:
        raise MinigradError(f"there is no method {name}\n  help: after {method} may stand +es, +half or +short, and "
                            "then +ft")
    return method, tuple(suffixes)


def settings(name, mode, network, steps=None, rate=None):
    """How the last part of a run with this name is trained: see the table above."""
    method, suffixes = split(name)
    T, every, rate = steps or MODES[mode].steps, MODES[mode].every, rate or 0.1
    whole = Settings(T, rate, 0.9, 100, every, clean_batch=100, decay=2e-4, drops=(T // 2, 3 * T // 4))
    if "ft" in suffixes or method == "fine_tune":
        return whole._replace(steps=max(T // 16, 1), rate=rate / 100, drops=())
    if method == "clean_only":
        return whole._replace(steps=max(T // 40, 1), drops=())
    if METHODS[method].rounds:
        return whole._replace(steps=METHODS[method].rounds, every=1, drops=())
    if "short" in suffixes:
        return whole._replace(steps=max(T // 4, 1), drops=(9 * T // 40,))
    if "es" in suffixes or network.startswith("wrn"):
        return whole._replace(steps=max(3 * T // 4, 1), drops=(T // 2, 5 * T // 8))
    return whole._replace(steps=max(T // 2, 1), drops=()) if "half" in suffixes else whole


@functools.lru_cache(maxsize=1)
def _source(name):
    return {"cifar10": data.cifar10, "cifar100": data.cifar100}[name]()


def task(name, seed, **how):
    """The task of a run: biases.noisy on CIFAR."""
    return noisy(*_source(name), seed, classes=CLASSES[name], **how)


def run_of(options, grid, name, bias, share, clean, seed):
    """One run, with the one it begins from."""
    method, suffixes = split(name)
    target = options.target if options.target is not None else grid.targets(options.data, seed)
    clean = clean or (1000 if bias == "uniform" else 10 * CLASSES[options.data])
    background = {"target": target} if bias == "background" else {}
    labels = {"data": options.data, "network": options.network, "bias": bias, "share": share, "clean": clean,
              **background, "method": name, "seed": seed}
    how = settings(name, options.mode, options.network, options.steps, options.rate)
    mode = MODES[options.mode]
    base = name.removesuffix("+ft") if "ft" in suffixes else METHODS[method].base
    return Run("-".join(str(label) for label in labels.values()), labels,
               "fine_tune" if "ft" in suffixes else method, seed,
               functools.partial(task, options.data, seed, flip=bias, share=share, clean=clean, form=mode.form,
                                 **background, **mode.sizes),
               problem(options.network, options.steps or mode.steps), how, options.out,
               run_of(options, grid, base, bias, share, clean, seed) if base else None)


# ------------------------------------------------------------------------------------------------- scripts

def figure(name, about, quick, paper, report):
    """A Script: its grid in each mode, and report(lines, runs, options, caption), which prints and draws."""
    def options(p):
        p.add_argument("--data", choices=tuple(CLASSES), default="cifar10",
                       help="from $MINIGRAD_DATA or the net, 170 MB (default: cifar10)")
        p.add_argument("--network", metavar="N", help="resnet-8-1-2 (quick), resnet-8, resnet-32, resnet-20-4 (four "
                       "times as wide), standard-32 (He et al.), wrn-28-10 ...")
        p.add_argument("--shares", type=float, nargs="+", metavar="S", help="of the labels that are flipped")
        p.add_argument("--cleans", type=int, nargs="+", metavar="C", help="numbers of clean images")
        p.add_argument("--target", type=int, metavar="K", help="the background class")

    def checked(options):
        grid = {"quick": quick, "paper": paper}[options.mode]
        options.network = options.network or grid.network
        for which in ("methods", "shares", "cleans", "seeds"):
            setattr(options, which, script.given(getattr(options, which), getattr(grid, which)))
        for method in options.methods:
            split(method)
        options.grid = grid
        return options

    def plan(options):
        kept = {"experiment": "cifar", "mode": options.mode, "steps": options.steps, "rate": options.rate}
        return kept, [run_of(options, options.grid, method, bias, share, clean, seed)
                      for bias in options.grid.biases for share in options.shares for clean in options.cleans
                      for seed in options.seeds for method in options.methods]

    def statements(options, runs):
        first = {(r.labels["bias"], r.labels["share"], r.labels["clean"]): r for r in reversed(runs)}
        return [f"  {bias} {share}, {clean} clean: {run.task().statement}"
                for (bias, share, clean), run in reversed(first.items())]

    def reported(options, runs):
        lines = [line for run in runs for line in read_record(run.record)]
        report(lines, runs, options, f"{options.mode} mode, {options.data}, {options.network}")
        print(f"records: {options.out}/*.jsonl")
    described = "\n".join(f"  {mode:6s} {grid.network}; methods {' '.join(grid.methods)}; shares "
                          f"{' '.join(map(str, grid.shares))}; seeds {' '.join(map(str, grid.seeds))}; steps "
                          f"{MODES[mode].steps}" for mode, grid in (("quick", quick), ("paper", paper)))
    return script.Script(name, f"{about}\n\n{__doc__}", described, options, checked, plan, statements, reported,
                         lambda options: f"cifar-{options.mode}")
