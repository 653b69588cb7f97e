// brier.hpp: the Brier score of rows: sums and gradients of squares of probabilities, all in float64.
//
// Its terms are squares of probabilities and products of three, which multiply the exponentials' relative errors: float32
// exponentials would leave results 2 and 3 ulp off, and float64 ones more. So float32 rows have float64 exponentials
// correct to 2^-39, and float64 rows have exponentials, probabilities and sums in two parts (number.hpp).
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "gradient.hpp"
#include "layout.hpp"
#include "number.hpp"
#include "row_groups.hpp"
#include "soft_targets.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

CELOSS_INLINE F64 load_exp(const float*, const double* at, ptrdiff_t, int count) { return load_wide(at, count); }
CELOSS_INLINE HighLow load_exp(const double*, const double* at, ptrdiff_t low, int count) {
    return {load_wide(at, count), load_wide(at + low, count)};
}
CELOSS_INLINE void store_exp(double* at, ptrdiff_t, int count, F64 v) { store_wide(at, count, v); }
CELOSS_INLINE void store_exp(double* at, ptrdiff_t low, int count, HighLow v) {
    store_wide(at, count, v.high);
    store_wide(at + low, count, v.low);
}

// e_ij = exp(x_ij - m_i), for float64 times 2^64; others, e_left_out, inverse. A row without argmax: inverse is NaN.
template <class T> void brier_exp_sum(const Tile<T>* x, const Tile<double>* e, ptrdiff_t low, Rows<T>* r) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    each_group<T>(x, r->targets, [&](auto rows) CELOSS_LAMBDA_INLINE {
        const T* from = x->at + rows.row * x->row_stride;
        double* to = e->at + rows.row * e->row_stride;
        const ptrdiff_t from_stride = rows.stride(x->class_stride), to_stride = rows.stride(e->class_stride);
        const F64 top = rows.own(r->maximum);
        typename decltype(rows)::RowSum sum;
        rows.each(x->classes, [&](int k, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
            const N v = exp_of(difference<T>(load_wide(from + j * from_stride, count), top));
            store_exp(to + j * to_stride, low, count, v);
            sum.add(k, select(rows.others(j, count, r->argmax), v, N{}));
        });
        rows.put_sum(sum, r->others);
    });
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const N rest = load_number<T>(r->others, i);
        const N inverse = inverse_of(number<T>(F64{} + unit_of_exp<T>()) + rest);
        const M64 decided = load_classes(r->argmax + i) >= 0;
        store(r->e_left_out.high + i, F64{} + unit_of_exp<T>());
        store_number(r->inverse, i, select(decided, inverse, number<T>(F64{} + (double)__builtin_nanf(""))));
    }
}

// f(vector of a sum, class, lanes in use, p, d) for each vector of some rows.
template <class T, class Group, class F>
CELOSS_INLINE void each_probability(const Tile<double>* e, ptrdiff_t low, const Tile<T>* q_tile, const Smoothed<T>& with,
                                    const Rows<T>* r, Group rows, F f) {
    const double* at = e->at + rows.row * e->row_stride;
    const T* q = q_tile ? q_tile->at + rows.row * q_tile->row_stride : nullptr;
    const ptrdiff_t stride = rows.stride(e->class_stride), q_stride = q_tile ? rows.stride(q_tile->class_stride) : 0;
    const Number<T> inverse = rows.own(r->inverse);
    rows.each(e->classes, [&](int k, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
        const Number<T> p = load_exp((const T*)nullptr, at + j * stride, low, count) * inverse;
        f(k, j, count, p, with.subtracted_from(p, q ? q + j * q_stride : nullptr, count));
    });
}

// squares and moment, with v_ij = 0 where there are no soft targets (null q).
template <class T> void brier_sums(const Tile<double>* e, ptrdiff_t low, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    typedef Number<T> N;
    const Smoothed<T> with(o);
    each_group<T>(e, r->targets, [&](auto rows) CELOSS_LAMBDA_INLINE {
        typename decltype(rows)::RowSum squares, moment;
        each_probability<T>(e, low, q, with, r, rows, [&](int k, ptrdiff_t j, int count, N p, N d) CELOSS_LAMBDA_INLINE {
            d = select(rows.others(j, count, r->argmax), d, N{});
            squares.add(k, d * d);
            moment.add(k, p * d);
        });
        rows.put_sum(squares, r->squares);
        rows.put_sum(moment, r->moment);
    });
}

// With u = s w_t, j the class of the maximum, A = sum of d_c^2 and B = sum of p_c d_c over c != j:
//
//     1. d_j = p_j (1 - q'_j) - q'_j (1 - p_j), where 1 - p_j is the share of the others: nothing cancels as p_j -> 1
//     2. loss = u [A + d_j^2]
//     3. dx_k = 2 u p_k [d_k - S], S = p_j d_j + B; for k = j this is 2 u p_j [(1 - p_j) d_j - B]
//     4. for a class index t the sums were taken with q = 0: if t != j (so that p_t <= 1/2), d_t is p_t - 1 instead of
//        p_t; and dx_t = -2 p_t loss
template <class T> void brier_rows(const Tile<double>* e, ptrdiff_t low, const Tile<T>* q_tile, const RowOptions* o, Rows<T>* r) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const T* kind = nullptr;
    const Smoothed<T> with(o);
    const int64_t* argmax = r->argmax;
    const N one = number<T>(F64{} + 1.0), two = number<T>(F64{} + 2.0);
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const int count = (int)(e->rows - i < W ? e->rows - i : W);
        const F64 row_weight = option_of_rows(o->sample_weight, i, count);
        const M64 ignored = ignored_rows(r->targets, i) | (row_weight == 0.0);
        M64 at_maximum{};
        const N s = number<T>(row_weight), u = s * number<T>(weight_of_targets(r->targets, o, i, count));
        const N a = two * u * number<T>(splat(o->factor)) * number<T>(option_of_rows(o->upstream, i, count));
        const N inverse = load_number<T>(r->inverse, i);
        const N p = number<T>(load(r->e_left_out.high + i)) * inverse;
        const N miss = load_number<T>(r->others, i) * inverse;
        N squares = load_number<T>(r->squares, i), moment = load_number<T>(r->moment, i);
        N d, at_argmax, at_target{};
        if (q_tile) {
            F64 q{};
            for (int k = 0; k < count; ++k)
                if (argmax[i + k] >= 0)
                    q[k] = (double)q_tile->at[(i + k) * q_tile->row_stride + argmax[i + k] * q_tile->class_stride];
            const N not_added = number<T>(splat(o->smoothing)) - with.add;
            d = p * (with.keep * number<T>(1.0 - q) + not_added) - with.of(q) * miss;
            squares = squares + d * d;
            at_argmax = a * p * (miss * d - moment);
        } else {
            double e_t[2 * W] = {};  // and their rounding errors
            for (int k = 0; k < count; ++k) {
                const int64_t t = r->targets[i + k];
                at_maximum[k] = t == argmax[i + k] ? -1 : 0;
                if (t < 0) continue;
                const double* at = e->at + (i + k) * e->row_stride + t * e->class_stride;
                e_t[k] = *at;
                if (sizeof(T) == 8) e_t[W + k] = at[low];
            }
            const N p_t = load_exp(kind, e_t, W, W) * inverse;
            d = select(at_maximum, -miss, p);
            squares = squares + select(at_maximum, N{}, one - two * p_t) + d * d;
            moment = moment - select(at_maximum, N{}, p_t);
            at_target = -(a * select(at_maximum, p, p_t) * squares);
            at_argmax = select(at_maximum, at_target, a * p * (miss * d - moment));
        }
        store(r->loss + i, select(ignored, F64{}, rounded(u * squares)));
        store(r->factor + i, select(ignored, F64{}, rounded(a)));
        store_number(r->mean, i, select(ignored, N{}, p * d + moment));
        store(r->at_argmax + i, rounded(at_argmax));
        store(r->at_target + i, rounded(at_target));
    }
}

template <class T>
void brier_gradient(const Tile<double>* e, ptrdiff_t low, const Tile<T>* g, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    typedef Number<T> N;
    const Smoothed<T> with(o);
    each_group<T>(e, r->targets, [&](auto rows) CELOSS_LAMBDA_INLINE {
        T* to = g->at + rows.row * g->row_stride;
        const ptrdiff_t to_stride = rows.stride(g->class_stride);
        const N mean = rows.own(r->mean), factor = number<T>(rows.own(r->factor));
        each_probability<T>(e, low, q, with, r, rows, [&](int, ptrdiff_t j, int count, N p, N d) CELOSS_LAMBDA_INLINE {
            store_wide(to + j * to_stride, count, rounded(factor * (p * (d - mean))));
        });
    });
    for (ptrdiff_t i = 0; i < g->rows; ++i) {
        if (r->targets && r->targets[i] < 0) r->argmax[i] = -1;  // `put_or_clear` makes it a row of 0
        else if (r->argmax[i] < 0) r->argmax[i] = 0;             // a row of NaN throughout
    }
    put_or_clear(g, r->argmax, r->at_argmax);
    if (!q) put_or_clear(g, r->targets, r->at_target);
}

// The targets as probabilities.
template <class T> void fill_one_hot(const Tile<T>* q, const int64_t* targets) {
    const ptrdiff_t numbers = numbers_of_tile(q->rows, q->classes, has_rows_as_lanes(q));
    __builtin_memset(q->at, 0, (size_t)numbers * sizeof(T));
    for (ptrdiff_t i = 0; i < q->rows; ++i)
        if (targets[i] >= 0) q->at[i * q->row_stride + targets[i] * q->class_stride] = T(1);
}

template <class T>
void brier(const Tile<T>* x, const Tile<double>* e, const Tile<T>* g, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    const ptrdiff_t low = numbers_of_tile(e->rows, e->classes, has_rows_as_lanes(e));  // behind e, the rounding errors
    if (!o->soft_targets) q = nullptr;
    else if (!o->probabilities) fill_one_hot(q, r->targets);
    brier_exp_sum(x, e, low, r);
    brier_sums(e, low, q, o, r);
    brier_rows(e, low, q, o, r);
    if (g) brier_gradient(e, low, g, q, o, r);
}

}  // namespace
