"""Every CUDA source of minigrad compiles for the devices that it is meant for, on a machine that has none of them.

A kernel is a file minigrad/**/*.cu; the lines "// kernel: name<types>" in it say which kernels to make.
"""
import pathlib
import re

import pytest

import minigrad

from ..nvrtc import compiled

pytestmark = pytest.mark.needs("nvrtc")
SOURCES = sorted(pathlib.Path(minigrad.__file__).parent.rglob("*.cu"))
ARCHITECTURES = ["sm_80", "sm_90"]
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
