"""Trees and their files."""
import collections
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import FileError, ShapeError, nn, tree
from models import lenet

Point = collections.namedtuple("Point", "x y")
leaves = st.builds(lambda n: np.full(2, float(n)), st.integers(0, 9))
trees = st.recursive(leaves | st.none(), lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) |
                     st.dictionaries(st.sampled_from("abcd"), inner, max_size=3) | st.builds(Point, inner, inner), max_leaves=8)


@given(trees)
def test_flatten_and_unflatten_are_inverse(t):
    found, structure = tree.flatten(t)
    again = tree.unflatten(structure, found)
    assert tree.flatten(again)[1] == structure and type(again) is type(t)
    assert all(a is b for a, b in zip(found, tree.flatten(again)[0]))
    assert len(tree.paths(t)) == len(found) == len(set(tree.paths(t)))


@given(trees)
def test_map_keeps_the_structure(t):
    doubled = tree.map(lambda a, b: a + b, t, t)
    assert tree.flatten(doubled)[1] == tree.flatten(t)[1]
    for a, b in zip(tree.flatten(doubled)[0], tree.flatten(t)[0]):
        np.testing.assert_array_equal(a, 2 * b)


def test_order_of_keys_does_not_matter():
    assert tree.flatten({"b": 1.0, "a": 2.0})[0] == [2.0, 1.0]


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
    with pytest.raises(ShapeError, match="two leaves have the same name, 'a.b'"):
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
