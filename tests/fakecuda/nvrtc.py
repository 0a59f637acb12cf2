"""The compiler behind the fake NVRTC: nvrtc.py FOLDER, with source.cu, options and names in it, makes kernels.so, log, lowered."""
import hashlib
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-w", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing"]
GLOBAL = re.compile(r"__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")


def lowered(i, name):
    """The name of the i-th name expression in the library: as NVRTC's, it tells which it was."""
    return f"ne{i}_" + re.sub(r"\W+", "_", name).strip("_")


def kernels(source):
    """The names of the kernels that are no templates."""
    for match in GLOBAL.finditer(source):
        before = re.split(r"[;}]|\n\s*\n", source[:match.start()])[-1]
        if "template" not in before:
            yield match[1]


def main(folder):
    folder = pathlib.Path(folder)
    source = (folder / "source.cu").read_text()
    names = (folder / "names").read_text().splitlines()
    given = (folder / "options").read_text().splitlines()
    options = [o for o in given if re.match(r"-[ID]", o)]
    own = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.S)
    barrier = bool(re.search(r"__sync|__shfl", own))
    plain = "CUPY_FOR" in own and not re.search(r"threadIdx|blockIdx|blockDim|gridDim|__shared__", own) and not barrier
    kind = int(barrier) + 2 * plain
    text = re.sub(r"extern\s+__shared__\s+([\w:<> ]+?)\s*(\w+)\s*\[\s*\]\s*;", r"\1* \2 = (\1*)fk_here.dynamic_shared;", source)
    pch = "shim_cupy.h" if source.startswith("#include <cupy/complex.cuh>") and (HERE / "include/shim_cupy.h.gch").exists() else "shim.h"
    lines = [f'#include "{pch}"', '#line 1 "kernel.cu"', text, ""]
    if "cupy/carray.cuh" in source or "cupy/complex.cuh" in source:
        lines += ["#define FK_CARRAY"]
    lines += ['#include "thunks.h"']
    pairs = [(name, name) for name in kernels(own)] + [(lowered(i, name), name) for i, name in enumerate(names)]
    for symbol, name in pairs:
        lines.append(f'extern "C" __attribute__((visibility("default"))) const fk_function fk_{symbol} = '
                     f'fk_thunk<&{name}>::describe({kind});')
    (folder / "kernel.cpp").write_text("\n".join(lines))
    done = subprocess.run(["g++", *FLAGS, "-I", str(HERE / "include"), *options, "-shared", "-o", str(folder / "kernels.so"),
                           str(folder / "kernel.cpp")], capture_output=True, text=True)
    (folder / "log").write_text(done.stdout + done.stderr)
    (folder / "lowered").write_text("\n".join(symbol for symbol, name in pairs[len(pairs) - len(names):]))
    if done.returncode and os.environ.get("FAKECUDA_KEEP"):
        keep = pathlib.Path(os.environ["FAKECUDA_KEEP"])
        keep.mkdir(exist_ok=True)
        (keep / f"failed-{hashlib.sha1(text.encode()).hexdigest()[:8]}.cpp").write_text("\n".join(lines) + "\n/*\n" + done.stderr + "\n*/\n")
    return done.returncode


if __name__ == "__main__":
    if sys.argv[1] == "--version":
        parts = b"".join((HERE / f).read_bytes() for f in ("include/kernel.h", "include/shim.h", "include/thunks.h", "nvrtc.py"))
        print("// fakecuda", hashlib.sha1(parts).hexdigest())
    else:
        sys.exit(main(sys.argv[1]))
