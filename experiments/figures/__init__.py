"""Tables and pictures of the experiments, made from the records alone, with the paper's values beside them."""
import matplotlib.pyplot as plt

from . import paper
from .benchmark import bars, growth, in_words
from .imbalance import (
    all_methods,
    error_against_share,
    example_weights_per_round,
    final_errors,
    table,
    weight_over_training,
)
from .noise import accuracy_against, accuracy_bars, accuracy_rows, accuracy_table, confusion
from .training import training_curves, weight_histograms, weights_over_training

plt.switch_backend("Agg")               # draws into files, so that no display is needed
