// What the stand-in counts and reports, its faults and its switches: the C side of device.py.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include "device.h"

struct Sum { double count = 0, bytes = 0, flops = 0; };
static std::recursive_mutex mutex;
static std::map<std::string, double> counters;
static std::map<std::string, Sum> sums;              // for each kernel, copy ...
static FILE* trace = nullptr;
static std::string text_of_fault;
static thread_local int last = 0;
static int refusing = 0;                             // how many device.no_host_reads() are open
static bool dry = flag("FAKECUDA_DRY", false);
int broken = 0;

std::unique_lock<std::recursive_mutex> locked() { return std::unique_lock<std::recursive_mutex>(mutex); }

bool flag(const char* variable, bool otherwise) {
    const char* value = getenv(variable);
    return value && *value ? *value != '0' : otherwise;
}

bool is_dry() { return dry; }

void count(const std::string& what, double by) { counters[what] += by; }

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c >= ' ') out += c;
    }
    return out + "\"";
}

void note(const Operation& operation, bool captured) {
    Sum& sum = sums[operation.name.empty() ? operation.kind : operation.kind + " " + operation.name];
    sum.count++; sum.bytes += operation.bytes; sum.flops += operation.flops;
    count(captured ? "nodes captured" : "operations");
    std::string plural = operation.kind == "copy" ? "copies" : operation.kind + "s";
    count(captured ? plural + " captured" : plural);
    if (!trace) return;
    auto &g = operation.grid, &b = operation.block;
    fprintf(trace, "{\"op\": %s, \"name\": %s, \"how\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], "
            "\"bytes\": %.0f, \"flops\": %.0f%s%s}\n", quoted(operation.kind).c_str(), quoted(operation.name).c_str(),
            captured ? "captured" : "run", g[0], g[1], g[2], b[0], b[1], b[2], operation.bytes, operation.flops,
            operation.more.empty() ? "" : ", ", operation.more.c_str());
}

cudaError_t failed(int error) {
    if (error && error != HOST_READ) last = error;
    return (cudaError_t)error;
}

void fault(const std::string& what, int error) {
    counters["faults"]++;
    if (broken) return;
    broken = error;
    text_of_fault = what;
    fprintf(stderr, "fakecuda: %s\n", what.c_str());
}

const std::string& fault_text() { return text_of_fault; }

bool refused() {
    if (refusing) count("waits refused");
    return refusing;
}

API cudaError_t cudaGetLastError() {
    int error = broken ? broken : last;
    last = 0;
    return (cudaError_t)error;
}
API cudaError_t cudaPeekAtLastError() { return (cudaError_t)(broken ? broken : last); }

extern "C" int fakecuda_lacks(const char* name, int error) {          // of a function that is not there: see build.py
    auto lock = locked();
    count(std::string("calls of what is lacking: ") + name);
    return error;
}

// ------------------------------------------------------------------------------------------- for device.py

API void fakecuda_reset() {
    auto lock = locked();
    counters.clear();
    sums.clear();
    reset_most_bytes();
    repair_guards();
    broken = last = 0;
}
API void fakecuda_dry(int on) { auto lock = locked(); dry = on; }
API void fakecuda_refuse_waits(int by) { auto lock = locked(); refusing += by; }
API int fakecuda_check() { auto lock = locked(); check_guards(); return broken; }
API void fakecuda_trace(const char* path) {
    auto lock = locked();
    if (trace) fclose(trace);
    trace = path ? fopen(path, "w") : nullptr;
}
API int fakecuda_report(const char* path) {
    auto lock = locked();
    FILE* file = fopen(path, "w");
    if (!file) return 1;
    fprintf(file, "{\"counters\": {\"bytes in use\": %zu, \"most bytes in use\": %zu", bytes_in_use(false),
            bytes_in_use(true));
    for (auto& [name, value] : counters) fprintf(file, ", %s: %.0f", quoted(name).c_str(), value);
    fprintf(file, "}, \"kernels\": {");
    const char* comma = "";
    for (auto& [name, sum] : sums) {
        fprintf(file, "%s%s: [%.0f, %.0f, %.0f]", comma, quoted(name).c_str(), sum.count, sum.bytes, sum.flops);
        comma = ", ";
    }
    fprintf(file, "}}\n");
    return fclose(file);
}
