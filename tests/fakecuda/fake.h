// The fake device: memory of the host, work that is done at once, later (FAKECUDA_LAZY=1) or in a graph.
#pragma once
#include <cuda_runtime_api.h>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <array>
#include <string>
#include <vector>
#include "kernel.h"

#define API extern "C" __attribute__((visibility("default")))

struct Node {                                        // a piece of work of the device
    std::string kind, name;                          // kernel, gemm, memset, copy ...
    std::function<void()> run;
    std::array<unsigned, 3> grid{}, block{};
    double bytes = 0, flops = 0;
    std::string more;                                // for the trace: what else there is to say, as JSON
};
struct CUgraph_st { std::vector<Node> nodes; };
struct CUgraphExec_st { std::shared_ptr<std::vector<Node>> nodes; };
enum Capture { NONE, ACTIVE, INVALID };
struct CUstream_st {
    bool blocking = true;                            // to and for the legacy stream
    Capture capture = NONE;
    int mode = 0;
    CUgraph_st* graph = nullptr;
    std::deque<Node> queue;
    unsigned long long submitted = 0, done = 0;
};
struct CUevent_st { CUstream_st* stream = nullptr; unsigned long long at = 0; bool captured = false; double time = 0; };

std::unique_lock<std::recursive_mutex> locked();
CUstream_st* stream_of(cudaStream_t stream);
cudaError_t submit(cudaStream_t stream, Node node);
cudaError_t wait_for(CUstream_st* stream);           // until it has done everything
bool inside(const void* low, const void* high);      // whether these bytes lie in one piece of device memory
bool host_memory_is_pinned(const void* p);
bool refused();                                      // whether a wait for the device is refused now
void count(const char* what, double by = 1);
void fault(const std::string& what, int error);      // of a kernel: no call succeeds after it
std::string quoted(const std::string& text);
extern int broken;
