"""Figure 3 of the paper: the weights that Algorithm 1 gives to wrongly and to rightly labelled images.

    python -m experiments.figure3                   CIFAR-10, a small network, on two cores
    python -m experiments.figure3 --mode paper      ResNet-32: needs a GPU

Of a network trained for half of the steps at the full rate, background flips of 40 %. Left: batches of 100 validation
images, labels flipped like those in training. Right: batches of one class, not the background, 40 % of them flipped.
"""
import functools
import sys

import numpy as np

from minigrad import mean, reweight, to_host, xp
from minigrad.backend import generator

from . import cifar, figures, script
from .methods import Batch, criteria, samplers
from .runs import LOOK, restored
from .trainers import scores, trainer_of

BATCHES = 50


def weights_of(trainer, learned, images, labels, rng):
    """The weights that a batch of images with these labels would get from the network that was trained."""
    def batch(images, labels):
        return Batch(trainer.problem.prepare(xp.asarray(images), rng), xp.asarray(labels))
    clean, settings = trainer.task.clean, trainer.run.settings
    chosen = samplers.with_repetition(clean.labels, settings.clean_batch, rng)
    noisy, clean = batch(images, labels), batch(clean.images[chosen], clean.labels[chosen])

    def losses(model, batch):
        y, _ = scores(model, batch.images, learned["state"])
        return criteria.plain(y, batch.labels, None, trainer.frequencies)
    return to_host(reweight.example_weights(lambda model: losses(model, noisy),
                                            lambda model: mean(losses(model, clean)), learned["params"]["model"]))


def histogram_data(trainer, learned, target, rng):
    """Two pairs, unconditional and conditional: the weights of wrongly, and of rightly labelled images."""
    part, size = trainer.task.validation, trainer.run.settings.batch
    pairs = [([], []), ([], [])]
    for k in range(BATCHES):
        chosen = rng.choice(len(part), size, replace=False)
        one = k % trainer.classes if k % trainer.classes != target else (target + 1) % trainer.classes
        of_one = np.flatnonzero(part.true == one)
        of_one = rng.choice(of_one, size, replace=len(of_one) < size)
        flipped = np.where(np.arange(size) < round(trainer.run.labels["share"] * size), target, one)
        for pair, where, labels in ((pairs[0], chosen, part.labels[chosen]), (pairs[1], of_one, flipped)):
            weights, wrong = weights_of(trainer, learned, part.images[where], labels, rng), labels != part.true[where]
            pair[0].extend(weights[wrong])
            pair[1].extend(weights[~wrong])
    return pairs


def report(lines, runs, options, caption):
    """The histograms, of one run: the first whose checkpoint is there."""
    for run in cifar.choose(runs, lambda run, first: run is first):
        trainer = trainer_of(run)
        data = histogram_data(trainer, restored(run, trainer), run.labels["target"], generator((run.seed, LOOK)))
        print("written:", figures.weight_histograms(*data, options.out / f"figure3-{options.data}.png",
                                                    f"{run.labels['method']}, seed {run.seed}; {caption}"))


GRID = cifar.Grid("resnet-8-1-2", ("reweight+half",))
SCRIPT = cifar.figure("figure3", __doc__, GRID, GRID._replace(network="resnet-32"), report, network=True)
main = functools.partial(script.main, SCRIPT)

if __name__ == "__main__":
    sys.exit(main())
