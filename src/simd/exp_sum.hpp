// exp_sum.hpp: the exponentials of rows, and their sum without one maximum.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "layout.hpp"
#include "maximum.hpp"
#include "number.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// Into the cache, to be written soon.
CELOSS_INLINE void prefetch(const void* at) { __builtin_prefetch(at, 1, 3); }

// The running sum of exponentials: their values in float64 (for float64 with the rounding errors of the sum), and apart
// from them their own rounding errors, which a row dominated by one of them would otherwise show.
template <class T> struct ExpSum;
template <> struct ExpSum<float> {
    F64 low{}, high{};
    F32 lost{};
    // In two steps: the errors now, the values from where they are stored (see keep_in_memory).
    CELOSS_INLINE void add_error(ExpParts<F32> exp) { lost += exp.error; }
    CELOSS_INLINE void add_stored(const float* at) {
        low += widen_low_at(at);
        high += widen_high_at(at);
    }
    CELOSS_INLINE void add(ExpParts<F32> exp) {
        low += widen_low(exp.value);
        high += widen_high(exp.value);
        lost += exp.error;
    }
    CELOSS_INLINE void finish() {
        low += widen_low(lost);
        high += widen_high(lost);
    }
    // More maxima of the rows from `row` on, one a lane.
    CELOSS_INLINE void add_units(F32 count, const PerRow& unit, ptrdiff_t row) {
        low += select(widen_low(count) > 0.0, widen_low(count) * load(unit.high + row), F64{});
        high += select(widen_high(count) > 0.0, widen_high(count) * load(unit.high + row + lanes_of<double>()), F64{});
    }
    CELOSS_INLINE void put(PerRow& rest, ptrdiff_t row) const {
        store(rest.high + row, low);
        store(rest.high + row + lanes_of<double>(), high);
    }
    CELOSS_INLINE double total(double*) const { return sum_lanes<double>(low + high); }
};
template <> struct ExpSum<double> {
    F64 sum{}, lost{};
    CELOSS_INLINE void add(ExpParts<F64> exp) {
        HighLow both = two_sum(sum, exp.value);
        sum = both.high;
        lost += both.low + exp.error;
    }
    CELOSS_INLINE void add_error(ExpParts<F64> exp) { add(exp); }
    CELOSS_INLINE void add_stored(const double*) {}
    CELOSS_INLINE void finish() {
        HighLow both = two_sum(sum, lost);
        sum = both.high;
        lost = both.low;
    }
    CELOSS_INLINE void add_units(F64 count, const PerRow& unit, ptrdiff_t row) {
        HighLow both = two_sum(sum, select(count > 0.0, count * load(unit.high + row), F64{}));
        sum = both.high;
        lost += both.low + select(count > 0.0, count * load(unit.low + row), F64{});
    }
    CELOSS_INLINE void put(PerRow& rest, ptrdiff_t row) const { store_number(rest, row, HighLow(sum, lost)); }
    CELOSS_INLINE double total(double* low) const { return add_lanes(HighLow(sum, lost), low); }
};

// unit of the rows from i on, one a lane; also as numbers of the arithmetic type.
template <class T>
CELOSS_INLINE typename VectorOf<T>::V store_units(typename VectorOf<T>::V a, typename VectorOf<T>::V steps, PerRow& to,
                                                  ptrdiff_t i) {
    if constexpr (sizeof(T) == 4) {
        const F64 low = exp_of_maximum<T>(widen_low(a), widen_low(steps)).high;
        const F64 high = exp_of_maximum<T>(widen_high(a), widen_high(steps)).high;
        store(to.high + i, low);
        store(to.high + i + lanes_of<double>(), high);
        return narrow(low, high);
    } else {
        const HighLow unit = exp_of_maximum<T>(a, steps);
        store_number(to, i, unit);
        return unit.high;
    }
}

// ---- classes as lanes: one row ---------------------------------------------------------------------------------------

// Of one row, the exponentials of one vector or its first `count` classes: stored, and put into `room` to be added to the sum.
// LEAVE_OUT: those that attain the maximum are stored as `unit`, are 0 in the sum and counted.
template <class T, bool SHIFTED, bool LEAVE_OUT>
CELOSS_INLINE void exp_of_vector(const T* x, T* e, int count, const RowScale<typename VectorOf<T>::V>& row, T m, T unit,
                                 typename VectorOf<T>::M& maxima, T* room, ExpSum<T>& sum) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    const bool full = count == lanes_of<T>();
    const V v = full ? load(x) : load_first(x, count, (T)-__builtin_inff());
    M attains{};
    if (LEAVE_OUT) {
        attains = v == splat<T>(m);
        maxima = one_more(maxima, attains);
    }
    const ExpParts<V> exp = exp_parts<V, T, SHIFTED>(v, row, attains);
    const V stored = select(attains, splat<T>(unit), exp.value);
    sum.add_error(exp);
    store(room, exp.value);
    if (full) store(e, stored);
    else store_first(e, count, stored);
}

// The same of up to a group of vectors. Returns how many maxima were left out.
template <class T, bool SHIFTED, bool LEAVE_OUT>
CELOSS_INLINE ptrdiff_t exp_of_group(const T* x, T* e, ptrdiff_t classes, const RowScale<typename VectorOf<T>::V>& row, T m,
                                     T unit, ExpSum<T>& sum) {
    constexpr int W = lanes_of<T>();
    alignas(64) T room[GROUP * W];
    typename VectorOf<T>::M maxima{};
    const ptrdiff_t n = classes < GROUP * W ? classes : GROUP * W;
    ptrdiff_t j = 0;
    for (; j + W <= n; j += W) exp_of_vector<T, SHIFTED, LEAVE_OUT>(x + j, e + j, W, row, m, unit, maxima, room + j, sum);
    if (j < n) exp_of_vector<T, SHIFTED, LEAVE_OUT>(x + j, e + j, (int)(n - j), row, m, unit, maxima, room + j, sum);
    keep_in_memory();
    for (j = 0; j < n; j += W) sum.add_stored(room + j);
    return LEAVE_OUT ? count_lanes<T>(maxima) : 0;
}

// Returns the sum; `maxima`: how often the maximum was left out. Not STORE: e is room for a group of vectors.
template <class T, bool STORE, bool SHIFTED>
double row_exp_sum(const T* x, T* e, ptrdiff_t classes, T m, T unit, ptrdiff_t maximum_group,
                   const RowScale<typename VectorOf<T>::V>& row, ptrdiff_t* maxima, double* low, const T* next_x,
                   const T* next_g) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    ExpSum<T> sum;
    *maxima = 0;
    for (ptrdiff_t j = 0; j < classes; j += GROUP * W) {
        T* to = STORE ? e + j : e;
        if (next_x)
            for (int k = 0; k < GROUP; ++k) prefetch(next_x + j + k * W);
        if (next_g)
            for (int k = 0; k < GROUP; ++k) prefetch(next_g + j + k * W);
        if (j == maximum_group) {
            *maxima = exp_of_group<T, SHIFTED, true>(x + j, to, classes - j, row, m, unit, sum);
        } else if (j + GROUP * W <= classes) {
            UNROLL_8 for (int k = 0; k < GROUP; ++k) {
                const ExpParts<V> exp = exp_parts<V, T, SHIFTED>(load(x + j + k * W), row);
                store(to + k * W, exp.value);
                sum.add_error(exp);
            }
            keep_in_memory();
            UNROLL_8 for (int k = 0; k < GROUP; ++k) sum.add_stored(to + k * W);
        } else {
            exp_of_group<T, SHIFTED, false>(x + j, to, classes - j, row, m, unit, sum);
        }
    }
    sum.finish();
    return sum.total(low);
}

// How each of a block's rows is exponentiated.
template <class T> struct BlockScale {
    typedef typename VectorOf<T>::V V;
    T shift[CELOSS_BLOCK_ROWS], lowest[CELOSS_BLOCK_ROWS], round[CELOSS_BLOCK_ROWS], unit[CELOSS_BLOCK_ROWS];

    BlockScale(ptrdiff_t n, Rows<T>* r) {
        constexpr int W = lanes_of<T>();
        for (ptrdiff_t i = 0; i < n; i += W) {
            const V top = load_first(r->maximum + i, (int)(n - i < W ? n - i : W), T(0));
            const RowScale<V> rows = row_scale<V, T>(top);
            store(shift + i, rows.shift);
            store(lowest + i, rows.lowest);
            store(round + i, rows.round);
            store(unit + i, store_units<T>(top - rows.shift, rows.steps, r->unit, i));
        }
    }
    CELOSS_INLINE RowScale<V> row(ptrdiff_t i) const {
        return {splat<T>(shift[i]), splat<T>(lowest[i]), splat<T>(round[i]), V{}};
    }
};

// ---- rows as lanes: one vector holds the same class of many rows ---------------------------------------------------------

// The classes of the rows from i on, one row a lane. Every maximum is left out of the sum, and stored as the unit.
template <class T, bool STORE, bool TARGET, bool SHIFTED>
CELOSS_INLINE void exp_of_lanes(const Tile<T>& x, const Tile<T>& e, ptrdiff_t i, typename VectorOf<T>::V top,
                                const RowScale<typename VectorOf<T>::V>& row, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    const V unit = store_units<T>(top - row.shift, row.steps, r->unit, i);
    const T* from = x.at + i;
    T* to = STORE ? e.at + i : nullptr;
    ExpSum<T> sum;
    M maxima{}, wanted{};
    V logit{}, exponential{};
    if (TARGET) wanted = load_targets<T>(r->targets + i);
    for (ptrdiff_t j = 0; j < x.classes; ++j, from += x.class_stride) {
        const V v = load(from);
        const M attains = v == top;
        maxima = one_more(maxima, attains);
        const ExpParts<V> exp = exp_parts<V, T, SHIFTED>(v, row, attains);
        sum.add(exp);
        if (STORE) {
            const V stored = select(attains, unit, exp.value);
            store(to, stored);
            to += e.class_stride;
            if (TARGET) exponential = select(wanted == (Int)j, stored, exponential);
        }
        if (TARGET) logit = select(wanted == (Int)j, v, logit);
    }
    sum.finish();
    if (any_lane(maxima > 1)) sum.add_units(__builtin_convertvector(maxima - 1, V), r->unit, i);
    if (TARGET) {
        store(r->x_target + i, logit);
        if (STORE) store(r->e_target + i, exponential);
    }
    sum.put(r->rest, i);
}

template <class T, bool STORE, bool TARGET> void exp_sum_of_lanes(const Tile<T>& x, const Tile<T>& e, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    for (ptrdiff_t i = 0; i < x.rows; i += lanes_of<T>()) {
        const V top = load(r->maximum + i);
        const RowScale<V> row = row_scale<V, T>(top);
        if (any_lane(row.shift != V{})) exp_of_lanes<T, STORE, TARGET, true>(x, e, i, top, row, r);
        else exp_of_lanes<T, STORE, TARGET, false>(x, e, i, top, row, r);
    }
}

// ---- of either orientation -------------------------------------------------------------------------------------------

template <class T> void exp_sum(const Tile<T>* x, const Tile<T>* e, const Tile<T>* g, ptrdiff_t ahead, Rows<T>* r) {
    const int64_t* targets = r->targets;
    if (!targets) __builtin_memcpy(r->x_target, r->maximum, (size_t)x->rows * sizeof(T));
    if (has_rows_as_lanes(x)) {
        const auto lanes = e->at     ? targets ? exp_sum_of_lanes<T, true, true> : exp_sum_of_lanes<T, true, false>
                           : targets ? exp_sum_of_lanes<T, false, true>
                                     : exp_sum_of_lanes<T, false, false>;
        return lanes(*x, *e, r);
    }
    typedef typename VectorOf<T>::V V;
    alignas(64) T room[GROUP * lanes_of<T>()];
    const BlockScale<T> scale(x->rows, r);
    for (ptrdiff_t i = 0; i < x->rows; ++i) {
        if (targets && targets[i] < 0) continue;
        const T* from = x->at + i * x->row_stride;
        const T* next_x = i < ahead ? from + x->rows * x->row_stride : nullptr;
        const RowScale<V> row = scale.row(i);
        const ptrdiff_t t = targets ? (ptrdiff_t)targets[i] : 0;
        T* to = e->at ? e->at + i * e->row_stride : room;
        const T* next_g = next_x && g->at && g->at != x->at ? g->at + (i + x->rows) * g->row_stride : nullptr;
        const auto row_sum = e->at ? scale.shift[i] != 0 ? row_exp_sum<T, true, true> : row_exp_sum<T, true, false>
                             : scale.shift[i] != 0 ? row_exp_sum<T, false, true>
                                                   : row_exp_sum<T, false, false>;
        if (targets) r->x_target[i] = from[t];
        ptrdiff_t maxima;
        double& rest = r->rest.high[i];
        rest = row_sum(from, to, x->classes, r->maximum[i], scale.unit[i], r->maximum_group[i], row, &maxima, r->rest.low + i,
                       next_x, next_g);
        if (targets && e->at) r->e_target[i] = to[t];
        if (r->maximum_group[i] >= 0 && maxima > 1) rest += (double)(maxima - 1) * r->unit.high[i];  // the others among them
    }
}

// As in a row where the target is not the maximum.
template <class T> void exp_targets(ptrdiff_t n, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    for (ptrdiff_t i = 0; i < n; i += lanes_of<T>())
        store(r->e_target + i, exp_parts<V, T>(load(r->x_target + i), row_scale<V, T>(load(r->maximum + i))).value);
}

}  // namespace
