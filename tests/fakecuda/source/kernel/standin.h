// What a compiled kernel (language.h) and the stand-in (kernels.cpp) know of each other.
#pragma once
#include <cstddef>
#include <vector_types.h>

namespace standin {
enum Barrier { OF_BLOCK, OF_WARP };
struct Known { size_t low, high; };                  // addresses that may be read and written
struct Context {                                     // one in every library of kernels: what its threads see
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    char* dynamic_shared;
    char (*slots)[16];                               // of a warp shuffle, one for each thread of the block
    bool backwards;
    Known known[64];                                 // for every page modulo 64
    void (*wait)(int barrier);
    void (*look_up)(size_t address, size_t size, bool writes);     // an address that is not in `known`
    void (*outside)(long index, long length);        // reports an index that is outside of an array
};
enum { HAS_BARRIERS = 1, IS_ONE_LOOP = 2 };
struct Kernel {                                      // one for every kernel, "standin_" and its name
    unsigned count;                                  // of parameters
    const unsigned* sizes;
    const char* kinds;                               // p: pointer, f, i, u: number, s: anything else
    void (*run_thread)(void** args);
    size_t (*bytes)(void** args);                    // of the arrays that it gets as CArray
    const char* (*find_fault)(void** args, bool (*inside)(const void*, const void*));     // null if there is none
    int traits;
};
}
