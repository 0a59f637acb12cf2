// What a step of training updates. SGD with momentum, of one array: d = g + decay p, m' = momentum m + d, p' = p - rate m', or with nesterov
// p' = p - rate (d + momentum m'). The rate is a number, or an array of one: a CUDA graph then takes it anew every time.
//
// kernel: sgd<float, float>
// kernel: sgd<float, const float*>
// kernel: sgd<double, double>
// kernel: sgd<double, const double*>

template <class T>
__device__ T number(T rate) { return rate; }
template <class T>
__device__ T number(const T* rate) { return *rate; }

template <class T, class Rate>
__global__ void sgd(const T* p, const T* m, const T* g, T* p_new, T* m_new, long long count, Rate rate, T momentum,
                    T decay, int nesterov) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x) {
        T d = decay * p[i] + g[i], moved = momentum * m[i] + d;
        m_new[i] = moved;
        p_new[i] = p[i] - number(rate) * (nesterov ? momentum * moved + d : moved);
    }
}
