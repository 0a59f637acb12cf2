"""Figure 7 of the paper: accuracy on validation and training images over training, with 40 % background flips.

Quick mode is meant for two cores; paper mode needs a GPU.

    python -m experiments.figure7                   CIFAR-10, a small network
    python -m experiments.figure7 --mode paper      ResNet-32
"""
import functools
import sys

from . import cifar, figures, script


def report(lines, runs, options, caption):
    """Draw the curves."""
    print("written:", figures.training_curves(lines, options.out / f"figure7-{options.data}.png", caption))


GRID = cifar.Grid("resnet-8-1-2", ("uniform", "uniform+es", "adaptation_confusion", "reweight"))
SCRIPT = cifar.figure("figure7", __doc__, GRID, GRID._replace(network="resnet-32"), report)
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
