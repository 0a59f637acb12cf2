// Winograd's F(2x2, 3x3): four outputs of a 3x3 convolution with stride 1 by 16 multiplications instead of 36.
//
// README.md explains the three matrices. Lavin & Gray, Fast algorithms for convolutional neural networks, 2016.
// Channels are a multiple of L, outputs of W. Tiles go through scratch memory in blocks of `block`: v (16, block, c)
// holds the pixels of each tile, transformed; m (16, block, O) the products. Both have L numbers more for each of the
// 16, or else all 16 would map to the same cache set.

// One row of B^T d B: e[b] = first[b] + sign second[b], and the same along the row.
INLINE void transform_row(const V *first, const V *second, const int sign, T *v, index step) {
    V e[4];
    UNROLL for (int b = 0; b < 4; b++) e[b] = sign > 0 ? first[b] + second[b] : first[b] - second[b];
    store(v, e[0] - e[2], L); store(v + step, e[1] + e[2], L);
    store(v + 2 * step, e[2] - e[1], L); store(v + 3 * step, e[1] - e[3], L);
}

// v[16 step] = B^T d B of the 4x4 pixels d under tile (i, j), L channels of them, with zeros outside of the image.
INLINE void transform_pixels(const T *x, const geometry *g, index i, index j, T *v, index step) {
    index row = 2 * i - g->top, column = 2 * j - g->left;
    V d[4][4];
    x += (row * g->w + column) * g->c;
    if (row >= 0 && column >= 0 && row + 4 <= g->h && column + 4 <= g->w) {
        UNROLL for (int a = 0; a < 4; a++) UNROLL for (int b = 0; b < 4; b++)
            d[a][b] = load(x + (a * g->w + b) * g->c, L);
    } else
        for (int a = 0; a < 4; a++) for (int b = 0; b < 4; b++)
            d[a][b] = row + a >= 0 && row + a < g->h && column + b >= 0 && column + b < g->w
                ? load(x + (a * g->w + b) * g->c, L) : (V){0};
    transform_row(d[0], d[2], -1, v, step); transform_row(d[1], d[2], 1, v + 4 * step, step);
    transform_row(d[2], d[1], -1, v + 8 * step, step); transform_row(d[1], d[3], -1, v + 12 * step, step);
}

// y = A^T m A, as far as it lies in the image. Return 0 y: zero, or NaN where y is not finite.
INLINE V transform_products(const T *m, index step, T *y, index rows, index columns, const geometry *g) {
    V z[2][4], y0, y1, zero = {0}, check = {0};
    UNROLL for (int b = 0; b < 4; b++) {
        V m0 = load(m + b * step, L), m1 = load(m + (4 + b) * step, L), m2 = load(m + (8 + b) * step, L);
        z[0][b] = m0 + m1 + m2; z[1][b] = m1 - m2 - load(m + (12 + b) * step, L);
    }
    UNROLL for (int a = 0; a < 2; a++) {
        y0 = z[a][0] + z[a][1] + z[a][2]; y1 = z[a][1] - z[a][2] - z[a][3];
        check += y0 * zero + y1 * zero;
        if (a < rows) {
            store(y + a * g->y_row, y0, L);
            if (columns > 1) store(y + a * g->y_row + g->y_pixel, y1, L);
        }
    }
    return check;
}

// m[16 step] = A q A^T: the adjoint of transform_products, of the cotangents q.
INLINE void transform_cotangents(const T *q, T *m, index step, index rows, index columns, const geometry *g) {
    V zero = {0}, z[4][2];
    UNROLL for (int b = 0; b < 2; b++) {
        V q0 = b < columns ? load(q + b * g->y_pixel, L) : zero;
        V q1 = b < columns && rows > 1 ? load(q + g->y_row + b * g->y_pixel, L) : zero;
        z[0][b] = q0; z[1][b] = q0 + q1; z[2][b] = q0 - q1; z[3][b] = -q1;
    }
    UNROLL for (int a = 0; a < 4; a++, m += 4 * step) {
        store(m, z[a][0], L); store(m + step, z[a][0] + z[a][1], L);
        store(m + 2 * step, z[a][0] - z[a][1], L); store(m + 3 * step, -z[a][1], L);
    }
}

// Tile t of a batch: its image, and its row and column there. All tiles are taken in this order.
typedef struct { index image, i, j, down, across; } position;

INLINE position position_of(index t, const geometry *g) {
    index down = (g->rows + 1) / 2, across = (g->columns + 1) / 2;
    return (position){t / (down * across), t / across % down, t % across, down, across};
}

INLINE void advance(position *p) {
    if (++p->j < p->across) return;
    p->j = 0;
    if (++p->i < p->down) return;
    p->i = 0; p->image++;
}

// y = the convolution of n images; u: the kernel, transformed. Return whether y is finite: where a pixel is infinite,
// or a sum overflows, all outputs of its tile may be NaN here, but not in `convolve`.
KERNEL int winograd(const T *x, const T *u, T *y, T *scratch, index block, index n, const geometry *g) {
    index c = g->c, O = g->O, total = n * ((g->rows + 1) / 2) * ((g->columns + 1) / 2);
    index v_step = block * c + L, m_step = block * O + L;
    T *v = scratch, *m = scratch + 16 * v_step;
    V check = {0};
    for (index t = 0; t < total; t += block) {
        index many = least(block, total - t);
        position p = position_of(t, g);
        for (index s = 0; s < many; s++, advance(&p))
            for (index q = 0; q < c; q += L)
                transform_pixels(x + p.image * g->h * g->w * c + q, g, p.i, p.j, v + s * c + q, v_step);
        for (index e = 0; e < 16; e++)
            for (index o = 0; o < O; o += W)
                row_of_tiles(v + e * v_step, 0, c, u + (e * O + o) * c, 0, 1, c, m + e * m_step + o, O, W, many);
        p = position_of(t, g);
        for (index s = 0; s < many; s++, advance(&p)) {
            T *at = y + p.image * g->y_image + 2 * p.i * g->y_row + 2 * p.j * g->y_pixel;
            for (index o = 0; o < O; o += L)
                check += transform_products(m + s * O + o, m_step, at + o, g->rows - 2 * p.i, g->columns - 2 * p.j, g);
        }
    }
    for (index i = 0; i < L; i++) if (check[i] != check[i]) return 0;
    return 1;
}

// du += the gradient of the transformed kernel: (16, O / W, c, W)
KERNEL void winograd_kernel(const T *x, const T *cotangent, T *du, T *scratch, index block, index n,
                            const geometry *g) {
    index c = g->c, O = g->O, total = n * ((g->rows + 1) / 2) * ((g->columns + 1) / 2);
    index v_step = block * c + L, m_step = block * O + L;
    T *v = scratch, *m = scratch + 16 * v_step;
    for (index t = 0; t < total; t += block) {
        index many = least(block, total - t);
        position p = position_of(t, g);
        for (index s = 0; s < many; s++, advance(&p)) {
            const T *at = cotangent + p.image * g->y_image + 2 * p.i * g->y_row + 2 * p.j * g->y_pixel;
            for (index q = 0; q < c; q += L)
                transform_pixels(x + p.image * g->h * g->w * c + q, g, p.i, p.j, v + s * c + q, v_step);
            for (index o = 0; o < O; o += L)
                transform_cotangents(at + o, m + s * O + o, m_step, g->rows - 2 * p.i, g->columns - 2 * p.j, g);
        }
        for (index e = 0; e < 16; e++)
            for (index o = 0; o < O; o += W)
                row_of_outers(v + e * v_step, 0, c, m + e * m_step + o, 0, O, 1, many, c, du + (e * O + o) * c);
    }
}

// u = G k G^T of the outputs from `o` to `end`, packed: (16, O / W, c, W). k: (3, 3, c, O) with these strides.
KERNEL void transform_kernel(const T *k, T *u, index o, index end, index c, index O, const index *strides) {
    T half = 0.5;
    for (; o < end; o += L)
        for (index q = 0; q < c; q++) {
            V d[3][3], e[4][3];
            UNROLL for (int a = 0; a < 3; a++) UNROLL for (int b = 0; b < 3; b++)
                d[a][b] = gather(k + a * strides[0] + b * strides[1] + q * strides[2] + o * strides[3], strides[3]);
            UNROLL for (int b = 0; b < 3; b++) {
                e[0][b] = d[0][b]; e[3][b] = d[2][b];
                e[1][b] = (d[0][b] + d[1][b] + d[2][b]) * half; e[2][b] = (d[0][b] - d[1][b] + d[2][b]) * half;
            }
            T *to = u + o / W * W * c + q * W + o % W;
            UNROLL for (int a = 0; a < 4; a++, to += 4 * c * O) {
                store(to, e[a][0], L); store(to + 3 * c * O, e[a][2], L);
                store(to + c * O, (e[a][0] + e[a][1] + e[a][2]) * half, L);
                store(to + 2 * c * O, (e[a][0] - e[a][1] + e[a][2]) * half, L);
            }
        }
}

// k (3, 3, c, O) = G^T du G of the outputs from `o` to `end`: the adjoint of transform_kernel. du has these alone.
KERNEL void transform_gradient(const T *du, T *k, index o, index end, index c, index O) {
    T half = 0.5;
    for (index first = o, outputs = end - o; o < end; o += L)
        for (index q = 0; q < c; q++) {
            V e[3][4];
            const T *from = du + (o - first) / W * W * c + q * W + (o - first) % W;
            UNROLL for (int b = 0; b < 4; b++) {
                V d[4];
                UNROLL for (int a = 0; a < 4; a++) d[a] = load(from + (4 * a + b) * c * outputs, L);
                e[0][b] = d[0] + (d[1] + d[2]) * half; e[1][b] = (d[1] - d[2]) * half;
                e[2][b] = (d[1] + d[2]) * half + d[3];
            }
            UNROLL for (int a = 0; a < 3; a++) {
                T *to = k + (3 * a * c + q) * O + o;
                store(to, e[a][0] + (e[a][1] + e[a][2]) * half, L); store(to + c * O, (e[a][1] - e[a][2]) * half, L);
                store(to + 2 * c * O, (e[a][1] + e[a][2]) * half + e[a][3], L);
            }
        }
}
