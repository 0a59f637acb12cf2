"""python -m experiments.contradiction: the same as python -m experiments contradiction."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["contradiction", *sys.argv[1:]]))
deprecated.replace(__name__)
