"""The same numbers as PyTorch, if it is installed: convolution, pooling, losses, and Algorithm 1 by double backward."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, tree
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


@pytest.mark.parametrize("stride, padding, more", [(1, 0, 0), (2, 1, 1), (3, 0, (2, 1))])
def test_transposed_convolution(stride, padding, more):
    x, k = generator(0).standard_normal((2, 4, 3, 5)), generator(1).standard_normal((3, 2, 4, 5))
    y = F.conv_transpose2d(nchw(x), torch.tensor(k.transpose(3, 2, 0, 1).copy()), stride=stride, padding=padding, output_padding=more)
    np.testing.assert_allclose(mg.conv_transpose2d(x, k, stride, padding, more), nhwc(y), atol=1e-12)


def test_convolution_in_one_dimension_and_norms():
    x, k, gain, bias = (generator(n).standard_normal(s) for n, s in enumerate([(2, 7, 6), (3, 6, 4), 6, 6]))
    y = F.conv1d(nchw(x), torch.tensor(k.transpose(2, 1, 0).copy()), stride=2, padding=1)
    np.testing.assert_allclose(mg.conv1d(x, k, 2, 1), nhwc(y), atol=1e-12)
    tgain, tbias = torch.tensor(gain), torch.tensor(bias)
    np.testing.assert_allclose(nn.layer_norm(x, gain, bias), F.layer_norm(torch.tensor(x), (6,), tgain, tbias).numpy(), atol=1e-12)
    np.testing.assert_allclose(nn.layer_norm(x, np.ones((7, 6))), F.layer_norm(torch.tensor(x), (7, 6)).numpy(), atol=1e-12)
    np.testing.assert_allclose(nn.group_norm(x, 3, gain, bias), nhwc(F.group_norm(nchw(x), 3, tgain, tbias)), atol=1e-12)


def test_activations_and_their_slopes_also_at_0():
    x = np.array([-3.0, -0.5, 0.0, 0.7, 4.0])
    for f, theirs in ((mg.silu, F.silu), (mg.gelu, lambda x: F.gelu(x, approximate="tanh")), (mg.elu, F.elu), (mg.selu, F.selu),
                      (mg.leaky_relu, F.leaky_relu), (lambda x: mg.elu(x, 0.3), lambda x: F.elu(x, 0.3))):
        t = torch.tensor(x, requires_grad=True)
        y = theirs(t)
        y.sum().backward()
        np.testing.assert_allclose(f(x), y.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(mg.grad(lambda x: mg.sum(f(x)))(x), t.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "decay": 0.9, "eps": 1e-3}])
def test_rmsprop(settings):
    p, t = np.ones(3), torch.ones(3, dtype=torch.float64, requires_grad=True)
    ours, theirs = optim.rmsprop(**settings), torch.optim.RMSprop(
        [t], lr=0.1, **{{"decay": "alpha"}.get(key, key): value for key, value in settings.items()})
    state = ours.init(p)
    for n in range(4):
        g = generator(n).standard_normal(3)
        p, state = ours.update(g, state, p, 0.1)
        t.grad = torch.tensor(g)
        theirs.step()
    np.testing.assert_allclose(p, t.detach().numpy(), rtol=1e-12)


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
