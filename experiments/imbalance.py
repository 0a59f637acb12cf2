"""Figure 2 of the paper: two classes of handwritten digits, one of them rare, and how each method copes.

    python -m experiments.imbalance                              minutes on two cores, nothing to download
    python -m experiments.imbalance --mode paper --data mnist    the authors' settings: 5 shares x 6 methods x 10 seeds

Fours (the minority) against nines, LeNet, ten clean images, an unbiased test set. Any part of it by flags; a run that
was stopped goes on with --resume.
"""
import argparse
import functools
import pathlib
import sys

import minigrad
from minigrad import MinigradError, nn
from minigrad.backend import seed as generator
from models import lenet

from . import data, figures
from .biases import check_share, imbalance
from .methods import METHODS
from .sweep import default_jobs, run_all
from .training import DATA, Problem, Run, Settings, prepare_folder

# Paper mode: the authors' code runs their method for 4,000 steps and the others for 8,000 (the paper says 8,000 for
# all), at a constant rate (it feeds a halved one in the middle, but the optimiser was built before). Quick mode: ours.
PAPER = dict(steps=8000, rate=1e-3, momentum=0.9, batch=100, every=200)
PAPER_STEPS = {"reweight": 4000}
PAPER_SEEDS = (0, 56789, 13578, 70367, 27156, 83945, 40734, 97523, 54312, 11101)
PAPER_SHARES = (0.9, 0.95, 0.98, 0.99, 0.995)
QUICK = dict(steps=400, rate=3e-3, momentum=0.9, batch=50, every=20)


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
    p = argparse.ArgumentParser(prog="python -m experiments.imbalance", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--mode", choices=("quick", "paper"), default="quick")
    p.add_argument("--data", choices=("sample", "mnist"), default="sample")
    p.add_argument("--shares", type=float, nargs="+", metavar="S", help="of the majority class, between 0.5 and 1")
    p.add_argument("--methods", nargs="+", metavar="M", help=", ".join(METHODS))
    p.add_argument("--seeds", type=int, nargs="+", metavar="N")
    p.add_argument("--steps", type=int, help="of every method")
    p.add_argument("--rate", type=float, help="the learning rate")
    p.add_argument("--backend", choices=("numpy", "cupy"), help="default: cupy where it can run")
    p.add_argument("--jobs", type=int, help="runs at the same time, default one for each core (one on a GPU)")
    p.add_argument("--out", type=pathlib.Path, help="folder for results, default runs/imbalance-MODE-DATA")
    p.add_argument("--resume", action="store_true", help="go on with what the folder holds")
    return p


def plan(options):
    """The runs that the options ask for, after the folder for them is prepared."""
    paper = options.mode == "paper"
    methods = options.methods or (list(METHODS) if paper else ["uniform", "proportion", "reweight"])
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise MinigradError(f"there is no method {', '.join(unknown)}\n  help: choose from {', '.join(METHODS)}")
    shares = options.shares or (PAPER_SHARES if paper else (0.95, 0.99))
    for share in shares:
        check_share(share)
    if options.steps is not None and options.steps < 1:
        raise MinigradError(f"--steps {options.steps}: at least one step is needed")
    settings = Settings(**(PAPER if paper else QUICK))
    settings = settings._replace(rate=options.rate or settings.rate)
    own_steps = {} if options.steps or not paper else PAPER_STEPS
    settings = settings._replace(steps=options.steps or settings.steps)
    folder = options.out or pathlib.Path("runs", f"imbalance-{options.mode}-{options.data}")
    seeds = options.seeds or (PAPER_SEEDS if paper else (0, 1))
    kept = {"experiment": "imbalance", "mode": options.mode, "data": options.data, **settings._asdict(),
            "own_steps": own_steps}
    _source(options.data)                                   # bad data files are found before anything is written
    prepare_folder(folder, kept, options.resume, megabytes=5 + 2 * len(shares) * len(seeds) * len(methods))
    return [Run(f"{method}-{share}-{seed}", {"method": method, "share": share, "seed": seed}, method, seed,
                functools.partial(task, options.data, share, seed),
                settings._replace(steps=own_steps.get(method, settings.steps)), folder)
            for share in shares for seed in seeds for method in methods]


def main(arguments=None):
    """Run the experiment from the command line; gives the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.backend:
            minigrad.use(options.backend)
        runs = plan(options)
        print(f"imbalance, {options.mode} mode, {options.data} data, {minigrad.backend.name()}: {len(runs)} runs")
        for share in dict.fromkeys(run.labels["share"] for run in runs):
            print(f"  share {share}: {task(options.data, share, runs[0].seed).statement}")
        lines = run_all(runs, LENET, options.jobs or default_jobs())
    except MinigradError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = " ".join(["python -m experiments.imbalance", *(arguments or sys.argv[1:])]).replace(" --resume", "")
        print(f"\nstopped; nothing up to the last line of the record is lost. Go on with:\n  {again} --resume")
        return 130
    folder, data_name = runs[0].folder, f"{options.mode} mode, {options.data} data"
    print(figures.table(lines))
    for path in (figures.error_against_share(lines, folder / "error.png", data_name, options.mode == "paper"),
                 figures.weight_over_training(lines, folder / "weight.png", data_name)):
        print(f"written: {path}")
    print(f"records: {folder}/*.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
