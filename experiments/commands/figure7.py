"""python -m experiments.figure7: the same as python -m experiments figure7."""
from .command_line import run_module

run_module(__name__, "figure7")
