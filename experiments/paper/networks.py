"""The networks of the figures on CIFAR by their names, and their input."""
import functools
import re

from minigrad import MinigradError, avg_pool2d, models

from .. import data
from ..training.runs import Problem


def _init(family, depth, widen, stride, momentum, rng, classes):
    if family == "standard":
        return models.standard_resnet(rng, depth, widen, classes, momentum=momentum)
    if family == "wrn":
        return models.wide_resnet(rng, depth, widen, classes, momentum=momentum)
    return models.resnet(rng, depth, widen, classes, momentum=momentum, stride=stride)


def _prepare(pixels, images, rng):
    x = data.scale(images) if rng is None else data.augment(images, rng)
    block = x.shape[1] // pixels
    return x if block == 1 else avg_pool2d(x, block)


def problem(network, steps, pixels=32):
    """Return the Problem of a network name; it sees images of pixels x pixels: means of blocks, after augmentation.

    Names: resnet-32, resnet-20-4 (four times as wide), standard-32 (He et al.), wrn-28-10; for quick runs resnet-8-1-2,
    whose first convolution has stride 2. The running averages of batch norm extend over a fiftieth of the steps, but at
    most over 1,000 steps, as in the authors' code. Raises MinigradError for other names.
    """
    match = re.fullmatch(r"(resnet|standard|wrn)-(\d+)(?:-(\d+)(?:-([12]))?)?", network)
    family, *numbers = match.groups() if match else (None, 0, 0, 0)
    depth, widen, stride = (int(1 if number is None else number) for number in numbers)
    if depth % 6 != (4 if family == "wrn" else 2) or depth < 8 or not widen or (stride > 1 and family != "resnet"):
        raise MinigradError(f"there is no network {network}\n  help: resnet-8, resnet-32, resnet-20-4 (four times as "
                            "wide), standard-32 (He et al.), wrn-28-10; depths are 6 k + 2, with wrn 6 k + 4")
    momentum = max(min(1.0 - 50.0 / steps, 0.999), 0.9)
    return Problem(functools.partial(_init, family, depth, widen, stride, momentum),
                   functools.partial(_prepare, pixels))
