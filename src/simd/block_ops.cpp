// block_ops.cpp: the block operations of block_ops.h, compiled once per level. Exports one symbol: the level's table.
//
// Includes exp_log.hpp, tiles.hpp, vector.hpp and block_ops.h; no standard header with code in it.
#include "block_ops.h"
#include "elementwise.hpp"
#include "exp_log.hpp"
#include "softmax_ops.hpp"
#include "tiles.hpp"

namespace {

// Vectors of a row that are worked on together.
constexpr int GROUP = 8;

// Into the cache, to be written soon.
CELOSS_INLINE void prefetch(const void* at) { __builtin_prefetch(at, 1, 3); }

// The float64 lanes of rows i and on of an array of T.
CELOSS_INLINE F64 wide(const double* from) { return load(from); }
CELOSS_INLINE F64 wide(const float* from) { return widen_half(from); }

// The running sum of exponentials: their values in float64 (for float64 with the rounding errors of the sum), and apart
// from them their own rounding errors, which a row dominated by one of them would otherwise show.
template <class T> struct ExpSum;
template <> struct ExpSum<float> {
    F64 low{}, high{};
    F32 lost{};
    // In two steps: the errors now, the values from where they are stored, since converting from memory saves the shuffles
    // that converting from a register takes. (The compiler must not see through the memory.)
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
    // The lanes one after the other, their rounding errors apart.
    CELOSS_INLINE double total(double* low) const {
        double high = sum[0], rest = sum_lanes<double>(lost);
        for (int i = 1; i < lanes_of<double>(); ++i) {
            double next = high + sum[i], seen = next - high;
            rest += (high - (next - seen)) + (sum[i] - seen);
            high = next;
        }
        const double both = high + rest;
        *low = rest - (both - high);
        return both;
    }
};

template <class T> CELOSS_INLINE typename VectorOf<T>::V minus_infinity() { return splat<T>(-__builtin_inff()); }

template <class T> CELOSS_INLINE typename VectorOf<T>::M lane_numbers() {
    typename VectorOf<T>::M numbers;
    for (int i = 0; i < lanes_of<T>(); ++i) numbers[i] = i;
    return numbers;
}

// ---- one row: class after class -----------------------------------------------------------------------------------------

// Groups of GROUP vectors begin at multiples of this.
template <class T> constexpr ptrdiff_t group_classes() { return (ptrdiff_t)GROUP * lanes_of<T>(); }

template <class T> T row_maximum(const T* x, ptrdiff_t classes, ptrdiff_t* where) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    V best = minus_infinity<T>();
    M group_of_best{};
    ptrdiff_t j = 0;
    for (; j + GROUP * W <= classes; j += GROUP * W) {
        V v[GROUP];
        UNROLL_8 for (int k = 0; k < GROUP; ++k) v[k] = load(x + j + k * W);
        V group = max_or_nan(max_or_nan(max_or_nan(v[0], v[1]), max_or_nan(v[2], v[3])),
                             max_or_nan(max_or_nan(v[4], v[5]), max_or_nan(v[6], v[7])));
        group_of_best = (group > best) ? M{} + (Int)(j / group_classes<T>()) : group_of_best;
        best = max_or_nan(best, group);
    }
    V tail = minus_infinity<T>();
    const ptrdiff_t tail_at = j;
    for (; j + W <= classes; j += W) tail = max_or_nan(tail, load(x + j));
    if (j < classes) tail = max_or_nan(tail, load_first(x + j, (int)(classes - j), (T)-__builtin_inff()));
    if (tail_at == 0) {
        *where = 0;
        return max_lanes<T>(tail);
    }
    const T in_groups = max_lanes<T>(best), in_tail = max_lanes<T>(tail);
    if (in_tail > in_groups) {
        *where = tail_at;
        return in_tail;
    }
    // The lowest group among the lanes that hold the maximum (group 0 where a NaN hides it).
    M candidate = (best == in_groups) ? group_of_best : M{} + (Int)(tail_at / group_classes<T>());
    Int lane[W], first;
    __builtin_memcpy(lane, &candidate, sizeof lane);
    first = lane[0];
    for (int k = 1; k < W; ++k) first = lane[k] < first ? lane[k] : first;
    *where = (ptrdiff_t)first * group_classes<T>();
    return in_groups;
}

// Of one row, the exponentials of `count` classes: stored, and added to the sum (LEAVE_OUT: but for those that attain the
// maximum, which are counted in `maxima` instead; otherwise add_stored is left to do).
template <class T, bool LEAVE_OUT>
CELOSS_INLINE void exp_of_classes(const T* x, T* e, int count, const RowScale<typename VectorOf<T>::V>& row, T m, T unit,
                                  typename VectorOf<T>::M& maxima, ExpSum<T>& sum) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    const bool full = count == lanes_of<T>();
    V v = full ? load(x) : load_first(x, count, (T)-__builtin_inff());
    ExpParts<V> exp = exp_parts<V, T>(v, row);
    M attains{};
    V stored = exp.value;
    if (LEAVE_OUT) {
        attains = v == splat<T>(m);
        stored = select(attains, splat<T>(unit), stored);
    }
    if (full) store(e, stored);
    else store_first(e, count, stored);
    if (LEAVE_OUT) {
        maxima -= attains;
        exp.value = (V)((M)exp.value & ~attains);
        exp.error = (V)((M)exp.error & ~attains);
    }
    if (LEAVE_OUT) sum.add(exp);
    else sum.add_error(exp);
}

// Returns the sum; `maxima`: how often the maximum was left out. Not STORE: e is room for a group of vectors.
template <class T, bool STORE>
double row_exp_sum(const T* x, T* e, ptrdiff_t classes, T m, T unit, ptrdiff_t where,
                   const RowScale<typename VectorOf<T>::V>& row, ptrdiff_t* maxima, double* low, const T* next_x,
                   const T* next_e) {
    typedef typename VectorOf<T>::M M;
    constexpr int W = lanes_of<T>();
    ExpSum<T> sum;
    M left_out{};
    ptrdiff_t j = 0;
    for (; j + GROUP * W <= classes; j += GROUP * W) {
        T* to = STORE ? e + j : e;
        if (next_x)
            for (int k = 0; k < GROUP; ++k) prefetch(next_x + j + k * W);
        if (STORE && next_e)
            for (int k = 0; k < GROUP; ++k) prefetch(next_e + j + k * W);
        if (j == where) {
            for (int k = 0; k < GROUP; ++k) exp_of_classes<T, true>(x + j + k * W, to + k * W, W, row, m, unit, left_out, sum);
        } else {
            UNROLL_8 for (int k = 0; k < GROUP; ++k)
                exp_of_classes<T, false>(x + j + k * W, to + k * W, W, row, m, unit, left_out, sum);
            __asm__ volatile("" ::: "memory");
            UNROLL_8 for (int k = 0; k < GROUP; ++k) sum.add_stored(to + k * W);
        }
    }
    const bool here = j == where;
    for (; j < classes; j += W) {
        const int count = (int)(classes - j < W ? classes - j : W);
        T* to = STORE ? e + j : e;
        if (next_x) prefetch(next_x + j);
        if (STORE && next_e) prefetch(next_e + j);
        if (count < W) exp_of_classes<T, true>(x + j, to, count, row, here ? m : (T)__builtin_nanf(""), unit, left_out, sum);
        else exp_of_classes<T, true>(x + j, to, W, row, here ? m : (T)__builtin_nanf(""), unit, left_out, sum);
    }
    sum.finish();
    typename VectorOf<T>::Int lane[W];
    __builtin_memcpy(lane, &left_out, sizeof lane);
    ptrdiff_t count = 0;
    for (int k = 0; k < W; ++k) count += (ptrdiff_t)lane[k];
    *maxima = count;
    return sum.total(low);
}

// a * e with a in two parts, so that only the product rounds; below the smallest normal number: 0.
template <class T> constexpr T smallest_normal() { return sizeof(T) == 4 ? (T)0x1p-126 : (T)0x1p-1022; }

template <class T> struct RowFactor {
    typedef typename VectorOf<T>::V V;
    V high, low, smallest;

    // a * inverse of the row's sum, for one row in all lanes.
    CELOSS_INLINE RowFactor(const double* a, const RowSums* sums, ptrdiff_t row) {
        const double factor = a[row] * sums->inverse[row];
        const T top = (T)factor;
        high = splat<T>(top);
        if constexpr (sizeof(T) == 4) {
            low = splat<T>((T)(factor - (double)top));
        } else {
            const F64 lost = remainder_of(splat(-factor), splat(-a[row]), splat(sums->inverse[row]));
            low = lost + a[row] * sums->inverse_low[row];
        }
        finish();
    }
    // Of the rows from `row` on, one a lane.
    CELOSS_INLINE RowFactor(const double* a, const RowSums* sums, ptrdiff_t row, V*) {
        constexpr int W = lanes_of<double>();
        const F64 a0 = load(a + row), inverse0 = load(sums->inverse + row), factor0 = a0 * inverse0;
        if constexpr (sizeof(T) == 4) {
            const F64 factor1 = load(a + row + W) * load(sums->inverse + row + W);
            high = narrow(factor0, factor1);
            low = narrow(factor0 - widen_low(high), factor1 - widen_high(high));
        } else {
            high = factor0;
            low = fma(a0, load(sums->inverse_low + row), remainder_of(-factor0, -a0, inverse0));
        }
        finish();
    }
    CELOSS_INLINE void finish() {
        low = select(low - low == V{}, low, V{});  // an infinite or NaN factor has no low part
        smallest = smallest_normal<T>() / absolute(high);
    }
    CELOSS_INLINE V times(V e) const {
#if !defined(__FMA__) && !defined(__aarch64__)
        if constexpr (sizeof(T) == 4) {
            const F64 p0 = widen_low(e) * (widen_low(high) + widen_low(low));
            const F64 p1 = widen_high(e) * (widen_high(high) + widen_high(low));
            return select(e < smallest, V{}, narrow(p0, p1));
        }
#endif
        return select(e < smallest, V{}, fma(e, high, e * low));
    }
};

template <class T>
void row_scale_by(const T* e, T* g, ptrdiff_t classes, const RowFactor<T>& factor, typename VectorOf<T>::V minus) {
    constexpr int W = lanes_of<T>();
    ptrdiff_t j = 0;
    for (; j + 4 * W <= classes; j += 4 * W)
        UNROLL_4 for (int k = 0; k < 4; ++k) store(g + j + k * W, factor.times(load(e + j + k * W)) - minus);
    for (; j + W <= classes; j += W) store(g + j, factor.times(load(e + j)) - minus);
    if (j < classes) store_first(g + j, (int)(classes - j), factor.times(load_first(e + j, (int)(classes - j), T(0))) - minus);
}

// ---- rows as lanes: one vector holds the same class of many rows ---------------------------------------------------------

template <class T> void lanes_maximum(const Tile<T>& x, T* m) {
    constexpr int W = lanes_of<T>();
    for (ptrdiff_t i = 0; i < x.rows; i += W) {
        auto best = load(x.at + i);
        for (ptrdiff_t j = 1; j < x.classes; ++j) best = max_or_nan(best, load(x.at + j * x.class_stride + i));
        store(m + i, best);
    }
}

// Targets of the rows from `target` on, one a lane.
template <class T> CELOSS_INLINE typename VectorOf<T>::M load_targets(const int64_t* target) {
    typedef int64_t Wide __attribute__((vector_size(8 * lanes_of<T>())));
    Wide wide;
    __builtin_memcpy(&wide, target, sizeof wide);
    return __builtin_convertvector(wide, typename VectorOf<T>::M);
}

// unit of the rows from i on, one a lane; also as numbers of the arithmetic type.
template <class T>
CELOSS_INLINE typename VectorOf<T>::V store_units(typename VectorOf<T>::V a, typename VectorOf<T>::V steps, RowSums* sums,
                                                  ptrdiff_t i) {
    if constexpr (sizeof(T) == 4) {
        const F64 low = exp_of_maximum<T>(widen_low(a), widen_low(steps)).high;
        const F64 high = exp_of_maximum<T>(widen_high(a), widen_high(steps)).high;
        store(sums->unit + i, low);
        store(sums->unit + i + lanes_of<double>(), high);
        return narrow(low, high);
    } else {
        const HighLow unit = exp_of_maximum<T>(a, steps);
        store(sums->unit + i, unit.high);
        store(sums->unit_low + i, unit.low);
        return unit.high;
    }
}

// Per-row results are stored for whole vectors of rows: RowSums has room for them.
template <class T, bool STORE, bool TARGET>
void lanes_exp_sum(const Tile<T>& x, const Tile<T>& e, const T* m, const int64_t* target, T* x_t, T* e_t, RowSums* sums) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>(), half = lanes_of<double>();
    for (ptrdiff_t i = 0; i < x.rows; i += W) {
        const V top = load(m + i);
        const RowScale<V> row = row_scale<V, T>(top);
        const V unit = store_units<T>(top - row.shift, row.steps, sums, i);
        const T* from = x.at + i;
        T* to = STORE ? e.at + i : nullptr;
        ExpSum<T> sum;
        M waiting = ~M{};  // lanes whose maximum has not come by
        M wanted{};
        V logit{}, exponential{};
        if (TARGET) wanted = load_targets<T>(target + i);
        for (ptrdiff_t j = 0; j < x.classes; ++j, from += x.class_stride) {
            V v = load(from);
            ExpParts<V> exp = exp_parts<V, T>(v, row);
            M attains = v == top;
            if (STORE) {
                V stored = select(attains, unit, exp.value);
                store(to, stored);
                to += e.class_stride;
                if (TARGET) exponential = select(wanted == (Int)j, stored, exponential);
            }
            if (TARGET) logit = select(wanted == (Int)j, v, logit);
            M first = attains & waiting;
            waiting &= ~first;
            exp.value = (V)((M)exp.value & ~first);
            exp.error = (V)((M)exp.error & ~first);
            sum.add(exp);
        }
        sum.finish();
        if (TARGET) {
            store(x_t + i, logit);
            if (STORE) store(e_t + i, exponential);
        }
        if constexpr (sizeof(T) == 4) {
            store(sums->rest + i, sum.low);
            store(sums->rest + i + half, sum.high);
        } else {
            store(sums->rest + i, sum.sum);
            store(sums->rest_low + i, sum.lost);
        }
    }
}

// Per-row float64s from `from` on, one a lane of T.
template <class T> CELOSS_INLINE typename VectorOf<T>::V load_narrowed(const double* from) {
    if constexpr (sizeof(T) == 4) return narrow(load(from), load(from + lanes_of<double>()));
    else return load(from);
}

template <class T, bool TARGET>
void lanes_scale(const Tile<T>& e, const Tile<T>& g, const double* a, const RowSums* sums, const double* minus,
                 const int64_t* target, const double* at_target) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    for (ptrdiff_t i = 0; i < e.rows; i += W) {
        const RowFactor<T> factor(a, sums, i, (V*)nullptr);
        const V less = minus ? load_narrowed<T>(minus + i) : V{};
        M wanted{};
        V there{};
        if (TARGET) {
            wanted = load_targets<T>(target + i);
            there = load_narrowed<T>(at_target + i);
        }
        const T* from = e.at + i;
        T* to = g.at + i;
        for (ptrdiff_t j = 0; j < e.classes; ++j, from += e.class_stride, to += g.class_stride) {
            V v = factor.times(load(from)) - less;
            if (TARGET) v = select(wanted == (Int)j, there, v);
            store(to, v);
        }
    }
}

// ---- the operations of the table -----------------------------------------------------------------------------------------

template <class T> void maximum(const Tile<T>* x, T* m, ptrdiff_t* where) {
    if (x->class_stride != 1) return lanes_maximum(*x, m);
    for (ptrdiff_t i = 0; i < x->rows; ++i) m[i] = row_maximum(x->at + i * x->row_stride, x->classes, where + i);
}

// unit, for rows of which each has its classes in the vectors' lanes.
template <class T> void units_of_rows(ptrdiff_t n, const T* m, RowSums* sums) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    for (ptrdiff_t i = 0; i < n; i += W) {
        const V top = load_first(m + i, (int)(n - i < W ? n - i : W), T(0));
        const RowScale<V> row = row_scale<V, T>(top);
        store_units<T>(top - row.shift, row.steps, sums, i);
    }
}

template <class T>
void exp_sum(const Tile<T>* x, const Tile<T>* e, const T* m, const ptrdiff_t* where, const int64_t* target, T* x_t, T* e_t,
             ptrdiff_t ahead, RowSums* sums) {
    if (x->class_stride != 1) {
        if (e->at)
            return target ? lanes_exp_sum<T, true, true>(*x, *e, m, target, x_t, e_t, sums)
                          : lanes_exp_sum<T, true, false>(*x, *e, m, target, x_t, e_t, sums);
        return target ? lanes_exp_sum<T, false, true>(*x, *e, m, target, x_t, e_t, sums)
                      : lanes_exp_sum<T, false, false>(*x, *e, m, target, x_t, e_t, sums);
    }
    typedef typename VectorOf<T>::V V;
    alignas(64) T room[GROUP * lanes_of<T>()];
    units_of_rows(x->rows, m, sums);
    for (ptrdiff_t i = 0; i < x->rows; ++i) {
        const T* from = x->at + i * x->row_stride;
        const T* next_x = i < ahead ? from + x->rows * x->row_stride : nullptr;
        const RowScale<V> row = row_scale<V, T>(splat<T>(m[i]));
        const ptrdiff_t t = target && target[i] >= 0 ? (ptrdiff_t)target[i] : 0;
        const T unit = (T)sums->unit[i];
        double* low = sums->rest_low + i;
        ptrdiff_t maxima;
        if (target) x_t[i] = from[t];
        if (e->at) {
            T* to = e->at + i * e->row_stride;
            const T* next_e = next_x && e->at != x->at ? to + x->rows * e->row_stride : nullptr;
            sums->rest[i] = row_exp_sum<T, true>(from, to, x->classes, m[i], unit, where[i], row, &maxima, low, next_x, next_e);
            if (target) e_t[i] = to[t];
        } else {
            sums->rest[i] =
                row_exp_sum<T, false>(from, room, x->classes, m[i], unit, where[i], row, &maxima, low, next_x, nullptr);
        }
        if (where[i] >= 0 && maxima > 1) sums->rest[i] += (double)(maxima - 1) * sums->unit[i];  // the others among them
    }
}

// A float64 as it is once stored in the arithmetic type.
template <class T> CELOSS_INLINE F64 wide_stored(F64 v) {
    if constexpr (sizeof(T) == 4) return widen_low(narrow(v, v));
    else return v;
}

// Rows past n up to the vector's width are computed from whatever is there, and not used.
template <class T> void log_rows(ptrdiff_t n, const T* m, const T* x_t, const T* e_t, RowSums* sums) {
    constexpr int W = lanes_of<double>();
    for (ptrdiff_t i = 0; i < n; i += W) {
        const F64 rest = load(sums->rest + i), alone = wide_stored<T>(load(sums->unit + i));
        // A maximum without others has the probability 1, exactly: the unit is then its exponential as stored.
        const M64 has_others = rest != 0.0;
        const F64 unit = select(has_others, load(sums->unit + i), alone), total = unit + rest, inverse = 1.0 / total;
        const F64 top = wide(m + i), at_target = wide(x_t + i), gap = top - at_target;
        store(sums->inverse + i, inverse);
        F64 log_sum, gap_low{}, unit_low{};
        if constexpr (sizeof(T) == 4) {
            log_sum = log1p_ratio<false>({rest, F64{}}, {unit, F64{}});
        } else {
            const HighLow rest2 = {rest, load(sums->rest_low + i)},
                          unit2 = {unit, select(has_others, load(sums->unit_low + i), F64{})};
            unit_low = unit2.low;
            log_sum = log1p_ratio<true>(rest2, unit2);
            const F64 total_low = two_sum(unit, rest).low + rest2.low + unit2.low;
            store(sums->inverse_low + i, (remainder_of(F64{} + 1.0, inverse, total) - inverse * total_low) * inverse);
            gap_low = two_sum(top, -at_target).low;
            gap_low = select(gap_low == gap_low, gap_low, F64{});  // where the gap is infinite
        }
        store(sums->log_sum + i, log_sum);
        store(sums->nll + i, gap + (log_sum + gap_low));
        // The target that attains the maximum is not among the others; the maximum itself is, elsewhere.
        const F64 of_maximum = select(gap == F64{}, F64{}, unit - wide(e_t + i)), others = rest + of_maximum;
        F64 miss = others * inverse;
        if constexpr (sizeof(T) == 8) {
            const F64 lost = two_sum(rest, of_maximum).low + load(sums->rest_low + i) + select(gap == F64{}, F64{}, unit_low);
            const F64 low = fma(others, load(sums->inverse_low + i), lost * inverse) - remainder_of(miss, others, inverse);
            miss += select(low == low, low, F64{});
        }
        store(sums->miss + i, miss);
    }
}

template <class T> void put(const Tile<T>* g, const int64_t* target, const double* at_target) {
    for (ptrdiff_t i = 0; i < g->rows; ++i) {
        T* row = g->at + i * g->row_stride;
        if (target[i] >= 0) row[(ptrdiff_t)target[i] * g->class_stride] = (T)at_target[i];
        else
            for (ptrdiff_t j = 0; j < g->classes; ++j) row[j * g->class_stride] = T(0);
    }
}

template <class T>
void scale(const Tile<T>* e, const Tile<T>* g, const double* a, const RowSums* sums, const double* minus, const int64_t* target,
           const double* at_target) {
    if (e->class_stride != 1)
        return target ? lanes_scale<T, true>(*e, *g, a, sums, minus, target, at_target)
                      : lanes_scale<T, false>(*e, *g, a, sums, minus, target, at_target);
    for (ptrdiff_t i = 0; i < e->rows; ++i) {
        const RowFactor<T> factor(a, sums, i);
        const T* from = e->at + i * e->row_stride;
        T* to = g->at + i * g->row_stride;
        row_scale_by(from, to, e->classes, factor, splat<T>(minus ? (T)minus[i] : T(0)));
    }
    if (target) put(g, target, at_target);
}

template <class T> void subtract(const Tile<T>* g, const Blend<T>* blend, const double* b) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    const V keep = splat<T>((T)blend->keep), add = splat<T>((T)blend->add);
    const bool by_class = g->class_stride == 1;
    const ptrdiff_t outer = by_class ? g->rows : g->classes, inner = by_class ? g->classes : g->rows;
    const ptrdiff_t g_stride = by_class ? g->row_stride : g->class_stride;
    const ptrdiff_t q_stride = by_class ? blend->q_row_stride : blend->q_class_stride;
    for (ptrdiff_t o = 0; o < outer; ++o) {
        T* to = g->at + o * g_stride;
        const T* q = blend->q ? blend->q + o * q_stride : nullptr;
        for (ptrdiff_t i = 0; i < inner; i += W) {
            const int count = (int)(inner - i < W ? inner - i : W);
            V share = q ? fma(load_first(q + i, count, T(0)), keep, add) : keep + add;
            V factor;
            if (by_class) {
                if (blend->w) share *= load_first(blend->w + i, count, T(0));
                factor = splat<T>((T)b[o]);
            } else {
                if (blend->w) share *= splat<T>(blend->w[o]);
                T lane[W] = {};
                for (int k = 0; k < count; ++k) lane[k] = (T)b[i + k];
                factor = load(lane);
            }
            store_first(to + i, count, load_first(to + i, count, T(0)) - factor * share);
        }
    }
}

template <class T> struct WideSum;
template <> struct WideSum<float> {
    F64 low{}, high{};
    CELOSS_INLINE void add(F32 v) {
        low += widen_low(v);
        high += widen_high(v);
    }
    CELOSS_INLINE double total() const { return sum_lanes<double>(low + high); }
};
template <> struct WideSum<double> {
    F64 sum{}, error{};
    CELOSS_INLINE void add(F64 v) {
        HighLow both = two_sum(sum, v);
        sum = both.high;
        error += select(both.low == both.low, both.low, F64{});  // no error is known of an infinite sum
    }
    CELOSS_INLINE void put(double* to) const { store(to, sum + error); }
    CELOSS_INLINE double total() const { return sum_lanes<double>(sum + error); }
};

// What one vector of classes adds to mass and gap; 0 * inf counts 0.
template <class V> struct Blended {
    V mass, gap;
};

template <class T>
CELOSS_INLINE Blended<typename VectorOf<T>::V> blend(typename VectorOf<T>::V distance, const T* q, const T* w, int count, T keep,
                                                     T add) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    V share = splat<T>(add);
    if (q) share = fma(count == W ? load(q) : load_first(q, count, T(0)), splat<T>(keep), share);
    if (w) share *= count == W ? load(w) : load_first(w, count, T(0));
    if (count < W) share = select(lane_numbers<T>() < count, share, V{});
    return {share, select(share == V{}, V{}, share * distance)};
}

template <class T> void blend_sums(const Tile<T>* x, const Blend<T>* with, const T* m, double* mass, double* gap) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    const T keep = (T)with->keep, add = (T)with->add;
    if (x->class_stride == 1) {
        for (ptrdiff_t i = 0; i < x->rows; ++i) {
            const T* from = x->at + i * x->row_stride;
            const T* q = with->q ? with->q + i * with->q_row_stride : nullptr;
            const V top = splat<T>(m[i]);
            WideSum<T> mass_sum, gap_sum;
            ptrdiff_t j = 0;
            for (; j + 4 * W <= x->classes; j += 4 * W) {  // a tree of four, then into float64
                Blended<V> b[4];
                for (int k = 0; k < 4; ++k)
                    b[k] = blend<T>(top - load(from + j + k * W), q ? q + j + k * W : nullptr,
                                    with->w ? with->w + j + k * W : nullptr, W, keep, add);
                if (q) mass_sum.add((b[0].mass + b[1].mass) + (b[2].mass + b[3].mass));
                gap_sum.add((b[0].gap + b[1].gap) + (b[2].gap + b[3].gap));
            }
            for (; j < x->classes; j += W) {
                const int count = (int)(x->classes - j < W ? x->classes - j : W);
                const Blended<V> b = blend<T>(top - load_first(from + j, count, m[i]), q ? q + j : nullptr,
                                              with->w ? with->w + j : nullptr, count, keep, add);
                if (q) mass_sum.add(b.mass);
                gap_sum.add(b.gap);
            }
            mass[i] = mass_sum.total();
            gap[i] = gap_sum.total();
        }
        return;
    }
    // Few classes: the sums would show each term's rounding, so that the terms are formed in float64.
    constexpr int half = lanes_of<double>();
    for (ptrdiff_t i = 0; i < x->rows; i += half) {
        const F64 top = wide(m + i);
        WideSum<double> mass_sum, gap_sum;
        for (ptrdiff_t j = 0; j < x->classes; ++j) {
            F64 share = F64{} + with->add;
            if (with->q) share = fma(wide(with->q + j * with->q_class_stride + i), F64{} + with->keep, share);
            if (with->w) share *= (double)with->w[j];
            mass_sum.add(share);
            gap_sum.add(select(share == F64{}, F64{}, share * (top - wide(x->at + j * x->class_stride + i))));
        }
        mass_sum.put(mass + i);
        gap_sum.put(gap + i);
    }
}

template <class I> ptrdiff_t count_other_than(const I* target, ptrdiff_t n, int64_t value) {
    if ((int64_t)(I)value != value) return n;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; ++i) count += target[i] != (I)value;
    return count;
}

template <class I> int read_targets(const I* target, ptrdiff_t n, int64_t ignore_index, int64_t classes, int64_t* out) {
    int64_t kept = 0, ignored = 0, outside = 0;
    for (ptrdiff_t i = 0; i < n; ++i) {
        // The array may change under the call: this is the only look at it.
        const int64_t t = (int64_t)*(const volatile I*)(target + i);
        out[i] = t;
    }
    for (ptrdiff_t i = 0; i < n; ++i) {
        const int64_t t = out[i], is_ignored = -(int64_t)(t == ignore_index);
        const int64_t is_outside = -(int64_t)((uint64_t)t >= (uint64_t)classes) & ~is_ignored;
        ignored |= is_ignored;
        kept |= ~is_ignored;
        outside |= is_outside;
        out[i] = t | is_ignored;
    }
    return (kept ? SEEN_KEPT : 0) | (ignored ? SEEN_IGNORED : 0) | (outside ? SEEN_OUT_OF_RANGE : 0);
}

template <class T> constexpr BlockOps<T> operations() {
    return {maximum<T>,    exp_sum<T>,     log_rows<T>,   scale<T>,           put<T>,    subtract<T>,
            blend_sums<T>, load_tile<T>,   store_tile<T>, log_probability<T>, argmax<T>, mass_without<T>,
            sigmoid<T>,    log_sigmoid<T>, binary<T>,     load_labels<T>};
}

}  // namespace

extern const BlockOpsTable CELOSS_TABLE;
const BlockOpsTable CELOSS_TABLE = {
    CELOSS_LEVEL_NAME,         operations<float>(),   operations<double>(),  count_other_than<int64_t>,
    count_other_than<int32_t>, read_targets<int64_t>, read_targets<int32_t>, brier_exp_f32,
    brier_sums<float>,         brier_sums<double>,    brier_gradient<float>, brier_gradient<double>};
