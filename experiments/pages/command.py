"""The command line of a script that prints a page and writes one file, a picture or a page with pictures."""
import pathlib
import sys

from minigrad import MinigradError

from .. import console
from ..training.folders import check_folder


def main(name, about, find, page, draw, arguments=None, *, ending="png", seeded=True):
    """Compute a result, print its page, write its file; return the exit status: 0, or 2 for an error.

    Args:
        name: of the module.
        about: the description for --help.
        find: seed -> the result.
        page: result -> text.
        draw: (result, path) -> path, writes the file.
        arguments: of the command line; None: sys.argv.
        ending: of the file name.
        seeded: whether there is an option --seed; without it the seed is 0.
    """
    console.prepare()
    p = console.Parser(prog=f"python -m experiments.{name}", description=about)
    p.add_argument("--out", type=console.folder, default=pathlib.Path("runs", name),
                   help=f"folder for {name}.{ending}, default runs/{name}")
    if seeded:
        p.add_argument("--seed", type=int, default=0, help="seed of all random numbers, default 0")
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
