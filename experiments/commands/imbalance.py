"""python -m experiments.imbalance: the same as python -m experiments imbalance."""
from .command_line import run_module

run_module(__name__, "imbalance")
