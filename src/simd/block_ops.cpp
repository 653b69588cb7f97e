// block_ops.cpp: the block operations of block_ops.h, compiled once per level. Exports one symbol: the level's table.
//
// Includes its fellows in this folder; no standard header with code in it.
#include "block_ops.h"
#include "blend.hpp"
#include "brier.hpp"
#include "elementary.hpp"
#include "elementwise.hpp"
#include "exp_log.hpp"
#include "number.hpp"
#include "row_formulas.hpp"
#include "softmax_ops.hpp"
#include "tiles.hpp"

namespace {

// Vectors of a row that are worked on together.
constexpr int GROUP = 8;

// What was stored is read back from memory, not from the registers it came from: converting from memory saves shuffles.
CELOSS_INLINE void keep_in_memory() { __asm__ volatile("" ::: "memory"); }

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
    CELOSS_INLINE void add_units(F32 count, const RowSums* sums, ptrdiff_t row) {
        low += select(widen_low(count) > 0.0, widen_low(count) * load(sums->unit + row), F64{});
        high += select(widen_high(count) > 0.0, widen_high(count) * load(sums->unit + row + lanes_of<double>()), F64{});
    }
    CELOSS_INLINE void put(RowSums* sums, ptrdiff_t row) const {
        store(sums->rest + row, low);
        store(sums->rest + row + lanes_of<double>(), high);
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
    CELOSS_INLINE void add_units(F64 count, const RowSums* sums, ptrdiff_t row) {
        HighLow both = two_sum(sum, select(count > 0.0, count * load(sums->unit + row), F64{}));
        sum = both.high;
        lost += both.low + select(count > 0.0, count * load(sums->unit_low + row), F64{});
    }
    CELOSS_INLINE void put(RowSums* sums, ptrdiff_t row) const {
        store(sums->rest + row, sum);
        store(sums->rest_low + row, lost);
    }
    CELOSS_INLINE double total(double* low) const { return add_lanes(HighLow(sum, lost), low); }
};

template <class T> CELOSS_INLINE typename VectorOf<T>::V minus_infinity() { return splat<T>(-__builtin_inff()); }

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
    const M candidate = (best == in_groups) ? group_of_best : M{} + (Int)(tail_at / group_classes<T>());
    *where = lowest_lane<T>(candidate) * group_classes<T>();
    return in_groups;
}

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
double row_exp_sum(const T* x, T* e, ptrdiff_t classes, T m, T unit, ptrdiff_t where,
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
        if (j == where) {
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

// a * e with a in two parts, so that only the product rounds; below the smallest normal number: 0.
template <class T> struct RowFactor {
    typedef typename VectorOf<T>::V V;
    V high, low, smallest;

    // One row's, in all lanes.
    CELOSS_INLINE RowFactor(T h, T l, T s) : high(splat<T>(h)), low(splat<T>(l)), smallest(splat<T>(s)) {}
    // a * inverse of the row's sum, of the rows from `row` on, one a lane; a_low may be null.
    CELOSS_INLINE RowFactor(const double* a, const double* a_low, const RowSums* sums, ptrdiff_t row) {
        constexpr int W = lanes_of<double>();
        const F64 a0 = load(a + row), inverse0 = load(sums->inverse + row), factor0 = a0 * inverse0;
        if constexpr (sizeof(T) == 4) {
            const F64 factor1 = load(a + row + W) * load(sums->inverse + row + W);
            high = narrow(factor0, factor1);
            low = narrow(factor0 - widen_low(high), factor1 - widen_high(high));
        } else {
            high = factor0;
            low = fma(a0, load(sums->inverse_low + row), remainder_of(-factor0, -a0, inverse0));
            if (a_low) low = fma(load(a_low + row), inverse0, low);
        }
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
    // times(e) - minus.
    CELOSS_INLINE V times_less(V e, Parts<V> minus) const {
#if !defined(__FMA__) && !defined(__aarch64__)
        if constexpr (sizeof(T) == 4) {
            const F64 p0 = widen_low(e) * (widen_low(high) + widen_low(low)) - (widen_low(minus.high) + widen_low(minus.low));
            const F64 p1 =
                widen_high(e) * (widen_high(high) + widen_high(low)) - (widen_high(minus.high) + widen_high(minus.low));
            return select(e < smallest, -minus.high, narrow(p0, p1));
        }
#endif
        return select(e < smallest, -minus.high, fma(e, high, -minus.high) + fma(e, low, -minus.low));
    }
};

// A float64 in two parts of T.
template <class T> CELOSS_INLINE Parts<typename VectorOf<T>::V> in_parts(double a) {
    const T high = (T)a, low = (T)(a - (double)high);
    return {splat<T>(high), splat<T>(low == low ? low : T(0))};
}

template <class T, bool MINUS> void row_scale_by(const T* e, T* g, ptrdiff_t classes, const RowFactor<T>& factor, double minus) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>();
    const Parts<V> less = in_parts<T>(minus);
    const auto scaled = [&](V v) CELOSS_LAMBDA_INLINE { return MINUS ? factor.times_less(v, less) : factor.times(v); };
    ptrdiff_t j = 0;
    for (; j + 4 * W <= classes; j += 4 * W)
        UNROLL_4 for (int k = 0; k < 4; ++k) store(g + j + k * W, scaled(load(e + j + k * W)));
    for (; j + W <= classes; j += W) store(g + j, scaled(load(e + j)));
    if (j < classes) store_first(g + j, (int)(classes - j), scaled(load_first(e + j, (int)(classes - j), T(0))));
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

// Targets of the rows from `target` on, one a lane.
template <class T> CELOSS_INLINE typename VectorOf<T>::M load_targets(const int64_t* target) {
    typedef int64_t Wide __attribute__((vector_size(8 * lanes_of<T>())));
    Wide wide;
    __builtin_memcpy(&wide, target, sizeof wide);
    return __builtin_convertvector(wide, typename VectorOf<T>::M);
}

// The classes of the rows from i on, one row a lane. Every maximum is left out of the sum, and stored as the unit.
template <class T, bool STORE, bool TARGET, bool SHIFTED>
CELOSS_INLINE void lanes_exp(const Tile<T>& x, const Tile<T>& e, ptrdiff_t i, typename VectorOf<T>::V top,
                             const RowScale<typename VectorOf<T>::V>& row, const int64_t* target, T* x_t, T* e_t, RowSums* sums) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    const V unit = store_units<T>(top - row.shift, row.steps, sums, i);
    const T* from = x.at + i;
    T* to = STORE ? e.at + i : nullptr;
    ExpSum<T> sum;
    M maxima{}, wanted{};
    V logit{}, exponential{};
    if (TARGET) wanted = load_targets<T>(target + i);
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
    if (any_lane(maxima > 1)) sum.add_units(__builtin_convertvector(maxima - 1, V), sums, i);
    if (TARGET) {
        store(x_t + i, logit);
        if (STORE) store(e_t + i, exponential);
    }
    sum.put(sums, i);
}

// Per-row results are stored for whole vectors of rows: RowSums has room for them.
template <class T, bool STORE, bool TARGET>
void lanes_exp_sum(const Tile<T>& x, const Tile<T>& e, const T* m, const int64_t* target, T* x_t, T* e_t, RowSums* sums) {
    typedef typename VectorOf<T>::V V;
    for (ptrdiff_t i = 0; i < x.rows; i += lanes_of<T>()) {
        const V top = load(m + i);
        const RowScale<V> row = row_scale<V, T>(top);
        if (any_lane(row.shift != V{})) lanes_exp<T, STORE, TARGET, true>(x, e, i, top, row, target, x_t, e_t, sums);
        else lanes_exp<T, STORE, TARGET, false>(x, e, i, top, row, target, x_t, e_t, sums);
    }
}

// Per-row float64s from `from` on, one a lane of T; and in two parts of T.
template <class T> CELOSS_INLINE typename VectorOf<T>::V load_narrowed(const double* from) {
    if constexpr (sizeof(T) == 4) return narrow(load(from), load(from + lanes_of<double>()));
    else return load(from);
}
template <class T> CELOSS_INLINE Parts<typename VectorOf<T>::V> load_parts(const double* from) {
    const auto high = load_narrowed<T>(from);
    if constexpr (sizeof(T) == 8) {
        return {high, F64{}};
    } else {
        const F32 low = narrow(load(from) - widen_low(high), load(from + lanes_of<double>()) - widen_high(high));
        return {high, select(low == low, low, F32{})};
    }
}

template <class T, bool MINUS, bool TARGET>
void lanes_scale(const Tile<T>& e, const Tile<T>& g, const double* a, const double* a_low, const RowSums* sums,
                 const double* minus, const int64_t* target, const double* at_target) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    for (ptrdiff_t i = 0; i < e.rows; i += W) {
        const RowFactor<T> factor(a, a_low, sums, i);
        const Parts<V> less = MINUS ? load_parts<T>(minus + i) : Parts<V>{};
        M wanted{}, ignored{};
        V there{};
        if (TARGET) {
            wanted = load_targets<T>(target + i);
            ignored = wanted < 0;
            there = load_narrowed<T>(at_target + i);
        }
        const T* from = e.at + i;
        T* to = g.at + i;
        for (ptrdiff_t j = 0; j < e.classes; ++j, from += e.class_stride, to += g.class_stride) {
            V v = MINUS ? factor.times_less(load(from), less) : factor.times(load(from));
            if (TARGET) v = without(select(wanted == (Int)j, there, v), ignored);
            store(to, v);
        }
    }
}

// ---- the operations of the table -----------------------------------------------------------------------------------------

template <class T> void maximum(const Tile<T>* x, T* m, ptrdiff_t* where, const int64_t* target) {
    if (x->class_stride != 1) return lanes_maximum(*x, m);
    for (ptrdiff_t i = 0; i < x->rows; ++i)
        if (!target || target[i] >= 0) m[i] = row_maximum(x->at + i * x->row_stride, x->classes, where + i);
}

// How each of a block's rows is exponentiated, for rows of which each has its classes in the vectors' lanes.
template <class T> struct BlockScale {
    typedef typename VectorOf<T>::V V;
    T shift[CELOSS_BLOCK_ROWS], lowest[CELOSS_BLOCK_ROWS], round[CELOSS_BLOCK_ROWS], unit[CELOSS_BLOCK_ROWS];

    BlockScale(ptrdiff_t n, const T* m, RowSums* sums) {
        constexpr int W = lanes_of<T>();
        for (ptrdiff_t i = 0; i < n; i += W) {
            const V top = load_first(m + i, (int)(n - i < W ? n - i : W), T(0));
            const RowScale<V> rows = row_scale<V, T>(top);
            store(shift + i, rows.shift);
            store(lowest + i, rows.lowest);
            store(round + i, rows.round);
            store(unit + i, store_units<T>(top - rows.shift, rows.steps, sums, i));
        }
    }
    CELOSS_INLINE RowScale<V> row(ptrdiff_t i) const {
        return {splat<T>(shift[i]), splat<T>(lowest[i]), splat<T>(round[i]), V{}};
    }
};

template <class T>
void exp_sum(const Tile<T>* x, const Tile<T>* e, const T* m, const ptrdiff_t* where, const int64_t* target, T* x_t, T* e_t,
             ptrdiff_t ahead, const Tile<T>* g, RowSums* sums) {
    if (x->class_stride != 1) {
        const auto lanes = e->at    ? target ? lanes_exp_sum<T, true, true> : lanes_exp_sum<T, true, false>
                           : target ? lanes_exp_sum<T, false, true>
                                    : lanes_exp_sum<T, false, false>;
        return lanes(*x, *e, m, target, x_t, e_t, sums);
    }
    typedef typename VectorOf<T>::V V;
    alignas(64) T room[GROUP * lanes_of<T>()];
    const BlockScale<T> scale(x->rows, m, sums);
    for (ptrdiff_t i = 0; i < x->rows; ++i) {
        if (target && target[i] < 0) continue;
        const T* from = x->at + i * x->row_stride;
        const T* next_x = i < ahead ? from + x->rows * x->row_stride : nullptr;
        const RowScale<V> row = scale.row(i);
        const ptrdiff_t t = target ? (ptrdiff_t)target[i] : 0;
        T* to = e->at ? e->at + i * e->row_stride : room;
        const T* next_g = next_x && g->at && g->at != x->at ? g->at + (i + x->rows) * g->row_stride : nullptr;
        const auto row_sum = e->at ? scale.shift[i] != 0 ? row_exp_sum<T, true, true> : row_exp_sum<T, true, false>
                             : scale.shift[i] != 0 ? row_exp_sum<T, false, true>
                                                   : row_exp_sum<T, false, false>;
        if (target) x_t[i] = from[t];
        ptrdiff_t maxima;
        sums->rest[i] =
            row_sum(from, to, x->classes, m[i], scale.unit[i], where[i], row, &maxima, sums->rest_low + i, next_x, next_g);
        if (target && e->at) e_t[i] = to[t];
        if (where[i] >= 0 && maxima > 1) sums->rest[i] += (double)(maxima - 1) * sums->unit[i];  // the others among them
    }
}

template <class T> void put(const Tile<T>* g, const int64_t* target, const double* at_target) {
    for (ptrdiff_t i = 0; i < g->rows; ++i) {
        T* row = g->at + i * g->row_stride;
        if (target[i] >= 0) row[(ptrdiff_t)target[i] * g->class_stride] = (T)at_target[i];
        else if (g->class_stride == 1) __builtin_memset(row, 0, (size_t)g->classes * sizeof(T));
        else
            for (ptrdiff_t j = 0; j < g->classes; ++j) row[j * g->class_stride] = T(0);
    }
}

template <class T>
void scale(const Tile<T>* e, const Tile<T>* g, const double* a, const double* a_low, const RowSums* sums, const double* minus,
           const int64_t* target, const double* at_target) {
    constexpr int W = lanes_of<T>();
    if (e->class_stride != 1) {
        const auto lanes = minus    ? target ? lanes_scale<T, true, true> : lanes_scale<T, true, false>
                           : target ? lanes_scale<T, false, true>
                                    : lanes_scale<T, false, false>;
        return lanes(*e, *g, a, a_low, sums, minus, target, at_target);
    }
    for (ptrdiff_t first = 0; first < e->rows; first += W) {
        const RowFactor<T> factors(a, a_low, sums, first);
        T high[W], low[W], smallest[W];
        store(high, factors.high);
        store(low, factors.low);
        store(smallest, factors.smallest);
        for (ptrdiff_t i = first; i < e->rows && i < first + W; ++i) {
            if (target && target[i] < 0) continue;
            const RowFactor<T> factor(high[i - first], low[i - first], smallest[i - first]);
            const T* from = e->at + i * e->row_stride;
            T* to = g->at + i * g->row_stride;
            if (minus) row_scale_by<T, true>(from, to, e->classes, factor, minus[i]);
            else row_scale_by<T, false>(from, to, e->classes, factor, 0.0);
        }
    }
    if (target) put(g, target, at_target);
}

template <class I> ptrdiff_t count_other_than(const I* target, ptrdiff_t n, int64_t value) {
    if ((int64_t)(I)value != value) return n;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; ++i) count += target[i] != (I)value;
    return count;
}

template <class I> int read_targets(const I* target, ptrdiff_t n, int64_t ignore_index, int64_t classes, int64_t* out) {
    int64_t kept = 0, ignored = 0, outside = 0;
    // The array may change under the call: this is the only look at it.
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = (int64_t)target[i];
    keep_in_memory();
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
    return {maximum<T>,      exp_sum<T>,     log_rows<T>,       scale<T>,      scale_blended<T>,   put<T>,
            blend_sums<T>,   finish_rows<T>, load_tile<T>,      store_tile<T>, log_probability<T>, argmax<T>,
            mass_without<T>, sigmoid<T>,     log_sigmoid<T>,    binary<T>,     load_labels<T>,     brier_exp<T>,
            brier_sums<T>,   brier_rows<T>,  brier_gradient<T>, elementary<T>};
}

}  // namespace

extern const BlockOpsTable CELOSS_TABLE;
const BlockOpsTable CELOSS_TABLE = {
    CELOSS_LEVEL_NAME,         operations<float>(),   operations<double>(),  count_other_than<int64_t>,
    count_other_than<int32_t>, read_targets<int64_t>, read_targets<int32_t>, sum_of_weights};
