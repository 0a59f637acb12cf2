"""python -m experiments.figure6: the same as python -m experiments figure6."""
from .command_line import run_module

run_module(__name__, "figure6")
