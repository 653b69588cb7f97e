// softmax_ops.hpp: what softmax's relatives need of a tile beyond the operations of cross-entropy: log-probabilities,
// where the maximum is, and the sums and gradients of the Brier score.
//
// Includes exp_log.hpp, vector.hpp and block_ops.h only. Tiles are of either kind (see block_ops.h).
#pragma once

#include "block_ops.h"
#include "exp_log.hpp"

namespace {

// y_ij = -((m_i - x_ij) + log_sum_i): both terms are >= 0, so that nothing cancels and the maximum's own entry is
// -log_sum.
template <class T> void log_probability(const Tile<T>* x, const Tile<T>* y, const T* m, const RowSums* sums) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    if (x->class_stride == 1) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            const T* from = x->at + i * x->row_stride;
            T* to = y->at + i * y->row_stride;
            const V top = splat<T>(m[i]), log_sum = splat<T>((T)sums->log_sum[i]);
            ptrdiff_t j = 0;
            for (; j + W <= x->classes; j += W) store(to + j, (load(from + j) - top) - log_sum);
            if (j < x->classes) {
                const int count = (int)(x->classes - j);
                store_first(to + j, count, (load_first(from + j, count, T(0)) - top) - log_sum);
            }
        }
        return;
    }
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const V top = load(m + i);
        V log_sum;
        const double* wide = sums->log_sum + i;
        if constexpr (sizeof(T) == 4) log_sum = narrow(load(wide), load(wide + lanes_of<double>()));
        else log_sum = load(wide);
        for (ptrdiff_t j = 0; j < x->classes; ++j)
            store(y->at + j * y->class_stride + i, (load(x->at + j * x->class_stride + i) - top) - log_sum);
    }
}

// Whether a row has a NaN.
template <class T> bool has_nan(const T* x, ptrdiff_t classes) {
    for (ptrdiff_t j = 0; j < classes; ++j)
        if (x[j] != x[j]) return true;
    return false;
}

// Of one row: m, the first class that attains it (-1 where the row decides nothing), and `where` as row_maximum has it.
//
// One pass: vectors in groups, and of each lane the group in which its maximum came first. Sums of 0 * x tell whether
// to look for a NaN: they are NaN where x is NaN or infinite.
template <class T> void row_argmax(const T* x, ptrdiff_t classes, T* m, ptrdiff_t* where, int64_t* first) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>(), VECTORS = 8;
    const V lowest = splat<T>((T)-__builtin_inff());
    V best = lowest, zero[2] = {};
    M group_of_best{};
    ptrdiff_t j = 0;
    for (Int group = 0; j + VECTORS * W <= classes; j += VECTORS * W, ++group) {
        V v[VECTORS];
        // A page ahead, where the hardware's own prefetching ends (10 to 20 % on rows from memory).
        UNROLL_8 for (int k = 0; k < VECTORS; ++k) __builtin_prefetch((const char*)(x + j + k * W) + 4096);
        UNROLL_8 for (int k = 0; k < VECTORS; ++k) v[k] = load(x + j + k * W);
        UNROLL_8 for (int k = 0; k < VECTORS; ++k) zero[k & 1] = fma(v[k], V{}, zero[k & 1]);
        const V top = max_or_nan(max_or_nan(max_or_nan(v[0], v[1]), max_or_nan(v[2], v[3])),
                                 max_or_nan(max_or_nan(v[4], v[5]), max_or_nan(v[6], v[7])));
        group_of_best = (top > best) ? M{} + group : group_of_best;
        best = max_or_nan(best, top);
    }
    const ptrdiff_t tail = j;
    V tail_best = lowest;
    for (; j + W <= classes; j += W) {
        const V v = load(x + j);
        zero[0] = fma(v, V{}, zero[0]);
        tail_best = max_or_nan(tail_best, v);
    }
    if (j < classes) {
        const int count = (int)(classes - j);
        zero[0] = fma(load_first(x + j, count, T(0)), V{}, zero[0]);
        tail_best = max_or_nan(tail_best, load_first(x + j, count, (T)-__builtin_inff()));
    }
    const T in_groups = max_lanes<T>(best), in_tail = max_lanes<T>(tail_best);
    const V zeros = zero[0] + zero[1];
    *m = in_tail > in_groups || !tail ? in_tail : in_groups;
    *where = tail;
    if (tail && !(in_tail > in_groups)) {
        const M candidate = (best == in_groups) ? group_of_best : M{} + (Int)(tail / (VECTORS * W));
        *where = lowest_lane<T>(candidate) * VECTORS * W;
    }
    *first = -1;
    if (!(*m - *m == 0) || (any_lane(zeros != zeros) && has_nan(x, classes))) return;
    j = *where;
    for (; j + W <= classes; j += W)
        if (any_lane(load(x + j) == splat<T>(*m))) break;
    while (j < classes && !(x[j] == *m)) ++j;
    *first = j < classes ? (int64_t)j : -1;
}

// m_i, where_i and first_i of every row.
template <class T> void argmax(const Tile<T>* x, T* m, ptrdiff_t* where, int64_t* first) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    if (x->class_stride == 1) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) row_argmax(x->at + i * x->row_stride, x->classes, m + i, where + i, first + i);
        return;
    }
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        V best = load(x->at + i), zero = best * V{};
        M found{};
        for (ptrdiff_t j = 1; j < x->classes; ++j) {
            const V v = load(x->at + j * x->class_stride + i);
            zero = fma(v, V{}, zero);
            found = (v > best) ? M{} + (Int)j : found;
            best = max_or_nan(best, v);
        }
        M bad = best - best != V{};
        if (any_lane(zero != zero))  // infinite, or a NaN that a later maximum may hide
            for (ptrdiff_t j = 0; j < x->classes; ++j) {
                const V v = load(x->at + j * x->class_stride + i);
                bad |= v != v;
            }
        found |= bad;
        store(m + i, best);
        for (int k = 0; k < W; ++k) first[i + k] = found[k];
    }
}

// mass_i = sum of q_ij over all classes but excluded_i.
template <class T> void mass_without(const Tile<T>* q, const int64_t* excluded, double* mass) {
    for (ptrdiff_t i = 0; i < q->rows; ++i) {
        const T* from = q->at + i * q->row_stride;
        double sum[4] = {0, 0, 0, 0};
        for (ptrdiff_t j = 0; j < q->classes; ++j)
            if (j != excluded[i]) sum[j % 4] += (double)from[j * q->class_stride];
        mass[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
}

// ---- Brier score: arithmetic in float64 for every storage -----------------------------------------------------------
//
// Its terms are squares of probabilities and products of three, which multiply the exponentials' relative errors:
// float32 exponentials would leave results 2 and 3 ulp off. For T = float the exponentials are float64 numbers correct
// to 2^-39, and sums of them are plain; for T = double they are those of cross-entropy, computed anew for each pass with
// their rounding errors, and sums keep theirs.

typedef float HalfOfFloats __attribute__((vector_size(CELOSS_VECTOR_BYTES / 2)));

// As many numbers as a float64 vector has lanes, or the first `count` of them, as float64; and back.
CELOSS_INLINE F64 load_wide(const double* from, int count) {
    return count >= lanes_of<double>() ? load(from) : load_first(from, count, 0.0);
}
CELOSS_INLINE F64 load_wide(const float* from, int count) {
    HalfOfFloats half{};
    if (count >= lanes_of<double>()) __builtin_memcpy(&half, from, sizeof half);
    else
        for (int i = 0; i < count; ++i) half[i] = from[i];
    return __builtin_convertvector(half, F64);
}
CELOSS_INLINE void store_wide(double* to, int count, F64 v) {
    if (count >= lanes_of<double>()) store(to, v);
    else store_first(to, count, v);
}
CELOSS_INLINE void store_wide(float* to, int count, F64 v) {
    const HalfOfFloats half = __builtin_convertvector(v, HalfOfFloats);
    if (count >= lanes_of<double>()) __builtin_memcpy(to, &half, sizeof half);
    else
        for (int i = 0; i < count; ++i) to[i] = half[i];
}

template <class T> struct BrierSum;
template <> struct BrierSum<float> {
    F64 sum{};
    CELOSS_INLINE void add(F64 v) { sum += v; }
    CELOSS_INLINE F64 lanes() const { return sum; }
};
template <> struct BrierSum<double> {
    F64 sum{}, lost{};
    CELOSS_INLINE void add(F64 v) {
        HighLow both = two_sum(sum, v);
        sum = both.high;
        lost += both.low;
    }
    CELOSS_INLINE F64 lanes() const { return sum + lost; }
};

CELOSS_INLINE M64 lane_numbers_f64() {
    M64 numbers;
    for (int i = 0; i < lanes_of<double>(); ++i) numbers[i] = i;
    return numbers;
}

// f(class, lanes in use) for the vectors of a row.
template <class F> CELOSS_INLINE void each_wide_vector(ptrdiff_t n, F f) {
    constexpr int W = lanes_of<double>();
    ptrdiff_t j = 0;
    for (; j + W <= n; j += W) f(j, W);
    if (j < n) f(j, (int)(n - j));
}

// e_ij = exp(x_ij - m_i), and rest_i, the sum of all but that of class first_i.
void brier_exp_f32(const Tile<float>* x, const Tile<double>* e, const float* m, const int64_t* first, double* rest) {
    constexpr int W = lanes_of<double>();
    if (x->class_stride == 1) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            const float* from = x->at + i * x->row_stride;
            double* to = e->at + i * e->row_stride;
            const F64 top = F64{} + (double)m[i];
            F64 sum{};
            each_wide_vector(x->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                F64 v = exp_of_distance(load_wide(from + j, count) - top);
                store_wide(to + j, count, v);
                if (count < W) v = select(lane_numbers_f64() < count, v, F64{});
                if (first[i] - j < W && first[i] >= j) v = select(lane_numbers_f64() + j == first[i], F64{}, v);
                sum += v;
            });
            rest[i] = sum_lanes<double>(sum);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const F64 top = load_wide(m + i, W);
        M64 skip;
        __builtin_memcpy(&skip, first + i, sizeof skip);
        F64 sum{};
        for (ptrdiff_t j = 0; j < x->classes; ++j) {
            const F64 v = exp_of_distance(load_wide(x->at + j * x->class_stride + i, W) - top);
            store(e->at + j * e->class_stride + i, v);
            sum += select(skip == j, F64{}, v);
        }
        store(rest + i, sum);
    }
}

// The probabilities of one vector of classes, in `high` + `low`: of rows whose exponentials are in tile e (T = float), or
// whose logits are in tile x (T = double).
template <class T> struct Probability;
template <> struct Probability<float> {
    F64 inverse;
    CELOSS_INLINE Probability(F64, F64 inv, F64) : inverse(inv) {}
    CELOSS_INLINE HighLow of(const double* e, const float*, int count) const { return {load_wide(e, count) * inverse, F64{}}; }
};
template <> struct Probability<double> {
    RowScale<F64> row;
    F64 inverse, inverse_low;
    CELOSS_INLINE Probability(F64 m, F64 inv, F64 inv_low) : row(row_scale<F64, double>(m)), inverse(inv), inverse_low(inv_low) {}
    CELOSS_INLINE HighLow of(const double*, const double* x, int count) const {
        const ExpParts<F64> e = exp_parts<F64, double>(load_wide(x, count), row);
        const F64 p = e.value * inverse;
        const F64 low = remainder_of(-p, -e.value, inverse) + fma(e.error, inverse, e.value * inverse_low), sum = p + low;
        return {sum, low - (sum - p)};
    }
};

template <class T> CELOSS_INLINE void add_brier_terms(HighLow p, HighLow d, BrierSum<T>& squares, BrierSum<T>& moment) {
    if constexpr (sizeof(T) == 4) {
        squares.add(d.high * d.high);
        moment.add(p.high * d.high);
    } else {
        squares.add(fma(d.high, d.high, 2.0 * d.high * d.low));
        moment.add(fma(p.high, d.high, fma(p.high, d.low, p.low * d.high)));
    }
}

// With p_ij the probabilities, first_i where the maximum is, and d_ij = p_ij - q'_ij, q' = keep q + add (no q: q' = 0),
// over all classes but first_i:  squares_i = sum d_ij^2;  moment_i = sum p_ij d_ij. T = double: p_ij is put into tile e.
template <class T>
void brier_sums(const Tile<T>* x, const T* m, const Tile<double>* e, const Blend<T>* blend, const int64_t* first,
                const RowSums* sums, double* squares, double* moment) {
    constexpr int W = lanes_of<double>();
    const F64 keep = F64{} + blend->keep, add = F64{} + blend->add;
    // p - q', with p's rounding error
    auto difference = [&](HighLow p, const T* q, int count) CELOSS_LAMBDA_INLINE -> HighLow {
        if (!q) return p;
        return {p.high - fma(load_wide(q, count), keep, add), p.low};
    };
    if (e->class_stride == 1) {
        for (ptrdiff_t i = 0; i < e->rows; ++i) {
            double* at = e->at + i * e->row_stride;
            const T* logits = x->at + i * x->row_stride;
            const T* q = blend->q ? blend->q + i * blend->q_row_stride : nullptr;
            const Probability<T> probability(F64{} + (double)m[i], F64{} + sums->inverse[i], F64{} + sums->inverse_low[i]);
            BrierSum<T> square_sum, moment_sum;
            each_wide_vector(e->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                const HighLow p = probability.of(at + j, logits + j, count);
                HighLow d = difference(p, q ? q + j : nullptr, count);
                M64 used = ~M64{};
                if (count < W) used = lane_numbers_f64() < count;
                if (first[i] - j < W && first[i] >= j) used &= lane_numbers_f64() + j != first[i];
                d = {select(used, d.high, F64{}), select(used, d.low, F64{})};
                if (sizeof(T) == 8) store_wide(at + j, count, p.high);
                add_brier_terms<T>(p, d, square_sum, moment_sum);
            });
            squares[i] = sum_lanes<double>(square_sum.lanes());
            moment[i] = sum_lanes<double>(moment_sum.lanes());
        }
        return;
    }
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const int count = (int)(e->rows - i < W ? e->rows - i : W);
        const Probability<T> probability(load_wide(m + i, W), load(sums->inverse + i), load(sums->inverse_low + i));
        M64 skip;
        __builtin_memcpy(&skip, first + i, sizeof skip);
        BrierSum<T> square_sum, moment_sum;
        for (ptrdiff_t j = 0; j < e->classes; ++j) {
            double* at = e->at + j * e->class_stride + i;
            const HighLow p = probability.of(at, x->at + j * x->class_stride + i, W);
            HighLow d = difference(p, blend->q ? blend->q + j * blend->q_class_stride + i : nullptr, count);
            d = {select(skip == j, F64{}, d.high), select(skip == j, F64{}, d.low)};
            if (sizeof(T) == 8) store(at, p.high);
            add_brier_terms<T>(p, d, square_sum, moment_sum);
        }
        store(squares + i, square_sum.lanes());
        store(moment + i, moment_sum.lanes());
    }
}

// g_ij = a_i p_ij (d_ij - mean_i), with d as in brier_sums. g may be x or e.
template <class T>
void brier_gradient(const Tile<T>* x, const T* m, const Tile<double>* e, const Tile<T>* g, const Blend<T>* blend,
                    const RowSums* sums, const double* a, const double* mean) {
    constexpr int W = lanes_of<double>();
    const F64 keep = F64{} + blend->keep, add = F64{} + blend->add;
    auto gradient = [&](HighLow p, const T* q, int count, F64 factor, F64 center) CELOSS_LAMBDA_INLINE {
        F64 d = p.high;
        if (q) d -= fma(load_wide(q, count), keep, add);
        d -= center;
        if (sizeof(T) == 8) d += p.low;
        return factor * p.high * d;
    };
    if (e->class_stride == 1) {
        for (ptrdiff_t i = 0; i < e->rows; ++i) {
            const double* at = e->at + i * e->row_stride;
            const T* logits = x->at + i * x->row_stride;
            const T* q = blend->q ? blend->q + i * blend->q_row_stride : nullptr;
            T* to = g->at + i * g->row_stride;
            const Probability<T> probability(F64{} + (double)m[i], F64{} + sums->inverse[i], F64{} + sums->inverse_low[i]);
            const F64 factor = F64{} + a[i], center = F64{} + mean[i];
            each_wide_vector(e->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                const HighLow p = probability.of(at + j, logits + j, count);
                store_wide(to + j, count, gradient(p, q ? q + j : nullptr, count, factor, center));
            });
        }
        return;
    }
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const int count = (int)(e->rows - i < W ? e->rows - i : W);
        const Probability<T> probability(load_wide(m + i, W), load(sums->inverse + i), load(sums->inverse_low + i));
        const F64 factor = load(a + i), center = load(mean + i);
        for (ptrdiff_t j = 0; j < e->classes; ++j) {
            const HighLow p = probability.of(e->at + j * e->class_stride + i, x->at + j * x->class_stride + i, W);
            store_wide(g->at + j * g->class_stride + i, W,
                       gradient(p, blend->q ? blend->q + j * blend->q_class_stride + i : nullptr, count, factor, center));
        }
    }
}

}  // namespace
