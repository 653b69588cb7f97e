// activations.hpp: softmax of rows, its logarithm, and the logarithm of the sum of exponentials.
#pragma once

#include "contract.h"
#include "gradient.hpp"
#include "layout.hpp"
#include "vector.hpp"

namespace {

// The gradient without a target, with a factor of 1.
template <class T> void softmax(const Tile<T>* e, const Tile<T>* g, Rows<T>* r) {
    for (ptrdiff_t i = 0; i < whole_groups(e->rows); ++i) {
        r->coefficient.high[i] = 1;
        r->coefficient.low[i] = 0;
    }
    scaled(e, g, (const double*)nullptr, r);
}

// y_ij = -((m_i - x_ij) + log_sum_i): both terms are >= 0, so that nothing cancels and the maximum's own entry is
// -log_sum.
template <class T> void log_softmax(const Tile<T>* x, const Tile<T>* y, const Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    if (!has_rows_as_lanes(x)) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            const T* from = x->at + i * x->row_stride;
            T* to = y->at + i * y->row_stride;
            const V top = splat<T>(r->maximum[i]), log_sum = splat<T>((T)r->log_sum.high[i]);
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
        const V top = load(r->maximum + i);
        const V log_sum = load_narrowed<T>(r->log_sum.high + i);
        for (ptrdiff_t j = 0; j < x->classes; ++j)
            store(y->at + j * y->class_stride + i, (load(x->at + j * x->class_stride + i) - top) - log_sum);
    }
}

// The row's maximum where it is not finite, or NaN where there is one.
template <class T> void infinite_sums(const Tile<T>* x, Rows<T>* r) {
    for (ptrdiff_t i = 0; i < x->rows; ++i) {
        if (r->maximum[i] - r->maximum[i] == 0) continue;
        double sum = -__builtin_inf();
        for (ptrdiff_t j = 0; j < x->classes; ++j) {
            const T v = x->at[i * x->row_stride + j * x->class_stride];
            if (v > sum || v != v) sum = v;
            if (v != v) break;
        }
        r->loss[i] = sum;
    }
}

template <class T> void logsumexp(ptrdiff_t n, Rows<T>* r) {
    for (ptrdiff_t i = 0; i < n; ++i)
        if (r->maximum[i] - r->maximum[i] == 0) r->loss[i] = (double)r->maximum[i] + r->log_sum.high[i];
}

}  // namespace
