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
#define MOST_DEPTH 288    /* rows of a panel, which stays in the first cache or nearly so */
#define MOST_ROWS 256     /* rows of the left side that stay in the second */
#define SUMMED_ROWS 256   /* rows of both sides that a gradient takes at once */
#define FAR_BYTES (1 << 19) /* what is larger does not stay in the second cache: it is fetched early */
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

/* Rows of a panel, of a matrix with so many: blocks of nearly the same height, none of a few rows. */
INLINE long block_depth(long depth)
{
    if (depth <= MOST_DEPTH) {
        return depth;
    }
    const long blocks = (depth + MOST_DEPTH - 1) / MOST_DEPTH;
    return (depth + blocks - 1) / blocks;
}

/* A matrix in panels, so that a product reads it in order. Element (k, j) lies at k * row + j * column. */
void pack(real *packed, const real *matrix, long depth, long columns, long row, long column)
{
    const long whole = block_depth(depth);
    for (long first = 0; first < depth; first += whole) {
        const long last = first + whole < depth ? first + whole : depth;
        for (long panel = 0; panel < columns; panel += PANEL) {
            for (long k = first; k < last; ++k) {
                for (long j = panel; j < panel + PANEL; ++j) {
                    *packed++ = j < columns ? matrix[k * row + j * column] : (real)0;
                }
            }
        }
    }
}

/* rows x PANEL numbers of a product. Few rows are summed in several chains, which need not wait for each other. Several
   steps of the sum are written out: where two threads share a core, each decodes half as many instructions. */
INLINE void tile(
    const int rows, const int chains, long depth, const real *left, long left_stride, const real *panel,
    real *target, long target_stride, long width, int add)
{
    const int at_once = rows > 3 ? 8 : 4;
    vector sum[TILE_ROWS][2];
    UNROLL
    for (int i = 0; i < rows * chains; ++i) {
        sum[i][0] = (vector){0};
        sum[i][1] = (vector){0};
    }
    long k = 0;
    for (; k + at_once <= depth; k += at_once) {
        UNROLL
        for (int step = 0; step < at_once; ++step) {
            const int chain = step % chains;
            vector first = *(const vector *)(panel + (k + step) * PANEL);
            vector second = *(const vector *)(panel + (k + step) * PANEL + LANES);
            if (rows > 1) {
                IN_REGISTER(first);
                IN_REGISTER(second);
            }
            UNROLL
            for (int i = 0; i < rows; ++i) {
                const real factor = left[i * left_stride + k + step];
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

/* The product of one row: it has no time to lose before the first panel. `backwards`: the last columns first. Where one
   product after the other goes there and back, each begins with what the first cache still holds of the matrix. */
__attribute__((noinline)) static void row_product(
    long from, long to, long depth, long columns, const real *left, const real *packed, real *target, int add,
    int backwards)
{
    const long whole = block_depth(depth), wide = columns / (TOGETHER * PANEL);
    const long panels = (columns + PANEL - 1) / PANEL, turns = wide + panels - TOGETHER * wide;
    for (long first = 0; first < to; first += whole) {
        const long height = depth - first < whole ? depth - first : whole;
        const long start = from > first ? from : first;
        const long part = (to < first + height ? to : first + height) - start;
        const int sum = add || start > from;
        for (long number = 0; number < turns && part > 0; ++number) {
            const long turn = backwards ? turns - 1 - number : number;
            const long panel = turn < wide ? turn * TOGETHER : turn - wide + TOGETHER * wide;
            const real *place = packed + panel * height * PANEL + (start - first) * PANEL;
            if (turn < wide) {
                wide_tile(part, left + start, place, height * PANEL, target + panel * PANEL, sum);
            } else {
                tile(1, 4, part, left + start, 0, place, target + panel * PANEL, 0, columns - panel * PANEL, sum);
            }
        }
        packed += panels * height * PANEL;
    }
}

/* target = left @ matrix, or target += left @ matrix with `add`, for the rows from..to - 1 of the packed matrix.
   `backwards`: for one row. Of no rows at all, from..to - 1 included, the target is left as it is. */
void product(
    long rows, long from, long to, long depth, long columns, const real *left, long left_stride, const real *packed,
    real *target, long target_stride, int add, int backwards)
{
    if (rows == 1) {
        row_product(from, to, depth, columns, left, packed, target, add, backwards);
        return;
    }
    const long whole = block_depth(depth), stripes = (rows + MOST_ROWS - 1) / MOST_ROWS;
    const int far = depth * columns * (long)sizeof(real) > FAR_BYTES;
    for (long stripe = 0; stripe < stripes; ++stripe) {
        const long top = stripes == 1 ? 0 : rows * stripe / stripes;
        const long bottom = stripes == 1 ? rows : rows * (stripe + 1) / stripes;
        /* Rows are shared out evenly, so that no tile is thin: the first ones have one row more. */
        const long tiles = (bottom - top + TILE_ROWS - 1) / TILE_ROWS;
        const long lower = tiles == 1 ? bottom - top : (bottom - top) / tiles, higher = bottom - top - tiles * lower;
        const real *block = packed;
        for (long first = 0; first < to; first += whole) {
            const long height = depth - first < whole ? depth - first : whole;
            const long start = from > first ? from : first;
            const long part = (to < first + height ? to : first + height) - start;
            const int sum = add || start > from;
            if (part <= 0) {
                block += (columns + PANEL - 1) / PANEL * PANEL * height;
                continue;
            }
            for (long j = 0; j < columns; j += PANEL, block += height * PANEL) {
                const real *panel = block + (start - first) * PANEL;
                const real *source = left + top * left_stride + start;
                real *place = target + top * target_stride + j;
                const long width = columns - j;
                for (long number = 0; number < tiles; ++number) {
                    const long height_of_tile = lower + (number < higher);
                    if (far) {
                        const long last = height * (number + 1) / tiles;
                        for (long k = height * number / tiles; k < last; ++k) {
                            __builtin_prefetch(block + (height + k) * PANEL, 0, 2);
                        }
                        for (long i = 0; i < height_of_tile && sum; ++i) {
                            __builtin_prefetch(place + i * target_stride, 1);
                            __builtin_prefetch(place + i * target_stride + PANEL - 1, 1);
                        }
                    }
                    switch (height_of_tile) {
#define TILE(rows, chains) tile(rows, chains, part, source, left_stride, panel, place, target_stride, width, sum)
                    case 2: TILE(2, 2); break;
                    case 3: TILE(3, 2); break;
                    case 4: TILE(4, 1); break;
                    case 5: TILE(5, 1); break;
                    case 6: TILE(6, 1); break;
#if TILE_ROWS > 6
                    case 7: TILE(7, 1); break;
                    case 8: TILE(8, 1); break;
#endif
                    }
                    source += height_of_tile * left_stride;
                    place += height_of_tile * target_stride;
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

/* target = left^T @ right, or += with `add`: a sum over `rows` rows each of `steps` steps. `scratch`: SUMMED_ROWS rows
   of both sides, those of the right one filled up to whole panels: one block, so no more than MOST_DEPTH. */
void gradient_product(
    long steps, long rows, long left_columns, long right_columns, const real *left, long left_step, long left_stride,
    const real *right, long right_step, long right_stride, real *scratch, real *target, long target_stride, int add)
{
    const long all = steps * rows;
    if (left_step == rows * left_stride && right_step == rows * right_stride) {
        rows = all;
    }
    real *const turned = scratch, *const packed = scratch + SUMMED_ROWS * left_columns;
    for (long done = 0, step = 0, row = 0; done < all;) {
        const long height = all - done < SUMMED_ROWS ? all - done : SUMMED_ROWS;
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
            add || done > 0, 0);
        done += height;
    }
}
"""

SUMMED_ROWS = 256  # as in the text: rows of both sides that a gradient's scratch holds
WIDEST_PANEL = 32  # columns of a panel of the widest vectors that the text knows


def padded(columns: int) -> int:
    """How many columns a packed matrix has: whole panels."""
    return -(-columns // WIDEST_PANEL) * WIDEST_PANEL
