"""The C text of products: with matrices that lie packed in panels, and of the gradient of a matrix.

It is compiled once for all cores.
"""

from __future__ import annotations

from codegen.printers.c_tiles import WIDEST_PANEL

PRODUCTS = r"""
#define MOST_DEPTH 288    /* rows of a panel, which stays in the first cache or nearly so */
#define MOST_ROWS 256     /* rows of the left side that stay in the second */
#define SUMMED_ROWS 256   /* rows of both sides that a gradient takes at once */
#define FAR_BYTES (1 << 19) /* what is larger does not stay in the second cache: it is fetched early */
_Static_assert(SUMMED_ROWS <= MOST_DEPTH, "what a gradient packs is one block");

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
                const struct shape shape = {part, 0, 0, columns - panel * PANEL, sum};
                tile_1(left + start, place, target + panel * PANEL, &shape);
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
                const struct shape shape = {part, left_stride, target_stride, columns - j, sum};
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
                    case 1: tile_1(source, panel, place, &shape); break;
                    case 2: tile_2(source, panel, place, &shape); break;
                    case 3: tile_3(source, panel, place, &shape); break;
                    case 4: tile_4(source, panel, place, &shape); break;
                    case 5: tile_5(source, panel, place, &shape); break;
                    case 6: tile_6(source, panel, place, &shape); break;
#if TILE_ROWS > 6
                    case 7: tile_7(source, panel, place, &shape); break;
                    case 8: tile_8(source, panel, place, &shape); break;
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
void pack_rows(real *packed, long height, long at, const real *matrix, long rows, long columns, long stride)
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
/* Rows of `count` taps side by side: tap k holds `size` numbers of the row that lies k * apart rows on. */
void stack_rows(
    long rows, long count, long size, long apart, const real *source, long stride, real *target, long target_stride)
{
    if (size == 1) {
        for (long row = 0; row < rows; ++row, source += stride, target += target_stride) {
            const real *from = source;
            for (long tap = 0; tap < count; ++tap, from += apart * stride) {
                target[tap] = *from;
            }
        }
        return;
    }
    for (long row = 0; row < rows; ++row, source += stride, target += target_stride) {
        real *place = target;
        const real *from = source;
        for (long tap = 0; tap < count; ++tap, from += apart * stride, place += size) {
            long j = 0;
            for (; j + LANES <= size; j += LANES) {
                *(vector *)(place + j) = *(const vector *)(from + j);
            }
            for (; j < size; ++j) {
                place[j] = from[j];
            }
        }
    }
}

/* target = taps^T @ right, or += with `add`: a sum over no more than SUMMED_ROWS rows. The right side is packed, the
   taps are as stack_rows has them. `turned`: count * SUMMED_ROWS * size numbers. */
void taps_gradient(
    long rows, long count, long size, long apart, const real *source, long stride, real *turned, const real *packed,
    long columns, real *target, long target_stride, int add)
{
    const long reach = (count - 1) * apart, more = reach < 0 ? -reach : reach;
    if (more > (count - 1) * SUMMED_ROWS) { /* taps so far apart have little in common */
        for (long tap = 0; tap < count; ++tap, source += apart * stride, target += size * target_stride) {
            turn_rows(turned, rows, 0, source, rows, size, stride);
            product(size, 0, rows, rows, columns, turned, rows, packed, target, target_stride, add, 0);
        }
        return;
    }
    const long height = rows + more;
    const real *const first = turned + (reach < 0 ? more : 0); /* tap 0 */
    turn_rows(turned, height, 0, reach < 0 ? source + reach * stride : source, height, size, stride);
    if (count > size) { /* the taps of a column at once */
        for (long i = 0; i < size; ++i) {
            product(
                count, 0, rows, rows, columns, first + i * height, apart, packed, target + i * target_stride,
                size * target_stride, add, 0);
        }
        return;
    }
    for (long tap = 0; tap < count; ++tap) {
        product(
            size, 0, rows, rows, columns, first + tap * apart, height, packed, target + tap * size * target_stride,
            target_stride, add, 0);
    }
}
"""

SUMMED_ROWS = 256  # as in the text: rows of both sides that a gradient's scratch holds


def padded(columns: int) -> int:
    """How many columns a packed matrix has: whole panels."""
    return -(-columns // WIDEST_PANEL) * WIDEST_PANEL
