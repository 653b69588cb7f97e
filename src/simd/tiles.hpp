// tiles.hpp: between the user's arrays (any strides, any storage) and tiles of scratch in the arithmetic type: convert,
// copy, transpose. Includes vector.hpp and block_ops.h only.
#pragma once

#include "block_ops.h"
#include "vector.hpp"

namespace {

// ---- one number ------------------------------------------------------------------------------------------------------

template <class U> CELOSS_INLINE U read_bits(const char* from) {
    U bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return bits;
}
template <class To, class From> CELOSS_INLINE To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

inline float float_of_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) return same_bits<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);  // inf, NaN
    // Normal and subnormal alike: as the bits of a float 2^-112 times as large.
    return same_bits<float>(sign | same_bits<uint32_t>(same_bits<float>(magnitude << 13) * 0x1p+112f));
}

inline uint16_t half_of_float(float value) {
    const uint32_t bits = same_bits<uint32_t>(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);  // rounds to 65536 or more
    if (magnitude < 0x38800000u)                                      // subnormal: let the addition round
        return (uint16_t)(sign | (same_bits<uint32_t>(same_bits<float>(magnitude) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

inline uint16_t bfloat_of_float(float value) {
    const uint32_t bits = same_bits<uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

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

constexpr ptrdiff_t item_size(int storage) { return storage == STORED_FLOAT64 ? 8 : storage == STORED_FLOAT32 ? 4 : 2; }
template <class T> constexpr bool is_native(int storage) { return storage == (sizeof(T) == 8 ? STORED_FLOAT64 : STORED_FLOAT32); }

// ---- a run of numbers ------------------------------------------------------------------------------------------------

// 16-bit formats on float vectors, where the level has instructions for them.
typedef uint16_t U16 __attribute__((vector_size(CELOSS_VECTOR_BYTES / 2)));
typedef uint32_t U32 __attribute__((vector_size(CELOSS_VECTOR_BYTES)));

CELOSS_INLINE F32 floats_of_bfloats(const char* from) { return (F32)(__builtin_convertvector(read_bits<U16>(from), U32) << 16); }
CELOSS_INLINE void store_bfloats(char* to, F32 v) {
    U32 bits = (U32)v;
    U32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    U32 nan = (bits >> 16) | 0x40u;
    U16 out = __builtin_convertvector((v == v) ? rounded : nan, U16);
    __builtin_memcpy(to, &out, sizeof out);
}
#if defined(__AVX512F__)
#define CELOSS_HALF_VECTORS 1
CELOSS_INLINE F32 floats_of_halves(const char* from) { return (F32)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from)); }
CELOSS_INLINE void store_halves(char* to, F32 v) {
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
#define CELOSS_HALF_VECTORS 1
CELOSS_INLINE F32 floats_of_halves(const char* from) { return (F32)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)); }
CELOSS_INLINE void store_halves(char* to, F32 v) {
    _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
#define CELOSS_HALF_VECTORS 1
CELOSS_INLINE F32 floats_of_halves(const char* from) {
    return (F32)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*)from)));
}
CELOSS_INLINE void store_halves(char* to, F32 v) { vst1_u16((uint16_t*)to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v))); }
#endif

// A vector of floats from any storage but float64, and back. float16 only where there are instructions for it.
constexpr bool has_float_vectors(int storage) {
#ifndef CELOSS_HALF_VECTORS
    if (storage == STORED_FLOAT16) return false;
#endif
    return storage != STORED_FLOAT64;
}
CELOSS_INLINE F32 floats_of(const char* from, int storage) {
#ifdef CELOSS_HALF_VECTORS
    if (storage == STORED_FLOAT16) return floats_of_halves(from);
#endif
    return storage == STORED_BFLOAT16 ? floats_of_bfloats(from) : read_bits<F32>(from);
}
CELOSS_INLINE void store_floats(char* to, int storage, F32 v) {
#ifdef CELOSS_HALF_VECTORS
    if (storage == STORED_FLOAT16) return store_halves(to, v);
#endif
    if (storage == STORED_BFLOAT16) store_bfloats(to, v);
    else __builtin_memcpy(to, &v, sizeof v);
}

// A page ahead, where the hardware's own prefetching ends.
constexpr ptrdiff_t AHEAD = 4096;

template <class T> void read_run(const char* from, int storage, T* to, ptrdiff_t n) {
    if (is_native<T>(storage)) {
        __builtin_memcpy(to, from, (size_t)n * sizeof(T));
        return;
    }
    ptrdiff_t i = 0;
    if constexpr (sizeof(T) == 4) {
        constexpr int W = lanes_of<T>();
        if (storage == STORED_BFLOAT16)
            for (; i + W <= n; i += W) {
                __builtin_prefetch(from + 2 * i + AHEAD);
                store(to + i, floats_of_bfloats(from + 2 * i));
            }
#ifdef CELOSS_HALF_VECTORS
        if (storage == STORED_FLOAT16)
            for (; i + W <= n; i += W) {
                __builtin_prefetch(from + 2 * i + AHEAD);
                store(to + i, floats_of_halves(from + 2 * i));
            }
#endif
    } else if (has_float_vectors(storage)) {
        constexpr int W = lanes_of<T>();
        for (; i + 2 * W <= n; i += 2 * W) {
            const F32 v = floats_of(from + i * item_size(storage), storage);
            store(to + i, widen_low(v));
            store(to + i + W, widen_high(v));
        }
    }
    for (; i < n; ++i) to[i] = read_number<T>(from + i * item_size(storage), storage);
}

template <class T> void write_run(const T* from, char* to, int storage, ptrdiff_t n) {
    if (is_native<T>(storage)) {
        __builtin_memcpy(to, from, (size_t)n * sizeof(T));
        return;
    }
    ptrdiff_t i = 0;
    if constexpr (sizeof(T) == 4) {
        constexpr int W = lanes_of<T>();
        if (storage == STORED_BFLOAT16)
            for (; i + W <= n; i += W) {
                __builtin_prefetch(to + 2 * i + AHEAD, 1);
                store_bfloats(to + 2 * i, load(from + i));
            }
#ifdef CELOSS_HALF_VECTORS
        if (storage == STORED_FLOAT16)
            for (; i + W <= n; i += W) {
                __builtin_prefetch(to + 2 * i + AHEAD, 1);
                store_halves(to + 2 * i, load(from + i));
            }
#endif
    } else if (has_float_vectors(storage)) {
        constexpr int W = lanes_of<T>();
        for (; i + 2 * W <= n; i += 2 * W)
            store_floats(to + i * item_size(storage), storage, narrow(load(from + i), load(from + i + W)));
    }
    for (; i < n; ++i) write_number(from[i], to + i * item_size(storage), storage);
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

// The way back.
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
    for (ptrdiff_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + AHEAD + b, WRITE);
}

// to[j * to_stride + i] = from[i][j] for `outer` runs of `inner` numbers, from_stride bytes apart; lanes up to the next
// multiple of the vector's width are filled too if `fill`.
template <class T>
void transpose_in(const char* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, T* to, ptrdiff_t to_stride,
                  bool fill) {
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
        if (follow) prefetch_run<0>(row, W * from_stride);
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
void transpose_out(const T* from, ptrdiff_t from_stride, ptrdiff_t outer, ptrdiff_t inner, char* to, ptrdiff_t to_stride) {
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
        if (follow) prefetch_run<1>(row, W * to_stride);
        for (ptrdiff_t j = 0; j < inner; j += cell) {
            if (j + cell > inner) j = inner - cell;
            typename VectorOf<T>::V v[cell];
            for (int r = 0; r < cell; ++r) v[r] = load(from + (j + r) * from_stride + i);
            transpose_cells(v);
            for (int r = 0; r < cell; ++r) scatter_cells(v[r], row + j * (ptrdiff_t)sizeof(T) + r * to_stride, to_stride, cell);
        }
    }
}

// ---- a matrix and a tile -----------------------------------------------------------------------------------------------

// Both sides seen as runs: `outer` runs of `inner` numbers, where `inner` is the direction contiguous in the matrix.
template <class T> void load_tile(const Matrix* from, const Tile<T>* to) {
    const ptrdiff_t size = item_size(from->storage);
    const bool tile_by_class = to->class_stride == 1;
    const ptrdiff_t padded = (to->rows + CELOSS_LANE_GROUP - 1) / CELOSS_LANE_GROUP * CELOSS_LANE_GROUP;
    const bool by_class = from->class_stride == size && (tile_by_class || from->row_stride != size);
    if (by_class || from->row_stride == size) {
        const ptrdiff_t outer = by_class ? to->rows : to->classes, inner = by_class ? to->classes : to->rows;
        const ptrdiff_t stride = by_class ? from->row_stride : from->class_stride;
        if (by_class == tile_by_class) {
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
        if (is_native<T>(from->storage)) return transpose_in(from->at, stride, outer, inner, to->at, to_stride, by_class);
        constexpr ptrdiff_t RUN = 64, RUNS = CELOSS_LANE_GROUP;
        T converted[RUNS * RUN];
        for (ptrdiff_t o = 0; o < outer; o += RUNS) {
            const ptrdiff_t runs = outer - o < RUNS ? outer - o : RUNS;
            if (stride == inner * size && inner <= RUN) {  // the runs follow one another: one long run
                read_run(from->at + o * stride, from->storage, converted, runs * inner);
                transpose_in((const char*)converted, inner * (ptrdiff_t)sizeof(T), runs, inner, to->at + o, to_stride, by_class);
                continue;
            }
            for (ptrdiff_t start = 0; start < inner; start += RUN) {
                const ptrdiff_t n = inner - start < RUN ? inner - start : RUN;
                for (ptrdiff_t r = 0; r < runs; ++r)
                    read_run(from->at + (o + r) * stride + start * size, from->storage, converted + r * RUN, n);
                transpose_in((const char*)converted, RUN * (ptrdiff_t)sizeof(T), runs, n, to->at + start * to_stride + o,
                             to_stride, by_class);
            }
        }
        return;
    }
    for (ptrdiff_t i = 0; i < (tile_by_class ? to->rows : padded); ++i)
        for (ptrdiff_t j = 0; j < to->classes; ++j)
            to->at[i * to->row_stride + j * to->class_stride] =
                i < to->rows ? read_number<T>(from->at + i * from->row_stride + j * from->class_stride, from->storage) : T(0);
}

template <class T> void store_tile(const Tile<T>* from, const Matrix* to) {
    const ptrdiff_t size = item_size(to->storage);
    const bool tile_by_class = from->class_stride == 1;
    const bool by_class = to->class_stride == size && (tile_by_class || to->row_stride != size);
    if (by_class || to->row_stride == size) {
        const ptrdiff_t outer = by_class ? from->rows : from->classes, inner = by_class ? from->classes : from->rows;
        const ptrdiff_t stride = by_class ? to->row_stride : to->class_stride;
        if (by_class == tile_by_class) {
            const ptrdiff_t from_stride = by_class ? from->row_stride : from->class_stride;
            for (ptrdiff_t o = 0; o < outer; ++o) write_run(from->at + o * from_stride, to->at + o * stride, to->storage, inner);
            return;
        }
        const ptrdiff_t from_stride = by_class ? from->class_stride : from->row_stride;
        if (is_native<T>(to->storage)) return transpose_out(from->at, from_stride, outer, inner, to->at, stride);
        constexpr ptrdiff_t RUN = 64, RUNS = CELOSS_LANE_GROUP;
        T turned[RUNS * RUN];
        for (ptrdiff_t o = 0; o < outer; o += RUNS) {
            const ptrdiff_t runs = outer - o < RUNS ? outer - o : RUNS;
            if (stride == inner * size && inner <= RUN) {
                transpose_out(from->at + o, from_stride, runs, inner, (char*)turned, inner * (ptrdiff_t)sizeof(T));
                write_run(turned, to->at + o * stride, to->storage, runs * inner);
                continue;
            }
            for (ptrdiff_t start = 0; start < inner; start += RUN) {
                const ptrdiff_t n = inner - start < RUN ? inner - start : RUN;
                transpose_out(from->at + start * from_stride + o, from_stride, runs, n, (char*)turned,
                              RUN * (ptrdiff_t)sizeof(T));
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

}  // namespace
