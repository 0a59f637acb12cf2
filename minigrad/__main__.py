"""Print what minigrad runs on: `python -m minigrad`."""
from .fast.info import info

if __name__ == "__main__":
    print(info())
