"""python -m experiments.sweep A B: the same as python -m experiments A B, its name since 0.2."""
import sys

from . import deprecated
from .command_line import main

if __name__ == "__main__":
    sys.exit(main())
deprecated.replace(__name__)
