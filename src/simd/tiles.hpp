// tiles.hpp: between the user's arrays (any strides, any storage) and tiles in the arithmetic type: convert, copy, transpose.
#pragma once

#include "contract.h"
#include "halves.hpp"
#include "layout.hpp"
#include "vector.hpp"

namespace {

// ---- one number ------------------------------------------------------------------------------------------------------

template <class T> T read_number(const char* from, int storage) {
    switch (storage) {
    case STORED_FLOAT64: return (T)read_bits<double>(from);
    case STORED_FLOAT16: return (T)float_of_half(read_bits<uint16_t>(from));
    case STORED_BFLOAT16: return (T)same_bits<float>((uint32_t)read_bits<uint16_t>(from) << 16);
    default: return (T)read_bits<float>(from);
    }
}

template <class T> void write_number(T value, char* to, int storage) {
    switch (storage) {
    case STORED_FLOAT64: {
        double v = (double)value;
        __builtin_memcpy(to, &v, sizeof v);
        return;
    }
    case STORED_FLOAT16: {
        uint16_t v = half_of_float((float)value);
        __builtin_memcpy(to, &v, sizeof v);
        return;
    }
    case STORED_BFLOAT16: {
        uint16_t v = bfloat_of_float((float)value);
        __builtin_memcpy(to, &v, sizeof v);
        return;
    }
    default: {
        float v = (float)value;
        __builtin_memcpy(to, &v, sizeof v);
        return;
    }
    }
}

// ---- a run of numbers ------------------------------------------------------------------------------------------------

// f(first number) for vectors of `width` numbers; the last one overlaps the one before. Returns how many of n numbers these were.
template <class F> CELOSS_INLINE ptrdiff_t overlapping_vectors(ptrdiff_t n, int width, F f) {
    if (n < width) return 0;
    for (ptrdiff_t i = 0; i + width <= n; i += width) f(i);
    if (n % width) f(n - width);
    return n;
}

template <class T> void read_run(const char* from, int storage, T* to, ptrdiff_t n) {
    constexpr int W = lanes_of<T>();
    ptrdiff_t done = 0;
    if (is_native<T>(storage)) {
        __builtin_memcpy(to, from, (size_t)n * sizeof(T));
        return;
    }
    if constexpr (sizeof(T) == 4) {
        if (storage == STORED_BFLOAT16)
            done = overlapping_vectors(n, W,
                                       [&](ptrdiff_t i) CELOSS_LAMBDA_INLINE { store(to + i, floats_of_bfloats(from + 2 * i)); });
#ifdef CELOSS_HALF_VECTORS
        if (storage == STORED_FLOAT16)
            done = overlapping_vectors(n, W,
                                       [&](ptrdiff_t i) CELOSS_LAMBDA_INLINE { store(to + i, floats_of_halves(from + 2 * i)); });
#endif
    } else if (has_float_vectors(storage)) {
        done = overlapping_vectors(n, 2 * W, [&](ptrdiff_t i) CELOSS_LAMBDA_INLINE {
            const F32 v = floats_of(from + i * item_size(storage), storage);
            store(to + i, widen_low(v));
            store(to + i + W, widen_high(v));
        });
    }
    for (; done < n; ++done) to[done] = read_number<T>(from + done * item_size(storage), storage);
}

template <class T> void write_run(const T* from, char* to, int storage, ptrdiff_t n) {
    constexpr int W = lanes_of<T>();
    ptrdiff_t done = 0;
    if (is_native<T>(storage)) {
        __builtin_memcpy(to, from, (size_t)n * sizeof(T));
        return;
    }
    if constexpr (sizeof(T) == 4) {
        if (storage == STORED_BFLOAT16)
            done = overlapping_vectors(n, 2 * W, [&](ptrdiff_t i) CELOSS_LAMBDA_INLINE {
                store_two_bfloats(to + 2 * i, load(from + i), load(from + i + W));
            });
#ifdef CELOSS_HALF_VECTORS
        if (storage == STORED_FLOAT16)
            done = overlapping_vectors(n, W, [&](ptrdiff_t i) CELOSS_LAMBDA_INLINE { store_halves(to + 2 * i, load(from + i)); });
#endif
    } else if (has_float_vectors(storage)) {
        done = overlapping_vectors(n, 2 * W, [&](ptrdiff_t i) CELOSS_LAMBDA_INLINE {
            store_floats(to + i * item_size(storage), storage, narrow(load(from + i), load(from + i + W)));
        });
    }
    for (; done < n; ++done) write_number(from[done], to + done * item_size(storage), storage);
}

// ---- transpose: runs of one orientation into runs of the other ----------------------------------------------------------
//
// A vector holds `W / cell` cells of 16 bytes; cells of `cell` x `cell` numbers are transposed within 16-byte lanes, so
// the only shuffles are unpacks. Where the run is no multiple of the cell, the last cell overlaps the one before.

template <class T> constexpr int cell_of() { return 16 / (int)sizeof(T); }

// v[r] = the 16 bytes at row r of every cell; rows are `stride` bytes apart, those of cell k begin at k * cell * stride.
template <class T> CELOSS_INLINE typename VectorOf<T>::V gather_cells(const char* row, ptrdiff_t stride) {
    constexpr int cell = cell_of<T>();
#if defined(__AVX512F__)
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)row));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i*)(row + cell * stride)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i*)(row + 2 * cell * stride)), 2);
    return (typename VectorOf<T>::V)_mm512_inserti32x4(v, _mm_loadu_si128((const __m128i*)(row + 3 * cell * stride)), 3);
#elif defined(__AVX2__)
    return (typename VectorOf<T>::V)_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)row)),
                                                            _mm_loadu_si128((const __m128i*)(row + cell * stride)), 1);
#else
    (void)stride, (void)cell;
    return read_bits<typename VectorOf<T>::V>(row);
#endif
}

// v[r] to row r of every cell.
template <class V> CELOSS_INLINE void scatter_cells(const V& v, char* row, ptrdiff_t stride, int cell) {
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i*)row, _mm512_castsi512_si128((__m512i)v));
    _mm_storeu_si128((__m128i*)(row + cell * stride), _mm512_extracti32x4_epi32((__m512i)v, 1));
    _mm_storeu_si128((__m128i*)(row + 2 * cell * stride), _mm512_extracti32x4_epi32((__m512i)v, 2));
    _mm_storeu_si128((__m128i*)(row + 3 * cell * stride), _mm512_extracti32x4_epi32((__m512i)v, 3));
#elif defined(__AVX2__)
    _mm_storeu_si128((__m128i*)row, _mm256_castsi256_si128((__m256i)v));
    _mm_storeu_si128((__m128i*)(row + cell * stride), _mm256_extracti128_si256((__m256i)v, 1));
#else
    (void)stride, (void)cell;
    __builtin_memcpy(row, &v, 16);
#endif
}

// Within every 16 bytes: (a0 b0 a1 b1) and (a2 b2 a3 b3) for floats, (a0 b0) and (a1 b1) for 8-byte halves.
#if defined(__AVX512F__)
CELOSS_INLINE F32 low_floats(F32 a, F32 b) { return (F32)_mm512_unpacklo_ps((__m512)a, (__m512)b); }
CELOSS_INLINE F32 high_floats(F32 a, F32 b) { return (F32)_mm512_unpackhi_ps((__m512)a, (__m512)b); }
template <class V> CELOSS_INLINE V low_halves(V a, V b) { return (V)_mm512_unpacklo_pd((__m512d)a, (__m512d)b); }
template <class V> CELOSS_INLINE V high_halves(V a, V b) { return (V)_mm512_unpackhi_pd((__m512d)a, (__m512d)b); }
#elif defined(__AVX2__)
CELOSS_INLINE F32 low_floats(F32 a, F32 b) { return (F32)_mm256_unpacklo_ps((__m256)a, (__m256)b); }
CELOSS_INLINE F32 high_floats(F32 a, F32 b) { return (F32)_mm256_unpackhi_ps((__m256)a, (__m256)b); }
template <class V> CELOSS_INLINE V low_halves(V a, V b) { return (V)_mm256_unpacklo_pd((__m256d)a, (__m256d)b); }
template <class V> CELOSS_INLINE V high_halves(V a, V b) { return (V)_mm256_unpackhi_pd((__m256d)a, (__m256d)b); }
#else
CELOSS_INLINE F32 low_floats(F32 a, F32 b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
CELOSS_INLINE F32 high_floats(F32 a, F32 b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
template <class V> CELOSS_INLINE V low_halves(V a, V b) { return (V)__builtin_shufflevector((F64)a, (F64)b, 0, 2); }
template <class V> CELOSS_INLINE V high_halves(V a, V b) { return (V)__builtin_shufflevector((F64)a, (F64)b, 1, 3); }
#endif

CELOSS_INLINE void transpose_cells(F32* v) {
    F32 a = low_floats(v[0], v[1]), b = low_floats(v[2], v[3]), c = high_floats(v[0], v[1]), d = high_floats(v[2], v[3]);
    v[0] = low_halves(a, b);
    v[1] = high_halves(a, b);
    v[2] = low_halves(c, d);
    v[3] = high_halves(c, d);
}
CELOSS_INLINE void transpose_cells(F64* v) {
    F64 a = low_halves(v[0], v[1]);
    v[1] = high_halves(v[0], v[1]);
    v[0] = a;
}

// Short runs, one right behind the other: to[j * to_stride + i] = from[i * INNER + j], and back. Left to the
// compiler, which knows a good shuffle for each level.
template <int INNER, class T> void part_short_runs(const char* from, ptrdiff_t outer, T* __restrict to, ptrdiff_t to_stride) {
    for (ptrdiff_t i = 0; i < outer; ++i)
        for (int j = 0; j < INNER; ++j) to[j * to_stride + i] = read_bits<T>(from + (i * INNER + j) * (ptrdiff_t)sizeof(T));
}
template <int INNER, class T>
void join_short_runs(const T* __restrict from, ptrdiff_t from_stride, ptrdiff_t outer, char* __restrict to) {
    for (ptrdiff_t i = 0; i < outer; ++i)
        for (int j = 0; j < INNER; ++j)
            __builtin_memcpy(to + (i * INNER + j) * (ptrdiff_t)sizeof(T), from + j * from_stride + i, sizeof(T));
}

template <int WRITE> CELOSS_INLINE void prefetch_run(const char* at, ptrdiff_t bytes) {
    for (ptrdiff_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + PREFETCH_AHEAD + b, WRITE);
}

// to[j * to_stride + i] = from[i][j] for `outer` runs of `inner` numbers, from_stride bytes apart; lanes up to the next
// multiple of the vector's width are filled too if `fill`.
template <class T>
void transpose_in(const char* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, T* to, ptrdiff_t to_stride,
                  bool fill, bool fetch) {
    constexpr int W = lanes_of<T>(), cell = cell_of<T>();
    ptrdiff_t i = 0;
    const bool follow = from_stride == inner * (ptrdiff_t)sizeof(T);  // the runs follow one another
    if (inner <= 4 && follow) {
        i = outer / W * W;
        if (inner == 1) part_short_runs<1>(from, i, to, to_stride);
        else if (inner == 2) part_short_runs<2>(from, i, to, to_stride);
        else if (inner == 3) part_short_runs<3>(from, i, to, to_stride);
        else part_short_runs<4>(from, i, to, to_stride);
    }
    for (; i < outer; i += W) {
        const int count = (int)(outer - i < W ? outer - i : W);
        if (inner < cell || count < W) {
            for (int k = 0; k < (fill ? W : count); ++k)
                for (ptrdiff_t j = 0; j < inner; ++j)
                    to[j * to_stride + i + k] =
                        read_bits<T>(from + (i + (k < count ? k : 0)) * from_stride + j * (ptrdiff_t)sizeof(T));
            continue;
        }
        const char* row = from + i * from_stride;
        if (fetch && follow) prefetch_run<0>(row, W * from_stride);
        for (ptrdiff_t j = 0; j < inner; j += cell) {
            if (j + cell > inner) j = inner - cell;
            typename VectorOf<T>::V v[cell];
            for (int r = 0; r < cell; ++r) v[r] = gather_cells<T>(row + j * (ptrdiff_t)sizeof(T) + r * from_stride, from_stride);
            transpose_cells(v);
            for (int r = 0; r < cell; ++r) store(to + (j + r) * to_stride + i, v[r]);
        }
    }
}

// to[i][j] = from[j * from_stride + i]: the way back, into runs of `inner` numbers to_stride bytes apart.
template <class T>
void transpose_out(const T* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, char* to, ptrdiff_t to_stride,
                   bool fetch) {
    constexpr int W = lanes_of<T>(), cell = cell_of<T>();
    ptrdiff_t i = 0;
    const bool follow = to_stride == inner * (ptrdiff_t)sizeof(T);  // the runs follow one another
    if ((inner <= 4 || inner == 8) && follow) {
        i = outer / W * W;
        if (inner == 1) join_short_runs<1>(from, from_stride, i, to);
        else if (inner == 2) join_short_runs<2>(from, from_stride, i, to);
        else if (inner == 3) join_short_runs<3>(from, from_stride, i, to);
        else if (inner == 4) join_short_runs<4>(from, from_stride, i, to);
        else join_short_runs<8>(from, from_stride, i, to);
    }
    for (; i < outer; i += W) {
        const int count = (int)(outer - i < W ? outer - i : W);
        if (inner < cell || count < W) {
            for (int k = 0; k < count; ++k)
                for (ptrdiff_t j = 0; j < inner; ++j)
                    __builtin_memcpy(to + (i + k) * to_stride + j * (ptrdiff_t)sizeof(T), from + j * from_stride + i + k,
                                     sizeof(T));
            continue;
        }
        char* row = to + i * to_stride;
        if (fetch && follow) prefetch_run<1>(row, W * to_stride);
        for (ptrdiff_t j = 0; j < inner; j += cell) {
            if (j + cell > inner) j = inner - cell;
            typename VectorOf<T>::V v[cell];
            for (int r = 0; r < cell; ++r) v[r] = load(from + (j + r) * from_stride + i);
            transpose_cells(v);
            for (int r = 0; r < cell; ++r) scatter_cells(v[r], row + j * (ptrdiff_t)sizeof(T) + r * to_stride, to_stride, cell);
        }
    }
}

// ---- the same of bfloat16 and float16, 8 classes at a time: half as many loads and shuffles as of floats ------------------
//
// Of as many of `outer` runs as are whole vectors of them; how many these were.

// f(run, class) for vectors of runs and 8 classes of theirs; the last 8 overlap those before.
template <class F> CELOSS_INLINE ptrdiff_t each_eight_classes(ptrdiff_t outer, ptrdiff_t inner, F f) {
    constexpr int W = lanes_of<float>();
    ptrdiff_t i = 0;
    for (; inner >= 8 && i + W <= outer; i += W)
        for (ptrdiff_t j = 0; j < inner; j += 8) {
            if (j + 8 > inner) j = inner - 8;
            f(i, j);
        }
    return i;
}

// Two bfloats are a number of 32 bits: one is its upper half, the other is shifted there.
inline ptrdiff_t transpose_bfloats_in(const char* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, float* to,
                                      ptrdiff_t to_stride) {
    return each_eight_classes(outer, inner, [&](ptrdiff_t i, ptrdiff_t j) CELOSS_LAMBDA_INLINE {
        F32 v[4];
        UNROLL_4 for (int r = 0; r < 4; ++r) v[r] = gather_cells<float>(from + (i + r) * from_stride + 2 * j, from_stride);
        transpose_cells(v);
        UNROLL_4 for (int r = 0; r < 4; ++r) {
            store(to + (j + 2 * r) * to_stride + i, (F32)((U32)v[r] << 16));
            store(to + (j + 2 * r + 1) * to_stride + i, (F32)((U32)v[r] & 0xffff0000u));
        }
    });
}
inline ptrdiff_t transpose_bfloats_out(const float* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, char* to,
                                       ptrdiff_t to_stride) {
    return each_eight_classes(outer, inner, [&](ptrdiff_t i, ptrdiff_t j) CELOSS_LAMBDA_INLINE {
        F32 v[4];
        UNROLL_4 for (int r = 0; r < 4; ++r) {
            const U32 a = rounded_to_bfloats(load(from + (j + 2 * r) * from_stride + i));
            const U32 b = rounded_to_bfloats(load(from + (j + 2 * r + 1) * from_stride + i));
            v[r] = (F32)((a >> 16) | (b & 0xffff0000u));
        }
        transpose_cells(v);
        UNROLL_4 for (int r = 0; r < 4; ++r) scatter_cells(v[r], to + (i + r) * to_stride + 2 * j, to_stride, 4);
    });
}

// float16 in cells of 8 x 8.
#if defined(__AVX2__)
#if defined(__AVX512F__)
// v[r] = the 16 bytes at row r, and those 8 rows further on; and back.
CELOSS_INLINE U16 two_rows(const char* row, ptrdiff_t stride) {
    return (U16)_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)row)),
                                        _mm_loadu_si128((const __m128i*)(row + 8 * stride)), 1);
}
CELOSS_INLINE void put_two_rows(U16 v, char* row, ptrdiff_t stride) {
    _mm_storeu_si128((__m128i*)row, _mm256_castsi256_si128((__m256i)v));
    _mm_storeu_si128((__m128i*)(row + 8 * stride), _mm256_extracti128_si256((__m256i)v, 1));
}
#define CELOSS_UNPACK(half, bits, a, b) (U16) _mm256_unpack##half##_epi##bits((__m256i)(a), (__m256i)(b))
#else
CELOSS_INLINE U16 two_rows(const char* row, ptrdiff_t) { return read_bits<U16>(row); }
CELOSS_INLINE void put_two_rows(U16 v, char* row, ptrdiff_t) { __builtin_memcpy(row, &v, sizeof v); }
#define CELOSS_UNPACK(half, bits, a, b) (U16) _mm_unpack##half##_epi##bits((__m128i)(a), (__m128i)(b))
#endif
CELOSS_INLINE void transpose_eight(U16* v) {
    U16 a[8], b[8];
    UNROLL_4 for (int k = 0; k < 4; ++k) {
        a[2 * k] = CELOSS_UNPACK(lo, 16, v[2 * k], v[2 * k + 1]);
        a[2 * k + 1] = CELOSS_UNPACK(hi, 16, v[2 * k], v[2 * k + 1]);
    }
    UNROLL_4 for (int k = 0; k < 4; ++k) {
        const U16* from = a + k / 2 * 4 + k % 2;
        b[2 * k] = CELOSS_UNPACK(lo, 32, from[0], from[2]);
        b[2 * k + 1] = CELOSS_UNPACK(hi, 32, from[0], from[2]);
    }
    UNROLL_4 for (int k = 0; k < 4; ++k) {
        v[2 * k] = CELOSS_UNPACK(lo, 64, b[k], b[k + 4]);
        v[2 * k + 1] = CELOSS_UNPACK(hi, 64, b[k], b[k + 4]);
    }
}
#undef CELOSS_UNPACK

inline ptrdiff_t transpose_halves_in(const char* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, float* to,
                                     ptrdiff_t to_stride) {
    return each_eight_classes(outer, inner, [&](ptrdiff_t i, ptrdiff_t j) CELOSS_LAMBDA_INLINE {
        U16 v[8];
        UNROLL_8 for (int r = 0; r < 8; ++r) v[r] = two_rows(from + (i + r) * from_stride + 2 * j, from_stride);
        transpose_eight(v);
        float* at = to + j * to_stride + i;
        UNROLL_8 for (int r = 0; r < 8; ++r) store(at + r * to_stride, floats_of_halves(v[r]));
    });
}
inline ptrdiff_t transpose_halves_out(const float* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, char* to,
                                      ptrdiff_t to_stride) {
    return each_eight_classes(outer, inner, [&](ptrdiff_t i, ptrdiff_t j) CELOSS_LAMBDA_INLINE {
        U16 v[8];
        const float* at = from + j * from_stride + i;
        UNROLL_8 for (int r = 0; r < 8; ++r) v[r] = halves_of(load(at + r * from_stride));
        transpose_eight(v);
        UNROLL_8 for (int r = 0; r < 8; ++r) put_two_rows(v[r], to + (i + r) * to_stride + 2 * j, to_stride);
    });
}
#else
inline ptrdiff_t transpose_halves_in(const char*, ptrdiff_t, ptrdiff_t, ptrdiff_t, float*, ptrdiff_t) { return 0; }
inline ptrdiff_t transpose_halves_out(const float*, ptrdiff_t, ptrdiff_t, ptrdiff_t, char*, ptrdiff_t) { return 0; }
#endif

// ---- a matrix and a tile -----------------------------------------------------------------------------------------------

// Both sides seen as runs: `outer` runs of `inner` numbers, where `inner` is the direction contiguous in the matrix.
template <class T> void load_tile(const Matrix* from, const Tile<T>* to, int fetch) {
    const ptrdiff_t size = item_size(from->storage);
    const bool classes_as_lanes = !has_rows_as_lanes(to);
    const ptrdiff_t padded = whole_groups(to->rows);
    const bool by_class = from->class_stride == size && (classes_as_lanes || from->row_stride != size);
    if (by_class || from->row_stride == size) {
        const ptrdiff_t outer = by_class ? to->rows : to->classes, inner = by_class ? to->classes : to->rows;
        const ptrdiff_t stride = by_class ? from->row_stride : from->class_stride;
        if (by_class == classes_as_lanes) {
            const ptrdiff_t to_stride = by_class ? to->row_stride : to->class_stride;
            for (ptrdiff_t o = 0; o < outer; ++o) {
                T* run = to->at + o * to_stride;
                read_run(from->at + o * stride, from->storage, run, inner);
                if (!by_class)
                    for (ptrdiff_t i = inner; i < padded; ++i) run[i] = T(0);
            }
            return;
        }
        const ptrdiff_t to_stride = by_class ? to->class_stride : to->row_stride;
        if (is_native<T>(from->storage))
            return transpose_in(from->at, stride, outer, inner, to->at, to_stride, by_class, fetch != 0);
        constexpr ptrdiff_t RUN = 64, RUNS = CELOSS_LANE_GROUP;
        T converted[RUNS * RUN];
        ptrdiff_t o = 0;
        if constexpr (sizeof(T) == 4)
            if (size == 2)
                o = (from->storage == STORED_BFLOAT16 ? transpose_bfloats_in : transpose_halves_in)(from->at, stride, outer,
                                                                                                    inner, to->at, to_stride);
        for (; o < outer; o += RUNS) {
            const ptrdiff_t runs = outer - o < RUNS ? outer - o : RUNS;
            if (stride == inner * size && inner <= RUN) {  // the runs follow one another: one long run
                read_run(from->at + o * stride, from->storage, converted, runs * inner);
                transpose_in((const char*)converted, inner * (ptrdiff_t)sizeof(T), runs, inner, to->at + o, to_stride, by_class,
                             false);
                continue;
            }
            for (ptrdiff_t start = 0; start < inner; start += RUN) {
                const ptrdiff_t n = inner - start < RUN ? inner - start : RUN;
                for (ptrdiff_t r = 0; r < runs; ++r)
                    read_run(from->at + (o + r) * stride + start * size, from->storage, converted + r * RUN, n);
                transpose_in((const char*)converted, RUN * (ptrdiff_t)sizeof(T), runs, n, to->at + start * to_stride + o,
                             to_stride, by_class, false);
            }
        }
        return;
    }
    for (ptrdiff_t i = 0; i < (classes_as_lanes ? to->rows : padded); ++i)
        for (ptrdiff_t j = 0; j < to->classes; ++j)
            to->at[i * to->row_stride + j * to->class_stride] =
                i < to->rows ? read_number<T>(from->at + i * from->row_stride + j * from->class_stride, from->storage) : T(0);
}

template <class T> void store_tile(const Tile<T>* from, const Matrix* to, int fetch) {
    const ptrdiff_t size = item_size(to->storage);
    const bool classes_as_lanes = !has_rows_as_lanes(from);
    const bool by_class = to->class_stride == size && (classes_as_lanes || to->row_stride != size);
    if (by_class || to->row_stride == size) {
        const ptrdiff_t outer = by_class ? from->rows : from->classes, inner = by_class ? from->classes : from->rows;
        const ptrdiff_t stride = by_class ? to->row_stride : to->class_stride;
        if (by_class == classes_as_lanes) {
            const ptrdiff_t from_stride = by_class ? from->row_stride : from->class_stride;
            for (ptrdiff_t o = 0; o < outer; ++o) write_run(from->at + o * from_stride, to->at + o * stride, to->storage, inner);
            return;
        }
        const ptrdiff_t from_stride = by_class ? from->class_stride : from->row_stride;
        if (is_native<T>(to->storage)) return transpose_out(from->at, from_stride, outer, inner, to->at, stride, fetch != 0);
        constexpr ptrdiff_t RUN = 64, RUNS = CELOSS_LANE_GROUP;
        T turned[RUNS * RUN];
        ptrdiff_t o = 0;
        if constexpr (sizeof(T) == 4)
            if (size == 2)
                o = (to->storage == STORED_BFLOAT16 ? transpose_bfloats_out : transpose_halves_out)(from->at, from_stride, outer,
                                                                                                    inner, to->at, stride);
        for (; o < outer; o += RUNS) {
            const ptrdiff_t runs = outer - o < RUNS ? outer - o : RUNS;
            if (stride == inner * size && inner <= RUN) {
                transpose_out(from->at + o, from_stride, runs, inner, (char*)turned, inner * (ptrdiff_t)sizeof(T), false);
                write_run(turned, to->at + o * stride, to->storage, runs * inner);
                continue;
            }
            for (ptrdiff_t start = 0; start < inner; start += RUN) {
                const ptrdiff_t n = inner - start < RUN ? inner - start : RUN;
                transpose_out(from->at + start * from_stride + o, from_stride, runs, n, (char*)turned, RUN * (ptrdiff_t)sizeof(T),
                              false);
                for (ptrdiff_t r = 0; r < runs; ++r)
                    write_run(turned + r * RUN, to->at + (o + r) * stride + start * size, to->storage, n);
            }
        }
        return;
    }
    for (ptrdiff_t i = 0; i < from->rows; ++i)
        for (ptrdiff_t j = 0; j < from->classes; ++j)
            write_number<T>(from->at[i * from->row_stride + j * from->class_stride],
                            to->at + i * to->row_stride + j * to->class_stride, to->storage);
}

// ---- labels ---------------------------------------------------------------------------------------------------------

template <class T, class L> void labels_as(const Matrix* from, const Tile<T>* to) {
    for (ptrdiff_t i = 0; i < to->rows; ++i) {
        const char* row = from->at + i * from->row_stride;
        T* out = to->at + i * to->row_stride;
        L label;
        if (from->class_stride == (ptrdiff_t)sizeof(L)) {
            for (ptrdiff_t j = 0; j < to->classes; ++j) {
                __builtin_memcpy(&label, row + j * (ptrdiff_t)sizeof(L), sizeof label);
                out[j] = (T)label;
            }
        } else {
            for (ptrdiff_t j = 0; j < to->classes; ++j) {
                __builtin_memcpy(&label, row + j * from->class_stride, sizeof label);
                out[j] = (T)label;
            }
        }
    }
}

template <class T> void load_labels(const Matrix* from, const Tile<T>* to) {
    switch (from->storage) {
    case STORED_INT8: return labels_as<T, int8_t>(from, to);
    case STORED_UINT8: return labels_as<T, uint8_t>(from, to);
    case STORED_INT32: return labels_as<T, int32_t>(from, to);
    default: return labels_as<T, int64_t>(from, to);
    }
}

}  // namespace
