"""python -m experiments.nested: the same as python -m experiments nested."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["nested", *sys.argv[1:]]))
deprecated.replace(__name__)
