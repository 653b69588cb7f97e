// elementary.hpp: the elementary functions that the kernels are made of, one number at a time, so that the tests reach them.
//
// Includes elementwise.hpp, exp_log.hpp, softmax_ops.hpp and block_ops.h only.
#pragma once

#include "block_ops.h"
#include "elementwise.hpp"
#include "exp_log.hpp"
#include "softmax_ops.hpp"

namespace {

template <class T> void elementary(int function, ptrdiff_t n, const T* const in[4], T* high, T* low) {
    typedef typename VectorOf<T>::V V;
    each_vector<T>(n, [&](ptrdiff_t i, int count) {
        const V x = load_count(in[0] + i, count), y = load_count(in[1] + i, count);
        Parts<V> result{};
        switch (function) {
        case EXP: {
            const ExpParts<V> e = exp_parts<V, T>(x, row_scale<V, T>(y));
            result = {e.value, e.error};
            break;
        }
        case LOG1P_OF_EXP: result = Score<T>(x, row_scale<V, T>(V{})).log1p(); break;
        case LESS_LIKELY: result = Score<T>(x, row_scale<V, T>(V{})).less_likely(); break;
        }
        if constexpr (sizeof(T) == 8) {
            const HighLow rest = {x, load_count(in[2] + i, count)}, unit = {y, load_count(in[3] + i, count)};
            switch (function) {
            case EXP_OF_MAXIMUM: {
                const HighLow e = exp_of_maximum<double>(x, y);
                result = {e.high, e.low};
                break;
            }
            case LOG1P_RATIO: result = {log1p_ratio<false>(rest, unit).high, V{}}; break;
            case LOG1P_RATIO_EXACT: {
                const HighLow logarithm = log1p_ratio<true>(rest, unit);
                result = {logarithm.high, logarithm.low};
                break;
            }
            case EXP_OF_DIFFERENCE: {
                const HighLow e = exp_of_difference({x, y});
                result = {e.high, e.low};
                break;
            }
            case EXP_OF_DISTANCE: result = {exp_of_distance(x), V{}}; break;
            }
        }
        store_count(high + i, count, result.high);
        store_count(low + i, count, result.low);
    });
}

}  // namespace
