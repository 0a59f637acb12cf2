"""Residual networks for small images: ResNet-32 of the paper's CIFAR experiments, and wide ones (wide_resnet.py)."""
import functools
import math

from minigrad import avg_pool2d, mean, nn, pad


class Unit(nn.Module):
    """A residual unit: branch(x) + x. He et al., 2016, figure 1b.

    The shortcut has no parameters: where the branch makes the image smaller, the mean of each window of `stride`;
    where it makes more channels, half of the new ones, zeros, on either side.
    """
    branch: nn.Sequential
    stride: int = nn.static(1)

    def state(self):
        """That of the branch."""
        return self.branch.state()

    def apply(self, x, state=None, train=True, key=None):
        y, state = self.branch.apply(x, state, train, key)
        x = x if self.stride == 1 else avg_pool2d(x, self.stride)
        more = y.shape[3] - x.shape[3]
        return y + (pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))) if more else x), state


def pooled(x):
    """The mean over all pixels: (n, h, w, c) to (n, c)."""
    return mean(x, (1, 2))


def resnet(rng, depth=32, widen=1, classes=10, rate=0.0, remember=True):
    """A ResNet with 6 k + 2 = depth layers: a convolution, three stages of k units, and one score for each class.

    Images (n, h, w, 3) to scores (n, classes). Widths 16, then 16, 32, 64 times `widen`; the image is halved before
    stages 2 and 3. rate: of dropout before the first convolution of each unit. remember: False keeps of each unit its
    argument alone for the derivative and runs the unit again when it is needed: less memory, more time.

    As in the code that the paper's authors published: normalisation has a bias and no gain, eps 1e-3, momentum 0.999;
    the units of stage 1 begin with their convolution, all others with normalisation and ReLU; kernels are drawn from a
    truncated normal of variance 2 / (9 outputs), the scores' weights uniformly with variance 1 / inputs.
    resnet(rng) has 462,954 parameters.
    """
    if depth % 6 != 2:
        raise ValueError(f"resnet: depth {depth} is not 6 k + 2\n  help: 8, 14, 20, 26, 32, 44, 56 ...")
    norm = functools.partial(nn.BatchNorm.init, gain=False, momentum=0.999, eps=1e-3, rectify=True)

    def conv(inputs, outputs, stride=1):
        draw = functools.partial(nn.truncated_normal, scale=math.sqrt(2.0 / (9 * outputs)))
        return nn.Conv2d.init(rng, inputs, outputs, 3, stride, "same", bias=False, initialise=draw)

    layers, inputs = [conv(3, 16), norm(16)], 16
    for stage, outputs in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for k in range(depth // 6):
            stride = 2 if stage and not k else 1
            before = [norm(inputs)] + [nn.Dropout(rate)] * (rate > 0) if stage else []
            branch = nn.Sequential((*before, conv(inputs, outputs, stride), norm(outputs), conv(outputs, outputs)))
            layers.append(Unit(branch, stride) if remember else nn.Checkpoint(Unit(branch, stride)))
            inputs = outputs
    scores = nn.Linear.init(rng, inputs, classes, initialise=nn.uniform_unit_scaling)
    return nn.Sequential((*layers, norm(inputs), pooled, scores))


def wide_resnet(rng, depth=28, widen=10, classes=10, rate=0.3, remember=True):
    """WRN-28-10, the paper's other network for CIFAR. Zagoruyko & Komodakis, 2016."""
    return resnet(rng, depth - 2, widen, classes, rate, remember)
