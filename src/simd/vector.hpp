// vector.hpp: the vectors of one level: width, load, store, tail, convert, transpose, reduce.
//
// No header with code in it but the compiler's intrinsics. Everything lives in an anonymous namespace, so that the copy
// compiled for one level can never be linked into another.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#define CELOSS_VECTOR_BYTES 64
#elif defined(__AVX2__)
#include <immintrin.h>
#define CELOSS_VECTOR_BYTES 32
#elif defined(__SSE2__)
#include <emmintrin.h>
#define CELOSS_VECTOR_BYTES 16
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
#define CELOSS_VECTOR_BYTES 16
#else
#error "celoss: no vector unit is known for this target (x86-64 and aarch64 are)"
#endif

#define CELOSS_INLINE inline __attribute__((always_inline))
#define CELOSS_LAMBDA_INLINE __attribute__((always_inline))
#define UNROLL_4 _Pragma("GCC unroll 4")
#define UNROLL_8 _Pragma("GCC unroll 8")

namespace {

// Vectors of the level, by element type. A comparison of V gives an M: all bits set where it holds.
template <class T> struct VectorOf;
template <> struct VectorOf<float> {
    typedef float V __attribute__((vector_size(CELOSS_VECTOR_BYTES)));
    typedef int32_t M __attribute__((vector_size(CELOSS_VECTOR_BYTES)));
    typedef int32_t Int;
};
template <> struct VectorOf<double> {
    typedef double V __attribute__((vector_size(CELOSS_VECTOR_BYTES)));
    typedef int64_t M __attribute__((vector_size(CELOSS_VECTOR_BYTES)));
    typedef int64_t Int;
};
typedef VectorOf<float>::V F32;
typedef VectorOf<double>::V F64;
typedef VectorOf<float>::M M32;
typedef VectorOf<double>::M M64;
typedef uint64_t U64 __attribute__((vector_size(CELOSS_VECTOR_BYTES)));
typedef float F128 __attribute__((vector_size(16)));  // a quarter of a row: four floats
typedef double D128 __attribute__((vector_size(16)));

template <class T> constexpr int lanes_of() { return CELOSS_VECTOR_BYTES / (int)sizeof(T); }
template <class T> constexpr T smallest_normal() { return sizeof(T) == 4 ? (T)0x1p-126 : (T)0x1p-1022; }
template <class T> CELOSS_INLINE typename VectorOf<T>::V splat(T value) { return value - typename VectorOf<T>::V{}; }

// ---- load and store: whole vectors at any address, and the first `count` elements of a vector -------------------------

template <class T> CELOSS_INLINE typename VectorOf<T>::V load(const T* from) {
    typename VectorOf<T>::V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}
template <class T> CELOSS_INLINE void store(T* to, typename VectorOf<T>::V v) { __builtin_memcpy(to, &v, sizeof v); }

#if defined(__AVX512F__)
CELOSS_INLINE __mmask16 first_lanes_f32(int count) { return (__mmask16)((1u << count) - 1u); }
CELOSS_INLINE __mmask8 first_lanes_f64(int count) { return (__mmask8)((1u << count) - 1u); }
CELOSS_INLINE F32 load_first(const float* from, int count, float rest) {
    return (F32)_mm512_mask_loadu_ps(_mm512_set1_ps(rest), first_lanes_f32(count), from);
}
CELOSS_INLINE F64 load_first(const double* from, int count, double rest) {
    return (F64)_mm512_mask_loadu_pd(_mm512_set1_pd(rest), first_lanes_f64(count), from);
}
CELOSS_INLINE void store_first(float* to, int count, F32 v) { _mm512_mask_storeu_ps(to, first_lanes_f32(count), (__m512)v); }
CELOSS_INLINE void store_first(double* to, int count, F64 v) { _mm512_mask_storeu_pd(to, first_lanes_f64(count), (__m512d)v); }
#elif defined(__AVX2__)
alignas(64) constexpr int32_t first_lanes_i32[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
alignas(64) constexpr int64_t first_lanes_i64[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
CELOSS_INLINE __m256i first_lanes_f32(int count) { return _mm256_loadu_si256((const __m256i*)(first_lanes_i32 + 8 - count)); }
CELOSS_INLINE __m256i first_lanes_f64(int count) { return _mm256_loadu_si256((const __m256i*)(first_lanes_i64 + 4 - count)); }
CELOSS_INLINE F32 load_first(const float* from, int count, float rest) {
    __m256i mask = first_lanes_f32(count);
    return (F32)_mm256_blendv_ps(_mm256_set1_ps(rest), _mm256_maskload_ps(from, mask), (__m256)mask);
}
CELOSS_INLINE F64 load_first(const double* from, int count, double rest) {
    __m256i mask = first_lanes_f64(count);
    return (F64)_mm256_blendv_pd(_mm256_set1_pd(rest), _mm256_maskload_pd(from, mask), (__m256d)mask);
}
CELOSS_INLINE void store_first(float* to, int count, F32 v) { _mm256_maskstore_ps(to, first_lanes_f32(count), (__m256)v); }
CELOSS_INLINE void store_first(double* to, int count, F64 v) { _mm256_maskstore_pd(to, first_lanes_f64(count), (__m256d)v); }
#else
// Through a small copy: never a byte outside the array.
template <class T> CELOSS_INLINE typename VectorOf<T>::V load_first(const T* from, int count, T rest) {
    T lane[lanes_of<T>()];
    for (int i = 0; i < lanes_of<T>(); ++i) lane[i] = rest;
    for (int i = 0; i < count; ++i) lane[i] = from[i];
    return load(lane);
}
template <class T> CELOSS_INLINE void store_first(T* to, int count, typename VectorOf<T>::V v) {
    for (int i = 0; i < count; ++i) to[i] = v[i];
}
#endif

template <class T> CELOSS_INLINE typename VectorOf<T>::V load_count(const T* from, int count) {
    return count == lanes_of<T>() ? load(from) : load_first(from, count, T(0));
}
template <class T> CELOSS_INLINE void store_count(T* to, int count, typename VectorOf<T>::V v) {
    if (count == lanes_of<T>()) store(to, v);
    else store_first(to, count, v);
}

// base[at] in each lane.
CELOSS_INLINE F64 gather(const double* base, M64 at) {
#if defined(__AVX512F__)
    return (F64)_mm512_i64gather_pd((__m512i)at, base, 8);
#elif defined(__AVX2__)
    return (F64)_mm256_i64gather_pd(base, (__m256i)at, 8);
#else
    F64 v{};
    for (int i = 0; i < lanes_of<double>(); ++i) v[i] = base[at[i]];
    return v;
#endif
}

// What was stored is read back from memory, not from the registers it came from: converting from memory saves shuffles.
CELOSS_INLINE void keep_in_memory() { __asm__ volatile("" ::: "memory"); }

// Past the cache, of what is not read soon: whole lines are then written without being read before. `to` is aligned. Where a
// machine has no such store, as any other. `end_streams` comes before another thread looks.
#if defined(__x86_64__)
CELOSS_INLINE void stream(float* to, F32 v) {
#if CELOSS_VECTOR_BYTES == 64
    _mm512_stream_ps(to, (__m512)v);
#elif CELOSS_VECTOR_BYTES == 32
    _mm256_stream_ps(to, (__m256)v);
#else
    _mm_stream_ps(to, (__m128)v);
#endif
}
CELOSS_INLINE void stream(double* to, F64 v) { stream((float*)to, (F32)v); }
CELOSS_INLINE void end_streams() { _mm_sfence(); }
#else
template <class T, class V> CELOSS_INLINE void stream(T* to, V v) { store(to, v); }
CELOSS_INLINE void end_streams() {}
#endif

// f(index, lanes, whether `to` + index may be streamed to) for the vectors of n numbers: what is before the first line of `to`
// (STREAM; else nothing), line after line, and the rest.
template <bool STREAM, class T, class F> CELOSS_INLINE void each_line(const T* to, ptrdiff_t n, F f) {
    constexpr int W = lanes_of<T>(), LINE = STREAM ? 64 / (int)sizeof(T) : 4 * W;
    ptrdiff_t i = 0;
    const auto some = [&](ptrdiff_t end) CELOSS_LAMBDA_INLINE {
        for (; i + W <= end; i += W) f(i, W, std::false_type());
        if (i < end) f(i, (int)(end - i), std::false_type());
        i = end;
    };
    if (STREAM) {
        const ptrdiff_t before = (ptrdiff_t)((64 - (size_t)to % 64) % 64 / sizeof(T));
        some(before < n ? before : n);
    }
    for (; i + LINE <= n; i += LINE) UNROLL_4 for (int k = 0; k < LINE; k += W) f(i + k, W, std::bool_constant<STREAM>());
    some(n);
}

// A page ahead, where the hardware's own prefetching ends.
constexpr ptrdiff_t PREFETCH_AHEAD = 4096;

// ---- arithmetic the vector extensions have no word for -----------------------------------------------------------------

// a * b + c, with one rounding where the level has the instruction. Nothing in celoss relies on the single rounding: the
// constants are cut so that the products that must be exact are exact.
#if defined(__AVX512F__)
CELOSS_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
CELOSS_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif defined(__FMA__)
CELOSS_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
CELOSS_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#elif defined(__aarch64__)
CELOSS_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
CELOSS_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#else
CELOSS_INLINE F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
CELOSS_INLINE F64 fma(F64 a, F64 b, F64 c) { return a * b + c; }
#endif

// The larger of the two; x where x is NaN. The x86 instruction returns its second operand where either is NaN or both are
// zeros, that of aarch64 a NaN where there is one, and 0 of 0 and -0: no result may show which of them it was.
#if defined(__AVX512F__)
CELOSS_INLINE F32 max_or_nan(F32 bound, F32 x) { return (F32)_mm512_max_ps((__m512)bound, (__m512)x); }
CELOSS_INLINE F64 max_or_nan(F64 bound, F64 x) { return (F64)_mm512_max_pd((__m512d)bound, (__m512d)x); }
#elif defined(__AVX2__)
CELOSS_INLINE F32 max_or_nan(F32 bound, F32 x) { return (F32)_mm256_max_ps((__m256)bound, (__m256)x); }
CELOSS_INLINE F64 max_or_nan(F64 bound, F64 x) { return (F64)_mm256_max_pd((__m256d)bound, (__m256d)x); }
#elif defined(__SSE2__)
CELOSS_INLINE F32 max_or_nan(F32 bound, F32 x) { return (F32)_mm_max_ps((__m128)bound, (__m128)x); }
CELOSS_INLINE F64 max_or_nan(F64 bound, F64 x) { return (F64)_mm_max_pd((__m128d)bound, (__m128d)x); }
#else
CELOSS_INLINE F32 max_or_nan(F32 bound, F32 x) { return (F32)vmaxq_f32((float32x4_t)bound, (float32x4_t)x); }
CELOSS_INLINE F64 max_or_nan(F64 bound, F64 x) { return (F64)vmaxq_f64((float64x2_t)bound, (float64x2_t)x); }
#endif

template <class T> CELOSS_INLINE typename VectorOf<T>::M lane_numbers() {
    typename VectorOf<T>::M numbers;
    for (int i = 0; i < lanes_of<T>(); ++i) numbers[i] = i;
    return numbers;
}
template <class T> CELOSS_INLINE typename VectorOf<T>::M first_lanes(int count) { return lane_numbers<T>() < count; }

CELOSS_INLINE F32 select(M32 where, F32 yes, F32 no) { return where ? yes : no; }
CELOSS_INLINE F64 select(M64 where, F64 yes, F64 no) { return where ? yes : no; }
// v, but 0 where `where`.
CELOSS_INLINE F32 without(F32 v, M32 where) { return (F32)((M32)v & ~where); }
CELOSS_INLINE F64 without(F64 v, M64 where) { return (F64)((M64)v & ~where); }
CELOSS_INLINE double absolute(double v) { return __builtin_fabs(v); }
CELOSS_INLINE F32 absolute(F32 v) { return (F32)((M32)v & INT32_MAX); }
CELOSS_INLINE F64 absolute(F64 v) { return (F64)((M64)v & INT64_MAX); }

template <class M> CELOSS_INLINE bool any_lane(M mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) != 0;
#elif defined(__SSE2__)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    return vmaxvq_u32((uint32x4_t)mask) != 0;
#endif
}

// A bit for each lane, the first the lowest.
template <class T> CELOSS_INLINE uint64_t bits_of_lanes(typename VectorOf<T>::M mask) {
#if defined(__AVX512F__)
    if (sizeof(T) == 4) return _mm512_movepi32_mask((__m512i)mask);
    return _mm512_movepi64_mask((__m512i)mask);
#elif defined(__AVX2__)
    if (sizeof(T) == 4) return (uint64_t)_mm256_movemask_ps((__m256)mask);
    return (uint64_t)_mm256_movemask_pd((__m256d)mask);
#elif defined(__SSE2__)
    if (sizeof(T) == 4) return (uint64_t)_mm_movemask_ps((__m128)mask);
    return (uint64_t)_mm_movemask_pd((__m128d)mask);
#else
    uint64_t bits = 0;
    for (int k = 0; k < lanes_of<T>(); ++k) bits |= (uint64_t)(mask[k] != 0) << k;
    return bits;
#endif
}

// ---- float32 lanes as two float64 vectors, and back -------------------------------------------------------------------

#if defined(__AVX512F__)
CELOSS_INLINE F64 widen_low(F32 v) { return (F64)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)); }
CELOSS_INLINE F64 widen_high(F32 v) { return (F64)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1)); }
CELOSS_INLINE F32 narrow(F64 low, F64 high) {
    return (F32)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)low)), _mm512_cvtpd_ps((__m512d)high), 1);
}
#elif defined(__AVX2__)
CELOSS_INLINE F64 widen_low(F32 v) { return (F64)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)); }
CELOSS_INLINE F64 widen_high(F32 v) { return (F64)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1)); }
CELOSS_INLINE F32 narrow(F64 low, F64 high) {
    return (F32)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps((__m256d)low)), _mm256_cvtpd_ps((__m256d)high), 1);
}
#elif defined(__SSE2__)
CELOSS_INLINE F64 widen_low(F32 v) { return (F64)_mm_cvtps_pd((__m128)v); }
CELOSS_INLINE F64 widen_high(F32 v) { return (F64)_mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v)); }
CELOSS_INLINE F32 narrow(F64 low, F64 high) {
    return (F32)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low), _mm_cvtpd_ps((__m128d)high));
}
#else
CELOSS_INLINE F64 widen_low(F32 v) { return (F64)vcvt_f64_f32(vget_low_f32((float32x4_t)v)); }
CELOSS_INLINE F64 widen_high(F32 v) { return (F64)vcvt_high_f64_f32((float32x4_t)v); }
CELOSS_INLINE F32 narrow(F64 low, F64 high) {
    return (F32)vcombine_f32(vcvt_f32_f64((float64x2_t)low), vcvt_f32_f64((float64x2_t)high));
}
#endif

// The same from memory.
#if defined(__AVX512F__)
CELOSS_INLINE F64 widen_low_at(const float* from) { return (F64)_mm512_cvtps_pd(_mm256_loadu_ps(from)); }
CELOSS_INLINE F64 widen_high_at(const float* from) { return (F64)_mm512_cvtps_pd(_mm256_loadu_ps(from + 8)); }
#elif defined(__AVX2__)
CELOSS_INLINE F64 widen_low_at(const float* from) { return (F64)_mm256_cvtps_pd(_mm_loadu_ps(from)); }
CELOSS_INLINE F64 widen_high_at(const float* from) { return (F64)_mm256_cvtps_pd(_mm_loadu_ps(from + 4)); }
#else
CELOSS_INLINE F64 widen_low_at(const float* from) { return widen_low(load(from)); }
CELOSS_INLINE F64 widen_high_at(const float* from) { return widen_high(load(from)); }
#endif

// As many floats as a float64 vector has lanes, from memory.
CELOSS_INLINE F64 widen_half(const float* from) {
#if defined(__AVX512F__) || defined(__AVX2__)
    return widen_low_at(from);
#else
    F64 v{};
    for (int k = 0; k < lanes_of<double>(); ++k) v[k] = (double)from[k];
    return v;
#endif
}

// ---- reduce: one value of all lanes --------------------------------------------------------------------------------------
//
// Sums over the classes of a row have 16 float64 lanes on every level, in as many vectors as they take: class j goes to lane
// j % 16. So they are the same to the last bit wherever fma is.

constexpr int SUM_LANES = 16;
constexpr int SUM_VECTORS = SUM_LANES / lanes_of<double>();

// Two times two of them, added in the one order that there is: 8 apart, 4 apart, then neighbours.
CELOSS_INLINE double sum_of_neighbours(D128 ab, D128 cd) {
    const D128 sums = __builtin_shufflevector(ab, cd, 0, 2) + __builtin_shufflevector(ab, cd, 1, 3);
    return sums[0] + sums[1];
}
CELOSS_INLINE double sum_of_lanes(const F64* v) {
#if defined(__AVX512F__)
    const __m512d eight = (__m512d)(v[0] + v[1]);
    const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    return sum_of_neighbours((D128)_mm256_castpd256_pd128(four), (D128)_mm256_extractf128_pd(four, 1));
#elif defined(__AVX2__)
    const __m256d four = (__m256d)((v[0] + v[2]) + (v[1] + v[3]));
    return sum_of_neighbours((D128)_mm256_castpd256_pd128(four), (D128)_mm256_extractf128_pd(four, 1));
#else
    return sum_of_neighbours((D128)((v[0] + v[4]) + (v[2] + v[6])), (D128)((v[1] + v[5]) + (v[3] + v[7])));
#endif
}

// The lowest of the lanes of a mask's type.
template <class T> CELOSS_INLINE ptrdiff_t lowest_lane(typename VectorOf<T>::M v) {
#if defined(__AVX512F__)
    return sizeof(T) == 4 ? _mm512_reduce_min_epi32((__m512i)v) : (ptrdiff_t)_mm512_reduce_min_epi64((__m512i)v);
#else
    typename VectorOf<T>::Int lane[lanes_of<T>()], lowest;
    __builtin_memcpy(lane, &v, sizeof lane);
    lowest = lane[0];
    for (int k = 1; k < lanes_of<T>(); ++k) lowest = lane[k] < lowest ? lane[k] : lowest;
    return (ptrdiff_t)lowest;
#endif
}

template <class T> CELOSS_INLINE T max_lanes(typename VectorOf<T>::V v) {
    T lane[lanes_of<T>()];
    store(lane, v);
    T best = lane[0];
    for (int i = 1; i < lanes_of<T>(); ++i) best = lane[i] > best || lane[i] != lane[i] ? lane[i] : best;
    return best;
}
#if defined(__AVX2__) && !defined(__AVX512F__)
template <> CELOSS_INLINE float max_lanes<float>(F32 v) {
    __m128 a = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps(a, a, 1)));
}
#endif
#if defined(__AVX512F__)
template <> CELOSS_INLINE float max_lanes<float>(F32 v) { return _mm512_reduce_max_ps((__m512)v); }
template <> CELOSS_INLINE double max_lanes<double>(F64 v) { return _mm512_reduce_max_pd((__m512d)v); }
#endif

}  // namespace
