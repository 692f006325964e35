"""The C text that every compiled core begins with: products with packed matrices, exp and tanh.

It wants a compiler with vector types (gcc, clang) and no instruction set in particular: the width of a vector is what
the compiler says that the machine has. The products are a file of their own, compiled once for all cores.
"""

from __future__ import annotations

COMMON = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNUSED __attribute__((unused))
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* No other library's functions of these names are meant. */
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN void pack(real *packed, const real *matrix, long depth, long columns, long row, long column);
HIDDEN void product(
    long rows, long from, long to, long depth, long columns, const real *left, long left_stride, const real *packed,
    real *target, long target_stride, int add);
"""

PRODUCTS = r"""
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define TILE_ROWS 12
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
#define MOST_ROWS 192     /* rows of the left side that stay in the second */
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

/* target = left @ matrix, or target += left @ matrix with `add`, for the rows from..to - 1 of the packed matrix. */
void product(
    long rows, long from, long to, long depth, long columns, const real *left, long left_stride, const real *packed,
    real *target, long target_stride, int add)
{
    for (long top = 0; top < rows; top += MOST_ROWS) {
        const long bottom = top + MOST_ROWS < rows ? top + MOST_ROWS : rows;
        const real *block = packed;
        for (long first = 0; first < to; first += MOST_DEPTH) {
            const long height = depth - first < MOST_DEPTH ? depth - first : MOST_DEPTH;
            const long start = from > first ? from : first;
            const long part = (to < first + height ? to : first + height) - start;
            const int sum = add || start > from;
            for (long j = 0; j < columns; j += PANEL, block += height * PANEL) {
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
                    case 9: TILE(9, 1); break;
                    case 10: TILE(10, 1); break;
                    case 11: TILE(11, 1); break;
                    case 12: TILE(12, 1); break;
#endif
                    }
                    i += height_of_tile;
                }
            }
        }
    }
}
"""

# Coefficients of exp: Cephes, S. Moshier; of tanh: minimax polynomials. No branches, so that loops over these functions
# become vector code; errors are about 2 units in the last place at most, as those of glibc's tanhf. The power of two is made from the exponent's bits, in two factors, so that the range is
# that of the type.
FUNCTIONS = {
    "float32": r"""
INLINE float power_of_two(int32_t exponent)
{
    const int32_t bits = (exponent + 127) * (1 << 23);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE UNUSED float fast_exp(float x)
{
    const float above = x < -104.0f ? -104.0f : x;
    const float within = above > 89.0f ? 89.0f : above;
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    const float shifted = within * 1.44269504f + shift;
    const float whole = shifted - shift;
    const float rest = within - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * rest + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * (rest * rest) + rest + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    const int32_t exponent = bits - 0x4B400000, half = exponent >> 1;
    return p * power_of_two(half) * power_of_two(exponent - half);
}

/* tanh(x) = h / (1 + h) = h - h tanh(x), where 2 h = exp(2 |x|) - 1 = 2^k (exp(r) - 1) + 2^k - 1: nothing cancels. The
   second form rounds less where h is small. */
INLINE UNUSED float fast_tanh(float x)
{
    const float size = fabsf(x), within = size > 10.0f ? 10.0f : size;
    const float shift = 12582912.0f;
    const float shifted = within * 2.88539008f + shift;
    const float whole = shifted - shift;
    const float rest = within - whole * 0.3466796875f + whole * 1.06097220e-4f;
    float p = 4.46286425e-2f;
    p = p * rest + 1.33865342e-1f;
    p = p * rest + 3.33330244e-1f;
    p = p * rest + 6.66661739e-1f;
    p = p * rest + 1.0f;
    p = p * (rest * rest) + rest;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3F800000u;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    const float half = p * scale + (0.5f * scale - 0.5f);
    const float result = half / (half + 1.0f);
    return copysignf(size < 0.6f ? half - half * result : result, x);
}
""",
    "float64": r"""
INLINE double power_of_two(int64_t exponent)
{
    const int64_t bits = (exponent + 1023) * ((int64_t)1 << 52);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE UNUSED double fast_exp(double x)
{
    const double above = x < -746.0 ? -746.0 : x;
    const double within = above > 710.0 ? 710.0 : above;
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    const double shifted = within * 1.4426950408889634074 + shift;
    const double whole = shifted - shift;
    const double rest = within - whole * 6.93145751953125e-1 - whole * 1.42860682030941723212e-6;
    const double z = rest * rest;
    double p = 1.26177193074810590878e-4;
    p = p * z + 3.02994407707441961300e-2;
    p = p * z + 9.99999999999999999910e-1;
    p = p * rest;
    double q = 3.00198505138664455042e-6;
    q = q * z + 2.52448340349684104192e-3;
    q = q * z + 2.27265548208155028766e-1;
    q = q * z + 2.0;
    int64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    const int64_t exponent = bits - INT64_C(0x4338000000000000);
    const int64_t half = (int64_t)((uint64_t)(exponent + 2048) >> 1) - 1024;
    return (1.0 + 2.0 * (p / (q - p))) * power_of_two(half) * power_of_two(exponent - half);
}

INLINE UNUSED double fast_tanh(double x)
{
    const double size = fabs(x), within = size > 20.0 ? 20.0 : size;
    const double shift = 6755399441055744.0;
    const double shifted = within * 2.8853900817779268147 + shift;
    const double whole = shifted - shift;
    const double rest = within - whole * 3.465728759765625e-1 - whole * 7.14303410154708616e-7;
    double p = 4.28332789106419246e-6;
    p = p * rest + 2.5707742212834043e-5;
    p = p * rest + 1.4109324105272471e-4;
    p = p * rest + 7.0546573824528447e-4;
    p = p * rest + 3.1746031776701109e-3;
    p = p * rest + 1.26984127198852e-2;
    p = p * rest + 4.4444444444427995e-2;
    p = p * rest + 1.3333333333321816e-1;
    p = p * rest + 3.3333333333333336e-1;
    p = p * rest + 6.6666666666666684e-1;
    p = p * rest + 1.0;
    p = p * (rest * rest) + rest;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + UINT64_C(0x3FF0000000000000);
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    const double half = p * scale + (0.5 * scale - 0.5);
    const double result = half / (half + 1.0);
    return copysign(size < 0.6 ? half - half * result : result, x);
}
""",
}
SPELLED = {"tanh": "fast_tanh({0})", "exp": "fast_exp({0})"}


def products_text(dtype: str) -> str:
    """The C source of the products."""
    return _typed(dtype) + COMMON + PRODUCTS


def core_text(dtype: str, functions: list[str]) -> str:
    """The C source of a module's own functions."""
    return _typed(dtype) + COMMON + FUNCTIONS[dtype] + "\n" + "\n".join(functions)


def _typed(dtype: str) -> str:
    return f"typedef {'float' if dtype == 'float32' else 'double'} real;\n"
