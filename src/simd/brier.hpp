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

CELOSS_INLINE M64 load_classes(const int64_t* from) {
    M64 classes;
    __builtin_memcpy(&classes, from, sizeof classes);
    return classes;
}

// What a pass over a tile works on at a time, from row `row` on: vectors of one row's classes, or (ROWS_IN_LANES) of as many
// rows as a vector has lanes, class by class.
template <class T, bool ROWS_IN_LANES> struct RowGroup {
    typedef Number<T> N;
    static constexpr int W = lanes_of<double>();
    ptrdiff_t row;

    // Between one class and the next, known to the compiler where it is 1.
    CELOSS_INLINE ptrdiff_t stride(ptrdiff_t class_stride) const { return ROWS_IN_LANES ? class_stride : 1; }
    // A number of each row's own.
    CELOSS_INLINE N own(const double* a, const double* low) const {
        if constexpr (ROWS_IN_LANES) return load_number<T>(a + row, low + row);
        else return number<T>(splat(a[row]), splat(low[row]));
    }
    template <class A> CELOSS_INLINE F64 own(const A* a) const {
        return ROWS_IN_LANES ? load_wide(a + row, W) : splat((double)a[row]);
    }
    CELOSS_INLINE void put_sum(N sum, double* a, double* low) const {
        if constexpr (ROWS_IN_LANES) store_number(a + row, low + row, sum);
        else a[row] = add_lanes(sum, low + row);
    }
    // f(class, lanes in use) for each vector.
    template <class F> CELOSS_INLINE void each(ptrdiff_t classes, F f) const {
        if constexpr (ROWS_IN_LANES)
            for (ptrdiff_t j = 0; j < classes; ++j) f(j, W);
        else each_wide_vector(classes, f);
    }
    // The lanes of the vector at class j that are in use and are not of class but_i.
    CELOSS_INLINE M64 others(ptrdiff_t j, int count, const int64_t* but) const {
        if constexpr (ROWS_IN_LANES) return load_classes(but + row) != j;
        M64 used = ~M64{};
        if (count < W) used = first_lanes(count);
        if (but[row] - j < W && but[row] >= j) used &= lane_numbers<double>() + j != but[row];
        return used;
    }
};

// pass(RowGroup) over all rows; those with target_i < 0 may be passed over.
template <class T, class Pass> CELOSS_INLINE void each_group(ptrdiff_t rows, bool in_lanes, const int64_t* target, Pass pass) {
    if (in_lanes)
        for (ptrdiff_t i = 0; i < rows; i += lanes_of<double>()) pass(RowGroup<T, true>{i});
    else
        for (ptrdiff_t i = 0; i < rows; ++i)
            if (!target || target[i] >= 0) pass(RowGroup<T, false>{i});
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
void brier_exp(const Tile<T>* x, const Tile<double>* e, ptrdiff_t low, const T* m, const int64_t* first, const int64_t* target,
               RowSums* sums) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    each_group<T>(x->rows, x->class_stride != 1, target, [&](auto rows) CELOSS_LAMBDA_INLINE {
        const T* from = x->at + rows.row * x->row_stride;
        double* to = e->at + rows.row * e->row_stride;
        const ptrdiff_t from_stride = rows.stride(x->class_stride), to_stride = rows.stride(e->class_stride);
        const F64 top = rows.own(m);
        Sum<T> sum;
        rows.each(x->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
            const N v = brier_exp_of(difference<T>(load_wide(from + j * from_stride, count), top));
            store_exp(to + j * to_stride, low, count, v);
            sum.add(select(rows.others(j, count, first), v, N{}));
        });
        rows.put_sum(sum.total(), sums->rest, sums->rest_low);
    });
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const N rest = load_number<T>(sums->rest + i, sums->rest_low + i);
        const N inverse = inverse_of(number<T>(F64{} + brier_unit<T>()) + rest);
        const M64 decided = load_classes(first + i) >= 0;
        store(sums->unit + i, F64{} + brier_unit<T>());
        store_number(sums->inverse + i, sums->inverse_low + i,
                     select(decided, inverse, number<T>(F64{} + (double)__builtin_nanf(""))));
    }
}

// f(class, lanes in use, p, d) for each vector of some rows.
template <class T, class Group, class F>
CELOSS_INLINE void each_probability(const Tile<double>* e, ptrdiff_t low, const Blend<T>* blend, const RowSums* sums, Group rows,
                                    F f) {
    const Blended<T> with(blend);
    const double* at = e->at + rows.row * e->row_stride;
    const T* q = blend->q ? blend->q + rows.row * blend->q_row_stride : nullptr;
    const ptrdiff_t stride = rows.stride(e->class_stride), q_stride = rows.stride(blend->q_class_stride);
    const Number<T> inverse = rows.own(sums->inverse, sums->inverse_low);
    rows.each(e->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
        const Number<T> p = load_exp((const T*)nullptr, at + j * stride, low, count) * inverse;
        f(j, count, p, with.subtracted_from(p, q ? q + j * q_stride : nullptr, count));
    });
}

template <class T>
void brier_sums(const Tile<double>* e, ptrdiff_t low, const Blend<T>* blend, const int64_t* first, const int64_t* target,
                const RowSums* sums, BrierRows* r) {
    typedef Number<T> N;
    each_group<T>(e->rows, e->class_stride != 1, target, [&](auto rows) CELOSS_LAMBDA_INLINE {
        Sum<T> squares, moment;
        each_probability<T>(e, low, blend, sums, rows, [&](ptrdiff_t j, int count, N p, N d) CELOSS_LAMBDA_INLINE {
            d = select(rows.others(j, count, first), d, N{});
            squares.add(d * d);
            moment.add(p * d);
        });
        rows.put_sum(squares.total(), r->squares, r->squares_low);
        rows.put_sum(moment.total(), r->moment, r->moment_low);
    });
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
void brier_gradient(const Tile<double>* e, ptrdiff_t low, const Tile<T>* g, const Blend<T>* blend, const int64_t* target,
                    const RowSums* sums, const BrierRows* r) {
    typedef Number<T> N;
    each_group<T>(e->rows, e->class_stride != 1, target, [&](auto rows) CELOSS_LAMBDA_INLINE {
        T* to = g->at + rows.row * g->row_stride;
        const ptrdiff_t to_stride = rows.stride(g->class_stride);
        const N mean = rows.own(r->mean, r->mean_low), factor = number<T>(rows.own(r->factor));
        each_probability<T>(e, low, blend, sums, rows, [&](ptrdiff_t j, int count, N p, N d) CELOSS_LAMBDA_INLINE {
            store_wide(to + j * to_stride, count, rounded(factor * (p * (d - mean))));
        });
    });
}

}  // namespace
