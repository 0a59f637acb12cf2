"""Files verified by checksum, and downloads bounded in time and size."""
import hashlib
import io
import threading
import time

from minigrad import FileError


def hash_name(digest):
    """Return the name of the hash function of a hexadecimal checksum, by its length."""
    return {32: "md5", 64: "sha256"}[len(digest)]


def read_checked(path, digest, remedy):
    """Return the bytes of a file with this checksum, a hexadecimal sha256 or md5.

    The file is read a second time once the checksum is right, so that a wrong file, however large, is never in memory.
    Raises FileError, with the remedy as its help, for a file that cannot be read or has another checksum.
    """
    kind = hash_name(digest)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OSError(0, "not a regular file")          # reading a device or a pipe may never end
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
            size = file.tell()
            file.seek(0)
            data = file.read(size) if found == digest else b""
    except OSError as error:
        raise FileError(f"{path}: the file cannot be read ({error.strerror})\n  expected {kind} {digest}\n"
                        f"  help: {remedy}") from None
    if found != digest:
        raise FileError(f"{path}: the file is truncated or altered ({size} bytes)\n"
                        f"  expected {kind} {digest}\n  found    {kind} {found}\n  help: {remedy}")
    return data


TIMEOUT = 30.0                                              # seconds
SLOWEST = 1 << 16                                           # bytes in TIMEOUT, at least
LONGEST = 3600.0                                            # seconds for a whole download, at most


class _BoundedFile(io.FileIO):
    """A new file to which at most a given number of bytes can be written."""

    def __init__(self, path, most):
        super().__init__(path, "wb")
        self.most, self.count = most, 0

    def write(self, data):
        self.count += len(data)
        if self.count > self.most:
            raise OSError(f"the mirror sends more than {self.most} bytes")
        return super().write(data)


def fetch(url, path, most):
    """Download a file to a path; raise OSError if it is larger than `most` bytes, too slow, or not available.

    A thread reads from the mirror, and is abandoned after a timeout: a mirror can be slow in ways for which requests
    has no timeout.
    """
    import requests  # a dependency of pooch
    from tqdm import tqdm
    file, done, errors = _BoundedFile(path, most), threading.Event(), []

    def download():
        try:
            with requests.get(url, stream=True, timeout=TIMEOUT) as response:
                response.raise_for_status()
                size = int(response.headers.get("content-length", 0))
                with tqdm(total=size, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
                    for chunk in response.iter_content(1 << 13):
                        file.write(chunk)
                        bar.update(len(chunk))
        except BaseException as error:
            errors.append(error)
        done.set()
    with file:
        threading.Thread(target=download, daemon=True).start()
        start, before = time.monotonic(), 0
        while not done.wait(TIMEOUT):
            if file.count - before < SLOWEST or time.monotonic() - start > LONGEST:
                raise OSError(f"too slow: {file.count} bytes in {time.monotonic() - start:.0f} s")
            before = file.count
    if errors:
        raise errors[0]
