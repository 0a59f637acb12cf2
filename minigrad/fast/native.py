"""The kernels in C for NumPy arrays: compiled once on each machine, then loaded by ctypes.

    MINIGRAD_NATIVE=0        leave them out
    CC=clang                 the compiler; else cc, gcc or clang, or zig's (pip install 'minigrad[native]')
    MINIGRAD_CFLAGS=...      flags in place of -march=native

The sources are in kernels/: see its README.md. The library for one type, float32 or float64, is compiled when it is
first needed, which takes some seconds, and is kept in the user's cache folder. Its name holds a hash of all that it was
made from (source, compiler, flags, processor) and one of its content: so a library that is out of date is never loaded,
nor one that is damaged; and none that somebody else could have written. It appears whole or not at all, so processes
that compile at the same time do not disturb one another. Without a compiler, a line in the log says so, and the forms in
NumPy are used.
"""
from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import logging
import os
import pathlib
import platform
import secrets
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from typing import Any

import numpy

from ..typing import Array

SOURCES = pathlib.Path(__file__).with_name("kernels")
FLAGS = "-O3 -std=gnu11 -ffp-contract=fast -fno-math-errno -fvisibility=hidden -shared -fPIC".split()
TYPES = {"f": "float", "d": "double"}                       # type characters of NumPy -> types of C
SIGNATURES = {                                              # p: an address, i: an integer, r: a real number
    "convolve": "ppppip", "convolve_kernel": "ppppip", "pack": "ppiiiiiip",
    "winograd": "ppppiip", "winograd_kernel": "ppppiip", "transform_kernel": "ppiiiip", "transform_gradient": "ppiiii",
    "column_sums": "piip", "moments": "piipp", "normalize": "piiip", "product_sums": "ppiiip", "slope": "ppiipppip",
    "max_pool": "pppip", "take": "pppiii", "put": "pppiii", "mean_pool": "ppip", "mean_pool_input": "ppip",
    "sgd": "pppppirrri", "adam": "pppppppirrrrrrr", "vector": "", "panel": "", "rows_of_tile": "",
}
CTYPES = {"p": ctypes.c_void_p, "i": ctypes.c_ssize_t, "r": ctypes.c_double}

log = logging.getLogger("minigrad")
_lock = threading.RLock()


def wanted() -> bool:
    """Return whether the kernels may be used: unless MINIGRAD_NATIVE=0."""
    return os.environ.get("MINIGRAD_NATIVE", "1") != "0"


def kernels(*arrays: Any) -> Any:
    """Return the kernels for arrays of NumPy, all of one type that there are kernels for; None where there are none."""
    dtype = getattr(arrays[0], "dtype", None)
    for x in arrays:
        if type(x) is not numpy.ndarray or x.dtype is not dtype and x.dtype != dtype:
            return None
    return library(dtype.char) if dtype.char in TYPES and dtype.isnative else None


def address(x: Array) -> int:
    """Return where the elements of an array begin. It must be C-contiguous: see `contiguous`."""
    return int(x.ctypes.data)


def contiguous(x: Array) -> Array:
    """Return x if it is aligned and in C order, else a copy that is."""
    return numpy.require(x, requirements="CA")


@functools.cache
def _library(code: str) -> tuple[Any, str]:
    """Return the loaded library for a type of NumPy, "f" or "d", and where it is; or None, and the reason."""
    compiler = find_compiler()
    if not compiler:
        reason = "no C compiler was found"
    else:
        try:
            path, temporary = _compiled(compiler, TYPES[code])
            kernels = ctypes.CDLL(str(path))
            for name, letters in SIGNATURES.items():
                getattr(kernels, name).argtypes = [CTYPES[letter] for letter in letters]
            if temporary:
                path.unlink(missing_ok=True)                # it stays loaded
            return kernels, f"{compiler[0]}, vectors of {kernels.vector()}, {path}"
        except (OSError, subprocess.SubprocessError, AttributeError) as error:
            reason = f"{' '.join(compiler)} failed ({str(getattr(error, 'stderr', '') or error).strip()[:500]})"
    log.warning("minigrad: no kernels in C, so NumPy computes more slowly: %s. Install gcc or clang, or "
                "pip install 'minigrad[native]'; MINIGRAD_NATIVE=0 silences this line", reason)
    return None, reason


def library(code: str) -> Any:
    """Return the kernels for a type of NumPy, "f" or "d", compiled if need be; None where they cannot be had."""
    with _lock:                                             # one thread compiles, and the others wait for it
        return _library(code)[0]


def status(code: str = "f") -> str:
    """Return in words which compiler made the kernels in use and where they are, or why there are none."""
    if not wanted():
        return "none: MINIGRAD_NATIVE=0"
    with _lock:
        kernels, words = _library(code)
    return words if kernels else f"none: {words}"


def find_compiler() -> list[str]:
    """Return the command of a C compiler, or an empty list: $CC, cc, gcc, clang, or that of the package ziglang."""
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and (program := shutil.which(words[0])):
            return [program, *words[1:]]
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else []


def _compiled(compiler: list[str], type_name: str) -> tuple[pathlib.Path, bool]:
    """Return the path of the library for a type, and whether it is a temporary file, for want of a cache folder."""
    cflags = shlex.split(os.environ.get("MINIGRAD_CFLAGS", "-march=native"))
    command = [*compiler, *FLAGS, *cflags, f"-DT={type_name}"]
    key = _hash(command, *_identity(compiler), processor(), *(
        file.read_bytes() for file in sorted(SOURCES.iterdir()) if file.suffix in (".c", ".h")))
    folder = cache_folder()
    for path in folder.glob(f"kernels-{key}-*.so") if folder else ():
        if _is_own(path) and path.name == _name(key, path.read_bytes()):
            return path, False
    log.warning("minigrad: compiling the kernels in C for %s, once on this machine: a few seconds", type_name)
    with tempfile.TemporaryDirectory(prefix="minigrad-", ignore_cleanup_errors=True) as work:
        built = pathlib.Path(work, "kernels.so")
        subprocess.run([*command, "-o", built, SOURCES / "kernels.c"], check=True, capture_output=True, text=True,
                       timeout=300)
        content = built.read_bytes()
    target = (folder or pathlib.Path(tempfile.gettempdir())) / _name(key, content)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}")     # a name that nobody can guess
    with open(beside, "xb") as file:
        os.chmod(beside, 0o700)
        file.write(content)
    if folder is None:
        return beside, True
    os.replace(beside, target)
    return target, False


def cache_folder() -> pathlib.Path | None:
    """Return the folder of compiled kernels, of this user alone, made if need be; None where there can be none."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or ("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    folder = pathlib.Path(base).expanduser() / "minigrad" / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_own(folder) and os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):                         # RuntimeError: there is no home
        return None


def _is_own(path: pathlib.Path) -> bool:
    """Return whether nobody but this user can have written a file or to a folder."""
    about = path.lstat()
    return not hasattr(os, "getuid") or (
        about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and not stat.S_ISLNK(about.st_mode))


def _name(key: str, content: bytes) -> str:
    return f"kernels-{key}-{_hash(content)}.so"


def _hash(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def _identity(compiler: list[str]) -> Iterable[object]:
    """Return what changes when the compiler is replaced: without running it, which would take longer than all else."""
    about = os.stat(os.path.realpath(compiler[0]))
    spec = importlib.util.find_spec("ziglang") if "ziglang" in compiler else None
    return about.st_size, about.st_mtime_ns, os.stat(spec.origin).st_mtime_ns if spec and spec.origin else None


def processor() -> str:
    """Return which instructions the processor has, as far as the system tells."""
    with_flags = pathlib.Path("/proc/cpuinfo")
    lines = with_flags.read_text().splitlines() if with_flags.exists() else []
    known = {line for line in lines if line.split("\t")[0].strip() in ("model name", "flags", "Features", "CPU part")}
    return repr((platform.machine(), platform.processor(), sorted(known)))
