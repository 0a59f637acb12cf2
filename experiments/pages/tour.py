"""A tour of the engine: one page that builds it from NumPy alone, with pictures.

    python -m experiments tour [--out FOLDER]

Run every example of `experiments/tour.md`, compare the outputs with those on the page, and write the page as
tour.html, with a picture for each line <!-- picture: NAME --> of the text.
"""
import doctest
import html
import pathlib
import re
from typing import Any, NamedTuple

import markdown

import minigrad as mg
from minigrad import MinigradError
from minigrad.draw import draw as graph_of

from . import command, html_page

TEXT = pathlib.Path(__file__).parents[1] / "tour.md"
PICTURES = {        # name: (caption, function that makes the Graph); page: names that the examples define
    "tape": ("The program x · exp(x): each white box is an entry of the tape, each arrow one of its maps.",
             lambda page: graph_of(lambda x: x * mg.exp(x), page["np"].array(0.5))),
    "normalization": ("Batch normalization composed of primitives.",
                      lambda page: graph_of(lambda x: _normalize(x, page["EPS"]), page["x"])),
    "losses": ("The losses of the noisy examples, as minigrad records them: the parameters above, eight losses below. "
               "J.push reads this downwards, J.pull upwards.",
               lambda page: graph_of(page["mg_losses"], page["params"])),
    "gradient": ("The same as a picture: the program ends in sum, its derivative in add.",
                 lambda page: graph_of(mg.grad(lambda x: mg.sum(x * mg.exp(x))), page["array"](3))),
}
STYLE = """.prompt { color: #aaa; user-select: none } .output { color: #1f5fa0; font-weight: bold }
"""


class Tour(NamedTuple):
    """The text of the page, and the names that its examples define."""
    text: str
    names: dict[str, Any]


def _normalize(x, eps):
    centered = x - mg.mean(x, 0)
    return centered / mg.sqrt(mg.mean(centered * centered, 0) + eps)


def run(text):
    """Run the examples of a page in order and return a Tour.

    Raises MinigradError if an output differs from the page.
    """
    test = doctest.DocTestParser().get_doctest(text, {}, TEXT.name, str(TEXT), 0)
    report = []
    if doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False).failed:
        raise MinigradError("".join(report) + f"\n  help: correct {TEXT.name}, or the code that it shows")
    return Tour(text, test.globs)


def contents(tour):
    """Return the sections of the page as text, with the number of examples that were run in each."""
    title, *sections = re.split(r"^##? ", tour.text, flags=re.MULTILINE)[1:]
    counts = [len(doctest.DocTestParser().get_examples(section)) for section in sections]
    rows = [f"   {section.splitlines()[0]:64}{count:3} examples" for section, count in zip(sections, counts)]
    return "\n".join([title.splitlines()[0], "", *rows, "",
                      f"   The outputs of all {sum(counts)} examples match the page."])


def _code_block(match):
    """Return a code block as HTML: gray prompts, colored outputs, without the empty line that ends a doctest."""
    rows = []
    for line in html.unescape(match[1]).rstrip("\n").split("\n"):
        prompt, source = (line[:4], line[4:]) if line.startswith((">>> ", "... ")) else ("", line)
        mark = f'<span class="prompt">{html.escape(prompt)}</span>' if prompt else ""
        rows.append(f'{mark}<span class="{"source" if prompt else "output"}">{html.escape(source)}</span>')
    return "<pre><code>" + "\n".join(rows) + "</code></pre>"


def write(tour, path):
    """Write the page as HTML, and each of its pictures into a file beside it; return the path."""
    def picture(match):
        caption, graph = PICTURES[match[1]]
        file = path.with_name(f"{path.stem}-{match[1]}.png")
        graph(tour.names).picture(file)
        return html_page.figure(file.name, caption)
    body = markdown.markdown(tour.text, extensions=["fenced_code", "tables"])
    body = re.sub(r'<pre><code class="language-python">(.*?)</code></pre>', _code_block, body, flags=re.DOTALL)
    body = re.sub(r"<!-- picture: (\w+) -->", picture, body)
    return html_page.write(path, tour.text.splitlines()[0].lstrip("# "), body, STYLE)


def main(arguments=None):
    """Run the page, print its contents and write it; return the exit status."""
    return command.main("tour", __doc__, lambda seed: run(TEXT.read_text(encoding="utf-8")), contents, write, arguments,
                      ending="html", seeded=False)
