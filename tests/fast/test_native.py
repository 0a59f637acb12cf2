"""The loader of the kernels in C: who compiles when, what is kept and what is not loaded; and builds for other processors.

In most tests the compiler is a script that copies a library which was compiled once (`compiler`).
"""
import ctypes
import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from minigrad.fast import native, native_batch_norm, native_convolution, native_pooling

ROOT = pathlib.Path(__file__).parents[2]
CALLED = """#!/bin/sh
echo "$@" >> {log}
while [ "$1" != -o ]; do shift; done
"""
COPIES = "cp {built} $2"


def run(program, *arguments, **environment):
    """Run a Python program; the environment variables given as None are unset."""
    env = {**os.environ, "MINIGRAD_BACKEND": "numpy", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *arguments, "-c", program], env={key: value for key, value in env.items() if value is not None},
                          capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A library for float32: a copy of that in use, or one made here if that was a temporary file."""
    folder = tmp_path_factory.mktemp("built")
    in_use = pathlib.Path(native.library("f")._name)
    if in_use.exists():
        return pathlib.Path(shutil.copy(in_use, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        return native._compile(native.find_compiler(), "f")


class Compiler:
    """A stand-in for a compiler, with an empty cache folder of its own."""

    def __init__(self, folder, built, monkeypatch):
        self.log, self.script, self.built = folder / "log", folder / "compiler", built
        self.folder = folder / "cache" / "minigrad" / "kernels"
        self.does(COPIES)
        self.environment = {"XDG_CACHE_HOME": str(folder / "cache"), "CC": str(self.script), "MINIGRAD_NATIVE": "1"}
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def does(self, what):
        """Replace what it does, in the shell."""
        about = self.script.stat() if self.script.exists() else None
        self.script.write_text((CALLED + what).format(log=self.log, built=self.built).ljust(400))
        self.script.chmod(0o755)
        if about:                                           # by size and time, it is still the same one
            os.utime(self.script, ns=(about.st_atime_ns, about.st_mtime_ns))

    def runs(self):
        """Return how often it has been called."""
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def load(self):
        """Return the kernels, as a new process would load them; None without."""
        return native._library.__wrapped__("f")[0]

    def files(self):
        """Return what is in the cache folder."""
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []


@pytest.fixture
def compiler(tmp_path, built, monkeypatch):
    return Compiler(tmp_path, built, monkeypatch)


LOADS = "from minigrad.fast import native; print(native.library('f').vector())"


@pytest.mark.needs("cc")
def test_a_library_is_compiled_once_and_then_found(compiler):
    assert compiler.load().vector() > 1 and compiler.runs() == 1
    assert compiler.load().vector() > 1 and compiler.runs() == 1
    assert int(run(LOADS).stdout) > 1 and compiler.runs() == 1
    assert len(compiler.files()) == 1 and compiler.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.needs("cc")
def test_two_processes_that_compile_at_once(compiler):
    compiler.does("sleep 0.5;" + COPIES)
    both = [subprocess.Popen([sys.executable, "-c", LOADS], stdout=subprocess.PIPE, cwd=ROOT, text=True) for _ in range(2)]
    assert all(int(process.communicate(timeout=60)[0]) > 1 for process in both)
    assert compiler.runs() == 2 and len(compiler.files()) == 1


FAILURES = {
    "fails": "echo an error >&2; exit 1", "is killed in the middle": "head -c 20000 {built} > $2; kill -9 $$",
    "writes half a file": "head -c 20000 {built} > $2", "writes nothing": "true", "writes no library": "echo none > $2",
    "fails after all": COPIES + "; exit 1"}


@pytest.mark.needs("cc")
@pytest.mark.parametrize("what", FAILURES)
def test_a_compiler_that_fails_leaves_nothing_behind(what, compiler, caplog, monkeypatch):
    """NumPy's forms are used; the next process, with a compiler that works, has kernels."""
    compiler.does(FAILURES[what])
    monkeypatch.setattr(native, "_warn_of", native._warn_of.__wrapped__)
    assert compiler.load() is None
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "minigrad: compiling the kernels in C for float, once on this machine: some seconds"
    assert second.startswith(f"minigrad: no kernels in C, so NumPy computes more slowly ({compiler.script} failed: ") and "\n" not in second
    assert second.endswith("Install gcc or clang, or pip install 'minigrad[native]'; MINIGRAD_NATIVE=0 silences this line")
    assert not compiler.files()
    compiler.does(COPIES)
    assert compiler.load().vector() > 1 and len(compiler.files()) == 1


def damage(change):
    """Write a changed file in place of a library, which this process has loaded and must keep as it is."""
    def damaged(path):
        content = bytearray(path.read_bytes())
        path.unlink()
        path.write_bytes(change(content))
        path.chmod(0o700)
    return damaged


def one_bit(content):
    content[len(content) // 2] ^= 1
    return content


def link(path):
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


CHANGES = {"truncated": damage(lambda content: content[:20000]), "empty": damage(lambda content: b""), "one bit": damage(one_bit),
           "writable by others": lambda path: path.chmod(0o722), "writable by a group": lambda path: path.chmod(0o770), "a link": link}


@pytest.mark.needs("cc")
@pytest.mark.parametrize("change", CHANGES)
def test_a_library_that_is_damaged_or_planted_is_not_loaded(change, compiler):
    compiler.load()
    (path,) = compiler.files()
    CHANGES[change](path)
    assert compiler.load().vector() > 1 and compiler.runs() == 2
    assert path.read_bytes() == compiler.built.read_bytes() and not path.is_symlink() and path.stat().st_mode & 0o777 == 0o700
    assert compiler.load() and compiler.runs() == 2


@pytest.mark.needs("cc")
@pytest.mark.parametrize("why", ["a file is there", "it belongs to somebody else", "others may write to it", "the disk is full", "no home"])
def test_without_a_cache_folder_the_library_is_a_temporary_file(why, compiler, tmp_path, monkeypatch):
    """It is gone once it is loaded."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    if why == "a file is there":
        (tmp_path / "cache").write_text("")
    elif why == "others may write to it":
        compiler.folder.mkdir(parents=True)
        compiler.folder.chmod(0o777)
    elif why == "it belongs to somebody else":
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    elif why == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(pathlib.Path, "expanduser", lambda path: 1 / 0 if str(path)[0] != "~" else refuse(RuntimeError))
    else:
        monkeypatch.setattr(os, "replace", lambda *args: refuse(OSError))
    for count in (1, 2):
        assert compiler.load().vector() > 1 and compiler.runs() == count and not list(temporary.iterdir())
    assert not compiler.files()


@pytest.mark.parametrize("platform, environment, expected", [
    ("linux", {"XDG_CACHE_HOME": "{}/here"}, "here"), ("linux", {}, ".cache"), ("darwin", {}, "Library/Caches"),
    ("darwin", {"XDG_CACHE_HOME": "{}/here"}, "here"), ("win32", {"LOCALAPPDATA": "{}/here"}, "here"), ("win32", {}, "AppData/Local")])
def test_where_the_cache_folder_is(platform, environment, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert native.cache_folder() == tmp_path / expected / "minigrad" / "kernels"
    assert native.cache_folder().is_dir() and list(tmp_path.iterdir()) == [tmp_path / pathlib.Path(expected).parts[0]]


def test_the_environment_switches_the_kernels_off(monkeypatch):
    for value, wanted in ((None, True), ("1", True), ("0", False)):
        monkeypatch.setenv("MINIGRAD_NATIVE", value) if value else monkeypatch.delenv("MINIGRAD_NATIVE", raising=False)
        assert native.wanted() is wanted
    assert native.status() == "none: MINIGRAD_NATIVE=0"


def test_arrays_become_contiguous_and_aligned():
    x = np.arange(12, dtype="float32").reshape(3, 4)
    assert native.address(native.contiguous(x)) == native.address(x) == x.ctypes.data
    for other in (x.T, np.frombuffer(b"-" + x.tobytes(), "u1")[1:].view("float32").reshape(3, 4), x[:, ::2]):
        y = native.contiguous(other)
        assert y.flags.c_contiguous and y.flags.aligned
        np.testing.assert_array_equal(y, other)
    assert native.contiguous(x, "float64").dtype == "float64"


def refuse(error):
    raise error("refused")


def changed_source(folder, monkeypatch):
    shutil.copytree(native.SOURCES, folder / "kernels")
    with open(folder / "kernels" / "kernels.h", "a") as file:
        file.write("// one more line\n")
    monkeypatch.setattr(native, "SOURCES", folder / "kernels")


@pytest.mark.needs("cc")
def test_what_a_library_is_made_from_gives_it_another_name(compiler, tmp_path, monkeypatch):
    keys = {native._key([str(compiler.script)], code) for code in ("f", "d", "f")}
    assert len(keys) == 2
    for change in (lambda: monkeypatch.setenv("MINIGRAD_CFLAGS", "-march=x86-64"),
                   lambda: monkeypatch.setattr(native, "processor", lambda: "another one"),
                   lambda: os.utime(compiler.script, (1, 1)),
                   lambda: changed_source(tmp_path, monkeypatch)):
        change()
        keys.add(native._key([str(compiler.script)], "f"))
    keys.add(native._key([str(compiler.script), "-g"], "f"))
    assert len(keys) == 7


IMPORTS = """
import numpy as np, minigrad as mg
from minigrad import nn, optim, reweight
x = mg.exp(np.ones((9, 9), "float32")) + 1
"""
COMPUTES = """
import numpy as np, minigrad as mg
from minigrad import nn
from minigrad.fast import native_convolution
rng = np.random.default_rng(0)
def results():
    for dtype in ("float32", "float64"):
        x, k = rng.normal(size=(8, 9, 9, 16)).astype(dtype), rng.normal(size=(3, 3, 16, 32)).astype(dtype)
        y, pull = mg.vjp(lambda x, k: mg.max_pool2d(mg.conv2d(x, k, 1, 1), 2), x, k)
        yield from (y, *pull(y), mg.avg_pool2d(x, 2))
found = list(results())
mg.use("numpy", fast=False)
rng = np.random.default_rng(0)
for a, b in zip(found, results(), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * abs(b).max())
mg.use("numpy")
"""
ASKS = """
print(native_convolution.conv2d(np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1)), (1, 1), ((0, 0), (0, 0))))
"""


@pytest.mark.needs("cc")
def test_no_compiler_runs_where_none_is_wanted(compiler):
    """Not when minigrad is imported, nor with MINIGRAD_NATIVE=0, when all is computed without kernels."""
    for program, environment in ((IMPORTS, {}), (COMPUTES, {"MINIGRAD_NATIVE": "0"})):
        result = run(program, **environment)
        assert result.returncode == 0 and result.stderr == "" and compiler.runs() == 0, result.stderr


def test_without_a_compiler_numpy_computes_and_one_line_says_so(tmp_path):
    result = run("import sys; sys.modules['ziglang'] = None\n" + COMPUTES + ASKS, PATH=str(tmp_path), CC=None, MINIGRAD_NATIVE="1",
                 XDG_CACHE_HOME=str(tmp_path))
    assert result.returncode == 0 and result.stdout == "NotImplemented\n", result.stderr
    (line,) = result.stderr.splitlines()
    assert line == ("minigrad: no kernels in C, so NumPy computes more slowly (no C compiler was found). Install gcc or clang, or "
                    "pip install 'minigrad[native]'; MINIGRAD_NATIVE=0 silences this line")


@pytest.mark.parametrize("present, found", [
    (("cc", "gcc", "clang"), "cc"), (("gcc", "clang"), "gcc"), (("clang",), "clang"), (("mine", "cc"), "mine -x"), ((), "")])
def test_which_compiler_is_found(present, found, tmp_path, monkeypatch):
    for name in present:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "mine -x")                     # not there, but in one case
    monkeypatch.setitem(sys.modules, "ziglang", None)
    assert native.find_compiler() == ([str(tmp_path / found.split()[0]), *found.split()[1:]] if found else [])


def test_the_compiler_of_ziglang_is_found_last(tmp_path, monkeypatch):
    (tmp_path / "ziglang.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ziglang", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert native.find_compiler() == [sys.executable, "-m", "ziglang", "cc"]


@pytest.mark.needs("cc")
def test_kernels_are_for_plain_arrays_of_one_type_alone():
    x, y = np.ones(3, "float32"), np.ones(3)
    assert native.kernels(x, x) is native.library("f") and native.kernels(y) is native.library("d")
    for arrays in ((x, y), (x, 1.0), (None,), (x.astype("float16"),), (x.astype(">f4"),), (x.view(np.recarray),), (x.astype("complex64"),)):
        assert native.kernels(*arrays) is None
    assert native.status().endswith(native.library("f")._name) and ctypes.sizeof(native.CTYPES["i"]) == np.intp().itemsize


def sources():
    """The kernels in C, without comments."""
    return "".join(re.sub("//.*", "", path.read_text()) for path in sorted(native.SOURCES.glob("*.[ch]")))


def test_signatures_are_those_of_the_sources():
    """An address too few, or a number in its place, would be read as something else."""
    found = {}
    for name, parameters in re.findall(r"^KERNEL \w+ (\w+)\(([^)]*)\)", sources(), re.M):
        found[name] = "".join("p" if "*" in each else "r" if "double" in each else "i" for each in parameters.split(",") if each != "void")
    assert found == native.SIGNATURES


@pytest.mark.parametrize("name, structure", [("geometry", native_convolution._Geometry), ("windows", native_pooling._Windows),
                                             ("layer", native_batch_norm._Layer)])
def test_structures_are_those_of_the_sources(name, structure):
    """... in the same order: all members are addresses, or integers as wide."""
    (members,) = re.findall(rf"typedef struct {{([^}}]*)}} {name};", sources())
    found = [(member.strip(" *"), ctypes.c_void_p if "*" in line else ctypes.c_ssize_t)
             for line in members.split(";") for member in re.sub(r"^\s*(const T|index)", "", line).split(",") if member.strip()]
    assert found == structure._fields_


# ------------------------------------------------------------------------------------- for other processors, by others

def compile_only(compiler, *flags):
    """Compile both types; the compiler must say nothing."""
    for type_name in native.TYPES.values():
        result = subprocess.run([*compiler, *native.FLAGS, *flags, f"-DT={type_name}", "-Wall", "-Wextra", "-Werror",
                                 native.SOURCES / "kernels.c"], capture_output=True, text=True, timeout=300)
        assert result.returncode == 0 and result.stderr == "", result.stderr


def rows_hold(tmp_path, tests=("tests/fast/test_table.py",), **environment):
    """Hold all rows of the table in C, with another build of the kernels, in another process."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "in_c or native_kernels and not outside and not guard", *tests],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "MINIGRAD_NATIVE": "1", "MINIGRAD_REQUIRE": "cc", **environment}, cwd=ROOT,
        capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]


def instructions():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    return cpuinfo.read_text() if cpuinfo.exists() else ""


@pytest.mark.needs("cc")
def test_the_compiler_does_not_warn():
    """Of what it sees without optimizing, at once; the builds below show the rest."""
    compile_only(native.find_compiler(), "-fsyntax-only")


@pytest.mark.needs("builds", "x86")
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_builds_for_other_processors(level, tmp_path):
    """SSE alone, AVX2, and AVX-512: that is run only where the processor has it."""
    compile_only(native.find_compiler(), f"-march={level}", "-o", tmp_path / "kernels.so")
    if level != "x86-64-v4" or "avx512vl" in instructions():
        rows_hold(tmp_path, MINIGRAD_CFLAGS=f"-march={level}")


ZIG = [sys.executable, "-m", "ziglang", "cc"]


@pytest.mark.needs("zig", "builds")
def test_zig_compiles_for_neon(tmp_path):
    compile_only(ZIG, "-target", "aarch64-linux-gnu", "-o", tmp_path / "kernels.so")
    assert (tmp_path / "kernels.so").read_bytes()[18:20] == bytes([183, 0])        # ELF's number of that processor


@pytest.mark.needs("zig", "builds")
def test_a_build_by_zig(tmp_path):
    rows_hold(tmp_path, CC=shlex.join(ZIG))


@pytest.mark.needs("sanitizers")
def test_sanitizers_find_nothing(tmp_path):
    """AddressSanitizer and UndefinedBehaviorSanitizer watch all rows and all that test_native_kernels.py does."""
    preloaded = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    flags = "-march=native -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
    rows_hold(tmp_path, ("tests/fast/test_table.py", "tests/fast/test_native_kernels.py"), CC="gcc", MINIGRAD_CFLAGS=flags,
              LD_PRELOAD=preloaded, ASAN_OPTIONS="detect_leaks=0", PYTHONMALLOC="malloc")


#import: import functools
#import: import threading


@pytest.mark.needs("cc")
def test_one_thread_compiles_and_the_others_wait(compiler, monkeypatch):
    compiler.does("sleep 0.5;" + COPIES)
    monkeypatch.setattr(native, "_library", functools.cache(native._library.__wrapped__))
    found = []
    both = [threading.Thread(target=lambda: found.append(native.library("f"))) for _ in range(3)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert compiler.runs() == 1 and len({id(library) for library in found}) == 1 and found[0].vector() > 1


def test_which_lines_of_the_system_tell_a_processor(monkeypatch):
    """A virtual machine may hide instructions that its model has; the clock of the moment tells nothing."""
    def named(**lines):
        text = "".join(f"{name.replace('_', ' ')}\t: {value}\n" for name, value in lines.items())
        monkeypatch.setattr(pathlib.Path, "exists", lambda path: True)
        monkeypatch.setattr(pathlib.Path, "read_text", lambda path: text)
        return native.processor()
    about = dict(processor=0, model_name="A", flags="sse avx2", Features="neon", CPU_part=1, cpu_MHz=1000.0, bogomips=5000.0)
    one = named(**about)
    assert {named(**about, **{"physical_id": 1}), named(**{**about, "cpu_MHz": 2000.0}), named(**{**about, "bogomips": 1.0})} == {one}
    assert len({one, *[named(**{**about, name: "other"}) for name in ("model_name", "flags", "Features", "CPU_part")]}) == 5
