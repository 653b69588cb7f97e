// row_formulas.hpp: the loss of a row and the factors of its gradient, with every option that the package has.
//
// Rows are the lanes. Formulas are written once, in the numbers of number.hpp. Includes block_ops.h, exp_log.hpp and number.hpp
// only.
#pragma once

#include "block_ops.h"
#include "exp_log.hpp"
#include "number.hpp"

namespace {

// A float64 as it is once stored in the arithmetic type.
template <class T> CELOSS_INLINE F64 wide_stored(F64 v) {
    if constexpr (sizeof(T) == 4) return widen_low(narrow(v, v));
    else return v;
}

// Rows past n up to the vector's width are computed from whatever is there, and not used.
template <class T> void log_rows(ptrdiff_t n, const T* m, const T* x_t, const T* e_t, RowSums* sums) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    for (ptrdiff_t i = 0; i < n; i += W) {
        const N rest = load_number<T>(sums->rest + i, sums->rest_low + i),
                exact = load_number<T>(sums->unit + i, sums->unit_low + i);
        // A maximum without others has the probability 1, exactly: the unit is then its exponential as stored.
        const N unit = select(top_of(rest) == 0.0, number<T>(wide_stored<T>(top_of(exact))), exact), total = unit + rest;
        const N inverse = inverse_of(total), log_sum = log1p_ratio(rest, unit);
        const N gap = difference<T>(load_wide(m + i, W), load_wide(x_t + i, W));
        // The target that attains the maximum is not among the others; the maximum itself is, elsewhere.
        const N of_maximum = select(top_of(gap) == 0.0, N{}, unit - number<T>(load_wide(e_t + i, W)));
        if (sizeof(T) == 4) store(sums->inverse_low + i, inverse_of(HighLow(top_of(total))).low);
        store_number(sums->inverse + i, sums->inverse_low + i, inverse);
        store_number(sums->log_sum + i, sums->log_sum_low + i, log_sum);
        store_number(sums->nll + i, sums->nll_low + i, sum_of(gap, log_sum));
        store_number(sums->miss + i, sums->miss_low + i, (rest + of_maximum) * inverse);
    }
}

// Of the first `count` rows from i on; 1 where the option is not given.
CELOSS_INLINE F64 option_of_rows(const double* option, ptrdiff_t i, int count) {
    if (!option) return F64{} + 1.0;
    return count >= lanes_of<double>() ? load(option + i) : load_first(option + i, count, 0.0);
}

// w_t of the first `count` rows from i on; 1 without weights, and anything where a row is ignored.
CELOSS_INLINE F64 weight_of_targets(const RowOptions* o, ptrdiff_t i, int count) {
    if (!o->target || !o->class_weight) return F64{} + 1.0;
    double weight[lanes_of<double>()] = {};
    if (count >= lanes_of<double>()) {
        M64 target;
        __builtin_memcpy(&target, o->target + i, sizeof target);
        return gather(o->class_weight, target & ~(target >> 63));
    }
    for (int k = 0; k < count; ++k) weight[k] = o->class_weight[o->target[i + k] & ~(o->target[i + k] >> 63)];
    return load(weight);
}

CELOSS_INLINE M64 ignored_rows(const RowOptions* o, ptrdiff_t i) {
    M64 target{};
    if (o->target) __builtin_memcpy(&target, o->target + i, sizeof target);
    return target < 0;
}

// With s = sample weight, h = (1 - smoothing) w_t (0 for probabilities), v_c = w_c q'_c the blended-in distribution
// (smoothing / C everywhere, or the probabilities) and V = sum_c v_c:
//
//     loss   = s [h (-log p_t) + V log(1 + rest / unit) + sum_c v_c (m - x_c)]
//     dx_k   = s [(h + V) p_k - v_k - h [k = t]]
//
// At the target h (p_t - 1) is formed as -h times the share of the others, `miss`.
template <class T>
void finish_rows(ptrdiff_t n, const RowOptions* o, const T* e_t, const RowSums* sums, const BlendSums* blend, RowResults* r) {
    typedef Number<T> N;
    const N keep = number<T>(splat(o->keep), splat(o->keep_low)), add = number<T>(splat(o->add), splat(o->add_low));
    for (ptrdiff_t i = 0; i < n; i += lanes_of<double>()) {
        const int count = (int)(n - i < lanes_of<double>() ? n - i : lanes_of<double>());
        const M64 ignored = ignored_rows(o, i);
        const N w_t = number<T>(weight_of_targets(o, i, count)), s = number<T>(option_of_rows(o->sample_weight, i, count));
        const N up = number<T>(splat(o->factor)) * s * number<T>(option_of_rows(o->upstream, i, count));
        const N nll = load_number<T>(sums->nll + i, sums->nll_low + i), miss = load_number<T>(sums->miss + i, sums->miss_low + i);
        N loss, coefficient, at_target{};
        if (!o->blended) {
            coefficient = up * w_t;
            at_target = -(coefficient * miss);
            loss = weighted(s * w_t, nll);
        } else {
            const N log_sum = load_number<T>(sums->log_sum + i, sums->log_sum_low + i);
            const N mass = load_number<T>(blend->mass + i, blend->mass_low + i);
            const N gap = load_number<T>(blend->gap + i, blend->gap_low + i);
            N hot{};
            if (o->target) {
                const N p_t =
                    load_number<T>(sums->inverse + i, sums->inverse_low + i) * number<T>(load_wide(e_t + i, lanes_of<double>()));
                hot = keep * w_t;
                at_target = up * (mass * p_t - w_t * (keep * miss + add));
            }
            coefficient = up * (hot + mass);
            loss = weighted(s, sum_of(weighted(hot, nll), sum_of(weighted(mass, log_sum), gap)));
        }
        store(r->loss + i, select(ignored, F64{}, rounded(loss)));
        store_number(r->subtracted + i, r->subtracted_low + i, up);
        store(r->at_target + i, rounded(at_target));
        store_number(r->coefficient + i, r->coefficient_low + i, select(ignored, N{}, coefficient));
    }
}

// The sum of s_n w_t over n rows, but those that are ignored.
inline double sum_of_weights(ptrdiff_t n, const RowOptions* o) {
    F64 sum{};
    for (ptrdiff_t i = 0; i < n; i += lanes_of<double>()) {
        const int count = (int)(n - i < lanes_of<double>() ? n - i : lanes_of<double>());
        const F64 weight = option_of_rows(o->sample_weight, i, count) * weight_of_targets(o, i, count);
        sum += select(ignored_rows(o, i) | ~first_lanes(count), F64{}, weight);
    }
    return sum_lanes<double>(sum);
}

}  // namespace
