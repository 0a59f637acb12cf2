"""python -m experiments.table2: the same as python -m experiments table2."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["table2", *sys.argv[1:]]))
deprecated.replace(__name__)
