// brier.hpp: the Brier score of rows: sums and gradients of squares of probabilities, all in float64.
//
// Its terms are squares of probabilities and products of three, which multiply the exponentials' relative errors: float32
// exponentials would leave results 2 and 3 ulp off, and float64 ones more. So float32 rows have float64 exponentials
// correct to 2^-39, and float64 rows have exponentials, probabilities and sums in two parts (number.hpp).
//
// Includes blend.hpp, block_ops.h, exp_log.hpp, number.hpp, row_formulas.hpp and vector.hpp only.
#pragma once

#include "blend.hpp"
#include "block_ops.h"
#include "exp_log.hpp"
#include "number.hpp"
#include "row_formulas.hpp"
#include "vector.hpp"

namespace {

// The lanes of a vector of classes from j on that are classes (the first `count`) and not class `but`.
CELOSS_INLINE M64 lanes_of_others(ptrdiff_t j, int count, int64_t but) {
    M64 used = ~M64{};
    if (count < lanes_of<double>()) used = first_lanes(count);
    if (but - j < lanes_of<double>() && but >= j) used &= lane_numbers<double>() + j != but;
    return used;
}

CELOSS_INLINE M64 load_classes(const int64_t* from) {
    M64 classes;
    __builtin_memcpy(&classes, from, sizeof classes);
    return classes;
}

// The exponential of x - m.
CELOSS_INLINE F64 brier_exp_of(F64 difference) { return exp_of_distance(difference); }
CELOSS_INLINE HighLow brier_exp_of(HighLow difference) { return exp_of_difference(difference); }
template <class T> constexpr double brier_unit() { return sizeof(T) == 8 ? 0x1p+64 : 1.0; }

CELOSS_INLINE F64 load_exp(const float*, const double* at, ptrdiff_t, int count) { return load_wide(at, count); }
CELOSS_INLINE HighLow load_exp(const double*, const double* at, ptrdiff_t low, int count) {
    return {load_wide(at, count), load_wide(at + low, count)};
}
CELOSS_INLINE void store_exp(double* at, ptrdiff_t, int count, F64 v) { store_wide(at, count, v); }
CELOSS_INLINE void store_exp(double* at, ptrdiff_t low, int count, HighLow v) {
    store_wide(at, count, v.high);
    store_wide(at + low, count, v.low);
}

template <class T>
void brier_exp(const Tile<T>* x, const Tile<double>* e, ptrdiff_t low, const T* m, const int64_t* first, RowSums* sums) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    if (x->class_stride == 1) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            const T* from = x->at + i * x->row_stride;
            double* to = e->at + i * e->row_stride;
            const F64 top = F64{} + (double)m[i];
            Sum<T> sum;
            each_wide_vector(x->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                const N v = brier_exp_of(difference<T>(load_wide(from + j, count), top));
                store_exp(to + j, low, count, v);
                sum.add(select(lanes_of_others(j, count, first[i]), v, N{}));
            });
            sums->rest[i] = add_lanes(sum.total(), sums->rest_low + i);
        }
    } else {
        for (ptrdiff_t i = 0; i < x->rows; i += W) {
            const F64 top = load_wide(m + i, W);
            const M64 skip = load_classes(first + i);
            Sum<T> sum;
            for (ptrdiff_t j = 0; j < x->classes; ++j) {
                const N v = brier_exp_of(difference<T>(load_wide(x->at + j * x->class_stride + i, W), top));
                store_exp(e->at + j * e->class_stride + i, low, W, v);
                sum.add(select(skip == j, N{}, v));
            }
            store_number(sums->rest + i, sums->rest_low + i, sum.total());
        }
    }
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const N rest = load_number<T>(sums->rest + i, sums->rest_low + i);
        const N inverse = inverse_of(number<T>(F64{} + brier_unit<T>()) + rest);
        const M64 decided = load_classes(first + i) >= 0;
        store(sums->unit + i, F64{} + brier_unit<T>());
        store_number(sums->inverse + i, sums->inverse_low + i,
                     select(decided, inverse, number<T>(F64{} + (double)__builtin_nanf(""))));
    }
}

template <class T>
void brier_sums(const Tile<double>* e, ptrdiff_t low, const Blend<T>* blend, const int64_t* first, const RowSums* sums,
                BrierRows* r) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const T* kind = nullptr;
    const Blended<T> with(blend);
    if (e->class_stride == 1) {
        for (ptrdiff_t i = 0; i < e->rows; ++i) {
            const double* at = e->at + i * e->row_stride;
            const T* q = blend->q ? blend->q + i * blend->q_row_stride : nullptr;
            const N inverse = number<T>(splat(sums->inverse[i]), splat(sums->inverse_low[i]));
            Sum<T> squares, moment;
            each_wide_vector(e->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                const N p = load_exp(kind, at + j, low, count) * inverse;
                N d = with.subtracted_from(p, q ? q + j : nullptr, count);
                d = select(lanes_of_others(j, count, first[i]), d, N{});
                squares.add(d * d);
                moment.add(p * d);
            });
            r->squares[i] = add_lanes(squares.total(), r->squares_low + i);
            r->moment[i] = add_lanes(moment.total(), r->moment_low + i);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const N inverse = load_number<T>(sums->inverse + i, sums->inverse_low + i);
        const M64 skip = load_classes(first + i);
        Sum<T> squares, moment;
        for (ptrdiff_t j = 0; j < e->classes; ++j) {
            const N p = load_exp(kind, e->at + j * e->class_stride + i, low, W) * inverse;
            N d = with.subtracted_from(p, blend->q ? blend->q + j * blend->q_class_stride + i : nullptr, W);
            d = select(skip == j, N{}, d);
            squares.add(d * d);
            moment.add(p * d);
        }
        store_number(r->squares + i, r->squares_low + i, squares.total());
        store_number(r->moment + i, r->moment_low + i, moment.total());
    }
}

// With u = s w_t, j the class of the maximum, A = sum of d_c^2 and B = sum of p_c d_c over c != j:
//
//     1. d_j = p_j (1 - q'_j) - q'_j (1 - p_j), where 1 - p_j is the share of the others: nothing cancels as p_j -> 1
//     2. loss = u [A + d_j^2]
//     3. dx_k = 2 u p_k [d_k - S], S = p_j d_j + B; for k = j this is 2 u p_j [(1 - p_j) d_j - B]
//     4. for a class index t the sums were taken with q = 0: if t != j (so that p_t <= 1/2), d_t is p_t - 1 instead of
//        p_t; and dx_t = -2 p_t loss
template <class T>
void brier_rows(const Tile<double>* e, ptrdiff_t low, const RowOptions* o, const Blend<T>* blend, const int64_t* first,
                const RowSums* sums, BrierRows* r, double* losses) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const T* kind = nullptr;
    const Blended<T> with(blend);
    const N one = number<T>(F64{} + 1.0), two = number<T>(F64{} + 2.0);
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const int count = (int)(e->rows - i < W ? e->rows - i : W);
        const M64 ignored = ignored_rows(o, i);
        M64 at_maximum{};
        const N s = number<T>(option_of_rows(o->sample_weight, i, count)), u = s * number<T>(weight_of_targets(o, i, count));
        const N a = two * u * number<T>(splat(o->factor)) * number<T>(option_of_rows(o->upstream, i, count));
        const N inverse = load_number<T>(sums->inverse + i, sums->inverse_low + i);
        const N p = number<T>(load(sums->unit + i)) * inverse;
        const N rest = load_number<T>(sums->rest + i, sums->rest_low + i) * inverse;
        N squares = load_number<T>(r->squares + i, r->squares_low + i), moment = load_number<T>(r->moment + i, r->moment_low + i);
        N d, at_first, at_target{};
        if (blend->q) {
            F64 q{};
            for (int k = 0; k < count; ++k)
                if (first[i + k] >= 0)
                    q[k] = (double)blend->q[(i + k) * blend->q_row_stride + first[i + k] * blend->q_class_stride];
            const N not_added = number<T>(splat(o->smoothing)) - with.add;
            d = p * (with.keep * number<T>(1.0 - q) + not_added) - with.of(q) * rest;
            squares = squares + d * d;
            at_first = a * p * (rest * d - moment);
        } else {
            double e_t[2 * W] = {};  // and their rounding errors
            for (int k = 0; k < count; ++k) {
                const int64_t t = o->target[i + k];
                at_maximum[k] = t == first[i + k] ? -1 : 0;
                if (t < 0) continue;
                const double* at = e->at + (i + k) * e->row_stride + t * e->class_stride;
                e_t[k] = *at;
                if (sizeof(T) == 8) e_t[W + k] = at[low];
            }
            const N p_t = load_exp(kind, e_t, W, W) * inverse;
            d = select(at_maximum, -rest, p);
            squares = squares + select(at_maximum, N{}, one - two * p_t) + d * d;
            moment = moment - select(at_maximum, N{}, p_t);
            at_target = -(a * select(at_maximum, p, p_t) * squares);
            at_first = select(at_maximum, at_target, a * p * (rest * d - moment));
        }
        store(losses + i, select(ignored, F64{}, rounded(u * squares)));
        store(r->factor + i, select(ignored, F64{}, rounded(a)));
        store_number(r->mean + i, r->mean_low + i, select(ignored, N{}, p * d + moment));
        store(r->at_first + i, rounded(at_first));
        store(r->at_target + i, rounded(at_target));
    }
}

template <class T>
void brier_gradient(const Tile<double>* e, ptrdiff_t low, const Tile<T>* g, const Blend<T>* blend, const RowSums* sums,
                    const BrierRows* r) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const T* kind = nullptr;
    const Blended<T> with(blend);
    if (e->class_stride == 1) {
        for (ptrdiff_t i = 0; i < e->rows; ++i) {
            const double* at = e->at + i * e->row_stride;
            const T* q = blend->q ? blend->q + i * blend->q_row_stride : nullptr;
            T* to = g->at + i * g->row_stride;
            const N inverse = number<T>(splat(sums->inverse[i]), splat(sums->inverse_low[i]));
            const N mean = number<T>(splat(r->mean[i]), splat(r->mean_low[i])), factor = number<T>(splat(r->factor[i]));
            each_wide_vector(e->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                const N p = load_exp(kind, at + j, low, count) * inverse;
                const N d = with.subtracted_from(p, q ? q + j : nullptr, count) - mean;
                store_wide(to + j, count, rounded(factor * (p * d)));
            });
        }
        return;
    }
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const N inverse = load_number<T>(sums->inverse + i, sums->inverse_low + i);
        const N mean = load_number<T>(r->mean + i, r->mean_low + i), factor = number<T>(load(r->factor + i));
        for (ptrdiff_t j = 0; j < e->classes; ++j) {
            const N p = load_exp(kind, e->at + j * e->class_stride + i, low, W) * inverse;
            const N d = with.subtracted_from(p, blend->q ? blend->q + j * blend->q_class_stride + i : nullptr, W) - mean;
            store_wide(g->at + j * g->class_stride + i, W, rounded(factor * (p * d)));
        }
    }
}

}  // namespace
