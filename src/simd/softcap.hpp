// softcap.hpp: logits as the options of language models have them: times a scale, and under a soft cap.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "exp_sum.hpp"
#include "layout.hpp"
#include "maximum.hpp"
#include "side.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// c tanh(a x / c) and its slope a (1 - tanh^2). With E = exp(-2 |a x / c|) and m = E - 1
//
//     tanh = -m / (2 + m)        1 - tanh^2 = 4 E / (2 + m)^2
//
// where nothing cancels: m = 2^n (e^t - 1) + (2^n - 1), of which one is 0 or both are negative; or n is -1, and they are within a
// factor of two. The argument is a product of x and a constant in two parts. Infinite logits stay: -inf is no number under a cap
// but a class that cannot occur. The slope is 0 where E is no normal number.
// ulp: tanh float32 1.511 at 0x1.620aa8p-3
// ulp: tanh float64 1.501 at 0x1.fb2539b4bd0e6p-6
// ulp: tanh.slope float32 3.345 at 0x1.35ab62p+1
// ulp: tanh.slope float64 3.276 at 0x1.52922b6b893e2p+0
template <class T> struct SoftCap {
    T argument, argument_low;  // -2 a / c
    T cap, four_scales;        // c, 4 a

    SoftCap(double scale, double c) : cap((T)c), four_scales((T)(4 * scale)) {
        const double ratio = -2 * scale / c;
        argument = (T)ratio;
        argument_low = sizeof(T) == 4 ? (T)(ratio - (double)argument) : (T)(__builtin_fma(-ratio, c, -2 * scale) / c);
        if (!(argument_low - argument_low == 0)) argument_low = 0;
    }
};

// a b - product, of a product that is rounded: without the instruction by splitting both in halves (Dekker).
template <class T, class V> CELOSS_INLINE V lost_by_product(V a, V b, V product) {
#if defined(__FMA__) || defined(__aarch64__)
    return fma(a, b, -product);
#else
    constexpr T split = sizeof(T) == 4 ? T(4097) : T(134217729);
    const V a_top = a * split, b_top = b * split, a1 = a_top - (a_top - a), b1 = b_top - (b_top - b), a2 = a - a1, b2 = b - b1;
    return ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2;
#endif
}

// numerator - quotient * divisor.
template <class T, class V> CELOSS_INLINE V left_by_quotient(V numerator, V quotient, V divisor) {
#if defined(__FMA__) || defined(__aarch64__)
    return fma(-quotient, divisor, numerator);
#else
    const V product = quotient * divisor;
    return (numerator - product) - lost_by_product<T>(quotient, divisor, product);
#endif
}

template <class V> struct Softened {
    V value, slope;
};
template <class T, class V> CELOSS_INLINE Softened<V> softened(V x, const SoftCap<T>& of) {
    using K = ExpConstants<T>;
    typedef typename Kind<V>::M M;
    constexpr T round = K::round + T(K::exponent_bias), lowest = sizeof(T) == 4 ? T(-87.25) : T(-708);
    const V size = absolute(x), k = V{} + of.argument;
    const V product = size * k, d = max_or_nan(V{} + lowest, product);
    const V z = fma(d, V{} + K::log2e, V{} + round), n = z - round;
    const auto beyond = product < V{} + lowest;
    const V low = select(beyond, V{}, fma(size, V{} + of.argument_low, lost_by_product<T>(size, k, product)));
    const V fraction = expm1_reduced<V, T>(fma(n, V{} - K::ln2_high, d), fma(n, V{} - K::ln2_low, low));
    const V power = (V)((M)z << K::exponent_shift);
    const V e = fma(power, fraction, power), m = fma(power, fraction, power - T(1));
    // m and 2 + m in two parts, and what is missing from the quotients.
    const V m_low = fma(power, fraction, (power - T(1)) - m);
    const V bottom = m + T(2), bottom_low = (m - (bottom - T(2))) + m_low, near = (V{} + T(1)) / bottom;
    const V inverse = fma(near, left_by_quotient<T>(V{} + T(1), near, bottom) - bottom_low * near, near), first = -m * inverse;
    const V tanh = absolute(fma(left_by_quotient<T>(-m, first, bottom) - fma(first, bottom_low, m_low), inverse, first)),
            value = tanh * of.cap;
    const V sure = V{} + T(__builtin_inff());
    return {select(size == sure, x, select(x < V{}, -value, value)), select(beyond, V{}, e * inverse * inverse * of.four_scales)};
}

// Runs of numbers that follow one another: f(run, how many).
template <class T, class F> CELOSS_INLINE void each_run(const Tile<T>* tile, F f) {
    if (has_rows_as_lanes(tile))
        for (ptrdiff_t j = 0; j < tile->classes; ++j) f(j, whole_groups(tile->rows));
    else
        for (ptrdiff_t i = 0; i < tile->rows; ++i) f(i, tile->classes);
}
template <class T> CELOSS_INLINE T* run_of(const Tile<T>* tile, ptrdiff_t run) {
    return tile->at + run * (has_rows_as_lanes(tile) ? tile->class_stride : tile->row_stride);
}

// The vectors of a run, through f, which returns logits and slopes of one or several vectors; and the maximum of the logits.
template <class T, class F> CELOSS_INLINE T soften_run(const T* from, T* to, T* slope_to, ptrdiff_t n, F f) {
    constexpr int W = lanes_of<T>(), BATCH = SIDE_VECTORS * W;
    auto best = minus_infinity<T>();
    ptrdiff_t j = 0;
    for (; j + BATCH <= n; j += BATCH) {
        const auto result = f(load_side<SIDE_VECTORS>(from + j));
        store_side(to + j, result.value);
        if (slope_to) store_side(slope_to + j, result.slope);
        UNROLL_8 for (int k = 0; k < SIDE_VECTORS; ++k) best = larger_of(best, result.value[k]);
    }
    each_vector<T>(n - j, [&](ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const auto v = count == W ? load(from + j + i) : load_first(from + j + i, count, (T)-__builtin_inff());
        const auto result = f(v);
        store_count(to + j + i, count, result.value);
        if (slope_to) store_count(slope_to + j + i, count, result.slope);
        best = larger_of(best, result.value);
    });
    return max_lanes<T>(best);
}

template <class T> struct Scaled {
    T scale;
    template <class V> CELOSS_INLINE Softened<V> operator()(V x) const { return {x * (V{} + scale), V{}}; }
};
template <class T> struct Capped {
    SoftCap<T> cap;
    template <class V> CELOSS_INLINE Softened<V> operator()(V x) const { return softened<T>(x, cap); }
};

template <class T> void soften(const Tile<T>* x, const Tile<T>* u, const Tile<T>* slope, double scale, double cap, Rows<T>* r) {
    const Scaled<T> scaled = {(T)scale};
    const Capped<T> capped = {SoftCap<T>(scale, cap > 0 ? cap : 1.0)};
    each_run(u, [&](ptrdiff_t run, ptrdiff_t n) CELOSS_LAMBDA_INLINE {
        const T* from = run_of(x, run);
        T *to = run_of(u, run), *slope_to = slope->at ? run_of(slope, run) : nullptr;
        const T most = cap > 0 ? soften_run(from, to, slope_to, n, capped) : soften_run(from, to, (T*)nullptr, n, scaled);
        if (r && !has_rows_as_lanes(u)) r->maximum[run] = most;
    });
}

template <class T> void times_slope(const Tile<T>* g, const Tile<T>* slope, const Rows<T>* r) {
    const int64_t* targets = r->targets;
    if (!has_rows_as_lanes(g)) {
        for (ptrdiff_t i = 0; i < g->rows; ++i) {
            T* row = g->at + i * g->row_stride;
            const T* of_row = slope->at + i * slope->row_stride;
            if (targets && targets[i] < 0) continue;
            each_vector<T>(g->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                store_count(row + j, count, load_count(row + j, count) * load_count(of_row + j, count));
            });
        }
        return;
    }
    for (ptrdiff_t i = 0; i < g->rows; i += lanes_of<T>()) {
        const auto ignored = targets ? load_targets<T>(targets + i) < 0 : typename VectorOf<T>::M{};
        for (ptrdiff_t j = 0; j < g->classes; ++j) {
            T* at = g->at + j * g->class_stride + i;
            store(at, without(load(at) * load(slope->at + j * slope->class_stride + i), ignored));
        }
    }
}

}  // namespace
