// layout.hpp: where rows lie in the user's arrays, and how they can be worked on. Plain C++: the kernels use it as it is.
#pragma once

#include "contract.h"

namespace {

constexpr ptrdiff_t item_size(int storage) { return storage == STORED_FLOAT64 ? 8 : storage == STORED_FLOAT32 ? 4 : 2; }
// Whether numbers are stored in the arithmetic type.
template <class T> constexpr bool is_native(int storage) { return storage == (sizeof(T) == 8 ? STORED_FLOAT64 : STORED_FLOAT32); }
template <class T> constexpr bool is_native(int storage, const T*) { return is_native<T>(storage); }

template <class T> constexpr bool has_rows_as_lanes(const Tile<T>* tile) { return tile->class_stride != 1; }

// Rows up to the next whole group: those of a tile with rows as lanes.
constexpr ptrdiff_t whole_groups(ptrdiff_t rows) {
    return (rows + CELOSS_LANE_GROUP - 1) / CELOSS_LANE_GROUP * CELOSS_LANE_GROUP;
}

// Rows x classes numbers of scratch.
template <class T> Tile<T> tile_at(T* memory, ptrdiff_t rows, ptrdiff_t classes, bool rows_as_lanes) {
    if (rows_as_lanes) return {memory, 1, whole_groups(rows), rows, classes};
    return {memory, classes, 1, rows, classes};
}

// Numbers of memory that such a tile takes.
constexpr ptrdiff_t numbers_of_tile(ptrdiff_t rows, ptrdiff_t classes, bool rows_as_lanes) {
    return (rows_as_lanes ? whole_groups(rows) : rows) * classes;
}

// Where row (outer, inner) of an array begins, in bytes from `at`, and how its classes follow.
struct Layout {
    char* at;                      // null: there is no such array
    const int64_t* outer_offsets;  // null: outer * outer_stride
    ptrdiff_t outer_stride, inner_stride, class_stride;
    int storage;
    bool unaligned;  // some outer row may begin between two multiples of the number's size
};

inline bool is_class_after_class(const Layout& a) { return a.class_stride == item_size(a.storage); }

// The matrix of the rows from (outer, inner) on, from a class on.
inline Matrix matrix_at(const Layout& a, ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t first_class) {
    const ptrdiff_t offset = a.outer_offsets ? (ptrdiff_t)a.outer_offsets[outer] : outer * a.outer_stride;
    return {a.at + offset + inner * a.inner_stride + first_class * a.class_stride, a.inner_stride, a.class_stride, a.storage};
}

// Whether the kernel can work in the array itself: class after class, in the arithmetic type (that of the pointer), aligned.
template <class T> bool is_direct(const Layout& a, const T*) {
    const ptrdiff_t size = sizeof(T);
    return a.at && is_native<T>(a.storage) && a.class_stride == size && a.inner_stride % size == 0 && (size_t)a.at % size == 0 &&
           !a.unaligned;
}

// A tile of the array itself: the rows of `tile`, from (outer, inner) and a class on.
template <class T> void work_in_place(const Layout& a, ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t first_class, Tile<T>* tile) {
    tile->at = (T*)matrix_at(a, outer, inner, first_class).at;
    tile->row_stride = a.inner_stride / (ptrdiff_t)sizeof(T);
}

// What comes next: `count` numbers of each array from (outer, inner) and a class on. Of x nothing, and so of none, where they do
// not follow one another without a gap; `row`: the bytes from one row to the next, where that has to be so of rows.
inline Ahead ahead_at(const Layout& x, const Layout& v, const Layout& g, const Layout& h, ptrdiff_t outer, ptrdiff_t inner,
                      ptrdiff_t first_class, ptrdiff_t count, ptrdiff_t row) {
    const auto at = [=](const Layout& a) {
        const bool follows = a.at && is_class_after_class(a) && (row == 0 || a.inner_stride == row);
        return follows ? matrix_at(a, outer, inner, first_class).at : nullptr;
    };
    if (count <= 0 || !at(x)) return {nullptr, nullptr, nullptr, nullptr, 0};
    return {at(x), v.storage == x.storage ? at(v) : nullptr, g.at != x.at ? at(g) : nullptr, h.at != x.at ? at(h) : nullptr,
            count * item_size(x.storage)};
}
inline Ahead ahead_of(const Layout& x, const Layout& v, const Layout& g, const Layout& h, ptrdiff_t outer, ptrdiff_t inner,
                      ptrdiff_t rows, ptrdiff_t classes) {
    return ahead_at(x, v, g, h, outer, inner, 0, rows * classes, classes * item_size(x.storage));
}
// The same of a row: its classes from one on.
inline Ahead ahead_in_row(const Layout& x, const Layout& v, const Layout& g, const Layout& h, ptrdiff_t outer, ptrdiff_t inner,
                          ptrdiff_t first, ptrdiff_t classes) {
    return ahead_at(x, v, g, h, outer, inner, first, classes, 0);
}

// Where some rows, or a piece of one, are worked on.
template <class T> struct Workplace {
    Tile<T> x;          // logits
    Tile<T> q;          // probabilities, or room for them
    Tile<T> g;          // the result, where it is computed; at is null: none is wanted
    Tile<T> e;          // exponentials, if not in place of the result
    Tile<T> v;          // a vector to be multiplied with the Hessian; at is null: none
    Tile<T> h;          // the Hessian's diagonal; at is null: not wanted
    Tile<T> slope;      // of the logits under a cap; at is null: none, or not wanted
    Tile<double> wide;  // room for exponentials in float64
    Ahead ahead;        // what is worked on next
    ptrdiff_t first_class;
    bool stream;      // the second result is written past the cache
    bool has_maxima;  // of softened logits
    bool whole_rows;  // and no piece of one,
    double ratio;     // whose exponentials are the row's times this
};

inline void clear_rows(const Matrix& m, ptrdiff_t rows, ptrdiff_t classes) {
    const ptrdiff_t size = item_size(m.storage);
    if (m.class_stride == size && m.row_stride == size * classes) {
        __builtin_memset(m.at, 0, (size_t)(rows * classes * size));
        return;
    }
    for (ptrdiff_t i = 0; i < rows; ++i) {
        char* row = m.at + i * m.row_stride;
        if (m.class_stride == size) __builtin_memset(row, 0, (size_t)(classes * size));
        else
            for (ptrdiff_t j = 0; j < classes; ++j) __builtin_memset(row + j * m.class_stride, 0, (size_t)size);
    }
}

}  // namespace
