"""Files that appear whole or not at all, and arrays in the safetensors format."""
import contextlib
import os
import pathlib
import secrets
import stat
from typing import Any

import safetensors
from numpy.typing import NDArray

from .errors import FileError


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write bytes to a new file beside the path and rename it into place: no reader ever sees half a file.

    When this returns, the bytes and the new name are on the disk. The file keeps the permissions of the one that it
    replaces. Raises FileError, with the path, where it cannot be written, or is a pipe, a device or a folder.
    """
    beside = None
    try:
        path = pathlib.Path(path)
        if path.exists() and not path.is_file():
            raise OSError("it is a folder" if path.is_dir() else "it is a pipe or a device, and not a file")
        name = path.name if len(os.fsencode(path.name)) < 200 else path.name[:40]       # 255 bytes in all at most
        temporary = path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(8)}")
        with open(temporary, "xb") as file:             # "x": a new file, so that no link is followed
            beside = temporary
            file.write(data)
            if path.exists() and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        beside = None
        _sync(path.parent)
    except (OSError, ValueError, TypeError) as error:   # ValueError: the path has a zero byte in it
        raise FileError(f"{path}: the file cannot be written ({getattr(error, 'strerror', None) or error})\n"
                        "  help: pass the path of a file in an existing folder with write permission") from error
    finally:
        if beside:
            beside.unlink(missing_ok=True)


def _sync(folder: pathlib.Path) -> None:
    """Write the names in a folder to the disk, where the system can: a power cut may undo a rename alone."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):              # some file systems refuse
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays of a safetensors file by name, and its metadata.

    Raises FileError where the file is damaged, or holds an array that NumPy does not have.
    """
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            return {name: _array(file, name) for name in file.keys()}, file.metadata() or {}      # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})\n"
                        "  help: delete it and save it again") from error
    except (OSError, ValueError, TypeError) as error:
        reason = "it is a folder" if isinstance(path, (str, os.PathLike)) and os.path.isdir(path) else error
        raise FileError(f"{path}: the file cannot be read ({reason})\n"
                        "  help: pass the path of a file that tree.save wrote") from error


TYPES = dict(BOOL="bool", U8="uint8", I8="int8", U16="uint16", I16="int16", U32="uint32", I32="int32", U64="uint64",
             I64="int64", F16="float16", F32="float32", F64="float64")      # name in safetensors = name in NumPy


def _array(file: Any, name: str) -> NDArray[Any]:
    """Return one array of an open file. Raises ValueError for those that NumPy cannot hold."""
    part = file.get_slice(name)
    if part.get_dtype() not in TYPES or len(part.get_shape()) > 32:
        raise ValueError(f"NumPy has no array for {name}, of {part.get_dtype()} with {len(part.get_shape())} axes")
    array: NDArray[Any] = file.get_tensor(name)
    return array
