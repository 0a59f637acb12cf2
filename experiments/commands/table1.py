"""python -m experiments.table1: the same as python -m experiments table1."""
from .command_line import run_module

run_module(__name__, "table1")
