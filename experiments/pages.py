"""The command of a script that prints a page and draws one picture."""
import argparse
import pathlib
import sys

from minigrad import MinigradError

from . import console
from .folders import check_folder


def main(name, about, find, page, draw, arguments=None):
    """Find what is to be shown for a seed, print its page, draw it; gives the exit status.

    find(seed) -> found; page(found) -> text; draw(found, path) -> path.
    """
    console.prepare()
    p = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=about,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=console.folder, default=pathlib.Path("runs", name),
                   help=f"folder for {name}.png, default runs/{name}")
    p.add_argument("--seed", type=int, default=0, help="of what is drawn at random, default 0")
    options = p.parse_args(arguments)
    try:
        check_folder(options.out)
        found = find(options.seed)
        print(page(found))
        print("written:", draw(found, options.out / f"{name}.png"))
        return 0
    except MinigradError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {options.out}: the picture cannot be written there ({error})\n  help: --out FOLDER",
              file=sys.stderr)
    return 2
