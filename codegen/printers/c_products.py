"""The C text of products: with matrices that lie packed in panels, and of the gradient of a matrix.

It wants a compiler with vector types (gcc, clang) and no instruction set in particular: the width of a vector is what
the compiler says that the machine has. It is compiled once for all cores.
"""

from __future__ import annotations

PRODUCTS = r"""
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define TILE_ROWS 8
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 6
#endif
#define LANES ((long)(VECTOR_BYTES / sizeof(real)))
#define PANEL (2 * LANES) /* columns of a packed matrix that lie together: two vectors */
#define MOST_DEPTH 256    /* rows of a panel that stay in the first cache */
#define MOST_ROWS 256     /* rows of the left side that stay in the second */
typedef real vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));


#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* A vector that several rows use is loaded once: compilers would rather load it anew for each. */
#if defined(__x86_64__)
#define IN_REGISTER(vector) __asm__("" : "+v"(vector))
#else
#define IN_REGISTER(vector) (void)(vector)
#endif

/* A matrix in panels, so that a product reads it in order. Element (k, j) lies at k * row + j * column. */
void pack(real *packed, const real *matrix, long depth, long columns, long row, long column)
{
    for (long first = 0; first < depth; first += MOST_DEPTH) {
        const long last = first + MOST_DEPTH < depth ? first + MOST_DEPTH : depth;
        for (long panel = 0; panel < columns; panel += PANEL) {
            for (long k = first; k < last; ++k) {
                for (long j = panel; j < panel + PANEL; ++j) {
                    *packed++ = j < columns ? matrix[k * row + j * column] : (real)0;
                }
            }
        }
    }
}

/* rows x PANEL numbers of a product. Few rows are summed in several chains, which need not wait for each other. */
INLINE void tile(
    const int rows, const int chains, long depth, const real *left, long left_stride, const real *panel,
    real *target, long target_stride, long width, int add, const real *next)
{
    vector sum[TILE_ROWS][2];
    UNROLL
    for (int i = 0; i < rows * chains; ++i) {
        sum[i][0] = (vector){0};
        sum[i][1] = (vector){0};
    }
    long k = 0;
    for (; k + chains <= depth; k += chains) {
        __builtin_prefetch(next + k * PANEL);
        UNROLL
        for (int chain = 0; chain < chains; ++chain) {
            vector first = *(const vector *)(panel + (k + chain) * PANEL);
            vector second = *(const vector *)(panel + (k + chain) * PANEL + LANES);
            if (rows > 1) {
                IN_REGISTER(first);
                IN_REGISTER(second);
            }
            UNROLL
            for (int i = 0; i < rows; ++i) {
                const real factor = left[i * left_stride + k + chain];
                sum[chain * rows + i][0] += factor * first;
                sum[chain * rows + i][1] += factor * second;
            }
        }
    }
    for (; k < depth; ++k) {
        UNROLL
        for (int i = 0; i < rows; ++i) {
            const real factor = left[i * left_stride + k];
            sum[i][0] += factor * *(const vector *)(panel + k * PANEL);
            sum[i][1] += factor * *(const vector *)(panel + k * PANEL + LANES);
        }
    }
    UNROLL
    for (int i = rows; i < rows * chains; ++i) {
        sum[i % rows][0] += sum[i][0];
        sum[i % rows][1] += sum[i][1];
    }
    if (width >= PANEL) {
        UNROLL
        for (int i = 0; i < rows; ++i) {
            vector *place = (vector *)(target + i * target_stride);
            vector *beside = (vector *)(target + i * target_stride + LANES);
            if (add) {
                sum[i][0] += *place;
                sum[i][1] += *beside;
            }
            *place = sum[i][0];
            *beside = sum[i][1];
        }
        return;
    }
    UNROLL
    for (int i = 0; i < rows; ++i) {
        real last[PANEL];
        memcpy(last, sum[i], sizeof last);
        for (long j = 0; j < width; ++j) {
            target[i * target_stride + j] = add ? target[i * target_stride + j] + last[j] : last[j];
        }
    }
}

/* One row of a product, TOGETHER panels of it: a factor is read once for all, and many sums need not wait for each
   other. `apart`: from a panel to the next. */
enum { TOGETHER = 4 };
INLINE void wide_tile(long depth, const real *left, const real *panels, long apart, real *target, int add)
{
    vector sum[2 * TOGETHER];
    UNROLL
    for (int i = 0; i < 2 * TOGETHER; ++i) {
        sum[i] = (vector){0};
    }
    for (long k = 0; k < depth; ++k) {
        const real factor = left[k];
        UNROLL
        for (int i = 0; i < 2 * TOGETHER; ++i) {
            sum[i] += factor * *(const vector *)(panels + (i / 2) * apart + k * PANEL + (i % 2) * LANES);
        }
    }
    UNROLL
    for (int i = 0; i < 2 * TOGETHER; ++i) {
        vector *place = (vector *)(target + i * LANES);
        if (add) {
            sum[i] += *place;
        }
        *place = sum[i];
    }
}

/* target = left @ matrix, or target += left @ matrix with `add`, for the rows from..to - 1 of the packed matrix. */
void product(
    long rows, long from, long to, long depth, long columns, const real *left, long left_stride, const real *packed,
    real *target, long target_stride, int add)
{
    const long stripes = (rows + MOST_ROWS - 1) / MOST_ROWS;
    for (long stripe = 0; stripe < stripes; ++stripe) {
        const long top = rows * stripe / stripes, bottom = rows * (stripe + 1) / stripes;
        const real *block = packed;
        for (long first = 0; first < to; first += MOST_DEPTH) {
            const long height = depth - first < MOST_DEPTH ? depth - first : MOST_DEPTH;
            const long start = from > first ? from : first;
            const long part = (to < first + height ? to : first + height) - start;
            const int sum = add || start > from;
            long j = 0;
            if (rows == 1 && part > 0) {
                for (; columns - j >= TOGETHER * PANEL; j += TOGETHER * PANEL, block += TOGETHER * height * PANEL) {
                    const real *panels = block + (start - first) * PANEL;
                    wide_tile(part, left + start, panels, height * PANEL, target + j, sum);
                }
            }
            for (; j < columns; j += PANEL, block += height * PANEL) {
                const real *panel = block + (start - first) * PANEL;
                const long width = columns - j;
                for (long i = top; i < bottom && part > 0;) {
                    const real *source = left + i * left_stride + start;
                    real *place = target + i * target_stride + j;
                    /* Rows left are shared out evenly, so that no tile is thin. */
                    const long left_rows = bottom - i, tiles = (left_rows + TILE_ROWS - 1) / TILE_ROWS;
                    const long height_of_tile = (left_rows + tiles - 1) / tiles;
                    switch (height_of_tile) {
#define TILE(rows, chains) \
    tile(rows, chains, part, source, left_stride, panel, place, target_stride, width, sum, panel + height * PANEL)
                    case 1: TILE(1, 4); break;
                    case 2: TILE(2, 3); break;
                    case 3: TILE(3, 2); break;
                    case 4: TILE(4, 1); break;
                    case 5: TILE(5, 1); break;
                    case 6: TILE(6, 1); break;
#if TILE_ROWS > 6
                    case 7: TILE(7, 1); break;
                    case 8: TILE(8, 1); break;
#endif
                    }
                    i += height_of_tile;
                }
            }
        }
    }
}

/* The sum of a vector's numbers. */
INLINE real of_lanes(vector sum)
{
    real part[LANES];
    memcpy(part, &sum, sizeof part);
    UNROLL
    for (long width = LANES / 2; width > 0; width /= 2) {
        UNROLL
        for (long i = 0; i < width; ++i) {
            part[i] += part[i + width];
        }
    }
    return part[0];
}

real sum_of(long count, const real *values)
{
    enum { CHAINS = 4 };
    vector sum[CHAINS];
    UNROLL
    for (int i = 0; i < CHAINS; ++i) {
        sum[i] = (vector){0};
    }
    long k = 0;
    for (; k + CHAINS * LANES <= count; k += CHAINS * LANES) {
        UNROLL
        for (int i = 0; i < CHAINS; ++i) {
            sum[i] += *(const vector *)(values + k + i * LANES);
        }
    }
    for (; k + LANES <= count; k += LANES) {
        sum[0] += *(const vector *)(values + k);
    }
    real total = of_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; k < count; ++k) {
        total += values[k];
    }
    return total;
}

/* `rows` sums of products, at the same time. */
INLINE void row_sums(const int rows, long columns, const real *matrix, const real *factors, real *target)
{
    vector sum[4];
    UNROLL
    for (int i = 0; i < rows; ++i) {
        sum[i] = (vector){0};
    }
    long k = 0;
    for (; k + LANES <= columns; k += LANES) {
        const vector factor = *(const vector *)(factors + k);
        UNROLL
        for (int i = 0; i < rows; ++i) {
            sum[i] += factor * *(const vector *)(matrix + i * columns + k);
        }
    }
    UNROLL
    for (int i = 0; i < rows; ++i) {
        real total = of_lanes(sum[i]);
        for (long rest = k; rest < columns; ++rest) {
            total += factors[rest] * matrix[i * columns + rest];
        }
        target[i] += total;
    }
}

void add_row_sums(long rows, long columns, const real *matrix, const real *factors, real *target)
{
    long row = 0;
    for (; row + 4 <= rows; row += 4) {
        row_sums(4, columns, matrix + row * columns, factors, target + row);
    }
    for (; row < rows; ++row) {
        row_sums(1, columns, matrix + row * columns, factors, target + row);
    }
}

/* Rows of a part of the right side in panels of `height` rows, of which the first is row `at`. */
static void pack_rows(
    real *packed, long height, long at, const real *matrix, long rows, long columns, long stride)
{
    for (long panel = 0; panel < columns; panel += PANEL) {
        real *place = packed + panel * height + at * PANEL;
        const long width = columns - panel;
        for (long k = 0; k < rows; ++k, place += PANEL) {
            const real *source = matrix + k * stride + panel;
            if (width >= PANEL) {
                memcpy(place, source, PANEL * sizeof(real));
                continue;
            }
            for (long j = 0; j < PANEL; ++j) {
                place[j] = j < width ? source[j] : (real)0;
            }
        }
    }
}

/* The columns of the left side as rows of `height` numbers, from number `at` on. */
static void turn_rows(real *turned, long height, long at, const real *matrix, long rows, long columns, long stride)
{
    enum { AT_ONCE = 8 };
    for (long k = 0; k < rows; k += AT_ONCE) {
        const real *source = matrix + k * stride;
        real *place = turned + at + k;
        if (rows - k >= AT_ONCE) {
            for (long i = 0; i < columns; ++i) {
                UNROLL
                for (long m = 0; m < AT_ONCE; ++m) {
                    place[i * height + m] = source[m * stride + i];
                }
            }
            continue;
        }
        for (long i = 0; i < columns; ++i) {
            for (long m = 0; m < rows - k; ++m) {
                place[i * height + m] = source[m * stride + i];
            }
        }
    }
}

/* target = left^T @ right, or += with `add`: a sum over `rows` rows each of `steps` steps. `scratch`: MOST_DEPTH rows
   of both sides, those of the right one filled up to whole panels. */
void gradient_product(
    long steps, long rows, long left_columns, long right_columns, const real *left, long left_step, long left_stride,
    const real *right, long right_step, long right_stride, real *scratch, real *target, long target_stride, int add)
{
    const long all = steps * rows;
    if (left_step == rows * left_stride && right_step == rows * right_stride) {
        rows = all;
    }
    real *const turned = scratch, *const packed = scratch + MOST_DEPTH * left_columns;
    for (long done = 0, step = 0, row = 0; done < all;) {
        const long height = all - done < MOST_DEPTH ? all - done : MOST_DEPTH;
        for (long at = 0; at < height;) {
            const long count = rows - row < height - at ? rows - row : height - at;
            const real *beside = left + step * left_step + row * left_stride;
            turn_rows(turned, height, at, beside, count, left_columns, left_stride);
            const real *source = right + step * right_step + row * right_stride;
            pack_rows(packed, height, at, source, count, right_columns, right_stride);
            at += count;
            row += count;
            if (row == rows) {
                row = 0;
                ++step;
            }
        }
        product(
            left_columns, 0, height, height, right_columns, turned, height, packed, target, target_stride,
            add || done > 0);
        done += height;
    }
}
"""

MOST_DEPTH = 256  # as in the text: rows of both sides that a gradient's scratch holds
WIDEST_PANEL = 32  # columns of a panel of the widest vectors that the text knows


def padded(columns: int) -> int:
    """How many columns a packed matrix has: whole panels."""
    return -(-columns // WIDEST_PANEL) * WIDEST_PANEL
