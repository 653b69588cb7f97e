// row_groups.hpp: one body for tiles of both orientations, in float64 lanes. For passes whose time is their arithmetic.
#pragma once

#include "contract.h"
#include "layout.hpp"
#include "number.hpp"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// What a pass over a tile works on at a time, from row `row` on: vectors of one row's classes, or (ROWS_AS_LANES) of as many
// rows as a vector has lanes, class by class.
template <class T, bool ROWS_AS_LANES> struct RowGroup {
    typedef Number<T> N;
    static constexpr int W = lanes_of<double>();
    typedef Sum<T, ROWS_AS_LANES ? 1 : SUM_VECTORS> RowSum;  // over the classes
    ptrdiff_t row;

    // Between one class and the next, known to the compiler where it is 1.
    CELOSS_INLINE ptrdiff_t stride(ptrdiff_t class_stride) const { return ROWS_AS_LANES ? class_stride : 1; }
    // A number of each row's own.
    CELOSS_INLINE N own(const PerRow& a) const {
        if constexpr (ROWS_AS_LANES) return load_number<T>(a, row);
        else return number<T>(splat(a.high[row]), splat(a.low[row]));
    }
    // The same with its rounding error, which for float32 stands there too.
    CELOSS_INLINE HighLow own_in_two_parts(const PerRow& a) const {
        if constexpr (ROWS_AS_LANES) return {load(a.high + row), load(a.low + row)};
        else return {splat(a.high[row]), splat(a.low[row])};
    }
    template <class A> CELOSS_INLINE F64 own(const A* a) const {
        return ROWS_AS_LANES ? load_wide(a + row, W) : splat((double)a[row]);
    }
    CELOSS_INLINE void put_sum(const RowSum& sum, PerRow& a) const {
        if constexpr (ROWS_AS_LANES) store_number(a, row, sum.of_vector(0));
        else a.high[row] = sum.of_lanes(a.low + row);
    }
    // f(vector of the sum, class, lanes in use) for each vector.
    template <class F> CELOSS_INLINE void each(ptrdiff_t classes, F f) const {
        if constexpr (ROWS_AS_LANES)
            for (ptrdiff_t j = 0; j < classes; ++j) f(0, j, W);
        else each_wide_vector(classes, f);
    }
    // A number of each class's own.
    CELOSS_INLINE F64 of_class(const double* a, ptrdiff_t j, int count) const {
        return ROWS_AS_LANES ? splat(a[j]) : load_wide(a + j, count);
    }
    // The lanes of the vector at class j that are in use and are not of class but_i.
    CELOSS_INLINE M64 others(ptrdiff_t j, int count, const int64_t* but) const {
        if constexpr (ROWS_AS_LANES) return load_classes(but + row) != j;
        M64 used = ~M64{};
        if (count < W) used = first_lanes<double>(count);
        if (but[row] - j < W && but[row] >= j) used &= lane_numbers<double>() + j != but[row];
        return used;
    }
};

// pass(RowGroup) over the rows of a tile; those that are ignored may be passed over.
template <class T, class A, class Pass> CELOSS_INLINE void each_group(const Tile<A>* tile, const int64_t* targets, Pass pass) {
    if (has_rows_as_lanes(tile))
        for (ptrdiff_t i = 0; i < tile->rows; i += lanes_of<double>()) pass(RowGroup<T, true>{i});
    else
        for (ptrdiff_t i = 0; i < tile->rows; ++i)
            if (!targets || targets[i] >= 0) pass(RowGroup<T, false>{i});
}

}  // namespace
