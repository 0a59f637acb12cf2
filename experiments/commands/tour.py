"""python -m experiments.tour: the same as python -m experiments tour."""
from .command_line import run_module

run_module(__name__, "tour")
