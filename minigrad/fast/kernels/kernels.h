// What all kernels share: the number type T, vectors of L numbers, and loads and stores of a part of one.
//
// The vectors are an extension of GCC and Clang: arithmetic acts on all lanes, a comparison gives a mask of integers.
// The compiler makes AVX-512, AVX, SSE or NEON of the same text.
#include <stddef.h>

#ifndef T
#define T float                         // or double: -DT=double
#endif
// Bytes of a vector, and the size of a register tile (README.md): MOST rows of VECTORS vectors. The sums of a tile and
// VECTORS + 1 more vectors fit into the 32 or 16 vector registers of the processor.
#if defined(__AVX512F__)
#define BYTES 64
#define VECTORS 1
#define MOST 24
#elif defined(__AVX__)
#define BYTES 32
#define VECTORS 2
#define MOST 6
#elif defined(__aarch64__)
#define BYTES 16
#define VECTORS 4
#define MOST 6
#else
#define BYTES 16
#define VECTORS 2
#define MOST 6
#endif
#define L (BYTES / (index)sizeof(T))    // numbers in a vector
#define W (VECTORS * L)                 // ... and in a row of a tile

typedef ptrdiff_t index;
typedef T V __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));     // at any address of a T
typedef __typeof__(__builtin_choose_expr(sizeof(T) == sizeof(int), 0, 0LL)) lane;      // an integer as wide as T
typedef lane M __attribute__((vector_size(BYTES)));                                 // masks, and indices

#define INLINE static inline __attribute__((always_inline))
#define KERNEL __attribute__((visibility("default")))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

INLINE index least(index a, index b) { return a < b ? a : b; }
INLINE index most(index a, index b) { return a > b ? a : b; }

// n numbers from p, and zeros: where n is the constant L, one instruction.
INLINE V load(const T *p, index n) {
    if (n == L) return *(const V *)p;
    V v = {0};
    for (index i = 0; i < n; i++) v[i] = p[i];
    return v;
}

// L numbers that lie `stride` apart.
INLINE V gather(const T *p, index stride) {
    V v = {0};
    if (stride == 1) return load(p, L);
    for (index i = 0; i < L; i++) v[i] = p[i * stride];
    return v;
}

INLINE void store(T *p, V v, index n) {
    if (n == L) *(V *)p = v;
    else for (index i = 0; i < n; i++) p[i] = v[i];
}

// v where the mask holds, else 0, whatever v is there.
INLINE V select(V v, M when) { return (V)((M)v & when); }
