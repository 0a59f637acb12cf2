"""python -m experiments.sweep A B: the same as python -m experiments A B, its name since 0.2."""
from .command_line import run_module

run_module(__name__)
