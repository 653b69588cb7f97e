// exp_log.hpp: the exponential and the logarithm of celoss, on one vector.
//
// Beside each function stand its range and lines
//     ulp: <function> <dtype> <maximum error> at <worst input found>
// where the error is in ulp of the exact value, on the level where it is largest. tests/test_exp_log.py measures them (float32
// exhaustively) and holds these lines, and the table in docs/accuracy.md, to what it measures.
#pragma once

#include "number.hpp"
#include "side.hpp"
#include "vector.hpp"

namespace {

// e^t = 1 + t + t^2 h(t) on |t| <= ln2/2 (1 + 2^-9). Minimax fits of relative error 2^-28 (float32) and 2^-57 (float64).
//
// ln2 is cut in two so that n * ln2_high is exact for every integer n that can occur (float32: 14 bits, |n| < 2^10;
// float64: 41 bits, |n| < 2^12).
template <class T> struct ExpConstants;
template <> struct ExpConstants<float> {
    static constexpr int degree = 4;
    static constexpr float h[degree + 1] = {0x1.fffffcp-2f /* 0.49999993 */, 0x1.555490p-3f /* 0.16666520 */,
                                            0x1.5558f8p-5f /* 0.041668400 */, 0x1.123b04p-7f /* 0.0083688512 */,
                                            0x1.6a2276p-10f /* 0.0013814334 */};
    static constexpr float log2e = 0x1.715476p+0f;     // 1.4426950
    static constexpr float ln2_high = 0x1.62e0p-1f;    // 0.69311523
    static constexpr float ln2_low = 0x1.0bfbe8p-15f;  // 3.1946185e-5
    static constexpr int exponent_shift = 23, exponent_bias = 127;
    static constexpr float round = 0x1.8p+23f;  // adding it leaves an integer in the low bits
    static constexpr int headroom = 32;         // e is normal down to exp(-109)
    static constexpr float unshifted = 256.0f;  // more than twice 109, see RowScale
};
template <> struct ExpConstants<double> {
    static constexpr int degree = 9;
    static constexpr double h[degree + 1] = {
        0x1.000000000000ap-1 /* 0.5000000000000011 */,     0x1.55555555554f8p-3 /* 0.16666666666666408 */,
        0x1.5555555550754p-5 /* 0.041666666666528104 */,   0x1.1111111128170p-7 /* 0.0083333333334969237 */,
        0x1.6c16c1846fc5ap-10 /* 0.0013888888944249195 */, 0x1.a01a0128fe083p-13 /* 1.9841269502740921e-4 */,
        0x1.a019994461daep-16 /* 2.4801492438828576e-5 */, 0x1.71df271f43240p-19 /* 2.7557588421266515e-6 */,
        0x1.28ae34601dab8p-22 /* 2.7630523469856497e-7 */, 0x1.ad7e8a1bb997dp-26 /* 2.4999859827979561e-8 */};
    static constexpr double log2e = 0x1.71547652b82fep+0;
    static constexpr double ln2_high = 0x1.62e42fefa3p-1;
    static constexpr double ln2_low = 0x1.3de6af278ece6p-42;
    static constexpr int exponent_shift = 52, exponent_bias = 1023;
    static constexpr double round = 0x1.8p+52;
    static constexpr int headroom = 64;  // e is normal down to exp(-752)
    static constexpr double unshifted = 1536.0;
};

// e^t - 1 for t = t1 + t2, t1 exact and t2 small: the small terms are summed first, so that one rounding of t1's size is
// left.
template <class V, class T> CELOSS_INLINE V expm1_reduced(V t1, V t2) {
    using K = ExpConstants<T>;
    V t = t1 + t2;
    V h = V{} + K::h[K::degree];
    for (int i = K::degree - 1; i >= 0; --i) h = fma(h, t, V{} + K::h[i]);
    return t1 + fma(t * t, h, t2);
}

// How one row is exponentiated: e_j = 2^headroom * exp(x_j - m) * u with one factor u in [0.7, 1.42) for the whole row.
//
// Subtracting the maximum rounds, and a rounding of x - m is an absolute error of the exponent. So rows near the origin
// (|m| < unshifted) are not shifted at all: 2^-n(m) is folded into the exponent instead, which is exact. Rows further out
// are shifted by m; there x - m is exact where x is within a factor of two of m (Sterbenz), and elsewhere it is below
// -unshifted/2, where the exponential is 0 either way. The headroom lets large upstream gradients scale small exponentials.
template <class V> struct RowScale {
    V shift;   // subtracted from x: 0 or m
    V lowest;  // x - shift is clamped here; the clamp is where the exponential becomes exactly 0
    V round;   // the rounding constant with headroom, exponent bias and -n(m) in its low bits
    V steps;   // n(m), the power of two taken out
};

template <class V, class T> CELOSS_INLINE RowScale<V> row_scale(V m) {
    using K = ExpConstants<T>;
    RowScale<V> row;
    row.shift = select(absolute(m) < V{} + K::unshifted, V{}, m);
    row.steps = fma(m - row.shift, V{} + K::log2e, V{} + K::round) - K::round;
    row.round = (K::round + T(K::headroom + K::exponent_bias)) - row.steps;
    row.lowest = (row.steps - T(K::headroom + K::exponent_bias)) * (K::ln2_high + K::ln2_low);
    return row;
}

// The exponential as a value and most of its rounding error. Valid: every x <= m, -inf, NaN. Accurate from x - m = -109
// (float32), -752 (float64) on, with the error from -91, -715 on; below, 0 or close to it.
// ulp: exp float32 0.895 at 0x1.206ce2p+2, 0x1.5p+3
// ulp: exp float64 0.897 at 0x1.2238e7bbefb7dp+13, 0x1.388p+13
// ulp: exp+error float32 0.492 at -0x1.d27bcap+7, -0x1.bcp+7
// ulp: exp+error float64 0.463 at -0x1.6e424546df808p+21, -0x1.6e36p+21
template <class V> struct ExpParts {
    V value, error;
};

// V: one vector, or several side by side, all of the one scale. Not SHIFTED: row.shift is known to be 0.
template <class T, bool SHIFTED = true, class V, class R> CELOSS_INLINE ExpParts<V> exp_parts(V x, const RowScale<R>& row) {
    using K = ExpConstants<T>;
    typedef typename Kind<V>::M M;
    V d = x;
    if (SHIFTED) d = x - row.shift;
    d = max_or_nan(row.lowest, d);
    V z = fma(d, V{} + K::log2e, row.round);
    V n = z - row.round;
    V fraction = expm1_reduced<V, T>(fma(n, V{} - K::ln2_high, d), n * (V{} - K::ln2_low));
    V power = (V)((M)z << K::exponent_shift);
    V value = fma(power, fraction, power);  // power * fraction is exact
    return {value, fma(power, fraction, power - value)};
}

// The same of the maximum itself, where nothing is clamped; and what value + error lack: the rounding of the fraction. The
// error stated is what all three leave.
// ulp: exp_of_maximum+error float32 0.242 at -0x1.d27bcap+7
// ulp: exp_of_maximum+error float64 0.228 at -0x1.1b2441b57a970p+8
template <class V> struct ExpOfMaximum {
    V value, error, lack;
};
template <class T, class V> CELOSS_INLINE ExpOfMaximum<V> exp_of_maximum(V m, const RowScale<V>& row) {
    using K = ExpConstants<T>;
    typedef typename Kind<V>::M M;
    const V d = m - row.shift, z = fma(d, V{} + K::log2e, row.round), n = z - row.round;
    const V t1 = fma(n, V{} - K::ln2_high, d), t2 = n * (V{} - K::ln2_low), t = t1 + t2;
    V h = V{} + K::h[K::degree];
    for (int i = K::degree - 1; i >= 0; --i) h = fma(h, t, V{} + K::h[i]);
    const V small = fma(t * t, h, t2), fraction = t1 + small;
    const V power = (V)((M)z << K::exponent_shift), value = fma(power, fraction, power);
    return {value, fma(power, fraction, power - value), (small - (fraction - t1)) * power};
}

// e^d, times the power of two that is in the low bits of `round`. e^t = 1 + t + t^2 h(t) on |t| <= ln2/2: a minimax fit of
// relative error 2^-39.6. Exactly 1 at 0. 2^14 ulp are 2^-39.
// ulp: exp_to_39_bits float64 9560 at -0x1.589235a7956cbp+9
template <class V> CELOSS_INLINE V exp_to_39_bits(V d, V round) {
    using K = ExpConstants<double>;
    constexpr double h[] = {0x1.000000005f0b8p-1 /* 0.50000000004322143 */,
                            0x1.5555557e48bedp-3 /* 0.16666666785849263 */,
                            0x1.5555541b92decp-5 /* 0.041666664383764956 */,
                            0x1.1110a18a72764p-7 /* 0.0083332814000589076 */,
                            0x1.6c18d5f6ee891p-10 /* 0.0013889198869337131 */,
                            0x1.a186bc35ec233p-13 /* 1.9909205883329866e-4 */,
                            0x1.9e88e315a162fp-16 /* 2.4708194436692622e-5 */};
    const V z = fma(d, V{} + K::log2e, round);
    const V t = fma(z - round, V{} - (K::ln2_high + K::ln2_low), d);
    V series = V{} + h[6];
    for (int i = 5; i >= 0; --i) series = fma(series, t, V{} + h[i]);
    return fma(t * t, series, t + 1.0) * (V)((typename Kind<V>::M)z << K::exponent_shift);
}
// e^d for d <= 0; below -700 as at -700, whose square is 0.
CELOSS_INLINE F64 exp_to_39_bits(F64 d) {
    using K = ExpConstants<double>;
    return exp_to_39_bits(max_or_nan(F64{} - 700.0, d), F64{} + (K::round + K::exponent_bias));
}

// The same of d = high + low with its rounding error. The small terms of expm1_reduced are kept apart from t, so that nothing
// rounds but they themselves.
// ulp: exp_with_error+error float64 0.229 at -0x1.c8c52c8fdaceap+7, -0x1.8p-47
CELOSS_INLINE HighLow exp_with_error(F64 high, F64 low, F64 round) {
    using K = ExpConstants<double>;
    const F64 z = fma(high, F64{} + K::log2e, round), n = z - round;
    const F64 t1 = fma(n, F64{} - K::ln2_high, high), t2 = fma(n, F64{} - K::ln2_low, low), t = t1 + t2;
    F64 series = F64{} + K::h[K::degree];
    for (int i = K::degree - 1; i >= 0; --i) series = fma(series, t, F64{} + K::h[i]);
    const F64 small = fma(t * t, series, t2), first = t1 + 1.0;
    const HighLow fraction = two_sum(first, ((1.0 - first) + t1) + small);
    const F64 power = (F64)((M64)z << K::exponent_shift);
    return {fraction.high * power, fraction.low * power};
}
// 2^64 e^d for d <= 0; from -752 on, which keeps it normal; below, as at -752. Its rounding error from -715 on.
CELOSS_INLINE HighLow exp_with_error(HighLow d) {
    using K = ExpConstants<double>;
    const M64 far = !(d.high > -752.0);
    return exp_with_error(max_or_nan(F64{} - 752.0, d.high), select(far, F64{}, d.low),
                          F64{} + (K::round + K::headroom + K::exponent_bias));
}

// The exponential of one class of each row, as exp_parts scales it but far more exact: a = x - shift, steps = n(m); x <= m.
template <class T> constexpr double round_of_row() {
    using K = ExpConstants<double>;
    return K::round + K::exponent_bias + ExpConstants<T>::headroom;
}
template <class T, class V> CELOSS_INLINE V exp_in_row_to_39_bits(V a, V steps) {
    return exp_to_39_bits(a, round_of_row<T>() - steps);
}
// ulp: exp_in_row+error float64 0.224 at 0x1.29f80e017cd6cp+10, 0x1.15p+11
CELOSS_INLINE HighLow exp_in_row_with_error(F64 a, F64 steps) { return exp_with_error(a, F64{}, round_of_row<double>() - steps); }

// Either of the two, for the numbers of a dtype: e^d times unit_of_exp for d <= 0; and without that factor.
CELOSS_INLINE F64 exp_of(F64 d) { return exp_to_39_bits(d); }
CELOSS_INLINE HighLow exp_of(HighLow d) { return exp_with_error(d); }
template <class T> constexpr double unit_of_exp() { return sizeof(T) == 8 ? 0x1p+64 : 1.0; }
CELOSS_INLINE F64 plain_exp_of(F64 d) { return exp_of(d); }
CELOSS_INLINE HighLow plain_exp_of(HighLow d) {
    const HighLow e = exp_of(d);
    return {e.high * 0x1p-64, e.low * 0x1p-64};
}

// log((unit + rest) / unit) for rest >= 0, unit > 0: the logarithm's argument is never rounded to 1 + small.
//
// ratio = 2^k f with f in [2/3, 3/2]; s = (f - 1)/(f + 1); log f = 2 atanh s = 2 s + s z P(z), z = s^2. For k = 0 the
// numerator f - 1 is rest / unit, which needs no subtraction. P: a minimax fit of relative error 2^-61.
// With EXACT the rounding errors of rest, unit and the quotient are carried along, and the result's own is returned.
// Range: results that are normal numbers, up to 2^40 units. Plain where the result is for float32.
// ulp: log1p_ratio float64 3.975 at 0x1.17efa0f663b74p+62, 0x1.78bf693cf23f3p+63
// ulp: log1p_ratio_exact+error float64 0.250 at 0x1.7ac42c17ab781p-988, 0x1.a530548e21bafp+31, -0x0.00001325f7552p-1022, -0x1.8ddbb9aa40e44p-24
template <bool EXACT> CELOSS_INLINE HighLow log1p_ratio(HighLow rest, HighLow unit) {
    using K = ExpConstants<double>;
    constexpr double p[] = {0x1.555555555555p-1 /* 2/3 */,        0x1.999999999c304p-2 /* 2/5 */,
                            0x1.2492492187ee9p-2 /* 2/7 */,       0x1.c71c750275af3p-3 /* 2/9 */,
                            0x1.745c2b8daed4bp-3 /* 2/11 */,      0x1.3b3a14d6c586fp-3 /* 0.1539194 */,
                            0x1.0d7f91ccecc8dp-3 /* 0.1315910 */, 0x1.1d8ff751692f9p-3 /* 0.1394347 */};
    F64 total = unit.high + rest.high;
    // The bits of a positive float64 are a piecewise linear logarithm, off by less than 0.09: their difference rounds to k.
    // (Unsigned, since those of two NaNs may be further apart than an int64 can say.)
    M64 k_bits = (M64)(((U64)total - (U64)unit.high) + ((uint64_t)1 << 51)) >> 52;
    F64 k = (F64)((M64)(F64{} + K::round) + k_bits) - K::round;
    F64 down = (F64)((M64{} + 1023 - k_bits) << 52);
    F64 near = total * down;
    M64 is_near = k_bits == 0;
    F64 numerator = select(is_near, rest.high, near - unit.high);
    F64 denominator = near + unit.high;
    F64 s = numerator / denominator;
    F64 correction{};
    if (EXACT) {
        F64 total_low = two_sum(unit.high, rest.high).low + rest.low + unit.low;
        F64 numerator_low = select(is_near, rest.low, total_low * down - unit.low);
        HighLow d = two_sum(near, unit.high);
        F64 denominator_low = d.low + total_low * down + unit.low;
        correction = (remainder_of(numerator, s, denominator) + numerator_low - s * denominator_low) / denominator;
    }
    F64 z = s * s;
    F64 series = F64{} + p[sizeof p / sizeof *p - 1];
    for (int i = (int)(sizeof p / sizeof *p) - 2; i >= 0; --i) series = fma(series, z, F64{} + p[i]);
    F64 small = fma(s * z, series, correction + correction);
    F64 log_f_high = s + s;
    if (!EXACT) return HighLow(fma(k, F64{} + K::ln2_high, fma(k, F64{} + K::ln2_low, log_f_high + small)));
    HighLow sum = two_sum(k * K::ln2_high, log_f_high);
    return {sum.high, sum.low + fma(k, F64{} + K::ln2_low, small)};
}
CELOSS_INLINE F64 log1p_ratio(F64 rest, F64 unit) { return log1p_ratio<false>(HighLow(rest), HighLow(unit)).high; }
CELOSS_INLINE HighLow log1p_ratio(HighLow rest, HighLow unit) { return sum_of(HighLow(), log1p_ratio<true>(rest, unit)); }

// log((e + others) / e) and 1 / (e + others), for float32: as log1p_ratio, but with one division for both quotients, 1 / (a b)
// times a or b, and a P that leaves the logarithm a relative error of 2^-42.
// ulp: log_and_inverse.log float64 1397 at 0x1.79c1881e04e70p+29, 0x1.a98186139eebfp+31
// ulp: log_and_inverse.inverse float64 2.927 at 0x1.281b0c8b12ca1p+32, 0x1.b2b65caf15900p+31
template <class V> struct LogAndInverse {
    V log, inverse;
};
template <class V> CELOSS_INLINE LogAndInverse<V> log_and_inverse(V others, V e) {
    using K = ExpConstants<double>;
    typedef typename Kind<V>::M M;
    typedef typename Unsigned<V>::U U;
    constexpr double p[] = {0x1.55555559217e9p-1, 0x1.99998f2e082c7p-2, 0x1.2496ebab9752ep-2, 0x1.c551a5332d049p-3,
                            0x1.9c339b61f6554p-3};
    const V total = e + others;
    const M k_bits = (M)(((U)total - (U)e) + ((uint64_t)1 << 51)) >> 52;
    const V k = (V)((M)(V{} + K::round) + k_bits) - K::round;
    const V down = (V)((M{} + (int64_t)1023 - k_bits) << 52), near = total * down;
    const V numerator = select(k_bits == M{}, others, near - e), denominator = near + e;
    const V inverse_of_both = (V{} + 1.0) / (denominator * total);
    const V s = numerator * (inverse_of_both * total), z = s * s;
    V series = V{} + p[4];
    for (int i = 3; i >= 0; --i) series = fma(series, z, V{} + p[i]);
    const V log_f = fma(s * z, series, s + s);
    return {fma(k, V{} + (K::ln2_high + K::ln2_low), log_f), inverse_of_both * denominator};
}

// miss^gamma for miss = 1 - p, both in [0, 1] and neither formed from the other. log miss is -log((miss + p) / miss), where
// nothing cancels if p is small; its absolute error is what gamma multiplies. Where miss is next to nothing, the logarithm of
// 2^200 times as much is taken, which log1p_ratio can. Below e^-700, and for miss = 0: 0.
template <class N> CELOSS_INLINE N power_of_miss(N miss, N p, F64 gamma) {
    const M64 tiny = top_of(miss) < 0x1p-900;
    const N log_of_scale = N(F64{} + 0x1.1542457337d43p+7) + N(F64{} + -0x1.e3948c376279dp-49);  // 200 ln 2
    const N log = -log1p_ratio(p, select(tiny, miss * N(F64{} + 0x1p+200), miss));
    const N exponent = N(gamma) * select(tiny, log - log_of_scale, log);
    const M64 is_zero = (top_of(miss) == 0.0) | (top_of(exponent) < -700.0);
    return select(is_zero, N{}, plain_exp_of(exponent));
}

}  // namespace
