"""CUDA kernels without a GPU: their very source, compiled for the host, every thread of a block a fibre of its own.

    module = RawModule(code=source, name_expressions=("scale<float>",))       # the part of CuPy's that minigrad uses
    module.get_function("scale<float>")((blocks,), (threads,), (x, y, np.float32(2), np.int32(n)))
    elementwise(source, "scale", (x, np.float32(2), y), shape)                # what CuPy writes around a few statements

Blocks run one after the other. The threads of a block run one after the other up to __syncthreads(), where all have to
arrive; a barrier that only some of them reach is an error, as it hangs on a device. Arrays are passed with a margin
on either side, full of NaN: a kernel that writes there is an error, and what it reads there spoils its result. The type
of every argument must be that of the kernel's parameter: CuPy would pass the bits on as they are. An elementwise kernel
gets its arrays as CuPy's class CArray; the one here checks every index.

What it cannot show: races between blocks or between barriers, rounding of the device's own functions, and speed.
"""
import ctypes
import functools
import math
import pathlib
import re
import shutil
import subprocess
import tempfile

import numpy as np

COMPILER = shutil.which("g++")
MARGIN = 256                                                # bytes
HOST = r"""
#include <cmath>
#include <cstddef>
#include <functional>
#include <type_traits>
#include <vector>
#include <ucontext.h>
using std::isfinite;
struct dim3 { unsigned x, y, z; };
struct float4 { float x, y, z, w; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
#define __global__ static
#define __device__ static inline
#define __shared__ static
static ucontext_t scheduler;
static std::vector<ucontext_t> fibres;
static std::vector<std::vector<char>> stacks;
static std::vector<bool> ended;
static std::function<void()> body;
static unsigned current;
static void __syncthreads() { swapcontext(&fibres[current], &scheduler); }
static void thread_main() { body(); ended[current] = true; swapcontext(&fibres[current], &scheduler); }
static int block_with_barriers() {
    unsigned n = blockDim.x;
    fibres.resize(n); ended.assign(n, false);
    while (stacks.size() < n) stacks.emplace_back(1 << 15);
    for (unsigned t = 0; t < n; t++) {
        getcontext(&fibres[t]);
        fibres[t].uc_stack.ss_sp = stacks[t].data();
        fibres[t].uc_stack.ss_size = stacks[t].size();
        makecontext(&fibres[t], thread_main, 0);
    }
    for (;;) {
        unsigned over = 0;
        for (current = 0; current < n; current++) {
            threadIdx = {current, 0, 0};
            swapcontext(&scheduler, &fibres[current]);
            over += ended[current];
        }
        if (over == n) return 0;
        if (over) return 1;                                 // the others wait for ever
    }
}
static int launch(const unsigned* grid, unsigned block, bool barriers) {
    gridDim = {grid[0], grid[1], 1}; blockDim = {block, 1, 1};
    for (unsigned y = 0; y < grid[1]; y++)
        for (unsigned x = 0; x < grid[0]; x++) {
            blockIdx = {x, y, 0};
            if (barriers) { if (block_with_barriers()) return 1; continue; }
            for (unsigned t = 0; t < block; t++) { threadIdx = {t, 0, 0}; body(); }
        }
    return 0;
}
template <class P> char kind() {
    return std::is_pointer<P>::value ? 'p' : std::is_floating_point<P>::value ? 'f' : std::is_unsigned<P>::value ? 'u' : 'i';
}
template <class... P, size_t... I>
int call(void (*kernel)(P...), void** args, const unsigned* grid, unsigned block, bool barriers, std::index_sequence<I...>) {
    body = [=] { kernel(*(typename std::remove_cv<P>::type*)args[I]...); };
    return launch(grid, block, barriers);
}
template <class... P> int call(void (*kernel)(P...), void** args, const unsigned* grid, unsigned block, bool barriers) {
    return call(kernel, args, grid, block, barriers, std::index_sequence_for<P...>());
}
template <class... P> void tell(void (*)(P...), char* out) {
    for (char c : {kind<P>()...}) *out++ = c;
    for (size_t n : {sizeof(P)...}) *out++ = char('0' + n);
}
"""
ELEMENTWISE = r"""
#include <cmath>
#include <cstddef>
#include <utility>
using std::isfinite; using std::exp; using std::expm1; using std::log1p; using std::sqrt;
static int max(int a, int b) { return a < b ? b : a; }
static int min(int a, int b) { return a < b ? a : b; }
#define __global__
#define __device__ static inline
static bool outside;                                        // whether a kernel used an index that is outside an array
template <class T, int N, bool, bool> struct CArray {
    T* data; ptrdiff_t count, lengths[N], steps[N];         // as CuPy passes them: steps in bytes
    template <class I> T& operator[](const I (&at)[N]) const {
        ptrdiff_t offset = 0;
        for (int k = 0; k < N; k++) {
            if (at[k] < 0 || at[k] >= lengths[k]) { outside = true; return *data; }
            offset += at[k] * steps[k];
        }
        return *(T*)((char*)data + offset);
    }
    T& operator[](ptrdiff_t i) const {
        ptrdiff_t at[N];
        for (int k = N; --k > 0; i /= lengths[k]) at[k] = i % lengths[k];
        at[0] = i;
        return (*this)[at];
    }
    const ptrdiff_t* shape() const { return lengths; }
};
template <class T, bool contiguous, bool narrow> struct CArray<T, 0, contiguous, narrow> {
    T* data; ptrdiff_t count;
    T& operator[](const ptrdiff_t*) const { return *data; }
};
template <int N, bool> struct CIndexer {
    ptrdiff_t count, lengths[N], at[N];
    ptrdiff_t size() const { return count; }
    const ptrdiff_t (&get() const)[N] { return at; }
    void set(ptrdiff_t i) {
        for (int k = N; --k > 0; i /= lengths[k]) at[k] = i % lengths[k];
        at[0] = i;
    }
};
template <bool narrow> struct CIndexer<0, narrow> {
    ptrdiff_t count;
    ptrdiff_t size() const { return 1; }
    const ptrdiff_t* get() const { return nullptr; }
    void set(ptrdiff_t) {}
};
namespace thrust { template <class T> struct complex { T real, imaginary; complex(T x = 0) : real(x), imaginary(0) {} }; }
#define CUPY_FOR(i, n) for (ptrdiff_t i = 0; i < (n); i++)
template <class... P, size_t... I> void call(void (*kernel)(P...), void** args, std::index_sequence<I...>) {
    kernel(*(P*)args[I]...);
}
template <class... P> void call(void (*kernel)(P...), void** args) { call(kernel, args, std::index_sequence_for<P...>()); }
"""
CALL = """
extern "C" int call(void** args) {{ outside = false; call(&{name}, args); return outside; }}
"""
KERNEL = """
extern "C" int call_{i}(void** args, const unsigned* grid, unsigned block, int barriers) {{
    return call(&{name}, args, grid, block, barriers); }}
extern "C" void tell_{i}(char* out) {{ tell(&{name}, out); }}
"""


@functools.cache
def library(source, names):
    """Compile a source with call_0, tell_0 ... for the kernels `names`. Raises RuntimeError with the log."""
    return compiled(HOST + source + "".join(KERNEL.format(i=i, name=name) for i, name in enumerate(names)))


def compiled(text):
    """Return a library of this C++. Raises RuntimeError with the log."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "kernels.cpp")
        path.write_text(text)
        done = subprocess.run([COMPILER, "-std=c++14", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w", "-o",
                               f"{folder}/kernels.so", str(path)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return ctypes.CDLL(f"{folder}/kernels.so")


def functions(source):
    """Return {name: text} of all functions of a source that is laid out as ours: a brace in the first column ends one."""
    found = re.finditer(r"^__device__ [\w ]*?(\w+)\([^\n]*\}$|^__(?:global|device)__ [\w ]*?(\w+)\(.*?^\}", source, re.M | re.S)
    return {match[1] or match[2]: match[0] for match in found}


def waits(source, name):
    """Return whether a kernel, or a function that it calls, has a barrier."""
    every = functions(source)
    seen, left = set(), [name]
    while left:
        text = every[left.pop()]
        if "__syncthreads" in text:
            return True
        calls = {other for other in every if re.search(rf"\b{other}\(", text)} - seen
        seen |= calls
        left += calls
    return False


class RawModule:
    """The kernels of a source, compiled when one of them is wanted."""

    def __init__(self, code, options=(), name_expressions=()):
        self.code, self.names = code, tuple(name_expressions)

    def get_function(self, name):
        """Return a kernel, to be called with a grid, a block and a tuple of arguments."""
        return functools.partial(run, self.code, self.names, name)


def run(source, names, name, grid, block, args):
    """Launch a kernel on NumPy arrays, or whatever has one as `_a`."""
    kernels, i = library(source, names), names.index(name)
    told = ctypes.create_string_buffer(4 * len(args) + 64)
    getattr(kernels, f"tell_{i}")(told)
    kinds, sizes = told.value.decode()[:len(told.value) // 2], told.value[len(told.value) // 2:]
    assert len(kinds) == len(args), f"{name} has {len(kinds)} parameters, not {len(args)}"
    held, arrays = [], []
    for k, (arg, kind, size) in enumerate(zip(args, kinds, sizes)):
        array = getattr(arg, "_a", arg)
        if isinstance(array, np.ndarray):
            assert kind == "p" and array.flags.c_contiguous, f"{name}: argument {k} is an array with gaps, or no pointer"
            room = np.full(array.nbytes + 2 * MARGIN, 255, np.uint8)
            room[MARGIN:MARGIN + array.nbytes] = array.reshape(-1).view(np.uint8)
            arrays.append((array, room))
            held.append(np.array(room.ctypes.data + MARGIN, np.uintp))
        else:
            assert isinstance(arg, np.generic), f"{name}: argument {k} needs a type of NumPy, to have a size: {arg!r}"
            assert (arg.dtype.kind, arg.dtype.itemsize) == (kind, size - ord("0")), f"{name}: argument {k}: {arg.dtype}"
            held.append(np.array(arg))
    pointers = (ctypes.c_void_p * len(held))(*[value.ctypes.data for value in held])
    size = np.array([*grid, 1, 1][:2], np.uint32)
    failed = getattr(kernels, f"call_{i}")(pointers, ctypes.c_void_p(size.ctypes.data), ctypes.c_uint(block[0]),
                                            ctypes.c_int(waits(source, name.partition("<")[0])))
    assert not failed, f"{name}: a barrier that only some threads of a block reach"
    for array, room in arrays:
        assert (room[:MARGIN] == 255).all() and (room[-MARGIN:] == 255).all(), f"{name} writes outside of an array"
        inside = room[MARGIN:MARGIN + array.nbytes]
        if array.flags.writeable:
            array.reshape(-1).view(np.uint8)[...] = inside


def elementwise(source, name, args, shape):
    """Launch a kernel that CuPy has written for elements of this shape, on NumPy arrays and scalars."""
    library = elementwise_library(source, name)
    held = [np.array([arg.ctypes.data, arg.size, *arg.shape, *arg.strides]) if isinstance(arg, np.ndarray) else
            np.array(arg) for arg in args] + [np.array([math.prod(shape), *shape, *shape])]
    assert not library.call((ctypes.c_void_p * len(held))(*[value.ctypes.data for value in held])), \
        f"{name} uses an index outside of an array"


@functools.cache
def elementwise_library(source, name):
    """Return the compiled source. Raises RuntimeError with the log."""
    return compiled(ELEMENTWISE + source + CALL.format(name=name))
