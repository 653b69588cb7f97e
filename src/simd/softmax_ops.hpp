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

// first_i = the first class that attains the maximum m_i; -1 where there is a NaN, or m_i is infinite: such a row decides nothing.
template <class T> void first_maximum(const Tile<T>* x, const T* m, int64_t* first) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    if (x->class_stride == 1) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            const T* from = x->at + i * x->row_stride;
            const V top = splat<T>(m[i]);
            const ptrdiff_t whole = x->classes - x->classes % W;
            M nan{};
            int64_t found = -1;
            ptrdiff_t j = 0;
            for (; j < whole; j += W) {
                const V v = load(from + j);
                nan |= v != v;
                if (any_lane(v == top)) break;
            }
            const ptrdiff_t at = j;
            for (; j < whole; j += W) {
                const V v = load(from + j);
                nan |= v != v;
            }
            bool any_nan = any_lane(nan);
            for (; j < x->classes; ++j) any_nan |= from[j] != from[j];
            for (j = at; j < x->classes && found < 0; ++j)
                if (from[j] == m[i]) found = j;
            first[i] = any_nan || !(m[i] - m[i] == 0) ? -1 : found;
        }
        return;
    }
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const V top = load(m + i);
        M found = ~M{}, nan = top - top != V{};
        for (ptrdiff_t j = x->classes - 1; j >= 0; --j) {
            const V v = load(x->at + j * x->class_stride + i);
            nan |= v != v;
            found = (v == top) ? M{} + (Int)j : found;
        }
        found |= nan;
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
