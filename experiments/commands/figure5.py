"""python -m experiments.figure5: the same as python -m experiments figure5."""
from .command_line import run_module

run_module(__name__, "figure5")
