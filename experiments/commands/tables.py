"""python -m experiments.tables: the same as python -m experiments tables."""
from .command_line import run_module

run_module(__name__, "tables")
