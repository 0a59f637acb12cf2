"""The example weights of Figure 3: of one trained network, on batches of validation images."""
import numpy as np

from minigrad import mean, reweight, to_host, xp
from minigrad.backend import generator

from .. import figures
from ..methods import Batch, criteria, samplers
from ..training.runs import LOOK, restore
from ..training.trainers import scores, trainer_of
from . import cifar

BATCHES = 50


def weights_of(trainer, learned, images, labels, rng):
    """Return Algorithm 1's weights, (n,) on the host, of a batch of images with these labels.

    Args:
        trainer: a Descent.
        learned: its tree, with the trained network.
        images: of the batch, on the host.
        labels: of the batch, on the host.
        rng: NumPy generator, of the clean batch and the augmentation.
    """
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
    """Return two pairs, for the left and the right picture: the weights of wrong labels, and of right labels.

    target: the background class; None: the images of one class have their labels of the validation set.
    """
    part = trainer.task.validation
    size = min(trainer.run.settings.batch, len(part))
    pairs = [([], []), ([], [])]
    for k in range(BATCHES):
        chosen = rng.choice(len(part), size, replace=False)
        true = k % trainer.classes if k % trainer.classes != target else (target + 1) % trainer.classes
        members = np.flatnonzero(part.true == true)
        members = rng.choice(members, size, replace=len(members) < size)
        flipped = part.labels[members]
        if target is not None:
            flipped = np.where(np.arange(size) < round(trainer.run.labels["share"] * size), target, true)
        for pair, indices, labels in ((pairs[0], chosen, part.labels[chosen]), (pairs[1], members, flipped)):
            weights = weights_of(trainer, learned, part.images[indices], labels, rng)
            wrong = labels != part.true[indices]
            pair[0].extend(weights[wrong])
            pair[1].extend(weights[~wrong])
    return pairs


def figure3(lines, runs, options, caption, file):
    """Figure 3 of the paper: distribution of Algorithm 1's example weights of right and wrong labels.

    The network, of the first run that has a checkpoint, is trained for half of the steps at the full rate, with 40 %
    background flips. Left: batches of 100 validation images, with labels flipped as in training. Right: batches of one
    class other than the background, with 40 % of the labels flipped. With --labels both have the labels of the file.
    """
    for run in cifar.choose_runs(runs, lambda run, first: run is first):
        trainer = trainer_of(run)
        data = histogram_data(trainer, restore(run, trainer), run.labels.get("target"), generator((run.seed, LOOK)))
        about = f"{run.labels['method']}, seed {run.seed}; {caption}"
        task = [run.labels.get(key) for key in ("data", "bias", "share", "clean")]
        main = options.data == "cifar10" and figures.paper.is_main_task(*task)
        yield figures.weight_histograms(*data, file(), about, main)
