// Streams, events, and the capture of a stream into a graph, with what CUDA refuses meanwhile (errors 900 to 907).
#include <chrono>
#include <cstdio>
#include "device.h"

std::set<CUstream_st*> streams;
CUstream_st legacy;
static const bool lazy = flag("FAKECUDA_LAZY", false);

// ------------------------------------------------------------------------------------------- work

static void run(Operation& operation) {
    bool counted_only = is_dry() && (operation.kind == "kernel" || operation.kind == "gemm");
    if (!broken && !counted_only) operation.run();
}
static void run_until(CUstream_st* stream, unsigned long long count) {
    while (stream->done < count && !stream->queue.empty()) {
        Operation operation = std::move(stream->queue.front());
        stream->queue.pop_front();
        run(operation);
        stream->done++;
    }
}
static bool exists(CUstream_st* stream) { return stream == &legacy || streams.count(stream); }
CUstream_st* stream_of(cudaStream_t stream) {        // 0 and 1: legacy; 2: that of the thread, as which it serves too
    if ((size_t)stream <= 2) return &legacy;
    return streams.count(stream) ? stream : nullptr;
}
cudaError_t finish(CUstream_st* stream) {
    if (stream->capture == NONE) run_until(stream, stream->submitted);
    return (cudaError_t)broken;
}
cudaError_t finish_all() {
    for (auto* stream : streams) finish(stream);
    return finish(&legacy);
}
static void finish_blocking() { for (auto* stream : streams) if (stream->blocking) finish(stream); }

bool any_capturing() { for (auto* s : streams) if (s->capture == ACTIVE) return true; return false; }
void invalidate_captures() { for (auto* s : streams) if (s->capture == ACTIVE) s->capture = INVALID; }
bool legacy_is_forbidden() {
    for (auto* s : streams) if (s->capture == ACTIVE && s->blocking) return true;
    return false;
}
static cudaError_t refuse_legacy() { invalidate_captures(); return failed(cudaErrorStreamCaptureImplicit); }
cudaError_t refuse_in_capture() {
    for (auto* s : streams)
        if (s->capture == ACTIVE && s->mode != cudaStreamCaptureModeRelaxed) {
            invalidate_captures();
            return failed(cudaErrorStreamCaptureUnsupported);
        }
    return cudaSuccess;
}

cudaError_t submit(cudaStream_t stream, Operation operation) {
    if (broken) return failed(broken);
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == INVALID) return failed(cudaErrorStreamCaptureInvalidated);
    if (s->capture == ACTIVE) {
        note(operation, true);
        s->graph->nodes.push_back(std::move(operation));
        return cudaSuccess;
    }
    if (s == &legacy && legacy_is_forbidden()) return refuse_legacy();
    note(operation, false);
    s->submitted++;
    if (!lazy) {
        run(operation);
        s->done++;
        return failed(broken);
    }
    if (s == &legacy) finish_blocking();             // its work comes after theirs, and theirs after its
    else if (s->blocking) finish(&legacy);
    s->queue.push_back(std::move(operation));
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------- streams

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned flags, int) {
    LOCK;
    *out = new CUstream_st;
    (*out)->blocking = !(flags & cudaStreamNonBlocking);
    streams.insert(*out);
    count("streams");
    return cudaSuccess;
}
API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) {
    return cudaStreamCreateWithPriority(out, flags, 0);
}
API cudaError_t cudaStreamCreate(cudaStream_t* out) { return cudaStreamCreateWithPriority(out, 0, 0); }
API cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* out) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    *out = s->blocking ? cudaStreamDefault : cudaStreamNonBlocking;
    return cudaSuccess;
}
API cudaError_t cudaStreamGetPriority(cudaStream_t, int* out) { *out = 0; return cudaSuccess; }
API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    auto lock = locked();
    if (!streams.count(stream)) return failed(cudaErrorInvalidResourceHandle);
    if (stream->capture != NONE) {
        delete stream->graph;
        stream->capture = NONE;
        count("streams destroyed in a capture");
    }
    finish(stream);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}
static cudaError_t refuse_query(CUstream_st* s) {    // a stream that is capturing cannot be asked or waited for
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == INVALID) return failed(cudaErrorStreamCaptureInvalidated);
    if (s->capture == ACTIVE) { s->capture = INVALID; return failed(cudaErrorStreamCaptureUnsupported); }
    if (s == &legacy && legacy_is_forbidden()) return refuse_legacy();
    return cudaSuccess;
}
API cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (cudaError_t error = refuse_query(s)) return error;
    if (refused()) return failed(HOST_READ);
    count("waits: stream");
    if (s == &legacy) finish_blocking();
    return failed(finish(s));
}
API cudaError_t cudaStreamQuery(cudaStream_t stream) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (cudaError_t error = refuse_query(s)) return error;
    return s->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
API cudaError_t cudaDeviceSynchronize() {
    LOCK;
    if (any_capturing()) { invalidate_captures(); return failed(cudaErrorStreamCaptureUnsupported); }
    if (refused()) return failed(HOST_READ);
    count("waits: device");
    finish_all();
    check_guards();
    return failed(broken);
}
API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void* data) {
    LOCK;
    Operation operation;
    operation.kind = "host function";
    operation.run = [=] { f(data); };
    return submit(stream, std::move(operation));
}
API cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t f, void* data, unsigned) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture != NONE) { s->capture = INVALID; return failed(cudaErrorStreamCaptureUnsupported); }
    Operation operation;
    operation.kind = "callback";
    operation.run = [=] { f(stream, cudaSuccess, data); };
    return submit(stream, std::move(operation));
}

// ------------------------------------------------------------------------------------------- events

API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) {
    LOCK;
    *out = new CUevent_st;
    return cudaSuccess;
}
API cudaError_t cudaEventCreate(cudaEvent_t* out) { return cudaEventCreateWithFlags(out, 0); }
API cudaError_t cudaEventDestroy(cudaEvent_t e) { auto lock = locked(); delete e; return cudaSuccess; }
API cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == INVALID) return failed(cudaErrorStreamCaptureInvalidated);
    auto now = std::chrono::steady_clock::now().time_since_epoch();
    *e = {s, s->submitted, s->capture == ACTIVE, std::chrono::duration<double, std::milli>(now).count()};
    return cudaSuccess;
}
static cudaError_t refuse_captured(cudaEvent_t e) {
    if (!e->captured) return cudaSuccess;
    if (e->stream->capture == ACTIVE) e->stream->capture = INVALID;
    return failed(cudaErrorCapturedEvent);
}
API cudaError_t cudaEventQuery(cudaEvent_t e) {
    LOCK;
    if (cudaError_t error = refuse_captured(e)) return error;
    return exists(e->stream) && e->stream->done < e->at ? cudaErrorNotReady : cudaSuccess;
}
API cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    LOCK;
    if (cudaError_t error = refuse_captured(e)) return error;
    if (refused()) return failed(HOST_READ);
    count("waits: event");
    if (exists(e->stream)) run_until(e->stream, e->at);
    return failed(broken);
}
API cudaError_t cudaEventElapsedTime(float* out, cudaEvent_t a, cudaEvent_t b) {
    LOCK;
    *out = float(b->time - a->time);
    return cudaSuccess;
}
API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned) {
    LOCK;
    CUstream_st *s = stream_of(stream), *other = e->stream;
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s->capture == ACTIVE && !e->captured) { s->capture = INVALID; return failed(cudaErrorStreamCaptureIsolation); }
    if (s->capture != NONE || !other || other == s || !lazy) return cudaSuccess;
    auto at = e->at;
    Operation operation;
    operation.kind = "wait";
    operation.run = [=] { if (exists(other)) run_until(other, at); };
    s->submitted++;
    s->queue.push_back(std::move(operation));
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------- graphs

API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s == &legacy) return failed(cudaErrorStreamCaptureImplicit);
    if (s->capture != NONE) return failed(cudaErrorIllegalState);
    s->capture = ACTIVE;
    s->mode = mode;
    s->graph = new CUgraph_st;
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
    s->capture = NONE;
    s->graph = nullptr;
    if (valid) {
        *out = graph;
        return cudaSuccess;
    }
    delete graph;
    count("captures invalidated");
    return failed(cudaErrorStreamCaptureInvalidated);
}
API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* out) {
    LOCK;
    CUstream_st* s = stream_of(stream);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s == &legacy && legacy_is_forbidden()) return refuse_legacy();
    *out = s->capture == NONE ? cudaStreamCaptureStatusNone
        : s->capture == ACTIVE ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
}
API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
    LOCK;
    *out = new CUgraphExec_st{std::make_shared<std::vector<Operation>>(graph->nodes)};
    count("graphs made");
    return cudaSuccess;
}
API cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    LOCK;
    auto nodes = graph->nodes;                       // a launch outlives the graph
    Operation operation;
    operation.kind = "graph";
    operation.name = std::to_string(nodes->size()) + " nodes";
    operation.run = [nodes] { for (auto& node : *nodes) run(node); };
    count("nodes of graphs launched", nodes->size());
    return submit(stream, std::move(operation));
}
API cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
API cudaError_t cudaGraphDestroy(cudaGraph_t graph) { auto lock = locked(); delete graph; return cudaSuccess; }
API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    auto lock = locked();
    if (any_capturing()) count("graphs destroyed in a capture");
    delete graph;
    return cudaSuccess;
}
API cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char* path, unsigned) {
    LOCK;
    FILE* file = fopen(path, "w");
    if (!file) return failed(cudaErrorOperatingSystem);
    fprintf(file, "digraph dot {\n");
    for (size_t i = 0; i < graph->nodes.size(); i++) {
        fprintf(file, "\"graph_0_node_%zu\"[label=\"%zu\n%s\n\"];\n", i, i, graph->nodes[i].name.c_str());
        if (i) fprintf(file, "\"graph_0_node_%zu\" -> \"graph_0_node_%zu\";\n", i - 1, i);
    }
    fprintf(file, "}\n");
    fclose(file);
    return cudaSuccess;
}
API void fakecuda_submit(void* stream, const char* name, double bytes, void (*work)(void*), void* data) {  // thrust.cpp
    auto lock = locked();
    Operation operation;
    operation.kind = "sort";
    operation.name = name;
    operation.bytes = bytes;
    operation.run = [=] { work(data); };
    submit((cudaStream_t)stream, std::move(operation));
}
