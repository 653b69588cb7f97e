// maximum.hpp: the maximum of each row, and the first class that attains it.
#pragma once

#include "contract.h"
#include "layout.hpp"
#include "vector.hpp"

namespace {

template <class T> CELOSS_INLINE typename VectorOf<T>::V minus_infinity() { return splat<T>(-__builtin_inff()); }

// The larger of 2 or 4 vectors, lane by lane.
template <class V> CELOSS_INLINE V larger_of(V a, V b) { return max_or_nan(a, b); }
template <class V> CELOSS_INLINE V larger_of(V a, V b, V c, V d) { return max_or_nan(max_or_nan(a, b), max_or_nan(c, d)); }

// ---- classes as lanes: one row ---------------------------------------------------------------------------------------

// The maximum of a row. NaNs are passed over, or not.
template <class T> CELOSS_INLINE T row_maximum(const T* x, ptrdiff_t classes) {
    constexpr int W = lanes_of<T>();
    auto best = minus_infinity<T>(), other = best;
    ptrdiff_t j = 0;
    for (; j + 4 * W <= classes; j += 4 * W) {
        best = larger_of(best, larger_of(load(x + j), load(x + j + W)));
        other = larger_of(other, larger_of(load(x + j + 2 * W), load(x + j + 3 * W)));
    }
    for (; j + W <= classes; j += W) best = larger_of(best, load(x + j));
    if (j < classes) other = larger_of(other, load_first(x + j, (int)(classes - j), (T)-__builtin_inff()));
    return max_lanes<T>(larger_of(best, other));
}

// Whether a row has a NaN.
template <class T> bool has_nan(const T* x, ptrdiff_t classes) {
    for (ptrdiff_t j = 0; j < classes; ++j)
        if (x[j] != x[j]) return true;
    return false;
}

// Where m comes first in a group of 8 vectors, or what there is of one. Nothing here depends on where that is: a branch would be
// guessed wrong.
template <class T> CELOSS_INLINE ptrdiff_t first_equal(const T* x, ptrdiff_t classes, T m) {
    constexpr int W = lanes_of<T>(), HALF = 4 * W;
    uint64_t low = 0, high = (uint64_t)1 << 63;
    if (classes >= 8 * W) {
        UNROLL_4 for (int k = 0; k < 4; ++k) {
            low |= bits_of_lanes<T>(load(x + k * W) == splat<T>(m)) << (k * W);
            high |= bits_of_lanes<T>(load(x + HALF + k * W) == splat<T>(m)) << (k * W);
        }
    } else {
        for (int k = 0; k < 8 && k * W < classes; ++k) {
            const ptrdiff_t left = classes - k * W;
            const auto v = left >= W ? load(x + k * W) : load_first(x + k * W, (int)left, (T)-__builtin_inff());
            (k < 4 ? low : high) |= bits_of_lanes<T>(v == splat<T>(m)) << (k % 4 * W);
        }
    }
    const uint64_t found = low ? low : high;
    return __builtin_ctzll(found) + (low ? 0 : HALF);
}

// The same, and the first class that attains it: -1 if it is infinite or a NaN. NANS: also if there is a NaN anywhere; else whatever
// there is in a row with a NaN.
//
// One pass: vectors in groups of 8, and of each lane the group in which its maximum came first. Sums of 0 * x tell whether to look
// for a NaN, which a later maximum may hide: they are NaN where x is NaN or infinite.
template <class T, bool NANS> T row_argmax(const T* x, ptrdiff_t classes, int64_t* argmax) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>(), GROUP = 8;
    V best = minus_infinity<T>(), zero[2] = {};
    M group_of_best{};
    ptrdiff_t j = 0;
    for (; j + GROUP * W <= classes; j += GROUP * W) {
        V v[GROUP];
        // 10 to 20 % on rows from memory, where there is no other pass over them.
        if (NANS) UNROLL_8 for (int k = 0; k < GROUP; ++k) __builtin_prefetch((const char*)(x + j + k * W) + PREFETCH_AHEAD);
        UNROLL_8 for (int k = 0; k < GROUP; ++k) v[k] = load(x + j + k * W);
        if (NANS) UNROLL_8 for (int k = 0; k < GROUP; ++k) zero[k & 1] = fma(v[k], V{}, zero[k & 1]);
        const V group = larger_of(larger_of(v[0], v[1], v[2], v[3]), larger_of(v[4], v[5], v[6], v[7]));
        group_of_best = (group > best) ? M{} + (Int)(j / (GROUP * W)) : group_of_best;
        best = larger_of(best, group);
    }
    V tail = minus_infinity<T>();
    const ptrdiff_t tail_at = j;
    for (; j + W <= classes; j += W) {
        const V v = load(x + j);
        if (NANS) zero[0] = fma(v, V{}, zero[0]);
        tail = larger_of(tail, v);
    }
    if (j < classes) {
        const int count = (int)(classes - j);
        if (NANS) zero[0] = fma(load_first(x + j, count, T(0)), V{}, zero[0]);
        tail = larger_of(tail, load_first(x + j, count, (T)-__builtin_inff()));
    }
    T m = max_lanes<T>(tail);
    ptrdiff_t group_at = tail_at;
    if (tail_at) {
        const T in_groups = max_lanes<T>(best);
        if (!(m > in_groups)) {
            // The lowest group among the lanes that hold the maximum (group 0 where a NaN hides it).
            if (tail_at == GROUP * W) group_at = 0;
            else {
                const M candidate = (best == in_groups) ? group_of_best : M{} + (Int)(tail_at / (GROUP * W));
                group_at = lowest_lane<T>(candidate) * (GROUP * W);
            }
            m = in_groups;
        }
    }
    *argmax = -1;
    if (!(m - m == 0)) return m;
    if (NANS) {
        const V zeros = zero[0] + zero[1];
        if (any_lane(zeros != zeros) && has_nan(x, classes)) return m;
    }
    const ptrdiff_t found = group_at + first_equal<T>(x + group_at, classes - group_at, m);
    if (found < classes) *argmax = (int64_t)found;
    return m;
}

// ---- rows as lanes: one vector holds the same class of many rows -------------------------------------------------------

template <class T> void maximum_of_lanes(const Tile<T>* x, Rows<T>* r) {
    const ptrdiff_t stride = x->class_stride;
    for (ptrdiff_t i = 0; i < x->rows; i += lanes_of<T>()) {
        const T* at = x->at + i;
        auto best = load(at), other = best;
        ptrdiff_t j = 1;
        for (; j + 4 <= x->classes; j += 4) {
            best = larger_of(best, larger_of(load(at + j * stride), load(at + (j + 1) * stride)));
            other = larger_of(other, larger_of(load(at + (j + 2) * stride), load(at + (j + 3) * stride)));
        }
        for (; j < x->classes; ++j) best = larger_of(best, load(at + j * stride));
        store(r->maximum + i, larger_of(best, other));
    }
}

template <class T, bool NANS> void argmax_of_lanes(const Tile<T>* x, Rows<T>* r) {
    typedef int64_t Classes __attribute__((vector_size(8 * lanes_of<T>())));
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    for (ptrdiff_t i = 0; i < x->rows; i += W) {
        V best = load(x->at + i), zero = best * V{};
        M found{};
        for (ptrdiff_t j = 1; j < x->classes; ++j) {
            const V v = load(x->at + j * x->class_stride + i);
            if (NANS) zero = fma(v, V{}, zero);
            found = (v > best) ? M{} + (Int)j : found;
            best = larger_of(best, v);
        }
        M bad = best - best != V{};
        if (NANS && any_lane(zero != zero))  // infinite, or a NaN that a later maximum may hide
            for (ptrdiff_t j = 0; j < x->classes; ++j) {
                const V v = load(x->at + j * x->class_stride + i);
                bad |= v != v;
            }
        found |= bad;
        store(r->maximum + i, best);
        const Classes classes = __builtin_convertvector(found, Classes);
        __builtin_memcpy(r->argmax + i, &classes, sizeof classes);
    }
}

// ---- of either orientation -------------------------------------------------------------------------------------------

template <class T> void maximum(const Tile<T>* x, Rows<T>* r) {
    if (has_rows_as_lanes(x)) return maximum_of_lanes(x, r);
    for (ptrdiff_t i = 0; i < x->rows; ++i)
        if (!r->targets || r->targets[i] >= 0) r->maximum[i] = row_maximum(x->at + i * x->row_stride, x->classes);
}

template <class T, bool NANS> void argmax(const Tile<T>* x, Rows<T>* r) {
    if (has_rows_as_lanes(x)) return argmax_of_lanes<T, NANS>(x, r);
    for (ptrdiff_t i = 0; i < x->rows; ++i) {
        r->argmax[i] = -1;
        if (!r->targets || r->targets[i] >= 0)
            r->maximum[i] = row_argmax<T, NANS>(x->at + i * x->row_stride, x->classes, r->argmax + i);
    }
}

}  // namespace
