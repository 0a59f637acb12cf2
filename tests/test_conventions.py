"""The tables of minigrad/conventions.md are measured: each cell is what the library of its column returns.

    python -m tests.test_conventions            prints the page with its cells as measured here

A row is an expression in NumPy's names and a point; its cells are those of minigrad, JAX, PyTorch and autograd.
"""
import ast
import contextlib
import fractions
import pathlib
import sys
import warnings

import numpy as np
import pytest

import minigrad as mg

from . import requirements

PAGE = pathlib.Path(mg.__file__).parent / "conventions.md"
SOLVER = "cholesky(", "det(", "eigh(", "eigvalsh(", "inv(", "lstsq(", "norm(x, 'nuc')", "norm(x, 2)", "svd("


class Missing(Exception):
    """The library has no such function."""


class Library:
    """The names of one library, and how it takes derivatives. `more`: what it calls otherwise than NumPy."""

    def __init__(self, asarray, gradients, modules, settings=contextlib.nullcontext, **more):
        self.asarray, self.gradients, self.modules, self.settings, self.more = asarray, gradients, modules, settings, more

    def find(self, name):
        """Return what the library calls by this name of NumPy's."""
        if name in self.more or name == "inf":
            return self.more.get(name, np.inf)
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise Missing(name)

    def evaluate(self, text, point):
        """Return the value of an expression where the variables have these values."""
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        bound = {node.arg for node in ast.walk(ast.parse(text)) if isinstance(node, ast.arg)}
        return eval(text, {name: point[name] if name in point else self.find(name) for name in names - bound})

    def measure(self, kind, text, point):
        """Return the text of one cell: `kind` is the heading of the first column."""
        variables = {name: self.asarray(np.array(value, float)) for name, value in point.items()}
        try:
            if kind == "value of":
                return written(self.evaluate(text, variables))

            def f(*xs):
                return self.evaluate(text, dict(zip(variables, xs)))
            return written(self.gradients(f, [*variables.values()], kind == "second derivative of"))
        except Missing:
            return "–"
        except Exception as error:
            self.error = error                              # python -m tests.test_conventions prints it
            return "error"


def written(value):
    """Return numbers as a table shows them: fractions of small numbers as such."""
    if value is None or isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple, dict)):
        return ", ".join(map(written, value.values() if isinstance(value, dict) else value))
    cells = [_number(x) for x in np.asarray(mg.to_host(value), float).ravel().tolist()]
    return "all nan" if len(cells) > 2 and {*cells} == {"nan"} else ", ".join(cells)


def _number(x):
    if not np.isfinite(x):
        return str(x)
    near = fractions.Fraction(x).limit_denominator(6)
    return str(near) if abs(x - near) < 1e-9 else f"{x:.4g}"


def transform(gradients):
    """Return the gradients function of a library that has grad(f, argnums)."""
    def of_all(f, xs, second=False):
        grad = gradients()
        return [grad(grad(f))(*xs)] if second else [grad(f, n)(*xs) for n in range(len(xs))]
    return of_all


def forward(f, xs, second=False):
    """Return minigrad's gradients by forward mode."""
    def along(f, n, t):
        return lambda *xs: mg.jvp(lambda x: f(*xs[:n], x, *xs[n + 1:]), (xs[n],), (t,))[1]
    if second:
        return [along(along(f, 0, mg.xp.ones(())), 0, mg.xp.ones(()))(*xs)]
    return [mg.to_host(along(f, n, mg.xp.asarray(unit.reshape(x.shape)))(*xs))
            for n, x in enumerate(xs) for unit in np.eye(x.size)]


def of_minigrad(gradients=transform(lambda: mg.grad)):
    nn = mg.nn
    return Library(mg.xp.asarray, gradients, (mg, mg.linalg, mg.special), array=lambda x: mg.xp.asarray(np.array(x)),
                   relu6=lambda x: mg.clip(x, 0.0, 6.0), batch_norm=lambda x: nn.batch_norm(x, None, mg.xp.zeros(1)),
                   max_pool=lambda x: mg.max_pool2d(x.reshape(1, 2, 2, 1), 2).sum())


def of_jax():
    jax = requirements.module("jax")
    import jax.numpy as jnp
    from jax.scipy import special

    @contextlib.contextmanager
    def settings():
        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", True)
        try:
            yield
        finally:
            jax.config.update("jax_enable_x64", before)
    return Library(jnp.asarray, transform(lambda: jax.grad), (jnp, jnp.linalg, jax.nn, special, jax), settings, array=jnp.array,
                   batch_norm=lambda x: jax.nn.standardize(x, 0),
                   max_pool=lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (4,), (4,), "valid").sum())


def of_torch():
    torch = requirements.module("torch")
    F = torch.nn.functional

    def gradients(f, xs, second=False):
        if second:
            return [torch.func.grad(torch.func.grad(f))(*xs) + 0.0]
        leaves = [x.clone().requires_grad_() for x in xs]
        f(*leaves).backward()
        return [leaf.grad for leaf in leaves]

    def grad(f):
        def gradient(x):
            if isinstance(x, dict):
                raise Missing("trees of arrays")
            return gradients(f, [torch.as_tensor(x)])[0]
        return gradient
    return Library(torch.as_tensor, gradients, (torch.linalg, F, torch, torch.special), array=lambda x: torch.as_tensor(np.array(x)), grad=grad,
                   power=torch.pow, max=lambda x, axis=None: torch.max(x) if axis is None else torch.max(x, axis)[0], sort=lambda x: torch.sort(x, stable=True)[0], mod=torch.remainder,
                   std=lambda x, **params: torch.std(x, correction=params.get("ddof", 0)),
                   var=lambda x, **params: torch.var(x, correction=params.get("ddof", 0)),
                   softmax=lambda x: torch.softmax(x, -1), log_softmax=lambda x: torch.log_softmax(x, -1),
                   logsumexp=lambda x: torch.logsumexp(x, -1),
                   cumprod=lambda x: torch.cumprod(x, 0), norm=lambda x, ord=None: torch.linalg.norm(x, ord),
                   batch_norm=lambda x: F.batch_norm(x, None, None, training=True),
                   max_pool=lambda x: F.max_pool2d(x.reshape(1, 1, 2, 2), 2).sum())


def of_autograd():
    autograd = requirements.module("autograd")
    import autograd.numpy as anp
    from autograd.scipy import special
    return Library(np.asarray, transform(lambda: autograd.grad), (anp, anp.linalg, special, autograd), array=np.array)


COLUMNS = {"minigrad": of_minigrad, "JAX": of_jax, "PyTorch": of_torch, "autograd": of_autograd}


def rows():
    """Return (kind, expression, point, cells, line) of each row of the page, and () for each other line."""
    kind = None
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and cells[0].endswith(" of"):
            kind = cells[0]
            assert cells[2:] == [*COLUMNS]
        if cells and cells[0].startswith("`"):
            point = eval(f"dict({cells[1].strip('`')})", {"inf": np.inf, "nan": np.nan})
            yield kind, cells[0].strip("`"), point, cells, line
        else:
            yield None, None, None, None, line


def measure(library, kind, text, point):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return library.measure(kind, text, point)


ROWS = [row for row in rows() if row[0]]
IDS = [" ".join(cells[:2]) for *_, cells, _ in ROWS]


@pytest.mark.parametrize("kind, text, point, cells, line", ROWS, ids=IDS)
def test_minigrad(device, kind, text, point, cells, line):
    """In reverse mode; and in forward mode, where zeros and infinities may meet in another order: then not NaN."""
    requirements.need(*["cusolver"] * (device == "cupy" and any(call in text for call in SOLVER)))
    assert measure(of_minigrad(), kind, text, point) == cells[2]
    assert "nan" in cells[2] or measure(of_minigrad(forward), kind, text, point) == cells[2]


@pytest.mark.parametrize("column", [3, 4, 5], ids=[*COLUMNS][1:])
def test_others(column):
    """Of the versions that the page names: in others, a difference may be theirs."""
    library = [*COLUMNS.values()][column - 2]()
    with library.settings():
        found = {line: measure(library, kind, text, point) for kind, text, point, _, line in ROWS}
    assert found == {line: cells[column] for *_, cells, line in ROWS}


def test_the_page_has_rows_and_short_lines():
    assert 40 <= len(ROWS) == len({(kind, text) for kind, text in zip((row[0] for row in ROWS), IDS)})
    assert {kind for kind, *_ in ROWS} == {"derivative of", "second derivative of", "value of"}
    assert all(len(line) <= 120 for *_, line in rows())


def main():
    """Print the page with cells as measured here, and why a cell is an error."""
    libraries = [make() for make in COLUMNS.values()]
    for kind, text, point, cells, line in rows():
        found = []
        for name, library in zip(COLUMNS, libraries):
            library.error = None
            if kind:
                with library.settings():
                    found.append(measure(library, kind, text, point))
            if library.error is not None:
                print(f"{text} {cells[1]} {name}: {type(library.error).__name__} {library.error}"[:200], file=sys.stderr)
        print("| " + " | ".join([*cells[:2], *found]) + " |" if kind else line)


if __name__ == "__main__":
    main()
