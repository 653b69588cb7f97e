// number.hpp: the numbers that losses are computed with, as float64 lanes: plain for float32, whose rounding they are far
// below; for float64 with their rounding errors, so that a formula of many steps shows only its last one.
#pragma once

#include "contract.h"
#include "vector.hpp"

namespace {

// A number of T's in two parts.
template <class V> struct Parts {
    V high, low;
};

// high + low, |low| a unit in the last place of high or less. No error is known of an infinite number: 0.
struct HighLow {
    F64 high, low;
    CELOSS_INLINE HighLow() : high{}, low{} {}
    CELOSS_INLINE HighLow(F64 h, F64 l) : high(h), low(l) {}
    CELOSS_INLINE explicit HighLow(F64 h) : high(h), low{} {}
};

// a + b as value and rounding error, for any finite a and b.
CELOSS_INLINE HighLow two_sum(F64 a, F64 b) {
    F64 sum = a + b, b_seen = sum - a;
    return {sum, (a - (sum - b_seen)) + (b - b_seen)};
}

// numerator - quotient * divisor; without the instruction, by splitting both factors in halves of 26 bits (Dekker).
CELOSS_INLINE F64 remainder_of(F64 numerator, F64 quotient, F64 divisor) {
#if defined(__FMA__) || defined(__aarch64__)
    return fma(-quotient, divisor, numerator);
#else
    F64 q_top = quotient * 0x1.0000002p+27, d_top = divisor * 0x1.0000002p+27;
    F64 q1 = q_top - (q_top - quotient), q2 = quotient - q1, d1 = d_top - (d_top - divisor), d2 = divisor - d1;
    return (((numerator - q1 * d1) - q1 * d2) - q2 * d1) - q2 * d2;
#endif
}

// The same in float32; without the instruction in float64, where the product is exact.
CELOSS_INLINE F32 remainder_of(F32 numerator, F32 quotient, F32 divisor) {
#if defined(__FMA__) || defined(__aarch64__)
    return fma(-quotient, divisor, numerator);
#else
    return narrow(widen_low(numerator) - widen_low(quotient) * widen_low(divisor),
                  widen_high(numerator) - widen_high(quotient) * widen_high(divisor));
#endif
}

// A rounding error; 0 where it is NaN, since the number is infinite.
CELOSS_INLINE F64 known(F64 error) { return select(error == error, error, F64{}); }

// a + b of finite numbers.
CELOSS_INLINE HighLow operator+(HighLow a, HighLow b) {
    const HighLow sum = two_sum(a.high, b.high);
    const F64 low = sum.low + (a.low + b.low), high = sum.high + low;
    return {high, low - (high - sum.high)};
}
// a + b of any numbers: infinite ones have no rounding error.
CELOSS_INLINE HighLow sum_of(HighLow a, HighLow b) {
    const HighLow sum = two_sum(a.high, b.high);
    const F64 low = known(sum.low) + (a.low + b.low), high = sum.high + low;
    return {high, known(low - (high - sum.high))};
}
CELOSS_INLINE F64 sum_of(F64 a, F64 b) { return a + b; }

CELOSS_INLINE HighLow operator-(HighLow a) { return {-a.high, -a.low}; }
CELOSS_INLINE HighLow operator-(HighLow a, HighLow b) { return a + -b; }

// product - a * b for the rounded product of a and b, also where products of halves would underflow.
CELOSS_INLINE F64 excess_of(F64 product, F64 a, F64 b) {
#if defined(__FMA__) || defined(__aarch64__)
    return remainder_of(product, a, b);
#else
    const F64 up = select(absolute(product) < 0x1p-900, F64{} + 0x1p+200, F64{} + 1.0);
    return remainder_of(product * up, a * up, b) / up;
#endif
}

CELOSS_INLINE HighLow operator*(HighLow a, HighLow b) {
    const F64 product = a.high * b.high, error = fma(a.high, b.low, fma(a.low, b.high, -excess_of(product, a.high, b.high)));
    return {product, select(error - error == 0.0, error, F64{})};  // infinite where the product is
}

CELOSS_INLINE F64 multiply_add(F64 a, F64 b, F64 c) { return fma(a, b, c); }
CELOSS_INLINE HighLow multiply_add(HighLow a, HighLow b, HighLow c) { return a * b + c; }

CELOSS_INLINE HighLow select(M64 where, HighLow yes, HighLow no) {
    return {select(where, yes.high, no.high), select(where, yes.low, no.low)};
}

// What the losses of logits of dtype T are computed with.
template <class T> struct NumberOf {
    typedef F64 N;
};
template <> struct NumberOf<double> {
    typedef HighLow N;
};
template <class T> using Number = typename NumberOf<T>::N;

template <class T> CELOSS_INLINE Number<T> number(F64 high) { return Number<T>(high); }
template <class T> CELOSS_INLINE Number<T> number(F64 high, F64 low) {
    if constexpr (sizeof(T) == 8) return {high, low};
    else return high;
}

// a - b of two numbers that are exact.
template <class T> CELOSS_INLINE Number<T> difference(F64 a, F64 b) {
    if constexpr (sizeof(T) == 4) return a - b;
    const HighLow exact = two_sum(a, -b);
    return number<T>(exact.high, known(exact.low));
}

CELOSS_INLINE F64 top_of(F64 a) { return a; }
CELOSS_INLINE F64 top_of(HighLow a) { return a.high; }
CELOSS_INLINE F64 rounded(F64 a) { return a; }
CELOSS_INLINE F64 rounded(HighLow a) { return a.high + a.low; }

// weight * a, where nothing of an infinity is nothing (and of a NaN a NaN).
template <class N> CELOSS_INLINE N weighted(N weight, N a) {
    const F64 top = top_of(a);
    return select((top_of(weight) == 0.0) & (absolute(top) == (double)__builtin_inff()), N{}, weight * a);
}

// The sum of 16 lanes and of their rounding errors, in the order of sum_of_lanes. No error is known of an infinite sum: 0.
inline double sum_with_error(const F64* v, const F64* v_low, double* low) {
    double sum[SUM_LANES], lost = sum_of_lanes(v_low);
    for (int k = 0; k < SUM_VECTORS; ++k) store(sum + k * lanes_of<double>(), v[k]);
    const auto add = [&](int to, int from) {
        const double both = sum[to] + sum[from], seen = both - sum[to];
        const double error = (sum[to] - (both - seen)) + (sum[from] - seen);
        lost += error == error ? error : 0.0;
        sum[to] = both;
    };
    for (int i = 0; i < 8; ++i) add(i, i + 8);
    for (int i = 0; i < 4; ++i) add(i, i + 4);
    add(0, 1), add(2, 3), add(0, 2);
    const double both = sum[0] + lost, error = lost - (both - sum[0]);
    *low = error == error ? error : 0.0;
    return both;
}

// A running sum of so many vectors, lane by lane; for float64 with the rounding errors of the additions.
template <class T, int VECTORS> struct Sum;
template <int VECTORS> struct Sum<float, VECTORS> {
    F64 sum[VECTORS]{};
    CELOSS_INLINE void add(int k, F64 v) { sum[k] += v; }
    CELOSS_INLINE F64 of_vector(int k) const { return sum[k]; }
    CELOSS_INLINE double of_lanes(double*) const { return sum_of_lanes(sum); }
};
template <int VECTORS> struct Sum<double, VECTORS> {
    F64 sum[VECTORS]{}, lost[VECTORS]{};
    CELOSS_INLINE void add(int k, HighLow v) {
        const HighLow both = two_sum(sum[k], v.high);
        sum[k] = both.high;
        lost[k] += known(both.low) + v.low;
    }
    CELOSS_INLINE HighLow of_vector(int k) const { return sum_of(HighLow(sum[k]), HighLow(lost[k])); }
    CELOSS_INLINE double of_lanes(double* low) const { return sum_with_error(sum, lost, low); }
};

// A number of each of the rows from `row` on, one a lane.
template <class T> CELOSS_INLINE Number<T> load_number(const PerRow& numbers, ptrdiff_t row) {
    if constexpr (sizeof(T) == 8) return {load(numbers.high + row), load(numbers.low + row)};
    else return load(numbers.high + row);
}
CELOSS_INLINE void store_number(PerRow& numbers, ptrdiff_t row, F64 a) { store(numbers.high + row, a); }
CELOSS_INLINE void store_number(PerRow& numbers, ptrdiff_t row, HighLow a) {
    store(numbers.high + row, a.high);
    store(numbers.low + row, a.low);
}

typedef float HalfOfFloats __attribute__((vector_size(CELOSS_VECTOR_BYTES / 2)));

// As many numbers as a float64 vector has lanes, or the first `count` of them, as float64; and back.
CELOSS_INLINE F64 load_wide(const double* from, int count) {
    return count >= lanes_of<double>() ? load(from) : load_first(from, count, 0.0);
}
CELOSS_INLINE F64 load_wide(const float* from, int count) {
    if (count >= lanes_of<double>()) return widen_half(from);
    F64 v{};
    for (int i = 0; i < count; ++i) v[i] = (double)from[i];
    return v;
}
CELOSS_INLINE void store_wide(double* to, int count, F64 v) {
    if (count >= lanes_of<double>()) store(to, v);
    else store_first(to, count, v);
}
CELOSS_INLINE void store_wide(float* to, int count, F64 v) {
    const HalfOfFloats half = __builtin_convertvector(v, HalfOfFloats);
    if (count >= lanes_of<double>()) __builtin_memcpy(to, &half, sizeof half);
    else
        for (int i = 0; i < count; ++i) to[i] = half[i];
}

// Per-row float64s from `from` on, one a lane of T.
template <class T> CELOSS_INLINE typename VectorOf<T>::V load_narrowed(const double* from) {
    if constexpr (sizeof(T) == 4) return narrow(load(from), load(from + lanes_of<double>()));
    else return load(from);
}

// f(vector of the sum, class, lanes in use) for the vectors of a row.
template <class F> CELOSS_INLINE void each_wide_vector(ptrdiff_t n, F f) {
    constexpr int W = lanes_of<double>();
    ptrdiff_t j = 0;
    for (; j + SUM_LANES <= n; j += SUM_LANES) UNROLL_8 for (int k = 0; k < SUM_VECTORS; ++k) f(k, j + k * W, W);
    UNROLL_8 for (int k = 0; k < SUM_VECTORS; ++k) {
        const ptrdiff_t left = n - j - k * W;
        if (left > 0) f(k, j + k * W, (int)(left < W ? left : W));
    }
}

// f(index, count) for the vectors of n numbers of T; `count` lanes of the last.
template <class T, class F> CELOSS_INLINE void each_vector(ptrdiff_t n, F f) {
    constexpr int W = lanes_of<T>();
    ptrdiff_t i = 0;
    for (; i + W <= n; i += W) f(i, W);
    if (i < n) f(i, (int)(n - i));
}

// 1 / a.
CELOSS_INLINE F64 inverse_of(F64 a) { return 1.0 / a; }
CELOSS_INLINE HighLow inverse_of(HighLow a) {
    const F64 inverse = 1.0 / a.high;
    return {inverse, known((remainder_of(F64{} + 1.0, inverse, a.high) - inverse * a.low) * inverse)};
}

}  // namespace
