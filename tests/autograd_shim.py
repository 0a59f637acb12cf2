"""HIPS/autograd's own tests, run on minigrad: how much of what people wrote for it runs here.

    pip download --no-deps --no-binary :all: autograd && tar xf autograd-*.tar.gz
    python -m tests.autograd_shim autograd-*/tests

`autograd` and the modules in it are replaced by thin ones of the same names: autograd.numpy takes from minigrad what
minigrad has, and what has no derivative from NumPy. A function of NumPy that minigrad lacks is *missing*. Its tests of
complex numbers, of its insides and of what is its own (vector spaces, tracing) are left out, as are arguments that are
complex.
"""
import functools
import importlib.machinery
import itertools
import pathlib
import sys
import types

import numpy as np
import pytest
from scipy import stats as scipy_stats

import minigrad as mg
from minigrad import tree
from minigrad.box import raw

USAGE = "python -m tests.autograd_shim FOLDER, that of an unpacked source distribution of autograd"
LEFT_OUT = {"test_core.py", "test_vspaces.py", "test_complex.py", "test_fft.py", "test_performance.py",
            "test_tests.py"}


class MissingName(AttributeError, NotImplementedError):
    """A name of autograd that has no counterpart here."""


def _module(name, /, **members):
    module = types.ModuleType(name)
    module.__spec__, module.__path__ = importlib.machinery.ModuleSpec(name, None, is_package=True), []
    vars(module).update(members)
    sys.modules[name] = module
    return module


class Missing:
    """A function that minigrad lacks: it can be imported, and fails where it is called."""

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, *args, **params):
        raise MissingName(self.__name__)

    def __getitem__(self, index):
        raise MissingName(self.__name__)

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Missing(f"{self.__name__}.{attribute}")


def _fallback(name, *homes, plain=None):
    """Return a __getattr__ that looks in modules of minigrad, and for what is no differentiable function in NumPy."""
    def lookup(attribute):
        for home in homes:
            if home is not None and not attribute.startswith("_") and hasattr(home, attribute):
                return getattr(home, attribute)
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        value = getattr(plain, attribute, None)
        if value is None or plain is not np or attribute in ("r_", "c_") or callable(value) and not isinstance(value, type) and attribute not in PLAIN:
            return Missing(f"{name}.{attribute}")
        return value
    return lookup


PLAIN = set("""allclose argmax argmin argpartition argsort argwhere array_equal can_cast empty empty_like errstate eye
    finfo flatnonzero floor_divide full identity iinfo indices int64 isclose iscomplexobj isfinite isinf isnan ix_ logical_and
    logical_not logical_or mgrid nonzero ogrid ones result_type searchsorted shape size tril_indices triu_indices zeros
    arange float64 ndim less greater equal not_equal isrealobj vectorize unravel_index seterr""".split())


# ------------------------------------------------------------------------------------------------ autograd.test_util

def _is_complex(x):
    return any(np.iscomplexobj(leaf) for leaf in tree.flatten(x)[0])


def _random_like(x, rng):
    return tree.map(lambda leaf: rng.standard_normal(np.shape(leaf)) if np.shape(leaf) else float(rng.standard_normal()), x)


def _inner(a, b):
    return sum(float(np.sum(mg.to_host(x) * mg.to_host(y))) for x, y in zip(tree.flatten(a)[0], tree.flatten(b)[0]))


def _check(f, xs, modes, order, rng, tolerance=1e-6):
    """Compare J v and J^T w with differences, and do so again for the derivatives, up to the order."""
    xs = tuple(tree.map(lambda leaf: np.asarray(leaf, float), x) for x in xs)
    v, h = tuple(_random_like(x, rng) for x in xs), 1e-6
    step = lambda sign: f(*tree.map(lambda x, t: x + sign * h / 2 * t, xs, v))  # noqa: E731
    slope = tree.map(lambda a, b: (mg.to_host(a) - mg.to_host(b)) / h, step(+1), step(-1))
    y = f(*xs)
    w = _random_like(y, rng)

    def close(a, b):
        assert abs(a - b) < tolerance or abs(a - b) / abs(a + b) < tolerance, (a, b)
    if "fwd" in modes:
        pushed = mg.jvp(f, xs, v)[1]
        assert [np.shape(a) for a in tree.flatten(pushed)[0]] == [np.shape(a) for a in tree.flatten(slope)[0]]
        close(_inner(w, pushed), _inner(w, slope))
        if order > 1:
            _check(lambda *xs: mg.jvp(f, xs, v)[1], xs, modes, order - 1, rng)
    if "rev" in modes:
        pulled = mg.vjp(f, *xs)[1](w)
        close(_inner(pulled, v), _inner(w, slope))
        if order > 1:
            _check(lambda *xs: mg.vjp(f, *xs)[1](w), xs, modes, order - 1, rng)


def check_grads(f, argnum=None, modes=("fwd", "rev"), order=2):
    def check(*args, **params):
        chosen = range(len(args)) if argnum is None else (argnum,) if isinstance(argnum, int) else argnum
        if _is_complex(args):
            raise MissingName("complex numbers")

        def inner(*xs):
            full = list(args)
            for i, x in zip(chosen, xs):
                full[i] = x
            return f(*full, **params)
        _check(inner, [args[i] for i in chosen], modes, order, np.random.default_rng(0))
    return check


def combo_check(f, *how, **settings):
    def check(*args, **params):
        choices = [[x for x in each if not _is_complex(x)] for each in args]
        for xs in itertools.product(*choices):
            for values in itertools.product(*params.values()):
                check_grads(f, *how, **settings)(*xs, **dict(zip(params, values)))
    return check


def check_equivalent(a, b):
    for x, y in zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)


def scalar_close(a, b):
    return abs(a - b) < 1e-6 or abs(a - b) / abs(a + b) < 1e-6


# ------------------------------------------------------------------------------------------------ autograd's operators

def _by_argnum(transform):
    """Return a transform of autograd: transform(f, argnum), which takes numbers of any kind."""
    @functools.wraps(transform)
    def of(f, argnum=0, *more, **params):
        def one(*args, **settings):                         # an array of one element counts as a number there
            y = f(*args, **settings)
            return mg.reshape(y, ()) if transform in (mg.grad, mg.value_and_grad) and getattr(y, "size", 0) == 1 else y

        def called(*xs, **settings):
            chosen = (argnum,) if isinstance(argnum, int) else argnum
            xs = [tree.map(lambda leaf: np.asarray(leaf, float) if isinstance(leaf, (int, float)) else leaf, x) if i in chosen else x for i, x in enumerate(xs)]
            return transform(one, argnum, *more, **params)(*xs, **settings)
        return called
    return of


def _elementwise_grad(f, argnum=0):
    return lambda *xs, **params: mg.grad(lambda *xs: mg.sum(f(*xs, **params)), argnum)(*xs)


def _deriv(f, argnum=0):
    return lambda x: mg.jvp(f, (np.asarray(x, float),), (np.ones(np.shape(x)),))[1]


def _grad_named(f, name):
    return lambda *args, **params: mg.grad(lambda x: f(*args, **{**params, name: x}))(params[name])


def _grad_and_aux(f, argnum=0):
    return mg.grad(f, argnum, has_aux=True)


def _make_vjp(f, argnum=0):
    def of(*xs):
        y, pull = mg.vjp(lambda x: f(*xs[:argnum], x, *xs[argnum + 1:]), xs[argnum])
        return (lambda g: pull(g)[0]), y
    return of


def _make_jvp(f, argnum=0):
    return lambda *xs: lambda v: mg.jvp(lambda x: f(*xs[:argnum], x, *xs[argnum + 1:]), (xs[argnum],), (v,))


def _make_ggnvp(f, g=lambda y: mg.sum(y * y) / 2.0):
    def of(x):
        y, J = mg.linearize(f, x)
        return lambda v: J.pull(mg.hvp(g, y, J.push(v)))
    return of


def _flatten(x):
    leaves, structure = tree.flatten(x)
    sizes = np.cumsum([np.size(mg.stop_gradient(leaf)) for leaf in leaves])[:-1]

    def back(flat):
        parts = [mg.reshape(part, np.shape(leaf)) if np.shape(leaf) else part[0] for part, leaf in zip(mg.split(flat, sizes), leaves)]
        return tree.unflatten(structure, parts)
    return mg.concatenate([mg.ravel(leaf) for leaf in leaves]), back


def _make_diagonal(D, offset=0, axis1=0, axis2=1):
    return mg.moveaxis(mg.expand_dims(D, -1) * np.eye(D.shape[-1]), (-1, -2), (axis1, axis2))


def _make_hvp(f, argnum=0):
    return lambda *xs: (lambda v: mg.hvp(lambda x: f(*xs[:argnum], x, *xs[argnum + 1:]), xs[argnum], v), None)


def _hessian_vector_product(f, argnum=0):
    return lambda *args: mg.hvp(lambda x: f(*args[:argnum], x, *args[argnum + 1:-1]), args[argnum], args[-1])


def _tensor_product(of):
    def product(f, argnum=0):
        def called(*args):
            *xs, v = args
            J = of(f, argnum)(*xs)
            return mg.tensordot(v, J, np.ndim(v)) if of is mg.jacobian else mg.tensordot(J, v, np.ndim(v))
        return called
    return product


INSIDE = {"test_no_vjp_def", "test_no_jvp_def", "test_const_graph", "test_const_graph_args", "test_custom_where", "test_custom_where_dtypes", "test_wrapped_name_and_docs",
          "test_deprecated_quick_grad_check_wrapper", "test_numpy_version",      # of primitives and wrappers of autograd's own
          "test_deprecated_defgrad_wrapper", "test_deprecated_defvjp_wrapper", "test_deprecated_defvjp_is_zero_wrapper",
          "test_cast_to_int",                               # np.int64(x) drops the derivative there, which minigrad refuses on purpose
          "test_assignment_raises_error"}                   # x[i] = y raises TypeError there, TraceError here


def _primitive(f):
    return f


def _isinstance(x, kinds):
    return isinstance(raw(x), kinds)


def _distribution(name):
    """Return a module with the functions of a distribution of minigrad, and SciPy's random numbers."""
    own, plain = getattr(mg.stats, name), getattr(scipy_stats, name, None)
    return _module(f"autograd.scipy.stats.{name}", rvs=getattr(plain, "rvs", None), __getattr__=_fallback(f"scipy.stats.{name}", own))


def install():
    """Put the modules in place of autograd's."""
    own = types.SimpleNamespace(**{name: getattr(mg, name) for name in mg.ops.__all__})
    linalg, special = getattr(mg, "linalg", None), getattr(mg, "special", None)
    numpy = _module("autograd.numpy", __getattr__=_fallback("numpy", own, plain=np), make_diagonal=_make_diagonal)
    numpy.random = _module("autograd.numpy.random", **{k: v for k, v in vars(np.random).items() if not k.startswith("__")})
    numpy.linalg = _module("autograd.numpy.linalg", __getattr__=_fallback("numpy.linalg", linalg))
    numpy.fft = _module("autograd.numpy.fft", __getattr__=_fallback("numpy.fft"))
    scipy = _module("autograd.scipy")
    scipy.special = _module("autograd.scipy.special", __getattr__=_fallback("scipy.special", special))
    scipy.linalg = _module("autograd.scipy.linalg", __getattr__=_fallback("scipy.linalg", linalg))
    scipy.stats = _module("autograd.scipy.stats", **{name: _distribution(name) for name in mg.stats.__all__})
    for name in ("signal", "integrate"):
        setattr(scipy, name, _module(f"autograd.scipy.{name}", __getattr__=_fallback(f"scipy.{name}")))
    util = _module("autograd.test_util", check_grads=check_grads, combo_check=combo_check, check_equivalent=check_equivalent,
                   scalar_close=scalar_close)
    operators = dict(grad=mg.grad, value_and_grad=mg.value_and_grad, jacobian=mg.jacobian, hessian=mg.hessian, elementwise_grad=_elementwise_grad, grad_and_aux=_grad_and_aux)
    extend = dict(primitive=_primitive)
    _module("autograd.extend", **extend, __getattr__=_fallback("extend"))
    _module("autograd.core", primitive_with_deprecation_warnings=_primitive, primitive_vjps={}, __getattr__=_fallback("core"))
    _module("autograd.tracer", primitive=_primitive, isbox=lambda x: type(x).__name__ == "Box", __getattr__=_fallback("tracer"))
    _module("autograd.builtins", isinstance=_isinstance, list=list, dict=dict, tuple=tuple, type=type)
    _module("autograd.misc", __getattr__=_fallback("misc"), const_graph=lambda f, *a: f, flatten=_flatten)
    _module("autograd", numpy=numpy, scipy=scipy, test_util=util, **{name: _by_argnum(f) for name, f in operators.items()},
            deriv=_deriv, grad_named=_grad_named, make_vjp=_make_vjp, make_jvp=_make_jvp, make_hvp=_make_hvp, make_ggnvp=_make_ggnvp, checkpoint=mg.checkpoint,
            hessian_vector_product=_hessian_vector_product, hessian_tensor_product=_tensor_product(mg.hessian), tensor_jacobian_product=_tensor_product(mg.jacobian),
            vector_jacobian_product=_tensor_product(mg.jacobian), isinstance=_isinstance, list=list, dict=dict, tuple=tuple,
            __getattr__=_fallback("autograd"))


MISSING = "minigrad has no such function", "no such attribute", "  complex"      # ... a complex argument in an error's table


class Count:
    """A plugin of pytest that tells missing names from wrong results."""

    def __init__(self):
        self.missing, self.failed, self.passed, self.skipped = {}, [], 0, 0

    def pytest_collection_modifyitems(self, items):
        """Leave out the tests of its insides."""
        items[:] = [item for item in items if item.originalname not in INSIDE]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """Count a test."""
        outcome = yield
        report = outcome.get_result()
        if call.when != "call" and not (call.when == "setup" and report.outcome != "passed"):
            return
        error = call.excinfo and call.excinfo.value
        chain = [error]
        while chain[-1] is not None:
            chain.append(chain[-1].__cause__ or chain[-1].__context__)
        known = [each for each in chain[:-1] if isinstance(each, MissingName) or any(text in str(each) for text in MISSING)]
        if known:
            self.missing[item.nodeid] = str(known[0]).partition("\n")[0]
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: missing: {self.missing[item.nodeid]}")
        elif report.outcome == "passed":
            self.passed += 1
        elif report.outcome == "skipped":
            self.skipped += 1
        else:
            self.failed.append(item.nodeid)


def main(folder, *arguments):
    """Run the tests in a folder, print the count, and return 1 if a test fails."""
    folder, count = pathlib.Path(folder), Count()
    files = [str(path) for path in sorted(folder.glob("test_*.py")) if path.name not in LEFT_OUT]
    if not files:
        print(f"error: there are no tests of autograd in {folder}\n  help: {USAGE}", file=sys.stderr)
        return 2
    install()
    sys.path.insert(0, str(folder))
    pytest.main([*files, "-q", "-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={folder}", *arguments], plugins=[count])
    print(f"{count.passed} passed, {len(count.missing)} stop at a missing name, {len(count.failed)} failed, {count.skipped} skipped")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else f"error: the folder of autograd's tests is missing\n  help: {USAGE}")
