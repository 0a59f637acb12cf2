"""The same numbers as PyTorch, if it is installed: convolution, pooling, losses, and Algorithm 1 by double backward."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, tree
from minigrad.backend import generator
from minigrad.reweight import reweighted_gradient

from . import requirements

torch = requirements.module("torch")
F = torch.nn.functional


def nchw(x):
    return torch.tensor(np.moveaxis(np.array(x), -1, 1).copy(), requires_grad=True)


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_convolution_and_its_gradients(stride, padding):
    rng = generator((stride, padding))
    x, k = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((3, 2, 3, 4))
    y, pull = mg.vjp(lambda x, k: mg.conv2d(x, k, stride, padding), x, k)
    tx, tk = nchw(x), torch.tensor(k.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    ty = F.conv2d(tx, tk, stride=stride, padding=padding)
    np.testing.assert_allclose(y, nhwc(ty), atol=1e-12)
    g = rng.standard_normal(y.shape)
    ty.backward(nchw(g).detach())
    gx, gk = pull(g)
    np.testing.assert_allclose(gx, nhwc(tx.grad), atol=1e-12)
    np.testing.assert_allclose(gk, tk.grad.numpy().transpose(2, 3, 1, 0), atol=1e-12)


def test_pooling():
    x = generator(0).standard_normal((2, 8, 8, 3))
    np.testing.assert_allclose(mg.max_pool2d(x, 3, 2), nhwc(F.max_pool2d(nchw(x), 3, 2)))
    np.testing.assert_allclose(mg.avg_pool2d(x, 3, 2, 1), nhwc(F.avg_pool2d(nchw(x), 3, 2, 1)), atol=1e-12)


def test_algorithm_1_by_double_backward_through_batch_norm():
    rng = generator(1)
    model = tree.map(lambda p: p.astype("float64"), nn.Sequential((
        nn.Conv2d.init(rng, 2, 4, padding=1, bias=False), nn.BatchNorm.init(4), mg.relu,
        lambda x: mg.mean(x, (1, 2)), nn.Linear.init(rng, 4, 3))))
    x, y = rng.standard_normal((10, 6, 6, 2)), rng.integers(0, 3, 10)
    x_clean, y_clean = rng.standard_normal((6, 6, 6, 2)), rng.integers(0, 3, 6)
    ours = reweighted_gradient(lambda m: nn.cross_entropy(m(x), y),
                               lambda m: mg.mean(nn.cross_entropy(m(x_clean), y_clean)), model)

    kernel, gain, bias, weight, offset = (torch.tensor(p.copy(), requires_grad=True) for p in tree.flatten(model)[0])

    def losses(params, x, y):
        kernel, gain, bias, weight, offset = params
        h = F.conv2d(nchw(x), kernel.permute(3, 2, 0, 1), padding=1)
        h = F.relu(F.batch_norm(h, None, None, gain, bias, training=True)).mean((2, 3))
        return F.cross_entropy(h @ weight + offset, torch.tensor(y), reduction="none")
    params = [kernel, gain, bias, weight, offset]
    eps = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    inner = torch.autograd.grad((eps * losses(params, x, y)).sum(), params, create_graph=True)
    after = losses([p - 0.3 * g for p, g in zip(params, inner)], x_clean, y_clean).mean()
    w = torch.clamp(-torch.autograd.grad(after, eps)[0], min=0)
    w = w / w.sum()
    np.testing.assert_allclose(ours.weights, w.numpy(), atol=1e-10)
    for a, b in zip(tree.flatten(ours.gradient)[0], torch.autograd.grad((w * losses(params, x, y)).sum(), params)):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-10)
