"""HTML pages: the whole page, and the parts that `tour` and `report` have in common. All texts are escaped here."""
import html
import re

from minigrad import tree

STYLE = """
body { max-width: 58em; margin: 2em auto; padding: 0 1em; font: 17px/1.5 Georgia, serif; color: #222;
       background: #fff; overflow-wrap: break-word }
p { max-width: 48em } h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2em }
pre { background: #f6f6f3; border-left: 3px solid #d9730d; padding: 0.7em 1em; font-size: 13px; line-height: 1.45;
      overflow-x: auto }
code { font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.88em } pre code { font-size: 1em }
table { border-collapse: collapse } td, th { border: 1px solid #ddd; padding: 0.2em 0.7em; text-align: left }
figure { margin: 1.5em 0; text-align: center } figure img { max-width: 100%; max-height: 45em }
figcaption { font-size: 0.9em; color: #555 }
"""


def escape(text):
    """Return a text, or the text of a value, as HTML; characters that HTML forbids are replaced."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\ufffd", str(text)))


def element(name, text, **attributes):
    """Return an element with this text; attributes: of the element, `kind` for its class."""
    return f"<{name}{_written(attributes)}>{escape(text)}</{name}>"


def figure(source, caption):
    """Return a picture with its caption. source: the address of its file, or the whole picture as a data: address."""
    return f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def table(head, rows, numbers=()):
    """Return a table that scrolls sideways where the screen is too narrow for it.

    head: the names of the columns; rows: lists of values; numbers: the indices of the columns aligned to the right.
    """
    def row(name, cells):
        return "".join(element(name, cell, **({"kind": "number"} if k in numbers else {}))
                       for k, cell in enumerate(cells))
    body = "\n".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    return (f'<div class="scroll"><table><thead><tr>{row("th", head)}</tr></thead>\n<tbody>\n{body}\n'
            "</tbody></table></div>")


def write(path, title, body, style=""):
    """Write a page and return its path; readers see the old page or the new one, never a part.

    title: text; body: HTML; style: rules after STYLE.
    """
    text = ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n{body}\n</body></html>\n")
    tree.write_whole(path, text.encode())
    return path


def _written(attributes):
    return "".join(f' {"class" if name == "kind" else name}="{escape(value)}"' for name, value in attributes.items())
