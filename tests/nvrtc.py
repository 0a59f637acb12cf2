"""Compile CUDA source without a GPU: NVRTC, as CuPy calls it, needs only the name of the architecture."""


def compiled(source, names, arch, headers=False):
    """Return the machine code of the kernels `names` of CUDA source, for an architecture such as "sm_90".

    names: as in C++, with template arguments: "scale<float>". headers: whether the source wants those of CuPy, as an
    elementwise kernel does. Raises CuPy's CompileException, with NVRTC's log.
    """
    from cupy._core import core
    from cupy.cuda import compiler
    source = "".join(f"#include <{name}>\n" for name in core._cupy_header_list if headers) + source
    program = compiler._NVRTCProgram(source, "kernel.cu", name_expressions=tuple(names), method="cubin")
    options = core.assemble_cupy_compiler_options(()) + ("-ftz=true", f"-arch={arch}", "--device-as-default-execution-space")
    code, mangled = program.compile(options)
    assert set(mangled or ()) == set(names)
    return code
