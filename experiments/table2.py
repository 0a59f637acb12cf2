"""Table 2 of the paper: test accuracy of each method with 40 % background flips and ten clean images per class.

    python -m experiments.table2                                 CIFAR-10, a small network, on two cores
    python -m experiments.table2 --mode paper [--data cifar100]  ResNet-32, five seeds and backgrounds: needs a GPU

uniform+es is plain training by a shorter schedule: the longer one fits more wrong labels.
"""
import functools
import sys

from . import cifar, figures, script

PAPER = tuple(figures.paper.TABLE_2["cifar10"])
QUICK = ("uniform", "uniform+es", "random", "oracle", "bootstrap_hard+es", "adaptation", "adaptation_confusion",
         "clean_only", "uniform+ft", "reweight")


def report(lines, runs, options, caption):
    """Print the table, draw it as bars, and draw the weight of wrong labels over training."""
    rows = figures.paper.TABLE_2[options.data]
    print(figures.accuracy_table(lines, rows, f"Table 2: background flips ({caption})"))
    print("written:", figures.accuracy_bars(lines, rows, options.out / f"table2-{options.data}.png",
                                            f"Table 2, background flips; {caption}"))
    print("written:", figures.weights_over_training(lines, options.out / f"table2-{options.data}-weights.png", caption))


SCRIPT = cifar.figure(
    "table2", __doc__, cifar.Grid("resnet-8-1-2", QUICK),
    cifar.Grid("resnet-32", PAPER, seeds=(0, 1, 2, 3, 4), targets=lambda data, seed: cifar.TARGETS[data][seed % 5]),
    report)
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
