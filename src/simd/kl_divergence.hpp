// kl_divergence.hpp: how far softmax(x / T) is from softmax(y / T), and the gradient.
//
// With p and q the probabilities of x and y, and d = log q - log p,
//
//     KL = sum_j q_j (d_j + e^-d_j - 1)        dx_j = (p_j - q_j) / T = q_j (e^-d_j - 1) / T
//
// where every term is >= 0. (sum_j q_j d_j is the same, since both sum to 1, but cancels where p is near q.) With f(d) = d + e^-d -
// 1, from a series where d is small, e^-d - 1 = f(d) - d; elsewhere the terms are q d + p - q and p - q. An error of all d alike,
// which is what the logarithms of the sums have, hardly counts: the sum is stationary there.
//
// All in float64.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "layout.hpp"
#include "maximum.hpp"
#include "number.hpp"
#include "row_groups.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// (d + e^-d - 1) / d^2 for |d| <= NEAR: its series, to 2^-31 (float32) and 2^-53.
template <class T> constexpr double NEAR = sizeof(T) == 4 ? 0.25 : 0.5;
template <class T> CELOSS_INLINE F64 excess_series(F64 d) {
    constexpr double factorial[] = {2,      6,       24,       120,       720,          5040,          40320,
                                    362880, 3628800, 39916800, 479001600, 6227020800.0, 87178291200.0, 1307674368000.0};
    constexpr int degree = sizeof(T) == 4 ? 7 : 13;
    F64 series = F64{} + (degree % 2 ? -1.0 : 1.0) / factorial[degree];
    for (int k = degree - 1; k >= 0; --k) series = fma(series, d, F64{} + (k % 2 ? -1.0 : 1.0) / factorial[k]);
    return series;
}

// e^d for d <= 0; 0 where it is next to nothing beside 1.
template <class T> CELOSS_INLINE F64 exp_below(F64 d) {
    if constexpr (sizeof(T) == 4) {
        return select(d < -690.0, F64{}, exp_to_39_bits(d));
    } else {
        const F64 e = exp_parts<double, false>(max_or_nan(F64{} - 708.0, d), row_scale<F64, double>(F64{})).value;
        return select(d < -708.0, F64{}, e * 0x1p-64);
    }
}
static_assert(ExpConstants<double>::headroom == 64, "what exp_below takes out");

template <class T>
void kl_divergence(const Tile<T>* x, const Tile<T>* y, const Tile<double>* e, const Tile<T>* g, double temperature,
                   const RowOptions* o, Rows<T>* r) {
    const F64 inverse_temperature = F64{} + 1.0 / temperature;
    const Tile<double> e_x = *e, e_y = {e->at + numbers_of_tile(e->rows, e->classes, has_rows_as_lanes(e)), e->row_stride,
                                        e->class_stride, e->rows, e->classes};
    T maximum_y[CELOSS_ROOM_FOR_ROWS];
    maximum(y, r);
    __builtin_memcpy(maximum_y, r->maximum, sizeof maximum_y);
    maximum(x, r);
    each_group<T>(x, nullptr, [&](auto rows) CELOSS_LAMBDA_INLINE {
        constexpr int W = lanes_of<double>();
        typedef decltype(rows) Group;
        const T *from = x->at + rows.row * x->row_stride, *other = y->at + rows.row * y->row_stride;
        double *to = e_x.at + rows.row * e_x.row_stride, *other_to = e_y.at + rows.row * e_y.row_stride;
        const ptrdiff_t stride = rows.stride(x->class_stride), other_stride = rows.stride(y->class_stride),
                        to_stride = rows.stride(e_x.class_stride);
        // 1. Exponentials of both below their maxima, and their sums.
        const F64 m_x = rows.own(r->maximum), m_y = rows.own(maximum_y);
        typename Group::RowSum sum_x, sum_y;
        rows.each(x->classes, [&](int k, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
            F64 a = exp_below<T>((load_wide(from + j * stride, count) - m_x) * inverse_temperature);
            F64 b = exp_below<T>((load_wide(other + j * other_stride, count) - m_y) * inverse_temperature);
            if (count < W) a = select(first_lanes<double>(count), a, F64{}), b = select(first_lanes<double>(count), b, F64{});
            store_wide(to + j * to_stride, count, a);
            store_wide(other_to + j * to_stride, count, b);
            sum_x.add(k, number<T>(a));
            sum_y.add(k, number<T>(b));
        });
        rows.put_sum(sum_x, r->others);
        rows.put_sum(sum_y, r->moment);
        // 2. log q - log p is (y - x) / T less what all classes have in common.
        const F64 total_x = rounded(rows.own(r->others)), total_y = rounded(rows.own(r->moment));
        const F64 one = F64{} + 1.0, p_of = one / total_x, q_of = one / total_y;
        const F64 common =
            (m_y - m_x) * inverse_temperature + (log1p_ratio(total_y - 1.0, one) - log1p_ratio(total_x - 1.0, one));
        const int in_use = x->rows - rows.row < W ? (int)(x->rows - rows.row) : W;
        const double* weights = o->sample_weight ? o->sample_weight + rows.row : nullptr;
        const double* upstream = o->upstream ? o->upstream + rows.row : nullptr;
        const bool lanes = has_rows_as_lanes(x);
        const F64 s = lanes ? option_of_rows(weights, 0, in_use) : splat(weights ? *weights : 1.0);
        const F64 up = lanes ? option_of_rows(upstream, 0, in_use) : splat(upstream ? *upstream : 1.0);
        const F64 factor = inverse_temperature * o->factor * s * up;
        T* result = g ? g->at + rows.row * g->row_stride : nullptr;
        const ptrdiff_t result_stride = g ? rows.stride(g->class_stride) : 0;
        // 3. The terms, and the gradient.
        typename Group::RowSum sum;
        rows.each(x->classes, [&](int k, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
            const F64 p = load_wide(to + j * to_stride, count) * p_of, q = load_wide(other_to + j * to_stride, count) * q_of;
            const F64 a = load_wide(from + j * stride, count), b = load_wide(other + j * other_stride, count);
            const F64 d = fma(b - a, inverse_temperature, -common);
            const M64 near = absolute(d) <= NEAR<T>, none = q == 0.0;
            const F64 excess = d * d * excess_series<T>(select(near, d, F64{}));
            F64 term = select(near, q * excess, fma(q, d, p - q));
            term = select(none, p, term);
            if (count < W) term = select(first_lanes<double>(count), term, F64{});
            sum.add(k, number<T>(term));
            if (result) store_wide(result + j * result_stride, count, factor * select(near & ~none, q * (excess - d), p - q));
        });
        rows.put_sum(sum, r->mass);
        const F64 loss = rounded(rows.own(r->mass)), weighted_loss = select(s == 0.0, F64{}, s * loss);
        if (lanes) store(r->loss + rows.row, weighted_loss);
        else r->loss[rows.row] = weighted_loss[0];
    });
}

}  // namespace
