"""The C text that every compiled core begins with: what it calls of the text compiled once for all, exp and tanh."""

from __future__ import annotations

from codegen.printers.c_products import PRODUCTS
from codegen.printers.c_team import TEAM
from codegen.printers.c_tiles import TILES

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
    real *target, long target_stride, int add, int backwards);
HIDDEN void gradient_product(
    long steps, long rows, long left_columns, long right_columns, const real *left, long left_step, long left_stride,
    const real *right, long right_step, long right_stride, real *scratch, real *target, long target_stride, int add);
HIDDEN void pack_rows(real *packed, long height, long at, const real *matrix, long rows, long columns, long stride);
HIDDEN void stack_rows(
    long rows, long count, long size, long apart, const real *source, long stride, real *target, long target_stride);
HIDDEN void taps_gradient(
    long rows, long count, long size, long apart, const real *source, long stride, real *turned, const real *packed,
    long columns, real *target, long target_stride, int add);

/* The sum of some numbers. */
HIDDEN real sum_of(long count, const real *values);
/* target += matrix @ vector. */
HIDDEN void add_row_sums(long rows, long columns, const real *matrix, const real *factors, real *target);

/* The one argument of a step: what all steps are given, which changes with the parameters, and the row of the rings. */
struct given {
    real *const *memory;
    const real *parameters, *direction;
    real *gradient;
    long batch;
};
struct call {
    const struct given *given;
    long row;
};

#ifndef LEAST_ROWS
#define LEAST_ROWS 8 /* that are worth a thread */
#endif
struct team {
    long threads, waiting, round, started;
};
typedef void part_function(
    real *const *memory, const real *parameters, const real *direction, real *gradient, long T, long batch, long thread,
    struct team *team);
HIDDEN void run_team(
    part_function *part, real *const *memory, const real *parameters, const real *direction, real *gradient, long T,
    long batch, double operations, long most);
HIDDEN void meet(struct team *team);
HIDDEN void add_partial_sums(
    long rows, long columns, real *target, long target_stride, const real *partial, long thread, struct team *team);

/* Where the part of a thread begins, of ``all`` rows. */
INLINE UNUSED long share(long all, long thread, const struct team *team)
{
    return all * thread / team->threads;
}
"""

# Coefficients of exp: Cephes, S. Moshier; of tanh: minimax polynomials. No branches, so that loops over these functions
# become vector code; errors are 2.6 units in the last place at most, those of glibc's tanhf 2.2. The power of two is
# made from the exponent's bits, in two factors in exp, so that the range is that of the type.
FUNCTIONS = {
    "float32": r"""
INLINE float power_of_two(int32_t exponent)
{
    const uint32_t bits = ((uint32_t)exponent + 127) << 23; /* NaN has any exponent: unsigned, it may overflow */
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Compilers make more of copysign: they don't know that a result is positive. */
INLINE UNUSED float with_sign_of(float x, float positive)
{
    uint32_t sign, bits;
    memcpy(&sign, &x, sizeof sign);
    memcpy(&bits, &positive, sizeof bits);
    bits |= sign & UINT32_C(0x80000000);
    memcpy(&positive, &bits, sizeof bits);
    return positive;
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

/* tanh(x) = h / (1 + h), where 2 h = exp(2 |x|) - 1 = 2^k (exp(r) - 1) + 2^k - 1: nothing cancels. The shift puts the
   bits of 2^k where they belong. */
INLINE UNUSED float fast_tanh(float x)
{
    const float size = fabsf(x), within = size > 10.0f ? 10.0f : size;
    const float shift = 12583039.0f; /* 1.5 * 2^23 + 127 */
    const float shifted = within * 2.88539008f + shift;
    const float whole = shifted - shift;
    const float rest = within - whole * 0.346573590f;
    float p = 4.46286425e-2f;
    p = p * rest + 1.33865342e-1f;
    p = p * rest + 3.33330244e-1f;
    p = p * rest + 6.66661739e-1f;
    p = p * rest + 1.0f;
    p = p * (rest * rest) + rest;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    const float half = p * scale + (0.5f * scale - 0.5f);
    return with_sign_of(x, half / (half + 1.0f));
}
""",
    "float64": r"""
INLINE double power_of_two(int64_t exponent)
{
    const uint64_t bits = ((uint64_t)exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Compilers make more of copysign: they don't know that a result is positive. */
INLINE UNUSED double with_sign_of(double x, double positive)
{
    uint64_t sign, bits;
    memcpy(&sign, &x, sizeof sign);
    memcpy(&bits, &positive, sizeof bits);
    bits |= sign & UINT64_C(0x8000000000000000);
    memcpy(&positive, &bits, sizeof bits);
    return positive;
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
    const double shift = 6755399441056767.0; /* 1.5 * 2^52 + 1023 */
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
    bits <<= 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    const double half = p * scale + (0.5 * scale - 0.5);
    return with_sign_of(x, half / (half + 1.0));
}
""",
}
SPELLED = {"tanh": "fast_tanh({0})", "exp": "fast_exp({0})"}


def common_text(dtype: str) -> str:
    """The C source of what all cores of a type share."""
    return _typed(dtype) + COMMON + TILES + PRODUCTS + TEAM


def core_text(dtype: str, functions: list[str]) -> str:
    """The C source of a module's own functions."""
    return _typed(dtype) + COMMON + FUNCTIONS[dtype] + "\n" + "\n".join(functions)


def _typed(dtype: str) -> str:
    return f"typedef {'float' if dtype == 'float32' else 'double'} real;\n"
