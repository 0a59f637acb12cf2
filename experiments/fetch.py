"""Files with a checksum, read without trust; downloads that end, bounded in time and size."""
import hashlib
import io
import threading
import time

from minigrad import FileError


def kind_of(digest):
    """The name of the function that a checksum comes from, by its length."""
    return {32: "md5", 64: "sha256"}[len(digest)]


def checked(path, digest, remedy):
    """The bytes of a file, or FileError: missing, or not the file with this checksum (hexadecimal sha256 or md5).

    It is read a second time if the checksum is right, so that no other file is ever held in memory.
    """
    kind = kind_of(digest)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OSError(0, "it is no file")               # a device or a pipe may have no end
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


PATIENCE, LEAST, LONGEST = 30.0, 1 << 16, 3600.0            # seconds, and bytes in them; seconds of a whole download


class _Bounded(io.FileIO):
    """A file that takes so many bytes, and none any more when it is closed."""

    def __init__(self, path, most):
        super().__init__(path, "wb")
        self.most, self.count = most, 0

    def write(self, data):
        self.count += len(data)
        if self.count > self.most:
            raise OSError(f"it sends more than {self.most} bytes")
        return super().write(data)


def fetch(url, path, most):
    """Download a file to a path. Raises OSError where it is larger than `most`, or comes too slowly, or not at all.

    The mirror is listened to by a thread that is left alone when patience is at its end: there are many ways to wait.
    """
    import requests  # which pooch brings
    from tqdm import tqdm
    file, done, errors = _Bounded(path, most), threading.Event(), []

    def listen():
        try:
            with requests.get(url, stream=True, timeout=PATIENCE) as response:
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
        threading.Thread(target=listen, daemon=True).start()
        begun, before = time.monotonic(), 0
        while not done.wait(PATIENCE):
            if file.count - before < LEAST or time.monotonic() - begun > LONGEST:
                raise OSError(f"too slow: {file.count} bytes in {time.monotonic() - begun:.0f} s")
            before = file.count
    if errors:
        raise errors[0]
