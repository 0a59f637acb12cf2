"""python -m experiments.table2: the same as python -m experiments table2."""
from .command_line import run_module

run_module(__name__, "table2")
