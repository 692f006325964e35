"""The C text of vectors and of tiles: the parts of a product whose sums stay in registers.

It wants a compiler with vector types (gcc, clang) and no instruction set in particular: the width of a vector is what
the compiler says that the machine has.
"""

from __future__ import annotations

TILES = r"""
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#ifndef TILE_ROWS
#define TILE_ROWS (VECTOR_BYTES == 64 ? 8 : 6) /* whose sums fit the registers */
#endif
#define LANES ((long)(VECTOR_BYTES / sizeof(real)))
#define PANEL (2 * LANES) /* columns of a packed matrix that lie together: two vectors */
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

/* DO for each row of a tile, with what else it is given. */
#define EACH_1(DO, ...) DO(0, __VA_ARGS__)
#define EACH_2(DO, ...) EACH_1(DO, __VA_ARGS__) DO(1, __VA_ARGS__)
#define EACH_3(DO, ...) EACH_2(DO, __VA_ARGS__) DO(2, __VA_ARGS__)
#define EACH_4(DO, ...) EACH_3(DO, __VA_ARGS__) DO(3, __VA_ARGS__)
#define EACH_5(DO, ...) EACH_4(DO, __VA_ARGS__) DO(4, __VA_ARGS__)
#define EACH_6(DO, ...) EACH_5(DO, __VA_ARGS__) DO(5, __VA_ARGS__)
#define EACH_7(DO, ...) EACH_6(DO, __VA_ARGS__) DO(6, __VA_ARGS__)
#define EACH_8(DO, ...) EACH_7(DO, __VA_ARGS__) DO(7, __VA_ARGS__)

/* What is done with row i: its sums in two vectors, for each chain; a step of them; and where they go. */
#define SUM(i, chain) vector first_##chain##_##i = {0}, second_##chain##_##i = {0};
#define ADD_PRODUCT(i, chain, step) { \
        const real factor = left[i * left_stride + k + step]; \
        first_##chain##_##i += factor * first; \
        second_##chain##_##i += factor * second; \
    }
#define ADD_CHAIN(i, chain) first_0_##i += first_##chain##_##i, second_0_##i += second_##chain##_##i;
#define ADD_TARGET(i, _) \
    first_0_##i += *(const vector *)(target + i * target_stride); \
    second_0_##i += *(const vector *)(target + i * target_stride + LANES);
#define STORE(i, place, stride) \
    *(vector *)(place + i * stride) = first_0_##i; \
    *(vector *)(place + i * stride + LANES) = second_0_##i;

#define STEP(rows, chain, step) { \
        vector first = *(const vector *)(panel + (k + step) * PANEL); \
        vector second = *(const vector *)(panel + (k + step) * PANEL + LANES); \
        if (rows > 1) { \
            IN_REGISTER(first); \
            IN_REGISTER(second); \
        } \
        EACH_##rows(ADD_PRODUCT, chain, step) \
    }

/* Few rows are summed in several chains, which need not wait for each other. Several steps of the sum are written out:
   where two threads share a core, each decodes half as many instructions. */
#define CHAINS_1(DO, rows) DO(rows, 0)
#define CHAINS_2(DO, rows) CHAINS_1(DO, rows) DO(rows, 1)
#define CHAINS_4(DO, rows) CHAINS_2(DO, rows) DO(rows, 2) DO(rows, 3)
#define ADD_CHAINS_1(rows)
#define ADD_CHAINS_2(rows) EACH_##rows(ADD_CHAIN, 1)
#define ADD_CHAINS_4(rows) ADD_CHAINS_2(rows) EACH_##rows(ADD_CHAIN, 2) EACH_##rows(ADD_CHAIN, 3)
#define STEPS_1(rows) \
    STEP(rows, 0, 0) STEP(rows, 0, 1) STEP(rows, 0, 2) STEP(rows, 0, 3) \
    STEP(rows, 0, 4) STEP(rows, 0, 5) STEP(rows, 0, 6) STEP(rows, 0, 7)
#define STEPS_2(rows) STEP(rows, 0, 0) STEP(rows, 1, 1) STEP(rows, 0, 2) STEP(rows, 1, 3)
#define STEPS_4(rows) STEP(rows, 0, 0) STEP(rows, 1, 1) STEP(rows, 2, 2) STEP(rows, 3, 3)
enum { AT_ONCE_1 = 8, AT_ONCE_2 = 4, AT_ONCE_4 = 4 };
#define SUMS(rows, chain) EACH_##rows(SUM, chain)

/* What tiles of a panel have in common: `width` columns are left from its first one on; `add`: to the target. */
struct shape {
    long depth, left_stride, target_stride, width;
    int add;
};

/* rows x PANEL numbers of a product. Each height is a function of its own, without loops over rows: compilers take half
   the time for it. */
#define TILE(rows, chains) \
    __attribute__((noinline)) static void tile_##rows( \
        const real *left, const real *panel, real *target, const struct shape *shape) \
    { \
        const long depth = shape->depth, left_stride = shape->left_stride; \
        CHAINS_##chains(SUMS, rows) \
        long k = 0; \
        for (; k + AT_ONCE_##chains <= depth; k += AT_ONCE_##chains) { \
            STEPS_##chains(rows) \
        } \
        for (; k < depth; ++k) { \
            STEP(rows, 0, 0) \
        } \
        ADD_CHAINS_##chains(rows) \
        const long target_stride = shape->target_stride; \
        if (shape->width < PANEL) { \
            real last[rows * PANEL]; \
            EACH_##rows(STORE, last, PANEL) \
            keep_columns(rows, last, target, shape); \
            return; \
        } \
        if (shape->add) { \
            EACH_##rows(ADD_TARGET, 0) \
        } \
        EACH_##rows(STORE, target, target_stride) \
    }

/* What a tile has of the last panel, which is wider than the matrix. */
static void keep_columns(long rows, const real *source, real *target, const struct shape *shape)
{
    for (long i = 0; i < rows; ++i) {
        for (long j = 0; j < shape->width; ++j) {
            real *place = target + i * shape->target_stride + j;
            *place = source[i * PANEL + j] + (shape->add ? *place : (real)0);
        }
    }
}

TILE(1, 4)
TILE(2, 2)
TILE(3, 2)
TILE(4, 1)
TILE(5, 1)
TILE(6, 1)
#if TILE_ROWS > 6
TILE(7, 1)
TILE(8, 1)
#endif

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
"""

WIDEST_PANEL = 32  # columns of a panel of the widest vectors that the text knows
