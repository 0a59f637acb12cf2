// One step of an optimizer, in one walk over a leaf of n parameters p with the gradient g.

#define ROOT(x) (sizeof(T) == sizeof(float) ? __builtin_sqrtf(x) : __builtin_sqrt(x))

// p' = p - rate m', m' = momentum m + g + decay p; nesterov: p' = p - rate (g + decay p + momentum m'). Without m
// (NULL) m' is g + decay p, and not stored.
KERNEL void sgd(const T *p, const T *g, const T *m, T *new_p, T *new_m, index n, double rate, double momentum,
                double decay, int nesterov) {
    const T r = rate, b = momentum, d = decay;
    if (!m) for (index i = 0; i < n; i++) new_p[i] = p[i] - r * (g[i] + d * p[i]);
    else if (!nesterov) for (index i = 0; i < n; i++) {
        T v = b * m[i] + (g[i] + d * p[i]);
        new_m[i] = v; new_p[i] = p[i] - r * v;
    } else for (index i = 0; i < n; i++) {
        T slope = g[i] + d * p[i], v = b * m[i] + slope;
        new_m[i] = v; new_p[i] = p[i] - r * (b * v + slope);
    }
}

// m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, p' = p - rate ((m' / fair1) / (sqrt(v' / fair2) + eps) + decay p)
KERNEL void adam(const T *p, const T *g, const T *m, const T *v, T *new_p, T *new_m, T *new_v, index n, double rate,
                 double b1, double b2, double fair1, double fair2, double eps, double decay) {
    const T r = rate, c1 = b1, d1 = 1.0 - b1, c2 = b2, d2 = 1.0 - b2, f1 = fair1, f2 = fair2, e = eps, d = decay;
    for (index i = 0; i < n; i++) {
        T mean = c1 * m[i] + d1 * g[i], square = c2 * v[i] + d2 * (g[i] * g[i]);
        new_m[i] = mean; new_v[i] = square;
        new_p[i] = p[i] - r * ((mean / f1) / (ROOT(square / f2) + e) + d * p[i]);
    }
}
