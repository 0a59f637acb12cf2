"""The programs of minigrad/migration.md: before and after compute the same, and every name in its tables exists.

What follows `>>>` is also a doctest.
"""
import contextlib
import doctest
import importlib
import io
import math
import operator
import pathlib
import re

import numpy as np
import pytest

import minigrad as mg

from . import requirements

TEXT = (pathlib.Path(mg.__file__).parent / "migration.md").read_text()
SECTIONS = {section.split("\n")[0]: section for section in re.split(r"^## ", TEXT, flags=re.M)[1:]}
PROGRAMS = {"autograd": ("w", "w"), "JAX": ("value", "value"), "micrograd": ("loss.data", "loss"), "PyTorch": ("loss", "loss")}      # and their results
LIBRARIES = {"autograd": "autograd", "JAX": "jax", "micrograd": "micrograd", "PyTorch": "torch"}


def blocks(name):
    """Return the program before, and the one after it without prompts and output."""
    before, after, *_ = re.findall(r"```python\n(.*?)```", SECTIONS[f"From {name}"], re.S)
    return before, "".join(example.source for example in doctest.DocTestParser().get_examples(after))


def result(program, expression):
    """Return what the expression is after the program has run."""
    found = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(program, found)
    return np.asarray(mg.to_host(eval(expression, found)), float)


@contextlib.contextmanager
def unchanged(name):
    """Restore what a program sets for its whole process."""
    module = requirements.module(LIBRARIES[name])
    try:
        yield
    finally:
        if name == "JAX":
            module.config.update("jax_enable_x64", False)
        if name == "PyTorch":
            module.set_default_dtype(module.float32)


@pytest.mark.parametrize("name", PROGRAMS)
def test_before_and_after_compute_the_same(name):
    with unchanged(name):
        before, after = map(result, blocks(name), PROGRAMS[name])
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_are_short_and_run_on_both_devices(device, name):
    assert all(8 <= len(program.splitlines()) <= 32 for program in blocks(name))
    assert np.isfinite(result(blocks(name)[1], PROGRAMS[name][1])).all()


def names(beginning):
    """Return the dotted names in code that begin with this one."""
    return sorted({name for code in re.findall(r"`([^`\n]+)`", SECTIONS["Their name, our name"]) for name in re.findall(rf"(?<![\w.]){beginning}\.[\w.]+\w", code)})


def test_our_names_exist():
    assert len(names("mg")) > 30
    for name in names("mg"):
        operator.attrgetter(name.removeprefix("mg."))(mg)


@pytest.mark.parametrize("library", ["autograd", "jax", "torch"])
def test_their_names_exist(library):
    requirements.need(library)
    assert len(names(library)) > 6
    for name in names(library):
        with contextlib.suppress(ImportError):
            importlib.import_module(name.rpartition(".")[0])
        operator.attrgetter(name.removeprefix(f"{library}."))(importlib.import_module(library))


def test_the_differences_are_as_told():
    for f, x in ((lambda x: mg.sum(x * 1j), 2.0), (lambda x: x.__setitem__(0, 1.0), np.ones(2)), (lambda x: x * x, 3), (lambda x: float(x) * x, 3.0)):
        with pytest.raises(mg.MinigradError):
            mg.grad(f)(x)

    def f(x):
        y = x
        y += 1.0
        return x * y if y > 0 else x
    assert math.isclose(mg.grad(f)(3.0), 7.0)
    momentum = mg.nn.BatchNorm.init(2).momentum
    assert f"is kept, {momentum} where PyTorch has {1 - momentum:.1f}" in TEXT.replace("\n", " ")
    for decays, decayed in (({}, [False, True]), ({"decays": lambda leaf: True}, [True, True])):
        optimizer, params = mg.optim.sgd(weight_decay=0.1, **decays), [np.ones(2), np.ones((2, 2))]
        moved, _ = optimizer.update(mg.tree.map(np.zeros_like, params), optimizer.init(params), params, 0.1)
        assert [bool((leaf < 1.0).all()) for leaf in moved] == decayed
