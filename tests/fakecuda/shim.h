// CUDA C++ as C++ for the host: included before a source that CuPy hands to NVRTC.
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
#include "kernel.h"

static fk_context fk_here;
extern "C" __attribute__((visibility("default"))) fk_context* fk_get_context() { return &fk_here; }
#define threadIdx fk_here.thread
#define blockIdx fk_here.block
#define blockDim fk_here.block_dim
#define gridDim fk_here.grid_dim
#define warpSize 32
#undef __shared__
#define __shared__ static
#undef __device__
#define __device__
#undef __global__
#define __global__
#undef __host__
#define __host__
#undef __constant__
#define __constant__ static
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#ifndef __grid_constant__
#define __grid_constant__
#endif

inline void __syncthreads() { fk_here.wait(0); }
inline void __syncwarp(unsigned = ~0u) { fk_here.wait(1); }
inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T> T fk_shuffle(T value, int from) {            // from: thread of the block
    int here = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    static_assert(sizeof(T) <= 16, "");
    memcpy(fk_here.slots[here], &value, sizeof(T));
    fk_here.wait(1);
    memcpy((void*)&value, fk_here.slots[from], sizeof(T));
    fk_here.wait(1);
    return value;
}
inline int fk_thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
template <class T> T __shfl_sync(unsigned, T v, int lane, int width = 32) {
    int t = fk_thread(); return fk_shuffle(v, t / width * width + (lane & (width - 1))); }
template <class T> T __shfl_up_sync(unsigned, T v, unsigned by, int width = 32) {
    int t = fk_thread(); return fk_shuffle(v, t % width < (int)by ? t : t - (int)by); }
template <class T> T __shfl_down_sync(unsigned, T v, unsigned by, int width = 32) {
    int t = fk_thread(); return fk_shuffle(v, t % width + (int)by >= width ? t : t + (int)by); }
template <class T> T __shfl_xor_sync(unsigned, T v, int mask, int width = 32) {
    int t = fk_thread(); return fk_shuffle(v, (t % width ^ mask) >= width ? t : t ^ mask); }

template <class To, class From> To fk_bits(From x) { To y; static_assert(sizeof x == sizeof y, ""); memcpy(&y, &x, sizeof y); return y; }
inline int __float_as_int(float x) { return fk_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return fk_bits<unsigned>(x); }
inline float __int_as_float(int x) { return fk_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return fk_bits<float>(x); }
inline long long __double_as_longlong(double x) { return fk_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return fk_bits<double>(x); }
inline int __double2hiint(double x) { return int(fk_bits<long long>(x) >> 32); }
inline int __double2loint(double x) { return int(fk_bits<long long>(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
template <class T> T __ldg(const T* p) { return *p; }

// one thread runs at a time, so these are atomic
template <class T> T atomicAdd(T* p, std::enable_if_t<std::is_arithmetic<T>::value, T> v) { T o = *p; *p += v; return o; }
template <class T> T atomicSub(T* p, std::enable_if_t<std::is_arithmetic<T>::value, T> v) { T o = *p; *p -= v; return o; }
template <class T> T atomicExch(T* p, T v) { T o = *p; *p = v; return o; }
template <class T> T atomicCAS(T* p, T old, T v) { T o = *p; if (o == old) *p = v; return o; }
template <class T> T atomicMin(T* p, T v) { T o = *p; if (v < o) *p = v; return o; }
template <class T> T atomicMax(T* p, T v) { T o = *p; if (v > o) *p = v; return o; }
template <class T> T atomicAnd(T* p, T v) { T o = *p; *p &= v; return o; }
template <class T> T atomicOr(T* p, T v) { T o = *p; *p |= v; return o; }
template <class T> T atomicXor(T* p, T v) { T o = *p; *p ^= v; return o; }

template <class A, class B> using fk_both = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value, std::common_type_t<A, B>>;
template <class A, class B> fk_both<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>; T x = a, y = b;
    if constexpr (std::is_floating_point<T>::value) return std::fmin(x, y); else return y < x ? y : x; }
template <class A, class B> fk_both<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>; T x = a, y = b;
    if constexpr (std::is_floating_point<T>::value) return std::fmax(x, y); else return x < y ? y : x; }
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
