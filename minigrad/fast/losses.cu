// Cross-entropy of each row of scores x (n, K) with its label, its push and its pull. One thread for each row.
//
// kernel: cross_entropy<float>
// kernel: cross_entropy<double>
// kernel: cross_entropy_push<float>
// kernel: cross_entropy_push<double>
// kernel: cross_entropy_pull<float>
// kernel: cross_entropy_pull<double>

__device__ int row() { return blockIdx.x * blockDim.x + threadIdx.x; }

// With z = x - most, and `more` the sum of exp(z) without the label's and plus exp(z) - 1 of the label: the probability of
// class k is exp(z[k]) / (1 + more). 0 where all scores are -infinity.
template <class T>
__device__ T probability(T x, T most, T more) {
    T total = T(1) + more;
    return exp(x - most) / (total == T(0) ? T(1) : total);
}

// most[i] is the largest score, or 0 where that is not finite; losses[i] = log(1 + more[i]) - z[label]. Nothing is as large
// as the scores, and nothing cancels where the loss is small.
template <class T>
__global__ void cross_entropy(const T* x, const long long* labels, T* losses, T* most, T* more, int n, int K) {
    int i = row();
    if (i >= n) return;
    const T* scores = x + (long long)i * K;
    T largest = scores[0], others = 0;
    for (int k = 1; k < K; k++)
        if (scores[k] > largest || scores[k] != scores[k]) largest = scores[k];
    if (!isfinite(largest)) largest = 0;
    for (int k = 0; k < K; k++)
        if (k != labels[i]) others += exp(scores[k] - largest);
    T mine = scores[labels[i]] - largest;
    most[i] = largest;
    more[i] = others + expm1(mine);
    losses[i] = log1p(more[i]) - mine;
}

// sum over the other classes of p[i, k] (t[i, k] - t[i, label]).
template <class T>
__global__ void cross_entropy_push(const T* x, const T* most, const T* more, const long long* labels, const T* t, T* result,
                                   int n, int K) {
    int i = row();
    if (i >= n) return;
    long long first = (long long)i * K;
    T sum = 0;
    for (int k = 0; k < K; k++)
        if (k != labels[i]) sum += probability(x[first + k], most[i], more[i]) * (t[first + k] - t[first + labels[i]]);
    result[i] = sum;
}

// p[i, k] g[i], and for the label minus the sum of the others: p - 1 would cancel.
template <class T>
__global__ void cross_entropy_pull(const T* x, const T* most, const T* more, const long long* labels, const T* g, T* result,
                                   int n, int K) {
    int i = row();
    if (i >= n) return;
    long long first = (long long)i * K;
    T sum = 0;
    for (int k = 0; k < K; k++) {
        if (k == labels[i]) continue;
        T here = probability(x[first + k], most[i], more[i]) * g[i];
        result[first + k] = here;
        sum += here;
    }
    result[first + labels[i]] = -sum;
}
