// Windows that slide over images (n, h, w, c): unfold and its adjoint fold, max pooling and its adjoint.
//
// A window is (A, B) pixels; there are (rows, columns) of them, `down` and `across` pixels apart; `top` and `left` are
// the zeros (for pooling: nothing) before the image. Every thread writes elements of its own, and adds up in a fixed
// order: the same bits every time.
//
// kernel: unfold<float>
// kernel: unfold<double>
// kernel: unfold<float4>
// kernel: fold<float>
// kernel: fold<double>
// kernel: max_pool<float>
// kernel: max_pool<double>
// kernel: take_winners<float>
// kernel: take_winners<double>
// kernel: put_winners<float>
// kernel: put_winners<double>

#define GEOMETRY int h, int w, int c, int rows, int columns, int A, int B, int down, int across, int top, int left

__device__ unsigned first_element() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ unsigned all_threads() { return gridDim.x * blockDim.x; }

// windows[n, r, s, a, b, k] = x[n, r down + a - top, s across + b - left, k], or 0 outside of the image. V: an element,
// or four channels at once.
template <class V>
__global__ void unfold(const V* x, V* windows, unsigned count, GEOMETRY) {
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        unsigned rest = i / c;
        int k = i % c, b = rest % B;
        rest /= B;
        int a = rest % A;
        rest /= A;
        int s = rest % columns;
        rest /= columns;
        int r = rest % rows, n = rest / rows;
        int y = r * down + a - top, z = s * across + b - left;
        bool inside = y >= 0 && y < h && z >= 0 && z < w;
        windows[i] = inside ? x[((size_t)n * h * w + y * w + z) * c + k] : V();
    }
}

// x[n, y, z, k] = the sum of all elements of windows that unfold would have filled from there.
template <class T>
__global__ void fold(const T* windows, T* x, unsigned count, GEOMETRY) {
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        int k = i % c, z = i / c % w, y = i / c / w % h, n = i / c / w / h;
        T total = 0;
        for (int a = 0; a < A; a++) {
            int r = y + top - a;
            if (r < 0 || r % down || r / down >= rows) continue;
            for (int b = 0; b < B; b++) {
                int s = z + left - b;
                if (s < 0 || s % across || s / across >= columns) continue;
                unsigned window = (unsigned(n) * rows + r / down) * columns + s / across;
                total += windows[((window * A + a) * B + b) * c + k];
            }
        }
        x[i] = total;
    }
}

// The largest element of each window, and its place among the elements of its image: of equal ones, and of NaN, the first.
template <class T>
__global__ void max_pool(const T* x, T* best, long long* places, unsigned count, GEOMETRY) {
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        int k = i % c, s = i / c % columns, r = i / c / columns % rows, n = i / c / columns / rows;
        const T* image = x + (size_t)n * h * w * c;
        long long place = -1;
        T largest = 0;
        for (int a = 0; a < A; a++)
            for (int b = 0; b < B; b++) {
                int y = r * down + a - top, z = s * across + b - left;
                if (y < 0 || y >= h || z < 0 || z >= w) continue;
                int here = (y * w + z) * c + k;
                T value = image[here];
                if (place < 0 || value > largest || (value != value && largest == largest)) {
                    place = here;
                    largest = value;
                }
            }
        best[i] = largest;
        places[i] = place;
    }
}

// y[n, i] = x[n, places[n, i]]; size: elements of an image, pooled: of a pooled one.
template <class T>
__global__ void take_winners(const T* x, const long long* places, T* y, unsigned count, int size, int pooled) {
    for (unsigned i = first_element(); i < count; i += all_threads())
        y[i] = x[(size_t)(i / pooled) * size + places[i]];
}

// x[n, y, z, k] = the sum of y over the windows whose winner it is.
template <class T>
__global__ void put_winners(const T* y, const long long* places, T* x, unsigned count, GEOMETRY) {
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        int k = i % c, z = i / c % w, v = i / c / w % h, n = i / c / w / h;
        int here = (v * w + z) * c + k;
        T total = 0;
        for (int a = A - 1; a >= 0; a--) {                    // the windows from the first to the last
            int r = v + top - a;
            if (r < 0 || r % down || r / down >= rows) continue;
            for (int b = B - 1; b >= 0; b--) {
                int s = z + left - b;
                if (s < 0 || s % across || s / across >= columns) continue;
                unsigned window = ((unsigned(n) * rows + r / down) * columns + s / across) * c + k;
                if (places[window] == here) total += y[window];
            }
        }
        x[i] = total;
    }
}
