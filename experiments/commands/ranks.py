"""python -m experiments.ranks: the same as python -m experiments ranks."""
from .command_line import run_module

run_module(__name__, "ranks")
