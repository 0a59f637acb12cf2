"""Trees and their files."""
import collections
import concurrent.futures
import copy
import dataclasses
import functools
import json
import os
import pickle
import secrets
import stat
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import DTypeError, FileError, ShapeError, nn, optim, tree
from minigrad.models import lenet

from .strategies import Layer, Part, permuted, trees

seeds = st.integers(0, 99)


def equal(a, b):
    """Return whether two trees have the same leaves in nodes of the same types, and dicts in the same order."""
    (xs, s), (ys, t) = tree.flatten(a), tree.flatten(b)
    return s == t and all(np.array_equal(x, y) for x, y in zip(xs, ys))


def walk(t):
    """Return a number that depends on the order in which a program visits the leaves of a tree."""
    total = 1.0
    for child in t.values() if isinstance(t, dict) else [t.inner] if isinstance(t, Layer) else t if isinstance(
            t, (list, tuple)) else []:
        total = mg.sin(total + walk(child))
    return total if t is None or tree.flatten(t)[1].node is not tree.LEAF else mg.sum(mg.cos(t))


@given(trees())
def test_flatten_and_unflatten_are_inverse(t):
    found, structure = tree.flatten(t)
    again = tree.unflatten(structure, found)
    assert tree.flatten(again)[1] == structure and type(again) is type(t)
    assert all(a is b for a, b in zip(found, tree.flatten(again)[0]))
    assert len(tree.paths(t)) == len(found)


@given(trees())
def test_a_tree_comes_back_in_the_order_in_which_it_was_made(t):
    """A program visits a tree in the same order inside a derivative, a checkpoint, a map or a copy."""
    expected = walk(t)
    copies = {"unflatten": tree.unflatten(*tree.flatten(t)[::-1]), "map": tree.map(lambda x: x + 0.0, t),
              "stop_gradient": mg.stop_gradient(t), "pickle": pickle.loads(pickle.dumps(t)), "deepcopy": copy.deepcopy(t),
              "gradient": tree.map(lambda x, g: x + 0.0 * g, t, mg.grad(walk)(t)) if tree.flatten(t)[0] else t,
              "sgd": optim.sgd().update(t, optim.sgd().init(t), t, 0.0)[0]}
    for name, again in copies.items():
        assert walk(again) == expected and equal(again, t), name
    assert mg.checkpoint(walk)(t) == mg.value_and_grad(lambda t, x: walk(t) * x, 1)(t, 1.0)[0] == expected
    assert tree.flatten(t)[0] == [] or mg.value_and_grad(walk)(t)[0] == mg.jvp(walk, (t,), (t,))[0] == expected


@given(trees(), seeds)
def test_where_trees_meet_dicts_are_matched_by_name(t, seed):
    other = permuted(np.random.default_rng(seed), t)

    def both(a, b):
        """Return a result, and the one with the dicts of every second tree in another order: equal, in the order of the first."""
        assert equal(a, b)
    plus = functools.partial(tree.map, lambda a, b: a + 2.0 * b)
    both(plus(t, t), plus(t, other))
    y, J = mg.linearize(lambda t: tree.map(mg.sin, t), t)
    both(J.push(t), J.push(other))
    both(J.pull(t), J.pull(other))
    both(mg.jvp(lambda t: t, (t,), (t,)), mg.jvp(lambda t: t, (t,), (other,)))
    both(mg.hvp(walk, t, t), mg.hvp(walk, t, other))
    for optimizer in (optim.sgd(), optim.sgd(momentum=0.9, nesterov=True), optim.adam()):
        state = optimizer.update(t, optimizer.init(t), t, 0.1)[1]
        both(optimizer.update(t, state, t, 0.1), optimizer.update(other, permuted(np.random.default_rng(seed), state), t, 0.1))
    reweight = mg.reweight.reweighted_gradient
    both(reweight(lambda p: mg.stack([walk(p), 0.0]), walk, t).gradient,
         reweight(lambda p: mg.stack([walk(p), 0.0]), lambda p: walk(p) + 0.0 * walk(other), t).gradient)


@given(trees(), seeds)
def test_a_file_is_read_by_name(tmp_path_factory, t, seed):
    path = tmp_path_factory.mktemp("files") / "t"
    if len(set(tree.paths(t))) == len(tree.paths(t)):
        tree.save(path, t)
        other = permuted(np.random.default_rng(seed), t)
        assert equal(tree.load(path, other), other)


def test_structures_differ_where_names_settings_or_nodes_do():
    one = {"a": 1.0, "b": Layer(1.0, np.zeros(2))}
    for other in ({"a": 1.0}, {"a": 1.0, "c": one["b"]}, {"a": 1.0, "b": Layer(1.0, np.ones(2))}, {"a": [1.0], "b": one["b"]},
                  {"a": 1.0, "b": Layer(1.0, np.zeros(3))}, {"a": 1.0, "b": Layer(1.0, np.zeros(2, "float32"))},
                  collections.OrderedDict(one), {**one, "c": None}, {"a": 1.0, "b": Layer(1.0, np.zeros(2), 0.5)}):
        assert tree.flatten(one)[1] != tree.flatten(other)[1]
        with pytest.raises(ShapeError, match="two trees differ"):
            tree.map(lambda a, b: a, one, other)
    reordered = {"b": one["b"], "a": 1.0}
    assert tree.flatten(one)[1] != tree.flatten(reordered)[1]       # leaves of one do not fit into the other
    assert tree.map(lambda a, b: b, one, reordered)["a"] == 1.0


class Activation:
    def __init__(self, slope):
        self.slope = slope

    def __call__(self, x):
        return self.slope * x


@dataclasses.dataclass
class Setting:
    mean: np.ndarray


@pytest.mark.parametrize("value", [np.arange(3), float("nan"), np.float32("nan"), {"a": np.ones(2)}, [np.ones(2), None],
                                   Setting(np.ones(2)), Activation(2.0), functools.partial(Activation, slope=np.ones(2)),
                                   nn.Linear(np.ones((2, 2))), np.tanh, mg.tanh, nn.he_normal, nn.Linear, "same",
                                   collections.Counter("ab"), Part.BODY, np.dtype("float32"), tree.flatten([1.0, None])[1]],
                         ids=lambda value: type(value).__name__)
def test_settings_of_any_kind_are_compared(value):
    """A copy of a model has the same structure, whatever its settings are."""
    model = Layer(np.ones(2), value)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), tree.map(lambda x: x, model)):
        assert equal(tree.map(lambda a, b: (a + b) / 2.0, model, again), model)
    other = Layer(np.ones(2), "another")
    assert tree.flatten(model)[1] != tree.flatten(other)[1]


def test_settings_that_differ():
    for a, b in ((np.ones(2), np.zeros(2)), (1.0, float("nan")), (Setting(np.ones(2)), Setting(np.zeros(2))), (mg.tanh, mg.sin),
                 (Activation(1.0), Activation(2.0)), (np.sin, np.cos), (lambda x: x, lambda x: x), ({"a": 1}, {"b": 1}),
                 (functools.partial(mg.sum, axis=0), functools.partial(mg.sum, axis=1)), (np.ones(2), np.ones(2, int))):
        assert not tree.same(a, b) and tree.same(a, a)
    assert tree.same({"a": 1, "b": 2}, {"b": 2, "a": 1}) and tree.same(1, 1.0)


class Settings(dict):
    pass


class Rows(list):
    pass


@pytest.mark.parametrize("value", [Setting(np.ones(2)), Settings(mean=np.ones(2)), Rows([np.ones(2)]), collections.Counter("a"),
                                   collections.deque([np.ones(2)]), collections.ChainMap({"a": np.ones(2)}), os.stat(".")],
                         ids=lambda value: type(value).__name__)
def test_a_class_that_is_no_node_is_refused_wherever_it_is_met(value):
    """As a leaf, it would silently lose the derivatives of the arrays in it."""
    calls = (lambda: tree.flatten([value]), lambda: mg.grad(lambda p: 0.0)(value), lambda: mg.stop_gradient(value),
             lambda: mg.grad(lambda x: (x, value), has_aux=True)(1.0), lambda: mg.checkpoint(lambda x: 0.0)(value),
             lambda: mg.linearize(lambda x: value, 1.0), lambda: Layer([value]).apply(1.0))
    for call in calls:
        with pytest.raises(DTypeError) as caught:
            call()
        name = type(value).__name__
        assert str(caught.value) == (
            f"tree.flatten(x): {name} is not registered as a node: arrays in it would be overlooked\n"
            f"  help: minigrad.tree.register({name}, split, join); or use minigrad.nn.Module for a dataclass, and dict(x), "
            "list(x) or tuple(x) for a container")


def test_the_remedy_is_one():
    class Registered(dict):
        pass
    tree.register(Registered, lambda t: (t.keys(), t.values(), None), lambda names, children, static: Registered(
        zip(names, children)))
    gradient = mg.grad(lambda p: p["b"] * p["a"])(Registered(b=2.0, a=3.0))
    assert type(gradient) is Registered and gradient == {"b": 3.0, "a": 2.0} and list(gradient) == ["b", "a"]


def test_trees_without_an_end():
    deep = functools.reduce(lambda t, _: [t], range(3000), 1.0)
    circle = []
    circle.append(circle)
    for t in (deep, circle):
        with pytest.raises(ShapeError, match="nested too deeply, or holds itself\n  help: "):
            tree.flatten(t)


def test_a_structure_takes_as_many_leaves_as_it_has():
    for leaves in ([], [1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ShapeError, match="too few or too many leaves for this structure\n  help: flatten returns both"):
            tree.unflatten(tree.flatten([1.0, {"a": 2.0}])[1], leaves)


@given(trees())
def test_map_keeps_the_structure(t):
    doubled = tree.map(lambda a, b: a + b, t, t)
    assert tree.flatten(doubled)[1] == tree.flatten(t)[1]
    for a, b in zip(tree.flatten(doubled)[0], tree.flatten(t)[0]):
        np.testing.assert_array_equal(a, 2 * b)


def test_a_difference_is_located():
    with pytest.raises(ShapeError, match=r"tree.map: two trees differ in structure at a.1\n  help"):
        tree.map(lambda a, b: a, {"a": (1.0, [2.0])}, {"a": (1.0, (2.0,))})


def test_a_module_is_a_node():
    model = lenet(np.random.default_rng(0))
    assert tree.paths(model)[:2] == ["conv1.kernel", "conv1.bias"]
    zero = tree.map(np.zeros_like, model)
    assert isinstance(zero, type(model)) and zero.conv1.padding == "same" and not zero.conv1.kernel.any()
    assert tree.paths(nn.Linear(np.ones((1, 1)))) == ["weight"]


def test_a_file_gives_back_the_same_bits(tmp_path):
    model = lenet(np.random.default_rng(0))
    tree.save(tmp_path / "m.safetensors", model, {"step": "7"})
    again = tree.load(tmp_path / "m.safetensors", tree.map(np.zeros_like, model))
    for a, b in zip(tree.flatten(model)[0], tree.flatten(again)[0]):
        np.testing.assert_array_equal(a, b)
    assert tree.read(tmp_path / "m.safetensors")[1] == {"step": "7"}
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_bad_files_are_refused(tmp_path):
    path, t = tmp_path / "t.safetensors", {"a": np.ones(2), "b": np.ones(3)}
    tree.save(path, t)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FileError, match="not a whole safetensors file"):
        tree.load(path, t)
    tree.save(path, t)
    with pytest.raises(ShapeError, match=r"missing  \['c'\]\n  unknown  \['b'\]"):
        tree.load(path, {"a": np.ones(2), "c": np.ones(3)})
    with pytest.raises(ShapeError, match="b does not fit"):
        tree.load(path, {"a": np.ones(2), "b": np.ones(4)})


def test_names_that_would_be_lost_are_refused(tmp_path):
    with pytest.raises(ShapeError, match="two leaves have the same path, 'a.b'"):
        tree.save(tmp_path / "t", {"a.b": np.ones(2), "a": {"b": np.zeros(2)}})
    tree.save(tmp_path / "t", {"a": 1.5})
    assert tree.load(tmp_path / "t", {"a": 0.0})["a"] == 1.5 and tree.size({"a": 1.5, "b": np.ones((2, 3))}) == 7


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    tree.write_whole(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        tree.write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


# ------------------------------------------------------------------------------------------------- files that last

def test_the_name_is_on_the_disk_as_well(tmp_path, monkeypatch):
    """A power cut may undo a rename that is not synced: first sync the file, then rename, then sync the folder."""
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    tree.save(tmp_path / "m", {"a": 1.0})
    assert done == ["file", "rename", "folder"]


def test_names_of_unfinished_files_are_new_and_no_link_is_followed(tmp_path, monkeypatch):
    seen, replace = set(), os.replace
    monkeypatch.setattr(os, "replace", lambda beside, path: (seen.add(os.path.basename(beside)), replace(beside, path)))
    for _ in range(3):
        tree.write_whole(tmp_path / "m", b"x")
    assert len(seen) == 3 and all(name.startswith(f".m.{os.getpid()}.") for name in seen)
    (tmp_path / "precious").write_text("precious")
    monkeypatch.setattr(secrets, "token_hex", lambda count: "guessed")
    os.symlink(tmp_path / "precious", tmp_path / f".m.{os.getpid()}.guessed")
    with pytest.raises(FileError, match="m: the file cannot be written .File exists."):
        tree.write_whole(tmp_path / "m", b"new")
    assert (tmp_path / "precious").read_text() == "precious" and (tmp_path / "m").read_bytes() == b"x"
    assert (tmp_path / f".m.{os.getpid()}.guessed").is_symlink(), "what somebody else has made is not removed"


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path):
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: tree.write_whole(tmp_path / "m", content), contents * 4))
    assert (tmp_path / "m").read_bytes() in contents and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_kept_or_those_of_a_new_file(tmp_path, mask):
    path, before = tmp_path / "m", os.umask(mask)
    try:
        for mode in (None, 0o600, 0o640, 0o666):
            if mode:
                path.chmod(mode)
            tree.write_whole(path, b"x")
            assert stat.S_IMODE(path.stat().st_mode) == (mode or 0o666 & ~mask)
    finally:
        os.umask(before)


@pytest.mark.parametrize("path, data", [("none/m", b""), ("", b""), (".", b""), ("..", b""), ("a\0b", b""), ("x" * 300, b""), ("m", "text"), ("m", None)])
def test_what_cannot_be_written_is_named(tmp_path, path, data):
    with pytest.raises(FileError, match="the file cannot be written"):
        tree.write_whole(tmp_path / path, data)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("metadata", [{"classes": ["x"]}, {1: "x"}, ["x"], "text", {"x": None}])
def test_metadata_are_strings(tmp_path, metadata):
    with pytest.raises(DTypeError, match="metadata must be a dict of strings to strings"):
        tree.save(tmp_path / "m", {"a": np.ones(2)}, metadata)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("leaf", [np.ones(2, complex), np.ones(2, "longdouble"), np.array(["a"]), np.array([None]), object(), np.zeros(2, "datetime64[s]"), 1j])
def test_leaves_that_no_file_can_hold_are_named(tmp_path, leaf):
    with pytest.raises(DTypeError, match=r"tree.save\(.*\): a safetensors file cannot hold this type\n  w.0 "):
        tree.save(tmp_path / "m", {"w": [leaf]})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", sorted(tree.TYPES.values()))
def test_every_type_of_a_file_comes_back(tmp_path, dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    tree.save(tmp_path / "m", {"x": x, "none": x[:0]})
    found = tree.read(tmp_path / "m")[0]
    assert found["x"].dtype == x.dtype and found["none"].shape == (0, 3)
    np.testing.assert_array_equal(found["x"], x)


def safetensors_file(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def one(dtype, shape, count):
    return safetensors_file({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, count]}}, bytes(count))


STRANGE = {"empty": b"", "short": b"\1\0", "no header": struct.pack("<Q", 0), "endless header": struct.pack("<Q", 2 ** 63), "no json": safetensors_file(b"nothing"),
           "deep": safetensors_file(b"[" * 100_000), "a list": safetensors_file([1]), "not utf8": safetensors_file(b"{\"\xff\": 1}"),
           "negative": one("F64", [-1], 8), "too long": safetensors_file({"a": {"dtype": "F64", "shape": [9], "data_offsets": [0, 72]}}, bytes(16)),
           "of floats": safetensors_file({"a": {"dtype": "F64", "shape": [1.5], "data_offsets": [0, 8]}}, bytes(8)), "metadata": safetensors_file({"__metadata__": {"a": 1}}),
           "BF16": one("BF16", [2], 4), "F8_E4M3": one("F8_E4M3", [2], 2), "F8_E5M2": one("F8_E5M2", [2], 2), "F4": one("F4", [4], 2), "C64": one("C64", [2], 16),
           "unknown": one("F65", [2], 16), "huge": one("F64", [0, 2 ** 60], 0), "rank 101": one("F64", [1] * 100 + [2], 16), "rank 40": one("F64", [1] * 40 + [2], 16)}


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
def test_strange_files_are_refused(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(FileError, match="m: "):
        tree.load(tmp_path / "m", {"a": np.zeros(2)})


@pytest.mark.parametrize("path", [".", "none", "none/m", "a\0b", 3, None])
def test_what_cannot_be_read_is_named(tmp_path, path):
    path = tmp_path / path if isinstance(path, str) else path
    with pytest.raises(FileError, match="the file cannot be read"):
        tree.load(path, {"a": np.zeros(2)})


def test_files_changed_at_random_are_read_or_refused(tmp_path):
    """Bytes that are cut off, changed, inserted and duplicated."""
    path, rng = tmp_path / "m", np.random.default_rng(0)
    tree.save(path, {"a": np.ones(2), "b": [np.zeros((2, 3), "float32")]}, {"step": "7"})
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        data, at = bytearray(whole), int(rng.integers(len(whole)))
        change = rng.integers(4)
        if change == 0:
            del data[at:]
        elif change == 1:
            data[at] = rng.integers(256)
        elif change == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            data[at:at] = data[at // 2:at]
        path.write_bytes(data)
        try:
            arrays, metadata = tree.read(path)
            assert all(isinstance(x, np.ndarray) for x in arrays.values()) and all(isinstance(v, str) for v in metadata.values())
        except FileError:
            refused += 1
    assert refused > 100


def test_what_is_no_file_is_not_replaced(tmp_path):
    """A pipe, a device or a folder; a link is followed to what it names."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    os.symlink(tmp_path / "pipe", tmp_path / "link")
    for name, why in (("pipe", "it is a pipe or a device, and not a file"), ("link", "it is a pipe or a device, and not a file"), ("folder", "it is a folder")):
        with pytest.raises(FileError, match=f"{name}: the file cannot be written .{why}."):
            tree.write_whole(tmp_path / name, b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("name", ["n" * 199, "n" * 200, "n" * 255, "ä" * 127, "😀" * 63])
def test_names_may_be_as_long_as_the_system_allows(tmp_path, name):
    tree.write_whole(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"x"


@given(st.dictionaries(st.text(min_size=1, max_size=12) | st.sampled_from(["__metadata__", "shape", "dtype", "data_offsets"]), st.floats(0, 1), min_size=1, max_size=4))
def test_whatever_is_saved_can_be_loaded(tmp_path_factory, values):
    path, saved = tmp_path_factory.mktemp("f") / "m", {name: np.array([value]) for name, value in values.items()}
    try:
        tree.save(path, saved)
    except ShapeError as error:
        assert "help: use" in str(error) and ("__metadata__" in values or len({*values}) < len(values)) and not path.exists()
        return
    found = tree.load(path, saved)
    assert [*found] == [*saved] and all((found[name] == saved[name]).all() for name in saved)


LAYOUTS = {"transposed": lambda x: x.T, "reversed": lambda x: x[:, ::-1], "every other": lambda x: x[:, ::2], "one row for all": lambda x: np.broadcast_to(x[0], x.shape),
           "another byte order": lambda x: x.astype(">f8"), "read-only": lambda x: x[1:].copy(), "unaligned": lambda x: np.frombuffer(b"0" + x.tobytes(), "float64", offset=1)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_leaf_of_any_layout_is_saved_as_it_reads(tmp_path, name):
    x = LAYOUTS[name](np.arange(12.0).reshape(3, 4))
    before = x.tolist()
    tree.save(tmp_path / "m", {"x": x})
    found = tree.read(tmp_path / "m")[0]["x"]
    assert found.tolist() == before == x.tolist() and found.dtype == np.float64


def test_a_file_fits_where_types_are_equal_and_numbers_keep_their_digits(tmp_path):
    t = {"w": np.ones(2), "rate": 0.1, "step": 2 ** 40 + 1, "on": True}
    tree.save(tmp_path / "m", t)
    found = tree.load(tmp_path / "m", {"w": np.zeros(2), "rate": 0.0, "step": 0, "on": False})
    assert {name: leaf.tolist() for name, leaf in found.items()} == {**t, "w": [1.0, 1.0]}
    for dtype in ("float32", "float16", "int64", "bool"):
        with pytest.raises(ShapeError, match="w does not fit"):
            tree.load(tmp_path / "m", {**t, "w": np.zeros(2, dtype)})


@pytest.mark.parametrize("make", [dict, collections.OrderedDict, functools.partial(collections.defaultdict, float)], ids=["dict", "OrderedDict", "defaultdict"])
def test_equal_leaves_in_another_order_do_not_change_places(tmp_path, make):
    """Of equal shapes, so that nothing but the names tells them apart; and what a dict is made with stays."""
    p, g = make([("a", np.array([1.0])), ("b", np.array([2.0]))]), make([("b", np.array([20.0])), ("a", np.array([10.0]))])
    assert tree.flatten(p)[1] != tree.flatten(g)[1]

    def names(t):
        assert type(t) is type(p) and getattr(t, "default_factory", None) is getattr(p, "default_factory", None)
        return {name: float(leaf[0]) for name, leaf in t.items()}
    y, J = mg.linearize(lambda t: tree.map(lambda x: 3.0 * x, t), p)
    assert names(tree.map(lambda a, b: a + b, p, g)) == {"a": 11.0, "b": 22.0} and names(y) == {"a": 3.0, "b": 6.0}
    assert names(J.push(g)) == names(J.pull(g)) == names(mg.jvp(lambda t: tree.map(lambda x: 3.0 * x, t), (p,), (g,))[1]) == {"a": 30.0, "b": 60.0}
    assert names(mg.vjp(lambda t: tree.map(lambda x: 3.0 * x, t), p)[1](g)[0]) == {"a": 30.0, "b": 60.0}
    for optimizer in (optim.sgd(), optim.sgd(momentum=0.5), optim.rmsprop(), optim.adam()):
        state = optimizer.update(p, optimizer.init(p), p, 0.1)[1]
        for a, b in zip(optimizer.update(g, state, p, 0.1), optimizer.update(make([("a", g["a"]), ("b", g["b"])]), state, p, 0.1)):
            assert tree.same(a, b)
    tree.save(tmp_path / "m", p)
    assert names(tree.load(tmp_path / "m", g)) == {"a": 1.0, "b": 2.0}


def test_same_is_symmetric_and_tells_all_of_these_apart():
    found = [{"a": 1}, {"a": 1, "b": 2}, {"a": 2}, {}, [1], [1, 2], (1,), (1, 2), None, "a", 1, 2, np.ones(2), np.ones(3), np.ones(2, int), np.ones((2, 1)), np.array([1.0, np.nan]),
             functools.partial(mg.sum, axis=0), functools.partial(mg.sum), Setting(np.ones(2)), Setting(np.ones(3)), Activation(1.0), Activation(None), float("nan")]
    for i, a in enumerate(found):
        assert [tree.same(copy.deepcopy(a), b) for b in found] == [tree.same(b, copy.deepcopy(a)) for b in found] == [i == k for k in range(len(found))]


def test_no_file_stays_open(tmp_path):
    """Neither after what was written and read, nor after an error: the next one opened has the number that it had before."""
    def next_one():
        handle = os.open(os.devnull, os.O_RDONLY)
        os.close(handle)
        return handle
    before = next_one()
    (tmp_path / "damaged").write_bytes(b"\x08")
    for _ in range(3):
        tree.save(tmp_path / "m", {"a": np.ones(3)})
        tree.load(tmp_path / "m", {"a": np.zeros(3)})
        for wrong in (lambda: tree.write_whole(tmp_path / "none" / "m", b""), lambda: tree.write_whole(tmp_path, b""), lambda: tree.write_whole(tmp_path / "m", "text"),
                      lambda: tree.load(tmp_path / "damaged", {}), lambda: tree.load(tmp_path, {}), lambda: tree.load(tmp_path / "none", {})):
            with pytest.raises(FileError):
                wrong()
    assert next_one() == before


def f(*args, **params):
    return args, params


def test_partial_functions_are_equal_if_all_that_they_hold_is():
    equal = [functools.partial(f, 1, np.ones(2), k=np.nan), functools.partial(f, 1, np.ones(2), k=np.nan)]
    assert tree.same(*equal)
    for other in (functools.partial(f, 2, np.ones(2), k=np.nan), functools.partial(f, 1, np.zeros(2), k=np.nan), functools.partial(f, 1, k=np.nan),
                  functools.partial(f, 1, np.ones(2), k=1.0), functools.partial(f, 1, np.ones(2)), functools.partial(np.exp, 1, np.ones(2), k=np.nan)):
        assert not tree.same(equal[0], other) and not tree.same(other, equal[0])


@pytest.mark.needs("fork")                                 # a system with permissions of files
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o750, 0o666, 0o711])
def test_all_permissions_of_a_file_that_is_replaced_are_kept(tmp_path, mode):
    path = tmp_path / "x"
    path.write_bytes(b"")
    path.chmod(mode)
    tree.save(path, {"x": np.ones(2)})
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_functions_as_settings_are_named_where_they_differ():
    """Two lambdas of one line are two functions."""
    new = lambda: nn.Sequential((lambda x: x, nn.Linear(np.ones((2, 2)))))      # noqa: E731
    with pytest.raises(ShapeError, match=r"differ in structure at layers.0: the settings are <function .* and <function (.|\n)*help: a function as a setting must be the same one"):
        tree.map(lambda a, b: a, new(), new())


def test_a_file_keeps_numbers_in_any_order_of_bytes_and_no_mask(tmp_path):
    big = {"x": np.arange(3.0).astype(">f4")}
    tree.save(tmp_path / "x", big)
    again = tree.load(tmp_path / "x", big)["x"]
    assert again.tolist() == [0.0, 1.0, 2.0] and again.dtype == np.float32
    with pytest.raises(mg.DTypeError, match="the file would lose the mask"):
        tree.save(tmp_path / "x", {"x": np.ma.array([1.0, 2.0], mask=[0, 1])})
    assert tree.load(tmp_path / "x", big)["x"].tolist() == [0.0, 1.0, 2.0]


def test_settings_that_are_numbers_are_told_as_such():
    with pytest.raises(ShapeError, match=r"the settings are \(0.5,\) and \(0.3,\)\n  help: gradients"):
        tree.map(lambda a, b: a, nn.Dropout(0.5), nn.Dropout(0.3))


def test_a_node_is_that_of_its_class_alone():
    """Not of a subclass, nor of a copy, as dataclasses with slots are; and a class that takes no attributes can be one."""
    def register(cls):
        tree.register(cls, lambda t: (("a",), (t.a,), None), lambda names, children, static: cls(*children))
        return cls

    @register
    @dataclasses.dataclass
    class Plain:
        a: object

    @dataclasses.dataclass
    class Below(Plain):
        pass

    @dataclasses.dataclass(slots=True)
    @register
    class Copied:
        a: object

    class Frozen(type):
        def __setattr__(cls, name, value):
            raise AttributeError("a class that is frozen")

    class Made(metaclass=Frozen):
        def __init__(self, a):
            self.a = a
    assert tree.map(lambda x: 2 * x, Plain(1.0)) == Plain(2.0) and tree.map(lambda x: 2 * x, register(Made)(1.0)).a == 2.0
    for wrong in (Below(1.0), Copied(1.0)):
        with pytest.raises(DTypeError, match="is not registered as a node"):
            tree.flatten(wrong)
    assert tree.map(lambda x: 2 * x, register(Below)(1.0)) == Below(2.0)
