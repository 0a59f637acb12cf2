"""python -m experiments.report FOLDER: the same as python -m experiments report FOLDER."""
from .command_line import run_module

run_module(__name__, "report")
