// The driver API (cu...): modules of kernels and their launches. One thread of a kernel runs after the other; where
// threads wait for each other, each has a stack of its own.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include "device.h"
#include "kernel/standin.h"

using standin::Context;
struct Function {
    std::string name;
    const standin::Kernel* kernel;
    Context* context;
    char *shared_low, *shared_high;                  // its library's __shared__ memory
    unsigned most_shared;                            // bytes of dynamic shared memory that a launch may ask for
};
struct Module {
    void* library;
    std::map<std::string, Function*> functions;
};
static const bool backwards = flag("FAKECUDA_BACKWARDS", false);     // the last thread and the last block first
static const Function* running = nullptr;
constexpr int NOT_FOUND = 500;

// ------------------------------------------------------------------------------------------- checks

static std::string place(const uint3& at) {
    return std::to_string(at.x) + " " + std::to_string(at.y) + " " + std::to_string(at.z);
}
static void report(const std::string& what) {
    Context* c = running->context;
    std::string at = " (block " + place(c->block) + ", thread " + place(c->thread) + ")";
    fault("kernel " + running->name + " " + what + at, 700);
}
static void look_up(size_t address, size_t size, bool writes) {
    if (broken || !running) return;                  // no kernel: this reads its arguments
    Region region = region_of(address);
    if (region.guard || address + size > region.high)
        report(std::string(writes ? "writes" : "reads") + " outside of an array");
    else running->context->known[address >> 12 & 63] = {region.low, region.high};
}
static void outside(long index, long length) {
    std::string at = std::to_string(index) + " of " + std::to_string(length);
    if (!broken) report("uses an index outside of an array: " + at);
}

// ------------------------------------------------------------------------------------------- threads of a block

// swap_stacks(&mine, other): keep the registers on this stack and its address in mine, and go on where other was left
asm(R"(
.text
.type swap_stacks, @function
swap_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size swap_stacks, .-swap_stacks
)");
extern "C" void swap_stacks(void** mine, void* other) __attribute__((visibility("hidden")));

constexpr size_t STACK = 64 << 10;
constexpr int THREADS = 1024, WARP = 32;
enum State { READY, AT_BLOCK, AT_WARP, ENDED };
static void *scheduler, *stack_of[THREADS];
static State states[THREADS];
static int current;
static void** arguments;

static void suspend(State state) {
    states[current] = state;
    swap_stacks(&stack_of[current], scheduler);
}
static void wait(int barrier) { suspend(barrier == standin::OF_BLOCK ? AT_BLOCK : AT_WARP); }
static void thread_main() {
    running->kernel->run_thread(arguments);
    suspend(ENDED);
}
static void start_threads(int threads) {
    static char* stacks = (char*)mmap(nullptr, STACK * THREADS, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int t = 0; t < threads; t++) {
        void** top = (void**)(stacks + (t + 1) * STACK);
        *--top = nullptr;                            // aligned as if thread_main had been called
        *--top = (void*)thread_main;
        stack_of[t] = top - 6;                       // six registers
        states[t] = READY;
    }
}
static bool release_warps(int threads) {             // those whose threads have all arrived or ended
    bool released = false;
    for (int first = 0; first < threads; first += WARP) {
        int last = std::min(first + WARP, threads), there = 0, live = 0;
        for (int t = first; t < last; t++) { there += states[t] == AT_WARP; live += states[t] != ENDED; }
        if (!there || there != live) continue;
        released = true;
        for (int t = first; t < last; t++) if (states[t] == AT_WARP) states[t] = READY;
    }
    return released;
}
static uint3 position(unsigned i, const dim3& size) { return {i % size.x, i / size.x % size.y, i / size.x / size.y}; }

static bool run_block_with_barriers(Context* c, int threads) {
    start_threads(threads);
    for (;;) {
        bool ran = false;
        int ended = 0, at_block = 0;
        for (int turn = 0; turn < threads; turn++) {
            current = backwards ? threads - 1 - turn : turn;
            if (states[current] == READY) {
                ran = true;
                c->thread = position(current, c->block_dim);
                swap_stacks(&scheduler, stack_of[current]);
            }
            ended += states[current] == ENDED;
            at_block += states[current] == AT_BLOCK;
        }
        if (ended == threads) return true;
        if (at_block == threads) {
            for (int t = 0; t < threads; t++) states[t] = READY;
        } else if (!release_warps(threads) && !ran) return false;
    }
}
static void run_block(Context* c, int threads) {
    for (int turn = 0; turn < threads; turn++) {
        c->thread = position(backwards ? threads - 1 - turn : turn, c->block_dim);
        running->kernel->run_thread(arguments);
    }
}
static void execute(const Function* f, dim3 grid, dim3 block, size_t shared, void** args) {
    static std::vector<char> dynamic_shared;
    if (const char* found = f->kernel->find_fault(args, inside)) {
        fault("kernel " + f->name + " gets " + found, 700);
        return;
    }
    Context* c = f->context;
    arguments = args;
    dynamic_shared.resize(std::max(dynamic_shared.size(), shared + 16));
    c->dynamic_shared = dynamic_shared.data();
    memset(c->known, 0, sizeof c->known);
    if (f->kernel->traits & standin::IS_ONE_LOOP) grid = block = dim3(1, 1, 1);      // one thread does the work of all
    c->grid_dim = grid;
    c->block_dim = block;
    running = f;
    int threads = block.x * block.y * block.z;
    size_t blocks = size_t(grid.x) * grid.y * grid.z;
    for (size_t turn = 0; turn < blocks; turn++) {
        size_t i = backwards ? blocks - 1 - turn : turn;
        c->block = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
        memset(f->shared_low, 0xFF, f->shared_high - f->shared_low);     // NaN: no block sees what another has left
        memset(dynamic_shared.data(), 0xFF, shared);
        if (!(f->kernel->traits & standin::HAS_BARRIERS)) run_block(c, threads);
        else if (!run_block_with_barriers(c, threads)) {
            fault("kernel " + f->name + " has a barrier that only some threads of a block reach", 719);
            break;
        }
    }
    running = nullptr;
}

// ------------------------------------------------------------------------------------------- modules

API int cuModuleLoadData(Module** out, const void* image) {
    auto lock = locked();
    const auto* header = (const Elf64_Ehdr*)image;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG)) return cudaErrorInvalidKernelImage;
    size_t size = header->e_shoff + size_t(header->e_shnum) * header->e_shentsize;      // the section headers come last
    static int loaded = 0;                           // dlopen takes a name that it has seen for the same library
    std::string path = "/tmp/fakecuda-" + std::to_string(getpid()) + "-" + std::to_string(loaded++) + ".so";
    FILE* file = fopen(path.c_str(), "wb");
    bool written = file && fwrite(image, 1, size, file) == size;
    if (file) fclose(file);
    void* library = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path.c_str());
    if (!library) {
        fprintf(stderr, "fakecuda: a compiled kernel cannot be loaded: %s\n", written ? dlerror() : path.c_str());
        return cudaErrorInvalidKernelImage;
    }
    *out = new Module{library, {}};
    count("modules loaded");
    return 0;
}
API int cuModuleLoad(Module** out, const char* path) {
    FILE* file = fopen(path, "rb");
    if (!file) return cudaErrorFileNotFound;
    std::string image;
    char part[65536];
    while (size_t n = fread(part, 1, sizeof part, file)) image.append(part, n);
    fclose(file);
    return cuModuleLoadData(out, image.data());
}
API int cuModuleUnload(Module*) { return 0; }        // graphs may still name its kernels
API int cuModuleGetFunction(Function** out, Module* module, const char* name) {
    auto lock = locked();
    auto*& f = module->functions[name];
    if (!f) {
        auto* kernel = (const standin::Kernel*)dlsym(module->library, (std::string("standin_") + name).c_str());
        if (!kernel) return NOT_FOUND;
        char *low, *high;
        auto* context = ((Context * (*)(char**, char**)) dlsym(module->library, "standin_context"))(&low, &high);
        static char slots[THREADS][16];
        context->slots = slots;
        context->backwards = backwards;
        context->wait = wait;
        context->look_up = look_up;
        context->outside = outside;
        f = new Function{name, kernel, context, low, high, 48 << 10};
    }
    *out = f;
    return 0;
}
API int cuModuleGetGlobal_v2(void** out, size_t* size, Module* module, const char* name) {
    *out = dlsym(module->library, name);
    *size = 0;
    return *out ? 0 : NOT_FOUND;
}
API const char* fakecuda_kinds(const Function* f) { return f->kernel->kinds; }
API const unsigned* fakecuda_sizes(const Function* f) { return f->kernel->sizes; }

// ------------------------------------------------------------------------------------------- launches

API int cuLaunchKernel(Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, cudaStream_t stream, void** args, void** extra) {
    auto lock = locked();
    if (broken) return broken;
    if (extra) return cudaErrorNotSupported;
    bool fits = gx && gy && gz && gx <= 2147483647u && gy <= 65535 && gz <= 65535 && shared <= f->most_shared &&
                bx && by && bz && bx <= THREADS && by <= THREADS && bz <= 64 && size_t(bx) * by * bz <= THREADS;
    if (!fits) return cudaErrorInvalidValue;
    struct Held { std::vector<std::vector<char>> values; std::vector<void*> args; };      // as they are now
    auto held = std::make_shared<Held>();
    for (unsigned i = 0; i < f->kernel->count; i++) {
        if (!args[i]) return cudaErrorInvalidValue;
        held->values.emplace_back((char*)args[i], (char*)args[i] + f->kernel->sizes[i]);
    }
    for (auto& value : held->values) held->args.push_back(value.data());
    Operation operation;
    operation.kind = "kernel";
    operation.name = f->name;
    operation.bytes = f->kernel->bytes(held->args.data());
    operation.grid = {gx, gy, gz};
    operation.block = {bx, by, bz};
    operation.run = [=] { execute(f, dim3(gx, gy, gz), dim3(bx, by, bz), shared, held->args.data()); };
    return submit(stream, std::move(operation));
}
API int cuLaunchCooperativeKernel(Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                  unsigned bz, unsigned shared, cudaStream_t stream, void** args) {
    return cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, stream, args, nullptr);
}
API int cuFuncGetAttribute(int* out, int attribute, Function* f) {
    *out = attribute == 0 ? THREADS : attribute == 8 ? f->most_shared : 0;       // 0: threads of a block
    return 0;
}
API int cuFuncSetAttribute(Function* f, int attribute, int value) {
    if (attribute == 8 && (value < 0 || value > 232448)) return cudaErrorInvalidValue;
    if (attribute == 8) f->most_shared = value;      // bytes of dynamic shared memory
    return 0;
}

// ------------------------------------------------------------------------------------------- contexts and the like

API int cuGetErrorName(int error, const char** out) {
    *out = error == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : cudaGetErrorName((cudaError_t)error);
    return 0;
}
API int cuGetErrorString(int error, const char** out) {
    *out = error == NOT_FOUND ? "named symbol not found" : cudaGetErrorString((cudaError_t)error);
    return 0;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API int cuCtxGetCurrent(void** out) { *out = (void*)1; return 0; }
API int cuCtxSetCurrent(void*) { return 0; }
API int cuCtxCreate_v2(void** out, unsigned, int) { *out = (void*)1; return 0; }
API int cuCtxDestroy_v2(void*) { return 0; }
API int cuCtxGetDevice(int* out) { *out = 0; return 0; }
API int cuStreamGetCtx(void*, void** out) { *out = (void*)1; return 0; }
API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* out, Function*, int size, size_t) {
    *out = 2048 / std::max(size, 1);
    return 0;
}
API int cuOccupancyMaxPotentialBlockSize(int* grid, int* block, Function*, void*, size_t, int) {
    *grid = 264;
    *block = THREADS;
    return 0;
}
