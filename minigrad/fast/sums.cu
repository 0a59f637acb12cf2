// Sums over all axes but the last, of arrays (count, C): channels last.
//
// Sums are taken in double: of each block's rows first, then over the blocks, in a fixed order, so that the same bits
// come out every time. Which block ends last differs from time to time; that one adds up what all have left in memory.
//
// kernel: sums<float>
// kernel: sums<double>

#define THREADS 256
enum { PLAIN = 0, MOMENTS = 1, CENTERED = 2 };

// sums[k, c] over the rows of this thread of the first and the second number, then of the whole block in shared memory;
// true for the thread that holds the sum of channel c. width: channels side by side in a block, a power of 2.
__device__ bool block_sums(double (&sums)[2], double (*shared)[THREADS], int width) {
    int t = threadIdx.x;
    shared[0][t] = sums[0];
    shared[1][t] = sums[1];
    for (int half = THREADS / 2; half >= width; half /= 2) {
        __syncthreads();
        if (t < half) {
            shared[0][t] += shared[0][t + half];
            shared[1][t] += shared[1][t + half];
        }
    }
    sums[0] = shared[0][t];
    sums[1] = shared[1][t];
    return t < width;
}

// Write result[0, c] = sum of a' and result[1, c] = sum of a' b over all rows, with
//     PLAIN     a' = a            b = 0
//     MOMENTS   a' = a - shift    b = a'          shift = a[0], or 0 where that is not finite: it cancels less
//     CENTERED  a' = a            b = x - mean    a' = 0 where gated and y = 0
// for MOMENTS the mean and the variance instead. Of the blocks (group, block) each group has `width` channels, and each
// block of it some of the rows. partial: (blocks, 2, C), and counters: (groups,), which are 0 before and after: how many
// blocks of the group have ended. One block needs neither.
template <class T>
__global__ void sums(const T* a, const T* x, const T* mean, const T* y, double* partial, unsigned* counters, T* result,
                     long long count, long long C, int width, int kind, int gated) {
    __shared__ double shared[2][THREADS];
    __shared__ bool is_last;
    int lane = threadIdx.x / width, lanes = THREADS / width, blocks = gridDim.y;
    long long c = (long long)blockIdx.x * width + threadIdx.x % width;
    double total[2] = {0.0, 0.0}, shift = 0.0;
    if (c < C) {
        if (kind == MOMENTS && isfinite(a[c])) shift = a[c];
        for (long long row = (long long)blockIdx.y * lanes + lane; row < count; row += (long long)blocks * lanes) {
            long long i = row * C + c;
            double first = a[i], second = 0.0;
            if (kind == MOMENTS) second = first -= shift;
            if (kind == CENTERED) second = x[i] - mean[c];
            if (gated && y[i] == 0) first = 0.0;
            total[0] += first;
            total[1] += first * second;
        }
    }
    bool holds = block_sums(total, shared, width) && c < C;
    if (blocks > 1) {
        if (holds)
            for (int k = 0; k < 2; k++) partial[(blockIdx.y * 2 + k) * C + c] = total[k];
        __syncthreads();
        if (threadIdx.x == 0) {
            __threadfence();                            // whoever sees this block counted, sees what it has written
            is_last = atomicAdd(&counters[blockIdx.x], 1u) == blocks - 1;
            __threadfence();
        }
        __syncthreads();
        if (!is_last) return;
        total[0] = total[1] = 0.0;
        if (c < C)
            for (int block = lane; block < blocks; block += lanes)
                for (int k = 0; k < 2; k++) total[k] += partial[(block * 2 + k) * C + c];
        holds = block_sums(total, shared, width) && c < C;
        if (threadIdx.x == 0) counters[blockIdx.x] = 0;
    }
    if (!holds) return;
    if (kind == MOMENTS) {
        double far = total[0] / count, square = total[1] / count - far * far;
        total[0] = shift + far;
        total[1] = square < 0.0 ? 0.0 : square;         // NaN stays
    }
    result[c] = total[0];
    result[C + c] = total[1];
}
