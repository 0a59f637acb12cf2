"""python -m experiments.imbalance: the same as python -m experiments imbalance."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["imbalance", *sys.argv[1:]]))
deprecated.replace(__name__)
