// targets.hpp: targets of rows: read, counted, and what they and the options weigh, one row a lane.
#pragma once

#include "contract.h"
#include "layout.hpp"
#include "number.hpp"
#include "vector.hpp"

namespace {

template <class I> ptrdiff_t count_other_than(const I* target, ptrdiff_t n, int64_t value) {
    if ((int64_t)(I)value != value) return n;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; ++i) count += target[i] != (I)value;
    return count;
}

template <class I>
int read_targets(const I* target, const double* sample_weight, ptrdiff_t n, int64_t ignore_index, int64_t classes, int64_t* out) {
    int64_t kept = 0, ignored = 0, outside = 0;
    // The array may change under the call: this is the only look at it.
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = (int64_t)target[i];
    keep_in_memory();
    if (sample_weight)
        for (ptrdiff_t i = 0; i < n; ++i) out[i] = sample_weight[i] == 0 ? ignore_index : out[i];
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

// The class, or 0 where there is none (-1).
CELOSS_INLINE ptrdiff_t class_or_0(int64_t target) { return (ptrdiff_t)(target & ~(target >> 63)); }
template <class M> CELOSS_INLINE M class_or_0(M targets) { return targets < 0 ? M{} : targets; }

// Up to so many classes, what is done at each row's class is done by looking at all of them: measured, see docs/design.md.
constexpr ptrdiff_t FEW_CLASSES = 4;
// Where in a tile with rows as lanes each row's class stands. (Such tiles are small: 256 rows of 127 classes.)
struct PlacesOfClasses {
    int32_t of_row[CELOSS_ROOM_FOR_ROWS];
    CELOSS_INLINE PlacesOfClasses(const int64_t* classes, ptrdiff_t rows, ptrdiff_t class_stride) {
        const int32_t stride = (int32_t)class_stride;
        for (int32_t i = 0; i < (int32_t)rows; ++i) of_row[i] = (int32_t)class_or_0(classes[i]) * stride + i;
    }
};

// Classes of the rows from `from` on, one a lane.
CELOSS_INLINE M64 load_classes(const int64_t* from) {
    M64 classes;
    __builtin_memcpy(&classes, from, sizeof classes);
    return classes;
}

// The same in lanes of T.
template <class T> CELOSS_INLINE typename VectorOf<T>::M load_targets(const int64_t* target) {
    typedef int64_t Wide __attribute__((vector_size(8 * lanes_of<T>())));
    Wide wide;
    __builtin_memcpy(&wide, target, sizeof wide);
    return __builtin_convertvector(wide, typename VectorOf<T>::M);
}

// Of the first `count` rows from i on; 1 where the option is not given.
CELOSS_INLINE F64 option_of_rows(const double* option, ptrdiff_t i, int count) {
    if (!option) return F64{} + 1.0;
    return count >= lanes_of<double>() ? load(option + i) : load_first(option + i, count, 0.0);
}

// w_t of the first `count` rows from i on; 1 without weights, and anything where a row is ignored.
CELOSS_INLINE F64 weight_of_targets(const int64_t* targets, const RowOptions* o, ptrdiff_t i, int count) {
    if (!targets || !o->class_weight) return F64{} + 1.0;
    double weight[lanes_of<double>()] = {};
    if (count >= lanes_of<double>()) {
        M64 target;
        __builtin_memcpy(&target, targets + i, sizeof target);
        return gather(o->class_weight, target & ~(target >> 63));
    }
    for (int k = 0; k < count; ++k) weight[k] = o->class_weight[targets[i + k] & ~(targets[i + k] >> 63)];
    return load(weight);
}

CELOSS_INLINE M64 ignored_rows(const int64_t* targets, ptrdiff_t i) {
    M64 target{};
    if (targets) __builtin_memcpy(&target, targets + i, sizeof target);
    return target < 0;
}

// at_i at the place of row i, of rows as lanes.
template <class T> void put(const Tile<T>* g, const PlacesOfClasses& places, const double* at) {
    T value[CELOSS_ROOM_FOR_ROWS];
    for (ptrdiff_t i = 0; i < g->rows; ++i) value[i] = (T)at[i];
    T* const to = g->at;
    for (ptrdiff_t i = 0; i < g->rows; ++i) to[places.of_row[i]] = value[i];
}

// at_i at class_i, or, of a row that has none (-1), at class 0: a row that is ignored, or is NaN throughout.
template <class T> void put(const Tile<T>* g, const int64_t* class_of, const double* at) {
    typedef typename VectorOf<T>::Int Int;
    T* const to = g->at;
    const ptrdiff_t rows = g->rows, row_stride = g->row_stride, class_stride = g->class_stride;
    if (!has_rows_as_lanes(g)) {
        for (ptrdiff_t i = 0; i < rows; ++i) to[i * row_stride + class_or_0(class_of[i]) * class_stride] = (T)at[i];
    } else if (g->classes <= FEW_CLASSES) {
        for (ptrdiff_t i = 0; i < rows; i += lanes_of<T>()) {
            const auto wanted = load_targets<T>(class_of + i);
            const auto there = load_narrowed<T>(at + i);
            T* lanes = to + i;
            for (ptrdiff_t j = 0; j < g->classes; ++j, lanes += class_stride)
                store(lanes, select(class_or_0(wanted) == (Int)j, there, load(lanes)));
        }
    } else {
        put(g, PlacesOfClasses(class_of, rows, class_stride), at);
    }
}

// The sum of s_n w_t over n rows, but those that are ignored.
inline double sum_of_weights(ptrdiff_t n, const int64_t* targets, const RowOptions* o) {
    F64 sum[SUM_VECTORS]{};
    each_wide_vector(n, [&](int k, ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        const F64 weight = option_of_rows(o->sample_weight, i, count) * weight_of_targets(targets, o, i, count);
        sum[k] += select(ignored_rows(targets, i) | ~first_lanes<double>(count), F64{}, weight);
    });
    return sum_of_lanes(sum);
}

}  // namespace
