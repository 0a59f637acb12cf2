"""A multilayer perceptron."""
from minigrad import ShapeError, deprecated, nn, relu


@deprecated.keywords(normalise="normalize")
def mlp(rng, sizes, activation=relu, normalize=False):
    """Linear layers of these sizes, (inputs, hidden ..., outputs), with an activation between them.

    rng: a generator (backend.generator); normalize: batch normalization before each activation.
    Takes (n, inputs) to (n, outputs). Raises ShapeError for fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ShapeError(f"mlp: sizes {sizes!r} are too few\n  help: (inputs, outputs), (inputs, hidden, outputs) ...")
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        layers.append(nn.Linear.init(rng, inputs, outputs))
        if i < len(sizes) - 2:
            layers += [nn.BatchNorm.init(outputs)] if normalize else []
            layers.append(activation)
    return nn.Sequential(tuple(layers))
