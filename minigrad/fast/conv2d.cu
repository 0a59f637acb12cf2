// The convolution of float32 images, channels last, with a kernel, as a product of matrices, the first of which is not
// written.
//
//     y[p, o] = sum over k of window[p, k] kernel[k, o]
//
// p counts the pixels of all outputs, and k the elements of a window, (a, b, channel). A block computes a tile of
// PIXELS x OUTPUTS. It walks along k in slices: the slice of its windows, with zeros outside of the image, and that of
// the kernel are copied to shared memory, where each number serves many threads. While they are multiplied, the next
// slice is on its way from memory to registers. Each thread has PIXELS_EACH x 4 sums, of the terms in the order of k:
// the same bits come out every time.
//
// kernel: conv2d<256, 16, 16>
// kernel: conv2d<128, 32, 32>

#define THREADS 256

struct alignas(16) Four { float v[4]; };

// Where the window of an output pixel begins: its element of x (of an image without a border), its row and its column.
struct alignas(16) Corner { long long at; int row, column; };

struct Geometry {
    int h, w, channels, rows, columns, outputs, A, B, down, across, top, left;
};

// Which element of the windows a thread reads: k, of pixel (a, b) of a window, whose channels end before `end`.
struct Element {
    int k, end, a, b;
    __device__ Element(int first, const Geometry& g) : k(first), end(g.channels), a(0), b(0) { settle(g); }
    __device__ void advance(int by, const Geometry& g) { k += by; settle(g); }
    __device__ void settle(const Geometry& g) {
        while (k >= end) {
            end += g.channels;
            if (++b == g.B) { b = 0; a++; }
        }
    }
};

__device__ inline Corner corner(unsigned p, unsigned count, const Geometry& g) {
    if (p >= count) return {0, -(1 << 30), 0};                     // no row of its window is one of an image
    unsigned line = p / g.columns, image = line / g.rows;
    int row = int(line % g.rows) * g.down - g.top, column = int(p % g.columns) * g.across - g.left;
    return {(((long long)image * g.h + row) * g.w + column) * g.channels, row, column};
}

// Read this thread's part of a slice of the windows, V numbers at a time, which are channels of one pixel. A row of a
// window lies in one piece in memory, and begins w pixels beyond the row above.
template <int V, int SLICE, int N>
__device__ inline void read(float (&part)[N], const float* x, const Corner* corners, const Element& element,
                            const Geometry& g) {
    long long beyond = element.k + (long long)element.a * (g.w - g.B) * g.channels;
    #pragma unroll
    for (int i = 0; i < N / V; i++) {
        Corner at = corners[threadIdx.x / (SLICE / V) + i * (THREADS * V / SLICE)];
        unsigned row = at.row + element.a, column = at.column + element.b;              // what is negative is large
        bool inside = element.a < g.A && row < g.h && column < g.w;
        if (V == 4) {
            Four four = {};
            if (inside) four = *(const Four*)(x + at.at + beyond);
            #pragma unroll
            for (int j = 0; j < V; j++) part[i * V + j] = four.v[j];
        } else
            part[i] = inside ? x[at.at + beyond] : 0.0f;
    }
}

// Write it to shared memory, in which each window takes one Four more than it needs, against conflicts of banks.
template <int V, int SLICE, int N>
__device__ inline void write(const float (&part)[N], Four (*windows)[SLICE / 4 + 1]) {
    int k = threadIdx.x % (SLICE / V) * V;
    #pragma unroll
    for (int i = 0; i < N / V; i++) {
        Four& to = windows[threadIdx.x / (SLICE / V) + i * (THREADS * V / SLICE)][k / 4];
        if (V == 4)
            to = {part[i * V], part[i * V + 1], part[i * V + 2], part[i * V + 3]};
        else
            to.v[k % 4] = part[i];
    }
}

// Read this thread's part of a slice of the kernel, which begins at row `first` of `length`.
template <int OUTPUTS, int N>
__device__ inline void read_kernel(float (&part)[N], const float* kernel, int first, int length, int outputs) {
    int o = blockIdx.y * OUTPUTS + threadIdx.x % OUTPUTS;
    #pragma unroll
    for (int i = 0; i < N; i++) {
        int k = first + threadIdx.x / OUTPUTS + i * (THREADS / OUTPUTS);
        part[i] = k < length && o < outputs ? kernel[(long long)k * outputs + o] : 0.0f;
    }
}

// count: of all output pixels. wide: whether the channels of a pixel can be read four at a time. Blocks are the tiles
// of pixels, and those of outputs. A multiprocessor has 65536 registers: with 64 for each thread it holds 4 blocks, and
// 3 with 80. None is spilled.
template <int PIXELS, int OUTPUTS, int SLICE>
__global__ void __launch_bounds__(THREADS, OUTPUTS == 16 ? 4 : 3)
conv2d(const float* x, const float* kernel, float* y, unsigned count, Geometry g, int wide) {
    constexpr int GROUPS = OUTPUTS / 4, LANES = THREADS / GROUPS, PIXELS_EACH = PIXELS / LANES;
    __shared__ Corner corners[PIXELS];
    __shared__ Four windows[PIXELS][SLICE / 4 + 1], matrix[SLICE][GROUPS];
    int warp = threadIdx.x / 32, length = g.A * g.B * g.channels;   // a warp: 8 lanes x 4 groups
    int group = threadIdx.x % 4 + 4 * (warp % (GROUPS / 4)), lane = threadIdx.x / 4 % 8 + 8 * (warp / (GROUPS / 4));
    unsigned first = blockIdx.x * PIXELS;
    for (int i = threadIdx.x; i < PIXELS; i += THREADS) corners[i] = corner(first + i, count, g);
    __syncthreads();

    float part[PIXELS * SLICE / THREADS], kernel_part[SLICE * OUTPUTS / THREADS], sums[PIXELS_EACH][4] = {};
    Element element(wide ? threadIdx.x % (SLICE / 4) * 4 : threadIdx.x % SLICE, g);
    for (int slice = -SLICE; slice < length; slice += SLICE) {      // the first round only reads
        int next = slice + SLICE;
        if (slice >= 0) {
            if (wide) write<4, SLICE>(part, windows);
            else write<1, SLICE>(part, windows);
            #pragma unroll
            for (int i = 0; i < SLICE * OUTPUTS / THREADS; i++)
                ((float*)matrix)[threadIdx.x + i * THREADS] = kernel_part[i];
            __syncthreads();
            element.advance(SLICE, g);
        }
        if (next < length) {
            if (wide) read<4, SLICE>(part, x, corners, element, g);
            else read<1, SLICE>(part, x, corners, element, g);
            read_kernel<OUTPUTS>(kernel_part, kernel, next, length, g.outputs);
        }
        if (slice < 0) continue;
        #pragma unroll
        for (int k = 0; k < SLICE / 4; k++) {
            Four window[PIXELS_EACH];
            #pragma unroll
            for (int i = 0; i < PIXELS_EACH; i++) window[i] = windows[lane + i * LANES][k];
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                Four weights = matrix[k * 4 + j][group];
                #pragma unroll
                for (int i = 0; i < PIXELS_EACH; i++)
                    #pragma unroll
                    for (int o = 0; o < 4; o++) sums[i][o] += window[i].v[j] * weights.v[o];
            }
        }
        __syncthreads();
    }

    int o = blockIdx.y * OUTPUTS + group * 4;
    #pragma unroll
    for (int i = 0; i < PIXELS_EACH; i++) {
        unsigned p = first + lane + i * LANES;
        if (p >= count) continue;
        float* to = y + (long long)p * g.outputs + o;
        if (g.outputs % 4 == 0 && o < g.outputs)
            *(Four*)to = {sums[i][0], sums[i][1], sums[i][2], sums[i][3]};
        else
            for (int j = 0; j < 4; j++)
                if (o + j < g.outputs) to[j] = sums[i][j];
    }
}
