"""Every CUDA source of minigrad compiles for the devices that it is meant for, on a machine that has none of them.

A source is a file minigrad/**/*.cu, where the lines "// kernel: name<types>" say which kernels to make, or what CuPy
writes around the statements of a Kernel (minigrad/fast/cuda.py) for the arguments of a call.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import minigrad as mg

from ..nvrtc import compiled
from .test_cuda import KERNELS

pytestmark = pytest.mark.needs("nvrtc")
ROOT = pathlib.Path(mg.__file__).parent.parent
SOURCES = sorted((ROOT / "minigrad").rglob("*.cu"))
ARCHITECTURES = ["sm_80", "sm_90"]
RECORD = """                                                # on the stand-in: what CuPy has compiled, as JSON
import json
from cupy.cuda import compiler
import minigrad as mg
from tests.fast.test_cuda import KERNELS, small_step
sources, make = set(), compiler._compile_module_with_cache
def noted(source, *args, **params):
    if any(f"__global__ void {name}(" in source for name in KERNELS):
        sources.add(source)
    return make(source, *args, **params)
compiler._compile_module_with_cache = noted
for dtype in ("float32", "float64"):
    small_step(mg.xp.ones((5, 9, 9, 4), dtype), mg.xp.zeros(5, int))
print(json.dumps([*sources]))
"""
SCALE = """
// kernel: scale<float>
// kernel: scale<double>
template <class T> __global__ void scale(const T* x, T* y, T by, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = by * x[i];
}
"""


def kernels(source):
    return re.findall(r"^// kernel: (.+)$", source, re.M)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_kernels_compile(path, arch):
    source = path.read_text()
    assert kernels(source), f"{path.name} has no line '// kernel: name'"
    assert len(compiled(source, kernels(source), arch)) > 0


@pytest.mark.needs("standin")
def test_what_is_written_around_statements_compiles():
    """All of it as one program: every kernel that a step launches, with a name and a namespace of its own."""
    done = subprocess.run([sys.executable, "-m", "tests.fakecuda", "python", "-c", RECORD], capture_output=True, text=True,
                          cwd=ROOT, env={**os.environ, "MINIGRAD_BACKEND": "cupy"})
    assert done.returncode == 0, done.stderr
    own = {}
    for source in sorted(json.loads(done.stdout)):
        (name,) = re.findall(r"__global__ void (\w+)\(", source)
        source = re.sub(r"^#include .*$", "", source, flags=re.M)
        own[f"{name}_{len(own)}"] = re.sub(rf"\bvoid {name}\(", f"void {name}_{len(own)}(", source)
    assert {name.rpartition("_")[0] for name in own} == KERNELS
    program = "".join(f"namespace of_{name} {{ {source} }}\nusing namespace of_{name};\n" for name, source in own.items())
    for arch in ARCHITECTURES:
        code = compiled(program, (), arch, headers=True)
        assert all(name.encode() in code for name in own)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_check_makes_machine_code(arch):
    code = compiled(SCALE, kernels(SCALE), arch)
    assert code[:4] == b"\x7fELF" and b"scale" in code and code != compiled(SCALE, kernels(SCALE)[:1], arch)


@pytest.mark.parametrize("wrong", [SCALE.replace("by * x", "by * z"), SCALE.replace("blockIdx.x", "blockIdx.t"),
                                   SCALE.replace("y[i] = by", "y[i] = T::missing * by")])
def test_the_check_rejects_what_does_not_compile(wrong):
    from cupy.cuda import compiler
    with pytest.raises(compiler.CompileException):
        compiled(wrong, kernels(wrong), "sm_90")
