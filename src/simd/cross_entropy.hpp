// cross_entropy.hpp: the loss of a row and what its gradient is made of, with every option that the package has.
//
// Rows are the lanes. Formulas are written once, in the numbers of number.hpp.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "number.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// A float64 as it is once stored in the arithmetic type.
template <class T> CELOSS_INLINE F64 wide_stored(F64 v) {
    if constexpr (sizeof(T) == 4) return widen_low(narrow(v, v));
    else return v;
}

// Rows past n up to the vector's width are computed from whatever is there, and not used.
template <class T> void log_rows(ptrdiff_t n, Rows<T>* r) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    for (ptrdiff_t i = 0; i < n; i += W) {
        const N rest = load_number<T>(r->rest, i), exact = load_number<T>(r->unit, i);
        // A maximum without others has the probability 1, exactly: the unit is then its exponential as stored.
        const N unit = select(top_of(rest) == 0.0, number<T>(wide_stored<T>(top_of(exact))), exact), total = unit + rest;
        const N inverse = inverse_of(total), log_sum = log1p_ratio(rest, unit);
        const N gap = difference<T>(load_wide(r->maximum + i, W), load_wide(r->x_target + i, W));
        // The target that attains the maximum is not among the others; the maximum itself is, elsewhere.
        const N of_maximum = select(top_of(gap) == 0.0, N{}, unit - number<T>(load_wide(r->e_target + i, W)));
        if (sizeof(T) == 4) store(r->inverse.low + i, inverse_of(HighLow(top_of(total))).low);
        store_number(r->inverse, i, inverse);
        store_number(r->log_sum, i, log_sum);
        store_number(r->nll, i, sum_of(gap, log_sum));
        store_number(r->miss, i, (rest + of_maximum) * inverse);
    }
}

// The focal loss (Lin et al., 2017) multiplies the loss of a class index by f = (1 - p_t)^gamma, and the gradient by
//
//     f [1 + gamma p_t (-log p_t) / (1 - p_t)]
//
// where every term is >= 0. 1 - p_t is formed from the others as `miss` is, with e_t in float64. What is left of the errors of
// the others, half an ulp, gamma multiplies.
template <class N> struct FocalFactors {
    N loss, gradient;
};
template <class T> CELOSS_INLINE FocalFactors<Number<T>> focal_factors(const Rows<T>* r, ptrdiff_t i, double gamma) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const N unit = load_number<T>(r->unit, i), others = load_number<T>(r->rest, i), nll = load_number<T>(r->nll, i);
    const N inverse = inverse_of(unit + others);
    const N gap = difference<T>(load_wide(r->x_target + i, W), load_wide(r->maximum + i, W));
    const M64 is_maximum = top_of(gap) == 0.0, is_impossible = top_of(gap) == -__builtin_inf();
    const N e_t = unit * plain_exp_of(gap);
    const N p = select(is_impossible, N{}, e_t * inverse);
    const N miss = (others + select(is_maximum, N{}, unit - e_t)) * inverse;
    // Where 1 - p_t is next to nothing, -log p_t is as small.
    const N ratio = select(top_of(miss) < 0x1p-60, number<T>(F64{} + 1.0), nll * inverse_of(miss));
    const N power = power_of_miss(miss, p, splat(gamma)), slope = number<T>(splat(gamma)) * weighted(p, ratio);
    return {power, power * (number<T>(F64{} + 1.0) + slope)};
}

// With s = sample weight, h = (1 - smoothing) w_t (0 for probabilities), v_c = w_c q'_c the soft targets (smoothing
// / C everywhere, or the probabilities) and V = sum_c v_c:
//
//     loss   = s [h (-log p_t) + V log(1 + rest / unit) + sum_c v_c (m - x_c)]
//     dx_k   = s [(h + V) p_k - v_k - h [k = t]]
//
// At the target h (p_t - 1) is formed as -h times the share of the others, `miss`.
template <class T> void cross_entropy(ptrdiff_t n, const RowOptions* o, Rows<T>* r) {
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const N keep = number<T>(splat(o->keep), splat(o->keep_low)), add = number<T>(splat(o->add), splat(o->add_low));
    for (ptrdiff_t i = 0; i < n; i += W) {
        const int count = (int)(n - i < W ? n - i : W);
        const F64 row_weight = option_of_rows(o->sample_weight, i, count);
        const M64 ignored = ignored_rows(r->targets, i) | (row_weight == 0.0);
        const N w_t = number<T>(weight_of_targets(r->targets, o, i, count)), s = number<T>(row_weight);
        const N up = number<T>(splat(o->factor)) * s * number<T>(option_of_rows(o->upstream, i, count));
        const N nll = load_number<T>(r->nll, i), miss = load_number<T>(r->miss, i);
        N loss, coefficient, at_target{};
        if (!o->soft_targets) {
            coefficient = up * w_t;
            at_target = -(coefficient * miss);
            loss = weighted(s * w_t, nll);
            if (o->focal_gamma > 0) {
                const FocalFactors<N> focal = focal_factors(r, i, o->focal_gamma);
                loss = weighted(s * w_t * focal.loss, nll);
                coefficient = coefficient * focal.gradient;
                at_target = at_target * focal.gradient;
            }
        } else {
            const N log_sum = load_number<T>(r->log_sum, i);
            const N mass = o->probabilities ? load_number<T>(r->mass, i) : number<T>(splat(o->mass), splat(o->mass_low));
            const N gap = load_number<T>(r->gap, i);
            N hot{};
            if (!o->probabilities) {
                const N p_t = load_number<T>(r->inverse, i) * number<T>(load_wide(r->e_target + i, W));
                hot = keep * w_t;
                at_target = up * (mass * p_t - w_t * (keep * miss + add));
            }
            coefficient = up * (hot + mass);
            loss = weighted(s, sum_of(weighted(hot, nll), sum_of(weighted(mass, log_sum), gap)));
        }
        store(r->loss + i, select(ignored, F64{}, rounded(loss)));
        store_number(r->subtracted, i, o->soft_targets ? up : N{});
        store(r->at_target + i, rounded(at_target));
        store_number(r->coefficient, i, select(ignored, N{}, coefficient));
    }
}

}  // namespace
