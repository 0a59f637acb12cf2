"""python -m experiments.figure4: the same as python -m experiments figure4."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["figure4", *sys.argv[1:]]))
deprecated.replace(__name__)
