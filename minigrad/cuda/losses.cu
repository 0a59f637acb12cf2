// Cross-entropy of each row of scores x (n, K) with its label, its push and its pull. One thread for each row.
//
// kernel: cross_entropy<float>
// kernel: cross_entropy<double>
// kernel: cross_entropy_push<float>
// kernel: cross_entropy_push<double>
// kernel: cross_entropy_pull<float>
// kernel: cross_entropy_pull<double>

__device__ int row() { return blockIdx.x * blockDim.x + threadIdx.x; }

// p = exp(x - total): 0 where all scores are -infinity.
template <class T>
__device__ T probability(T x, T total) { return exp(x - (isfinite(total) ? total : T(0))); }

// total[i] = log sum exp(x[i]), losses[i] = total[i] - x[i, labels[i]].
template <class T>
__global__ void cross_entropy(const T* x, const long long* labels, T* losses, T* total, int n, int K) {
    int i = row();
    if (i >= n) return;
    const T* scores = x + (long long)i * K;
    T most = scores[0], sum = 0;
    for (int k = 1; k < K; k++)
        if (scores[k] > most || scores[k] != scores[k]) most = scores[k];
    if (!isfinite(most)) most = 0;
    for (int k = 0; k < K; k++) sum += exp(scores[k] - most);
    total[i] = log(sum) + most;
    losses[i] = total[i] - scores[labels[i]];
}

// sum over k of (p[i, k] - [k is the label]) t[i, k], p = exp(x - total).
template <class T>
__global__ void cross_entropy_push(const T* x, const T* total, const long long* labels, const T* t, T* result, int n,
                                   int K) {
    int i = row();
    if (i >= n) return;
    long long first = (long long)i * K;
    T sum = 0;
    for (int k = 0; k < K; k++) sum += probability(x[first + k], total[i]) * t[first + k];
    result[i] = sum - t[first + labels[i]];
}

// (p[i, k] - [k is the label]) g[i].
template <class T>
__global__ void cross_entropy_pull(const T* x, const T* total, const long long* labels, const T* g, T* result, int n,
                                   int K) {
    int i = row();
    if (i >= n) return;
    long long first = (long long)i * K;
    for (int k = 0; k < K; k++) result[first + k] = (probability(x[first + k], total[i]) - (k == labels[i])) * g[i];
}
