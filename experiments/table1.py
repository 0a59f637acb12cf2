"""Table 1 of the paper: test accuracy of each method with 40 % uniform flips and 1,000 clean images.

    python -m experiments.table1                                 CIFAR-10, a small network, on two cores
    python -m experiments.table1 --mode paper [--data cifar100]  WRN-28-10, five seeds: needs a GPU

The result of MentorNet is quoted, as in the paper. uniform+short, plain training that ends early, is not in the paper;
it is the baseline to beat on this task.
"""
import functools
import sys

from . import cifar, figures, script

METHODS = ("uniform", "uniform+short", "bootstrap_hard", "adaptation", "random", "clean_only", "uniform+ft",
           "random+ft", "reweight")


def report(lines, runs, options, caption):
    """Print the table, and draw it as bars."""
    rows = figures.paper.TABLE_1[options.data]
    print(figures.accuracy_table(lines, rows, f"Table 1: uniform flips ({caption})"))
    print("written:", figures.accuracy_bars(lines, rows, options.out / f"table1-{options.data}.png",
                                            f"Table 1, uniform flips; {caption}"))


SCRIPT = cifar.figure(
    "table1", __doc__, cifar.Grid("resnet-8-1-2", METHODS, biases=("uniform",)),
    cifar.Grid("wrn-28-10", METHODS, biases=("uniform",), seeds=(0, 1, 2, 3, 4)), report)
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
