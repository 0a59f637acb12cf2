"""A multilayer perceptron."""
from minigrad import nn, relu


def mlp(rng, sizes, activation=relu, normalise=False):
    """Linear layers of these sizes, (inputs, hidden ..., outputs), with an activation between them.

    rng: a generator (backend.seed); normalise: batch normalisation before each activation.
    Takes (n, inputs) to (n, outputs).
    """
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        layers.append(nn.Linear.init(rng, inputs, outputs))
        if i < len(sizes) - 2:
            layers += [nn.BatchNorm.init(outputs)] if normalise else []
            layers.append(activation)
    return nn.Sequential(tuple(layers))
