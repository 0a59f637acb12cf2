// What the stand-in says of itself: an H100 as far as programs ask, and the texts of errors.
#include <cstdio>
#include <cstring>
#include <map>
#include "device.h"

static const std::map<int, std::pair<const char*, const char*>> errors = {
    {0, {"cudaSuccess", "no error"}},
    {1, {"cudaErrorInvalidValue", "invalid argument"}},
    {2, {"cudaErrorMemoryAllocation", "out of memory"}},
    {101, {"cudaErrorInvalidDevice", "invalid device ordinal"}},
    {200, {"cudaErrorInvalidKernelImage", "device kernel image is invalid"}},
    {400, {"cudaErrorInvalidResourceHandle", "invalid resource handle"}},
    {401, {"cudaErrorIllegalState", "the operation cannot be performed in the present state"}},
    {600, {"cudaErrorNotReady", "device not ready"}},
    {700, {"cudaErrorIllegalAddress", "an illegal memory access was encountered"}},
    {719, {"cudaErrorLaunchFailure", "unspecified launch failure"}},
    {801, {"cudaErrorNotSupported", "operation not supported"}},
    {900, {"cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"}},
    {901, {"cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"}},
    {905, {"cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"}},
    {906, {"cudaErrorStreamCaptureImplicit",
           "operation would make the legacy stream depend on a capturing blocking stream"}},
    {907, {"cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"}},
    {HOST_READ, {"HostRead", "this waits for the device, which device.no_host_reads() refuses"}}};

API const char* cudaGetErrorName(cudaError_t error) {
    auto found = errors.find(error);
    return found == errors.end() ? "cudaErrorUnknown" : found->second.first;
}
API const char* cudaGetErrorString(cudaError_t error) {
    if (error && error == broken) return fault_text().c_str();
    auto found = errors.find(error);
    return found == errors.end() ? "an error that the stand-in has no text for" : found->second.second;
}

API cudaError_t cudaDriverGetVersion(int* out) { *out = 13000; return cudaSuccess; }
API cudaError_t cudaRuntimeGetVersion(int* out) { *out = 13000; return cudaSuccess; }
API cudaError_t cudaGetDevice(int* out) { *out = 0; return cudaSuccess; }
API cudaError_t cudaSetDevice(int device) { return device ? failed(cudaErrorInvalidDevice) : cudaSuccess; }
API cudaError_t cudaGetDeviceCount(int* out) { *out = 1; return cudaSuccess; }
API cudaError_t cudaDeviceGetAttribute(int* out, cudaDeviceAttr attribute, int) {
    static const std::map<int, int> known = {        // cudaDeviceAttr: value
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {9, 65536},
        {10, 32}, {12, 65536}, {13, 1980000}, {16, 132}, {36, 2619000}, {37, 5120}, {38, 52428800}, {39, 2048}, {75, 9},
        {76, 0}, {81, 233472}, {82, 65536}, {95, 1}, {97, 232448}, {115, 1}};
    auto found = known.find(attribute);
    *out = found == known.end() ? 0 : found->second;
    return cudaSuccess;
}
API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
    *p = {};
    strcpy(p->name, "stand-in for an H100");
    p->major = 9;
    p->multiProcessorCount = 132;
    p->totalGlobalMem = capacity();
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = 232448;
    p->sharedMemPerMultiprocessor = 233472;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->l2CacheSize = 52428800;
    p->memoryBusWidth = 5120;
    p->textureAlignment = 512;
    p->unifiedAddressing = p->concurrentKernels = p->memoryPoolsSupported = 1;
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetByPCIBusId(int* out, const char*) { *out = 0; return cudaSuccess; }
API cudaError_t cudaDeviceGetPCIBusId(char* out, int size, int) {
    snprintf(out, size, "0000:00:00.0");
    return cudaSuccess;
}
API cudaError_t cudaDeviceCanAccessPeer(int* out, int, int) { *out = 0; return cudaSuccess; }
API cudaError_t cudaDeviceGetLimit(size_t* out, cudaLimit) { *out = 0; return cudaSuccess; }
API cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }
API cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* out, int) { *out = (cudaMemPool_t)1; return cudaSuccess; }
API cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* out, int) { *out = (cudaMemPool_t)1; return cudaSuccess; }
API cudaError_t cudaProfilerStart() { return cudaSuccess; }
API cudaError_t cudaProfilerStop() { return cudaSuccess; }
