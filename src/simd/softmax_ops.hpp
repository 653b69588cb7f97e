// softmax_ops.hpp: what softmax's relatives need of a tile beyond the operations of cross-entropy: log-probabilities,
// and where the maximum is.
//
// Includes vector.hpp and block_ops.h only. Tiles are of either kind (see block_ops.h).
#pragma once

#include "block_ops.h"
#include "vector.hpp"

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
template <class T> void argmax(const Tile<T>* x, T* m, ptrdiff_t* where, int64_t* first, const int64_t* target) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    if (x->class_stride == 1) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            if (!target || target[i] >= 0) row_argmax(x->at + i * x->row_stride, x->classes, m + i, where + i, first + i);
            else first[i] = -1;
        }
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

}  // namespace
