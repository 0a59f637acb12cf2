"""Files that appear whole or not at all, and arrays in the safetensors format."""
import contextlib
import os
import pathlib
import secrets
import stat

import safetensors

from .errors import FileError


def write_whole(path, data):
    """Write bytes beside the path and rename them into place, so that no reader ever sees half a file.

    They are on the disk when this returns, and so is the new name. The file keeps the permissions of the one that it
    replaces; a new one gets those of any new file. Raises FileError, with the path, where it cannot be written.
    """
    beside = None
    try:
        path = pathlib.Path(path)
        named = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
        with open(named, "xb") as file:                     # a new file: no link is followed, nobody else has it
            beside = named
            file.write(data)
            if path.exists() and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        beside = None
        _sync(path.parent)
    except (OSError, ValueError, TypeError) as error:       # ValueError: of a path with a zero byte in it
        raise FileError(f"{path}: the file cannot be written ({getattr(error, 'strerror', None) or error})\n"
                        "  help: give the path of a file, in a folder that is there and may be written") from error
    finally:
        if beside:
            beside.unlink(missing_ok=True)


def _sync(folder):
    """Bring the names in a folder to the disk, where the system knows how: a power cut may take back a rename alone."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):                  # some file systems refuse it
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def read(path):
    """All NumPy arrays of a safetensors file by name, and its metadata. Raises FileError where it is not whole."""
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            return {name: _array(file, name) for name in file.keys()}, file.metadata() or {}      # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})\n"
                        "  help: delete it; what was saved there has to be made again") from error
    except (OSError, ValueError, TypeError) as error:
        reason = "it is a folder" if isinstance(path, (str, os.PathLike)) and os.path.isdir(path) else error
        raise FileError(f"{path}: the file cannot be read ({reason})\n"
                        "  help: give the path of a file that tree.save wrote") from error


TYPES = dict(BOOL="bool", U8="uint8", I8="int8", U16="uint16", I16="int16", U32="uint32", I32="int32", U64="uint64",
             I64="int64", F16="float16", F32="float32", F64="float64")      # of safetensors, and of NumPy


def _array(file, name):
    """One array of an open file. Raises ValueError for those that NumPy cannot hold."""
    part = file.get_slice(name)
    if part.get_dtype() not in TYPES or len(part.get_shape()) > 32:
        raise ValueError(f"NumPy has no array for {name}, of {part.get_dtype()} with {len(part.get_shape())} axes")
    return file.get_tensor(name)
