// side.hpp: several vectors worked on side by side, step after step.
//
// The operations of one chain wait for one another, and a CPU's schedulers do not hold enough of the next chain to fill the gaps
// (an exponential's is some 50 cycles long). So a formula that is written for a vector V is also called with Side<V, K>, K
// vectors whose steps alternate in the order of the program.
#pragma once

#include "vector.hpp"

namespace {

// The comparisons' type, and the number type, of a V.
template <class V> struct Kind;
template <> struct Kind<F32> {
    typedef M32 M;
    typedef float T;
};
template <> struct Kind<F64> {
    typedef M64 M;
    typedef double T;
};
template <> struct Kind<M32> {
    typedef M32 M;
    typedef int32_t T;
};
template <> struct Kind<M64> {
    typedef M64 M;
    typedef int64_t T;
};

template <> struct Kind<U64> {
    typedef M64 M;
    typedef uint64_t T;
};

template <class V, int K> struct Side {
    typedef Side<typename Kind<V>::M, K> M;
    typedef typename Kind<V>::T T;
    V at[K];

    CELOSS_INLINE Side() : at{} {}
    // The same in each.
    CELOSS_INLINE Side(V v) { UNROLL_8 for (int k = 0; k < K; ++k) at[k] = v; }
    CELOSS_INLINE Side(T v) { UNROLL_8 for (int k = 0; k < K; ++k) at[k] = v - V{}; }
    // The same bits as numbers of another kind.
    template <class Other> CELOSS_INLINE explicit Side(const Side<Other, K>& v) {
        UNROLL_8 for (int k = 0; k < K; ++k) at[k] = (V)v.at[k];
    }
    CELOSS_INLINE V& operator[](int k) { return at[k]; }
    CELOSS_INLINE const V& operator[](int k) const { return at[k]; }

#define CELOSS_EACH(Result, expression)                                                                                          \
    Result r;                                                                                                                    \
    UNROLL_8 for (int k = 0; k < K; ++k) r.at[k] = expression;                                                                   \
    return r
    friend CELOSS_INLINE Side operator+(Side a, Side b) { CELOSS_EACH(Side, a.at[k] + b.at[k]); }
    friend CELOSS_INLINE Side operator-(Side a, Side b) { CELOSS_EACH(Side, a.at[k] - b.at[k]); }
    friend CELOSS_INLINE Side operator*(Side a, Side b) { CELOSS_EACH(Side, a.at[k] * b.at[k]); }
    friend CELOSS_INLINE Side operator/(Side a, Side b) { CELOSS_EACH(Side, a.at[k] / b.at[k]); }
    friend CELOSS_INLINE Side operator-(Side a) { CELOSS_EACH(Side, -a.at[k]); }
    friend CELOSS_INLINE Side operator<<(Side a, int bits) { CELOSS_EACH(Side, a.at[k] << bits); }
    friend CELOSS_INLINE Side operator>>(Side a, int bits) { CELOSS_EACH(Side, a.at[k] >> bits); }
    friend CELOSS_INLINE M operator==(Side a, Side b) { CELOSS_EACH(M, a.at[k] == b.at[k]); }
    friend CELOSS_INLINE Side operator&(Side a, Side b) { CELOSS_EACH(Side, a.at[k] & b.at[k]); }
    friend CELOSS_INLINE M operator<(Side a, Side b) { CELOSS_EACH(M, a.at[k] < b.at[k]); }
    friend CELOSS_INLINE Side fma(Side a, Side b, Side c) { CELOSS_EACH(Side, fma(a.at[k], b.at[k], c.at[k])); }
    friend CELOSS_INLINE Side max_or_nan(Side bound, Side x) { CELOSS_EACH(Side, max_or_nan(bound.at[k], x.at[k])); }
    friend CELOSS_INLINE Side absolute(Side a) { CELOSS_EACH(Side, absolute(a.at[k])); }
    friend CELOSS_INLINE Side select(M where, Side yes, Side no) { CELOSS_EACH(Side, select(where.at[k], yes.at[k], no.at[k])); }
#undef CELOSS_EACH
};

template <class T, int K> using SideOf = Side<typename VectorOf<T>::V, K>;

template <class V, int K> struct Kind<Side<V, K>> {
    typedef typename Side<V, K>::M M;
};
// A V's bits, where a difference may be further than an int64 can say.
template <class V> struct Unsigned;
template <> struct Unsigned<F64> {
    typedef U64 U;
};
template <int K> struct Unsigned<Side<F64, K>> {
    typedef Side<U64, K> U;
};

// ---- memory, and the other width ---------------------------------------------------------------------------------------

template <int K, class T> CELOSS_INLINE SideOf<T, K> load_side(const T* from) {
    SideOf<T, K> v;
    UNROLL_8 for (int k = 0; k < K; ++k) v[k] = load(from + k * lanes_of<T>());
    return v;
}
template <class V, int K, class T> CELOSS_INLINE void store_side(T* to, const Side<V, K>& v) {
    UNROLL_8 for (int k = 0; k < K; ++k) store(to + k * lanes_of<T>(), v[k]);
}
template <int K> CELOSS_INLINE Side<F64, 2 * K> widen(const Side<F32, K>& v) {
    Side<F64, 2 * K> wide;
    UNROLL_8 for (int k = 0; k < K; ++k) wide[2 * k] = widen_low(v[k]), wide[2 * k + 1] = widen_high(v[k]);
    return wide;
}

}  // namespace
