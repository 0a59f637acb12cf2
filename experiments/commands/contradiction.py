"""python -m experiments.contradiction: the same as python -m experiments contradiction."""
from .command_line import run_module

run_module(__name__, "contradiction")
