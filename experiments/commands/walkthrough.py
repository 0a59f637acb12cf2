"""python -m experiments.walkthrough: the same as python -m experiments walkthrough."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main(["walkthrough", *sys.argv[1:]]))
deprecated.replace(__name__)
