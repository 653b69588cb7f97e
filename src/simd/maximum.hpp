// maximum.hpp: the maximum of each row, and the first class that attains it.
#pragma once

#include "contract.h"
#include "layout.hpp"
#include "vector.hpp"

namespace {

// Vectors of a row that are worked on together, here and in exp_sum.hpp, and how many classes that is: groups begin at
// multiples of it.
constexpr int GROUP = 8;
template <class T> constexpr ptrdiff_t group_classes() { return (ptrdiff_t)GROUP * lanes_of<T>(); }

template <class T> CELOSS_INLINE typename VectorOf<T>::V minus_infinity() { return splat<T>(-__builtin_inff()); }

// Whether a row has a NaN.
template <class T> bool has_nan(const T* x, ptrdiff_t classes) {
    for (ptrdiff_t j = 0; j < classes; ++j)
        if (x[j] != x[j]) return true;
    return false;
}

// Of one row: its maximum, and the group of classes in which it comes first; with FIRST also the first class that attains it
// (see Rows).
//
// One pass: vectors in groups, and of each lane the group in which its maximum came first. FIRST: sums of 0 * x tell whether
// to look for a NaN, which a later maximum may hide: they are NaN where x is NaN or infinite.
template <class T, bool FIRST> T row_maximum(const T* x, ptrdiff_t classes, ptrdiff_t* maximum_group, int64_t* argmax) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
    V best = minus_infinity<T>(), zero[2] = {};
    M group_of_best{};
    ptrdiff_t j = 0;
    for (; j + GROUP * W <= classes; j += GROUP * W) {
        V v[GROUP];
        // 10 to 20 % on rows from memory, where there is no other pass over them.
        if (FIRST) UNROLL_8 for (int k = 0; k < GROUP; ++k) __builtin_prefetch((const char*)(x + j + k * W) + PREFETCH_AHEAD);
        UNROLL_8 for (int k = 0; k < GROUP; ++k) v[k] = load(x + j + k * W);
        if (FIRST) UNROLL_8 for (int k = 0; k < GROUP; ++k) zero[k & 1] = fma(v[k], V{}, zero[k & 1]);
        const V group = max_or_nan(max_or_nan(max_or_nan(v[0], v[1]), max_or_nan(v[2], v[3])),
                                   max_or_nan(max_or_nan(v[4], v[5]), max_or_nan(v[6], v[7])));
        group_of_best = (group > best) ? M{} + (Int)(j / group_classes<T>()) : group_of_best;
        best = max_or_nan(best, group);
    }
    V tail = minus_infinity<T>();
    const ptrdiff_t tail_at = j;
    for (; j + W <= classes; j += W) {
        const V v = load(x + j);
        if (FIRST) zero[0] = fma(v, V{}, zero[0]);
        tail = max_or_nan(tail, v);
    }
    if (j < classes) {
        const int count = (int)(classes - j);
        if (FIRST) zero[0] = fma(load_first(x + j, count, T(0)), V{}, zero[0]);
        tail = max_or_nan(tail, load_first(x + j, count, (T)-__builtin_inff()));
    }
    T m = max_lanes<T>(tail);
    *maximum_group = tail_at;
    if (tail_at) {
        const T in_groups = max_lanes<T>(best);
        if (!(m > in_groups)) {
            // The lowest group among the lanes that hold the maximum (group 0 where a NaN hides it).
            const M candidate = (best == in_groups) ? group_of_best : M{} + (Int)(tail_at / group_classes<T>());
            *maximum_group = lowest_lane<T>(candidate) * group_classes<T>();
            m = in_groups;
        }
    }
    if (!FIRST) return m;
    const V zeros = zero[0] + zero[1];
    *argmax = -1;
    if (!(m - m == 0) || (any_lane(zeros != zeros) && has_nan(x, classes))) return m;
    j = *maximum_group;
    for (; j + W <= classes; j += W)
        if (any_lane(load(x + j) == splat<T>(m))) break;
    while (j < classes && !(x[j] == m)) ++j;
    if (j < classes) *argmax = (int64_t)j;
    return m;
}

// Rows as lanes: one vector holds the same class of many rows.
template <class T> void maximum_of_lanes(const Tile<T>* x, Rows<T>* r) {
    for (ptrdiff_t i = 0; i < x->rows; i += lanes_of<T>()) {
        auto best = load(x->at + i);
        for (ptrdiff_t j = 1; j < x->classes; ++j) best = max_or_nan(best, load(x->at + j * x->class_stride + i));
        store(r->maximum + i, best);
    }
}

template <class T> void argmax_of_lanes(const Tile<T>* x, Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    typedef typename VectorOf<T>::M M;
    typedef typename VectorOf<T>::Int Int;
    constexpr int W = lanes_of<T>();
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
        store(r->maximum + i, best);
        for (int k = 0; k < W; ++k) r->argmax[i + k] = found[k];
    }
}

template <class T> void maximum(const Tile<T>* x, Rows<T>* r) {
    if (has_rows_as_lanes(x)) return maximum_of_lanes(x, r);
    for (ptrdiff_t i = 0; i < x->rows; ++i)
        if (!r->targets || r->targets[i] >= 0)
            r->maximum[i] = row_maximum<T, false>(x->at + i * x->row_stride, x->classes, r->maximum_group + i, nullptr);
}

template <class T> void argmax(const Tile<T>* x, Rows<T>* r) {
    if (has_rows_as_lanes(x)) return argmax_of_lanes(x, r);
    for (ptrdiff_t i = 0; i < x->rows; ++i) {
        if (!r->targets || r->targets[i] >= 0)
            r->maximum[i] = row_maximum<T, true>(x->at + i * x->row_stride, x->classes, r->maximum_group + i, r->argmax + i);
        else r->argmax[i] = -1;
    }
}

}  // namespace
