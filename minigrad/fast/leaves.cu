// Kernels that work on all leaves of a tree in one launch: a model has a hundred small arrays, and an optimizer's state as
// many again.
//
// Where the arrays lie is passed by value, as a parameter of the kernel: nothing is copied from the host, which a captured
// step may not do. All parameters of a launch together have at most 4096 bytes, so that many leaves take a few launches.
// The blocks (., k) of a launch walk over the elements of leaf k. An array that is written to overlaps no other.
//
// kernel: copy_words
// kernel: zero_unless<float>
// kernel: zero_unless<double>
// kernel: sgd<float>
// kernel: sgd<double>
// kernel: adam<float>
// kernel: adam<double>

#define TABLE 4000
#define EACH(i, size) (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x)

template <int N> struct Leaf {
    long long size;         // elements
    long long decays;       // whether weight decay applies
    void* at[N];            // its arrays, 0 for one that is not there
};
template <int N> struct Leaves { Leaf<N> leaf[TABLE / sizeof(Leaf<N>)]; };

// Copy words of 4 bytes. at: to, from.
__global__ void copy_words(const Leaves<2> leaves) {
    long long size = leaves.leaf[blockIdx.y].size;
    int* __restrict__ to = (int*)leaves.leaf[blockIdx.y].at[0];
    const int* __restrict__ from = (const int*)leaves.leaf[blockIdx.y].at[1];
    for EACH(i, size) to[i] = from[i];
}

// Copy, or write zeros if the condition is false. at: to, from.
template <class T> __global__ void zero_unless(const Leaves<2> leaves, const bool* condition) {
    long long size = leaves.leaf[blockIdx.y].size;
    T* __restrict__ to = (T*)leaves.leaf[blockIdx.y].at[0];
    const T* __restrict__ from = (const T*)leaves.leaf[blockIdx.y].at[1];
    bool holds = *condition;
    for EACH(i, size) to[i] = holds ? from[i] : T(0);
}

// A step of optim.sgd. at: p, g, new p, m, new m; without momentum the last two are 0. The rate is *rate_at where given.
template <class T>
__global__ void sgd(const Leaves<5> leaves, const T* rate_at, T rate, T momentum, T decay, int nesterov) {
    long long size = leaves.leaf[blockIdx.y].size;
    bool decays = leaves.leaf[blockIdx.y].decays;
    const T* __restrict__ p = (const T*)leaves.leaf[blockIdx.y].at[0];
    const T* __restrict__ g = (const T*)leaves.leaf[blockIdx.y].at[1];
    T* __restrict__ new_p = (T*)leaves.leaf[blockIdx.y].at[2];
    const T* __restrict__ m = (const T*)leaves.leaf[blockIdx.y].at[3];
    T* __restrict__ new_m = (T*)leaves.leaf[blockIdx.y].at[4];
    if (rate_at) rate = *rate_at;
    for EACH(i, size) {
        T d = decays ? decay * p[i] + g[i] : g[i], moved = d;
        if (m) new_m[i] = moved = momentum * m[i] + d;
        new_p[i] = p[i] - rate * (nesterov ? momentum * moved + d : moved);
    }
}

// A step of optim.adam. at: p, g, new p, m, new m, v, new v; rest1, rest2: 1 - b1, 1 - b2; the others as optim names them.
template <class T>
__global__ void adam(const Leaves<7> leaves, const T* rate_at, T rate, const T* fair1_at, T fair1, const T* fair2_at,
                     T fair2, T b1, T b2, T rest1, T rest2, T eps, T decay) {
    long long size = leaves.leaf[blockIdx.y].size;
    bool decays = leaves.leaf[blockIdx.y].decays;
    const T* __restrict__ p = (const T*)leaves.leaf[blockIdx.y].at[0];
    const T* __restrict__ g = (const T*)leaves.leaf[blockIdx.y].at[1];
    T* __restrict__ new_p = (T*)leaves.leaf[blockIdx.y].at[2];
    const T* __restrict__ m = (const T*)leaves.leaf[blockIdx.y].at[3];
    T* __restrict__ new_m = (T*)leaves.leaf[blockIdx.y].at[4];
    const T* __restrict__ v = (const T*)leaves.leaf[blockIdx.y].at[5];
    T* __restrict__ new_v = (T*)leaves.leaf[blockIdx.y].at[6];
    if (rate_at) rate = *rate_at;
    if (fair1_at) fair1 = *fair1_at;
    if (fair2_at) fair2 = *fair2_at;
    for EACH(i, size) {
        T mean = b1 * m[i] + rest1 * g[i], square = b2 * v[i] + rest2 * (g[i] * g[i]);
        T root = square / fair2, change;
        root = root > 0 ? sqrt(root) : root;
        change = (mean / fair1) / (root + eps);
        if (decays) change = decay * p[i] + change;
        new_m[i] = mean;
        new_v[i] = square;
        new_p[i] = p[i] - rate * change;
    }
}
