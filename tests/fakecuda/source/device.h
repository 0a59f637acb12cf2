// What the parts of the stand-in share. Memory of the device is memory of the host; work for the device is a list of
// operations, each run at once, as late as CUDA allows (FAKECUDA_LAZY=1), or whenever a graph is launched.
#pragma once
#include <cuda_runtime_api.h>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

struct Operation {
    std::string kind, name;                          // kernel, gemm, dot, sort, copy, memset, graph ...
    std::function<void()> run;
    std::array<unsigned, 3> grid{}, block{};
    double bytes = 0, flops = 0;
    std::string more;                                // further entries for the trace, as JSON
};
enum Capture { NONE, ACTIVE, INVALID };
struct CUgraph_st { std::vector<Operation> nodes; };
struct CUgraphExec_st { std::shared_ptr<std::vector<Operation>> nodes; };
struct CUstream_st {
    bool blocking = true;                            // whether it and the legacy stream wait for each other
    Capture capture = NONE;
    int mode = 0;                                    // of the capture
    CUgraph_st* graph = nullptr;
    std::deque<Operation> queue;
    unsigned long long submitted = 0, done = 0;
};
struct CUevent_st {
    CUstream_st* stream = nullptr;
    unsigned long long at = 0;                       // operations submitted before it was recorded
    bool captured = false;
    double time = 0;
};

// counters.cpp
std::unique_lock<std::recursive_mutex> locked();
bool flag(const char* variable, bool otherwise);
void count(const std::string& what, double by = 1);
void note(const Operation& operation, bool captured);
std::string quoted(const std::string& text);
cudaError_t failed(int error);                       // returns the error, and keeps it for cudaGetLastError
void fault(const std::string& what, int error);      // of a kernel, say: no call succeeds after it
const std::string& fault_text();
bool refused();                                      // whether device.no_host_reads() refuses a wait now
bool is_dry();
extern int broken;                                   // the error of the first fault
constexpr int HOST_READ = 9999;                      // the error of a wait that is refused
#define LOCK auto lock = locked(); if (broken) return failed(broken)

// memory.cpp
bool inside(const void* low, const void* high);      // whether these bytes lie in one allocation of the device
bool is_pinned(const void* p);
void check_guards();
void repair_guards();
struct Region { size_t low, high; bool guard; };
Region region_of(size_t address);                    // the allocation, guard or space between them around it
size_t bytes_in_use(bool most);
void reset_most_bytes();
size_t capacity();

// streams.cpp
extern std::set<CUstream_st*> streams;
extern CUstream_st legacy;
CUstream_st* stream_of(cudaStream_t stream);         // null for one that does not exist
cudaError_t submit(cudaStream_t stream, Operation operation);
cudaError_t finish(CUstream_st* stream);             // run all that has been submitted to it
cudaError_t finish_all();
bool any_capturing();
bool legacy_is_forbidden();                          // while a stream that waits for it is capturing
cudaError_t refuse_in_capture();                     // of calls like cudaMalloc: error, and the captures are invalid
void invalidate_captures();
