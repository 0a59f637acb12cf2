"""Three public tables with imbalance and wrong labels: Algorithm 1 beside scikit-learn and imbalanced-learn.

    python -m experiments tables                     a few minutes on two cores, nothing to download

Breast cancer (2 classes, 30 columns), wine (3, 13) and digits (10, 64), three quarters of each for training:

    imbalance   of the first half of the classes every 20th row is kept
    flips       40 % of the labels are wrong, any other class being equally likely
    both        first the one, then the other

A few rows of each class are clean: never left out, and known to have the right label. They are in the training set of
every method. Methods marked * also know which rows these are, and repeat them until they are half of the set, train on
them alone, or use them in Algorithm 1. All columns are standardized. The score is the balanced accuracy on the other
quarter, all labels of which are right.

All settings are the libraries' defaults, but for the most passes of a network: 100, and 1,000 on the clean rows alone,
which make one batch. Nothing is tuned. scikit-learn's network stops before where its loss no longer falls.
"""
import concurrent.futures
import functools
import json
import multiprocessing
import pathlib
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from imblearn.ensemble import BalancedRandomForestClassifier
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from minigrad import MinigradError, tree
from minigrad.backend import generator
from minigrad.estimators import ReweightedClassifier

from .. import console
from ..data import NO_FLIP, Flip
from ..figures import tables as figures
from ..training.folders import lock_folder
from ..training.pool import THREADS, default_jobs, environment

TABLES = {"breast cancer": load_breast_cancer, "wine": load_wine, "digits": load_digits}
KEPT = 20                           # of a rare class every 20th row is kept
FLIP = Flip("uniform", 0.4)
BIASES = {"imbalance": (True, NO_FLIP), "flips": (False, FLIP), "both": (True, FLIP)}
PASSES = 100
SEEDS, CLEAN = range(5), 5


class Method(NamedTuple):
    """A classifier, and the rows that it is trained on.

    rows: "all"; "half", the clean ones repeated until they are half of the set; "clean", these alone; "marked", all,
    and `fit` gets the mask of the clean ones.
    """
    make: Callable[..., Any]        # random_state=seed -> classifier
    rows: str = "all"


_mlp = functools.partial(MLPClassifier, max_iter=PASSES)
_logistic = functools.partial(LogisticRegression, class_weight="balanced", max_iter=1000)
_forest = functools.partial(RandomForestClassifier, class_weight="balanced")
_ours = functools.partial(ReweightedClassifier, max_iter=PASSES)


def _over_sampled(random_state):
    return make_pipeline(RandomOverSampler(random_state=random_state), _mlp(random_state=random_state))


METHODS = {
    "MLPClassifier": Method(_mlp),
    "MLPClassifier, early stopping": Method(functools.partial(_mlp, early_stopping=True)),
    "MLPClassifier, clean rows half *": Method(_mlp, "half"),
    "MLPClassifier, clean rows alone *": Method(functools.partial(MLPClassifier, max_iter=1000), "clean"),
    "LogisticRegression, balanced": Method(_logistic),
    "LogisticRegression, balanced, clean rows half *": Method(_logistic, "half"),
    "RandomForest, balanced": Method(_forest),
    "RandomForest, balanced, clean rows half *": Method(_forest, "half"),
    "RandomOverSampler + MLPClassifier": Method(_over_sampled),
    "BalancedRandomForest": Method(BalancedRandomForestClassifier),
    "ReweightedClassifier, uniform": Method(functools.partial(_ours, method="uniform")),
    "ReweightedClassifier, proportion": Method(functools.partial(_ours, method="proportion")),
    "ReweightedClassifier, proportion, 10 passes": Method(functools.partial(_ours, method="proportion", max_iter=10)),
    "ReweightedClassifier, Algorithm 1 *": Method(_ours, "marked"),
}


class Task(NamedTuple):
    """A biased table: its training set, the mask of the rows known to be right, and the test set."""
    X: Any
    y: Any
    clean: Any
    X_test: Any
    y_test: Any


def task(table, bias, seed, clean=CLEAN):
    """Return the Task of this table, bias and seed, with this many clean rows of each class."""
    rare, flip = BIASES[bias]
    X, y = TABLES[table](return_X_y=True)
    classes = len(np.unique(y))
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    if np.bincount(y).min() <= clean:
        raise MinigradError(f"--clean {clean}: the smallest class of {table} has {np.bincount(y).min()} rows in all\n"
                            "  help: choose fewer")
    rank = np.zeros(len(y), int)                # of a row among those of its class: the rows were shuffled
    for c in range(classes):
        rank[y == c] = np.arange(np.sum(y == c))
    kept = (rank < clean) | ((rank - clean) % KEPT == 0) | (not rare) | (y >= classes // 2)
    X, y, known = X[kept], y[kept], rank[kept] < clean
    y[~known] = flip(y[~known], classes, generator(seed))
    scaler = StandardScaler().fit(X)
    return Task(scaler.transform(X), y, known, scaler.transform(X_test), y_test)


def score(method, found, seed):
    """Train a Method on a Task, and return its balanced accuracy on the test set in percent."""
    everything, known = np.arange(len(found.y)), np.flatnonzero(found.clean)
    more = max(len(everything) - 2 * len(known), 0)
    rows = {"half": np.concatenate([everything, np.resize(known, more)]), "clean": known}.get(method.rows, everything)
    mask = {"clean": found.clean} if method.rows == "marked" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)         # the number of passes is chosen
        model = method.make(random_state=seed).fit(found.X[rows], found.y[rows], **mask)
    return 100.0 * float(balanced_accuracy_score(found.y_test, model.predict(found.X_test)))


def records(table, bias, seed, clean=CLEAN):
    """Return the lines of the record of one task, one for each method."""
    found = task(table, bias, seed, clean)
    return [{"table": table, "bias": bias, "clean": clean, "method": name, "seed": seed,
             "balanced_accuracy": score(method, found, seed)} for name, method in METHODS.items()]


def run_all(tasks, jobs):
    """Return the lines of all tasks, the arguments of `records`, in their order, from processes of one thread each."""
    with environment(dict.fromkeys(THREADS, "1")), console.Progress(len(tasks), len(tasks)) as progress, \
            concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), signal.signal,
                                                   (signal.SIGINT, signal.SIG_IGN)) as pool:
        futures = {pool.submit(records, *each): each for each in tasks}
        try:
            for done in concurrent.futures.as_completed(futures):
                done.result()
                table, bias, seed, _ = futures[done]
                progress.advance(1, f"{table} {bias} {seed}")
                progress.end(f"{table} {bias} {seed}", failed=False)
        except BaseException:                                       # an error, or Ctrl-C: no further tasks
            pool.shutdown(cancel_futures=True)
            raise
    return [line for future in futures for line in future.result()]


def main(arguments=None):
    """Train all methods on all tasks, print the table, write record and picture; return the exit status."""
    console.prepare()
    p = console.Parser(prog="python -m experiments.tables", description=__doc__)
    p.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="T", help=", ".join(TABLES))
    p.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N", help="default 0 1 2 3 4")
    p.add_argument("--clean", type=int, default=CLEAN, help=f"clean rows of each class, default {CLEAN}")
    p.add_argument("--jobs", type=int, help="number of concurrent tasks, default one for each core (one on a GPU)")
    p.add_argument("--out", type=console.folder, default=pathlib.Path("runs", "tables"),
                   help="folder for tables.jsonl and tables.png, default runs/tables")
    options = p.parse_args(arguments)
    try:
        for name, value, least in (("clean", options.clean, 1), ("seeds", min(options.seeds), 0),
                                   ("jobs", 1 if options.jobs is None else options.jobs, 1)):
            if value < least:
                raise MinigradError(f"--{name} {value}: it must be at least {least}")
        with lock_folder(options.out):
            tasks = [(table, bias, seed, options.clean) for table in dict.fromkeys(options.tables) for bias in BIASES
                     for seed in dict.fromkeys(options.seeds)]
            for table in options.tables:
                task(table, "both", options.seeds[0], options.clean)       # refuses too many clean rows at once
            lines = run_all(tasks, options.jobs or default_jobs())
            text = "".join(json.dumps(line) + "\n" for line in lines)
            tree.write_whole(options.out / "tables.jsonl", text.encode())
            print(figures.table(lines))
            print("written:", figures.picture(lines, options.out / "tables.png"))
            print("records:", options.out / "tables.jsonl")
        return 0
    except (MinigradError, OSError) as error:
        print(f"error: {console.reason(error, console.SPACE)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing is written", file=sys.stderr)
        return 130
