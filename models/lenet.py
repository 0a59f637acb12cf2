"""The network of the paper's MNIST experiment, called LeNet there."""
import functools

from numpy.random import Generator

from minigrad import max_pool2d, nn, relu
from minigrad.typing import Array


class LeNet(nn.Module):
    """Three blocks of convolution, max pooling and ReLU; then a hidden layer and one score.

    Images (n, 28, 28, 1) to scores (n,), the log-odds of class 1. Kernels are 5x5, pooling is 3x3 with stride 2, all
    padding is "same": 28 -> 14 -> 7 -> 4 pixels and 16 -> 32 -> 64 channels, then 100 hidden units. The network has
    167,113 parameters, as in the code that the paper's authors published.
    """
    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    hidden: nn.Linear
    score: nn.Linear

    def __call__(self, x: Array) -> Array:
        """Return the scores (n,) of images (n, 28, 28, 1)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = relu(max_pool2d(conv(x), kernel_size=3, stride=2, padding="same"))
        x = relu(self.hidden(x.reshape(x.shape[0], -1)))
        return self.score(x)[:, 0]


def lenet(rng: Generator) -> LeNet:
    """Return a LeNet with the authors' initial values: truncated normal of standard deviation 0.1, biases 0.

    rng: a generator of random numbers, such as backend.generator(seed).
    """
    draw = functools.partial(nn.truncated_normal, scale=0.1)

    def conv(inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d.init(rng, inputs, outputs, kernel_size=5, padding="same", initialize=draw)
    return LeNet(conv(1, 16), conv(16, 32), conv(32, 64),
                 nn.Linear.init(rng, 1024, 100, initialize=draw), nn.Linear.init(rng, 100, 1, initialize=draw))
