"""Random programs with sharing, nested derivatives, checkpoints and constants, against a naive twin.

A program is a list of instructions on registers: the first registers hold the inputs, each instruction fills the next.
An instruction calls an operation, or takes a derivative of one register with respect to an earlier one: this runs the
program between the two again, closing over all other registers. A state machine grows the program.

The naive twin reads the same program with plain NumPy. It computes a derivative from values alone: by a complex step
where it is the outermost, and by central differences of sixth order inside.
"""
import math

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import minigrad as mg

from .plain import plain
from .strategies import smooth

SHAPES = [(), (2,), (1,), (2, 1), (1, 2)]
MOST = 6                                                    # elements of a register
ORDER = 2                                                   # of the derivatives inside a program
STEP = 0.005                                                # of differences
SIXTH_ORDER = (1, 0.75), (2, -0.15), (3, 1 / 60)            # their offsets and factors: the error is STEP^6 f^(7) / 140
ELEMENTWISE = {
    "sin": lambda m, x: m.sin(x), "tanh": lambda m, x: m.tanh(x), "sigmoid": lambda m, x: m.sigmoid(x),
    "exp": lambda m, x: m.exp(-(x * x)), "log": lambda m, x: m.log(x * x + 1.5), "sqrt": lambda m, x: m.sqrt(x * x + 1.5),
    "divide": lambda m, x: x / (x * x + 1.5), "power": lambda m, x: (x * x + 1.5) ** -0.7, "half": lambda m, x: 0.5 * x,
    "relu": lambda m, x: m.relu(m.sin(x) + 2.0), "where": lambda m, x: m.where(m.xp.asarray(True), m.cos(x), x),
    "clip": lambda m, x: m.clip(m.sin(x), -2.0, 2.0)}
SHAPING = {
    "sum": lambda m, x: 0.5 * m.sum(x), "mean": lambda m, x: m.mean(x, axis=0 if len(x.shape) else None),
    "logsumexp": lambda m, x: m.logsumexp(x), "max": lambda m, x: m.max(m.stack([m.sin(x), m.cos(x) + 3.0]), axis=0),
    "standardize": lambda m, x: m.standardize(m.reshape(x, (-1,)), 0, eps=1.5), "softmax": lambda m, x: m.softmax(m.ravel(x)),
    "transpose": lambda m, x: m.transpose(x), "getitem": lambda m, x: m.ravel(x)[::-1][0], "stack": lambda m, x: m.stack(
        [m.mean(x), m.sin(m.sum(x))]), "pad": lambda m, x: m.pad(x, 1)[..., 1:] if x.shape else x}
PAIRED = {
    "add": lambda m, a, b: 0.5 * (a + b), "multiply": lambda m, a, b: m.tanh(a) * b, "subtract": lambda m, a, b: a - 0.5 * b,
    "divide": lambda m, a, b: a / (b * b + 1.5), "maximum": lambda m, a, b: m.maximum(m.sin(a), m.sin(b) - 3.0),
    "power": lambda m, a, b: (a * a + 1.0) ** m.tanh(b),
    "matmul": lambda m, a, b: m.matmul(m.reshape(a, (1, -1)), m.broadcast_to(m.reshape(m.sin(b), (-1, 1))[:1], (math.prod(a.shape), 2)))}


# ------------------------------------------------------------------------------------------- reading a program

def read(engine, program, inputs, registers, count, path=()):
    """Run the program and return its first `count` registers. path: the enclosing derivatives."""
    registers = list(registers)
    while len(registers) < count:
        number = len(registers) - inputs
        kind, what, *places = program[number]
        if kind == "call":
            registers.append(what(engine.module, *[registers[p] for p in places]))
        elif kind == "stop":
            registers.append(engine.stop(registers[what], (*path, number)))
        else:
            before = registers[:max(what + 1, inputs)]
            inner = between(engine, program, inputs, before, what, places[0], (*path, number))
            registers.append(getattr(engine, kind)(inner, registers[what], before))
    return registers


def between(engine, program, inputs, before, source, target, path):
    """Return the target as a function of the source, and of the registers before it, if they are given."""
    def inner(x, *others):
        given = list(others or before)
        given[source] = x
        return read(engine, program, inputs, given, target + 1, path)[target]
    return inner


class Engine:
    """The twin's counterpart: derivatives by minigrad."""
    module = mg

    def stop(self, x, path):
        return mg.stop_gradient(x)

    def grad(self, f, x, before):
        return mg.grad(lambda x: mg.mean(f(x)))(x)

    def jvp(self, f, x, before):
        return mg.jvp(f, (x,), (mg.cos(x),))[1]

    def push(self, f, x, before):
        return mg.linearize(f, x)[1].push(mg.cos(x))

    def pull(self, f, x, before):
        y, J = mg.linearize(f, x)
        return J.pull(mg.sin(y))

    def vjp(self, f, x, before):
        y, pull = mg.vjp(f, x)
        return pull(mg.sin(y))[0]

    def hvp(self, f, x, before):
        return mg.hvp(lambda x: mg.mean(f(x)), x, mg.cos(x))

    def checkpoint(self, f, x, before):
        return mg.checkpoint(f)(x, *before)


def difference(f, x, t, h=STEP):
    """Return the derivative of f at x along t, to sixth order in h. The first call of f is at x."""
    f(x)
    return sum(c * (f(x + k * h * t) - f(x - k * h * t)) for k, c in SIXTH_ORDER) / h


def along_each(f, x):
    """Return f of every unit direction at x, in an array like x."""
    units = np.eye(x.size).reshape(x.size, *x.shape)
    return np.array([f(unit) for unit in units]).reshape(x.shape)


class Twin:
    """Derivatives from values alone. A constant keeps its first value, which was computed at the unmoved point."""
    module = plain

    def __init__(self):
        self.constants = {}

    def stop(self, x, path):
        return self.constants.setdefault(path, x)

    def grad(self, f, x, before):
        return along_each(lambda unit: difference(lambda x: np.mean(f(x)), x, unit), x)

    def jvp(self, f, x, before):
        return difference(f, x, np.cos(x))

    push = jvp

    def pull(self, f, x, before):
        g = np.sin(f(x))
        return along_each(lambda unit: np.sum(g * difference(f, x, unit)), x)

    vjp = pull

    def hvp(self, f, x, before):
        t = np.cos(x)
        return along_each(lambda unit: difference(lambda z: difference(lambda x: np.mean(f(x)), z, t), x, unit), x)

    def checkpoint(self, f, x, before):
        return f(x, *before)


ORDERS = dict(grad=1, jvp=1, push=1, pull=1, vjp=1, hvp=2, checkpoint=0)


class Programs(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 999), shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=2))
    def begin(self, seed, shapes):
        rng = np.random.default_rng(seed)
        self.xs = [smooth(rng, s) for s in shapes]
        self.ts = [smooth(rng, s) / 3.0 for s in shapes]
        self.program, self.orders = [], [0] * len(shapes)
        self.values = list(self.xs)                         # of all registers, to know their shapes

    def add(self, instruction, order):
        if order > ORDER:
            return
        values = read(Engine(), [*self.program, instruction], len(self.xs), self.values, len(self.values) + 1)
        if np.size(values[-1]) <= MOST:
            self.program.append(instruction)
            self.orders.append(order)
            self.values = values

    def place(self, number):
        return number % len(self.values)

    @rule(f=st.sampled_from([*ELEMENTWISE.values(), *SHAPING.values()]), a=st.integers(0, 9))
    def apply(self, f, a):
        self.add(("call", f, self.place(a)), self.orders[self.place(a)])

    @rule(f=st.sampled_from(list(PAIRED.values())), a=st.integers(0, 9), b=st.integers(0, 9))
    def combine(self, f, a, b):
        a, b = self.place(a), self.place(b)
        try:
            np.broadcast_shapes(np.shape(self.values[a]), np.shape(self.values[b]))
        except ValueError:
            return
        self.add(("call", f, a, b), max(self.orders[a], self.orders[b]))

    @rule(kind=st.sampled_from([*ORDERS, "stop"]), a=st.integers(0, 9), b=st.integers(0, 9))
    def derive(self, kind, a, b):
        """Add a derivative of one register with respect to an earlier one, or a register as a constant."""
        if kind == "stop":
            return self.add(("stop", self.place(a)), self.orders[self.place(a)])
        if self.program:
            target = len(self.xs) + b % len(self.program)
            source = a % target
            self.add((kind, source, target), ORDERS[kind] + max(self.orders[source:target + 1]))

    # ------------------------------------------------------------------------------------------------ the laws

    def function(self, engine):
        """Return the program as a function of its inputs to a number that depends on every register."""
        def f(*xs):
            registers = read(engine, self.program, len(xs), xs, len(self.values))
            return sum(engine.module.mean(engine.module.sin(r)) for r in registers)
        return f

    def twin(self):
        """Return value, gradients, derivative along ts, and Hessian times ts."""
        f = self.function(Twin())
        value, h = f(*self.xs), 1e-30                       # the first call fixes the constants

        def gradient(xs):
            return [along_each(lambda unit: f(*xs[:i], xs[i] + 1j * h * unit, *xs[i + 1:]).imag / h, xs[i])
                    for i in range(len(xs))]

        def moved(k):
            return gradient([x + k * STEP * t for x, t in zip(self.xs, self.ts)])
        sides = {k: (moved(k), moved(-k)) for k in (1, 2, 3)}
        hessian = [sum(c * (sides[k][0][i] - sides[k][1][i]) for k, c in SIXTH_ORDER) / STEP
                   for i in range(len(self.xs))]
        along = f(*[x + 1j * h * t for x, t in zip(self.xs, self.ts)]).imag / h
        return value, gradient(self.xs), along, hessian

    def teardown(self):
        xs, ts, every = tuple(self.xs), tuple(self.ts), tuple(range(len(self.xs)))
        f = self.function(Engine())
        gradient = mg.grad(f, every)
        value, gradients, along, hessian = self.twin()
        close(f(*xs), value)
        close(gradient(*xs), gradients)
        for way in (mg.jvp(f, xs, ts)[1], mg.linearize(f, *xs)[1].push(*ts), self.transposed_twice(f)):
            close(way, along)

        def dot(xs):
            return sum(mg.sum(a * t) for a, t in zip(xs, ts))
        for way in (mg.jvp(gradient, xs, ts)[1],                                # forward over reverse
                    mg.grad(lambda *xs: mg.jvp(f, xs, ts)[1], every)(*xs),      # reverse over forward
                    mg.grad(lambda *xs: dot(gradient(*xs)), every)(*xs),        # reverse over reverse
                    mg.linearize(gradient, *xs)[1].push(*ts), mg.linearize(gradient, *xs)[1].pull(ts)):
            close(way, hessian)
        close(mg.hvp(lambda xs: f(*xs), xs, ts), hessian)
        H = mg.hessian(lambda x: f(*_split(x, xs)))(np.concatenate([x.ravel() for x in xs]))
        np.testing.assert_allclose(H, H.T, rtol=1e-9, atol=1e-10)

    def transposed_twice(self, f):
        """The pull of the pull is the push."""
        y, pull = mg.vjp(f, *self.xs)
        return mg.vjp(pull, np.ones(()))[1](tuple(self.ts))[0]


def _split(x, like):
    ends = np.cumsum([0, *(a.size for a in like)])
    return [mg.reshape(x[a:b], xi.shape) for a, b, xi in zip(ends, ends[1:], like)]


def close(found, expected):
    for a, b in zip(mg.tree.flatten(found)[0], mg.tree.flatten(expected)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(stateful_step_count=12, suppress_health_check=list(HealthCheck))
