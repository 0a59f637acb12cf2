"""Fixtures of the tests of pictures and of training."""
import types

import matplotlib.pyplot as plt
import pytest

from experiments.training import loop


@pytest.fixture
def drawn(monkeypatch):
    """Return the list of figures drawn in the test, kept open until its end."""
    kept, close = [], plt.close
    monkeypatch.setattr(plt, "close", kept.append)
    yield kept
    for figure in kept:
        close(figure)


@pytest.fixture(autouse=True)
def uncollected(monkeypatch):
    """Replace the garbage collection at the end of a run, which takes 0.2 s in this process."""
    monkeypatch.setattr(loop, "gc", types.SimpleNamespace(collect=lambda: None))
