"""python -m experiments.figure3: the same as python -m experiments figure3."""
from .command_line import run_module

run_module(__name__, "figure3")
