"""What a user who went wrong is told, word for word: the operation, each argument, the rule broken, the remedy.

The folder, the files and the training of the experiments have theirs in experiments/test_training.py and
test_data.py; what needs another array module, in test_backend.py.
"""
import ast
import builtins
import functools
import inspect
import operator
import pathlib
import pickle
import re
import textwrap
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import (
    DTypeError,
    LinearMap,
    Primitive,
    ShapeError,
    TraceError,
    box,
    grad,
    jvp,
    linearize,
    nn,
    optim,
    tree,
    vjp,
)
from minigrad.check import check_derivatives
from minigrad.errors import IndexingError
from minigrad.reweight import example_weights, example_weights_unrolled, reweighted_gradient

ROOT = pathlib.Path(mg.__file__).parent.parent
SOURCES = [path for folder in ("minigrad", "models", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]
CASES = []


def told(error, call, text):
    """A row of the table: calling this raises that, and says this."""
    CASES.append((error, call, textwrap.dedent(text).strip("\n")))


def ones(*s):
    return np.ones(s, np.float32)


class Wrapped(nn.Module):
    """A module that forgets to pass on what its layer needs."""
    inside: nn.Module

    def __call__(self, x):
        return self.inside(x)


class Empty(nn.Module):
    pass


class Plain:
    """An object that is no tree."""


def left_over():
    """A value from inside a derivative that has ended."""
    kept = []
    grad(lambda x: (kept.append(x * x), mg.sum(x))[1])(ones(3))
    return kept[0]

# -------------------------------------------------------------------------------------------------- shapes and channels

told(ShapeError, lambda: mg.add(ones(3), ones(4)), """
    add(a, b): operands could not be broadcast together with shapes (3,) (4,)
      a  (3,)  float32
      b  (4,)  float32
      help: shapes fit where, from the right, lengths are equal or one of them is 1
    """)
told(ShapeError, lambda: mg.conv2d(ones(8, 32, 32, 3), ones(3, 3, 4, 16)), """
    conv2d(x, k): channels differ
      x  (8, 32, 32, 3)  float32    channels 3 (last axis)
      k  (3, 3, 4, 16)   float32    channels 4 (axis 2)
      help: a kernel for this image has shape (3, 3, 3, 16)
    """)
told(ShapeError, lambda: mg.conv2d(ones(32, 32, 3), ones(3, 3, 3, 16)), """
    conv2d(x, k): an image batch has four axes
      x  (32, 32, 3)  float32
      help: pass (n, height, width, channels); one gray image is x[None, :, :, None]
    """)
told(ShapeError, lambda: mg.conv2d(ones(1, 4, 4, 1), ones(2, 2, 1)), """
    conv2d(x, k): a kernel has four axes
      k  (2, 2, 1)  float32
      help: pass (window height, window width, channels in, channels out)
    """)
told(ShapeError, lambda: mg.conv2d(ones(1, 4, 4, 1), ones(5, 5, 1, 1)), """
    conv2d(x, k): the window is larger than the padded image
      x  (1, 4, 4, 1)  float32    window (5, 5), padding ((0, 0), (0, 0))
      help: pad the image, or use padding='same'
    """)
told(ShapeError, lambda: mg.conv2d(ones(1, 4, 4, 1), ones(2, 2, 1, 1), stride=0), """
    conv2d(x, k): stride must be one integer or two, not below 1: 0
    """)
told(ShapeError, lambda: mg.conv2d(ones(1, 4, 4, 1), ones(2, 2, 1, 1), stride="two"), """
    conv2d(x, k): stride must be one integer or two, not below 1: 'two'
    """)
told(ShapeError, lambda: mg.conv2d(ones(1, 4, 4, 1), ones(2, 2, 1, 1), stride=(1, 2, 3)), """
    conv2d(x, k): stride must be one integer or two, not below 1: (1, 2, 3)
    """)
told(ShapeError, lambda: mg.conv2d(ones(1, 4, 4, 1), ones(2, 2, 1, 1), padding="full"), """
    conv2d(x, k): padding is 'same', 'valid', an integer or pairs, not 'full'
    """)
told(ShapeError, lambda: mg.conv2d(ones(1, 4, 4, 1), ones(2, 2, 1, 1), padding=-1), """
    conv2d(x, k): the padding of each side must be one integer or two, not below 0: -1
    """)
told(ShapeError, lambda: mg.max_pool2d(ones(1, 4, 4, 1), 2, stride=1, padding=2), """
    max_pool2d(x): padding ((2, 2), (2, 2)) leaves windows (2, 2) without an element
    """)
told(ShapeError, lambda: mg.max_pool2d(ones(4, 4), 2), """
    max_pool2d(x): an image batch has four axes
      x  (4, 4)  float32
      help: pass (n, height, width, channels); one gray image is x[None, :, :, None]
    """)
told(ShapeError, lambda: mg.avg_pool2d(ones(4, 4), 2), """
    avg_pool2d(x): an image batch has four axes
      x  (4, 4)  float32
      help: pass (n, height, width, channels); one gray image is x[None, :, :, None]
    """)
told(ShapeError, lambda: mg.matmul(ones(2, 3), ones(4, 5)), """
    matmul(a, b): the inner lengths differ
      a  (2, 3)  float32    inner axis: the last
      b  (4, 5)  float32    inner axis: the last but one, or the only one
      help: a has shape (..., n, k) and b (..., k, m); use multiply to scale by a number
    """)
told(ShapeError, lambda: mg.matmul(1.0, ones(2)), """
    matmul(a, b): the inner lengths differ
      a  ()    float      inner axis: the last
      b  (2,)  float32    inner axis: the last but one, or the only one
      help: a has shape (..., n, k) and b (..., k, m); use multiply to scale by a number
    """)
told(ShapeError, lambda: mg.tensordot(ones(2, 3), ones(2, 3), 1), """
    tensordot(a, b): the lengths of the summed axes differ
      a  (2, 3)  float32    axes (1,)
      b  (2, 3)  float32    axes (0,)
    """)
told(ShapeError, lambda: mg.reshape(ones(2, 3), (4, 2)), """
    reshape(x): cannot reshape array of size 6 into shape (4,2)
      x  (2, 3)  float32
    """)
told(ShapeError, lambda: mg.squeeze(ones(2, 1), 0), """
    squeeze(x): cannot remove axes (0,) of shape (2, 1): not all have length 1
    """)
told(ShapeError, lambda: mg.max(ones(2, 0), axis=1), """
    max(x): no elements to choose from
      x  (2, 0)  float32    axes (1,)
    """)
told(ShapeError, lambda: mg.pad(ones(2, 2), [(1, 1)] * 3), """
    pad(x): width [(1, 1), (1, 1), (1, 1)] for 2 axes
      help: one number, one (before, after), or one for each axis, all integers from 0
    """)
told(ShapeError, lambda: mg.pad(ones(2), 1.7), """
    pad(x): width 1.7 for 1 axes
      help: one number, one (before, after), or one for each axis, all integers from 0
    """)
told(ShapeError, lambda: mg.crop(ones(3), (-1, 0)), """
    crop(x): width (-1, 0) for 1 axes
      help: one number, one (before, after), or one for each axis, all integers from 0
    """)
told(ShapeError, lambda: mg.crop(ones(3), (1, 4)), """
    crop(x): the border is wider than the array
      x  (3,)  float32    border ((1, 4),)
    """)
told(ShapeError, lambda: mg.sum_to(ones(2, 3), (3, 2)), """
    sum_to(x, shape): (3, 2) cannot have been broadcast to the shape of x
      x  (2, 3)  float32
      help: from the right, each length is that of x, or 1
    """)
told(ShapeError, lambda: mg.sum_to(ones(3), (1, 3)), """
    sum_to(x, shape): (1, 3) cannot have been broadcast to the shape of x
      x  (3,)  float32
      help: from the right, each length is that of x, or 1
    """)
told(ShapeError, lambda: mg.sum_to(ones(4), (2, 2)), """
    sum_to(x, shape): (2, 2) cannot have been broadcast to the shape of x
      x  (4,)  float32
      help: from the right, each length is that of x, or 1
    """)
told(ShapeError, lambda: mg.concatenate([]), """
    concatenate(arrays): at least one array is needed
    """)
told(ShapeError, lambda: mg.concatenate([ones(2, 3)], axis=5), """
    concatenate(x): axis 5 is out of bounds for 2 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.take(ones(2, 3), [0], axis=5), """
    take(x): axis 5 is out of bounds for 2 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.sum(ones(3), axis=1), """
    sum(x): axis 1 is out of bounds for 1 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.mean(ones(3), axis=-2), """
    mean(x): axis -2 is out of bounds for 1 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.min(ones(3), axis=1), """
    min(x): axis 1 is out of bounds for 1 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.logsumexp(ones(3), axis=1), """
    logsumexp(x): axis 1 is out of bounds for 1 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.sum(ones(2, 3), axis=(0, -2)), """
    sum(x): axis (0, -2) names the same axis twice
    """)
told(ShapeError, lambda: mg.transpose(ones(2, 3), (0, 2)), """
    transpose(x): axis (0, 2) is out of bounds for 2 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.swapaxes(ones(2, 3), 0, 2), """
    swapaxes(x): axis 2 is out of bounds for 2 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.moveaxis(ones(2, 3), 0, 2), """
    moveaxis(x): axis 2 is out of bounds for 2 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.moveaxis(ones(2, 3), (0, 1), 0), """
    moveaxis(x): 2 axes to 1 positions
    """)
told(ShapeError, lambda: mg.expand_dims(ones(2), 2), """
    expand_dims(x): axis 2 is out of bounds for 2 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.flip(ones(2), 1), """
    flip(x): axis 1 is out of bounds for 1 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.standardize(ones(2), 1), """
    standardize(x): axis 1 is out of bounds for 1 dimensions
      help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last
    """)
told(ShapeError, lambda: mg.dropout(ones(2), 1.0, 0), """
    dropout(x): the rate must lie in [0, 1), not 1.0
    """)
told(ShapeError, lambda: mg.dropout(ones(2), -0.5, 0), """
    dropout(x): the rate must lie in [0, 1), not -0.5
    """)
told(IndexingError, lambda: mg.getitem(ones(3), 5), """
    getitem(x): index 5 is out of bounds for axis 0 with size 3
      x  (3,)  float32
    """)
told(ShapeError, lambda: nn.Linear(ones(3, 2))(ones(5, 4)), """
    Linear(x): the number of inputs differs
      x       (5, 4)  float32    inputs: last axis
      weight  (3, 2)  float32    inputs: axis 0
      help: x needs shape (..., 3); x.reshape(n, -1) flattens images
    """)
told(ShapeError, lambda: nn.Linear(ones(3, 1), ones(4))(ones(5, 3)), """
    Linear(x): one bias for each output is needed
      y     (5, 1)  float32    outputs: last axis
      bias  (4,)    float32
    """)
told(ShapeError, lambda: nn.Conv2d(ones(1, 1, 1, 1), ones(4))(ones(1, 2, 2, 1)), """
    Conv2d(x): one bias for each output is needed
      y     (1, 2, 2, 1)  float32    outputs: last axis
      bias  (4,)          float32
    """)
told(ShapeError, lambda: nn.BatchNorm.init(5)(ones(4, 1)), """
    BatchNorm(x): channels differ
      x     (4, 1)  float32    channels: last axis
      bias  (5,)    float32
    """)
told(ShapeError, lambda: nn.cross_entropy(ones(3, 2), np.zeros(4, int)), """
    cross_entropy(logits, labels): scores and labels do not fit
      scores  (3, 2)  float32
      labels  (4,)    int64
      help: n examples have scores (n, classes) and labels (n,)
    """)
told(ShapeError, lambda: nn.cross_entropy(ones(3, 2), np.array([0, 1, -1])), """
    cross_entropy(logits, labels): labels lie outside 0 ... 1
      labels  (3,)  int64    from -1 to 1
    """)
told(ShapeError, lambda: nn.sigmoid_cross_entropy(ones(2), np.array([0, 7])), """
    sigmoid_cross_entropy(scores, labels): labels lie outside 0 ... 1
      labels  (2,)  int64    from 0 to 7
    """)
told(ShapeError, lambda: nn.sigmoid_cross_entropy(ones(3, 1), np.zeros(3, int)), """
    sigmoid_cross_entropy(scores, labels): scores and labels do not fit
      scores  (3, 1)  float32
      labels  (3,)    int64
      help: n examples have scores and labels (n,), or both (n, outputs)
    """)

# ---------------------------------------------------------------------------------------------------------------- types

told(DTypeError, lambda: mg.sum([[1.0, 2.0], [3.0]]), """
    this list is not an array of numbers
      help: stack(x) if it holds traced values; rows must have equal lengths
    """)
told(DTypeError, lambda: mg.reshape("abc", (3,)), """
    reshape(x): 'str' object has no attribute 'reshape'
      x  ()  str
    """)
told(DTypeError, lambda: mg.dropout(ones(2), 0.5, 1.5), """
    dropout(x): a key is an integer, or several
      key  ()  float
      help: (seed of the run, step)
    """)
told(ShapeError, lambda: mg.dropout(ones(2), None, 1), """
    dropout(x): the rate must lie in [0, 1), not None
    """)
told(ShapeError, lambda: mg.argmax(ones(2, 3), (0, 1)), """
    argmax(x): axis (0, 1) is not one axis
      help: pass an integer, or None for all axes
    """)
told(ShapeError, lambda: mg.argmin(ones(2, 0), 1), """
    argmin(x): no elements to choose from
      x  (2, 0)  float32    axes (1,)
    """)
told(ShapeError, lambda: mg.sum(ones(2), "rows"), """
    sum(x): axis 'rows' is neither an integer, nor several, nor None
    """)
told(ShapeError, lambda: mg.take(ones(2), [0], ()), """
    take(x): axis () is not one axis
      help: pass one integer
    """)
told(ShapeError, lambda: mg.scatter_add(ones(2), 2.5, [0, 1]), """
    scatter_add(x, shape): 2.5 is not a shape
      help: an integer, or several: (2, 3)
    """)
told(ShapeError, lambda: mg.tensordot(ones(2), ones(2), None), """
    tensordot(a, b, axes): None is neither a number of axes nor two sequences of them
    """)
told(IndexingError, lambda: mg.getitem(ones(3), 1.0), """
    getitem(x, index): 1.0 is not an index
      x  (3,)  float32
      help: integers, slices, None, Ellipsis, masks, and arrays of integers are
    """)
told(DTypeError, lambda: mg.add(ones(2), ones(2), ones(2)), """
    add(a, b, c): add takes 2 arrays, not 3
      a  (2,)  float32
      b  (2,)  float32
      c  (2,)  float32
    """)
told(DTypeError, lambda: mg.divide(ones(2), ones(2), ones(2)), """
    divide(a, b, c): divide takes 2 arrays, not 3
      a  (2,)  float32
      b  (2,)  float32
      c  (2,)  float32
    """)
told(ShapeError, lambda: nn.squared_error(ones(3, 1), ones(3)), """
    squared_error(scores, targets): scores and targets do not fit
      scores   (3, 1)  float32
      targets  (3,)    float32
      help: n examples have scores and targets (n,), or both (n, outputs)
    """)
told(DTypeError, lambda: nn.squared_error(ones(2), ["3.5", "4"]), """
    squared_error(scores, targets): targets are numbers
      targets  (2,)  <U3
      help: numpy.asarray(targets, float)
    """)
told(DTypeError, lambda: grad(lambda x: mg.sum(mg.exp(x, out=ones(2))))(ones(2)), """
    exp(a): its rule fails: elementwise.<locals>.rule() got an unexpected keyword argument 'out'
      a  (2,)  float32
    """)
told(DTypeError, lambda: mg.dropout(ones(2), 0.5, None), """
    dropout(x): it draws its mask from a key, and there is none
      help: pass an integer, or several: (seed of the run, step)
    """)
told(DTypeError, lambda: nn.cross_entropy(ones(3, 2), np.zeros(3)), """
    cross_entropy(logits, labels): labels are the integers 0 ... classes - 1
      labels  (3,)  float64
      help: labels.astype(int)
    """)
told(DTypeError, lambda: nn.BatchNorm.init(3).apply(ones(2, 3), train=False), """
    BatchNorm.apply(x, train=False): evaluation needs the running averages
      help: pass the state that training returned
    """)
told(DTypeError, lambda: Wrapped(nn.BatchNorm.init(2)).apply(ones(4, 2)), """
    Wrapped.apply: a layer inside keeps averages or drops elements: it needs state and key
      help: write apply (and init_state) in place of __call__, as Sequential does
    """)
told(DTypeError, lambda: Empty()(ones(2)), """
    Empty has neither __call__ nor apply
      help: write one of them
    """)
told(DTypeError, lambda: mg.signed("add", +1, 2), """
    signed('add', ...): each sign is +1 or -1, not (1, 2)
    """)
told(DTypeError, lambda: optim.sgd("fast", momentum=0.9), """
    sgd: the rate is an argument of update, and settings are passed by name
      help: sgd(momentum=0.9) or adam(beta1=0.9), then optimizer.update(gradient, state, params, rate)
    """)
told(DTypeError, lambda: optim.adam(rate="fast"), """
    adam: the rate is an argument of update, and settings are passed by name
      help: sgd(momentum=0.9) or adam(beta1=0.9), then optimizer.update(gradient, state, params, rate)
    """)
told(DTypeError, lambda: optim.sgd().update(ones(2), {}, ones(2), optim.cosine(0.1, 10)), """
    sgd.update: rate is no real number
      rate  ()  function
      help: rate=schedule(step)
    """)
told(DTypeError, lambda: optim.sgd(nesterov=True), """
    sgd: nesterov without momentum
      help: give a momentum, such as 0.9
    """)
told(DTypeError, lambda: check_derivatives(mg.exp, {"w": ones(3)}), """
    check_derivatives(f, ...): float64 is needed to tell an error from rounding
      argument 0.w  (3,)  float32
      help: x.astype('float64'); or leave constants out of the arguments, in a lambda
    """)
told(DTypeError, lambda: check_derivatives(mg.exp, np.arange(3)), """
    check_derivatives(f, ...): float64 is needed to tell an error from rounding
      argument 0  (3,)  int64
      help: x.astype('float64'); or leave constants out of the arguments, in a lambda
    """)
told(DTypeError, lambda: mg.max_pool2d(np.ones((1, 2, 2, 1), int), 2), """
    max_pool2d(x): only floating-point images are pooled: padding is -infinity
      x  (1, 2, 2, 1)  int64
      help: x.astype(float)
    """)
told(DTypeError, lambda: grad(lambda x: x.astype("complex128").real)(2.0), """
    astype(x, dtype): only real numbers have derivatives here
      x  ()  float64
      help: keep real and imaginary part as two arrays
    """)

# ----------------------------------------------------------------------------------------------- what is differentiated

told(DTypeError, lambda: grad(mg.sum)(np.arange(3)), """
    grad(f): only floating-point arrays have derivatives
      argument 0  (3,)  int64
      help: convert it (x.astype(float)), or leave it out of the differentiated arguments
    """)
told(DTypeError, lambda: grad(lambda p: mg.sum(p["w"]))({"w": ones(2), "steps": [3]}), """
    grad(f): only floating-point arrays have derivatives
      argument 0.steps.0  ()  int
      help: convert it (x.astype(float)), or leave it out of the differentiated arguments
    """)
told(DTypeError, lambda: grad(lambda p: 0.0)([Plain()]), """
    grad(f): only floating-point arrays have derivatives
      argument 0.0  ()  Plain
      help: leave it out; or, if there are arrays in it, make Plain a subclass of minigrad.nn.Module, or call minigrad.tree.register(Plain, split, join)
    """)
told(ShapeError, lambda: grad(lambda a, b: a * b, "b")(1.0, 2.0), """
    grad(f): argnums='b' does not fit 2 positional argument(s)
      help: pass what is differentiated by position; argnums counts from 0 and names each once
    """)
told(DTypeError, lambda: grad(lambda x: x > 0)(1.0), """
    grad(f): only real floating-point results have derivatives
      f(...)  ()  bool
      help: return it beside y, with has_aux=True; or convert it: astype(y, float)
    """)
told(DTypeError, lambda: vjp(lambda x: {"z": x * 1j}, 1.0), """
    vjp(f, *xs): only real floating-point results have derivatives
      f(...).z  ()  complex128
      help: keep the real and imaginary parts as two arrays: only real numbers have derivatives here
    """)
told(ShapeError, lambda: grad(mg.linear(lambda x: x.sum(), lambda g, s: g, name="total"))(ones(3)), """
    total(...): the pull of its rule returns a cotangent of shape () for an argument of shape (3,)
      help: minigrad.check_derivatives tests a rule
    """)
told(DTypeError, lambda: jvp(mg.exp, (ones(2),), (np.array([1j, 0]),)), """
    jvp(f, xs, ts): wrong type at 0
      value  (2,)  float32
      given  (2,)  complex128
      help: a tangent or cotangent is an array of real numbers
    """)
told(DTypeError, lambda: grad(mg.abs)(np.array(1j)), """
    grad(f): only floating-point arrays have derivatives
      argument 0  ()  complex128
      help: convert it (x.astype(float)), or leave it out of the differentiated arguments
    """)
told(ShapeError, lambda: grad(mg.exp)(ones(3)), """
    grad(f): f must return one scalar
      f(...)  (3,)  float32
      help: take its sum or mean, or use vjp (one cotangent) or jacobian (all of them)
    """)
told(ShapeError, lambda: grad(lambda x: {"a": mg.sum(x), "b": x})(ones(3)), """
    grad(f): f must return one scalar
      f(...).a  ()    float32
      f(...).b  (3,)  float32
      help: take its sum or mean, or use vjp (one cotangent) or jacobian (all of them)
    """)
told(ShapeError, lambda: grad(lambda x: None)(ones(3)), """
    grad(f): f must return one scalar
      help: take its sum or mean, or use vjp (one cotangent) or jacobian (all of them)
    """)
told(DTypeError, lambda: grad(lambda x: {1})(ones(3)), """
    f returns a set, which is neither an array nor a tree of arrays
      help: return it beside y, with has_aux=True
    """)
told(ShapeError, lambda: grad(mg.sum, 1)(ones(3)), """
    grad(f): argnums=1 does not fit 1 positional argument(s)
      help: pass what is differentiated by position; argnums counts from 0 and names each once
    """)
told(ShapeError, lambda: grad(lambda a, b: a * b, (0, -2))(1.0, 1.0), """
    grad(f): argnums=(0, -2) does not fit 2 positional argument(s)
      help: pass what is differentiated by position; argnums counts from 0 and names each once
    """)
told(ShapeError, lambda: grad(mg.sum, has_aux=True)(ones(3)), """
    has_aux: f must return a pair, (y, aux)
      help: return y, aux; or leave has_aux out
    """)
told(DTypeError, lambda: jvp(mg.exp, ones(3), ones(3)), """
    jvp(f, xs, ts): xs and ts must be tuples, with one element per argument of f
      help: jvp(f, (x,), (t,))
    """)
told(DTypeError, lambda: jvp(mg.exp, (ones(3),), ones(3)), """
    jvp(f, xs, ts): xs and ts must be tuples, with one element per argument of f
      help: jvp(f, (x,), (t,))
    """)
told(ShapeError, lambda: jvp(mg.exp, (ones(3),), (ones(4),)), """
    jvp(f, xs, ts): wrong shape at 0
      value  (3,)  float32
      given  (4,)  float32
      help: a tangent or cotangent has the shape of the value it belongs to
    """)
told(ShapeError, lambda: jvp(mg.exp, ({"w": ones(3)},), ({"w": ones(4)},)), """
    jvp(f, xs, ts): wrong shape at 0.w
      value  (3,)  float32
      given  (4,)  float32
      help: a tangent or cotangent has the shape of the value it belongs to
    """)
told(ShapeError, lambda: jvp(mg.sum, (ones(3),), ([ones(3)],)), """
    jvp(f, xs, ts): two trees differ in structure at 0
      help: gradients, directions and states have the structure of the parameters they belong to
    """)
told(ShapeError, lambda: linearize(mg.exp, ones(3))[1].push(ones(4)), """
    J.push(*ts): wrong shape at 0
      value  (3,)  float32
      given  (4,)  float32
      help: a tangent or cotangent has the shape of the value it belongs to
    """)
told(ShapeError, lambda: linearize(mg.exp, ones(3))[1].push(1.0, 2.0), """
    J.push(*ts): two trees differ in structure at the top
      help: gradients, directions and states have the structure of the parameters they belong to
    """)
told(ShapeError, lambda: vjp(mg.exp, ones(3))[1](ones(4)), """
    J.pull(g): wrong shape at the top
      value  (3,)  float32
      given  (4,)  float32
      help: a tangent or cotangent has the shape of the value it belongs to
    """)
told(TraceError, lambda: grad(Primitive(np.sort, name="sort"))(1.0), """
    sort(...): this primitive has no rule, so it has no derivative
      help: Primitive(fun, rule), or declare it by its kind: elementwise, linear, bilinear
    """)
told(TraceError, lambda: grad(mg.elementwise(np.multiply, lambda y, a, b: b, name="half"), 1)(1.0, 2.0), """
    half(...): no partial derivative by argument 1 is declared
      help: elementwise(fun, *partials) takes one for each argument
    """)
told(TraceError, lambda: grad(lambda x: Primitive(lambda x, k: k * x, lambda i, y, x, k: None, "scale")(x, k=x))(1.0), """
    scale(...): a traced value is passed by keyword, as a setting
      k  ()  float64
      help: pass arrays by position
    """)
told(DTypeError, lambda: mg.add(ones(3), b=ones(3)), """
    add(...): arrays are passed by position, not by keyword
      b  (3,)  float32
      help: pass a, b in this order, without names
    """)
told(TraceError, lambda: grad(lambda w: mg.sum(mg.checkpoint(lambda x, held=types.SimpleNamespace(w=w): x * held.w)(ones(3))))(ones(3)), """
    checkpoint(<lambda>): it uses a traced value from outside its arguments and its closure
      help: pass as an argument whatever is differentiated: checkpoint(f)(params, x)
    """)
told(ShapeError, lambda: reweighted_gradient(lambda p: mg.mean(p), lambda p: mg.sum(p), ones(3)), """
    reweighted_gradient(losses, ...): losses(params) must return one loss per example
      losses  ()  float32
      help: return the losses without taking their mean: cross_entropy(model(x), y)
    """)
told(ShapeError, lambda: example_weights(lambda p: mg.mean(p), lambda p: mg.sum(p), ones(3)), """
    example_weights(losses, ...): losses(params) must return one loss per example
      losses  ()  float32
      help: return the losses without taking their mean: cross_entropy(model(x), y)
    """)
told(ShapeError, lambda: example_weights_unrolled(lambda p: mg.mean(p), lambda p: mg.sum(p), ones(3)), """
    example_weights_unrolled(losses, ...): losses(params) must return one loss per example
      losses  ()  float32
      help: return the losses without taking their mean: cross_entropy(model(x), y)
    """)
told(ShapeError, lambda: reweighted_gradient(lambda p: p * p, lambda p: p, ones(3)), """
    grad(f): f must return one scalar
      f(...)  (3,)  float32
      help: take its sum or mean, or use vjp (one cotangent) or jacobian (all of them)
    """)

# -------------------------------------------------------------------------------------------------------- traced values

told(TraceError, lambda: grad(lambda x: x.__setitem__(0, 1.0))(ones(3)), """
    x[index] = value: this would lose the derivative of a traced value
      x  (3,)  float32
      help: build the result instead: where(mask, a, b), concatenate, or stack
    """)
told(TraceError, lambda: left_over() + 1.0, """
    add(...): a value from inside a derivative was used after it ended
      argument 0  (3,)  float32
      help: return the value from the function that is differentiated (has_aux=True), or keep stop_gradient(value)
    """)
told(TraceError, lambda: grad(lambda x: left_over())(1.0), """
    f(...): it returns a value from inside a derivative that has ended
      y  (3,)  float32
    """)
told(TraceError, lambda: grad(lambda x: float(x[0]))(ones(3)), """
    float(x): this would lose the derivative of a traced value
      x  ()  float32
      help: minigrad.stop_gradient(x) is its plain value, a constant to every derivative
    """)
told(TraceError, lambda: grad(lambda x: int(x[0]))(ones(3)), """
    int(x): this would lose the derivative of a traced value
      x  ()  float32
      help: minigrad.stop_gradient(x) is its plain value, a constant to every derivative
    """)
told(TraceError, lambda: grad(lambda x: [1, 2][x[0]])(ones(3)), """
    using x as an index or a size: this would lose the derivative of a traced value
      x  ()  float32
      help: minigrad.stop_gradient(x) is its plain value, a constant to every derivative
    """)
told(TraceError, lambda: grad(lambda x: x[0].item())(ones(3)), """
    x.item(): this would lose the derivative of a traced value
      x  ()  float32
      help: minigrad.stop_gradient(x) is its plain value, a constant to every derivative
    """)
told(TraceError, lambda: grad(lambda x: x.tolist())(ones(3)), """
    x.tolist(): this would lose the derivative of a traced value
      x  (3,)  float32
      help: minigrad.stop_gradient(x) is its plain value, a constant to every derivative
    """)
told(TraceError, lambda: grad(lambda x: np.asarray(x))(ones(3)), """
    numpy.asarray(x): this would lose the derivative of a traced value
      x  (3,)  float32
      help: compute with functions of minigrad, such as minigrad.array(list); minigrad.stop_gradient(x) is its plain value, a constant to every derivative
    """)
told(TraceError, lambda: grad(lambda x: np.unwrap(x))(ones(3)), """
    numpy.unwrap(x): this would lose the derivative of a traced value
      x  (3,)  float32
      help: minigrad has no such function: write it with those that it has
    """)
told(AttributeError, lambda: grad(lambda x: x.sort())(ones(3)), """
    x.sort: a traced value has no such attribute
      x  (3,)  float32
      help: write it with the functions of minigrad
    """)
told(TraceError, lambda: grad(lambda x: pickle.dumps(x))(ones(3)), """
    pickle: this would lose the derivative of a traced value
      x  (3,)  float32
      help: return the value from the differentiated function first
    """)


# --------------------------------------------------------------------------------------------------------- the tests

@pytest.mark.parametrize("error, call, text", CASES, ids=[text.partition(chr(10))[0] for *_, text in CASES])
def test_it_is_told(error, call, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_an_operation_on_any_number_of_arrays_names_each():
    with pytest.raises(ShapeError) as caught:
        mg.concatenate([ones(2, 3), ones(2, 4)])
    call, *rows = str(caught.value).split("\n")            # the rest of the first line is NumPy's
    assert call.startswith("concatenate(a, b): ") and rows == ["  a  (2, 3)  float32", "  b  (2, 4)  float32"]


def test_numpy_on_a_traced_value_gets_a_note():
    """NumPy's own message cannot be replaced, so the remedy is beside it."""
    with pytest.raises(ValueError) as caught:
        grad(lambda x: np.zeros(2).__setitem__(0, x))(1.0)
    assert caught.value.__notes__ == [
        "  an array of NumPy met a traced value (a Box), whose derivative would be lost\n"
        "  help: build arrays by stack, concatenate or where"]


@pytest.mark.parametrize("walk, name", [(lambda J: J.push(ones(3)), "push"), (lambda J: J.pull(ones(3)), "pull")])
def test_an_error_on_the_way_back_names_the_operation_on_the_way_forward(walk, name):
    twice = Primitive(lambda x: 2.0 * x, lambda i, y, x: LinearMap(lambda t: mg.reshape(t, (7,)), lambda g: mg.reshape(g, (7,))),
                      "twice")
    _, J = linearize(lambda x: twice(x) * 3.0, ones(3))
    with pytest.raises(ShapeError) as caught:
        walk(J)
    assert str(caught.value) == "reshape(x): cannot reshape array of size 3 into shape (7,)\n  x  (3,)  float32"
    assert caught.value.__notes__ == [f"in the {name} of twice, step 1 of the tape"]


# ------------------------------------------------------------------------------------------- remedies that can be taken

def remedies():
    """(file, text) of every help in the sources: what stands after "help:", and what is handed to message and its like."""
    def text(node):
        if isinstance(node, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else "_" for part in node.values)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    places = {"message": 3, "_refuse": 1}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.JoinedStr, ast.Constant)) and "help: " in text(node):
                yield path.name, text(node).partition("help: ")[2]
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in places and len(node.args) > places[node.func.id]:
                for part in ast.walk(node.args[places[node.func.id]]):
                    if text(part):
                        yield path.name, text(part)


DEFINED = {node.name for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))
           if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
OF_THE_READER = "f model losses split join first fun x.T x.to_numpy x.toarray _ _.init".split()      # ... or of what the reader has: _ is a name put in


def exists(name):
    """Whether a function that a help names is one: of this project, of NumPy, of Python, of an array or an optimizer."""
    first, _, rest = name.partition(".")
    modules = {"minigrad": mg, "mg": mg, "numpy": np, "np": np, "xp": np, "tree": tree, "nn": nn, "optim": optim, "model": nn.Module,
               "optimizer": optim.Optimizer}
    if first in modules and rest:
        return operator.attrgetter(rest)(modules[first]) is not None
    return name in OF_THE_READER or name in DEFINED or hasattr(builtins, name) or hasattr(np.ndarray, rest or name) or hasattr(mg, name)


@pytest.mark.parametrize("file, text", sorted(set(remedies())))
def test_a_remedy_names_functions_that_exist(file, text):
    for name in re.findall(r"([A-Za-z_][A-Za-z0-9_.]*)\(", text):
        assert exists(name), (name, text)


@pytest.mark.parametrize("f", sorted((f for f in box.WITHOUT_DERIVATIVE if not isinstance(f, np.ufunc)), key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_functions_of_numpy_without_a_derivative_take_plain_values(f):
    x = np.array([3.0, 1.0, 2.0])
    args = {"full_like": lambda x: (x, 7.0), "can_cast": lambda x: (x.dtype, float), "searchsorted": lambda x: (np.arange(4.0), x)}.get(
        f.__name__, lambda x: (x, x) if f.__name__.startswith(("allc", "array_eq", "isclose", "shares")) else (x,))
    found = []
    gradient = grad(lambda x: mg.sum(x * (found.append(f(*args(x))) or 1.0)))(x)
    assert f is np.empty_like or np.array_equal(found[0], f(*args(x)))
    assert list(gradient) == [1.0, 1.0, 1.0]


def test_a_traced_value_is_printed_as_its_plain_value():
    texts = []

    def f(x):
        texts.append((f"{x:.3f}", f"{x:>8.1f}", format(x), str(x), f"{mg.sum(x):e}", "%s" % x))
        return x * x
    assert grad(f)(3.0) == 6.0 and texts.pop() == ("3.000", "     3.0", "3.0", "Box(np.float64(3.0))", f"{3.0:e}", "Box(np.float64(3.0))")
    for x in (3.0, np.float32(3.0), np.array(3.0)):
        value, gradient = mg.value_and_grad(f)(x)
        assert f"{value:.2f} {gradient:.2f} {grad(grad(f))(x):.1f}" == "9.00 6.00 2.0"
        y, J = linearize(f, x)
        assert f"{y:.2f} {J.push(x):.1f} {J.pull(x):.1f} {jvp(f, (x,), (x,))[1]:.1f}" == "9.00 18.0 18.0 18.0"
    with pytest.raises(TypeError, match="unsupported format string"):       # as NumPy has it, of an array with axes
        grad(lambda x: f"{x:.2f}")(np.ones(3))


def test_a_traced_value_has_what_an_array_has_or_says_what_to_write():
    """Every attribute and method of an array: there, or refused by an error of this library. What Python asks for is no error."""
    x = np.array([[1.0, 2.0], [3.0, 4.0]])

    def f(x):
        for name in dir(np.ndarray):
            if not name.startswith("_"):
                try:
                    getattr(x, name)
                except mg.MinigradError as error:
                    assert name in str(error) and isinstance(error, AttributeError) and not hasattr(x, name)
        with pytest.raises(AttributeError, match="^'Box' object has no attribute 'nothing'$"):
            x.nothing
        assert not hasattr(x, "__array_interface__") and x.copy() is x and x.flatten().shape == (4,)
        return mg.sum(x.copy() * 2.0) + mg.sum(x.flatten())
    assert (grad(f)(x) == 3.0).all()


def test_functions_of_other_libraries_are_refused_by_the_name_of_ours():
    import scipy.special
    for f, ours in ((lambda x: scipy.special.erf(x), "scipy.special.erf(x): .*minigrad.special.erf(x) takes"), (lambda x: scipy.special.expit(x), "minigrad.special.expit(x)"),
                    (lambda x: np.linalg.outer(x, x), "numpy.linalg.outer(x): .*minigrad.outer(x)"), (lambda x: np.emath.sqrt(x), "sqrt(x): this would lose"),
                    (lambda x: np.emath.log(x), "this would lose"), (lambda x: np.emath.power(x, 2), "this would lose"), (lambda x: np.emath.arccos(x), "this would lose")):
        with pytest.raises(TraceError, match=ours.replace("(", r"\(").replace(")", r"\)").replace(": .*", r"(.|\n)*")):
            mg.grad(lambda x: mg.sum(f(x)))(np.array([0.3, 0.6]))


@pytest.mark.parametrize("f", [lambda x, m: x * m, lambda x, m: m * x, lambda x, m: mg.matmul(x, m), lambda x, m: mg.sum(x * x + m), lambda x, m: mg.exp(x) / m])
def test_a_numpy_matrix_is_refused(f):
    """Its * is the product of matrices: a traced value would silently be another."""
    with pytest.warns(PendingDeprecationWarning):
        m = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    for call in (lambda: mg.jvp(lambda x: f(x, m), (np.ones((2, 2)),), (np.ones((2, 2)),)), lambda: mg.value_and_grad(lambda x: mg.sum(f(x, x)))(m), lambda: mg.sum(m)):
        with pytest.raises(DTypeError, match=r"numpy.matrix is not taken(.|\n)*help: numpy.asarray\(x\)"):
            call()


@pytest.mark.parametrize("f", [mg.sum, mg.mean, mg.max, mg.cumsum, mg.std, mg.logsumexp, mg.flip, mg.concatenate])
def test_true_is_no_axis(f):
    for x in (np.ones((2, 3)), [[1.0, 2.0], [3.0, 4.0]]):
        with pytest.raises((mg.MinigradError, TypeError)):
            f(x, True)
        with pytest.raises((mg.MinigradError, TypeError)):
            mg.grad(lambda x: mg.sum(f(x, True)))(np.ones((2, 3)))


BESIDE = {"quantile": (0.5,), "percentile": (50.0,), "partition": (1,), "argpartition": (1,), "take": (np.array([0]),), "repeat": (2,), "roll": (1,), "split": (2,), "array_split": (2,),
          "append": (np.ones((2, 3)),), "cross": (np.ones((2, 3)),), "take_along_axis": (np.zeros((2, 3), int),), "linspace": None}


@pytest.mark.parametrize("name", sorted(name for name, f in vars(mg).items() if not name.startswith("_") and callable(f) and not isinstance(f, type)
                                        and "axis" in inspect.signature(f).parameters and BESIDE.get(name, ()) is not None))
def test_an_axis_that_is_not_there_is_one_error_traced_or_not(name):
    f, x, error = getattr(mg, name), np.ones((2, 3)), IndexingError if name.endswith("split") else mg.ShapeError     # NumPy's split has no words of its own
    for axis in (2, -3, 5) if name not in ("expand_dims", "stack") else (3, -4, 5):
        def call(x, axis=axis):
            return f([x, x] if name in ("concatenate", "stack") else x, *BESIDE.get(name, ()), axis=axis)
        for walk in (call, functools.partial(mg.linearize, call)):
            with pytest.raises(error):
                walk(x)


@pytest.mark.parametrize("call, kind", [(lambda: mg.optim.piecewise(0.1, 5), TypeError), (lambda: mg.nn.zeros((2, -1)), ValueError), (lambda: mg.stack([np.ones(2), np.ones(3)]), ValueError),
                                        (lambda: mg.linalg.inv(np.zeros((2, 2))), np.linalg.LinAlgError)])
def test_the_error_below_is_kept_as_the_cause(call, kind):
    """What went wrong inside is read in the traceback."""
    with pytest.raises(mg.MinigradError) as caught:
        call()
    assert type(caught.value.__cause__) is kind


class Strange:
    """An object that cannot be printed."""

    def __init__(self, error):
        self.error = error

    def __repr__(self):
        raise self.error


@pytest.mark.parametrize("error", [TypeError(), ValueError("no"), RuntimeError(), AttributeError("x"), KeyError(1)])
def test_an_argument_that_cannot_be_printed_is_told_without_it(error):
    for call in (lambda: mg.optim.piecewise(0.1, Strange(error)), lambda: mg.nn.he_normal(mg.backend.generator(0), Strange(error))):
        with pytest.raises(mg.DTypeError, match="Strange"):
            call()


@pytest.mark.parametrize("call", [
    lambda: mg.signed("add", +1, 0), lambda: mg.sum_to(np.zeros((3, 0)), (0, 0)), lambda: mg.sum_to(np.zeros((0, 3)), (0, 0)),
    lambda: mg.max_pool2d(np.ones((1, 4, 4, 1)), 2, padding=((0, 2), (0, 0))), lambda: mg.max_pool2d(np.ones((1, 4, 4, 1)), 2, padding=((0, 0), (0, 2))),
    lambda: nn.Linear(np.ones((2, 3)), np.ones((1, 3)))(np.ones((4, 2))), lambda: nn.Linear(np.ones((2, 3)), np.ones((4, 3)))(np.ones((4, 2))),
    lambda: nn.Conv2d(np.ones((1, 1, 2, 3)), np.ones((1, 3)))(np.ones((1, 4, 4, 2)))])
def test_what_would_go_through_is_refused(call):
    """A sign that is none, a sum to no elements, windows without an element on the far side, a bias with axes of its own."""
    with pytest.raises(mg.MinigradError, match="\n  help|each sign is|leaves windows|one bias for each output"):
        call()


def test_an_error_of_a_layer_of_ones_own_is_its_own():
    class Own(nn.Module):
        scale: nn.Array

        def __call__(self, x):
            raise ValueError("mine")
    with pytest.raises(ValueError, match="^mine$") as caught:
        Own(np.ones(()))(np.ones(3))
    assert not isinstance(caught.value, mg.MinigradError)


def test_an_array_in_an_error_is_told_by_its_shape_and_type():
    with pytest.raises(mg.MinigradError) as caught:
        mg.ravel(np.ones((20, 3)), 2)
    assert str(caught.value).splitlines()[1:3] == ["  x           (20, 3)  float64", "  argument 1  ()       int        2"]
