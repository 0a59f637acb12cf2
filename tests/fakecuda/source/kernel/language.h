// CUDA C++ as C++ for this machine: included before a source that CuPy passes to NVRTC.
#pragma once
#define __CUDACC_VER_MAJOR__ 13
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <math.h>
#include <vector_functions.h>
#include "standin.h"

#undef __shared__
#undef __device__
#undef __global__
#undef __host__
#undef __constant__
#define __shared__ static __attribute__((section("standin_shared")))
#define __device__
#define __global__
#define __host__
#define __constant__ static
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#ifndef __grid_constant__
#define __grid_constant__
#endif

#define UNCHECKED __attribute__((no_sanitize("kernel-address")))     // by the functions below
namespace standin { static Context here; }
#define threadIdx standin::here.thread
#define blockIdx standin::here.block
#define blockDim standin::here.block_dim
#define gridDim standin::here.grid_dim
#define warpSize 32

extern char __start_standin_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_standin_shared[] __attribute__((weak, visibility("hidden")));
extern "C" __attribute__((visibility("default"))) UNCHECKED standin::Context* standin_context(char** low, char** high) {
    *low = __start_standin_shared;
    *high = __stop_standin_shared;
    return &standin::here;
}

// ------------------------------------------------------------------------------------------- checks

namespace standin {
UNCHECKED inline void access(size_t p, size_t size, bool writes) {
    const Known& known = here.known[p >> 12 & 63];
    if (p < known.low || p + size > known.high) here.look_up(p, size, writes);
}
template <class I> UNCHECKED inline I checked(I i, ptrdiff_t length) {
    if (i >= 0 && ptrdiff_t(i) < length) return i;
    here.outside(i, length);
    return 0;
}

// CUPY_FOR: the elements of one thread, in either order
inline ptrdiff_t stride() { return ptrdiff_t(blockDim.x) * gridDim.x; }
inline ptrdiff_t first(ptrdiff_t n) {
    ptrdiff_t i = ptrdiff_t(blockIdx.x) * blockDim.x + threadIdx.x;
    return here.backwards && i < n ? i + (n - 1 - i) / stride() * stride() : i;
}
inline ptrdiff_t step() { return here.backwards ? -stride() : stride(); }
}
// -fsanitize=kernel-address makes the compiler call these before it reads or writes through a pointer
#define CHECK(size) \
    extern "C" UNCHECKED void __asan_load##size##_noabort(size_t p) { standin::access(p, size, false); } \
    extern "C" UNCHECKED void __asan_store##size##_noabort(size_t p) { standin::access(p, size, true); }
CHECK(1) CHECK(2) CHECK(4) CHECK(8) CHECK(16)
extern "C" UNCHECKED void __asan_loadN_noabort(size_t p, size_t size) { standin::access(p, size, false); }
extern "C" UNCHECKED void __asan_storeN_noabort(size_t p, size_t size) { standin::access(p, size, true); }
extern "C" UNCHECKED void __asan_handle_no_return() {}
extern "C" UNCHECKED void __asan_before_dynamic_init(const char*) {}
extern "C" UNCHECKED void __asan_after_dynamic_init() {}

// ------------------------------------------------------------------------------------------- barriers and shuffles

inline void __syncthreads() { standin::here.wait(standin::OF_BLOCK); }
inline void __syncwarp(unsigned = ~0u) { standin::here.wait(standin::OF_WARP); }
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace standin {
inline int thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
template <class T> T shuffle(T value, int from) {    // from: a thread of the block
    static_assert(sizeof(T) <= 16, "");
    memcpy(here.slots[thread()], &value, sizeof(T));
    here.wait(OF_WARP);
    memcpy((void*)&value, here.slots[from], sizeof(T));
    here.wait(OF_WARP);
    return value;
}
}
template <class T> T __shfl_sync(unsigned, T v, int lane, int width = 32) {
    return standin::shuffle(v, standin::thread() / width * width + (lane & (width - 1)));
}
template <class T> T __shfl_up_sync(unsigned, T v, unsigned by, int width = 32) {
    int t = standin::thread();
    return standin::shuffle(v, t % width < (int)by ? t : t - (int)by);
}
template <class T> T __shfl_down_sync(unsigned, T v, unsigned by, int width = 32) {
    int t = standin::thread();
    return standin::shuffle(v, t % width + (int)by >= width ? t : t + (int)by);
}
template <class T> T __shfl_xor_sync(unsigned, T v, int mask, int width = 32) {
    int t = standin::thread();
    return standin::shuffle(v, (t % width ^ mask) >= width ? t : t ^ mask);
}

// ------------------------------------------------------------------------------------------- atomics
// One thread runs at a time.

template <class T> using Same = std::enable_if_t<std::is_arithmetic<T>::value, T>;      // a type that is not deduced
template <class T> T atomicAdd(T* p, Same<T> v) { T old = *p; *p += v; return old; }
template <class T> T atomicSub(T* p, Same<T> v) { T old = *p; *p -= v; return old; }
template <class T> T atomicExch(T* p, T v) { T old = *p; *p = v; return old; }
template <class T> T atomicCAS(T* p, T expected, T v) { T old = *p; if (old == expected) *p = v; return old; }
template <class T> T atomicMin(T* p, T v) { T old = *p; if (v < old) *p = v; return old; }
template <class T> T atomicMax(T* p, T v) { T old = *p; if (v > old) *p = v; return old; }
template <class T> T atomicAnd(T* p, T v) { T old = *p; *p &= v; return old; }
template <class T> T atomicOr(T* p, T v) { T old = *p; *p |= v; return old; }
template <class T> T atomicXor(T* p, T v) { T old = *p; *p ^= v; return old; }

// ------------------------------------------------------------------------------------------- functions

namespace standin {
template <class To, class From> To bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
}
inline int __float_as_int(float x) { return standin::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return standin::bits<unsigned>(x); }
inline float __int_as_float(int x) { return standin::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return standin::bits<float>(x); }
inline long long __double_as_longlong(double x) { return standin::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return standin::bits<double>(x); }
inline int __double2hiint(double x) { return int(standin::bits<long long>(x) >> 32); }
inline int __double2loint(double x) { return int(standin::bits<long long>(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
template <class T> T __ldg(const T* p) { return *p; }

template <class A, class B> using Both = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value,
                                                          std::common_type_t<A, B>>;
template <class A, class B> Both<A, B> min(A a, B b) {
    Both<A, B> x = a, y = b;
    if constexpr (std::is_floating_point<Both<A, B>>::value) return std::fmin(x, y); else return y < x ? y : x;
}
template <class A, class B> Both<A, B> max(A a, B b) {
    Both<A, B> x = a, y = b;
    if constexpr (std::is_floating_point<Both<A, B>>::value) return std::fmax(x, y); else return x < y ? y : x;
}
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }

// CUDA's mathematical functions that C++ lacks
#define __noinline__
inline double sinpi(double x) { return std::sin(M_PI * std::remainder(x, 2.0)); }
inline double cospi(double x) { return std::cos(M_PI * std::remainder(x, 2.0)); }
inline double normcdf(double x) { return std::erfc(-x / M_SQRT2) / 2.0; }
inline float normcdff(float x) { return normcdf(x); }
inline double erfcx(double x) {
    if (x > 100.0) return (1.0 - 0.5 / (x * x)) / (x * std::sqrt(M_PI));
    return double(std::exp((long double)x * x) * std::erfc((long double)x));
}
inline float erfcxf(float x) { return erfcx(x); }
inline double cyl_bessel_i0(double x) { return std::cyl_bessel_i(0.0, std::fabs(x)); }
inline double cyl_bessel_i1(double x) { return std::copysign(std::cyl_bessel_i(1.0, std::fabs(x)), x); }
inline double erfcinv(double p) {                       // by Newton's method, from an approximation of Winitzki's
    if (!(0.0 < p && p < 1.0)) return p == 1.0 ? 0.0 : p == 0.0 ? INFINITY : 1.0 < p && p <= 2.0 ? -erfcinv(2.0 - p) : NAN;
    double logarithm = std::log(p * (2.0 - p)), t = 2.0 / (M_PI * 0.147) + logarithm / 2.0;
    double y = std::sqrt(std::sqrt(t * t - logarithm / 0.147) - t);
    for (int i = 0; i < 6; i++) y += (std::erfc(y) - p) * std::sqrt(M_PI) / 2.0 * std::exp(y * y);
    return y;
}
inline double erfinv(double x) { return x < 0.0 ? -erfinv(-x) : erfcinv(1.0 - x); }
