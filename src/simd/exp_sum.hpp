// exp_sum.hpp: the exponentials of rows, and their sum without the one that is left out.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "fetcher.hpp"
#include "layout.hpp"
#include "maximum.hpp"
#include "number.hpp"
#include "side.hpp"
#include "targets.hpp"
#include "vector.hpp"
#include <type_traits>

namespace {

// The running sum of exponentials, in as many vectors of T as take its lanes: their values in float64 (for float64 with the
// rounding errors of the sum), and apart from them their own rounding errors, which a row dominated by one of them would
// otherwise show.
template <class T, int VECTORS> struct ExpSum;
template <int VECTORS> struct ExpSum<float, VECTORS> {
    F64 sum[2 * VECTORS]{};
    F32 lost[VECTORS]{};
    CELOSS_INLINE void add(int k, F32 value) {
        sum[2 * k] += widen_low(value);
        sum[2 * k + 1] += widen_high(value);
    }
    // From where it is stored (see keep_in_memory).
    CELOSS_INLINE void add_stored(int k, const float* at) {
        sum[2 * k] += widen_low_at(at);
        sum[2 * k + 1] += widen_high_at(at);
    }
    CELOSS_INLINE void finish() { UNROLL_8 for (int k = 0; k < VECTORS; ++k) add(k, lost[k]); }
    // Of each lane; and (16 of them) of all.
    CELOSS_INLINE void put(PerRow& to, ptrdiff_t row) const {
        store(to.high + row, sum[0]);
        store(to.high + row + lanes_of<double>(), sum[1]);
    }
    CELOSS_INLINE double of_lanes(double*) const { return sum_of_lanes(sum); }
};
template <int VECTORS> struct ExpSum<double, VECTORS> {
    F64 sum[VECTORS]{}, lost[VECTORS]{};
    CELOSS_INLINE void add(int k, F64 value) {
        const HighLow both = two_sum(sum[k], value);
        sum[k] = both.high;
        lost[k] += both.low;
    }
    CELOSS_INLINE void add_stored(int k, const double* at) { add(k, load(at)); }
    CELOSS_INLINE void finish() {
        UNROLL_8 for (int k = 0; k < VECTORS; ++k) {
            const HighLow both = two_sum(sum[k], lost[k]);
            sum[k] = both.high;
            lost[k] = both.low;
        }
    }
    CELOSS_INLINE void put(PerRow& to, ptrdiff_t row) const { store_number(to, row, HighLow(sum[0], lost[0])); }
    CELOSS_INLINE double of_lanes(double* low) const { return sum_with_error(sum, lost, low); }
};

// What the sums of rows lack where the maximum is among the others: what its exponential does (exp_log.hpp), since that may be
// nearly all of the sum, and its error is then in every result of the row. Elsewhere 0.
template <class T>
CELOSS_INLINE typename VectorOf<T>::V lack_of_rows(ptrdiff_t i, const RowScale<typename VectorOf<T>::V>& scale,
                                                   const Rows<T>* r) {
    const auto m = load(r->maximum + i);
    if (!r->left_out) return decltype(m){};  // softmax: see inverse_rows
    return select(load(r->x_left_out + i) < m, exp_of_maximum<T>(m, scale).lack, decltype(m){});
}

// So many vectors go side by side: a batch. A chunk of a row is several batches, and a multiple of the sum's lanes: where the
// sum's vectors do not stay in registers, they are loaded and stored once a chunk.
#if CELOSS_VECTOR_BYTES == 32
constexpr int SIDE_VECTORS = 2;  // 16 registers: 4 vectors do not fit (6 % slower)
#else
constexpr int SIDE_VECTORS = 4;
#endif
constexpr int CHUNK_VECTORS = 8;
template <class T> constexpr int sum_vectors() { return SUM_LANES / lanes_of<T>(); }
template <class T> constexpr int batch_classes() { return SIDE_VECTORS * lanes_of<T>(); }

// Exponentials of N vectors, `stride` numbers apart; of the last one `count` lanes. Their errors go to the sum, to its vectors
// from `first` on.
template <class T, int N, bool SHIFTED, int VECTORS>
CELOSS_INLINE void exp_of_vectors(const T* x, ptrdiff_t x_stride, T* e, ptrdiff_t e_stride, int count,
                                  const RowScale<typename VectorOf<T>::V>& row, ExpSum<T, VECTORS>& sum, int first) {
    const bool partial = count < lanes_of<T>();
    SideOf<T, N> v;
    UNROLL_8 for (int k = 0; k < N - 1; ++k) v[k] = load(x + k * x_stride);
    v[N - 1] = partial ? load_first(x + (N - 1) * x_stride, count, (T)-__builtin_inff()) : load(x + (N - 1) * x_stride);
    const auto exp = exp_parts<T, SHIFTED>(v, row);
    UNROLL_8 for (int k = 0; k < N - 1; ++k) store(e + k * e_stride, exp.value[k]);
    if (partial) {
        store_first(e + (N - 1) * e_stride, count, exp.value[N - 1]);
        sum.add((first + N - 1) % VECTORS, exp.value[N - 1]);
    } else store(e + (N - 1) * e_stride, exp.value[N - 1]);
    UNROLL_8 for (int k = 0; k < N; ++k) sum.lost[(first + k) % VECTORS] += exp.error[k];
}
// And their sum, from where they are stored.
template <class T, int VECTORS>
CELOSS_INLINE void add_stored(const T* e, ptrdiff_t stride, int vectors, ExpSum<T, VECTORS>& sum, int first) {
    UNROLL_8 for (int k = 0; k < vectors; ++k) sum.add_stored((first + k) % VECTORS, e + k * stride);
}

// The last vectors of a row, of N whole ones or less: from x to e, of `classes` classes.
template <class T, bool SHIFTED, int VECTORS>
CELOSS_INLINE void exp_of_last_batch(const T* x, T* e, ptrdiff_t classes, const RowScale<typename VectorOf<T>::V>& row,
                                     ExpSum<T, VECTORS>& sum, int first) {
    constexpr int W = lanes_of<T>();
    const int whole = (int)(classes / W), count = (int)(classes - whole * W);
    const auto last = [&](auto n) CELOSS_LAMBDA_INLINE {
        constexpr int N = decltype(n)::value;
        exp_of_vectors<T, N, SHIFTED>(x, W, e, W, classes < N * W ? count : W, row, sum, first);
        keep_in_memory();
        add_stored(e, W, N - 1, sum, first);
        if (classes >= N * W) sum.add_stored((first + N - 1) % VECTORS, e + (N - 1) * W);
    };
    switch (whole + (count > 0)) {
    case 1: return last(std::integral_constant<int, 1>());
    case 2: return last(std::integral_constant<int, 2>());
    case 3: return last(std::integral_constant<int, 3>());
    case 4: return last(std::integral_constant<int, 4>());
    }
}

// ---- classes as lanes: one row ---------------------------------------------------------------------------------------

// The batch of a row that holds the class left out, copied with -inf in its place. Made some rows ahead, since a vector load
// waits for a number that has just been stored where it reads.
template <class T> struct PatchedBatch {
    alignas(64) T at[batch_classes<T>()];
    ptrdiff_t begin;  // of the batch in the row; -1: none is left out

    CELOSS_INLINE void patch(const T* x, ptrdiff_t classes, ptrdiff_t left_out) {
        constexpr int W = lanes_of<T>();
        begin = -1;
        if (left_out < 0) return;
        begin = left_out / batch_classes<T>() * batch_classes<T>();
        const ptrdiff_t n = classes - begin;
        for (int k = 0; k < SIDE_VECTORS && k * W < n; ++k) {
            if (n - k * W >= W) store(at + k * W, load(x + begin + k * W));
            else store_first(at + k * W, (int)(n - k * W), load_first(x + begin + k * W, (int)(n - k * W), T(0)));
        }
        at[left_out - begin] = (T)-__builtin_inff();
    }
};

// The exponentials of a row into e (if STORE; else e is room for a chunk), and their sum.
template <class T, bool STORE, bool SHIFTED>
double row_exp_sum(const T* x, T* e, ptrdiff_t classes, const RowScale<typename VectorOf<T>::V> row, T lack,
                   const PatchedBatch<T>& patched, double* low, Fetcher* fetcher) {
    constexpr int W = lanes_of<T>(), BATCH = batch_classes<T>(), CHUNK = CHUNK_VECTORS * W, SUMS = sum_vectors<T>();
    ExpSum<T, SUMS> sum;
    sum.lost[0][0] = lack;
    Fetcher ahead = *fetcher;
    ptrdiff_t j = 0;
    for (; j + CHUNK <= classes; j += CHUNK) {
        ahead.fetch(CHUNK_VECTORS);
        T* to = STORE ? e + j : e;
        UNROLL_8 for (int k = 0; k < CHUNK_VECTORS; k += SIDE_VECTORS) {
            const T* from = j + k * W == patched.begin ? patched.at : x + j + k * W;
            exp_of_vectors<T, SIDE_VECTORS, SHIFTED>(from, W, to + k * W, W, W, row, sum, k);
        }
        keep_in_memory();
        add_stored(to, W, CHUNK_VECTORS, sum, 0);
    }
    ahead.fetch((int)((classes - j + W - 1) / W));
    UNROLL_8 for (int k = 0; k < CHUNK_VECTORS; k += SIDE_VECTORS, j += BATCH) {
        if (j >= classes) break;
        const T* from = j == patched.begin ? patched.at : x + j;
        exp_of_last_batch<T, SHIFTED>(from, STORE ? e + j : e, classes - j < BATCH ? classes - j : BATCH, row, sum, k);
    }
    *fetcher = ahead;
    sum.finish();
    return sum.of_lanes(low);
}

template <class T> void exp_sum_of_rows(const Tile<T>* x, const Tile<T>* e, Fetcher fetcher, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>(), AHEAD = 2, RING = 4;
    PatchedBatch<T> ring[RING];
    alignas(64) T room[CHUNK_VECTORS * W];
    T shift[CELOSS_ROOM_FOR_ROWS], lowest[CELOSS_ROOM_FOR_ROWS], round[CELOSS_ROOM_FOR_ROWS], lack[CELOSS_ROOM_FOR_ROWS];
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        const RowScale<V> rows = row_scale<V, T>(load(r->maximum + i));
        store(shift + i, rows.shift);
        store(lowest + i, rows.lowest);
        store(round + i, rows.round);
        store(lack + i, exp_of_maximum<T>(load(r->maximum + i), rows).lack);
    }
    const int64_t *targets = r->targets, *left_out = r->left_out;
    const auto look = [&](ptrdiff_t i) CELOSS_LAMBDA_INLINE {  // at a row before a result may take its place
        const T* row = x->at + i * x->row_stride;
        if (targets) r->x_target[i] = row[class_or_0(targets[i])];
        const ptrdiff_t k = left_out ? (ptrdiff_t)left_out[i] : -1;
        r->x_left_out[i] = k >= 0 ? row[k] : (T)-__builtin_inff();
        ring[i % RING].patch(row, x->classes, k);
    };
    for (ptrdiff_t i = 0; i < x->rows && i < AHEAD; ++i) look(i);
    for (ptrdiff_t i = 0; i < x->rows; ++i) {
        if (i + AHEAD < x->rows) look(i + AHEAD);
        if (targets && targets[i] < 0) continue;
        const RowScale<V> row = {splat<T>(shift[i]), splat<T>(lowest[i]), splat<T>(round[i]), V{}};
        const auto sum = e->at           ? shift[i] != 0 ? row_exp_sum<T, true, true> : row_exp_sum<T, true, false>
                         : shift[i] != 0 ? row_exp_sum<T, false, true>
                                         : row_exp_sum<T, false, false>;
        r->others.high[i] =
            sum(x->at + i * x->row_stride, e->at ? e->at + i * e->row_stride : room, x->classes, row,
                left_out && r->x_left_out[i] < r->maximum[i] ? lack[i] : T(0), ring[i % RING], r->others.low + i, &fetcher);
    }
}

// ---- rows as lanes: one vector holds the same class of many rows ---------------------------------------------------------

template <class T, bool SHIFTED>
CELOSS_INLINE void exp_sum_of_lanes(const Tile<T>* x, const Tile<T>* e, ptrdiff_t i, const RowScale<typename VectorOf<T>::V> row,
                                    Fetcher& fetcher, Rows<T>* r) {
    constexpr int W = lanes_of<T>();
    alignas(64) T room[SIDE_VECTORS * W];
    const T* from = x->at + i;
    T* to = e->at ? e->at + i : room;
    const ptrdiff_t stride = x->class_stride, to_stride = e->at ? e->class_stride : W,
                    to_step = e->at ? SIDE_VECTORS * to_stride : 0;
    ExpSum<T, 1> sum;
    sum.lost[0] = lack_of_rows<T>(i, row, r);
    ptrdiff_t j = 0;
    const auto batch = [&](auto n) CELOSS_LAMBDA_INLINE {
        constexpr int N = decltype(n)::value;
        fetcher.fetch(N);
        exp_of_vectors<T, N, SHIFTED>(from, stride, to, to_stride, W, row, sum, 0);
        keep_in_memory();
        add_stored(to, to_stride, N, sum, 0);
    };
    for (; j + SIDE_VECTORS <= x->classes; j += SIDE_VECTORS, from += SIDE_VECTORS * stride, to += to_step)
        batch(std::integral_constant<int, SIDE_VECTORS>());
    switch (x->classes - j) {
    case 3: batch(std::integral_constant<int, 3>()); break;
    case 2: batch(std::integral_constant<int, 2>()); break;
    case 1: batch(std::integral_constant<int, 1>()); break;
    }
    sum.finish();
    sum.put(r->others, i);
}

// Of few classes, by looking at all: one number at a place of its own for each row takes longer.
template <class T> CELOSS_INLINE void leave_out_of_few(const Tile<T>* x, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::Int Int;
    for (ptrdiff_t i = 0; i < x->rows; i += lanes_of<T>()) {
        const auto wanted = class_or_0(load_targets<T>(r->left_out + i));
        T* at = x->at + i;
        V left_out{};
        for (ptrdiff_t j = 0; j < x->classes; ++j, at += x->class_stride) {
            const V v = load(at);
            left_out = select(wanted == (Int)j, v, left_out);
            store(at, select(wanted == (Int)j, minus_infinity<T>(), v));
        }
        store(r->x_left_out + i, left_out);
    }
}

// A tile with rows as lanes is scratch: a class is left out by -inf in it. Of a row that is ignored or has no argmax, class 0.
template <class T> void leave_out_of_lanes(const Tile<T>* x, Rows<T>* r) {
    T *const at = x->at, *const left_out = r->x_left_out;
    const ptrdiff_t rows = x->rows, stride = x->class_stride;
    if (r->targets && r->left_out != r->targets) {
        const PlacesOfClasses places(r->targets, rows, stride);
        for (ptrdiff_t i = 0; i < rows; ++i) r->x_target[i] = at[places.of_row[i]];
    }
    if (!r->left_out) {
        for (ptrdiff_t i = 0; i < rows; ++i) left_out[i] = (T)-__builtin_inff();
    } else if (x->classes <= FEW_CLASSES) {
        leave_out_of_few(x, r);
    } else {
        const PlacesOfClasses places(r->left_out, rows, stride);
        for (ptrdiff_t i = 0; i < rows; ++i) left_out[i] = at[places.of_row[i]];
        for (ptrdiff_t i = 0; i < rows; ++i) at[places.of_row[i]] = (T)-__builtin_inff();
    }
}

// ---- of either orientation -------------------------------------------------------------------------------------------

// The exponential of the class left out. Further below the maximum than this it is taken here, where it is nothing in a sum
// with the maximum's; the rest of the distance is what minus_log begins with.
constexpr double FAR = 512;

// Rows whose ends are worked on together, and so many float64 vectors of them side by side.
constexpr int END_VECTORS = CELOSS_VECTOR_BYTES == 16 ? 4 : 2;
constexpr int END_ROWS = END_VECTORS * lanes_of<double>();
template <class T> constexpr int end_rows() { return sizeof(T) == 4 ? END_ROWS : lanes_of<double>(); }
static_assert(CELOSS_BLOCK_ROWS + END_ROWS <= CELOSS_ROOM_FOR_ROWS, "per-row arrays have room for a group behind the last row");

// Also shift and steps.
CELOSS_INLINE void exp_left_out(ptrdiff_t i, Rows<float>* r) {
    typedef Side<F64, END_VECTORS> V;
    const auto maximum = load_side<END_VECTORS / 2>(r->maximum + i);
    const auto scale = row_scale<Side<F32, END_VECTORS / 2>, float>(maximum);
    const V m = widen(maximum), shift = select(absolute(m) < V{} + (double)ExpConstants<float>::unshifted, V{}, m);
    const V x = widen(load_side<END_VECTORS / 2>(r->x_left_out + i)) - shift, near = max_or_nan((m - shift) - FAR, x);
    store_side(r->e_left_out.high + i, exp_in_row_to_39_bits<float>(near, widen(scale.steps)));
    store_side(r->minus_log.high + i, near - x);
    store_side(r->shift + i, scale.shift);
    store_side(r->steps + i, scale.steps);
}
CELOSS_INLINE void exp_left_out(ptrdiff_t i, Rows<double>* r) {
    const F64 m = load(r->maximum + i);
    const auto scale = row_scale<F64, double>(m);
    const HighLow x = difference<double>(load(r->x_left_out + i), scale.shift);  // exact where it is not far
    const F64 near = max_or_nan((m - scale.shift) - FAR, x.high);
    store_number(r->e_left_out, i, exp_in_row_with_error(near, scale.steps));
    store_number(r->minus_log, i, sum_of(HighLow(near), -x));
    store(r->shift + i, scale.shift);
    store(r->steps + i, scale.steps);
}

// A maximum without others has the probability 1, exactly: what counts is then its exponential as it is stored.
template <class T> void round_if_alone(ptrdiff_t n, Rows<T>* r) {
    for (ptrdiff_t i = 0; i < n; ++i)
        if (r->others.high[i] == 0) r->e_left_out.high[i] = (double)(T)r->e_left_out.high[i], r->e_left_out.low[i] = 0;
}

template <class T> void exp_left_out_of_rows(ptrdiff_t n, Rows<T>* r) {
    for (ptrdiff_t i = 0; i < n; i += end_rows<T>()) exp_left_out(i, r);
    if (r->left_out == r->argmax) round_if_alone(n, r);
}

template <class T> void exp_sum(const Tile<T>* x, const Tile<T>* e, const Ahead* ahead, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    Fetcher fetcher = {*ahead};
    if (has_rows_as_lanes(x)) {
        leave_out_of_lanes(x, r);
        for (ptrdiff_t i = 0; i < x->rows; i += lanes_of<T>()) {
            const RowScale<V> row = row_scale<V, T>(load(r->maximum + i));
            if (any_lane(row.shift != V{})) exp_sum_of_lanes<T, true>(x, e, i, row, fetcher, r);
            else exp_sum_of_lanes<T, false>(x, e, i, row, fetcher, r);
        }
    } else {
        exp_sum_of_rows(x, e, fetcher, r);
    }
    exp_left_out_of_rows(x->rows, r);
    if (r->left_out == r->argmax && e->at) put(e, r->argmax, r->e_left_out.high);
}

// ---- pieces of long rows -----------------------------------------------------------------------------------------------

// What the exponentials of each of n pieces are multiplied with to be the row's, times 2^64, and its rounding error. Pieces are
// exponentiated as rows of their own: mostly with no shift, so that this is a power of two.
inline void ratios_of_pieces(ptrdiff_t n, const double* shift, const double* steps, double row_shift, double row_steps,
                             double* high, double* low) {
    each_vector<double>(n, [&](ptrdiff_t i, int count) {
        const F64 d = load_count(shift + i, count) - row_shift, less_steps = row_steps - load_count(steps + i, count);
        const M64 nothing = !(fma(d, F64{} + ExpConstants<double>::log2e, -less_steps) > -1084.0);  // of what is normal
        const HighLow ratio = exp_in_row_with_error(select(nothing, F64{}, d), select(nothing, F64{}, less_steps));
        store_count(high + i, count, select(nothing, F64{}, ratio.high));
        store_count(low + i, count, select(nothing, F64{}, ratio.low));
    });
}

// Times a power of two; where that is no normal number of T, in two steps.
template <class T> void times_power(const Tile<T>* e, int power) {
    constexpr int least = sizeof(T) == 4 ? -126 : -1022;
    const int first = power < least ? least : power, second = power - first < least ? least : power - first;
    const T a = (T)__builtin_ldexp(1.0, first), b = (T)__builtin_ldexp(1.0, second);
    each_vector<T>(e->classes, [&](ptrdiff_t j, int count) {
        store_count(e->at + j, count, load_count(e->at + j, count) * splat<T>(a) * splat<T>(b));
    });
}

}  // namespace
