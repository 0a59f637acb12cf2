"""python -m experiments.tour: the same as python -m experiments tour."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["tour", *sys.argv[1:]]))
deprecated.replace(__name__)
