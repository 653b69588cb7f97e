// scores.hpp: what is done to one score at a time: sigmoid, its logarithm, and the losses of binary scores.
//
// One score z becomes e = exp(-|z|) in (0, 1], and everything is made of three numbers that are never a difference of
// larger ones:
//     t = e / (1 + e)    the probability of the less likely label: sigma(-|z|)
//     u = 1 - t          that of the likelier one, at least 1/2: sigma(|z|)
//     l = log(1 + e)     -log u; and -log t = |z| + l
// They are carried as high + low, so that the exponential's error (below 0.75 of 2^-24, or of 2^-53) and the last
// rounding are all that a result shows. e, t and u are 2^headroom times as large, so that they are normal where a
// product of theirs with a large upstream gradient is.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "number.hpp"
#include "vector.hpp"

namespace {

// log(1 + e) = e - e^2/4 + e^2 r(e - center) on [0, 1]: two exact terms, and less than a quarter of the result to round. A
// weighted minimax fit around a center that makes the first coefficients round well: relative error 2^-29.6 (float32) and
// 2^-56.5 (float64), rounded coefficients included.
template <class T> struct Log1pConstants;
template <> struct Log1pConstants<float> {
    static constexpr int degree = 9;
    static constexpr float center = 0x1.22cp-1f /* 0.56787109 */;
    static constexpr float r[degree + 1] = {-0x1.dcbb32p-4f /* -0.11638946 */,   0x1.568280p-3f /* 0.1672411 */,
                                            -0x1.56573cp-4f /* -0.083579287 */,  0x1.67f646p-5f /* 0.043940675 */,
                                            -0x1.873fd0p-6f /* -0.02387996 */,   0x1.b36f9cp-7f /* 0.013288451 */,
                                            -0x1.e45886p-8f /* -0.0073905303 */, 0x1.0df500p-8f /* 0.0041192174 */,
                                            -0x1.8e100ap-9f /* -0.003036977 */,  0x1.0fb4c8p-9f /* 0.0020729536 */};
};
template <> struct Log1pConstants<double> {
    static constexpr int degree = 19;
    static constexpr double center = 0x1.24cp-1 /* 0.57177734 */;
    static constexpr double r[degree + 1] = {
        -0x1.da0f82339993cp-4,  0x1.552d3518e51c3p-3,   -0x1.543dd7e177a1cp-4,  0x1.64edbecd684edp-5,   -0x1.82e0ec9ebc469p-6,
        0x1.ad177adbb81a6p-7,   -0x1.e41df99dd758fp-8,  0x1.14bd5023404a9p-8,   -0x1.3fc07a89676abp-9,  0x1.74a74fb126ec3p-10,
        -0x1.b572f2e14e4aep-11, 0x1.0267e723d9220p-11,  -0x1.32ccabfdee143p-12, 0x1.6b7a1b2fbdab2p-13,  -0x1.b495f3c6b707bp-14,
        0x1.1cfb872f5ddfdp-14,  -0x1.3e5be3f585179p-15, 0x1.2e280bf49371dp-17,  -0x1.1634fd38dc476p-16, 0x1.a8f8093cae3d0p-16};
};

// -|z|: the sign bit set.
template <class T> CELOSS_INLINE typename VectorOf<T>::V minus_absolute(typename VectorOf<T>::V z) {
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    return (typename VectorOf<T>::V)((M)z | (Int)(sizeof(T) == 4 ? (int64_t)INT32_MIN : INT64_MIN));
}

template <class T> struct Score {
    typedef typename VectorOf<T>::V V;
    typedef ExpConstants<T> K;
    static constexpr T unit = (T)(1ull << (K::headroom / 2)) * (T)(1ull << (K::headroom / 2));
    static constexpr T per_unit = 1 / unit;

    Parts<V> e;  // times unit

    CELOSS_INLINE Score(V z, const RowScale<V>& scale) {
        ExpParts<V> exp = exp_parts<T>(minus_absolute<T>(z), scale);
        e = {exp.value, exp.error};
    }
    // Both of these for |z| up to where t is no normal number any more:
    // ulp: less_likely+error float32 0.456 at 0x1.e53298p+5
    // ulp: less_likely+error float64 0.471 at 0x1.1a8acfa113a8p+4
    // ulp: log1p_of_exp+error float32 0.518 at 0x1.d5672cp-2
    // ulp: log1p_of_exp+error float64 0.476 at 0x1.78a0ac9ac4d22p+2

    // t, times unit: a quotient, and what it leaves.
    CELOSS_INLINE Parts<V> less_likely() const {
        V d = fma(e.high, V{} + per_unit, V{} + T(1));
        V d_low = fma(e.low, V{} + per_unit, fma(e.high, V{} + per_unit, T(1) - d));
        const V inverse = T(1) / d, q = e.high * inverse;
        V lost = remainder_of(e.high, q, d) + (e.low - q * d_low);
        return {q, lost * inverse};
    }
    // u = 1 - t, times unit.
    CELOSS_INLINE static Parts<V> likelier(Parts<V> t) {
        V u = unit - t.high;
        return {u, ((unit - u) - t.high) - t.low};
    }
    // l, times unit. 1 / (1 + e), the derivative, is good to 0.05 where it multiplies the rounding error of e.
    CELOSS_INLINE Parts<V> log1p() const {
        typedef Log1pConstants<T> C;
        const V small = e.high * per_unit, square = e.high * small, square_low = fma(e.high, small, -square);
        const V from_center = small - C::center;
        V r = V{} + C::r[C::degree];
        for (int i = C::degree - 1; i >= 0; --i) r = fma(r, from_center, V{} + C::r[i]);
        const V sum = fma(square, V{} - T(0.25), e.high), lost = fma(square, V{} - T(0.25), e.high - sum);
        const V slope = fma(small, V{} - T(0.5), V{} + T(0.957));
        const V corrections = fma(square_low, V{} - T(0.25), fma(e.low, slope, lost));
        return {sum, fma(square, r, corrections)};
    }
};

// a + l for a >= 0, whose rounding error is a_low, rounded once; inf for a = inf.
template <class T, class V> CELOSS_INLINE V plus_log(V a, V a_low, Parts<V> l) {
    const V b = l.high * Score<T>::per_unit, sum = a + b, b_seen = sum - a;
    const V lost = fma(l.low, V{} + Score<T>::per_unit, ((a - (sum - b_seen)) + (b - b_seen)) + a_low);
    return sum + select(lost == lost, lost, V{});
}

// ---- activations ----------------------------------------------------------------------------------------------------

// sigma(z) = n / (1 + e) with n = 1 where z >= 0, n = e elsewhere: a quotient, and what it and e's error leave.
// ulp: sigmoid float32 1.639 at -0x1.1a9478p+0
// ulp: sigmoid float64 1.516 at -0x1.1d1b9f3b77d6p+5
template <class T> void sigmoid(ptrdiff_t n, const T* z, T* p) {
    typedef typename VectorOf<T>::V V;
    const RowScale<V> scale = row_scale<V, T>(V{});
    each_vector<T>(n, [&](ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const V v = load_count(z + i, count);
        const Parts<V> e = Score<T>(v, scale).e;
        const auto negative = v < 0;
        const V d = fma(e.high, V{} + Score<T>::per_unit, V{} + T(1));
        const V numerator = select(negative, e.high, V{} + Score<T>::unit);
        const V inverse = T(1) / d, q = numerator * inverse;
        const V lost = remainder_of(numerator, q, d) + select(negative, e.low, V{});
        store_count(p + i, count, fma(lost, inverse, q) * Score<T>::per_unit);
    });
}

// log sigma(z) = min(z, 0) - l.
// ulp: log_sigmoid float32 0.991 at 0x1.da22f4p-2
// ulp: log_sigmoid float64 0.886 at 0x1.b71853006ede8p+8
template <class T> void log_sigmoid(ptrdiff_t n, const T* z, T* y) {
    typedef typename VectorOf<T>::V V;
    const RowScale<V> scale = row_scale<V, T>(V{});
    each_vector<T>(n, [&](ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const V v = load_count(z + i, count);
        const Parts<V> l = Score<T>(v, scale).log1p();
        store_count(y + i, count, -plus_log<T>(select(v < 0, -v, V{}), V{}, l));
    });
}

// ---- losses on binary scores ----------------------------------------------------------------------------------------

// Losses are summed in 16 float64 lanes, on every level the same: loss i in lane i % 16.
struct LossSum {
    F64 sum[SUM_VECTORS]{};
    CELOSS_INLINE void add(ptrdiff_t i, F64 v) { sum[i % SUM_LANES / lanes_of<double>()] += v; }
    CELOSS_INLINE void add(ptrdiff_t i, F32 v) {
        add(i, widen_low(v));
        add(i + lanes_of<double>(), widen_high(v));
    }
    CELOSS_INLINE double total() const { return sum_of_lanes(sum); }
};

// A factor in two parts; where it leaves T's range these would be inf - inf, and the high one does alone.
template <class T> struct Factor {
    typedef typename VectorOf<T>::V V;
    V high, low, high_of_low;

    // The same in all lanes.
    CELOSS_INLINE explicit Factor(double value) {
        const T top = (T)value;
        set(splat<T>(top), splat<T>((T)(value - (double)top)));
    }
    // value * each of `count` numbers.
    CELOSS_INLINE Factor(double value, const double* each, int count) {
        constexpr int half = lanes_of<double>();
        if constexpr (sizeof(T) == 4) {
            const F64 first = load_some(each, count) * value, second = load_some(each + half, count - half) * value;
            const V top = narrow(first, second);
            set(top, narrow(first - widen_low(top), second - widen_high(top)));
        } else {
            const F64 first = load_some(each, count), product = first * value;
            set(product, remainder_of(-product, -first, F64{} + value));
        }
    }
    CELOSS_INLINE void set(V top, V remainder) {
        const auto finite = top - top == V{};
        high = top;
        low = select(finite & (remainder == remainder), remainder, V{});
        high_of_low = select(finite, top, V{});
    }
    CELOSS_INLINE static F64 load_some(const double* from, int count) {
        return count >= lanes_of<double>() ? load(from) : load_first(from, count < 0 ? 0 : count, 0.0);
    }
    CELOSS_INLINE V times(V v, V v_low) const { return fma(v, high, fma(v, low, v_low * high_of_low)); }
};

// Cross-entropy without weights, where what the two labels weigh sums to 1. With c the share of the label that the
// score speaks against, and r = 1 - c:
//     loss = l + c |z|        dloss/dz = sign(z) (c u - r t)        d2loss/dz2 = t u
// For a label of 0 or 1 one of the two products is 0.
template <class T, bool GRAD, bool HESS, bool UPSTREAM> double unweighted_cross_entropy(ScoreBlock<T>* b) {
    typedef typename VectorOf<T>::V V;
    const RowScale<V> scale = row_scale<V, T>(V{});
    const double scaled = b->factor * (double)Score<T>::per_unit;
    const Factor<T> common(scaled);
    LossSum sum;
    V least{};  // of the products y (1 - y): negative outside [0, 1]
    each_vector<T>(b->n, [&](ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const V z = load_count(b->z + i, count), y = load_count(b->y + i, count), far = absolute(z), no = T(1) - y;
        least = select(y * no < least, y * no, least);
        const auto positive = z > 0;
        const V c = select(positive, no, y);
        const Score<T> score(z, scale);
        const Parts<V> l = score.log1p();
        const V base = select(c == 0, V{}, far) * c;
        V loss = plus_log<T>(base, fma(far, c, -base), l);
        if (GRAD || HESS) {
            const Parts<V> t = score.less_likely(), u = Score<T>::likelier(t);
            const Factor<T> factor = UPSTREAM ? Factor<T>(scaled, b->upstream + i, count) : common;
            if (GRAD) {
                const V r = select(positive, y, no);
                const V g = fma(c, u.high, -(r * t.high)), g_low = fma(c, u.low, -(r * t.low));
                store_count(b->result + i, count, factor.times(select(positive, g, -g), select(positive, g_low, -g_low)));
            }
            if (HESS) {
                const V likelier = u.high * Score<T>::per_unit, product = t.high * likelier;
                const V product_low = fma(t.high, likelier, -product) + fma(t.high, u.low * Score<T>::per_unit, t.low * likelier);
                store_count(b->hess + i, count, factor.times(product, product_low));
            }
        }
        if (b->loss) store_count(b->loss + i, count, loss);
        if (count < lanes_of<T>()) loss = select(first_lanes<T>(count), loss, V{});
        sum.add(i, loss);
    });
    b->bad_value = any_lane(least < 0);
    return sum.total();
}

// Any of the losses with all options, in numbers (number.hpp): what the scores give in T's precision.
template <class T> struct NumberScore {
    typedef Number<T> N;
    F64 z, y;
    N l, t, u;
};

// A float32 score for powers of its probabilities, which would multiply the errors of float32 exponentials.
// (Squares of e^-700 are 0, other powers of it need not be.)
template <bool SQUARES> CELOSS_INLINE NumberScore<float> score_for_powers(F64 z, F64 y) {
    F64 e = exp_to_39_bits(minus_absolute<double>(z));
    if (!SQUARES) e = select(absolute(z) > 700.0, F64{}, e);
    const F64 u = 1.0 / (1.0 + e);
    return {z, y, log1p_ratio(e, F64{} + 1.0), e * u, u};
}

// Cross-entropy with a focal factor, beside the operations that it is one of.
constexpr int BINARY_FOCAL = -1;

// Loss and gradient but for what a weight of 0 leaves out.
template <class T, int LOSS, bool GRAD, bool HESS>
CELOSS_INLINE void loss_of_numbers(const NumberScore<T>& s, const ScoreBlock<T>* b, Number<T> weight, const double* pos,
                                   const double* upstream, F64* loss, F64* grad, F64* hess) {
    typedef Number<T> N;
    const M64 positive = s.z > 0;
    const N y = number<T>(s.y);
    N yes = y, no = number<T>(F64{} + 1.0) - y;
    if (b->keep != 1.0) {
        const N keep = number<T>(splat(b->keep), splat(b->keep_low)), add = number<T>(splat(b->add));
        yes = multiply_add(yes, keep, add);
        no = multiply_add(no, keep, add);
    }
    const N p = select(positive, s.u, s.t), miss = select(positive, s.t, s.u);
    N up = number<T>(splat(b->factor));
    if (upstream) up = up * number<T>(load(upstream));
    if (LOSS == BINARY_CROSS_ENTROPY || LOSS == BINARY_FOCAL) {
        // l_n = w [pw y' softplus(-z) + (1 - y') softplus(z)], where 0 * inf counts 0;
        // dl_n/dz = w [(1 - y') p - pw y' (1 - p)];  d2l_n/dz2 = w [(1 - y') + pw y'] p (1 - p)
        const N a1 = weight * (pos ? yes * number<T>(load(pos)) : yes), a0 = weight * no;
        const N against = select(positive, a0, a1);
        const N plain = sum_of((a0 + a1) * s.l, weighted(against, number<T>(absolute(s.z))));
        const N slope = a0 * p - a1 * miss, curvature = (a0 + a1) * (p * miss);
        if (LOSS == BINARY_CROSS_ENTROPY) {
            *loss = rounded(plain);
            if (GRAD) *grad = rounded(slope * up);
            if (HESS) *hess = rounded(curvature * up);
            return;
        }
        // With p_t = p y + (1 - p) (1 - y) and f = (1 - p_t)^gamma:
        // f l_n;  f [dl_n/dz + gamma l_n s];  f [d2l_n/dz2 + gamma (2 s dl_n/dz + l_n (s (1 - 2 p) + (gamma - 1) s^2))]
        // where s = p (1 - p) (1 - 2 y) / (1 - p_t), so that ds/dz = s (1 - 2 p) - s^2.
        const N others = p * no + miss * yes, power = power_of_miss(others, p * yes + miss * no, splat(b->focal_gamma));
        *loss = rounded(weighted(power, plain));
        if (!GRAD && !HESS) return;
        const N scale = number<T>(F64{} + 0x1p+64);  // an inverse of what is subnormal would be infinite
        const N gamma = number<T>(splat(b->focal_gamma)), sign = no - yes;
        const N share = select(top_of(others) == 0.0, N{}, p * miss * scale * inverse_of(others * scale));
        if (GRAD) *grad = rounded(power * (slope + gamma * sign * weighted(share, plain)) * up);
        if (HESS) {
            const N s = sign * share, bend = s * (miss - p) + (gamma - number<T>(F64{} + 1.0)) * s * s;
            *hess = rounded(power * (curvature + gamma * (s * (slope + slope) + weighted(bend, plain))) * up);
        }
    } else if (LOSS == BINARY_BRIER) {
        // l_n = w (p - y)^2;  dl_n/dz = 2 w (p - y) p (1 - p), with p - y = p (1 - y) - y (1 - p)
        const N error = p * no - yes * miss;
        *loss = rounded(weight * (error * error));
        if (GRAD) *grad = 2.0 * rounded(weight * error * (p * miss) * up);
    } else {
        // l_n = w |[z > 0] - y|
        *loss = top_of(weight) * absolute(select(s.z == s.z, top_of(select(positive, no, yes)), s.z));
    }
}

template <class T, int LOSS, bool GRAD, bool HESS>
CELOSS_INLINE void weighted_loss(const NumberScore<T>& s, const ScoreBlock<T>* b, const double* w, const double* pos,
                                 const double* upstream, F64* loss, F64* grad, F64* hess, M64* bad) {
    const F64 weight = w ? load(w) : F64{} + 1.0;
    const M64 outside = (s.y < 0) | (s.y > 1);
    loss_of_numbers<T, LOSS, GRAD, HESS>(s, b, number<T>(weight), pos, upstream, loss, grad, hess);
    if (pos) *bad |= ~((load(pos) >= 0) & (load(pos) < __builtin_inf()));
    if (w) {
        const M64 left_out = weight == 0.0;
        *bad |= ~(absolute(weight) < __builtin_inf());
        *bad |= ~left_out & outside;
        *loss = select(left_out, F64{}, *loss);
        if (GRAD) *grad = select(left_out, F64{}, *grad);
        if (HESS) *hess = select(left_out, F64{}, *hess);
    } else *bad |= outside;
}

template <class T, int LOSS, bool GRAD, bool HESS = false> double weighted_binary(ScoreBlock<T>* b) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>(), half = lanes_of<double>();
    const RowScale<V> scale = row_scale<V, T>(V{});
    LossSum sum;
    M64 bad{};
    each_vector<T>(b->n, [&](ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const double *w = b->weight ? b->weight + i : nullptr, *pos = b->pos_weight ? b->pos_weight + i : nullptr;
        const double* up = b->upstream ? b->upstream + i : nullptr;
        double copies[3][W];
        if (count < W) {
            const double** from[3] = {&w, &pos, &up};
            for (int k = 0; k < 3; ++k) {
                if (!*from[k]) continue;
                for (int lane = 0; lane < W; ++lane) copies[k][lane] = lane < count ? (*from[k])[lane] : 0.0;
                *from[k] = copies[k];
            }
        }
        const V z = load_count(b->z + i, count), y = load_count(b->y + i, count);
        const Score<T> score(z, scale);
        Parts<V> l{}, t{}, u{};
        constexpr bool for_powers = LOSS == BINARY_BRIER || LOSS == BINARY_FOCAL;
        if (LOSS == BINARY_CROSS_ENTROPY || (LOSS == BINARY_FOCAL && sizeof(T) == 8)) l = score.log1p();
        if ((for_powers && sizeof(T) == 8) || (LOSS == BINARY_CROSS_ENTROPY && (GRAD || HESS))) {
            t = score.less_likely();
            u = Score<T>::likelier(t);
        }
        constexpr double per_unit = (double)Score<T>::per_unit;
        F64 loss[2]{}, grad[2]{}, hess[2]{};
        V loss_here, grad_here, hess_here;
        if constexpr (sizeof(T) == 4) {
            auto half_of = [&](auto widen) CELOSS_LAMBDA_INLINE -> NumberScore<T> {
                auto sum = [&](Parts<V> parts) CELOSS_LAMBDA_INLINE { return (widen(parts.high) + widen(parts.low)) * per_unit; };
                if (for_powers) return score_for_powers<LOSS == BINARY_BRIER>(widen(z), widen(y));
                return {widen(z), widen(y), sum(l), sum(t), sum(u)};
            };
            weighted_loss<T, LOSS, GRAD, HESS>(half_of([](F32 v) CELOSS_LAMBDA_INLINE { return widen_low(v); }), b, w, pos, up,
                                               loss, grad, hess, &bad);
            weighted_loss<T, LOSS, GRAD, HESS>(half_of([](F32 v) CELOSS_LAMBDA_INLINE { return widen_high(v); }), b,
                                               w ? w + half : w, pos ? pos + half : pos, up ? up + half : up, loss + 1, grad + 1,
                                               hess + 1, &bad);
            loss_here = narrow(loss[0], loss[1]);
            grad_here = narrow(grad[0], grad[1]);
            hess_here = narrow(hess[0], hess[1]);
        } else {
            auto number_of = [&](Parts<V> parts)
                                 CELOSS_LAMBDA_INLINE { return HighLow(parts.high * per_unit, parts.low * per_unit); };
            weighted_loss<T, LOSS, GRAD, HESS>({z, y, number_of(l), number_of(t), number_of(u)}, b, w, pos, up, loss, grad, hess,
                                               &bad);
            loss_here = loss[0];
            grad_here = grad[0];
            hess_here = hess[0];
        }
        if (b->loss) store_count(b->loss + i, count, loss_here);
        if (GRAD) store_count(b->result + i, count, grad_here);
        if (HESS) store_count(b->hess + i, count, hess_here);
        if (count < W) {
            loss[0] = select(first_lanes<double>(count), loss[0], F64{});
            loss[1] = select(first_lanes<double>(count - half), loss[1], F64{});
        }
        sum.add(i, loss[0]);
        if (sizeof(T) == 4) sum.add(i + half, loss[1]);
    });
    b->bad_value = any_lane(bad);
    return sum.total();
}

template <class T, int LOSS> double weighted_cross_entropy(ScoreBlock<T>* b, bool grad, bool hess) {
    if (grad) return hess ? weighted_binary<T, LOSS, true, true>(b) : weighted_binary<T, LOSS, true, false>(b);
    return hess ? weighted_binary<T, LOSS, false, true>(b) : weighted_binary<T, LOSS, false, false>(b);
}

// ---- of any kind ----------------------------------------------------------------------------------------------------

template <class T> double scores(ScoreBlock<T>* b) {
    const bool grad = b->result != nullptr, hess = b->hess != nullptr, upstream = b->upstream != nullptr;
    switch (b->operation) {
    case SIGMOID: sigmoid(b->n, b->z, b->result); return 0;
    case LOG_SIGMOID: log_sigmoid(b->n, b->z, b->result); return 0;
    case BINARY_BRIER: return grad ? weighted_binary<T, BINARY_BRIER, true>(b) : weighted_binary<T, BINARY_BRIER, false>(b);
    case BINARY_ZERO_ONE: return weighted_binary<T, BINARY_ZERO_ONE, false>(b);
    }
    if (b->focal_gamma > 0) return weighted_cross_entropy<T, BINARY_FOCAL>(b, grad, hess);
    if (b->weight || b->pos_weight || b->keep != 1.0) return weighted_cross_entropy<T, BINARY_CROSS_ENTROPY>(b, grad, hess);
    if (grad && hess)
        return upstream ? unweighted_cross_entropy<T, true, true, true>(b) : unweighted_cross_entropy<T, true, true, false>(b);
    if (grad)
        return upstream ? unweighted_cross_entropy<T, true, false, true>(b) : unweighted_cross_entropy<T, true, false, false>(b);
    if (hess) return unweighted_cross_entropy<T, false, true, true>(b);  // the product with a vector, which is upstream
    return unweighted_cross_entropy<T, false, false, false>(b);
}

}  // namespace
