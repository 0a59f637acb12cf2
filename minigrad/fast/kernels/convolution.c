// Convolution and its two pulls: images (n, h, w, c), kernels (A, B, c, O), any stride and padding: see README.md.
//
// A kernel is packed: for each W outputs (the last ones filled up with zeros) all A B c rows of W numbers.

typedef struct {
    index h, w, c, A, B, O, down, across, top, left, rows, columns;     // (down, across): the stride
    index y_image, y_row, y_pixel;                                      // strides of y, in numbers
} geometry;

// ---------------------------------------------------------------------------------------------------- register tiles

// y[p, o] = sum over a, q of x[a, p, q] k[a, q, o]: P pixels, n <= W outputs, windows of A rows with Q numbers in each.
// The sums stay in registers: each number of k is loaded once for P pixels.
INLINE void tile(const T *x, index x_row, index x_pixel, const T *k, index k_row, index A, index Q, T *y, index y_pixel,
                 index n, const int P) {
    V sum[MOST][VECTORS];
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < VECTORS; v++) sum[p][v] = (V){0};
    for (index a = 0; a < A; a++, x += x_row, k += k_row)
        for (index q = 0; q < Q; q++) {
            V w[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) w[v] = load(k + q * W + v * L, L);
            UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < VECTORS; v++)
                sum[p][v] += x[p * x_pixel + q] * w[v];
        }
    T part[MOST * W], *to = n == W ? y : part;                          // a part of the outputs, by way of memory
    index to_pixel = n == W ? y_pixel : W;
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < VECTORS; v++)
        store(to + p * to_pixel + v * L, sum[p][v], L);
    if (n < W) for (int p = 0; p < P; p++) for (index o = 0; o < n; o++) y[p * y_pixel + o] = part[p * W + o];
}

// k[q, o] += sum over rows r and columns j of x[r, j, q] g[r, j, o]: Q numbers of a window, W outputs.
INLINE void outer(const T *x, index x_row, index x_pixel, const T *g, index g_row, index g_pixel, index rows,
                  index columns, T *k, const int Q) {
    V sum[MOST][VECTORS];
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int v = 0; v < VECTORS; v++) sum[q][v] = load(k + q * W + v * L, L);
    for (index r = 0; r < rows; r++) {
        const T *from = x + r * x_row, *with = g + r * g_row;
        for (index j = 0; j < columns; j++, from += x_pixel, with += g_pixel) {
            V w[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) w[v] = load(with + v * L, L);
            UNROLL for (int q = 0; q < Q; q++) UNROLL for (int v = 0; v < VECTORS; v++) sum[q][v] += from[q] * w[v];
        }
    }
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int v = 0; v < VECTORS; v++) store(k + q * W + v * L, sum[q][v], L);
}

// One function for each number of accumulators, so that all of them are registers.
#if MOST > 6
#define FOR_EACH_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) \
    X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24)
#else
#define FOR_EACH_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
#define TILE(P) static void tile_##P(const T *x, index x_row, index x_pixel, const T *k, index k_row, index A, \
                                     index Q, T *y, index y_pixel, index n) { \
    tile(x, x_row, x_pixel, k, k_row, A, Q, y, y_pixel, n, P); }
#define OUTER(Q) static void outer_##Q(const T *x, index x_row, index x_pixel, const T *g, index g_row, index g_pixel, \
                                       index rows, index columns, T *k) { \
    outer(x, x_row, x_pixel, g, g_row, g_pixel, rows, columns, k, Q); }
#define TILE_NAME(P) tile_##P,
#define OUTER_NAME(Q) outer_##Q,
FOR_EACH_COUNT(TILE)
FOR_EACH_COUNT(OUTER)
static void (*const tile_of[])(const T *, index, index, const T *, index, index, index, T *, index, index) = {
    NULL, FOR_EACH_COUNT(TILE_NAME)};
static void (*const outer_of[])(const T *, index, index, const T *, index, index, index, index, T *) = {
    NULL, FOR_EACH_COUNT(OUTER_NAME)};

// Split `count` rows evenly into tiles, 8 into 4 + 4 and not 6 + 2: the first `longer` tiles have one row more.
typedef struct { index rows, longer; } tiling;

INLINE tiling tiling_of(index count) {
    index tiles = (count + MOST - 1) / MOST;
    return (tiling){count / tiles, count % tiles};
}

static void row_of_tiles(const T *x, index x_row, index x_pixel, const T *k, index k_row, index A, index Q, T *y,
                         index y_pixel, index n, index pixels) {
    tiling tiles = tiling_of(pixels);
    for (index remaining = pixels, P; remaining > 0; remaining -= P, x += P * x_pixel, y += P * y_pixel) {
        P = tiles.rows + (tiles.longer-- > 0);
        tile_of[P](x, x_row, x_pixel, k, k_row, A, Q, y, y_pixel, n);
    }
}

static void row_of_outers(const T *x, index x_row, index x_pixel, const T *g, index g_row, index g_pixel, index rows,
                          index columns, index numbers, T *k) {
    tiling tiles = tiling_of(numbers);
    for (index remaining = numbers, Q; remaining > 0; remaining -= Q, x += Q, k += Q * W) {
        Q = tiles.rows + (tiles.longer-- > 0);
        outer_of[Q](x, x_row, x_pixel, g, g_row, g_pixel, rows, columns, k);
    }
}

// --------------------------------------------------------------------------------------- convolution and its pulls

// Return the columns of an image that windows reach, with zeros beyond the border: (h, width, c); x itself, shifted,
// where no window leaves the image.
static const T *padded(const T *x, T *pad, const geometry *g, index *x_row) {
    index c = g->c, width = (g->columns - 1) * g->across + g->B, left = most(g->left, 0);
    index right = most(least(width, g->w + g->left), left);     // columns of the image in the padded row: left to right
    int all_inside = g->left <= 0 && width <= g->w + g->left;
    *x_row = (all_inside ? g->w : width) * c;
    if (all_inside) return x - g->left * c;
    T *to = pad;
    for (index i = 0; i < g->h; i++, x += g->w * c, to += width * c) {
        const T *from = x - g->left * c;
        for (index q = 0; q < left * c; q++) to[q] = 0;
        for (index q = left * c; q < right * c; q++) to[q] = from[q];
        for (index q = right * c; q < width * c; q++) to[q] = 0;
    }
    return pad;
}

// Percentage of tile rows in use when so many pixels are split into tiles.
INLINE index fill(index pixels) { return 100 * pixels / ((pixels + MOST - 1) / MOST * MOST); }

// The part of a window of `size` that lies inside of an image of n rows or columns, where the window begins at `from`.
typedef struct { index first, end; } range;

INLINE range inside_of(index from, index size, index n) {
    index first = most(0, -from);
    return (range){first, most(first, least(size, n - from))};
}

// y = the convolution of n images x with the packed kernel k; pad: scratch memory, (h, width, c).
//
// The pixels of a tile lie side by side in a row or, where a row is too short to fill tiles, at the same position in
// several images. Then their windows have the same part inside of the image, and no zeros are needed.
KERNEL void convolve(const T *x, const T *k, T *y, T *pad, index n, const geometry *g) {
    index c = g->c, Q = g->B * c, size = g->h * g->w * c, x_row = g->w * c, many;
    int by_images = fill(n) > fill(g->columns);
    tiling tiles = tiling_of(n);
    for (; n > 0; n -= many, x += many * size, y += many * g->y_image) {
        many = by_images ? tiles.rows + (tiles.longer-- > 0) : 1;
        const T *image = by_images ? x : padded(x, pad, g, &x_row), *packed = k;
        for (index o = 0; o < g->O; o += W, packed += g->A * Q * W)
            for (index r = 0; r < g->rows; r++) {
                index top = r * g->down - g->top, outputs = least(W, g->O - o);
                range a = inside_of(top, g->A, g->h);
                const T *from = image + (top + a.first) * x_row, *with = packed + a.first * Q * W;
                T *to = y + r * g->y_row + o;
                if (!by_images)
                    row_of_tiles(from, x_row, g->across * c, with, Q * W, a.end - a.first, Q, to, g->y_pixel, outputs,
                                 g->columns);
                else for (index s = 0; s < g->columns; s++, to += g->y_pixel) {
                    index left = s * g->across - g->left;
                    range b = inside_of(left, g->B, g->w);
                    row_of_tiles(from + (left + b.first) * c, x_row, size, with + b.first * c * W, Q * W,
                                 a.end - a.first, (b.end - b.first) * c, to, g->y_image, outputs, many);
                }
            }
    }
}

// k += the gradient of the packed kernel from n images x and cotangents v (n, rows, columns, O); pad: scratch memory,
// (h, width, c), then (rows, columns, W).
KERNEL void convolve_kernel(const T *x, const T *v, T *k, T *pad, index n, const geometry *g) {
    index Q = g->B * g->c, pixels = g->rows * g->columns, x_row;
    T *last = pad + g->h * ((g->columns - 1) * g->across + g->B) * g->c;
    for (index i = 0; i < n; i++, x += g->h * g->w * g->c, v += g->y_image) {
        const T *image = padded(x, pad, g, &x_row);
        T *packed = k;
        for (index o = 0; o < g->O; o += W) {
            const T *part = v + o;
            index v_pixel = g->y_pixel;
            if (o + W > g->O) {                                     // the last outputs, with zeros beside them
                for (index p = 0; p < pixels; p++)
                    for (index i = 0; i < W; i++) last[p * W + i] = o + i < g->O ? v[p * g->y_pixel + o + i] : 0;
                part = last; v_pixel = W;
            }
            for (index a = 0; a < g->A; a++, packed += Q * W) {     // rows r with 0 <= r down + a - top < h
                index low = g->top > a ? (g->top - a + g->down - 1) / g->down : 0, end = g->h + g->top - a;
                index high = end > 0 ? least(g->rows, (end - 1) / g->down + 1) : 0;
                if (low < high)
                    row_of_outers(image + (low * g->down + a - g->top) * x_row, g->down * x_row, g->across * g->c,
                                  part + low * g->columns * v_pixel, g->columns * v_pixel, v_pixel, high - low,
                                  g->columns, Q, packed);
            }
        }
    }
}

// Pack the outputs from `o` to `end` of a kernel, which has these strides: negative ones turn it, others transpose it.
KERNEL void pack(const T *k, T *packed, index o, index end, index A, index B, index c, index O, const index *strides) {
    packed += o * A * B * c;
    for (; o < end; o += W)
        for (index a = 0; a < A; a++)
            for (index b = 0; b < B; b++)
                for (index q = 0; q < c; q++, packed += W) {
                    const T *from = k + a * strides[0] + b * strides[1] + q * strides[2] + o * strides[3];
                    if (o + W <= O) for (index i = 0; i < W; i += L)
                        store(packed + i, gather(from + i * strides[3], strides[3]), L);
                    else for (index i = 0; i < W; i++) packed[i] = o + i < O ? from[i * strides[3]] : 0;
                }
}
