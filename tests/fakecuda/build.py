"""Build the stand-in for CUDA, once for each version of its sources, and keep it in the user's cache folder.

It needs g++, CUDA's headers, Cython, and CuPy's wheel and source, both of one version: `pip install -e '.[fakecuda]'`
brings all but g++ and the source, which pip downloads. Nothing in the environment is changed: CuPy is imported from a
copy made of links, in which only the two modules that contain NVIDIA's runtime are our own.
"""
import contextlib
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

from . import nvrtc

HERE = pathlib.Path(__file__).resolve().parent
CUPY, SHA256 = "14.2.0", "cfed725e612178cfbdbf62f4a3a598b60edecbbca718c0d4580c21a16ae4a62c"
REMEDY = "pip install -e '.[fakecuda]'"
PARTS = "runtime", "driver", "nvrtc", "cublas", "lacking"   # of the library
RELINKED = {"cupy_backends/cuda/api/runtime": (), "cupy/cuda/thrust": ("thrust.cpp",)}      # module: further sources
HEADERS = "cuda_runtime.h", "cuda_profiler_api.h", "crt/host_defines.h", "cuda_fp16.h"
LOADED = "libcuda.so.1", "libcudart.so.13", "libnvrtc.so.13", "libcublas.so.13", "libcublasLt.so.13", "libnvJitLink.so.13"
CUPY_SHIM = "\n".join('#include ' + name for name in (
    '"shim.h"', "<cupy/complex.cuh>", "<cupy/carray.cuh>", "<cupy/atomics.cuh>", "<cupy/math_constants.h>"))


class Unavailable(Exception):
    """What is missing to build the stand-in, with the remedy."""


def environment(folder):
    """Return the environment variables with which a program runs on the stand-in in this folder."""
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder / "python"), os.environ.get("PYTHONPATH")])),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(folder / "lib"), os.environ.get("LD_LIBRARY_PATH")])),
        "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
        "CUDA_PATH": str(headers().parent), "CUPY_CACHE_DIR": str(folder / "kernels"), "CUPY_ACCELERATORS": ""}


def find():
    """Return the folder of the stand-in, after building it if need be. Raises Unavailable."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable("it is written for Linux on x86-64")
    if not shutil.which("g++"):
        raise Unavailable("g++ is not installed: apt install g++")
    site, include = wheel(), headers()
    if not importlib.util.find_spec("Cython"):
        raise Unavailable(f"Cython is not installed: {REMEDY}")
    parts = [path.read_bytes() for path in sorted(HERE.rglob("*")) if path.suffix in (".cpp", ".h", ".py")]
    key = hashlib.sha256(b"\0".join([*parts, repr((str(site), str(include), sys.version)).encode()])).hexdigest()[:16]
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "minigrad/fakecuda" / key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    import fcntl
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)                    # who comes second waits, and finds it built
        if not (folder / "built").exists():
            print(f"tests.fakecuda: building it in {folder}: a minute", file=sys.stderr)
            try:
                build(folder, site, include)
            except subprocess.CalledProcessError as error:
                raise Unavailable(f"{error}\n{error.stderr or error.stdout or ''}") from None
            (folder / "built").touch()
    return folder


def wheel():
    """Return the folder into which CuPy's wheel is installed. Raises Unavailable."""
    for name in ("cupy-cuda13x",):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(name)
            if found.version != CUPY:
                raise Unavailable(f"it is made for CuPy {CUPY}, and {found.version} is installed: {REMEDY}")
            return pathlib.Path(str(found.locate_file(""))).resolve()
    raise Unavailable(f"CuPy's wheel cupy-cuda13x is not installed: {REMEDY}")


def headers():
    """Return the folder of CUDA's headers. Raises Unavailable."""
    site = pathlib.Path(sysconfig.get_path("purelib"))
    places = [site / "nvidia/cu13", *map(pathlib.Path, filter(None, [os.environ.get("CUDA_PATH")])), pathlib.Path("/usr/local/cuda")]
    for place in places:
        include = place / "include"
        if all((include / name).exists() for name in HEADERS) and "CUDART_VERSION  130" in (include / "cuda_runtime_api.h").read_text():
            return include
    raise Unavailable(f"the headers of CUDA 13 ({', '.join(HEADERS)}) are not in {', '.join(map(str, places))}: {REMEDY}")


def run(*command, **settings):
    """Run a command and return what it prints. Raises CalledProcessError."""
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, **settings).stdout


def build(folder, site, include):
    """Build everything into this folder."""
    for path in folder.iterdir():                           # what an interrupted build has left
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("lib", "include", "objects"):
        (folder / name).mkdir()
    for name in ("kernel.h", "shim.h", "thunks.h"):
        shutil.copy(HERE / name, folder / "include")
    shutil.copytree(HERE / "host", folder / "include", dirs_exist_ok=True)
    shutil.copy(HERE / "nvrtc.py", folder)
    build_library(folder, site, include)
    (folder / "include/shim_cupy.h").write_text(CUPY_SHIM)
    for name in ("shim.h", "shim_cupy.h"):                  # compiled beforehand, so that a kernel takes less than a second
        run("g++", *nvrtc.FLAGS, "-x", "c++-header", "-I", folder / "include", "-I", site / "cupy/_core/include", "-I", include,
            folder / "include" / name, "-o", folder / "include" / f"{name}.gch")
    link_cupy(folder / "python", site)
    source = download(folder)
    for module, more in RELINKED.items():
        relink(folder, source, include, module, more)
    shutil.rmtree(source)
    shutil.rmtree(folder / "objects")


def build_library(folder, site, include):
    """Compile the one library and link it under the names of all of NVIDIA's that CuPy loads."""
    objects, flags = folder / "objects", ["-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", f"-I{include}", f"-I{HERE}", f"-I{site}/cupy/_core/include/cupy/_cccl/libcudacxx",
                                          f'-DFAKECUDA_PYTHON="{sys.executable}"']
    for part in PARTS:
        run("g++", *flags, "-Wall", "-c", HERE / f"{part}.cpp", "-o", objects / f"{part}.o")
    defined = run("nm", "--defined-only", *(objects / f"{part}.o" for part in PARTS))
    wanted, versions, names = undefined(site)
    lacking = sorted(wanted - set(re.findall(r"^\w+ T (\w+)$", defined, re.M)))
    text = '#include "lacking.h"\n' + "".join(f"LACKING({name}, 15)\n" for name in lacking)
    (objects / "rest.cpp").write_text(text)
    run("g++", *flags, "-w", "-c", objects / "rest.cpp", "-o", objects / "rest.o")
    (objects / "versions").write_text("".join(f"{version} {{ global: {' '.join(f'{n};' for n in sorted(ns))} }};\n"
                                              for version, ns in sorted(versions.items())) or "FAKECUDA { global: *; };\n")
    run("g++", "-shared", f"-Wl,--version-script={objects / 'versions'}", "-o", folder / "lib/libfakecuda.so",
        *(objects / f"{part}.o" for part in (*PARTS, "rest")), "-ldl", "-lpthread")
    for name in names:
        (folder / "lib" / name).symlink_to("libfakecuda.so")


def undefined(site):
    """Return which functions of NVIDIA's libraries the modules of CuPy refer to, those of each version, and the libraries."""
    wanted, versions, names = set(), {}, set(LOADED)
    modules = [path for package in ("cupy", "cupy_backends", "cupyx") for path in (site / package).rglob("*.so")]
    for line in run("readelf", "-dW", *modules).splitlines():
        if (match := re.search(r"NEEDED.*\[(lib(?:cu|nv)\w*\.so\.\d+)\]", line)) and not re.match("libcutensor|libcusparseLt", match[1]):
            names.add(match[1])
    for line in run("nm", "-D", "--undefined-only", *modules).splitlines():
        if match := re.search(r" U ((?:cublas|cublasLt|curand|cusolver|cusparse|cufft|nvrtc|cu)[A-Z_]\w*)(@+(\S+))?$", line):
            wanted.add(match[1])
            if match[3]:
                versions.setdefault(match[3], set()).add(match[1])
    return wanted, versions, names


def link_cupy(folder, site):
    """Fill a folder with CuPy's packages, by links to the wheel's, but for the modules that are relinked."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    own = {pathlib.Path(module + suffix) for module in RELINKED}

    def link(path):
        if path in own:
            return
        if any(path in other.parents for other in own):
            (folder / path).mkdir()
            for inside in (site / path).iterdir():
                link(path / inside.name)
        elif path.name != "__pycache__":
            (folder / path).symlink_to(site / path)
    folder.mkdir()
    for package in ("cupy", "cupy_backends", "cupyx"):
        link(pathlib.Path(package))


def download(folder):
    """Return the folder with CuPy's own source of this version. Raises Unavailable."""
    place = folder / "download"
    place.mkdir()
    archive = place / f"cupy-{CUPY}.tar.gz"
    try:
        run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "cupy", "-d", place, f"cupy=={CUPY}",
            env=os.environ | {"CUPY_INSTALL_USE_STUB": "1"})
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"pip cannot download the source of CuPy {CUPY}:\n{error.stderr}") from None
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        raise Unavailable(f"the archive {archive.name} that pip has downloaded is not the one that this was written for")
    with tarfile.open(archive) as file:
        file.extractall(place, [m for m in file.getmembers() if re.match(rf"cupy-{CUPY}/(cupy|cupy_backends)/", m.name)], filter="data")
    return place / f"cupy-{CUPY}"


def relink(folder, source, include, module, more):
    """Compile one of CuPy's modules from its source and link it to our library."""
    import numpy
    directives = [word for name in ("embedsignature=True", "c_api_binop_methods=True", "binding=False", "freethreading_compatible=True")
                  for word in ("-X", name)]
    run(sys.executable, "-m", "cython", "--cplus", "-3", *directives,
        "-E", "CUPY_CUDA_VERSION=13000,CUPY_HIP_VERSION=0,CUPY_USE_CUDA_PYTHON=False,CUPY_CUFFT_STATIC=False",
        f"{module}.pyx", "-o", f"{module}.cpp", cwd=source)
    run("g++", "-std=c++17", "-O1", "-fPIC", "-w", "-shared", "-D_FORCE_INLINES=1", '-DCYTHON_EXTERN_C=extern "C"',
        f"-I{sysconfig.get_path('include')}", f"-I{numpy.get_include()}", f"-I{folder / 'include'}", f"-I{include}", f"-I{source}",
        f"-I{source / 'cupy/cuda'}", source / f"{module}.cpp", *(HERE / name for name in more),
        "-o", folder / "python" / (module + sysconfig.get_config_var("EXT_SUFFIX")),
        f"-Wl,-rpath,{folder / 'lib'}", f"-L{folder / 'lib'}", "-l:libcudart.so.13")
