"""The network of the paper's MNIST experiment, called LeNet there."""
import functools
import math
import numbers

from numpy.random import Generator

from minigrad import ShapeError, max_pool2d, nn, relu
from minigrad.errors import message
from minigrad.typing import Array


class LeNet(nn.Module):
    """Three blocks of convolution, max pooling and ReLU; then a hidden layer and the scores.

    Images (n, h, w, channels) to scores (n, classes), or (n,) if there is one. Kernels are 5x5, pooling is 3x3 with
    stride 2, all padding is "same". In the paper's network, images (n, 28, 28, 1) have 28 -> 14 -> 7 -> 4 pixels on
    each side and 16 -> 32 -> 64 channels; then come 100 hidden units and one score, the log-odds of class 1. It has
    167,113 parameters, as in the code that the paper's authors published.
    """
    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    hidden: nn.Linear
    score: nn.Linear

    def __call__(self, x: Array) -> Array:
        """Return the scores of images. Raises ShapeError for images of a size that it is not for."""
        images = x
        for conv in (self.conv1, self.conv2, self.conv3):
            x = relu(max_pool2d(conv(x), kernel_size=3, stride=2, padding="same"))
        if math.prod(x.shape[1:]) != self.hidden.weight.shape[0]:
            rows = [("x", images, f"{' x '.join(map(str, x.shape[1:]))} values for the hidden layer"),
                    ("hidden", self.hidden.weight, "inputs: axis 0")]
            raise ShapeError(message("LeNet(x)", "the network is for images of another size", rows,
                                     "lenet(rng, size=(h, w)) is for images of h x w pixels"))
        scores = self.score(relu(self.hidden(x.reshape(x.shape[0], math.prod(x.shape[1:])))))
        return scores[:, 0] if scores.shape[1] == 1 else scores


def lenet(rng: Generator, classes: int = 1, size: int | tuple[int, int] = 28, channels: int = 1) -> LeNet:
    """Return a LeNet with the authors' initial values: nn.truncated_normal of scale 0.1, biases 0.

    lenet(rng) is the paper's. Raises ShapeError for a size that is not a number of pixels.

    Args:
        rng: a generator of random numbers, such as backend.generator(seed).
        classes: number of scores; one, of shape (n,), tells two classes apart.
        size: of an image: height and width, or one number for both.
        channels: of an image.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, numbers.Integral) and side > 0 for side in sides):
        raise ShapeError(f"lenet: size {size!r} is not a number of pixels\n  help: 28, or (height, width)")
    draw = functools.partial(nn.truncated_normal, scale=0.1)

    def conv(inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d.init(rng, inputs, outputs, kernel_size=5, padding="same", initialize=draw)
    inputs = 64 * math.prod(-(-side // 8) for side in sides)        # three times half the pixels, rounded up
    return LeNet(conv(channels, 16), conv(16, 32), conv(32, 64),
                 nn.Linear.init(rng, inputs, 100, initialize=draw), nn.Linear.init(rng, 100, classes, initialize=draw))
