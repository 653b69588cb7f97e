// halves.hpp: float16 and bfloat16, which are storage only: one number, and vectors of them, as floats and back.
#pragma once

#include "contract.h"
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

// ---- vectors; of float16 where the level has instructions for them -----------------------------------------------------

typedef uint16_t U16 __attribute__((vector_size(CELOSS_VECTOR_BYTES / 2)));
typedef uint32_t U32 __attribute__((vector_size(CELOSS_VECTOR_BYTES)));

CELOSS_INLINE F32 floats_of_bfloats(U16 v) { return (F32)(__builtin_convertvector(v, U32) << 16); }
// The bits of v rounded to the upper 16, to the nearest, ties to even; what is left below is anything. Rounding may carry a NaN's
// bits beyond it: those that make a quiet one are set again.
CELOSS_INLINE U32 rounded_to_bfloats(F32 v) {
    const U32 bits = (U32)v, rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
#if defined(__AVX512F__)
    const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    return (U32)_mm512_mask_or_epi32((__m512i)rounded, nan, (__m512i)rounded, _mm512_set1_epi32(0x7fc00000));
#else
    return rounded | ((U32)(v != v) & 0x7fc00000u);
#endif
}
CELOSS_INLINE U16 bfloats_of(F32 v) { return __builtin_convertvector(rounded_to_bfloats(v) >> 16, U16); }
// Two vectors, one behind the other.
CELOSS_INLINE void store_two_bfloats(char* to, F32 v, F32 w) {
    const U32 a = rounded_to_bfloats(v), b = rounded_to_bfloats(w);
#if defined(__AVX512F__)
    alignas(64) static constexpr uint16_t upper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                       33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16((__m512i)a, _mm512_load_si512(upper), (__m512i)b));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_packus_epi32(_mm256_srli_epi32((__m256i)a, 16), _mm256_srli_epi32((__m256i)b, 16));
    _mm256_storeu_si256((__m256i*)to, _mm256_permute4x64_epi64(pairs, 0xd8));
#else
    const U16 first = __builtin_convertvector(a >> 16, U16), second = __builtin_convertvector(b >> 16, U16);
    __builtin_memcpy(to, &first, sizeof first);
    __builtin_memcpy(to + sizeof first, &second, sizeof second);
#endif
}
CELOSS_INLINE F32 floats_of_bfloats(const char* from) { return floats_of_bfloats(read_bits<U16>(from)); }
CELOSS_INLINE void store_bfloats(char* to, F32 v) {
    const U16 out = bfloats_of(v);
    __builtin_memcpy(to, &out, sizeof out);
}
#if defined(__AVX512F__)
#define CELOSS_HALF_VECTORS 1
CELOSS_INLINE F32 floats_of_halves(U16 v) { return (F32)_mm512_cvtph_ps((__m256i)v); }
CELOSS_INLINE U16 halves_of(F32 v) { return (U16)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT); }
#elif defined(__F16C__)
#define CELOSS_HALF_VECTORS 1
CELOSS_INLINE F32 floats_of_halves(U16 v) { return (F32)_mm256_cvtph_ps((__m128i)v); }
CELOSS_INLINE U16 halves_of(F32 v) { return (U16)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT); }
#elif defined(__aarch64__)
#define CELOSS_HALF_VECTORS 1
CELOSS_INLINE F32 floats_of_halves(U16 v) { return (F32)vcvt_f32_f16((float16x4_t)v); }
CELOSS_INLINE U16 halves_of(F32 v) { return (U16)vcvt_f16_f32((float32x4_t)v); }
#endif
#ifdef CELOSS_HALF_VECTORS
CELOSS_INLINE F32 floats_of_halves(const char* from) { return floats_of_halves(read_bits<U16>(from)); }
CELOSS_INLINE void store_halves(char* to, F32 v) {
    const U16 out = halves_of(v);
    __builtin_memcpy(to, &out, sizeof out);
}
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

}  // namespace
