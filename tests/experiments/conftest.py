"""What tests of pictures share."""
import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, still open."""
    kept, close = [], plt.close
    monkeypatch.setattr(plt, "close", kept.append)
    yield kept
    for figure in kept:
        close(figure)
