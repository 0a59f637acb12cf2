"""From a task and a method to the lines of a record.

runs.py      settings, a run, and its files
folders.py   the folder of an experiment
trainers.py  one step: gradient descent, or boosting
loop.py      the one loop, which a killed run resumes
workers.py   what a worker does, on this machine or on one that sees none of its files
pool.py      runs side by side, each in a process of its own
ranks.py     one run on many ranks, which mpiexec started
executors.py processes on other machines: Dask's and MPI's
"""
from .. import deprecated
from .loop import train
from .runs import Problem, Run, Settings

__all__ = ["Problem", "Run", "Settings", "train"]

__getattr__ = deprecated.attributes(__name__, "loop")
