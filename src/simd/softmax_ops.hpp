// softmax_ops.hpp: what softmax's relatives need of a tile beyond the operations of cross-entropy: log-probabilities, where
// the maximum is, and the sums and gradients of the Brier score.
//
// Includes exp_log.hpp, vector.hpp and block_ops.h only. Tiles are of either kind (see block_ops.h).
#pragma once

#include "block_ops.h"
#include "exp_log.hpp"

namespace {

// y_ij = -((m_i - x_ij) + log_sum_i): both terms are >= 0, so that nothing cancels and the maximum's own entry is -log_sum.
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
        if constexpr (sizeof(T) == 4) log_sum = narrow(load(sums->log_sum + i), load(sums->log_sum + i + lanes_of<double>()));
        else log_sum = load(sums->log_sum + i);
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
// One pass: vectors in groups, and of each lane the group in which its maximum came first. Sums of 0 * x tell whether to
// look for a NaN: they are NaN where x is NaN or infinite.
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
        _Pragma("GCC unroll 8") for (int k = 0; k < VECTORS; ++k) v[k] = load(x + j + k * W);
        _Pragma("GCC unroll 8") for (int k = 0; k < VECTORS; ++k) zero[k & 1] = fma(v[k], V{}, zero[k & 1]);
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
        Int lane[W], lowest_group;
        const M candidate = (best == in_groups) ? group_of_best : M{} + (Int)(tail / (VECTORS * W));
        __builtin_memcpy(lane, &candidate, sizeof lane);
        lowest_group = lane[0];
        for (int k = 1; k < W; ++k) lowest_group = lane[k] < lowest_group ? lane[k] : lowest_group;
        *where = (ptrdiff_t)lowest_group * VECTORS * W;
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
        for (ptrdiff_t i = 0; i < x->rows; ++i)
            row_argmax(x->at + i * x->row_stride, x->classes, m + i, where + i, first + i);
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
        for (ptrdiff_t j = 0; j < q->classes; ++j) sum[j % 4] += j == excluded[i] ? 0.0 : (double)from[j * q->class_stride];
        mass[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
}

// ---- Brier score, in float64 for every storage ---------------------------------------------------------------------------

CELOSS_INLINE M64 lane_numbers_f64() {
    M64 numbers;
    for (int i = 0; i < lanes_of<double>(); ++i) numbers[i] = i;
    return numbers;
}

// A sum and its rounding errors: small terms beside a large one are not lost.
struct CarefulSum {
    F64 sum{}, lost{};
    CELOSS_INLINE void add(F64 v) {
        HighLow both = two_sum(sum, v);
        sum = both.high;
        lost += both.low;
    }
    CELOSS_INLINE F64 lanes() const { return sum + lost; }
};

CELOSS_INLINE F64 load_part(const double* from, int count) {
    return count == lanes_of<double>() ? load(from) : load_first(from, count, 0.0);
}

// With e_it the exponentials, first_i where the maximum is, and d_ij = p_ij - q'_ij, q' = keep q + add (no q: q' = 0), over all
// classes but first_i:  squares_i = sum d_ij^2;  moment_i = sum p_ij d_ij.
void brier_sums(const Tile<double>* e, const Blend<double>* blend, const int64_t* first, const double* inverse, double* squares,
                double* moment) {
    constexpr int W = lanes_of<double>();
    const F64 keep = F64{} + blend->keep, add = F64{} + blend->add;
    if (e->class_stride == 1) {
        for (ptrdiff_t i = 0; i < e->rows; ++i) {
            const double* from = e->at + i * e->row_stride;
            const double* q = blend->q ? blend->q + i * blend->q_row_stride : nullptr;
            const F64 inv = F64{} + inverse[i];
            CarefulSum square_sum, moment_sum;
            for (ptrdiff_t j = 0; j < e->classes; j += W) {
                const int count = (int)(e->classes - j < W ? e->classes - j : W);
                const M64 at = lane_numbers_f64() + j;
                const M64 out = (at == first[i]) | (at >= e->classes);
                const F64 p = load_part(from + j, count) * inv;
                const F64 d = select(out, F64{}, q ? p - fma(load_part(q + j, count), keep, add) : p);
                square_sum.add(d * d);
                moment_sum.add(p * d);
            }
            squares[i] = sum_lanes<double>(square_sum.lanes());
            moment[i] = sum_lanes<double>(moment_sum.lanes());
        }
        return;
    }
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const int count = (int)(e->rows - i < W ? e->rows - i : W);
        const F64 inv = load(inverse + i);
        M64 skip;
        __builtin_memcpy(&skip, first + i, sizeof skip);
        CarefulSum square_sum, moment_sum;
        for (ptrdiff_t j = 0; j < e->classes; ++j) {
            const F64 p = load(e->at + j * e->class_stride + i) * inv;
            F64 d = p;
            if (blend->q) d = p - fma(load_part(blend->q + j * blend->q_class_stride + i, count), keep, add);
            d = select(skip == j, F64{}, d);
            square_sum.add(d * d);
            moment_sum.add(p * d);
        }
        store(squares + i, square_sum.lanes());
        store(moment + i, moment_sum.lanes());
    }
}

// g_ij = a_i p_ij (d_ij - mean_i), with d as in brier_sums. g may be e.
void brier_gradient(const Tile<double>* e, const Tile<double>* g, const Blend<double>* blend, const double* inverse,
                    const double* a, const double* mean) {
    constexpr int W = lanes_of<double>();
    const F64 keep = F64{} + blend->keep, add = F64{} + blend->add;
    if (e->class_stride == 1) {
        for (ptrdiff_t i = 0; i < e->rows; ++i) {
            const double* from = e->at + i * e->row_stride;
            const double* q = blend->q ? blend->q + i * blend->q_row_stride : nullptr;
            double* to = g->at + i * g->row_stride;
            const F64 inv = F64{} + inverse[i], factor = F64{} + a[i], center = F64{} + mean[i];
            for (ptrdiff_t j = 0; j < e->classes; j += W) {
                const int count = (int)(e->classes - j < W ? e->classes - j : W);
                const F64 p = load_part(from + j, count) * inv;
                const F64 d = q ? p - fma(load_part(q + j, count), keep, add) : p;
                const F64 v = factor * p * (d - center);
                if (count == W) store(to + j, v);
                else store_first(to + j, count, v);
            }
        }
        return;
    }
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const int count = (int)(e->rows - i < W ? e->rows - i : W);
        const F64 inv = load(inverse + i), factor = load(a + i), center = load(mean + i);
        for (ptrdiff_t j = 0; j < e->classes; ++j) {
            const F64 p = load(e->at + j * e->class_stride + i) * inv;
            F64 d = p;
            if (blend->q) d = p - fma(load_part(blend->q + j * blend->q_class_stride + i, count), keep, add);
            store(g->at + j * g->class_stride + i, factor * p * (d - center));
        }
    }
}

}  // namespace
