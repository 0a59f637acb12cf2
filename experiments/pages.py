"""The command of a script that prints a page and writes one file: a picture, or a page with pictures."""
import argparse
import pathlib
import sys

from minigrad import MinigradError

from . import console
from .folders import check_folder


def main(name, about, find, page, draw, arguments=None, *, ending="png", seeded=True):
    """Find what is to be shown for a seed, print its page, draw it; return the exit status.

    find(seed) -> found; page(found) -> text; draw(found, path) -> path, where the file name ends in `ending`.
    seeded: whether there is a --seed; without one the seed is 0.
    """
    console.prepare()
    p = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=about,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=console.folder, default=pathlib.Path("runs", name),
                   help=f"folder for {name}.{ending}, default runs/{name}")
    if seeded:
        p.add_argument("--seed", type=int, default=0, help="of what is drawn at random, default 0")
    options = p.parse_args(arguments)
    try:
        check_folder(options.out)
        found = find(options.seed if seeded else 0)
        print(page(found))
        print("written:", draw(found, options.out / f"{name}.{ending}"))
        return 0
    except MinigradError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {options.out}: {name}.{ending} cannot be written there ({error})\n  help: --out FOLDER",
              file=sys.stderr)
    return 2
