// Batch normalization and sums of columns: rows (m, c), channels last, each function in one walk over memory.
//
// A walk takes a block of rows, of about 8 kB, and in it one vector of channels after the other: the block stays in the
// first cache, and what belongs to a channel stays in registers. Sums are those of the blocks, added up: rounding grows
// with the length of a block and the number of blocks, not with their product.

#define BLOCK 8192
// f(first row, last row, first channel, channels of a vector) for all of them
#define WALK(f, ...) \
    for (index from = 0, step = most(BLOCK / (c * (index)sizeof(T)), 8); from < m; from += step) \
        for (index j = 0; j < c; j += L) \
            if (c - j >= L) f(from, least(from + step, m), j, L, __VA_ARGS__); \
            else f(from, least(from + step, m), j, c - j, __VA_ARGS__)

#define ROWS(i) for (index i = from; i < to; i++)

// The normalized value, gain and bias applied: one expression, so that value, push and pull agree on where the ReLU is
// open.
INLINE V affine(V centered, V A, V bias) { return centered * A + bias; }
INLINE M is_open(V y) { return ~(y <= (V){0}); }               // NaN is let through, as by numpy.maximum

// Even rows are added to one register, odd ones to another, so that one addition need not wait for the last.
INLINE void add_columns(index from, index to, index j, index n, const T *x, index c, T *s) {
    V even = {0}, odd = {0};
    index i = from;
    for (; i + 1 < to; i += 2) { even += load(x + i * c + j, n); odd += load(x + (i + 1) * c + j, n); }
    if (i < to) even += load(x + i * c + j, n);
    store(s + j, load(s + j, n) + (even + odd), n);
}

// s = the sums over all rows
KERNEL void column_sums(const T *x, index m, index c, T *s) {
    for (index j = 0; j < c; j++) s[j] = 0;
    WALK(add_columns, x, c, s);
}

INLINE void add_squares(index from, index to, index j, index n, const T *x, index c, const T *mean, T *s) {
    V even = {0}, odd = {0}, u = load(mean + j, n), d;
    index i = from;
    for (; i + 1 < to; i += 2) {
        d = load(x + i * c + j, n) - u; even += d * d;
        d = load(x + (i + 1) * c + j, n) - u; odd += d * d;
    }
    if (i < to) { d = load(x + i * c + j, n) - u; even += d * d; }
    store(s + j, load(s + j, n) + (even + odd), n);
}

// The mean of each channel, and the sum of squared deviations from it.
KERNEL void moments(const T *x, index m, index c, T *mean, T *squares) {
    column_sums(x, m, c, mean);
    for (index j = 0; j < c; j++) { mean[j] /= (T)m; squares[j] = 0; }
    WALK(add_squares, x, c, mean, squares);
}

// The layer: its input, and the numbers of each channel. y = (x - mean) A + bias.
typedef struct { const T *x, *mean, *A, *bias; } layer;

INLINE void normalize_rows(index from, index to, index j, index n, const layer *g, index c, int relu, T *y) {
    V u = load(g->mean + j, n), A = load(g->A + j, n), bias = load(g->bias + j, n);
    ROWS(i) {
        V v = affine(load(g->x + i * c + j, n) - u, A, bias);
        store(y + i * c + j, relu ? select(v, is_open(v)) : v, n);
    }
}

// y = (x - mean) A + bias, and relu of it.
KERNEL void normalize(const layer *g, index m, index c, int relu, T *y) {
    if (relu) { WALK(normalize_rows, g, c, 1, y); } else { WALK(normalize_rows, g, c, 0, y); }
}

INLINE void add_products(index from, index to, index j, index n, const layer *g, const T *t, index c, int gated, T *s) {
    V plain = {0}, product = {0}, u = load(g->mean + j, n), A = load(g->A + j, n), bias = load(g->bias + j, n);
    V plain_odd = {0}, product_odd = {0}, v, d;
    index i = from;
    for (; i + 1 < to; i += 2) {
        v = load(t + i * c + j, n); d = load(g->x + i * c + j, n) - u;
        if (gated) v = select(v, is_open(affine(d, A, bias)));
        plain += v; product += d * v;
        v = load(t + (i + 1) * c + j, n); d = load(g->x + (i + 1) * c + j, n) - u;
        if (gated) v = select(v, is_open(affine(d, A, bias)));
        plain_odd += v; product_odd += d * v;
    }
    if (i < to) {
        v = load(t + i * c + j, n); d = load(g->x + i * c + j, n) - u;
        if (gated) v = select(v, is_open(affine(d, A, bias)));
        plain += v; product += d * v;
    }
    store(s + j, load(s + j, n) + (plain + plain_odd), n);
    store(s + c + j, load(s + c + j, n) + (product + product_odd), n);
}

// s[0] = sum of t, s[1] = sum of (x - mean) t; if gated, over the elements where the ReLU is open.
KERNEL void product_sums(const layer *g, const T *t, index m, index c, int gated, T *s) {
    for (index j = 0; j < 2 * c; j++) s[j] = 0;
    if (gated) { WALK(add_products, g, t, c, 1, s); } else { WALK(add_products, g, t, c, 0, s); }
}

enum { NOWHERE, BEFORE, AFTER };                                // where the ReLU's gate acts

INLINE void slope_rows(index from, index to, index j, index n, const layer *g, const T *t, index c, const T *a,
                       const T *b, const T *d, const int gate, T *y) {
    V u = load(g->mean + j, n), A = load(g->A + j, n), bias = load(g->bias + j, n);
    V by_t = load(a + j, n), by_x = load(b + j, n), constant = load(d + j, n);
    ROWS(i) {
        V centered = load(g->x + i * c + j, n) - u, v = load(t + i * c + j, n);
        M open = is_open(affine(centered, A, bias));
        if (gate == BEFORE) v = select(v, open);
        v = v * by_t + centered * by_x + constant;
        store(y + i * c + j, gate == AFTER ? select(v, open) : v, n);
    }
}

// y = t a + (x - mean) b + d. BEFORE: t counts as 0 where the ReLU is closed; AFTER: y is 0 there.
KERNEL void slope(const layer *g, const T *t, index m, index c, const T *a, const T *b, const T *d, int gate, T *y) {
    switch (gate) {
        case BEFORE: WALK(slope_rows, g, t, c, a, b, d, BEFORE, y); break;
        case AFTER: WALK(slope_rows, g, t, c, a, b, d, AFTER, y); break;
        default: WALK(slope_rows, g, t, c, a, b, d, NOWHERE, y);
    }
}
