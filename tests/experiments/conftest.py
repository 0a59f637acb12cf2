"""What tests of pictures and of training share."""
import types

import matplotlib.pyplot as plt
import pytest

from experiments import training


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, still open."""
    kept, close = [], plt.close
    monkeypatch.setattr(plt, "close", kept.append)
    yield kept
    for figure in kept:
        close(figure)


@pytest.fixture(autouse=True)
def uncollected(monkeypatch):
    """A run frees a GPU's memory by a collection at its end, which takes 0.2 s among all the objects of this process."""
    monkeypatch.setattr(training, "gc", types.SimpleNamespace(collect=lambda: None))
