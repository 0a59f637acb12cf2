"""python -m experiments.figure6: the same as python -m experiments figure6."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["figure6", *sys.argv[1:]]))
deprecated.replace(__name__)
