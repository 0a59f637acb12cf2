"""What docstrings and signatures say of the arguments is true."""
import ast
import inspect
import pathlib
import re
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import check, distributed, estimators, linalg, models, nn, optim, reweight, special, stats, training, tree

ROOT = pathlib.Path(mg.__file__).parents[1]
SOURCES = sorted(path for folder in ("minigrad", "models", "experiments") for path in (ROOT / folder).rglob("*.py"))
MODULES = mg, mg.ops, check, distributed, linalg, models, nn, optim, reweight, special, training, tree


def public():
    """Return {name: what can be called}, of all public names."""
    return {f"{module.__name__}.{name}": value for module in MODULES for name, value in vars(module).items()
            if not name.startswith("_") and callable(value) and getattr(value, "__module__", "minigrad").partition(".")[0] in ("minigrad", "models")
            and not isinstance(value, type(mg.r_)) and not (inspect.isclass(value) and issubclass(value, BaseException))}


def section(doc, heading):
    """Return the names that this section of a docstring explains."""
    found = re.search(rf"^{heading}:\n((?:    .*\n?)+)", doc, re.M)
    return [name for names in re.findall(r"^    (\*{0,2}\w+(?:, \w+)*): ", found[1], re.M) for name in names.strip("*").split(", ")] if found else []


def arguments(node):
    """Return the names of the arguments of a function, of those that make an object of a class: its fields if it writes no __init__."""
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return arguments(inits[0]) if inits else [item.target.id for item in node.body if isinstance(item, ast.AnnAssign)]
    a = node.args
    names = [arg.arg for arg in (*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg]))]
    return names[names[:1] in (["self"], ["cls"]):]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sections_of_arguments_list_all_of_them_in_order(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            doc = inspect.cleandoc(ast.get_docstring(node) or "")
            told = section(doc, "Args")
            assert not told or told == arguments(node), node.name
            for name in section(doc, "Attributes"):
                assert re.search(rf"self\.{name}\b|\"{name}\"", path.read_text()) or hasattr(estimators.ClassifierMixin, name), f"{node.name}.{name}"


@pytest.mark.parametrize("module", [special, linalg, mg.ops.elementwise, mg.ops.more_elementwise], ids=lambda module: module.__name__)
def test_tables_of_conventions_name_what_there_is(module):
    """On the left stand names, and calls such as sqrt(x)."""
    rows = re.findall(r"^    (\S.*?)  ", module.__doc__, re.M)
    names = {name for row in rows for name in re.findall(r"(?<![\w.])[a-z]\w+(?=\(|,|$)", row)}
    assert len(names) > 3 and not {name for name in names if not hasattr(module, name) and not hasattr(mg, name) and not hasattr(mg.linalg, name)}


OTHERS = "DATE Executor SLURMCluster StratifiedKFold Value clean20 codes ffast kernel_cache lax make_classification random_label1 tile_1 tile_24 tile_6".split()      # names in spans


def test_names_in_spans_are_in_the_code():
    """Those of pages and docstrings: `name`, `name(x)`, and in docstrings also calls outside of spans."""
    files = [path for folder in ("minigrad", "models", "experiments", "tests") for path in (ROOT / folder).rglob("*") if path.is_file()]
    known = {part for path in files for part in (path.stem, path.parent.name)}.union(OTHERS, re.findall(r"\w+", (ROOT / "pyproject.toml").read_text()))
    code = "\n".join(path.read_text() for path in files if path.suffix in (".py", ".c", ".h", ".cu", ".cpp") and path.name != "test_readme.py")
    known |= set(re.findall(r"\w+", re.sub(r'"""[\s\S]*?"""|"Return [^"\n]*"|# .*', "", code)))
    texts = {path: re.sub(r"```.*?```|`(?:autograd|jax|torch|lax)\.[^`]*`", "", path.read_text(), flags=re.S) for path in (*files, *ROOT.glob("*.md")) if path.suffix == ".md" and path.name != "CHANGELOG.md"}
    theirs = ROOT / "minigrad" / "migration.md"             # the first column has names of others
    texts[theirs] = re.sub(r"^\| .*? \||`vmap`", "", texts[theirs], flags=re.M)
    missing = {(path.name, word) for path, text in texts.items() for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[A-Za-z_]\w+", span) if word not in known}
    docs = [(path.name, ast.get_docstring(node) or "") for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))]
    docs += [(name, inspect.getdoc(f) or "") for name, f in public().items()]           # also those that a row of a table has as a string
    for name, doc in docs:
        spans = [*re.findall(r"`([^`\n]+)`", doc), *re.findall(r"\b[a-z_]\w+(?=\()", doc)]
        missing |= {(name, word) for span in spans for word in re.findall(r"[A-Za-z_]\w+", span) if word not in known}
    assert missing == set()


def test_signatures_name_the_arguments():
    """As `help` shows them: of operations that hand them on to NumPy as well, and of primitives, whose arrays come by position."""
    assert len(public()) > 200
    for name, f in public().items():
        found = [*inspect.signature(f).parameters.values()]
        bare = [p.kind for p in found] == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]
        assert not bare or isinstance(f, type), name        # a protocol has none of its own
        if isinstance(f, mg.Primitive):
            assert found[0].kind is inspect.Parameter.POSITIONAL_ONLY and {p.kind for p in found} <= {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.KEYWORD_ONLY}, name
            nin = getattr(getattr(np, f.name, None), "nin", None)
            assert nin in (None, len([p for p in found if p.kind is p.POSITIONAL_ONLY])), name


def test_what_numpy_computes_for_plain_arguments_has_its_arguments_when_traced():
    """Under the same names and at the same positions: a program may pass both. What minigrad lacks is refused."""
    checked = 0
    for name in mg.ops.__all__:
        f, numpys = getattr(mg, name), getattr(np, name, None)
        if not isinstance(f, types.FunctionType) or not isinstance(getattr(f, "__wrapped__", None), types.FunctionType) or f.__wrapped__.__code__ is not mg.cumsum.__wrapped__.__code__:
            continue                                        # it is minigrad's own with plain arguments, too
        try:
            theirs = [*inspect.signature(numpys).parameters.values()]
        except (TypeError, ValueError):                     # NumPy has none, or does not say
            continue
        own = [*inspect.signature(f).parameters.values()]
        by_position = [p.name for p in own if p.kind <= p.POSITIONAL_OR_KEYWORD]
        assert by_position == [p.name for p in theirs if p.kind <= p.POSITIONAL_OR_KEYWORD][:len(by_position)], name
        assert {p.name for p in own} <= {p.name for p in theirs} | {"stable"}, name         # older versions of NumPy lack it
        checked += 1
    assert checked > 40


@pytest.mark.parametrize("f", [
    lambda x: mg.fliplr(m=x), lambda x: mg.tile(A=x, reps=2), lambda x: mg.split(ary=x, indices_or_sections=2)[0], lambda x: mg.rot90(m=x, k=3), lambda x: mg.real(val=x),
    lambda x: mg.real_if_close(a=x), lambda x: x + mg.angle(deg=True, z=x), lambda x: mg.repeat(x, axis=0, repeats=2), lambda x: mg.diagonal(a=x, offset=1),
    lambda x: mg.diagonal(x, axis1=1, axis2=0), lambda x: mg.diagonal(x, 1, axis2=0, axis1=1), lambda x: mg.rot90(x, axes=(1, 0)), lambda x: mg.hsplit(ary=x, indices_or_sections=3)[1],
    lambda x: mg.array_split(x, axis=1, indices_or_sections=2)[0]])
def test_names_of_numpy_are_those_of_traced_values_too(f):
    x = np.arange(1.0, 7.0).reshape(2, 3)
    np.testing.assert_array_equal(mg.linearize(f, x)[0], f(x))
    assert np.count_nonzero(mg.grad(lambda x: mg.sum(f(x) ** 2))(x))


def test_wrong_arguments_are_answered_with_the_right_ones():
    x = np.ones((2, 3))
    for f, params, told in ((mg.max, {"out": x}, "max(x, axis=None, keepdims=False, *, initial=None, where=None)"), (mg.sum, {"a": 1}, "sum(x, axis=None, keepdims=False, *, dtype=None, initial=None, where=None)"),
                            (mg.std, {"correction": 1}, "std(x, axis=None, ddof=0, keepdims=False)"), (mg.conv2d, {"strides": 1}, "conv2d(x, k, stride=1, padding=0)")):
        with pytest.raises(mg.DTypeError, match=re.escape(f"\n  help: the arguments are {told}")):
            f(x, **params)
    with pytest.raises(mg.DTypeError, match=re.escape("  help: the arguments are cumsum(a, axis=None, dtype=None)")):
        mg.grad(lambda x: mg.sum(mg.cumsum(x, out=x)))(x)
    with pytest.raises(mg.DTypeError) as caught:            # the arguments are right, and the mistake is elsewhere
        mg.sum(x, 0, "float32")
    assert "the arguments are" not in str(caught.value)


def test_functions_of_distributions_say_what_they_are():
    for name in stats.__all__:
        distribution = getattr(stats, name)
        for key in (key for key in dir(distribution) if callable(getattr(distribution, key)) and not key.startswith("_")):
            f = getattr(distribution, key)
            assert f.__doc__.startswith("Return ") and f.__name__ == key, (name, key)
            with pytest.raises(mg.DTypeError, match=f"{name}: functions of x|arguments are {key}"):
                f([0.5, 0.5], strange=1)
