// statistics.hpp: what is asked of a row beside its loss: logsumexp, entropy, and the rank of its target.
#pragma once

#include "contract.h"
#include "cross_entropy.hpp"
#include "hessian.hpp"
#include "layout.hpp"
#include "number.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// How many logits of a row are above x.
template <class T> ptrdiff_t count_above(const T* from, ptrdiff_t classes, T x) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    const V bound = splat<T>(x);
    M minus_count{}, other{};
    constexpr int W = lanes_of<T>();
    ptrdiff_t j = 0;
    for (; j + 2 * W <= classes; j += 2 * W) {
        minus_count += (M)(load(from + j) > bound);
        other += (M)(load(from + j + W) > bound);
    }
    each_vector<T>(classes - j, [&](ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const V v = count == W ? load(from + j + i) : load_first(from + j + i, count, (T)-__builtin_inff());
        minus_count += (M)(v > bound);
    });
    minus_count += other;
    ptrdiff_t above = 0;
    for (int k = 0; k < W; ++k) above -= (ptrdiff_t)minus_count[k];
    return above;
}

template <class T> void ranks(const Tile<T>* x, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    constexpr int W = lanes_of<T>();
    if (!has_rows_as_lanes(x)) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            if (r->targets[i] < 0) continue;
            const T* row = x->at + i * x->row_stride;
            r->rank[i] = count_above(row, x->classes, row[r->targets[i]]);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < x->rows; ++i) r->x_target[i] = x->at[class_or_0(r->targets[i]) * x->class_stride + i];
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const V bound = load(r->x_target + i);
        M minus_count{};
        for (ptrdiff_t j = 0; j < x->classes; ++j) minus_count += (M)(load(x->at + j * x->class_stride + i) > bound);
        for (int k = 0; k < W; ++k) r->rank[i + k] = -(int64_t)minus_count[k];
    }
}

// Sums of e_j (m - x_j), each at least 0. Beyond 1024 below the maximum, as where a class cannot occur, the exponential is 0 and the
// distance need only be finite. A class left out by -inf in scratch is the maximum, whose term is 0.
template <class T>
CELOSS_INLINE typename VectorOf<T>::V entropy_term(typename VectorOf<T>::V e, typename VectorOf<T>::V x,
                                                   typename VectorOf<T>::V m) {
    return without(-e * max_or_nan(splat<T>(T(-1024)), x - m), x == minus_infinity<T>());
}
template <class T> double entropy_sum_of_row(const T* x, const T* e, ptrdiff_t classes, T maximum, double* low) {
    constexpr int W = lanes_of<T>(), VECTORS = SUM_LANES / W;
    const auto m = splat<T>(maximum);
    Sum<T, SUM_VECTORS> sum;
    // Their negatives: the class left out stands in its place here.
    const auto lowest = splat<T>(T(-1024));
    const auto term = [&](ptrdiff_t j) CELOSS_LAMBDA_INLINE { return load(e + j) * max_or_nan(lowest, load(x + j) - m); };
    ptrdiff_t j = 0;
    for (; j + PRODUCTS * SUM_LANES <= classes; j += PRODUCTS * SUM_LANES) UNROLL_8 for (int k = 0; k < VECTORS; ++k) {
            auto terms = term(j + k * W);
            UNROLL_4 for (int p = 1; p < PRODUCTS; ++p) terms += term(j + k * W + p * SUM_LANES);
            add_wide<T>(sum, k, terms);
        }
    each_wide_vector(classes - j, [&](int k, ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const F64 distance = max_or_nan(F64{} - 1024.0, load_wide(x + j + i, count) - (double)maximum);
        const F64 product = load_wide(e + j + i, count) * distance;
        sum.add(k, Number<T>(count < lanes_of<double>() ? select(first_lanes<double>(count), product, F64{}) : product));
    });
    const double total = sum.of_lanes(low);
    *low = -*low;
    return -total;
}

template <class T> void entropy_sums(const Tile<T>* x, const Tile<T>* e, Rows<T>* r) {
    constexpr int W = lanes_of<T>(), VECTORS = W / lanes_of<double>();
    if (!has_rows_as_lanes(x)) {
        for (ptrdiff_t i = 0; i < x->rows; ++i)
            if (r->targets[i] >= 0)
                r->moment.high[i] = entropy_sum_of_row(x->at + i * x->row_stride, e->at + i * e->row_stride, x->classes,
                                                       r->maximum[i], r->moment.low + i);
        return;
    }
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const auto m = load(r->maximum + i);
        Sum<T, VECTORS> sum;
        for (ptrdiff_t j = 0; j < x->classes; ++j)
            add_wide<T>(sum, 0, entropy_term<T>(load(e->at + j * e->class_stride + i), load(x->at + j * x->class_stride + i), m));
        for (int k = 0; k < VECTORS; ++k) store_number(r->moment, i + k * lanes_of<double>(), sum.of_vector(k));
    }
}

// loss = (m - x_t) - log p_m, and entropy = sum_j p_j (m - x_j) - log p_m: all terms are >= 0. A row that decides nothing has no
// argmax: NaN.
template <class T> void statistics(ptrdiff_t n, Rows<T>* r) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    log_rows(n, r);
    for (ptrdiff_t i = 0; i < n; i += W) {
        const M64 ignored = ignored_rows(r->targets, i), nothing = load_classes(r->argmax + i) < 0;
        const F64 nan = F64{} + (double)__builtin_nanf("");
        const N below = difference<T>(load_wide(r->maximum + i, W), load_wide(r->x_target + i, W));
        const N minus_log = load_number<T>(r->minus_log, i);
        const N spread = load_number<T>(r->moment, i) * load_number<T>(r->inverse, i);
        const auto put = [&](double* to, N a)
                             CELOSS_LAMBDA_INLINE { store(to + i, select(ignored, F64{}, select(nothing, nan, rounded(a)))); };
        put(r->loss, sum_of(below, minus_log));
        put(r->entropy, sum_of(spread, minus_log));
        put(r->logsumexp, log_sum_exp(i, r));
    }
    for (ptrdiff_t i = 0; i < n; ++i) {
        if (r->targets[i] < 0) r->argmax[i] = -1;
        if (r->argmax[i] < 0) r->rank[i] = -1;
    }
}

}  // namespace
