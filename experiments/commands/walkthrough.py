"""python -m experiments.walkthrough: the same as python -m experiments walkthrough."""
from .command_line import run_module

run_module(__name__, "walkthrough")
