"""More mistakes, for a type checker once nn, losses, ops, kinds and backend are annotated: then they join mistakes.py."""
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import nn
from minigrad.backend import generator


class Scale(nn.Module):
    factor: Any
    power: int = nn.static(default=1)

    def __call__(self, x: Any) -> Any:
        return self.factor * x ** self.power


def operations(x: NDArray[Any]) -> None:
    mg.sum(x, axes=0)                                           # error: call-arg
    mg.exp(x, 4, axis=2)                                        # error: call-arg
    mg.conv2d(x, x, stride="2")                                 # error: arg-type
    mg.max_pool2d(x, kernel_size="2")                           # error: arg-type
    mg.reshape(x, "3")                                          # error: arg-type
    mg.concatenate(x, axis="rows")                              # error: arg-type
    mg.where(x > 0, x)                                          # error: call-arg
    mg.dropout(x, 0.5, key="seed")                              # error: arg-type
    mg.elementwise("exp", partials=[np.exp])                    # error: call-arg
    mg.linear(lambda x: x)                                      # error: call-arg


def layers(x: NDArray[Any]) -> None:
    rng = generator(0)
    nn.Linear.init(rng, "3", 2)                                 # error: arg-type
    nn.Linear.init(0, 3, 2)                                     # error: arg-type
    nn.Linear.init(rng, 3, 2, biases=False)                     # error: call-arg
    nn.BatchNorm.init("16")                                     # error: arg-type
    nn.Conv2d.init(rng, 3, 16, stride="2")                      # error: arg-type
    nn.Sequential(nn.Linear.init(rng, 3, 2))                    # error: arg-type
    model = Scale(2.0, 3)
    model.factor = 1.0                                          # error: misc
    model.weight                                                # error: attr-defined
    Scale(2.0, "3")                                             # error: arg-type
    Scale()                                                     # error: call-arg
    y, state, key = model.apply(x)                              # error: misc
    model.apply(x, training=False)                              # error: call-arg
    nn.cross_entropy(x, y, reduction="mean")                    # error: call-arg


def backends(x: NDArray[Any]) -> None:
    mg.use(1)                                                   # error: arg-type
    generator("seed")                                           # error: arg-type
