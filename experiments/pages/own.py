"""Algorithm 1 on your own data: a table, a column of texts, or folders of images, some labels of which are wrong.

    python -m experiments.own --train train.csv --clean clean.csv --label COLUMN
    python -m experiments.own --train train.csv --clean clean.csv --label COLUMN --text COLUMN
    python -m experiments.own --train train/ --clean clean/         (a folder of images for each class in both)
    python -m experiments.own --model runs/own/model --predict new.csv

--clean names examples whose labels are known to be right, at least two of each class, better ten. A part of them is
held out to test on, unless there is a file to --test. Plain training, weights by class, training on the clean examples
alone and Algorithm 1 are compared; all else is from Algorithm 1:

    suspects.csv        training labels without weight in more than half of the passes, the most suspicious first:
                        the row (the first below the header is 1) or the file, its label, the label that the network
                        would give and its probability, trust (the share of passes with a weight above 0) and the mean
                        weight (1 in plain training)
    predictions.csv     for --predict, or for the examples tested on: the label and the probability of each label
    trust.png           accuracies, the distribution of trust, suspects by label; of images also suspects.png
    results.json        settings and scores
    model/              for --model, or in Python: experiments.pages.own.load(folder).predict("new.csv"); its
                        inputs.json says how columns, words or pixels become numbers

Scores and suspects are means over the seeds; predictions and model are those of the first.
"""
import json
import pathlib
import platform
import sys
import textwrap

import numpy as np
import pandas
import sklearn

import minigrad as mg
from minigrad import MinigradError
from minigrad.errors import DataError
from minigrad.files import write_whole

from .. import console
from ..data import own as data
from ..figures import own as figures
from ..training.folders import lock_folder
from .own_model import load, name_of, predictions
from .own_training import METHODS, compare, gather, start_progress, wilson

FEW = 30                                        # examples to test on: fewer measure little
TRAINED = "label", "text", "drop", "categories", "image_size", "hold_out", "seeds", "passes", "batch", "rate"
FILES = "suspects.csv", "predictions.csv", "trust.png", "suspects.png", "results.json", "model/network.safetensors"


# ------------------------------------------------------------------------------------------------- what is written

def suspects(found, result):
    """Return a data frame of the training labels with trust below 0.5, the most suspicious first, and their indices.

    They are sorted by trust, then by weight, then by the probability of the given label.
    """
    labels = np.searchsorted(result.model.classifier.classes_, found.train.labels)
    given = result.probabilities[np.arange(len(labels)), labels]
    order = np.lexsort((given, result.weights, result.trust))
    order = order[result.trust[order] < 0.5]
    best = result.probabilities[order].argmax(1)
    return pandas.DataFrame({
        name_of(found.train): found.train.names[order], "label": found.train.labels[order],
        "suggestion": result.model.classifier.classes_[best],
        "probability": np.round(result.probabilities[order, best].astype(float), 4),
        "trust": np.round(result.trust[order], 4), "weight": np.round(result.weights[order], 4)}), order


def table(result):
    """Return the scores of all methods as a text."""
    n = len(result.tested.names)
    lines = [f"{'':22s}{'accuracy, %':>12s}  {'95 % interval':16s}{'balanced accuracy, %':>20s}{'AUC':>8s}"]
    for method, name in METHODS.items():
        each = result.scores[method]
        low, high = wilson(each["accuracy"], n)
        auc = "-" if each["auc"] is None else f"{each['auc']:.3f}"
        lines.append(f"{name:22s}{each['accuracy']:12.1f}  {f'{low:.1f} to {high:.1f}':16s}{each['balanced']:20.1f}"
                     f"{auc:>8s}")
    return "\n".join(lines)


def describe(found):
    """Return what is trained on, as a text."""
    labels, counts = np.unique(found.train.labels, return_counts=True)
    kinds = {data.Table: lambda t: f"columns: {len(t.numbers)} of numbers, {len(t.categories)} of categories"
             + f" ({textwrap.shorten(', '.join(t.categories), 80)})" * bool(t.categories),
             data.Words: lambda t: f"texts, {len(t.words)} words",
             data.Pixels: lambda t: f"images, {t.size} x {t.size}, {'gray' if len(t.mean) == 1 else 'color'}"}
    shown = ", ".join(f"{label}: {count}" for label, count in list(zip(labels, counts))[:20])
    lines = [f"{found.train.source}: {len(found.train.names)} examples, {kinds[type(found.inputs)](found.inputs)}; "
             f"given labels {shown}{' ...' * (len(labels) > 20)}",
             f"{found.clean.source}: {len(found.clean.names)} examples that are known to be right"]
    return "\n".join(lines + [f"note: {note}" for note in found.notes])


def write(frame, path):
    """Write a data frame as a CSV file, and return its path."""
    write_whole(path, frame.to_csv(index=False).encode())
    return path


def report(found, result, options):
    """Print the table, write all files and print their paths."""
    n, out, (frame, order) = len(result.tested.names), options.out, suspects(found, result)
    where = "in " + result.tested.source if found.test else f"held out, of {len(found.clean.names)}"
    several = len(options.seeds) > 1
    seeds = f"{'mean over seeds' if several else 'seed'} {', '.join(map(str, options.seeds))}"
    print(f"\nMeasured on {n} clean examples {where} ({seeds}):\n{table(result)}")
    if n < FEW:
        print(f"note: {n} examples measure little: --test FILE, with hundreds whose labels are right, measures more")
    print(f"\nSuspects, without weight in more than half of the passes: {len(frame)} of {len(found.train.names)} "
          "training labels" + (". The first:\n" + frame[:5].to_string(index=False) if len(frame) else ""))
    scores = {method: (METHODS[method], each["accuracy"], *wilson(each["accuracy"], n))
              for method, each in result.scores.items()}
    caption = f"{found.train.source}: {len(found.train.names)} examples, {len(found.clean.names)} clean ones, {seeds}"
    asked, classifier = found.predict or result.tested, result.model.classifier
    settings = {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in vars(options).items()}
    versions = {"minigrad": mg.__version__, "numpy": np.__version__, "pandas": pandas.__version__,
                "scikit-learn": sklearn.__version__, "python": platform.python_version()}
    results = {"settings": settings, "tested on": n, "suspects": len(frame), "scores": result.scores,
               "versions": versions}
    result.model.save(out / "model")
    print("written:", out / "model")                        # first: it cannot be made again without training
    print("written:", write(frame, out / "suspects.csv"))
    print("written:", write(predictions(asked, classifier, found.inputs(asked)), out / "predictions.csv"))
    write_whole(out / "results.json", json.dumps(results, indent=1).encode())
    print("written:", out / "results.json", flush=True)     # pictures last: what fails there costs no training
    print("written:", figures.trust(scores, result.trust, result.clean_trust,
                                    frame[["label", "suggestion"]].to_numpy(str), out / "trust.png", caption))
    if isinstance(found.inputs, data.Pixels) and len(frame):
        titles = [f"{row.label} → {row.suggestion}" for row in frame[:24].itertuples()]
        print("written:", figures.suspects(found.train.values[order[:24]], titles, out / "suspects.png", "The most "
                                           "suspicious labels, and those that the network would give"))
    else:
        (out / "suspects.png").unlink(missing_ok=True)      # of what is overwritten


# ------------------------------------------------------------------------------------------------- the command

def parser():
    """Return the parser of the options."""
    p = console.Parser(prog="python -m experiments.own", description=__doc__)
    p.add_argument("--train", type=console.folder, help="CSV file, or folder of images: some labels may be wrong")
    p.add_argument("--clean", type=console.folder, help="examples whose labels are known to be right")
    p.add_argument("--test", type=console.folder, help="more of those, to measure on; default: a part of --clean")
    p.add_argument("--predict", type=console.folder, help="examples to predict, with or without labels")
    p.add_argument("--model", type=console.folder, help="folder of a trained model: predict only")
    p.add_argument("--label", metavar="COLUMN", help="the column of the labels")
    p.add_argument("--text", metavar="COLUMN", help="the column of the texts; default: all columns, as a table")
    p.add_argument("--drop", metavar="COLUMN", nargs="+", default=[], help="columns of a table to leave out")
    p.add_argument("--categories", metavar="COLUMN", nargs="+", default=[],
                   help="columns of a table whose numbers are only names, such as postcodes")
    p.add_argument("--image-size", type=int, default=32, help="images become so many pixels wide and high, default 32")
    p.add_argument("--hold-out", type=float, default=0.5, help="share of --clean to measure on, default 0.5")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds to train with, default 0")
    p.add_argument("--passes", type=int, default=100, help="passes over the training set, default 100")
    p.add_argument("--batch", type=int, default=100, help="examples in a step, default 100")
    p.add_argument("--rate", type=float, default=1e-3, help="learning rate of Adam, default 0.001")
    p.add_argument("--out", type=console.folder, default=pathlib.Path("runs", "own"), help="folder, default runs/own")
    p.add_argument("--overwrite", action="store_true", help="replace the files that --out holds")
    p.add_argument("--quiet", action="store_true", help="print no progress")
    return p


def check(options, given=()):
    """Raise DataError for options out of range, that do not go together, or that change nothing.

    given: the names of the options that were given.
    """
    limits = {"--passes": options.passes >= 1, "--batch": options.batch >= 1, "--rate": 0 < options.rate < 1,
              "--hold-out": 0 < options.hold_out < 1, "--image-size": 4 <= options.image_size <= 512,
              "--seeds": min(options.seeds) >= 0 and max(options.seeds) < 2**32
              and len(set(options.seeds)) == len(options.seeds)}
    for name, holds in limits.items():
        if not holds:
            value = getattr(options, name[2:].replace("-", "_"))
            raise DataError(f"{name} {value}: out of range\n  help: passes and batch from 1, rate and hold-out "
                            "between 0 and 1, image-size from 4 to 512, different seeds from 0 to 2**32 - 1")
    if options.model and (options.train or options.clean or options.test):
        raise DataError("--model predicts with a trained model, and trains none\n  help: --model FOLDER --predict FILE")
    if options.model and not options.predict:
        raise DataError("--model: there is nothing to predict\n  help: --model FOLDER --predict FILE")
    if not options.model and not (options.train and options.clean):
        raise DataError("--train and --clean are both needed\n  help: --train FILE --clean FILE --label COLUMN: "
                        "the clean file has some examples whose labels you have checked")
    for reason, names in ((options.model and "beside --model, whose settings they are", TRAINED),
                          (options.test and "beside --test, which is measured on", ("hold_out",)),
                          (options.train and not options.train.is_dir() and "with CSV files", ("image_size",))):
        idle = ", ".join("--" + name.replace("_", "-") for name in names if name in given)
        if reason and idle:
            raise DataError(f"{idle}: without effect {reason}\n  help: leave it out")
    if options.label in options.drop:
        raise DataError(f"--drop {options.label}: without effect on the column of the labels\n  help: leave it out")
    old = [name for name in (("predictions.csv",) if options.model else FILES) if (options.out / name).exists()]
    if old and not options.overwrite:
        raise DataError(f"{options.out} already holds {', '.join(old)}\n  help: --out FOLDER, or --overwrite")


def main(arguments=None):
    """Run the command; return the exit status: 0; 2 for what was refused before training; 1 for a later error."""
    console.prepare()
    p, status = parser(), 2
    options, given = p.parse_args(arguments), p.given(arguments)
    try:
        with lock_folder(options.out):
            check(options, given)
            if options.model:
                frame = load(options.model).predict(options.predict, lambda text: print("note:", text))
                print("written:", write(frame, options.out / "predictions.csv"))
                return 0
            found = gather(options)
            print(describe(found), flush=True)
            status = 1
            with start_progress(found, options) as progress:
                result = compare(found, options, progress)
            report(found, result, options)
            return 0
    except (MinigradError, OSError) as error:
        print(f"error: {console.reason(error, console.SPACE)}", file=sys.stderr)
        return status
