// gradient.hpp: the pass that writes the gradient of rows.
#pragma once

#include "contract.h"
#include "layout.hpp"
#include "number.hpp"
#include "soft_targets.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// a * e with a in two parts, so that only the product rounds; below the smallest normal number: 0.
template <class T> struct RowFactor {
    typedef typename VectorOf<T>::V V;
    V high, low, smallest;

    // One row's, in all lanes.
    CELOSS_INLINE RowFactor(T h, T l, T s) : high(splat<T>(h)), low(splat<T>(l)), smallest(splat<T>(s)) {}
    // coefficient * inverse of the rows from `row` on, one a lane.
    CELOSS_INLINE RowFactor(const Rows<T>* r, ptrdiff_t row) {
        constexpr int W = lanes_of<double>();
        const double *a = r->coefficient.high, *inverse = r->inverse.high;
        const F64 a0 = load(a + row), inverse0 = load(inverse + row), factor0 = a0 * inverse0;
        if constexpr (sizeof(T) == 4) {
            const F64 factor1 = load(a + row + W) * load(inverse + row + W);
            high = narrow(factor0, factor1);
            low = narrow(factor0 - widen_low(high), factor1 - widen_high(high));
        } else {
            high = factor0;
            low = fma(a0, load(r->inverse.low + row), remainder_of(-factor0, -a0, inverse0));
            low = fma(load(r->coefficient.low + row), inverse0, low);
        }
        low = select(low - low == V{}, low, V{});  // an infinite or NaN factor has no low part
        smallest = smallest_normal<T>() / absolute(high);
    }
    CELOSS_INLINE V times(V e) const {
#if !defined(__FMA__) && !defined(__aarch64__)
        if constexpr (sizeof(T) == 4) {
            const F64 p0 = widen_low(e) * (widen_low(high) + widen_low(low));
            const F64 p1 = widen_high(e) * (widen_high(high) + widen_high(low));
            return select(e < smallest, V{}, narrow(p0, p1));
        }
#endif
        return select(e < smallest, V{}, fma(e, high, e * low));
    }
    // times(e) - minus.
    CELOSS_INLINE V times_less(V e, Parts<V> minus) const {
#if !defined(__FMA__) && !defined(__aarch64__)
        if constexpr (sizeof(T) == 4) {
            const F64 p0 = widen_low(e) * (widen_low(high) + widen_low(low)) - (widen_low(minus.high) + widen_low(minus.low));
            const F64 p1 =
                widen_high(e) * (widen_high(high) + widen_high(low)) - (widen_high(minus.high) + widen_high(minus.low));
            return select(e < smallest, -minus.high, narrow(p0, p1));
        }
#endif
        return select(e < smallest, -minus.high, fma(e, high, -minus.high) + fma(e, low, -minus.low));
    }
};

// A float64 in two parts of T.
template <class T> CELOSS_INLINE Parts<typename VectorOf<T>::V> in_parts(double a) {
    const T high = (T)a, low = (T)(a - (double)high);
    return {splat<T>(high), splat<T>(low == low ? low : T(0))};
}

// Classes as lanes: one row. The factor is a copy: for all that the compiler knows, a store to g might change another one's.
template <class T, bool MINUS> void scaled_row(const T* e, T* g, ptrdiff_t classes, RowFactor<T> factor, double minus) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    const Parts<V> less = in_parts<T>(minus);
    const auto scaled = [&](V v) CELOSS_LAMBDA_INLINE { return MINUS ? factor.times_less(v, less) : factor.times(v); };
    ptrdiff_t j = 0;
    for (; j + 4 * W <= classes; j += 4 * W)
        UNROLL_4 for (int k = 0; k < 4; ++k) store(g + j + k * W, scaled(load(e + j + k * W)));
    for (; j + W <= classes; j += W) store(g + j, scaled(load(e + j)));
    if (j < classes) store_first(g + j, (int)(classes - j), scaled(load_first(e + j, (int)(classes - j), T(0))));
}

// The same in two parts of T.
template <class T> CELOSS_INLINE Parts<typename VectorOf<T>::V> load_parts(const double* from) {
    const auto high = load_narrowed<T>(from);
    if constexpr (sizeof(T) == 8) {
        return {high, F64{}};
    } else {
        const F32 low = narrow(load(from) - widen_low(high), load(from + lanes_of<double>()) - widen_high(high));
        return {high, select(low == low, low, F32{})};
    }
}

// Rows as lanes: one vector holds the same class of many rows. SOME_IGNORED: their lanes become 0, whatever is there.
template <class T, bool MINUS, bool SOME_IGNORED>
CELOSS_INLINE void scaled_lanes_of(const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride, ptrdiff_t classes,
                                   const RowFactor<T> factor, Parts<typename VectorOf<T>::V> less,
                                   typename VectorOf<T>::M ignored) {
    for (ptrdiff_t j = 0; j < classes; ++j, from += from_stride, to += to_stride) {
        const auto v = MINUS ? factor.times_less(load(from), less) : factor.times(load(from));
        store(to, SOME_IGNORED ? without(v, ignored) : v);
    }
}
template <class T, bool MINUS> void scaled_lanes(const Tile<T>& e, const Tile<T>& g, const double* minus, const Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    for (ptrdiff_t i = 0; i < e.rows; i += lanes_of<T>()) {
        const RowFactor<T> factor(r, i);
        const Parts<V> less = MINUS ? load_parts<T>(minus + i) : Parts<V>{};
        const M ignored = r->targets ? load_targets<T>(r->targets + i) < 0 : M{};
        if (any_lane(ignored))
            scaled_lanes_of<T, MINUS, true>(e.at + i, e.class_stride, g.at + i, g.class_stride, e.classes, factor, less, ignored);
        else
            scaled_lanes_of<T, MINUS, false>(e.at + i, e.class_stride, g.at + i, g.class_stride, e.classes, factor, less,
                                             ignored);
    }
}

template <class T> void clear_row(const Tile<T>* g, ptrdiff_t i) {
    T* row = g->at + i * g->row_stride;
    if (!has_rows_as_lanes(g)) __builtin_memset(row, 0, (size_t)g->classes * sizeof(T));
    else
        for (ptrdiff_t j = 0; j < g->classes; ++j) row[j * g->class_stride] = T(0);
}

// at_i at class_i; a whole row of 0 where class_i < 0.
template <class T> void put_or_clear(const Tile<T>* g, const int64_t* class_of, const double* at) {
    for (ptrdiff_t i = 0; i < g->rows; ++i)
        if (class_of[i] >= 0) g->at[i * g->row_stride + (ptrdiff_t)class_of[i] * g->class_stride] = (T)at[i];
        else clear_row(g, i);
}

// f(row, its factor) of the rows that are not ignored.
template <class T, class F> CELOSS_INLINE void each_row_with_factor(ptrdiff_t rows, const Rows<T>* r, F f) {
    constexpr int W = lanes_of<T>();
    const int64_t* targets = r->targets;
    for (ptrdiff_t first = 0; first < rows; first += W) {
        const RowFactor<T> factors(r, first);
        T high[W], low[W], smallest[W];
        store(high, factors.high);
        store(low, factors.low);
        store(smallest, factors.smallest);
        for (ptrdiff_t i = first; i < rows && i < first + W; ++i)
            if (!targets || targets[i] >= 0) f(i, RowFactor<T>(high[i - first], low[i - first], smallest[i - first]));
    }
}

// coefficient_i p_ij - minus_i (minus may be null), and at the target. Products below the smallest normal number become 0.
template <class T> void scaled(const Tile<T>* e, const Tile<T>* g, const double* minus, const Rows<T>* r) {
    const int64_t* targets = r->targets;
    if (has_rows_as_lanes(e)) {
        minus ? scaled_lanes<T, true>(*e, *g, minus, r) : scaled_lanes<T, false>(*e, *g, minus, r);
        if (targets) put(g, targets, r->at_target);
        return;
    }
    each_row_with_factor<T>(e->rows, r, [&](ptrdiff_t i, const RowFactor<T>& factor) CELOSS_LAMBDA_INLINE {
        const T* from = e->at + i * e->row_stride;
        T* to = g->at + i * g->row_stride;
        if (minus) scaled_row<T, true>(from, to, e->classes, factor, minus[i]);
        else scaled_row<T, false>(from, to, e->classes, factor, 0.0);
    });
    if (targets) put_or_clear(g, targets, r->at_target);
}

template <class T> void gradient(const Tile<T>* e, const Tile<T>* g, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    // A focal factor may lie below float32's range, so that it takes the way of the soft targets, which is in float64.
    if (!o->soft_targets && !(o->focal_gamma > 0)) return scaled(e, g, (const double*)nullptr, r);
    // Without weights and probabilities the same is subtracted for every class. (Not so in a piece of a long row.)
    if (o->soft_targets && !o->probabilities && !o->class_weight && r->targets) {
        double* minus = r->subtracted.high;
        for (ptrdiff_t i = 0; i < e->rows; ++i) minus[i] *= o->add;
        return scaled(e, g, minus, r);
    }
    soft_gradient(e, g, q, o, r);
    if (r->targets) put_or_clear(g, r->targets, r->at_target);
}

}  // namespace
