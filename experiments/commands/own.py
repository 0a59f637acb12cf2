"""python -m experiments.own: the same as python -m experiments own."""
from .command_line import run_module

run_module(__name__, "own")
