"""A whole function as one primitive.

    checkpoint(f)        f with its inside forgotten and run again when a derivative needs it
    with_derivative(f, passes)     f computed, with its first derivative, by hand-written passes over memory

Their arguments and results come in bundles, so that a derivative can treat them together. `bundle` and `pick` make and
open these; tangents of a bundle are tuples, in which None is zero.
"""
from . import tree
from .backend import is_float
from .core import Box, LinearMap, Primitive, raw
from .errors import DTypeError, TraceError, message
from .transforms import NO_DERIVATIVE, REAL, as_type_of, jvp, named, title, vjp


class Bundle(tuple):
    """Several arrays as one value, whose tangents are tuples: not a list of numbers."""
    dtype = shape = None


def _only(i, n, value):
    return tuple(value if k == i else None for k in range(n))


_bundle = Primitive(lambda *xs: Bundle(xs),
                    lambda i, y, *xs: LinearMap(lambda t: _only(i, len(xs), t), lambda g: g[i]), "bundle")
_pick = Primitive(lambda xs, k, n: xs[k],
                  lambda i, y, xs, k, n: LinearMap(lambda t: t[k], lambda g: _only(k, n, g)), "pick")


def _picked(xs, count):
    return [_pick(xs, k=k, n=count) for k in range(count)]


def checkpoint(f):
    """f with its inside forgotten: a derivative keeps only the arguments and runs f again where it is needed.

    It trades time (one more run of f) for memory. Arguments and results are trees; f must be a pure function of its
    arguments: a traced value that it takes from outside raises TraceError. Any order of derivative, in any mix.
    Griewank & Walther, Algorithm 799: revolve, 2000.

    >>> from minigrad import grad
    >>> f = checkpoint(lambda x: x * x * x)
    >>> float(grad(grad(f))(2.0))
    12.0
    """
    @named(f, "checkpoint")
    def forgetful(*xs, **params):
        leaves, structure = tree.flatten((xs, params))
        watched = [k for k, leaf in enumerate(leaves) if type(leaf) is Box]
        plain = [None if k in watched else leaf for k, leaf in enumerate(leaves)]       # no box, which would be a cycle
        outs, out_structure = [], None                      # the results, known once f has run

        def inside(*boxed):
            """f as a function of the watched leaves alone, from arrays to the tuple of its floating-point results."""
            nonlocal outs, out_structure
            full = list(plain)
            for k, leaf in zip(watched, boxed):
                full[k] = leaf
            args, settings = tree.unflatten(structure, full)
            outs, out_structure = tree.flatten(f(*args, **settings))
            for out in outs:
                if watched and getattr(getattr(out, "dtype", None), "kind", "") == "c":
                    raise DTypeError(message(title(f, "checkpoint"), NO_DERIVATIVE, [("f(...)", out, "")], REAL))
            floats = tuple(out for out in outs if is_float(out))
            outs = [None if is_float(out) else out for out in outs]
            return floats
        y = _forgotten(inside, title(f, "checkpoint"))(_bundle(*[leaves[k] for k in watched]))
        floats = iter(_picked(y, len(raw(y))))
        return tree.unflatten(out_structure, [next(floats) if out is None else out for out in outs])
    return forgetful


def _forgotten(f, name):
    """The primitive of checkpoint, from a tuple of arrays to a tuple of arrays: its push is jvp, its pull a new vjp."""
    def evaluate(xs):
        outs = f(*xs)
        if any(type(out) is Box for out in outs):
            raise TraceError(f"{name}: it uses a traced value from outside\n"
                             "  help: hand over as an argument whatever is differentiated: checkpoint(f)(params, x)")
        return Bundle(outs)

    def rule(i, y, xs):
        parts = _picked(xs, len(raw(xs)))

        def pull(gs):
            outs, back = vjp(f, *parts)
            return back(tuple(as_type_of(out, g) for out, g in zip(outs, gs)))
        return LinearMap(lambda ts: _pushed_again(f, parts, ts), pull)
    return Primitive(evaluate, rule, name)


def _pushed_again(f, xs, ts):
    """The derivative of f at xs along ts, where None is zero."""
    moved = [k for k, t in enumerate(ts) if t is not None]

    def along(*some):
        full = list(xs)
        for k, x in zip(moved, some):
            full[k] = x
        return f(*full)
    return jvp(along, [xs[k] for k in moved], [ts[k] for k in moved])[1]


# ------------------------------------------------------------------------------------------------- fusion

def with_derivative(f, passes):
    """f, whose value and first derivative are computed by hand-written passes over memory wherever arrays are plain.

    passes(*xs, **params) -> (y, push, pull), all for plain arrays, y one array: push(*ts) with None for zero, pull(g) a
    tuple with None for whatever is no array. Where something is traced, the derivative is that of f; so derivatives of
    every order are right if the passes are, and check.check_derivatives tells whether they are.

    >>> from minigrad import grad
    >>> def passes(x):
    ...     return x ** 3, lambda t: 3 * x ** 2 * t, lambda g: (3 * x ** 2 * g,)
    >>> cube = with_derivative(lambda x: x * x * x, passes)
    >>> float(grad(cube)(2.0)), float(grad(grad(cube))(2.0))
    (12.0, 12.0)
    """
    @named(f, "with_derivative")
    def called(*xs, **params):
        places, count = [k for k, x in enumerate(xs) if x is not None], len(xs)     # no box, which would be a cycle
        maps = []

        def full(some):
            given = dict(zip(places, some))
            return [given.get(k) for k in range(count)]

        def slow(*some):
            return f(*full(some), **params)

        def evaluate(some):
            y, *maps[:] = passes(*full(some), **params)
            return y

        def rule(i, y, some):
            parts, fast = _picked(some, len(places)), type(some) is not Box

            def push(ts):
                if fast and not any(type(t) is Box for t in ts):
                    return maps[0](*full(ts))
                return _pushed_again(slow, parts, ts)

            def pull(g):
                if fast and type(g) is not Box:
                    return tuple(c for c in maps[1](g) if c is not None)
                return vjp(slow, *parts)[1](g)
            return LinearMap(push, pull)
        return Primitive(evaluate, rule, getattr(f, "__name__", "f"))(_bundle(*[xs[k] for k in places]))
    return called
