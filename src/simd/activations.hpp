// activations.hpp: softmax of rows, its logarithm, and the logarithm of the sum of exponentials.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "gradient.hpp"
#include "layout.hpp"
#include "number.hpp"
#include "row_groups.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// Nothing was left out: what the maximum's exponential lacks is missing from the sum. `subtracted` says which maxima are all of
// their sums: their probability is 1, exactly (`softmax`).
template <class T> void inverse_rows(ptrdiff_t n, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    for (ptrdiff_t i = 0; i < n; i += lanes_of<T>()) {
        const V m = load(r->maximum + i);
        const auto top = exp_of_maximum<T>(m, row_scale<V, T>(m));
        T value[lanes_of<T>()], error[lanes_of<T>()], lack[lanes_of<T>()];
        store(value, top.value);
        store(error, top.error);
        store(lack, top.lack);
        for (int k = 0; k < lanes_of<T>(); k += lanes_of<double>()) {
            const F64 stored = load_wide(value + k, lanes_of<double>()), its_error = load_wide(error + k, lanes_of<double>());
            const Number<T> others = load_number<T>(r->others, i + k), all = number<T>(stored, its_error);
            M64 alone = top_of(others) == (sizeof(T) == 4 ? stored + its_error : stored);
            if constexpr (sizeof(T) == 8) alone &= others.low == all.low;
            const Number<T> missing = number<T>(load_wide(lack + k, lanes_of<double>()));
            store_number(r->inverse, i + k, inverse_of(others + missing));
            store(r->subtracted.high + i + k, select(alone, F64{} + 1.0, F64{}));
            store_number(r->coefficient, i + k, number<T>(F64{} + 1.0));
        }
    }
}

// The gradient without a target. Where the maximum is all of the sum, what it rounds to becomes 1: a factor that makes it 1 would
// have its rounding error, and every other probability too.
template <class T> void softmax(const Tile<T>* e, const Tile<T>* g, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    scaled(e, g, (const double*)nullptr, r);
    const double* alone = r->subtracted.high;
    if (!has_rows_as_lanes(g)) {
        for (ptrdiff_t i = 0; i < g->rows; ++i) {
            T* row = g->at + i * g->row_stride;
            if (alone[i] != 0)
                for (ptrdiff_t j = 0; j < g->classes; ++j) row[j] = row[j] > T(0.5) ? T(1) : row[j];
        }
        return;
    }
    for (ptrdiff_t i = 0; i < g->rows; i += lanes_of<T>()) {
        const auto here = load_narrowed<T>(alone + i) == T(1);
        T* at = g->at + i;
        if (any_lane(here))
            for (ptrdiff_t j = 0; j < g->classes; ++j, at += g->class_stride)
                store(at, select(here & (load(at) > T(0.5)), V{} + T(1), load(at)));
    }
}

// y_ij = -((m_i - x_ij) - log p_im): both terms are >= 0, so that nothing cancels, and the maximum's own entry is the second.
template <class T> void log_softmax(const Tile<T>* x, const Tile<T>* y, const Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    if (!has_rows_as_lanes(x)) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            const T* from = x->at + i * x->row_stride;
            T* to = y->at + i * y->row_stride;
            const V top = splat<T>(r->maximum[i]), log_sum = splat<T>((T)r->minus_log.high[i]);
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
        const V log_sum = load_narrowed<T>(r->minus_log.high + i);
        for (ptrdiff_t j = 0; j < x->classes; ++j)
            store(y->at + j * y->class_stride + i, (load(x->at + j * x->class_stride + i) - top) - log_sum);
    }
    double log_of_maximum[CELOSS_ROOM_FOR_ROWS];  // where x is no longer what it was
    for (ptrdiff_t i = 0; i < x->rows; ++i) log_of_maximum[i] = -r->minus_log.high[i];
    put(y, r->argmax, log_of_maximum);
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
        if (r->maximum[i] - r->maximum[i] == 0) r->loss[i] = (double)r->maximum[i] + r->minus_log.high[i];
}

// ---- back through softmax, or (LOG) through its logarithm, from the result x and the upstream gradient q -----------------

template <class T, bool LOG> void vjp_sums(const Tile<T>* x, const Tile<T>* q, Rows<T>* r) {
    each_group<T>(x, nullptr, [&](auto rows) CELOSS_LAMBDA_INLINE {
        const T *from = x->at + rows.row * x->row_stride, *upstream = q->at + rows.row * q->row_stride;
        const ptrdiff_t from_stride = rows.stride(x->class_stride), upstream_stride = rows.stride(q->class_stride);
        typename decltype(rows)::RowSum sum;
        rows.each(x->classes, [&](int k, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
            const Number<T> u = number<T>(load_wide(upstream + j * upstream_stride, count));
            if (LOG) __builtin_prefetch(from + j * from_stride);  // `vjp` reads it next, a row too short for the CPU to foresee
            sum.add(k, LOG ? u : number<T>(load_wide(from + j * from_stride, count)) * u);
        });
        rows.put_sum(sum, r->others);
    });
}

// Logarithms of probabilities are at most 0; beyond what an exponential of float64 can be it is infinite, or 0 (which matters
// where the sum is infinite).
template <class N> CELOSS_INLINE N exp_of_any(F64 x) {
    const N e = exp_of(N(select(x > 600.0, F64{} + 600.0, x)));
    return select(x > 600.0, N(F64{} + __builtin_inf()), select(x < -745.2, N{}, e));
}

// u - e^v sum, in numbers.
template <class N> CELOSS_INLINE F64 back_through_log(F64 v, N u, N scaled_sum) {
    return rounded(sum_of(u, -(exp_of_any<N>(v) * scaled_sum)));
}
CELOSS_INLINE F32 back_through_log(F32 v, F32 u, F64 scaled_sum) {
    return narrow(back_through_log(widen_low(v), widen_low(u), scaled_sum),
                  back_through_log(widen_high(v), widen_high(u), scaled_sum));
}

// A row in T's own arithmetic, but for lanes where the exponential is beyond it: true. Not done where the sum or a product with
// it might leave the range, and without the instruction that rounds once: false.
template <class T>
CELOSS_INLINE bool log_vjp_of_row(const T* x, const T* q, T* g, ptrdiff_t classes, Number<T> scaled_sum, double sum, double low) {
#if defined(__FMA__) || defined(__aarch64__)
    typedef typename VectorOf<T>::V V;
    constexpr double unit = (double)(1ull << (ExpConstants<T>::headroom / 2)) * (double)(1ull << (ExpConstants<T>::headroom / 2));
    constexpr double largest = sizeof(T) == 4 ? 1e25 : 1e200;
    constexpr T lowest = sizeof(T) == 4 ? -109 : -715;
    if (!(absolute(sum) > 1 / largest && absolute(sum) < largest)) return false;
    const RowScale<V> scale = row_scale<V, T>(V{});
    const Parts<V> s =
        sizeof(T) == 4 ? in_parts<T>(-sum / unit) : Parts<V>{splat<T>((T)(-sum / unit)), splat<T>((T)(-low / unit))};
    each_vector<T>(classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
        const V v = load_count(x + j, count), u = load_count(q + j, count);
        const auto beyond = (v > 0) | ((v < lowest) & (v > -(T)__builtin_inf()));
        const V e = exp_parts<T, false>(v, scale).value;
        V back = fma(e, s.high, fma(e, s.low, u));
        if (__builtin_expect(any_lane(beyond), 0)) {
            if constexpr (sizeof(T) == 4) back = select(beyond, back_through_log(v, u, scaled_sum), back);
            else back = select(beyond, back_through_log(v, number<T>(u), scaled_sum), back);
        }
        store_count(g + j, count, back);
    });
    return true;
#else
    return false;
#endif
}

template <class T, bool LOG> void vjp(const Tile<T>* x, const Tile<T>* q, const Tile<T>* g, const Rows<T>* r) {
    typedef Number<T> N;
    each_group<T>(x, nullptr, [&](auto rows) CELOSS_LAMBDA_INLINE {
        const T *from = x->at + rows.row * x->row_stride, *upstream = q->at + rows.row * q->row_stride;
        T* to = g->at + rows.row * g->row_stride;
        const ptrdiff_t from_stride = rows.stride(x->class_stride), upstream_stride = rows.stride(q->class_stride),
                        to_stride = rows.stride(g->class_stride);
        const N sum = rows.own(r->others), scaled = sum * number<T>(F64{} + 1 / unit_of_exp<T>());
        if constexpr (LOG)
            if (!has_rows_as_lanes(x) &&
                log_vjp_of_row<T>(from, upstream, to, x->classes, scaled, r->others.high[rows.row], r->others.low[rows.row]))
                return;
        rows.each(x->classes, [&](int, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
            const F64 v = load_wide(from + j * from_stride, count);
            const N u = number<T>(load_wide(upstream + j * upstream_stride, count));
            // (sum_of, not -: an upstream gradient may be infinite.)
            const F64 back = LOG ? back_through_log(v, u, scaled) : rounded(number<T>(v) * sum_of(u, -sum));
            store_wide(to + j * to_stride, count, back);
        });
    });
}

}  // namespace
