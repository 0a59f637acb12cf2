"""The base of all layers. Public as nn.Module and nn.static; nn.py says what a module is."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, dataclass_transform

import numpy

from . import deprecated, tree
from .backend import as_array, is_array
from .boundary import explains, guard, guard_class
from .box import raw
from .errors import DTypeError, message
from .ops import concatenate
from .typing import Array, Key, Tree


def static(default: Any = dataclasses.MISSING) -> Any:
    """Return a field that is not a parameter but a setting, part of the structure of the tree.

    Write nn.static(default=1): a type checker sees no default that is passed by position.
    """
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Module:
    """The base of all layers: subclasses become frozen dataclasses and nodes of trees."""

    def __init_subclass__(cls) -> None:
        deprecated.methods(cls, state="init_state")
        guard_class(cls)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        fields = dataclasses.fields(cls)        # type: ignore[arg-type]      # the line above makes it a dataclass
        names = tuple(f.name for f in fields if not f.metadata.get("static"))
        settings = tuple(f.name for f in fields if f.metadata.get("static"))

        def split(module: Module) -> tuple[tuple[str, ...], list[Any], tuple[Any, ...]]:
            return names, [getattr(module, n) for n in names], tuple(getattr(module, n) for n in settings)

        def join(names: tuple[str, ...], children: list[Any], static: tuple[Any, ...]) -> Module:
            module = object.__new__(cls)                    # without the checks and the cost of a frozen __init__
            vars(module).update(zip(names, children), **dict(zip(settings, static)))
            return module
        tree.register(cls, split, join)

    def __call__(self, x: Array) -> Array:
        """Return the value for x: that of `apply` in training, without state and key. To predict, call `predict`."""
        if type(self).apply is Module.apply:
            raise DTypeError(f"{type(self).__name__} has neither __call__ nor apply\n  help: write one of them")
        return self.apply(x)[0]

    def apply(self, x: Array, state: Tree = None, train: bool = True, key: Key | None = None) -> tuple[Array, Tree]:
        """Return the value for x and the next state. state, train, key: see the top of this file."""
        inside = [value for value in vars(self).values() if value is not None and not hasattr(value, "dtype")]
        if inside and _needs_apply(tree.flatten(self)[1]):
            raise DTypeError(f"{type(self).__name__}.apply: a layer inside keeps averages or drops elements: it needs "
                             "state and key\n  help: write apply (and init_state) in place of __call__, as Sequential "
                             "does")
        return self(x), state

    @explains
    def predict(self, x: Any, state: Tree = None, batch_size: int = 500,
                prepare: Callable[[Any], Array] | None = None) -> Array:
        """Return the value for x in evaluation, where the output of an example does not depend on the others.

        Args:
            x: the examples, (n, ...): an array, or a sparse matrix with a `prepare` for it.
            state: the running averages that training returned; None for a model without.
            batch_size: the number of examples evaluated at a time.
            prepare: a function from the examples of a batch to the model's input, such as one that moves them to the
                device or scales them; None: they are the input.
        """
        x = x if hasattr(x, "shape") else as_array(x)
        batches = [x[i:i + batch_size] for i in range(0, max(x.shape[0], 1), batch_size)]
        return concatenate([self.apply(prepare(batch) if prepare else batch, state, False)[0] for batch in batches])

    def init_state(self) -> Tree:
        """Return the running averages that this module begins with: None if it has none."""
        return None

    state = deprecated.Method("init_state")

    def __repr__(self) -> str:
        inside = (f"{f.name}={_brief(getattr(self, f.name))}"
                  for f in dataclasses.fields(self))        # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(inside)})"


def _needs_apply(structure: tree.Structure) -> bool:
    """Return whether a module here, in any container or setting, has an `apply` of its own and is not a container."""
    cls = structure.node
    if cls in (tree.LEAF, tree.STATIC):
        return False
    own = issubclass(cls, Module) and cls.apply not in HAND_ON
    return own or any(map(_needs_apply, (*structure.children, tree.flatten(structure.static)[1])))


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))})"
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return getattr(value, "__name__", repr(value))


HAND_ON: set[Any] = {Module.apply}      # methods that hand state and key on; nn.py adds those of its containers


def _check_array(call: str, x: Any) -> None:
    """Raise DTypeError where x only looks like an array: it has a shape, and rules of its own."""
    plain = raw(x)
    if type(plain) is numpy.ndarray or not hasattr(x, "shape"):
        return
    if not is_array(plain) and not isinstance(plain, numpy.generic):
        kind = f"{type(x).__name__} of {type(x).__module__.partition('.')[0]}"
        raise DTypeError(message(call, f"x is a {kind}, not an array", [("x", x, "")],
                                 "x.to_numpy() of a table, x.toarray() of a sparse matrix"))


guard(__name__)
