"""python -m experiments.figure4: the same as python -m experiments figure4."""
from .command_line import run_module

run_module(__name__, "figure4")
