// cross_entropy.hpp: the loss of a row and what its gradient is made of, with every option that the package has.
//
// Rows are the lanes. Formulas are written once, in the numbers of number.hpp.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "exp_sum.hpp"
#include "number.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// inverse and minus_log of a group of rows from i on. (Those past the last are computed from whatever is there, and not used.)
CELOSS_INLINE void log_of_rows(ptrdiff_t i, Rows<float>* r) {
    const auto row = log_and_inverse(load_side<END_VECTORS>(r->others.high + i), load_side<END_VECTORS>(r->e_left_out.high + i));
    store_side(r->inverse.high + i, row.inverse);
    store_side(r->minus_log.high + i, load_side<END_VECTORS>(r->minus_log.high + i) + row.log);
}
CELOSS_INLINE void log_of_rows(ptrdiff_t i, Rows<double>* r) {
    const HighLow others = load_number<double>(r->others, i), e = load_number<double>(r->e_left_out, i);
    store_number(r->inverse, i, inverse_of(e + others));
    store_number(r->minus_log, i, sum_of(load_number<double>(r->minus_log, i), log1p_ratio(others, e)));
}
template <class T> void log_rows(ptrdiff_t n, Rows<T>* r) {
    for (ptrdiff_t i = 0; i < n; i += end_rows<T>()) log_of_rows(i, r);
}

// The focal loss (Lin et al., 2017) multiplies the loss of a class index by f = (1 - p_t)^gamma, and the gradient by
//
//     f [1 + gamma p_t (-log p_t) / (1 - p_t)]
//
// where every term is >= 0, and 1 - p_t is the share of the others, as below. What is left of their errors, half an ulp, gamma
// multiplies.
template <class N> struct FocalFactors {
    N loss, gradient;
};
template <class N> CELOSS_INLINE FocalFactors<N> focal_factors(N p, N miss, N nll, N gamma) {
    const N one(F64{} + 1.0);
    // Where 1 - p_t is next to nothing, -log p_t is as small.
    const N ratio = select(top_of(miss) < 0x1p-60, one, nll * inverse_of(miss));
    const N power = power_of_miss(miss, p, top_of(gamma));
    return {power, power * (one + gamma * weighted(p, ratio))};
}

// With F what multiplies the gradient, p_t (dF/dp_t) / F: what a focal loss's second derivatives have beside those of a constant
// F (hessian.hpp). With r = -log p_t / (1 - p_t) it is
//
//     gamma p_t [-log p_t - (gamma - 1) p_t r - 2] / [(1 - p_t) (1 + gamma p_t r)]
//
// As large as gamma / (1 - p_t), what it is multiplied with being as small. Where (1 - p_t)^(1 + gamma), the size of all results, is
// a normal number, that is 4e35 (2e304) at most, with a gamma of 1/85 (1/706); no larger than these.
template <class T> CELOSS_INLINE F64 focal_bend(F64 p, F64 miss, F64 nll, F64 gamma) {
    constexpr double largest = sizeof(T) == 4 ? 1e36 : 1e305;
    const F64 ratio = select(miss < 0x1p-60, F64{} + 1.0, nll / miss), slope = weighted(p, ratio);
    const F64 top = gamma * (weighted(p, nll) - p * ((gamma - 1.0) * slope + 2.0)), bottom = miss * (1.0 + gamma * slope);
    const F64 bend = select(bottom == 0.0, F64{}, top / bottom);
    return select(bend > largest, F64{} + largest, select(bend < -largest, F64{} - largest, bend));
}

// The exponential of the target, to where it is no normal number.
CELOSS_INLINE F64 exp_of_target(const Rows<float>* r, ptrdiff_t i, F64 x, F64 m) {
    return exp_to_39_bits(x - m) * load(r->e_left_out.high + i);
}
CELOSS_INLINE HighLow exp_of_target(const Rows<double>* r, ptrdiff_t i, F64 x, F64 m) {
    return plain_exp_of(difference<double>(x, m)) * load_number<double>(r->e_left_out, i);
}

// The probability of the class left out, to where it is no normal number: e_left_out ends at FAR. (Which is 0 in float32.)
CELOSS_INLINE F64 probability_left_out(ptrdiff_t i, const Rows<float>* r) {
    return load(r->e_left_out.high + i) * load(r->inverse.high + i);
}
CELOSS_INLINE HighLow probability_left_out(ptrdiff_t i, const Rows<double>* r) {
    const HighLow p = load_number<double>(r->e_left_out, i) * load_number<double>(r->inverse, i);
    const HighLow nll = load_number<double>(r->minus_log, i);
    const M64 far = nll.high >= FAR;
    if (!any_lane(far)) return p;
    return select(far, select(nll.high < 744.0, plain_exp_of(-nll), HighLow()), p);
}

// The logarithm of the sum of a row's exponentials, from the class left out. One that is further than FAR below the maximum has
// its exponential taken there.
template <class T> CELOSS_INLINE Number<T> log_sum_exp(ptrdiff_t i, const Rows<T>* r) {
    constexpr int W = lanes_of<double>();
    const F64 m = load_wide(r->maximum + i, W), x = load_wide(r->x_left_out + i, W);
    const Number<T> sum = sum_of(number<T>(x), load_number<T>(r->minus_log, i));
    const M64 far = m - x > FAR;
    if (!any_lane(far)) return sum;
    const Number<T> log = log1p_ratio(load_number<T>(r->others, i), load_number<T>(r->e_left_out, i));
    return select(far, sum_of(difference<T>(m, F64{} + FAR), log), sum);
}

// With s = sample weight, h = (1 - smoothing) w_t (0 for probabilities), v_c = w_c q'_c the soft targets (smoothing
// / C everywhere, or the probabilities) and V = sum_c v_c:
//
//     loss   = s [h (-log p_t) + V (-log p_m) + sum_c v_c (m - x_c)]
//     dx_k   = s [(h + V) p_k - v_k - h [k = t]]
//
// and, with z_loss z, s z lse^2 and s 2 z lse p_k beside them.
//
// At the target h (p_t - 1) is formed as -h times `miss`, the share of the others. With smoothing, the target being left out,
// -log p_m is -log p_t less m - x_t. That cancels, but its rounding is nothing beside h (-log p_t), or beside the target's own
// term of the last sum. Where class weights may be 0, and with probabilities, -log p_m may be all there is: there it is the
// maximum that is left out. So it is in long rows for second derivatives, whose 1 - p_m is as small (hessian.hpp).
template <class T> void cross_entropy(ptrdiff_t n, const RowOptions* o, Rows<T>* r) {
    log_rows(n, r);
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const bool target_left_out = r->left_out == r->targets;
    const T* x_target = target_left_out ? r->x_left_out : r->x_target;
    const N keep = number<T>(splat(o->keep), splat(o->keep_low)), add = number<T>(splat(o->add), splat(o->add_low));
    for (ptrdiff_t i = 0; i < n; i += W) {
        const int count = (int)(n - i < W ? n - i : W);
        const F64 row_weight = option_of_rows(o->sample_weight, i, count);
        const M64 ignored = ignored_rows(r->targets, i) | (row_weight == 0.0);
        const N w_t = number<T>(weight_of_targets(r->targets, o, i, count)), s = number<T>(row_weight);
        const N up = number<T>(splat(o->factor)) * s * number<T>(option_of_rows(o->upstream, i, count));
        const N e = load_number<T>(r->e_left_out, i), others = load_number<T>(r->others, i);
        const N inverse = load_number<T>(r->inverse, i), minus_log = load_number<T>(r->minus_log, i);
        // Of the target, if there is one.
        N e_t = e, miss = others * inverse, nll = minus_log;
        if (!o->probabilities && !target_left_out) {
            const F64 m = load_wide(r->maximum + i, W), x = load_wide(x_target + i, W);
            const N below = difference<T>(m, x);
            const M64 is_maximum = top_of(below) == 0.0;
            e_t = select(is_maximum, e, exp_of_target(r, i, x, m));
            miss = select(is_maximum, miss, (others + (e - e_t)) * inverse);
            nll = sum_of(below, minus_log);
        }
        N loss, coefficient, at_target{}, p_target = target_left_out ? probability_left_out(i, r) : e_t * inverse;
        if (!o->soft_targets) {
            coefficient = up * w_t;
            at_target = -(coefficient * miss);
            loss = weighted(s * w_t, nll);
            if (o->focal_gamma > 0) {
                const N p = select(top_of(nll) < FAR, e_t * inverse, N{});
                const FocalFactors<N> focal = focal_factors(p, miss, nll, number<T>(splat(o->focal_gamma)));
                loss = weighted(s * w_t * focal.loss, nll);
                coefficient = coefficient * focal.gradient;
                at_target = at_target * focal.gradient;
                store_number(r->bend, i, number<T>(focal_bend<T>(top_of(p), top_of(miss), top_of(nll), splat(o->focal_gamma))));
            }
        } else {
            const N mass = o->probabilities ? load_number<T>(r->mass, i) : number<T>(splat(o->mass), splat(o->mass_low));
            const N gap = load_number<T>(r->gap, i);
            N hot{}, log_sum = minus_log;
            if (!o->probabilities) {
                hot = keep * w_t;
                if (target_left_out) {
                    const N below = difference<T>(load_wide(r->maximum + i, W), load_wide(x_target + i, W));
                    log_sum = select(top_of(below) < __builtin_inf(), nll - below, N{});
                }
                const N p_t = select(top_of(miss) == 0.0, number<T>(F64{} + 1.0), e_t * inverse);
                at_target = up * (mass * p_t - w_t * (keep * miss + add));
            }
            coefficient = up * (hot + mass);
            loss = weighted(s, sum_of(weighted(hot, nll), sum_of(weighted(mass, log_sum), gap)));
        }
        if (o->z_loss > 0) {
            const N log_sum = log_sum_exp(i, r), z = number<T>(splat(o->z_loss)), slope = up * (z + z) * log_sum;
            loss = sum_of(loss, weighted(s * z, log_sum * log_sum));
            at_target = sum_of(at_target, slope * p_target);
            coefficient = coefficient + slope;
        }
        if (o->hessian) {
            const N bend = o->focal_gamma > 0 ? load_number<T>(r->bend, i) : N{};
            const N p = probability_left_out(i, r);
            const auto at_target_of = [&](N p_t) CELOSS_LAMBDA_INLINE {
                return select(ignored, F64{}, rounded(coefficient * miss * (p_t - bend * miss)));
            };
            store(r->p_left_out + i, top_of(p));
            store(r->wrong + i, F64{});
            if (target_left_out) {
                // log p_m is -(-log p_t - (m - x_t)): above log 0.49, or too large for that to be told.
                const F64 below = load_wide(r->maximum + i, W) - load_wide(x_target + i, W);
                store(r->wrong + i, select((below > 0) & ~(below - top_of(nll) < -0.7134), F64{} + 1.0, F64{}));
                store(r->hess_left_out + i, at_target_of(p));
            } else {
                store(r->hess_left_out + i, select(ignored, F64{}, rounded(coefficient * p * (others * inverse - bend * p))));
                store(r->hess_target + i, at_target_of(e_t * inverse));
            }
        }
        store(r->loss + i, select(ignored, F64{}, rounded(loss)));
        store_number(r->subtracted, i, o->soft_targets ? up : N{});
        store(r->at_target + i, select(ignored, F64{}, rounded(at_target)));
        store_number(r->coefficient, i, select(ignored, N{}, coefficient));
    }
}

}  // namespace
