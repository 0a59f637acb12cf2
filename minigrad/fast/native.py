"""The kernels in C for NumPy arrays: compiled once on each machine, then loaded by ctypes.

    MINIGRAD_NATIVE=0        leave them out
    CC=clang                 the compiler; else cc, gcc or clang, or zig's (pip install 'minigrad[native]')
    MINIGRAD_CFLAGS=...      flags in place of -march=native (on ARM -mcpu=native)

The sources are in kernels/, and explained in its README.md. The library for one type, float32 or float64, is compiled
when it is first needed, which takes some seconds, and kept in the user's cache folder. Its name holds a hash of all
that it was made from (source, compiler, flags, processor) and one of its content: so no library is loaded that is out
of date or damaged, and none that another user could have written. It appears whole or not at all, so processes that
compile at the same time do not disturb one another. Without a compiler, a line in the log says so, and NumPy does the
work.
"""
from __future__ import annotations

import contextlib
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
from typing import Any

import numpy

from .. import backend
from ..typing import Array

SOURCES = pathlib.Path(__file__).with_name("kernels")
FLAGS = "-O3 -std=gnu11 -ffp-contract=fast -fno-math-errno -fvisibility=hidden -shared -fPIC".split()
TYPES = {"f": "float", "d": "double"}                       # type characters of NumPy -> types of C
SIGNATURES = {                                              # p: an address, i: an integer, r: a real number
    "convolve": "ppppip", "convolve_kernel": "ppppip", "pack": "ppiiiiiip",
    "winograd": "ppppiip", "winograd_kernel": "ppppiip", "transform_kernel": "ppiiiip", "transform_gradient": "ppiiii",
    "column_sums": "piip", "moments": "piipp", "normalize": "piiip", "product_sums": "ppiiip", "slope": "ppiipppip",
    "max_pool": "pppip", "take": "pppiii", "put": "pppiii", "mean_pool": "ppip", "mean_pool_input": "ppip",
    "sgd": "pppppirrri", "adam": "pppppppirrrrrrr", "vector": "", "panel": "",
}
LOAD = """import ctypes, sys
try: ctypes.CDLL(sys.argv[1])
except OSError as error: sys.exit(str(error))
"""         # tried in a process of its own, since half a library ends the one that loads it
CTYPES = {"p": ctypes.c_void_p, "i": ctypes.c_ssize_t, "r": ctypes.c_double}

log = logging.getLogger("minigrad")
_lock = threading.RLock()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()                               # a thread that held the other one is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def wanted() -> bool:
    """Return whether the kernels may be used: unless MINIGRAD_NATIVE=0."""
    return backend.flag("MINIGRAD_NATIVE", True)


def kernels(*arrays: Any) -> Any:
    """Return the library if all arrays are NumPy's and of one type, float32 or float64; else None."""
    dtype: Any = getattr(arrays[0], "dtype", None)
    for x in arrays:
        if type(x) is not numpy.ndarray or x.dtype is not dtype and x.dtype != dtype:
            return None
    return library(dtype.char) if dtype.char in TYPES and dtype.isnative else None


def address(x: Array) -> int:
    """Return the address of the first element of a C-contiguous array: see `contiguous`."""
    return int(x.ctypes.data)


def contiguous(x: Array, dtype: Any = None) -> Array:
    """Return x, or a copy, aligned, in C order and of this type, if one is given.

    NumPy lets an axis of length 1 have any stride. Here all are those of the shape.
    """
    return numpy.require(x, dtype, ["C", "A"]).reshape(-1).reshape(x.shape)


@functools.cache
def _library(code: str) -> tuple[Any, str]:
    """Return the loaded library for a type of NumPy, "f" or "d", and what it is; or None, and why there is none."""
    compiler = find_compiler()
    reason = "no C compiler was found"
    if compiler:
        try:
            path = _find(compiler, code) or _compile(compiler, code)
            loaded = ctypes.CDLL(str(path))
            for name, letters in SIGNATURES.items():
                getattr(loaded, name).argtypes = [CTYPES[letter] for letter in letters]
            if path.name.startswith("."):                   # a temporary file: it stays loaded without its name
                path.unlink(missing_ok=True)
            return loaded, f"{' '.join(compiler)}, {loaded.vector()} numbers in a vector, {path}"
        except (OSError, subprocess.SubprocessError, AttributeError) as error:
            text = str(getattr(error, "stderr", "") or error)
            reason = f"{' '.join(compiler)} failed: {' '.join(text.split())[:500]}"
    _warn_of(reason)
    return None, reason


@functools.cache
def _warn_of(reason: str) -> None:
    """Log why there are no kernels, once for both types."""
    log.warning("minigrad: no kernels in C, so NumPy computes more slowly (%s). Install gcc or clang, or "
                "pip install 'minigrad[native]'; MINIGRAD_NATIVE=0 silences this line", reason)


def library(code: str) -> Any:
    """Return the kernels for a type of NumPy, "f" or "d", compiled if need be; None where they cannot be had."""
    with _lock:                                             # one thread compiles, and the others wait for it
        return _library(code)[0]


def status(code: str = "f") -> str:
    """Return in words which compiler made the kernels in use and where they are, or why there are none."""
    if not wanted():
        return "none: MINIGRAD_NATIVE=0"
    with _lock:
        loaded, words = _library(code)
    return words if loaded else f"none: {words}"


# -------------------------------------------------------------------------------------------- compiler and cache

def find_compiler() -> list[str]:
    """Return the command of a C compiler: $CC, cc, gcc, clang, or that of the package ziglang; [] if there is none."""
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and (program := shutil.which(words[0])):
            return [program, *words[1:]]
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else []


def _command(compiler: list[str], code: str) -> list[str]:
    native = "-mcpu=native" if platform.machine().lower() in ("arm64", "aarch64") else "-march=native"
    cflags = shlex.split(os.environ.get("MINIGRAD_CFLAGS", native))
    return [*compiler, *FLAGS, *cflags, f"-DT={TYPES[code]}"]


def _find(compiler: list[str], code: str) -> pathlib.Path | None:
    """Return the library in the cache folder, if it is there and what its name says."""
    key, folder = _key(compiler, code), cache_folder()
    for path in folder.glob(f"kernels-{key}-*.so") if folder else ():
        if _is_own(path) and path.name == _name(key, path.read_bytes()):
            return path
    return None


def _compile(compiler: list[str], code: str) -> pathlib.Path:
    """Compile the library and return its path: in the cache folder, or a temporary file where that cannot be written.

    Raises OSError or SubprocessError.
    """
    log.warning("minigrad: compiling the kernels in C for %s, once on this machine: some seconds", TYPES[code])
    command, key = _command(compiler, code), _key(compiler, code)
    with tempfile.TemporaryDirectory(prefix="minigrad-", ignore_cleanup_errors=True) as work:
        built = pathlib.Path(work, "kernels.so")
        subprocess.run([*command, "-o", built, SOURCES / "kernels.c"], check=True, capture_output=True, text=True,
                       timeout=300)
        subprocess.run([sys.executable, "-c", LOAD, built], check=True, capture_output=True, text=True)
        content = built.read_bytes()
    folder = cache_folder()
    if folder and os.access(folder, os.W_OK):
        with contextlib.suppress(OSError):                  # a full disk, say
            written = _write(folder, content)
            try:
                os.replace(written, path := folder / _name(key, content))
                return path
            finally:
                written.unlink(missing_ok=True)
    return _write(pathlib.Path(tempfile.gettempdir()), content)


def _write(folder: pathlib.Path, content: bytes) -> pathlib.Path:
    """Write a new file, under a name that nobody can guess, for this user alone. Return its path."""
    path = folder / f".kernels-{secrets.token_hex(16)}.so"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags, 0o700), "wb") as file:
            file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def cache_folder() -> pathlib.Path | None:
    """Return the folder of compiled kernels, made if need be; None where it is not, or not only this user's."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or ("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    try:
        folder = pathlib.Path(base).expanduser() / "minigrad" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_own(folder) else None
    except (OSError, RuntimeError):                         # RuntimeError: there is no home
        return None


def _is_own(path: pathlib.Path) -> bool:
    """Return whether a file or folder, which is no link, can have been written by this user alone."""
    about = path.lstat()
    return not hasattr(os, "getuid") or (
        about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and not stat.S_ISLNK(about.st_mode))


def _key(compiler: list[str], code: str) -> str:
    """Return a hash of all that a library is made from. The compiler is not run for that, which would take longer."""
    about, zig = os.stat(os.path.realpath(compiler[0])), importlib.util.find_spec("ziglang")
    version = about.st_size, about.st_mtime_ns, zig and zig.origin and os.stat(zig.origin).st_mtime_ns
    sources = sorted(file for file in SOURCES.iterdir() if file.suffix in (".c", ".h"))
    return _hash(repr((_command(compiler, code), version, processor())).encode(), *(f.read_bytes() for f in sources))


def _name(key: str, content: bytes) -> str:
    return f"kernels-{key}-{_hash(content)}.so"


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def processor() -> str:
    """Return which processor this is and which instructions it has, as far as the system tells."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    known = {line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features", "CPU part")}
    return repr((platform.machine(), platform.processor(), sorted(known)))
