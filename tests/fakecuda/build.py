"""Build the stand-in for CUDA, once for each version of its sources, and keep it in the user's cache folder.

It needs g++, CUDA's headers, Cython, and CuPy's wheel and source, both of one version: `pip install -e '.[fakecuda]'`
brings all but g++ and the source, which pip downloads. Nothing in the environment is changed: CuPy is imported from a
folder of links to the wheel, in which only the two modules that contain NVIDIA's runtime are our own.
"""
import hashlib
import importlib.util
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from importlib import metadata

from . import compile as compiler

SOURCE = pathlib.Path(__file__).resolve().parent / "source"
WHEEL, CUPY = "cupy-cuda13x", "14.2.0"
SHA256 = "cfed725e612178cfbdbf62f4a3a598b60edecbbca718c0d4580c21a16ae4a62c"     # of CuPy's source
REMEDY = "pip install -e '.[fakecuda]'"
HEADERS = "cuda_runtime.h", "cuda_profiler_api.h", "crt/host_defines.h"
RELINKED = {"cupy_backends/cuda/api/runtime": (), "cupy/cuda/thrust": (SOURCE / "thrust.cpp",)}    # and more sources
LIBRARIES = "libcuda.so.1 libcudart.so.13 libnvrtc.so.13 libcublas.so.13 libcublasLt.so.13 libnvJitLink.so.13".split()
OPTIONAL = "libcutensor|libcusparseLt|libnccl"              # CuPy does without them
NVIDIA = r"(?:cublas|cublasLt|curand|cusolver|cusparse|cufft|nvrtc|cuda|cu)[A-Z_]\w*"       # functions of its libraries
LACKING = """extern "C" int fakecuda_lacks(const char* name, int error);
#define LACKING(name, error) \\
    extern "C" __attribute__((visibility("default"))) int name() { return fakecuda_lacks(#name, error); }
"""


class Unavailable(Exception):
    """What is missing to build the stand-in, and the remedy."""


def environment(folder):
    """Return the environment variables with which a program runs on the stand-in in this folder."""
    def in_front(name, path):
        return os.pathsep.join(filter(None, [str(path), os.environ.get(name)]))
    return {"PYTHONPATH": in_front("PYTHONPATH", folder / "python"),
            "LD_LIBRARY_PATH": in_front("LD_LIBRARY_PATH", folder / "lib"),
            "PATH": in_front("PATH", pathlib.Path(sys.executable).parent), "CUDA_PATH": str(headers().parent),
            "CUPY_CACHE_DIR": str(folder / "kernels"), "CUPY_ACCELERATORS": ""}


def find():
    """Return the folder of the stand-in, after building it if need be. Raises Unavailable."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable("it runs on Linux on x86-64 alone")
    import fcntl
    if not shutil.which("g++"):
        raise Unavailable("g++ is not installed: apt install g++")
    site, include = wheel(), headers()
    if not importlib.util.find_spec("Cython"):
        raise Unavailable(f"Cython is not installed: {REMEDY}")
    made_from = [repr((str(site), str(include), sys.executable, sys.version)).encode()]
    sources = [*sorted(path for path in SOURCE.rglob("*") if path.is_file()), __file__, compiler.__file__]
    made_from += [pathlib.Path(path).read_bytes() for path in sources]
    key = hashlib.sha256(b"\0".join(made_from)).hexdigest()[:16]
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "minigrad/fakecuda" / key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)                    # a second process waits, and then finds it built
        if not (folder / "built").exists():
            print(f"tests.fakecuda: building it in {folder}, which takes a minute", file=sys.stderr)
            try:
                build(folder, site, include)
            except subprocess.CalledProcessError as error:
                raise Unavailable(f"{error}\n{error.stderr or error.stdout}") from None
            (folder / "built").touch()
    return folder


def wheel():
    """Return the folder into which CuPy's wheel is installed. Raises Unavailable."""
    try:
        found = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise Unavailable(f"{WHEEL} is not installed: {REMEDY}") from None
    if found.version != CUPY:
        raise Unavailable(f"it is made for {WHEEL} {CUPY}, and {found.version} is installed: {REMEDY}")
    return pathlib.Path(found.locate_file("")).resolve()


def headers():
    """Return the folder of CUDA's headers. Raises Unavailable."""
    places = [pathlib.Path(sysconfig.get_path("purelib"), "nvidia/cu13"),
              pathlib.Path(os.environ.get("CUDA_PATH") or "/usr/local/cuda")]
    for include in (place / "include" for place in places):
        if all((include / name).exists() for name in HEADERS):
            if re.search(r"#define CUDART_VERSION\s+13", (include / "cuda_runtime_api.h").read_text()):
                return include
    raise Unavailable(f"CUDA 13's headers {', '.join(HEADERS)} are neither in {places[0]} nor in {places[1]}: {REMEDY}")


def run(*command, **settings):
    """Run a command and return what it prints. Raises CalledProcessError."""
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, **settings).stdout


def build(folder, site, include):
    """Build everything into this folder.

    lib/        the library, under the names of NVIDIA's
    python/     CuPy's packages
    include/    what kernels are compiled with, and compile.py beside it
    kernels/    CuPy's cache of compiled kernels
    """
    for path in folder.iterdir():                           # what an interrupted build has left
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    work = folder / "work"
    work.mkdir()
    link_cupy(folder / "python", site)
    copy_headers(folder / "include", site, include)
    shutil.copy(compiler.__file__, folder / "compile.py")
    source = download(work)
    modules = {module: compile_module(module, source, folder, include) for module in RELINKED}
    build_library(folder / "lib", work, site, include, modules.values())
    for module, objects in modules.items():
        run("g++", "-shared", objects, "-o", folder / "python" / f"{module}{sysconfig.get_config_var('EXT_SUFFIX')}",
            f"-Wl,-rpath,{folder / 'lib'}", folder / "lib/libcudart.so.13")
    shutil.rmtree(work)


def link_cupy(folder, site):
    """Fill a folder with CuPy's packages, by links to the wheel's, but for the modules that are relinked."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    own = {pathlib.Path(module + suffix) for module in RELINKED}

    def link(path):
        if any(path in other.parents for other in own):
            (folder / path).mkdir()
            for inside in (site / path).iterdir():
                link(path / inside.name)
        elif path not in own and path.name != "__pycache__":
            (folder / path).symlink_to(site / path)
    folder.mkdir()
    for package in ("cupy", "cupy_backends", "cupyx"):
        link(pathlib.Path(package))


def copy_headers(folder, site, include):
    """Fill a folder with the headers that kernels are compiled with, two of them compiled beforehand.

    CuPy's own header of arrays, among them, checks every index but -1, which CuPy's kernels of masks form without reading
    what is there, and runs loops over elements in either order.
    """
    shutil.copytree(SOURCE / "kernel", folder)
    text = (site / "cupy/_core/include/cupy/carray.cuh").read_text()
    for old, new in (
            ("<index_t>(idx[dim]);", "<index_t>(standin::checked(idx[dim], shape_[dim]));"),
            ("](ptrdiff_t idx) const {\n", "](ptrdiff_t idx) const {\n    if (idx != -1) idx = standin::checked(idx, size_);\n")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    loop = "for (ptrdiff_t i = standin::first(n); i >= 0 && i < (n); i += standin::step())"
    text = re.sub(r"#define CUPY_FOR\(i, n\)(.*\\\n)*.*\n", f"#define CUPY_FOR(i, n) {loop}\n", text)
    (folder / "cupy").mkdir()
    (folder / "cupy/carray.cuh").write_text(text)
    names = "complex.cuh", "carray.cuh", "atomics.cuh", "math_constants.h"
    lines = ['#include "language.h"', *(f"#include <cupy/{name}>" for name in names)]
    (folder / "with_cupy.h").write_text("\n".join(lines) + "\n")
    places = folder, site / "cupy/_core/include", include
    for name in ("language.h", "with_cupy.h"):              # compiled, so that a kernel takes less than a second
        run("g++", *compiler.FLAGS, "-x", "c++-header", *(f"-I{place}" for place in places), folder / name)


def download(folder):
    """Return the folder with CuPy's own source of this version. Raises Unavailable."""
    try:
        run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "cupy", "-d", folder, f"cupy=={CUPY}",
            env=os.environ | {"CUPY_INSTALL_USE_STUB": "1"})
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"pip cannot download CuPy's source: is there a network?\n{error.stderr}") from None
    archive = folder / f"cupy-{CUPY}.tar.gz"
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        raise Unavailable(f"{archive.name}, as pip has downloaded it, is not the file that this was written for")
    with tarfile.open(archive) as file:
        wanted = [member for member in file if re.match(f"cupy-{CUPY}/(cupy|cupy_backends)/", member.name)]
        file.extractall(folder, wanted, filter="data")
    return folder / f"cupy-{CUPY}"


def compile_module(module, source, folder, include):
    """Return the object file of one of CuPy's modules, with its further sources, compiled as CuPy's setup.py would."""
    import numpy
    directives = [f"-X{name}" for name in ("embedsignature=True", "c_api_binop_methods=True", "binding=False",
                                           "freethreading_compatible=True")]
    run(sys.executable, "-m", "cython", "--cplus", "-3", *directives, f"{module}.pyx", "-o", f"{module}.cpp",
        "-E",
        "CUPY_CUDA_VERSION=13000,CUPY_HIP_VERSION=0,CUPY_USE_CUDA_PYTHON=False,CUPY_CUFFT_STATIC=False", cwd=source)
    places = (sysconfig.get_path("include"), numpy.get_include(), folder / "include", include, source,
              source / "cupy/cuda")
    out = source / f"{module}.o"
    run("g++", "-std=c++17", "-O1", "-fPIC", "-w", "-r", "-nostdlib", '-DCYTHON_EXTERN_C=extern "C"',
        *(f"-I{place}" for place in places), source / f"{module}.cpp", *RELINKED[module], "-o", out)
    return out


def build_library(folder, work, site, include, objects):
    """Compile the library and link it under the names of all of NVIDIA's that CuPy loads.

    A function that CuPy's modules refer to and that the stand-in lacks returns an error, and counts its calls.
    """
    flags = "-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", f"-I{include}", f'-DPYTHON="{sys.executable}"'
    parts = [path for path in sorted(SOURCE.glob("*.cpp")) if path.name != "thrust.cpp"]
    for path in parts:
        run("g++", *flags, "-Wall", "-c", path, "-o", work / f"{path.stem}.o")
    own = [work / f"{path.stem}.o" for path in parts]
    defined = set(re.findall(r" T (\w+)$", run("nm", "--defined-only", *own), re.M))
    modules = [path for package in ("cupy", "cupy_backends", "cupyx") for path in (site / package).rglob("*.so")]
    needed = set(re.findall(r"NEEDED.*\[(lib(?:cu|nv)\w*\.so\.\d+)\]", run("readelf", "-dW", *modules)))
    undefined = re.findall(rf" U ({NVIDIA})(?:@+(\S+))?$", run("nm", "-D", *modules) + run("nm", *objects), re.M)
    versions = {}
    for name, version in set(undefined):
        if version:
            versions.setdefault(version, []).append(name)
    lacking = work / "lacking.cpp"
    lacking.write_text(LACKING + "".join(f"LACKING({name}, {801 if name.startswith('cuda') else 15})\n"
                                         for name in sorted({name for name, _ in undefined} - defined)))
    (work / "versions").write_text("".join(f"{version} {{ global: {'; '.join(sorted(names))}; }};\n"
                                           for version, names in sorted(versions.items())))
    folder.mkdir()
    script = [f"-Wl,--version-script={work / 'versions'}"] if versions else []
    run("g++", *flags, "-w", "-shared", *script, "-o", folder / "libfakecuda.so", lacking, *own, "-ldl", "-lpthread")
    for name in {*LIBRARIES, *needed}:
        if not re.match(OPTIONAL, name):
            (folder / name).symlink_to("libfakecuda.so")
