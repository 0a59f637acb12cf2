"""Functions of functions: what can be asked of a program's derivative.

    jvp(f, xs, ts)       y, t                 forward: one direction in, no tape
    linearize(f, *xs)    y, J                 one run, then J.push and J.pull as often as wanted
    vjp(f, *xs)          y, pull              backward
    grad(f)              gradient             of a scalar function
    value_and_grad(f)    value, gradient
    hvp(f, x, v)         H v                  forward over backward
    jacobian(f)          all of J             row by row or column by column, whichever is fewer
    hessian(f)           all of H

Arguments and results may be any tree (tree.py) of floating-point arrays. The types are, with Ta the tangents of a:

    f : a -> b      linearize f : a -> (b, LinearMap from Ta to Tb)      grad f : a -> Ta

Where `has_aux` is true, f returns (y, aux), and aux is handed out as plain values, outside the derivative.
Any of these may be applied to any other, to any depth. A gradient (what grad, a pull or a hessian gives) is yours: it
can be written to, and shares no memory with another one or with what was handed in. Values and tangents are shared, not
copied, and so are the arrays that f is given and uses: a derivative keeps those that it needs, so do not write to them
between f and the last walk, and make a new buffer where f would use one twice (check.check_buffers finds such writes).
"""
import math

import numpy

from . import tree
from .backend import is_array, is_float, module_of
from .boundary import explains
from .core import Forward, LinearMap, Tape, raw, run, unbox
from .errors import DTypeError, ShapeError, message, shape
from .kinds import integers
from .ops import astype, reshape, stack, stop_gradient

__all__ = ["jvp", "linearize", "vjp", "grad", "value_and_grad", "hvp", "hessian", "jacobian",
           "stop_gradient"]
NO_DERIVATIVE = "only real floating-point results have derivatives"
REAL = "keep real and imaginary part as two arrays: only real numbers have derivatives here"


def _traced(trace, f, leaves, structure, tags, has_aux, call):
    """Run f on a trace: pairs of the leaves of y and their tags, the structure of y, the plain aux."""
    y = run(trace, lambda *boxes: f(*tree.unflatten(structure, boxes)), leaves, tags)
    if has_aux and not (isinstance(y, (tuple, list)) and len(y) == 2):
        raise ShapeError("has_aux: f must return a pair, (y, aux)\n  help: return y, aux; or leave has_aux out")
    y, aux = y if has_aux else (y, None)
    outs, out_structure = tree.flatten(y)
    outs = [numpy.float64(out) if type(out) is float else out for out in outs]
    for k, out in enumerate(outs):
        if not is_float(out):
            _refuse_result(call, tree.paths(y)[k], out)
    pairs = [unbox(out, trace) for out in outs]
    return pairs, out_structure, tree.map(lambda leaf: unbox(leaf, trace)[0], aux) if has_aux else None


def _refuse_result(call, path, out):
    """Raise DTypeError for a result that has no derivative, or none that is a real number."""
    if not hasattr(out, "dtype") and not isinstance(out, (int, complex)):
        raise DTypeError(f"f returns a {type(out).__name__}, which is neither an array nor a tree of arrays\n"
                         "  help: return it beside y, with has_aux=True")
    is_complex = getattr(getattr(out, "dtype", None), "kind", "c" if isinstance(out, complex) else "") == "c"
    raise DTypeError(message(call, NO_DERIVATIVE,
                             [(f"f(...){'.' + path if path else ''}", out, "")],
                             REAL if is_complex else
                             "return it beside y, with has_aux=True; or convert it: astype(y, float)"))


def _fitted(given, structure, like, call):
    """The leaves of a tangent or cotangent, checked to have the structure, shapes and types that they must have."""
    values = tree.leaves_like(structure, given, call)
    for k, (value, x) in enumerate(zip(values, like)):
        if hasattr(value, "dtype") and value.dtype == x.dtype and value.shape == x.shape:       # as it mostly is
            continue
        real = _kind(value) in "fiub"
        if not real or shape(value) != shape(x):
            rows, names = [("value", x, ""), ("given", value, "")], tree.paths(tree.unflatten(structure, like))
            error, what = (ShapeError, "shape") if real else (DTypeError, "type")
            help = "has the shape of the value it belongs to" if real else "is an array of real numbers"
            raise error(message(call, f"wrong {what} at {names[k] or 'the top'}", rows,
                                f"a tangent or cotangent {help}"))
    return [as_type_of(x, value) for value, x in zip(values, like)]


def _refuse_type(name, walk, found, like):
    raise DTypeError(message(f"{name}(...)", f"the {walk} of a rule gives what is no real number",
                             [("found", found, ""), ("value", like, "")], REAL))


def _kind(x):
    """The character of NumPy for the kind of elements: f, i, u, b, c; O for what is neither an array nor a number."""
    dtype = getattr(raw(x), "dtype", None)
    return dtype.kind if dtype is not None else "f" if isinstance(x, (int, float)) else "O"


def as_type_of(x, value):
    """A value in the type of x. Zero (None) becomes an array of zeros; a number becomes an array too."""
    if value is None:
        return _filled(x, 0.0)
    if isinstance(value, (int, float)):
        return _filled(x, value)
    return value if value.dtype == x.dtype else astype(value, x.dtype)


def _filled(x, value):
    """An array of one value that goes with x, in its shape and type: of the module that x comes from.

    Of no axes it is, on NumPy, a scalar. That goes with CuPy's arrays too, as x does if it is a number.
    """
    module = x.module if type(x) is _Like else module_of(raw(x))
    return module.full(shape(x), value, raw(x).dtype)[()]


def jvp(f, xs, ts, has_aux=False):
    """y = f(*xs) and its derivative along ts: t = J ts. Forward mode: the memory of an evaluation, and no tape.

    xs, ts: tuples of trees of equal structure and shapes. Gives (y, t), or (y, t, aux). Raises ShapeError, DTypeError.

    >>> y, t = jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> float(y), float(t)
    (9.0, 6.0)
    """
    if not isinstance(xs, (tuple, list)) or not isinstance(ts, (tuple, list)):
        raise DTypeError("jvp(f, xs, ts): xs and ts are tuples, one element per argument of f\n"
                         "  help: jvp(f, (x,), (t,))")
    call = "jvp(f, xs, ts)"
    leaves, structure = tree.float_leaves(xs, call)
    tangents = _fitted(tuple(ts), structure, leaves, call)
    pairs, out_structure, aux = _traced(Forward(), f, leaves, structure, tangents, has_aux, call)
    y = tree.unflatten(out_structure, [value for value, _ in pairs])
    for value, tangent in pairs:
        if tangent is not None and _kind(tangent) not in "fiub":
            _refuse_type(title(f, "jvp"), "push", tangent, value)
    t = tree.unflatten(out_structure, [as_type_of(value, tangent) for value, tangent in pairs])
    return (y, t, aux) if has_aux else (y, t)


def linearize(f, *xs, has_aux=False):
    """y = f(*xs) and the LinearMap J of f at xs: one run of f, to be read forwards and backwards as often as wanted.

    J.push(*ts) is the tangent of y, with one t for each x; J.pull(g) the cotangent of x (a tuple of them where f has
    several arguments). <g, J.push(t)> == <J.pull(g), t>. Gives (y, J), or (y, J, aux). Raises ShapeError, DTypeError.

    >>> y, J = linearize(lambda x: x * x, 3.0)
    >>> float(J.push(1.0)), float(J.pull(10.0))
    (6.0, 60.0)
    """
    y, push, pull, aux = _linearize(f, xs, has_aux, "linearize(f, *xs)")
    J = LinearMap(push, pull if len(xs) != 1 else lambda g: pull(g)[0])
    return (y, J, aux) if has_aux else (y, J)


def _linearize(f, xs, has_aux, call):
    leaves, structure = tree.float_leaves(xs, call)
    tape, count = Tape(), len(leaves)
    places = [tape.record(None, x, ()) for x in leaves]
    pairs, out_structure, aux = _traced(tape, f, leaves, structure, places, has_aux, call)
    ins, outs, ends = [_Like(x) for x in leaves], [_Like(y) for y, _ in pairs], [place for _, place in pairs]

    def push(*ts):
        tangents = tape.push(_fitted(ts, structure, ins, "J.push(*ts)"), ends)
        for y, t, end in zip(outs, tangents, ends):
            if getattr(t, "dtype", y.dtype) != y.dtype and _kind(t) not in "fiub":
                _refuse_type(tape[end][0].name, "push", t, y)
        return tree.unflatten(out_structure, [as_type_of(y, t) for y, t in zip(outs, tangents)])

    def pull(g):
        given = _fitted(g, out_structure, outs, "J.pull(g)")
        cotangents = tape.pull(given, ends, count)
        for k, (x, c) in enumerate(zip(ins, cotangents)):
            if c is not None and c.dtype == x.dtype:
                continue
            if c is not None and _kind(c) not in "fiub":
                users = {step[0].name for step in tape if any([parent == k for parent, _ in step[1]])}
                _refuse_type(" or ".join(sorted(users)), "pull", c, x)
            cotangents[k] = as_type_of(x, c)
        return tree.unflatten(structure, _owned(cotangents, given))
    return tree.unflatten(out_structure, [y for y, _ in pairs]), push, pull, aux


def _owned(cotangents, given):
    """Each cotangent in memory of its own: a copy of what cannot be written to, or lies where another one does."""
    taken, owned = {id(_owner(g)) for g in given}, []
    for c in cotangents:
        if is_array(c):
            owner = c if c.base is None else _owner(c)
            if id(owner) in taken or owner is not c and 0 in c.strides or not getattr(c.flags, "writeable", True):
                c = owner = c.copy()
            taken.add(id(owner))
        owned.append(c)
    return owned


def _owner(x):
    """The array whose memory this is a view of, or itself."""
    while is_array(x) and x.base is not None:
        x = x.base
    return x


class _Like:
    """Shape, type and module of an array, without the array: a LinearMap keeps no more than that of its ends."""

    def __init__(self, x):
        self.shape, self.dtype, self.module = shape(x), x.dtype, module_of(raw(x))


def vjp(f, *xs, has_aux=False):
    """y = f(*xs) and the function pull that takes a cotangent of y to a tuple of cotangents, one for each x.

    Gives (y, pull), or (y, pull, aux). Raises ShapeError, DTypeError.

    >>> y, pull = vjp(lambda a, b: a * b, 2.0, 3.0)
    >>> [float(g) for g in pull(1.0)]
    [3.0, 2.0]
    """
    y, _, pull, aux = _linearize(f, xs, has_aux, "vjp(f, *xs)")
    return (y, pull, aux) if has_aux else (y, pull)


def value_and_grad(f, argnums=0, has_aux=False):
    """The function that gives (f(*xs), its gradient); with has_aux, ((f(*xs), aux), its gradient). See grad."""
    @named(f, "value_and_grad")
    def both(*xs, **params):
        chosen, inner = _choose(f, argnums, xs, params, "grad(f)")
        y, _, pull, aux = _linearize(inner, chosen, has_aux, "grad(f)")
        if tree.flatten(y)[1].node is not tree.LEAF or shape(y) != ():
            rows = [(f"f(...){'.' + name if name else ''}", leaf, "")
                    for name, leaf in zip(tree.paths(y), tree.flatten(y)[0])]
            raise ShapeError(message("grad(f)", "f must return one scalar", rows,
                                     "take its sum or mean, or use vjp (one cotangent) or jacobian (all of them)"))
        gradients = pull(_filled(y, 1.0))
        return (y, aux) if has_aux else y, gradients if isinstance(argnums, (tuple, list)) else gradients[0]
    return both


def grad(f, argnums=0, has_aux=False):
    """The function that gives the gradient of the scalar f with respect to its argument number `argnums`.

    The gradient has the tree, shapes and types of that argument; where argnums is a tuple, there is a tuple of them.
    With has_aux, (gradient, aux). Raises ShapeError unless f returns one scalar, and DTypeError unless that and the
    argument are real floating-point numbers.

    >>> float(grad(grad(lambda x: x ** 3))(2.0))
    12.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @named(f, "grad")
    def gradient(*xs, **params):
        value, gradients = both(*xs, **params)
        return (gradients, value[1]) if has_aux else gradients
    return gradient


def _choose(f, argnums, xs, params, call):
    """The chosen arguments, and f as a function of these alone."""
    wanted, count = integers(argnums) or (), len(xs)
    if not wanted or any(not -count <= i < count for i in wanted) or len({i % count for i in wanted}) < len(wanted):
        raise ShapeError(f"{call}: argnums={argnums!r} with {len(xs)} positional arguments\n"
                         "  help: arguments that are differentiated are given by position, counted from 0, each once")
    places = [i % len(xs) for i in wanted]

    def inner(*chosen):
        full = list(xs)
        for place, x in zip(places, chosen):
            full[place] = x
        return f(*full, **params)
    return tuple(xs[i] for i in places), inner


def named(f, transform):
    """A decorator that names a function after the transform and the function that it comes from."""
    def decorate(g):
        g.__name__ = g.__qualname__ = title(f, transform)
        return explains(g)
    return decorate


def title(f, transform):
    """The name of f after a transform."""
    return f"{transform}({getattr(f, '__name__', 'f')})"


def hvp(f, x, v):
    """The Hessian of the scalar f at x times v, without the Hessian: the derivative of grad(f) along v.

    >>> float(hvp(lambda x: x ** 3, 2.0, 1.0))
    12.0
    """
    return jvp(grad(f), (x,), (v,))[1]


def jacobian(f, argnums=0):
    """The function that gives all partial derivatives: for y of shape sy and x of shape sx, an array of shape sy + sx.

    For trees, the tree of y holds in each place the tree of x, as in JAX. It is built from pulls if y has no
    more elements than x, else from pushes.

    >>> import numpy as np
    >>> jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    @named(f, "jacobian")
    def full(*xs, **params):
        chosen, inner = _choose(f, argnums, xs, params, "jacobian(f)")
        y, push, pull, _ = _linearize(inner, chosen, False, "jacobian(f)")
        (ins, structure), (outs, out_structure) = tree.float_leaves(chosen, "jacobian(f)"), tree.flatten(y)
        if sum(math.prod(shape(out)) for out in outs) <= sum(math.prod(shape(x)) for x in ins):
            blocks = [_swept(pull, out_structure, outs, i, ins, 0) for i in range(len(outs))]
        else:
            columns = [_swept(lambda t: push(*t), structure, ins, j, outs, -1) for j in range(len(ins))]
            blocks = zip(*columns)
        trees = [tree.unflatten(structure, row) for row in blocks]
        return tree.unflatten(out_structure, trees if isinstance(argnums, (tuple, list)) else [t[0] for t in trees])
    return full


def _swept(walk, structure, leaves, chosen, others, axis):
    """What a walk makes of all unit vectors of one leaf: for each leaf at the other end, its results stacked.

    The axes of the chosen leaf come first in the stack (axis 0) or last (axis -1).
    """
    s, results = shape(leaves[chosen]), []
    for k in range(math.prod(s)):
        unit = [_filled(leaf, 0.0) for leaf in leaves]
        if s:
            unit[chosen].reshape(-1)[k] = 1.0
        else:
            unit[chosen] = _filled(leaves[chosen], 1.0)
        results.append(tree.flatten(walk(tree.unflatten(structure, unit)))[0])
    joined = [s + shape(x) if axis == 0 else shape(x) + s for x in others]
    if not results:
        return [module_of(raw(x)).zeros(s, raw(x).dtype) for s, x in zip(joined, others)]
    return [reshape(stack([r[i] for r in results], axis), s) for i, s in enumerate(joined)]


def hessian(f, argnums=0):
    """The function that gives all second derivatives: jacobian(jacobian(f)), for a scalar f a symmetric matrix.

    For y of shape sy and x of shape sx, an array of shape sy + sx + sx, symmetric in the two.

    >>> import numpy as np
    >>> hessian(lambda x: x[0] * x[1])(np.array([1.0, 2.0]))
    array([[0., 1.],
           [1., 0.]])
    """
    inner = jacobian(jacobian(f, argnums), argnums)
    inner.__name__ = inner.__qualname__ = title(f, "hessian")
    return inner
