// Max and average pooling of images (n, h, w, c).

typedef struct { index h, w, c, A, B, down, across, top, left, rows, columns; } windows;
typedef long long I __attribute__((vector_size(L * 8), aligned(8), may_alias));         // indices of L winners

typedef struct { range down, across; } part;                     // of a window, inside of the image

INLINE part part_of(const windows *g, index r, index s) {
    index top = r * g->down - g->top, left = s * g->across - g->left;
    range down = inside_of(top, g->A, g->h), across = inside_of(left, g->B, g->w);
    return (part){{top + down.first, top + down.end}, {left + across.first, left + across.end}};
}

INLINE void max_of(const T *x, const windows *g, part p, index j, index n, T *best, long long *winner) {
    V largest = load(x + (p.down.first * g->w + p.across.first) * g->c + j, n);
    M channel = {0};
    for (index i = 0; i < L; i++) channel[i] = j + i;
    M at = channel + (lane)((p.down.first * g->w + p.across.first) * g->c);
    for (index a = p.down.first; a < p.down.end; a++)
        for (index b = p.across.first; b < p.across.end; b++) {
            index from = (a * g->w + b) * g->c;
            V v = load(x + from + j, n);
            M wins = ~(v <= largest) & (largest == largest);    // of equal ones the first wins, and the first NaN
            largest = (V)(((M)v & wins) | ((M)largest & ~wins));
            at = ((channel + (lane)from) & wins) | (at & ~wins);
        }
    store(best, largest, n);
    if (winner && n == L) *(I *)winner = __builtin_convertvector(at, I);
    else if (winner) for (index i = 0; i < n; i++) winner[i] = at[i];
}

// The largest element of each window, and its index in the flattened image unless `winners` is NULL.
KERNEL void max_pool(const T *x, T *best, long long *winners, index n, const windows *g) {
    for (index i = 0; i < n; i++, x += g->h * g->w * g->c)
        for (index r = 0; r < g->rows; r++)
            for (index s = 0; s < g->columns; s++, best += g->c) {
                part p = part_of(g, r, s);
                for (index j = 0; j < g->c; j += L)
                    if (g->c - j >= L) max_of(x, g, p, j, L, best + j, winners ? winners + j : NULL);
                    else max_of(x, g, p, j, g->c - j, best + j, winners ? winners + j : NULL);
                if (winners) winners += g->c;
            }
}

// y[i, j] = x[i, winners[i, j]] of n rows: from `size` numbers to `count`. Returns 0, and stops, at an index outside.
KERNEL int take(const T *x, const long long *winners, T *y, index n, index size, index count) {
    for (index i = 0; i < n; i++, x += size, y += count, winners += count)
        for (index j = 0; j < count; j++) {
            if (winners[j] < 0 || winners[j] >= size) return 0;
            y[j] = x[winners[j]];
        }
    return 1;
}

// x = 0, then x[i, winners[i, j]] += g[i, j]: the adjoint.
KERNEL int put(const T *g, const long long *winners, T *x, index n, index size, index count) {
    for (index i = 0; i < n; i++, x += size, g += count, winners += count) {
        for (index j = 0; j < size; j++) x[j] = 0;
        for (index j = 0; j < count; j++) {
            if (winners[j] < 0 || winners[j] >= size) return 0;
            x[winners[j]] += g[j];
        }
    }
    return 1;
}

INLINE void mean_of(const T *x, const windows *g, part p, index j, index n, T *y) {
    V sum = {0};
    for (index a = p.down.first; a < p.down.end; a++)
        for (index b = p.across.first; b < p.across.end; b++) sum += load(x + (a * g->w + b) * g->c + j, n);
    store(y, sum / (T)(g->A * g->B), n);
}

// The mean of each window; padding counts as zeros.
KERNEL void mean_pool(const T *x, T *y, index n, const windows *g) {
    for (index i = 0; i < n; i++, x += g->h * g->w * g->c)
        for (index r = 0; r < g->rows; r++)
            for (index s = 0; s < g->columns; s++, y += g->c) {
                part p = part_of(g, r, s);
                for (index j = 0; j < g->c; j += L)
                    if (g->c - j >= L) mean_of(x, g, p, j, L, y + j);
                    else mean_of(x, g, p, j, g->c - j, y + j);
            }
}

INLINE void spread(const T *v, const windows *g, part p, index j, index n, T *x) {
    V share = load(v, n) / (T)(g->A * g->B);
    for (index a = p.down.first; a < p.down.end; a++)
        for (index b = p.across.first; b < p.across.end; b++) {
            T *to = x + (a * g->w + b) * g->c + j;
            store(to, load(to, n) + share, n);
        }
}

// x = each number of v, shared among the pixels of its window: the adjoint.
KERNEL void mean_pool_input(const T *v, T *x, index n, const windows *g) {
    for (index i = 0; i < n; i++, x += g->h * g->w * g->c) {
        for (index j = 0; j < g->h * g->w * g->c; j++) x[j] = 0;
        for (index r = 0; r < g->rows; r++)
            for (index s = 0; s < g->columns; s++, v += g->c) {
                part p = part_of(g, r, s);
                for (index j = 0; j < g->c; j += L)
                    if (g->c - j >= L) spread(v + j, g, p, j, L, x);
                    else spread(v + j, g, p, j, g->c - j, x);
            }
    }
}
