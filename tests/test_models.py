"""The models are the paper's."""
import numpy as np

from minigrad import nn, tree
from minigrad.backend import seed
from models import lenet, mlp


def test_lenet_is_the_authors_network():
    model = lenet(seed(0))
    assert tree.size(model) == 167_113
    assert model(np.zeros((3, 28, 28, 1), np.float32)).shape == (3,)
    assert not model.conv1.bias.any() and 0.08 < model.conv2.kernel.std() < 0.1
    assert abs(model.hidden.weight).max() <= 0.2


def test_lenet_is_reproducible():
    a, b = lenet(seed(3)), lenet(seed(3))
    assert all(np.array_equal(x, y) for x, y in zip(tree.flatten(a)[0], tree.flatten(b)[0]))


def test_mlp():
    model = mlp(seed(0), (784, 100, 50, 10), normalise=True)
    assert tree.size(model) == 784 * 100 + 100 + 2 * 100 + 100 * 50 + 50 + 2 * 50 + 50 * 10 + 10
    assert model(np.ones((4, 784), np.float32)).shape == (4, 10)
    assert [type(layer) for layer in mlp(seed(0), (2, 3, 1)).layers].count(nn.Linear) == 2
