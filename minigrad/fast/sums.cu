// Sums over all axes but the last, of arrays (count, C): channels last.
//
// Sums are taken in double: of each block's rows first, then over the blocks, in a fixed order, so that the same bits
// come out every time.
//
// kernel: partial_sums<float>
// kernel: partial_sums<double>
// kernel: total_sums<float>
// kernel: total_sums<double>

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

// partial[block, 0, c] = sum of a', partial[block, 1, c] = sum of a' b over some of the rows, with
//     PLAIN     a' = a           b = 0
//     MOMENTS   a' = a - a[0]    b = a'          (which cancels less than a does)
//     CENTERED  a' = a           b = x - mean    a' = 0 where gated and y = 0
template <class T>
__global__ void partial_sums(const T* a, const T* x, const T* mean, const T* y, double* partial, long long count, int C,
                             int width, int kind, int gated) {
    __shared__ double shared[2][THREADS];
    int c = blockIdx.y * width + threadIdx.x % width, lanes = THREADS / width;
    double sums[2] = {0.0, 0.0};
    if (c < C)
        for (long long row = blockIdx.x * lanes + threadIdx.x / width; row < count; row += (long long)gridDim.x * lanes) {
            long long i = row * C + c;
            double first = a[i], second = 0.0;
            if (kind == MOMENTS) second = first -= a[c];
            if (kind == CENTERED) second = x[i] - mean[c];
            if (gated && y[i] == 0) first = 0.0;
            sums[0] += first;
            sums[1] += first * second;
        }
    if (block_sums(sums, shared, width) && c < C)
        for (int k = 0; k < 2; k++) partial[((long long)blockIdx.x * 2 + k) * C + c] = sums[k];
}

// sums[k, c] = the sum of partial[., k, c]; for MOMENTS of `a` (count, C) the mean and the variance of each channel.
template <class T>
__global__ void total_sums(const double* partial, const T* a, T* sums, int blocks, long long count, int C, int width,
                           int kind) {
    __shared__ double shared[2][THREADS];
    int c = blockIdx.x * width + threadIdx.x % width;
    double total[2] = {0.0, 0.0};
    if (c < C)
        for (int block = threadIdx.x / width; block < blocks; block += THREADS / width)
            for (int k = 0; k < 2; k++) total[k] += partial[((long long)block * 2 + k) * C + c];
    if (block_sums(total, shared, width) && c < C) {
        if (kind == MOMENTS) {
            double far = total[0] / count, square = total[1] / count - far * far;
            total[0] = a[c] + far;
            total[1] = square > 0.0 ? square : 0.0;
        }
        sums[c] = total[0];
        sums[C + c] = total[1];
    }
}
