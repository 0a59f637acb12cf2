"""Residual networks for small images: as the paper's authors build them, wide ones, and the standard ones."""
import functools
import math
import numbers

from minigrad import ShapeError, avg_pool2d, deprecated, mean, nn, pad, relu, stop_gradient
from minigrad.backend import module_of

_remember = deprecated.keywords(remember=lambda value: {"checkpoint": not value})


class Unit(nn.Module):
    """A residual unit: branch(x) + x, and relu of that if it is a standard one.

    The shortcut has no parameters: where the branch makes the image smaller, the mean of each window of `stride` (at
    the lower and right edge, of the pixels there are) or, in a standard unit, one pixel of it; where it makes more
    channels, half of the new ones, zeros, on either side.
    """
    branch: nn.Sequential
    stride: int = nn.static(1)
    standard: bool = nn.static(False)

    def init_state(self):
        """That of the branch."""
        return self.branch.init_state()

    def apply(self, x, state=None, train=True, key=None):
        y, state = self.branch.apply(x, state, train, key)
        if self.stride > 1:
            x = x[:, ::self.stride, ::self.stride] if self.standard else _smaller(x, self.stride)
        more = y.shape[3] - x.shape[3]
        y = y + (pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))) if more else x)
        return relu(y) if self.standard else y, state


def _smaller(x, stride):
    """The mean of each window of `stride` by `stride` pixels, of those at the edges that lie in the image."""
    height, width = x.shape[1:3]
    if height % stride == width % stride == 0:
        return avg_pool2d(x, stride)
    padding = ((0, -height % stride), (0, -width % stride))
    inside = module_of(stop_gradient(x)).ones((1, height, width, 1), x.dtype)
    return avg_pool2d(x, stride, padding=padding) / avg_pool2d(inside, stride, padding=padding)


def pooled(x):
    """The mean over all pixels: (n, h, w, c) to (n, c)."""
    return mean(x, (1, 2))


@_remember
def resnet(rng, depth=32, widen=1, classes=10, rate=0.0, *, checkpoint=False, momentum=0.999, stride=1):
    """A ResNet with 6 k + 2 = depth layers: a convolution, three stages of k units, and one score for each class.

    Images (n, h, w, 3) of any size to scores (n, classes). Widths 16, then 16, 32, 64 times `widen`; the image is
    halved before stages 2 and 3. rate: of dropout before the first convolution of each unit. checkpoint: keep of
    each unit its argument alone for the derivative and run the unit again when it is needed: less memory, more time.
    momentum: of the averages of batch norm; shorter training needs less. stride: of the first convolution; 2 makes a
    small network for a quarter of the work.

    As in the code that the paper's authors published: normalization has a bias and no gain, eps 1e-3; the
    units of stage 1 begin with their convolution, all others with normalization and ReLU; kernels are drawn from a
    truncated normal of variance 2 / (9 outputs), the scores' weights uniformly with variance 1 / inputs.
    resnet(rng) has 462,954 parameters.
    """
    _check_depth("resnet", depth, 2, "8, 14, 20, 26, 32, 44, 56")
    norm = functools.partial(nn.BatchNorm.init, gain=False, momentum=momentum, eps=1e-3)

    def conv(inputs, outputs, stride=1):
        draw = functools.partial(nn.truncated_normal, scale=math.sqrt(2.0 / (9 * outputs)))
        return nn.Conv2d.init(rng, inputs, outputs, 3, stride, "same", bias=False, initialize=draw)

    layers = [conv(3, 16, stride), norm(16), relu]
    for stage, inputs, outputs, stride in _units(depth, widen):
        before = [norm(inputs), relu] + [nn.Dropout(rate)] * (rate > 0) if stage else []
        branch = nn.Sequential((*before, conv(inputs, outputs, stride), norm(outputs), relu, conv(outputs, outputs)))
        layers.append(nn.Checkpoint(Unit(branch, stride)) if checkpoint else Unit(branch, stride))
    scores = nn.Linear.init(rng, outputs, classes, initialize=nn.uniform_unit_scaling)
    return nn.Sequential((*layers, norm(outputs), relu, pooled, scores))


def _check_depth(call, depth, rest, examples):
    if not isinstance(depth, numbers.Integral) or depth % 6 != rest or depth < 6 + rest:
        raise ShapeError(f"{call}: depth {depth!r} is not 6 k + {rest}\n  help: {examples} ...")


def _units(depth, widen):
    """Of each unit of the three stages: the stage, from 0, the channels that go in and come out, and the stride."""
    inputs = 16
    for stage, outputs in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for k in range(depth // 6):
            yield stage, inputs, outputs, 2 if stage and not k else 1
            inputs = outputs


@_remember
def standard_resnet(rng, depth=32, widen=1, classes=10, *, checkpoint=False, momentum=0.9):
    """The ResNet for CIFAR of He, Zhang, Ren & Sun, 2016, section 4.2, with parameter-free shortcuts (option A).

    Images (n, h, w, 3) to scores (n, classes). Normalization (gain and bias, eps 1e-5) comes after each convolution,
    ReLU after the first of a unit and after the sum; kernels are drawn from a normal of variance 2 / inputs (He et al.,
    2015). depth: 6 k + 2; widen, checkpoint, momentum: as in `resnet`. standard_resnet(rng) has 464,154 parameters.
    One pixel of padding on each side puts the middle of a stride's windows on the pixels that the shortcut takes.
    """
    _check_depth("standard_resnet", depth, 2, "8, 14, 20, 26, 32, 44, 56")

    def conv(inputs, outputs, stride=1):
        return nn.Conv2d.init(rng, inputs, outputs, 3, stride, 1, bias=False)

    def norm(channels):
        return nn.BatchNorm.init(channels, momentum=momentum)

    layers = [conv(3, 16), norm(16), relu]
    for _, inputs, outputs, stride in _units(depth, widen):
        branch = nn.Sequential((conv(inputs, outputs, stride), norm(outputs), relu,
                                conv(outputs, outputs), norm(outputs)))
        layers.append(nn.Checkpoint(Unit(branch, stride, True)) if checkpoint else Unit(branch, stride, True))
    return nn.Sequential((*layers, pooled, nn.Linear.init(rng, outputs, classes)))


@_remember
def wide_resnet(rng, depth=28, widen=10, classes=10, rate=0.3, *, checkpoint=False, momentum=0.999):
    """WRN-28-10, the paper's other network for CIFAR: depth 6 k + 4. Zagoruyko & Komodakis, 2016."""
    _check_depth("wide_resnet", depth, 4, "10, 16, 22, 28, 40")
    return resnet(rng, depth - 2, widen, classes, rate, checkpoint=checkpoint, momentum=momentum)
