"""Residual networks for small images: those of the paper's authors, wide ones, and the standard ones."""
import functools
import math
import numbers
from collections.abc import Callable, Iterator

from numpy.random import Generator

from minigrad import ShapeError, avg_pool2d, deprecated, mean, nn, pad, relu, stop_gradient
from minigrad.backend import module_of
from minigrad.typing import Array, Key, Tree

_remember = deprecated.keywords(remember=lambda value: {"checkpoint": not value})


class Unit(nn.Module):
    """A residual unit: branch(x) + shortcut(x), followed by ReLU if it is a standard one.

    The shortcut is x, without parameters, brought to the shape of the branch. Where the branch has a stride, the
    shortcut takes the mean of each window of `stride` by `stride` pixels (at the lower and right edge, of those inside
    the image) or, in a standard unit, its first pixel. Where the branch has more channels, the shortcut is padded with
    channels of zeros, half of them on either side.
    """
    branch: nn.Sequential
    stride: int = nn.static(default=1)
    standard: bool = nn.static(default=False)

    def init_state(self) -> Tree:
        """Return the initial state of the branch."""
        return self.branch.init_state()

    def apply(self, x: Array, state: Tree = None, train: bool = True, key: Key | None = None) -> tuple[Array, Tree]:
        """Return the output and the new state of the branch; arguments as in nn.Module.apply."""
        y, state = self.branch.apply(x, state, train, key)
        if self.stride > 1:
            x = x[:, ::self.stride, ::self.stride] if self.standard else _downsample(x, self.stride)
        more = y.shape[3] - x.shape[3]
        y = y + (pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))) if more else x)
        return relu(y) if self.standard else y, state


def _downsample(x: Array, stride: int) -> Array:
    """Return the mean of each window of `stride` by `stride` pixels; at the edges, of the pixels inside the image."""
    height, width = x.shape[1:3]
    if height % stride == width % stride == 0:
        return avg_pool2d(x, stride)
    padding = ((0, -height % stride), (0, -width % stride))
    inside = module_of(stop_gradient(x)).ones((1, height, width, 1), x.dtype)
    return avg_pool2d(x, stride, padding=padding) / avg_pool2d(inside, stride, padding=padding)


def average_pixels(x: Array) -> Array:
    """Return the mean over all pixels: (n, h, w, c) to (n, c)."""
    return mean(x, (1, 2))


@_remember
def resnet(rng: Generator, depth: int = 32, widen: int = 1, classes: int = 10, rate: float = 0.0, *,
           checkpoint: bool = False, momentum: float = 0.9, stride: int = 1, channels: int = 3) -> nn.Sequential:
    """Return a ResNet: a convolution, three stages of residual units, and a linear layer.

    Images (n, h, w, channels) of any size to scores (n, classes). The first convolution has 16 channels, the
    stages have 16, 32 and 64 times `widen`; stages 2 and 3 begin with a stride of 2. resnet(rng) has 462,954
    parameters.

    As in the code that the paper's authors published: normalization has a bias and no gain, eps 1e-3; the units of
    stage 1 begin with a convolution, all others with normalization and ReLU; kernels are drawn by
    nn.truncated_normal with scale^2 = 2 / (9 outputs), the weights of the linear layer uniformly, with variance
    1 / inputs.

    Raises ShapeError for a depth that is not 6 k + 2, and for a rate outside [0, 1).

    Args:
        rng: a generator of random numbers, such as backend.generator(seed).
        depth: number of layers, 6 k + 2 for k units in each stage.
        widen: factor of the channels of the stages.
        classes: number of scores.
        rate: dropout rate before the first convolution of each unit in stages 2 and 3.
        checkpoint: keep only the input of each unit for the derivative and recompute the rest: less memory, more time.
        momentum: of the running averages of batch norm. The authors' is 0.999, which needs thousands of steps: after a
            few hundred the averages are still near their initial values, and evaluation is wrong.
        stride: of the first convolution; with 2, a step costs about a quarter.
        channels: of an image.
    """
    _check_depth("resnet", depth, 2, "8, 14, 20, 26, 32, 44, 56")
    if not 0.0 <= rate < 1.0:
        raise ShapeError(f"resnet: the dropout rate {rate!r} does not lie in [0, 1)")
    norm = functools.partial(nn.BatchNorm.init, gain=False, momentum=momentum, eps=1e-3)

    def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
        draw = functools.partial(nn.truncated_normal, scale=math.sqrt(2.0 / (9 * max(outputs, 1))))
        return nn.Conv2d.init(rng, inputs, outputs, 3, stride, "same", bias=False, initialize=draw)

    layers: list[Callable[[Array], Array]] = [conv(channels, 16, stride), norm(16), relu]
    for stage, inputs, outputs, stride in _units(depth, widen):
        dropout = (nn.Dropout(rate),) if rate > 0 else ()
        before = (norm(inputs), relu, *dropout) if stage else ()
        branch = nn.Sequential((*before, conv(inputs, outputs, stride), norm(outputs), relu, conv(outputs, outputs)))
        layers.append(nn.Checkpoint(Unit(branch, stride)) if checkpoint else Unit(branch, stride))
    scores = nn.Linear.init(rng, outputs, classes, initialize=nn.uniform_unit_scaling)
    return nn.Sequential((*layers, norm(outputs), relu, average_pixels, scores))


def _check_depth(call: str, depth: object, rest: int, examples: str) -> None:
    if not isinstance(depth, numbers.Integral) or depth % 6 != rest or depth < 6 + rest:
        raise ShapeError(f"{call}: depth {depth!r} is not 6 k + {rest}\n  help: {examples} ...")


def _units(depth: int, widen: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (stage counted from 0, input channels, output channels, stride) for each unit of the three stages."""
    inputs = 16
    for stage, outputs in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for k in range(depth // 6):
            yield stage, inputs, outputs, 2 if stage and not k else 1
            inputs = outputs


@_remember
def standard_resnet(rng: Generator, depth: int = 32, widen: int = 1, classes: int = 10, *, checkpoint: bool = False,
                    momentum: float = 0.9, channels: int = 3) -> nn.Sequential:
    """Return the ResNet for CIFAR of He, Zhang, Ren & Sun, 2016, section 4.2, with shortcuts of option A.

    Images (n, h, w, channels) to scores (n, classes). Normalization (gain and bias, eps 1e-5) follows each convolution,
    ReLU the first normalization of a unit and its sum; kernels are drawn from a normal of variance 2 / inputs (He et
    al., 2015). Convolutions have one pixel of padding on each side, so that those with stride 2 are centered on the
    pixels that the shortcut takes. standard_resnet(rng) has 464,154 parameters.

    Raises ShapeError for a depth that is not 6 k + 2. Arguments: as in `resnet`.
    """
    _check_depth("standard_resnet", depth, 2, "8, 14, 20, 26, 32, 44, 56")

    def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d.init(rng, inputs, outputs, 3, stride, 1, bias=False)

    def norm(channels: int) -> nn.BatchNorm:
        return nn.BatchNorm.init(channels, momentum=momentum)

    layers: list[Callable[[Array], Array]] = [conv(channels, 16), norm(16), relu]
    for _, inputs, outputs, stride in _units(depth, widen):
        branch = nn.Sequential((conv(inputs, outputs, stride), norm(outputs), relu,
                                conv(outputs, outputs), norm(outputs)))
        layers.append(nn.Checkpoint(Unit(branch, stride, True)) if checkpoint else Unit(branch, stride, True))
    return nn.Sequential((*layers, average_pixels, nn.Linear.init(rng, outputs, classes)))


@_remember
def wide_resnet(rng: Generator, depth: int = 28, widen: int = 10, classes: int = 10, rate: float = 0.3, *,
                checkpoint: bool = False, momentum: float = 0.9, channels: int = 3) -> nn.Sequential:
    """Return the paper's wide network for CIFAR, by default WRN-28-10 (Zagoruyko & Komodakis, 2016).

    Raises ShapeError for a depth that is not 6 k + 4. Arguments: as in `resnet`, from which it differs in its defaults
    and in how it counts layers.
    """
    _check_depth("wide_resnet", depth, 4, "10, 16, 22, 28, 40")
    return resnet(rng, depth - 2, widen, classes, rate, checkpoint=checkpoint, momentum=momentum, channels=channels)
