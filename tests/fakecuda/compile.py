"""The compiler behind NVRTC: compile.py FOLDER makes kernels.so, log and lowered of source.cu, options and names in it.

A copy of this file lies beside the built library, which runs it.
"""
import hashlib
import pathlib
import re
import subprocess
import sys

INCLUDE = pathlib.Path(__file__).resolve().parent / "include"
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-w", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing",
         "-fsanitize=kernel-address", "--param=asan-stack=0", "--param=asan-globals=0",         # see language.h
         "--param=asan-instrumentation-with-call-threshold=0"]
BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
KERNEL = re.compile(rf"__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)\s*\(")
HAS_BARRIERS, IS_ONE_LOOP = 1, 2


def kernels(text):
    """Yield the names of the kernels that are no templates."""
    for match in KERNEL.finditer(text):
        before = re.split(r"[;}]|\n\s*\n", text[:match.start()])[-1]
        if "template" not in before:
            yield match[1]


def traits(text):
    """Return whether its kernels have barriers, and whether they are but a loop that threads share: see Kernel."""
    barriers = re.search(r"__sync|__shfl", text)
    own = re.search(r"threadIdx|blockIdx|blockDim|gridDim|__shared__", text)
    return HAS_BARRIERS * bool(barriers) + IS_ONE_LOOP * ("CUPY_FOR" in text and not own and not barriers)


def translated(source, names):
    """Return a source as C++ for this machine, with a description of each kernel, and the names' symbols in it."""
    bare = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.S)
    text = re.sub(r"extern\s+__shared__\s+([\w:<> ]+?)\s*(\w+)\s*\[\s*\]\s*;",
                  r"\1* \2 = (\1*)standin::here.dynamic_shared;", source)
    header = "with_cupy.h" if source.startswith("#include <cupy/complex.cuh>") else "language.h"
    lines = [f'#include "{header}"', '#line 1 "kernel.cu"', text, ""]
    if "cupy/carray.cuh" in source or "cupy/complex.cuh" in source:
        lines.append("#define WITH_CARRAY")
    lines.append('#include "describe.h"')
    lowered = [f"ne{i}_" + re.sub(r"\W+", "_", name).strip("_") for i, name in enumerate(names)]
    for symbol, name in [*((name, name) for name in kernels(bare)), *zip(lowered, names)]:
        lines.append(f'extern "C" __attribute__((visibility("default"))) const standin::Kernel standin_{symbol} = '
                     f"standin::describe<&{name}>({traits(bare)});")
    return "\n".join(lines) + "\n", lowered


def main(folder):
    """Compile the source in this folder."""
    names = (folder / "names").read_text().splitlines()
    options = [option for option in (folder / "options").read_text().splitlines() if re.match("-[ID]", option)]
    text, lowered = translated((folder / "source.cu").read_text(), names)
    (folder / "kernel.cpp").write_text(text)
    command = ["g++", *FLAGS, "-I", INCLUDE, *options, "-shared", "-o", folder / "kernels.so", folder / "kernel.cpp"]
    done = subprocess.run(command, capture_output=True, text=True)
    (folder / "log").write_text(done.stdout + done.stderr)
    (folder / "lowered").write_text("\n".join(lowered))


if __name__ == "__main__":
    if sys.argv[1] == "--version":
        sources = [pathlib.Path(__file__), *sorted(INCLUDE.glob("*.h"))]
        print("// fakecuda", hashlib.sha1(b"".join(path.read_bytes() for path in sources)).hexdigest())
    else:
        main(pathlib.Path(sys.argv[1]))
