"""python -m experiments.nested: the same as python -m experiments nested."""
from .command_line import run_module

run_module(__name__, "nested")
