// The runtime API (cuda...), as much of it as CuPy calls.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <chrono>
#include <map>
#include <set>
#include "fake.h"

static std::recursive_mutex mutex;
static std::map<const char*, size_t> device, pinned;
static std::set<CUstream_st*> streams;
static CUstream_st legacy;
static size_t used = 0, most = 0;
static std::map<std::string, double> counters;
struct Sum { double count = 0, bytes = 0, flops = 0; };
static std::map<std::string, Sum> kernels;
static FILE* trace = nullptr;
static bool dry = getenv("FAKECUDA_DRY") != nullptr;
static thread_local cudaError_t last = cudaSuccess;
int broken = 0;
static int refusing = 0;                             // device.no_host_reads(): how many are open
constexpr int REFUSED = 9999;                        // the error of a wait that is refused

static bool flag(const char* name, bool otherwise) { const char* v = getenv(name); return v && *v ? *v != '0' : otherwise; }
static const bool lazy = flag("FAKECUDA_LAZY", false), poison = flag("FAKECUDA_POISON", true);
static size_t capacity() { const char* v = getenv("FAKECUDA_MEMORY"); return v ? strtoull(v, nullptr, 10) : size_t(80) << 30; }
constexpr size_t GUARD = 512;

std::unique_lock<std::recursive_mutex> locked() { return std::unique_lock<std::recursive_mutex>(mutex); }
void count(const char* what, double by) { counters[what] += by; }
std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text) if (c == '"' || c == '\\') { out += '\\'; out += c; } else if (c >= ' ') out += c;
    return out + "\"";
}
void fault(const std::string& what, int error) {
    fprintf(stderr, "fakecuda: %s\n", what.c_str());
    if (!broken) broken = error;
    counters["faults"]++;
}

// ------------------------------------------------------------------------------------------------ memory

static bool in(const std::map<const char*, size_t>& blocks, const void* low, const void* high) {
    auto next = blocks.upper_bound((const char*)low);
    if (next == blocks.begin()) return false;
    --next;
    return (const char*)high <= next->first + next->second;
}
bool inside(const void* low, const void* high) { return in(device, low, high); }
bool host_memory_is_pinned(const void* p) { return in(pinned, p, (const char*)p + 1); }

static bool guards_hold(const char* p, size_t size) {
    for (size_t k = 0; k < GUARD; k++)
        if ((unsigned char)p[-1 - (long)k] != 0xA5 || (unsigned char)p[size + k] != 0xA5) return false;
    return true;
}
static void check_guards() {
    for (auto& [p, size] : device)
        if (!guards_hold(p, size)) fault("something was written outside of a piece of device memory", 700);
}

static cudaError_t failed(cudaError_t error) { if (error) last = error; return error; }
bool refused() { if (refusing) count("waits refused"); return refusing; }
#define LOCK auto lock = locked(); if (broken) return failed((cudaError_t)broken)

static cudaError_t drain_all() {
    for (auto* s : streams) wait_for(s);
    return wait_for(&legacy);
}
static bool any_capturing() { for (auto* s : streams) if (s->capture == ACTIVE) return true; return false; }
static void invalidate_all() { for (auto* s : streams) if (s->capture == ACTIVE) s->capture = INVALID; }
static bool legacy_is_forbidden() {                  // while a stream that waits for it is capturing
    for (auto* s : streams) if (s->capture == ACTIVE && s->blocking) return true;
    return false;
}
static bool unsafe_is_forbidden() {                  // cudaMalloc and the like, but in relaxed mode
    for (auto* s : streams) if (s->capture == ACTIVE && s->mode != cudaStreamCaptureModeRelaxed) return true;
    return false;
}

API cudaError_t cudaMalloc(void** out, size_t size) {
    LOCK;
    if (unsafe_is_forbidden()) { invalidate_all(); return failed(cudaErrorStreamCaptureUnsupported); }
    if (any_capturing()) count("mallocs in a capture");
    if (!size) { *out = nullptr; return cudaSuccess; }
    if (used + size > capacity()) return failed(cudaErrorMemoryAllocation);
    char* block = (char*)aligned_alloc(512, (size + 2 * GUARD + 511) / 512 * 512);
    if (!block) return failed(cudaErrorMemoryAllocation);
    memset(block, 0xA5, GUARD);
    memset(block + GUARD + size, 0xA5, GUARD);
    if (poison) memset(block + GUARD, 0xFF, size);   // NaN, if anybody reads it
    device[block + GUARD] = size;
    used += size;
    most = used > most ? used : most;
    count("mallocs"); count("bytes malloced", size);
    *out = block + GUARD;
    return cudaSuccess;
}
API cudaError_t cudaMallocManaged(void** out, size_t size, unsigned) { return cudaMalloc(out, size); }
API cudaError_t cudaMallocAsync(void** out, size_t size, cudaStream_t) { return cudaMalloc(out, size); }
API cudaError_t cudaMallocFromPoolAsync(void** out, size_t size, cudaMemPool_t, cudaStream_t) { return cudaMalloc(out, size); }
API cudaError_t cudaFree(void* p) {
    LOCK;
    if (!p) return cudaSuccess;
    if (unsafe_is_forbidden()) { invalidate_all(); return failed(cudaErrorStreamCaptureUnsupported); }
    if (any_capturing()) count("frees in a capture");
    auto at = device.find((char*)p);
    if (at == device.end()) return failed(cudaErrorInvalidValue);
    for (auto* s : streams) if (s->capture == NONE) wait_for(s);     // it waits for the device
    wait_for(&legacy);
    if (!guards_hold((char*)p, at->second)) fault("something was written outside of a piece of device memory", 700);
    if (poison) memset(p, 0xFF, at->second);
    used -= at->second;
    count("frees");
    device.erase(at);
    free((char*)p - GUARD);
    return cudaSuccess;
}
API cudaError_t cudaFreeAsync(void* p, cudaStream_t) { return cudaFree(p); }
API cudaError_t cudaHostAlloc(void** out, size_t size, unsigned) {
    LOCK;
    if (unsafe_is_forbidden()) { invalidate_all(); return failed(cudaErrorStreamCaptureUnsupported); }
    *out = aligned_alloc(512, (size + 511) / 512 * 512 + 512);
    pinned[(char*)*out] = size;
    count("pinned mallocs");
    return cudaSuccess;
}
API cudaError_t cudaFreeHost(void* p) { LOCK; drain_all(); pinned.erase((char*)p); free(p); return cudaSuccess; }
API cudaError_t cudaHostRegister(void* p, size_t size, unsigned) { LOCK; pinned[(char*)p] = size; return cudaSuccess; }
API cudaError_t cudaHostUnregister(void* p) { LOCK; pinned.erase((char*)p); return cudaSuccess; }
API cudaError_t cudaMemGetInfo(size_t* free_, size_t* total) { LOCK; *total = capacity(); *free_ = *total - used; return cudaSuccess; }
API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
    LOCK;
    memset(a, 0, sizeof *a);
    bool here = inside(p, (char*)p + 1), host = host_memory_is_pinned(p);
    a->type = here ? cudaMemoryTypeDevice : host ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    if (here) a->devicePointer = (void*)p;
    if (host) a->hostPointer = a->devicePointer = (void*)p;
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ work

static void run(Node& node) { if (!broken && !(dry && (node.kind == "kernel" || node.kind == "gemm"))) node.run(); }
static void note(const Node& node, const char* how) {
    Sum& sum = kernels[node.kind + " " + node.name];
    sum.count++; sum.bytes += node.bytes; sum.flops += node.flops;
    count(*how == 'c' ? "nodes captured" : "operations");
    count((node.kind + (*how == 'c' ? "s captured" : "s")).c_str());
    if (trace) fprintf(trace, "{\"op\": %s, \"name\": %s, \"how\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], \"bytes\": %.0f, \"flops\": %.0f%s%s}\n",
                       quoted(node.kind).c_str(), quoted(node.name).c_str(), how, node.grid[0], node.grid[1], node.grid[2],
                       node.block[0], node.block[1], node.block[2], node.bytes, node.flops, node.more.empty() ? "" : ", ", node.more.c_str());
}

CUstream_st* stream_of(cudaStream_t stream) {        // 0: legacy, 1: legacy, 2: of the thread, taken for legacy
    if ((size_t)stream <= 2) return &legacy;
    return streams.count(stream) ? stream : nullptr;
}
static void work_until(CUstream_st* s, unsigned long long at) {
    while (s->done < at && !s->queue.empty()) {
        Node node = std::move(s->queue.front());
        s->queue.pop_front();
        run(node);
        s->done++;
    }
}
cudaError_t wait_for(CUstream_st* s) {
    if (s->capture == NONE) work_until(s, s->submitted);
    return (cudaError_t)broken;
}
cudaError_t submit(cudaStream_t stream, Node node) {
    if (broken) return failed((cudaError_t)broken);
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == INVALID) return failed(cudaErrorStreamCaptureInvalidated);
    if (s->capture == ACTIVE) { note(node, "captured"); s->graph->nodes.push_back(std::move(node)); return cudaSuccess; }
    if (s == &legacy && legacy_is_forbidden()) { invalidate_all(); return failed(cudaErrorStreamCaptureImplicit); }
    note(node, "run");
    s->submitted++;
    if (!lazy) { run(node); s->done++; return failed((cudaError_t)broken); }
    if (s == &legacy) { for (auto* other : streams) if (other->blocking) wait_for(other); }     // its work comes after theirs
    else if (s->blocking) wait_for(&legacy);
    s->queue.push_back(std::move(node));
    return cudaSuccess;
}

static cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream, bool waits) {
    LOCK;
    if (!size) return cudaSuccess;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    bool from_here = inside(from, (char*)from + size), to_here = inside(to, (char*)to + size);
    bool from_any = inside(from, (char*)from + 1), to_any = inside(to, (char*)to + 1);
    if (from_here != from_any || to_here != to_any) { fault("a copy beyond a piece of device memory", 1); return failed(cudaErrorInvalidValue); }
    if ((kind == cudaMemcpyHostToDevice && (from_here || !to_here)) || (kind == cudaMemcpyDeviceToHost && (!from_here || to_here)) ||
        (kind == cudaMemcpyDeviceToDevice && !(from_here && to_here))) return failed(cudaErrorInvalidValue);
    const char* way = from_here ? to_here ? "device to device" : "device to host" : to_here ? "host to device" : "host to host";
    bool loose = (!from_here && !host_memory_is_pinned(from)) || (!to_here && !host_memory_is_pinned(to));
    Node node;
    node.kind = "copy"; node.name = way; node.bytes = double(size) * (from_here && to_here ? 2 : 1);
    if (waits && s == &legacy && legacy_is_forbidden()) { invalidate_all(); return failed(cudaErrorStreamCaptureImplicit); }
    if (!from_here && loose && s->capture == NONE) {                      // is read before the call returns
        auto held = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + size);
        node.run = [=] { memcpy(to, held->data(), size); };
    } else node.run = [=] { memmove(to, from, size); };
    count((std::string("bytes ") + way).c_str(), size);
    bool blocks = s->capture == NONE && (waits || (!to_here && loose));
    if (blocks && refused()) return failed((cudaError_t)REFUSED);
    cudaError_t error = submit(stream, std::move(node));
    if (error) return error;
    if (blocks) { count(waits ? "waits: copy" : "waits: copy to pageable memory"); return wait_for(s); }
    return cudaSuccess;
}
API cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) { return copy(to, from, size, kind, nullptr, true); }
API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t s) { return copy(to, from, size, kind, s, false); }
API cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t size) { return copy(to, from, size, cudaMemcpyDefault, nullptr, true); }
API cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t s) { return copy(to, from, size, cudaMemcpyDefault, s, false); }
static cudaError_t set(void* p, int value, size_t size, cudaStream_t stream) {
    LOCK;
    if (!size) return cudaSuccess;
    if (!inside(p, (char*)p + size)) return failed(cudaErrorInvalidValue);
    Node node;
    node.kind = "memset"; node.bytes = size;
    node.run = [=] { memset(p, value, size); };
    return submit(stream, std::move(node));
}
API cudaError_t cudaMemset(void* p, int value, size_t size) { return set(p, value, size, nullptr); }
API cudaError_t cudaMemsetAsync(void* p, int value, size_t size, cudaStream_t s) { return set(p, value, size, s); }

// ------------------------------------------------------------------------------------------- streams, events

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned flags, int) {
    LOCK;
    *out = new CUstream_st;
    (*out)->blocking = !(flags & cudaStreamNonBlocking);
    streams.insert(*out);
    count("streams");
    return cudaSuccess;
}
API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) { return cudaStreamCreateWithPriority(out, flags, 0); }
API cudaError_t cudaStreamCreate(cudaStream_t* out) { return cudaStreamCreateWithPriority(out, 0, 0); }
API cudaError_t cudaStreamGetFlags(cudaStream_t s, unsigned* out) { *out = stream_of(s)->blocking ? 0 : cudaStreamNonBlocking; return cudaSuccess; }
API cudaError_t cudaStreamGetPriority(cudaStream_t, int* out) { *out = 0; return cudaSuccess; }
API cudaError_t cudaStreamDestroy(cudaStream_t s) {
    LOCK;
    if (!streams.count(s)) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture != NONE) { delete s->graph; s->graph = nullptr; s->capture = NONE; count("streams destroyed in a capture"); }
    wait_for(s);
    streams.erase(s);
    delete s;
    return cudaSuccess;
}
static cudaError_t query(cudaStream_t stream) {      // what may not be asked of a stream that is capturing
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == ACTIVE) { s->capture = INVALID; return failed(cudaErrorStreamCaptureUnsupported); }
    if (s->capture == INVALID) return failed(cudaErrorStreamCaptureInvalidated);
    if (s == &legacy && legacy_is_forbidden()) { invalidate_all(); return failed(cudaErrorStreamCaptureImplicit); }
    return cudaSuccess;
}
API cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    LOCK;
    if (cudaError_t error = query(stream)) return error;
    if (refused()) return failed((cudaError_t)REFUSED);
    count("waits: stream");
    CUstream_st* s = stream_of(stream);
    if (s == &legacy) for (auto* other : streams) if (other->blocking) wait_for(other);
    return failed(wait_for(s));
}
API cudaError_t cudaStreamQuery(cudaStream_t stream) {
    LOCK;
    if (cudaError_t error = query(stream)) return error;
    return stream_of(stream)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
API cudaError_t cudaDeviceSynchronize() {
    LOCK;
    if (any_capturing()) { invalidate_all(); return failed(cudaErrorStreamCaptureUnsupported); }
    if (refused()) return failed((cudaError_t)REFUSED);
    count("waits: device");
    drain_all();
    check_guards();
    return failed((cudaError_t)broken);
}
static double now() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) { LOCK; *out = new CUevent_st; return cudaSuccess; }
API cudaError_t cudaEventCreate(cudaEvent_t* out) { return cudaEventCreateWithFlags(out, 0); }
API cudaError_t cudaEventDestroy(cudaEvent_t e) { LOCK; delete e; return cudaSuccess; }
API cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == INVALID) return failed(cudaErrorStreamCaptureInvalidated);
    e->stream = s; e->captured = s->capture == ACTIVE; e->at = s->submitted;
    if (!lazy) e->time = now();
    return cudaSuccess;
}
API cudaError_t cudaEventQuery(cudaEvent_t e) {
    LOCK;
    if (e->captured) { if (e->stream->capture == ACTIVE) e->stream->capture = INVALID; return failed((cudaError_t)907); }
    return e->stream && (e->stream == &legacy || streams.count(e->stream)) && e->stream->done < e->at ? cudaErrorNotReady : cudaSuccess;
}
API cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    LOCK;
    if (e->captured) { if (e->stream->capture == ACTIVE) e->stream->capture = INVALID; return failed((cudaError_t)907); }
    if (refused()) return failed((cudaError_t)REFUSED);
    count("waits: event");
    if (e->stream && (e->stream == &legacy || streams.count(e->stream))) work_until(e->stream, e->at);
    return failed((cudaError_t)broken);
}
API cudaError_t cudaEventElapsedTime(float* out, cudaEvent_t a, cudaEvent_t b) { *out = float(b->time - a->time); return cudaSuccess; }
API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned) {
    LOCK;
    CUstream_st *s = stream_of(stream), *other = e->stream;
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == ACTIVE && !e->captured) { s->capture = INVALID; return failed(cudaErrorStreamCaptureIsolation); }
    if (s->capture != NONE || !other || other == s || !lazy) return cudaSuccess;
    unsigned long long at = e->at;
    s->submitted++;
    Node node;
    node.kind = "wait";
    node.run = [=] { if (other == &legacy || streams.count(other)) work_until(other, at); };
    s->queue.push_back(std::move(node));
    return cudaSuccess;
}
API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void* data) {
    LOCK;
    Node node;
    node.kind = "host function";
    node.run = [=] { f(data); };
    return submit(stream, std::move(node));
}
API cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t f, void* data, unsigned) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (s->capture != NONE) { s->capture = INVALID; return failed(cudaErrorStreamCaptureUnsupported); }
    Node node;
    node.kind = "callback";
    node.run = [=] { f(stream, cudaSuccess, data); };
    return submit(stream, std::move(node));
}

// ------------------------------------------------------------------------------------------------ graphs

API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s == &legacy) return failed(cudaErrorStreamCaptureImplicit);
    if (s->capture != NONE) return failed(cudaErrorIllegalState);
    s->capture = ACTIVE; s->mode = mode; s->graph = new CUgraph_st;
    count("captures");
    return cudaSuccess;
}
API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    *out = nullptr;
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == NONE) return failed(cudaErrorIllegalState);
    bool valid = s->capture == ACTIVE;
    CUgraph_st* graph = s->graph;
    s->capture = NONE; s->graph = nullptr;
    if (!valid) { delete graph; count("captures invalidated"); return failed(cudaErrorStreamCaptureInvalidated); }
    *out = graph;
    return cudaSuccess;
}
API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* out) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s == &legacy && legacy_is_forbidden()) { invalidate_all(); return failed(cudaErrorStreamCaptureImplicit); }
    *out = s->capture == NONE ? cudaStreamCaptureStatusNone : s->capture == ACTIVE ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
}
API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
    LOCK;
    *out = new CUgraphExec_st{std::make_shared<std::vector<Node>>(graph->nodes)};
    count("graphs made");
    return cudaSuccess;
}
API cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    LOCK;
    Node node;
    node.kind = "graph"; node.name = std::to_string(exec->nodes->size()) + " nodes";
    auto nodes = exec->nodes;                        // a launch goes on if the graph is destroyed
    node.run = [nodes] { for (auto& n : *nodes) run(n); };
    count("nodes of graphs launched", exec->nodes->size());
    return submit(stream, std::move(node));
}
API cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
API cudaError_t cudaGraphDestroy(cudaGraph_t graph) { LOCK; delete graph; return cudaSuccess; }
API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    LOCK;
    if (any_capturing()) count("graphs destroyed in a capture");
    delete exec;
    return cudaSuccess;
}
API cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char* path, unsigned) {
    LOCK;
    FILE* f = fopen(path, "w");
    if (!f) return failed(cudaErrorOperatingSystem);
    fprintf(f, "digraph dot {\nsubgraph cluster_0 {\nlabel=\"graph_0\" graph[style=\"dashed\"];\n");
    for (size_t i = 0; i < graph->nodes.size(); i++) {
        fprintf(f, "\"graph_0_node_%zu\"[style=\"bold\" shape=\"octagon\" label=\"%zu\n%s\n\"];\n", i, i, graph->nodes[i].name.c_str());
        if (i) fprintf(f, "\"graph_0_node_%zu\" -> \"graph_0_node_%zu\";\n", i - 1, i);
    }
    fprintf(f, "}\n}\n");
    fclose(f);
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ device

static const std::map<int, std::pair<const char*, const char*>> errors = {
    {0, {"cudaSuccess", "no error"}}, {1, {"cudaErrorInvalidValue", "invalid argument"}},
    {2, {"cudaErrorMemoryAllocation", "out of memory"}}, {400, {"cudaErrorInvalidResourceHandle", "invalid resource handle"}},
    {401, {"cudaErrorIllegalState", "the operation cannot be performed in the present state"}},
    {600, {"cudaErrorNotReady", "device not ready"}}, {700, {"cudaErrorIllegalAddress", "an illegal memory access was encountered"}},
    {719, {"cudaErrorLaunchFailure", "unspecified launch failure"}}, {801, {"cudaErrorNotSupported", "operation not supported"}},
    {900, {"cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"}},
    {901, {"cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"}},
    {905, {"cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"}},
    {906, {"cudaErrorStreamCaptureImplicit", "operation would make the legacy stream depend on a capturing blocking stream"}},
    {REFUSED, {"HostRead", "this waits for the device, which device.no_host_reads() refuses"}},
    {907, {"cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"}}};
API const char* cudaGetErrorName(cudaError_t e) { auto at = errors.find(e); return at == errors.end() ? "cudaErrorOfTheFake" : at->second.first; }
API const char* cudaGetErrorString(cudaError_t e) { auto at = errors.find(e); return at == errors.end() ? "an error that the fake has no text for" : at->second.second; }
API cudaError_t cudaGetLastError() { cudaError_t e = last; last = cudaSuccess; return broken ? (cudaError_t)broken : e; }
API cudaError_t cudaDriverGetVersion(int* out) { *out = 13000; return cudaSuccess; }
API cudaError_t cudaRuntimeGetVersion(int* out) { *out = 13000; return cudaSuccess; }
API cudaError_t cudaGetDevice(int* out) { *out = 0; return cudaSuccess; }
API cudaError_t cudaSetDevice(int n) { return n ? failed(cudaErrorInvalidDevice) : cudaSuccess; }
API cudaError_t cudaGetDeviceCount(int* out) { *out = 1; return cudaSuccess; }
API cudaError_t cudaDeviceGetAttribute(int* out, cudaDeviceAttr a, int) {
    static const std::map<int, int> known = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {9, 65536},
        {10, 32}, {12, 65536}, {13, 1980000}, {16, 132}, {36, 2619000}, {37, 5120}, {38, 52428800}, {39, 2048}, {75, 9}, {76, 0}, {81, 233472},
        {82, 65536}, {95, 1}, {97, 232448}, {115, 1}};
    auto at = known.find(a);
    *out = at == known.end() ? 0 : at->second;
    return cudaSuccess;
}
API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "fake H100");
    p->totalGlobalMem = capacity(); p->sharedMemPerBlock = 49152; p->regsPerBlock = 65536; p->warpSize = 32; p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024; p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647; p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = 9; p->minor = 0; p->multiProcessorCount = 132; p->l2CacheSize = 52428800; p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerMultiprocessor = 233472; p->regsPerMultiprocessor = 65536; p->sharedMemPerBlockOptin = 232448; p->memoryBusWidth = 5120;
    p->textureAlignment = 512; p->unifiedAddressing = 1; p->concurrentKernels = 1; p->memoryPoolsSupported = 1;
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetByPCIBusId(int* out, const char*) { *out = 0; return cudaSuccess; }
API cudaError_t cudaDeviceGetPCIBusId(char* out, int n, int) { snprintf(out, n, "0000:00:00.0"); return cudaSuccess; }
API cudaError_t cudaDeviceCanAccessPeer(int* out, int, int) { *out = 0; return cudaSuccess; }
API cudaError_t cudaDeviceGetLimit(size_t* out, cudaLimit) { *out = 0; return cudaSuccess; }
API cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }
API cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* out, int) { *out = (cudaMemPool_t)1; return cudaSuccess; }
API cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* out, int) { *out = (cudaMemPool_t)1; return cudaSuccess; }
API cudaError_t cudaProfilerStart() { return cudaSuccess; }
API cudaError_t cudaProfilerStop() { return cudaSuccess; }
// ------------------------------------------------------------------------------------------------ the fake's own

API void fakecuda_submit(void* stream, const char* name, double bytes, void (*work)(void*), void* data) {      // for thrust.cpp
    auto lock = locked();
    Node node;
    node.kind = "sort"; node.name = name; node.bytes = bytes;
    node.run = [=] { work(data); };
    submit((cudaStream_t)stream, std::move(node));
}
API double fakecuda_counter(const char* name) {
    auto lock = locked();
    if (!strcmp(name, "bytes in use")) return used;
    if (!strcmp(name, "most bytes in use")) return most;
    auto at = counters.find(name);
    return at == counters.end() ? 0 : at->second;
}
API void fakecuda_reset() { auto lock = locked(); counters.clear(); kernels.clear(); most = used; broken = 0; last = cudaSuccess; }
API void fakecuda_refuse_waits(int by) { auto lock = locked(); refusing += by; }
API void fakecuda_dry(int on) { auto lock = locked(); dry = on; }
API int fakecuda_check() { auto lock = locked(); check_guards(); return broken; }
API void fakecuda_trace(const char* path) { auto lock = locked(); if (trace) fclose(trace); trace = path && *path ? fopen(path, "w") : nullptr; }
API int fakecuda_report(const char* path) {
    auto lock = locked();
    FILE* f = fopen(path, "w");
    if (!f) return 1;
    fprintf(f, "{\"counters\": {\"bytes in use\": %zu, \"most bytes in use\": %zu", used, most);
    for (auto& [name, value] : counters) fprintf(f, ", %s: %.0f", quoted(name).c_str(), value);
    fprintf(f, "}, \"kernels\": {");
    const char* comma = "";
    for (auto& [name, sum] : kernels) { fprintf(f, "%s%s: [%.0f, %.0f, %.0f]", comma, quoted(name).c_str(), sum.count, sum.bytes, sum.flops); comma = ", "; }
    fprintf(f, "}}\n");
    fclose(f);
    return 0;
}
