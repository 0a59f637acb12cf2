"""Single images are compared with known labels and checksums, and digits with their indices in the source.

The checksum is the first 16 hexadecimal digits of the sha256 of an image's bytes and its label. Where the published
files are not available, the tests write files of the same format, with pixels that identify each image.
"""
import gzip
import hashlib
import re
import struct

import numpy as np
import pytest

from experiments import data
from experiments.data import Images
from experiments.pages import contradiction
from experiments.paper import figure2

SAMPLE = {0: (0, "f9a36d3a9d266870"), 1: (0, "e05afd10ee8aeede"), 2: (0, "03804dc116f24ca0"), 499: (0, "405496c5666c7b38"),
          500: (1, "090baa24f5ce1811"), 2500: (5, "d196ebf6ee7cab8a"), 2501: (5, "370454bfca45eb1e"), 4998: (9, "f671c249a850b04f"),
          4999: (9, "36ae42871f99d6be")}
MNIST = (
    {0: (5, "d196ebf6ee7cab8a"), 1: (0, "f9a36d3a9d266870"), 2: (4, "e5bf95c603dbf499"), 29999: (1, "08e0dc58d9d6b014"),
     30000: (3, "1afec347b7a3bf6d"), 30001: (7, "759783981886d61d"), 59998: (6, "fec2850a9657baf0"), 59999: (8, "17b02173abdc9f1c")},
    {0: (7, "08542b1ab333ac6b"), 1: (2, "82879aa166d42a64"), 2: (1, "b3e0926e101d665e"), 4999: (0, "d0bc935a1e88a943"),
     5000: (3, "e970cf3c5e946c0d"), 5001: (9, "1e1ea1b3c8c4d4de"), 9998: (5, "bf9931948e906529"), 9999: (6, "c4808069ad47802f")})
CIFAR10 = (
    {0: (6, "b6dd812457e460f0"), 1: (9, "acb9d14de4787d99"), 2: (9, "edfa7840a158b8f3"), 24999: (1, "b6bd9d1a2b61cff0"),
     25000: (6, "1af00b6929979e0f"), 25001: (9, "6efda0f4cce7197c"), 49998: (1, "42ddd87f06b86870"), 49999: (1, "9c45b9f8ed8e3645")},
    {0: (3, "3ca1e50c35427640"), 1: (8, "1c9f2a009da30a22"), 2: (8, "de4c22b4d0e0460a"), 4999: (1, "0072a103fdb62b8a"),
     5000: (7, "b04cad540455d7ca"), 5001: (6, "bd6047822146dd30"), 9998: (1, "7e58cbb0e61fb17e"), 9999: (7, "1a2553be65a53bbf")})


def told(images, k):
    content = np.ascontiguousarray(images.images[k]).tobytes() + str(int(images.labels[k])).encode()
    return int(images.labels[k]), hashlib.sha256(content).hexdigest()[:16]


def assert_known(images, known):
    assert {k: told(images, k) for k in known} == known


def test_images_of_the_sample():
    """The 2,500th image of the sample is the first image of MNIST, a five."""
    assert_known(data.sample(), SAMPLE)
    assert len(data.sample().labels) == max(SAMPLE) + 1


@pytest.mark.needs("mnist")
def test_images_of_mnist():
    for images, known in zip(data.mnist(), MNIST, strict=True):
        assert_known(images, known)
        assert len(images.labels) == max(known) + 1


@pytest.mark.needs("cifar10")
def test_images_of_cifar10():
    for images, known in zip(data.cifar10(), CIFAR10, strict=True):
        assert_known(images, known)
        assert len(images.labels) == max(known) + 1


def idx(array):
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Write files in the format of MNIST to MINIGRAD_DATA: 11 training and 7 test images of 28 x 28 bytes, all different."""
    rng, sets = np.random.default_rng(5), {}
    for name, n in (("train", 11), ("t10k", 7)):
        sets[name] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n).astype(np.uint8)
    (tmp_path / "mnist").mkdir()
    digests = {}
    for name in data.images.MNIST:                                 # train-images-idx3-ubyte.gz ...
        part, kind, _ = name.split("-", 2)
        content = idx(sets[part][kind == "labels"])
        (tmp_path / "mnist" / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(data.images, "MNIST", digests)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    return sets


def test_digits_go_with_their_labels(digits):
    """Bytes 0 to 255 become 0 to 1, every image has its own label, and the test set is the test set."""
    for found, (pixels, labels) in zip(data.mnist(), digits.values(), strict=True):
        assert found.images.shape == (*pixels.shape, 1) and found.images.dtype == np.float32 and found.labels.dtype == np.int64
        np.testing.assert_array_equal(found.images[..., 0], (pixels / 255).astype(np.float32))
        np.testing.assert_array_equal(found.labels, labels)


def test_checksums_of_the_published_files():
    """The checksums are the published ones (MNIST: sha256; CIFAR: sha256 of the archives, md5 of their files)."""
    found = [re.findall(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32})\b", repr(known)) for known in (data.images.MNIST, data.images.SAMPLE, data.images.CIFAR10, data.images.CIFAR100)]
    assert [len(digests) for digests in found] == [4, 1, 7, 3]
    assert hashlib.sha256(" ".join(sum(found, [])).encode()).hexdigest() == (
        "05a7b723aa769b2a2074ce367c7d5ea52760e7006c1ffb20a2870a523fa9bc02")
    assert list(data.images.CIFAR10.files) == [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    assert list(data.images.CIFAR100.files) == ["train", "test"] and (data.images.CIFAR10.labels, data.images.CIFAR100.labels) == (b"labels", b"fine_labels")


# ------------------------------------------------------------------------------------- tasks of digits, place by place

def numbered(n, first, labels):
    """Return images whose pixels are their index in the source plus `first`."""
    images = np.zeros((n, 28, 28, 1), np.float32) + np.arange(first, first + n, dtype=np.float32)[:, None, None, None]
    return Images(images, np.asarray(labels))


def test_the_papers_digits_one_by_one(monkeypatch):
    """The last 55,000 of the training set and the whole test set are used; each image keeps its own label."""
    rng = np.random.default_rng(0)
    train_labels, test_labels = rng.integers(0, 10, 60_000), rng.integers(0, 10, 10_000)
    train_set, test_set = numbered(60_000, 0, train_labels), numbered(10_000, 100_000, test_labels)
    monkeypatch.setattr(figure2.data, "mnist", lambda: (train_set, test_set))
    figure2._source.cache_clear()
    reached, tested = set(), set()
    for key in range(3):
        task = figure2.task("mnist", 0.98, key)
        for part, labels, first in ((task.train, train_labels, 0), (task.clean, train_labels, 0), (task.baseline, train_labels, 0),
                                    (task.test, test_labels, 100_000)):
            numbers = part.images[:, 0, 0, 0].astype(int) - first
            np.testing.assert_array_equal(labels[numbers], np.where(part.labels == 0, 4, 9))
            (tested if first else reached).update(numbers)
        assert not {*task.train.images[:, 0, 0, 0]} & {*task.clean.images[:, 0, 0, 0]}
        assert [len(part) for part in (task.train, task.clean, task.baseline, task.test)] == [4990, 10, 5000, 500]
        assert np.bincount(task.clean.labels).tolist() == [5, 5] and np.bincount(task.test.labels).tolist() == [250, 250]
        assert np.bincount(task.baseline.labels).tolist() == [100, 4900]
    figure2._source.cache_clear()
    nines = np.flatnonzero(train_labels == 9)
    nines = nines[nines >= 5000]
    assert min(reached) >= 5000 and min(reached) < 5100 and max(reached) > 59_900       # no more than 5,000 are left out
    assert len(reached & set(nines)) > 0.99 * len(nines) and min(tested) < 100 and max(tested) > 9_900


@pytest.mark.parametrize("make", [lambda key: figure2.task("sample", 0.9, key), lambda key: contradiction.task("noise", key)])
def test_the_samples_digits_one_by_one(make):
    source, task = data.sample(), make(0)
    for part, labels in ((task.train, task.train.true), (task.clean, task.clean.labels), (task.test, task.test.labels)):
        np.testing.assert_array_equal(part.images, source.images[part.indices])
        np.testing.assert_array_equal(source.labels[part.indices], np.where(labels == 0, 4, 9))
    assert [len(task.clean), len(task.test)] == [10, 200]


# ------------------------------------------------------------------------------------------------- for training

def test_shifts_and_mirrors_of_known_draws():
    """There are five by five offsets; pixels beyond the border are black; [0, 255] becomes [-1, 1]."""
    assert data.images.PAD == 2
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (200, 6, 5, 3), dtype=np.uint8)
    draws = np.random.default_rng(7)
    offsets, mirrored = draws.integers(0, 5, (200, 2)), draws.integers(0, 2, (200, 1))
    expected = []
    for image, (row, column), mirror in zip(images, offsets, mirrored[:, 0]):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))[row:row + 6, column:column + 5]
        expected.append((padded[:, ::-1] if mirror else padded) / 127.5 - 1)
    np.testing.assert_allclose(data.augment(images, np.random.default_rng(7)), expected, atol=1e-6)
    assert {*map(tuple, offsets)} == {(i, j) for i in range(5) for j in range(5)} and 60 < mirrored.sum() < 140
    np.testing.assert_allclose(data.scale(np.array([0, 51, 255], np.uint8)), [-1, -0.6, 1], atol=1e-6)


def test_the_small_network_sees_the_mean_of_two_by_two_pixels():
    images = np.random.default_rng(0).random((3, 28, 28, 1), "float32")
    by_hand = [[[image[2 * i:2 * i + 2, 2 * j:2 * j + 2].mean() for j in range(14)] for i in range(14)] for image in images]
    np.testing.assert_allclose(contradiction.SMALL.prepare(images, None), np.reshape(by_hand, (3, 196)), rtol=1e-5)
