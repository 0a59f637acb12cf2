"""CuPy without a GPU: NumPy arrays behind the names, the signatures and the refusals of the CuPy that is installed.

    imitation = array_module()          # give it to minigrad as CuPy (see the fixture `device` in conftest.py)

`import cupy` needs neither a driver nor a GPU, so that what CuPy has can be read off it: a function, a method or a
keyword that CuPy lacks is refused here too, and so is what CuPy refuses when it runs:

    - a NumPy array in an operation or as an index (CuPy raises, or copies it to the device without saying so)
    - a number or a list where a function wants an array; a function of NumPy on an array of the device
    - ufuncs with `where=`, their methods that CuPy does not have, types of element that no kernel knows
    - an index outside the array, or one twice in x[index] = value (CuPy gives wrong values, and no error)

    with no_host_reads(): step()        # and whatever would wait for the device, or break a CUDA graph, is refused

What it cannot show: rounding of the device's own functions, races, and anything inside a kernel.
"""
import contextlib
import functools
import inspect
import re

import cupy
import numpy as np

CONSTRUCTORS = """array arange asarray asanyarray ascontiguousarray empty eye full identity indices linspace logspace ones zeros tri
                  result_type can_cast promote_types isscalar ndim shape size""".split()       # they take what is no array
LISTS = "concatenate stack hstack vstack dstack column_stack block".split()                 # they take a list of arrays
READERS = "nonzero flatnonzero argwhere unique compress extract bincount repeat array_equal allclose".split()
METHODS = {"reduce": "add multiply", "accumulate": "add multiply", "reduceat": "add",      # of ufuncs; CuPy 14
           "at": "add subtract maximum minimum bitwise_and bitwise_or bitwise_xor"}
KINDS = "?bhilqBHILQefdFD"                                  # the characters of the types that CuPy's kernels know
_forbidden = []                                             # not empty where nothing may be read on the host


class HostRead(AssertionError):
    """A value of the device was wanted on the host."""


@contextlib.contextmanager
def no_host_reads():
    """Refuse, inside, whatever has to wait for the device: bool(x), float(x), x.get(), x[mask], nonzero ..."""
    _forbidden.append(True)
    try:
        yield
    finally:
        _forbidden.pop()


def _reads(what):
    if _forbidden:
        raise HostRead(f"{what} waits for the device")


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the device: it has what cupy.ndarray has."""
    __module__ = "cupy"

    def __init__(self, a):
        if a.dtype.char not in KINDS:
            raise TypeError(f"Unsupported dtype {a.dtype}")
        self._a = a

    shape = property(lambda self: self._a.shape)            # the commonest attributes, without a detour
    dtype = property(lambda self: self._a.dtype)

    def __array__(self, *args, **params):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, how, *args, **params):
        if any(getattr(type(a), "__array_ufunc__", 0) is None for a in args):
            return NotImplemented                           # such an object wants to do it itself
        return _ufunc(ufunc, how, *args, **params)

    def __array_function__(self, function, types, args, params):
        raise TypeError(f"numpy.{function.__name__} on an array of the device")

    def __getitem__(self, index):
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, ndarray) and part.dtype == bool:
                _reads("x[mask]")
        return _device(self._a[_host(index)])

    def __setitem__(self, index, value):
        parts = [p for p in (index if isinstance(index, tuple) else (index,)) if isinstance(p, ndarray)]
        if any(p.dtype == bool for p in parts):
            _reads("x[mask] = value")
        elif parts:
            times = np.zeros(self._a.shape, int)
            np.add.at(times, _host(index), 1)
            if times.max(initial=0) > 1:
                raise IndexError("x[index] = value names an element twice: undefined on a device, use xp.add.at")
        self._a[_host(index)] = _host(value)

    def __getattr__(self, name):
        real, value = getattr(cupy.ndarray, name), getattr(self._a, name)   # AttributeError where CuPy has none
        if name in ("item", "tolist", "tobytes", "nonzero", "compress", "repeat"):
            _reads(f"x.{name}()")
        return _checked(value, _signature(real), self) if callable(value) else _device(value)

    def get(self):
        _reads("x.get()")
        return self._a.copy()

    __imatmul__ = None

    def __len__(self):
        return len(self._a)

    def __repr__(self):
        _reads("repr(x)")
        return repr(self._a)


for _name in ("bool", "int", "float", "complex"):         # there is no __index__
    setattr(ndarray, f"__{_name}__", lambda self, name=_name: (_reads(f"{name}(x)"), getattr(self._a, f"__{name}__")())[1])


def _host(x):
    """The NumPy array inside; an array of the host itself is refused."""
    kind = type(x)
    if kind is ndarray:
        return x._a
    if kind is np.ndarray:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return kind(map(_host, x)) if kind is tuple or kind is list else x


def _device(x):
    kind = type(x)
    if kind is np.ndarray:
        return ndarray(x)
    if isinstance(x, np.generic):
        return ndarray(np.asarray(x))
    return kind(map(_device, x)) if kind is tuple or kind is list else x


@functools.cache
def _signature(function):
    """The signature of a function of CuPy: of compiled ones from the first line of the docstring. None if not known."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        found = re.match(r"[\w.]+\((.*)\)", (function.__doc__ or "").split("\n")[0])
        if not found:
            return None
        untyped = re.sub(r"(_ndarray_base|Py_ssize_t|int) (?=.)", "", found[1])
        return inspect.signature(eval(f"lambda {untyped}: 0"))


def _checked(function, signature, *self):
    """The function of NumPy, for arguments that the one of CuPy has."""
    def call(*args, **params):
        if signature:
            signature.bind(*self, *args, **params)
        return _device(function(*_host(args), **{name: _host(value) for name, value in params.items()}))
    return call


def _ufunc(ufunc, how, *args, out=None, **params):
    if how == "__call__" and params.keys() - {"dtype", "casting"}:
        raise TypeError(f"{ufunc.__name__}: Wrong arguments {params}")
    if how in METHODS and ufunc.__name__ not in METHODS[how].split():
        raise NotImplementedError(f"`{ufunc.__name__}.{how}` is not supported yet")
    if how == "at":
        if isinstance(args[1], ndarray) and args[1].dtype == bool:
            _reads(f"{ufunc.__name__}.at(x, mask)")
        if args[0].dtype.char not in "iIlLqQefdFD":
            raise TypeError(f"`{ufunc.__name__}.at` is not supported for {args[0].dtype}")
    if out is None:
        return _device(getattr(ufunc, how)(*_host(args), **params))
    out = out if isinstance(out, tuple) else (out,)
    getattr(ufunc, how)(*_host(args), out=_host(out), **params)
    return out[0]


class _Ufunc:
    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, **params):
        return _ufunc(self.ufunc, "__call__", *args, **params)

    def __getattr__(self, how):
        return lambda *args, **params: _ufunc(self.ufunc, how, *args, **params)


class _Module:
    """A module of NumPy with nothing but the names of a module of CuPy."""

    def __init__(self, ours, real):
        self._ours, self._real, self.__name__ = ours, real, real.__name__

    def __getattr__(self, name):
        real, ours = getattr(self._real, name), getattr(self._ours, name, None)     # AttributeError where CuPy has none
        if inspect.ismodule(real):
            return _Module(ours, real)
        if name in ("asarray", "array"):                    # the way from the host to the device
            return lambda x, *args, **params: ndarray(ours(getattr(x, "_a", x), *args, **params))
        if name == "asnumpy":
            return lambda x: x.get()
        if isinstance(ours, np.ufunc):
            return _Ufunc(ours)
        if not callable(real) or isinstance(real, type):
            return real
        call = _checked(ours, _signature(real))

        def refused(*args, **params):
            if name in CONSTRUCTORS:
                if any(isinstance(a, ndarray) and a.ndim == 0 for a in args) and name in ("arange", "linspace", "full"):
                    _reads(f"{name}(x)")
            elif args:
                first = args[0] if name in LISTS else args[:1]
                if not isinstance(first, (list, tuple)) or not all(isinstance(a, ndarray) for a in first):
                    raise TypeError(f"{name}: an array of the device is needed, not {args[0]!r}")
            if name in READERS or name == "where" and len(args) == 1:
                _reads(name)
            return call(*args, **params)
        return refused


def array_module():
    """What stands in for CuPy."""
    return _Module(np, cupy)
