// Memory of the device. Guards lie before and behind each allocation; they, and what was not written to yet, are NaN.
#include <cstdlib>
#include <cstring>
#include <map>
#include "device.h"

constexpr size_t GUARD = 512;                        // bytes
constexpr unsigned char PATTERN[] = {0xFD, 0xFF};    // NaN in every type, but not the NaN that arithmetic returns
static std::map<const char*, size_t> device, pinned; // address: size
static size_t used = 0, most = 0;

size_t capacity() {
    const char* value = getenv("FAKECUDA_MEMORY");
    return value ? strtoull(value, nullptr, 10) : size_t(80) << 30;
}
size_t bytes_in_use(bool at_most) { return at_most ? most : used; }
void reset_most_bytes() { most = used; }

// ------------------------------------------------------------------------------------------- where an address lies

static bool in(const std::map<const char*, size_t>& blocks, const void* low, const void* high) {
    auto next = blocks.upper_bound((const char*)low);
    if (next == blocks.begin()) return false;
    --next;
    return (const char*)high <= next->first + next->second;
}
bool inside(const void* low, const void* high) { return in(device, low, high); }
bool is_pinned(const void* p) { return in(pinned, p, (const char*)p + 1); }

Region region_of(size_t address) {
    auto next = device.upper_bound((const char*)address);
    size_t low = 0, high = next == device.end() ? ~size_t(0) : (size_t)next->first;
    if (next != device.end() && address >= high - GUARD) return {high - GUARD, high, true};
    if (next != device.end()) high -= GUARD;
    if (next != device.begin()) {
        --next;
        size_t start = (size_t)next->first, end = start + next->second;
        if (address < end) return {start, end, false};
        if (address < end + GUARD) return {end, end + GUARD, true};
        low = end + GUARD;
    }
    return {low, high, false};
}

// ------------------------------------------------------------------------------------------- guards

static void fill(char* p, size_t size) { for (size_t i = 0; i < size; i++) p[i] = PATTERN[(size_t)(p + i) & 1]; }
static bool is_filled(const char* p) {
    for (size_t i = 0; i < GUARD; i++) if ((unsigned char)p[i] != PATTERN[(size_t)(p + i) & 1]) return false;
    return true;
}
static void check_guards_of(const char* p, size_t size) {
    if (!is_filled(p - GUARD)) fault("something was written before an allocation", 700);
    if (!is_filled(p + size)) fault("something was written behind an allocation", 700);
}
void check_guards() { for (auto& [p, size] : device) check_guards_of(p, size); }
void repair_guards() {
    for (auto& [p, size] : device) {
        fill((char*)p - GUARD, GUARD);
        fill((char*)p + size, GUARD);
    }
}

// ------------------------------------------------------------------------------------------- allocation

API cudaError_t cudaMalloc(void** out, size_t size) {
    LOCK;
    if (cudaError_t error = refuse_in_capture()) return error;
    if (any_capturing()) count("mallocs in a capture");
    *out = nullptr;
    if (!size) return cudaSuccess;
    char* block = used + size > capacity() ? nullptr : (char*)aligned_alloc(512, (size + 2 * GUARD + 511) / 512 * 512);
    if (!block) return failed(cudaErrorMemoryAllocation);
    static const bool poison = flag("FAKECUDA_POISON", true);
    fill(block, GUARD);
    if (poison) fill(block + GUARD, size);
    fill(block + GUARD + size, GUARD);
    device[block + GUARD] = size;
    used += size;
    most = used > most ? used : most;
    count("mallocs");
    count("bytes malloced", size);
    *out = block + GUARD;
    return cudaSuccess;
}
API cudaError_t cudaMallocManaged(void** out, size_t size, unsigned) { return cudaMalloc(out, size); }
API cudaError_t cudaMallocAsync(void** out, size_t size, cudaStream_t) { return cudaMalloc(out, size); }
API cudaError_t cudaMallocFromPoolAsync(void** out, size_t size, cudaMemPool_t, cudaStream_t) {
    return cudaMalloc(out, size);
}

// What releases something works after a fault too, as CuPy calls it in destructors, which cannot raise an error.
API cudaError_t cudaFree(void* p) {                  // waits for the device
    auto lock = locked();
    if (!p) return cudaSuccess;
    if (cudaError_t error = refuse_in_capture()) return error;
    if (any_capturing()) count("frees in a capture");
    auto at = device.find((char*)p);
    if (at == device.end()) return failed(cudaErrorInvalidValue);
    finish_all();
    check_guards_of(at->first, at->second);
    used -= at->second;
    count("frees");
    device.erase(at);
    free((char*)p - GUARD);
    return cudaSuccess;
}
API cudaError_t cudaFreeAsync(void* p, cudaStream_t) { return cudaFree(p); }

API cudaError_t cudaHostAlloc(void** out, size_t size, unsigned) {
    LOCK;
    if (cudaError_t error = refuse_in_capture()) return error;
    *out = aligned_alloc(512, size / 512 * 512 + 512);
    pinned[(char*)*out] = size;
    count("pinned mallocs");
    return cudaSuccess;
}
API cudaError_t cudaFreeHost(void* p) {
    auto lock = locked();
    finish_all();
    pinned.erase((char*)p);
    free(p);
    return cudaSuccess;
}
API cudaError_t cudaHostRegister(void* p, size_t size, unsigned) { LOCK; pinned[(char*)p] = size; return cudaSuccess; }
API cudaError_t cudaHostUnregister(void* p) { LOCK; pinned.erase((char*)p); return cudaSuccess; }

API cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
    LOCK;
    *total = capacity();
    *available = *total - used;
    return cudaSuccess;
}
API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* p) {
    LOCK;
    bool here = inside(p, (char*)p + 1), host = is_pinned(p);
    *out = {};
    out->type = here ? cudaMemoryTypeDevice : host ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    out->devicePointer = here || host ? (void*)p : nullptr;
    out->hostPointer = host ? (void*)p : nullptr;
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------- copies

static cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream, bool waits) {
    LOCK;
    if (!size) return cudaSuccess;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    bool from_device = inside(from, (char*)from + 1), to_device = inside(to, (char*)to + 1);
    if ((from_device && !inside(from, (char*)from + size)) || (to_device && !inside(to, (char*)to + size)) ||
        (kind == cudaMemcpyHostToDevice && (from_device || !to_device)) ||
        (kind == cudaMemcpyDeviceToHost && (!from_device || to_device)) ||
        (kind == cudaMemcpyDeviceToDevice && !(from_device && to_device))) return failed(cudaErrorInvalidValue);
    if (waits && s == &legacy && legacy_is_forbidden()) {
        invalidate_captures();
        return failed(cudaErrorStreamCaptureImplicit);
    }
    bool pageable_from = !from_device && !is_pinned(from), pageable_to = !to_device && !is_pinned(to);
    bool at_once = s->capture == NONE && (waits || pageable_to);
    if (s->capture == NONE && (at_once || (from_device && !to_device)) && refused()) return failed(HOST_READ);
    Operation operation;
    operation.kind = "copy";
    operation.name = std::string(from_device ? "device" : "host") + " to " + (to_device ? "device" : "host");
    operation.bytes = double(size) * (from_device && to_device ? 2 : 1);
    if (pageable_from && s->capture == NONE) {       // CUDA reads it before the call returns
        auto held = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + size);
        operation.run = [=] { memcpy(to, held->data(), size); };
    } else operation.run = [=] { memmove(to, from, size); };
    count("bytes " + operation.name, size);
    cudaError_t error = submit(stream, std::move(operation));
    if (error || !at_once) return error;
    count(waits ? "waits: copy" : "waits: copy to pageable memory");
    return finish(s);
}
API cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    return copy(to, from, size, kind, nullptr, true); }
API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy(to, from, size, kind, stream, false); }
API cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t size) {
    return copy(to, from, size, cudaMemcpyDefault, nullptr, true); }
API cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t stream) {
    return copy(to, from, size, cudaMemcpyDefault, stream, false); }

API cudaError_t cudaMemsetAsync(void* p, int value, size_t size, cudaStream_t stream) {
    LOCK;
    if (!size) return cudaSuccess;
    if (!inside(p, (char*)p + size)) return failed(cudaErrorInvalidValue);
    Operation operation;
    operation.kind = "memset";
    operation.bytes = size;
    operation.run = [=] { memset(p, value, size); };
    return submit(stream, std::move(operation));
}
API cudaError_t cudaMemset(void* p, int value, size_t size) { return cudaMemsetAsync(p, value, size, nullptr); }
