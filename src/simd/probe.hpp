// probe.hpp: the functions that the operations are made of, one number at a time, so that the tests reach them.
#pragma once

#include "contract.h"
#include "exp_log.hpp"
#include "number.hpp"
#include "scores.hpp"
#include "softcap.hpp"
#include "vector.hpp"

namespace {

template <class T> void probe(int function, ptrdiff_t n, const T* const in[4], T* high, T* low) {
    typedef typename VectorOf<T>::V V;
    each_vector<T>(n, [&](ptrdiff_t i, int count) {
        const V x = load_count(in[0] + i, count), y = load_count(in[1] + i, count);
        Parts<V> result{};
        switch (function) {
        case EXP: {
            const ExpParts<V> e = exp_parts<T>(x, row_scale<V, T>(y));
            result = {e.value, e.error};
            break;
        }
        case EXP_OF_MAXIMUM: {
            const auto e = exp_of_maximum<T>(x, row_scale<V, T>(x));
            result = {e.value, e.error + e.lack};
            break;
        }
        case TANH: {
            const auto both = softened<T>(x, SoftCap<T>(1.0, 1.0));
            result = {both.value, both.slope};
            break;
        }
        case LOG1P_OF_EXP: result = Score<T>(x, row_scale<V, T>(V{})).log1p(); break;
        case LESS_LIKELY: result = Score<T>(x, row_scale<V, T>(V{})).less_likely(); break;
        }
        if constexpr (sizeof(T) == 8) {
            const HighLow rest = {x, load_count(in[2] + i, count)}, unit = {y, load_count(in[3] + i, count)};
            switch (function) {
            case EXP_IN_ROW: {
                const HighLow e = exp_in_row_with_error(x, y);
                result = {e.high, e.low};
                break;
            }
            case LOG_AND_INVERSE: {
                const auto both = log_and_inverse(x, y);
                result = {both.log, both.inverse};
                break;
            }
            case LOG1P_RATIO: result = {log1p_ratio<false>(rest, unit).high, V{}}; break;
            case LOG1P_RATIO_EXACT: {
                const HighLow logarithm = log1p_ratio<true>(rest, unit);
                result = {logarithm.high, logarithm.low};
                break;
            }
            case EXP_WITH_ERROR: {
                const HighLow e = exp_with_error({x, y});
                result = {e.high, e.low};
                break;
            }
            case EXP_TO_39_BITS: result = {exp_to_39_bits(x), V{}}; break;
            }
        }
        store_count(high + i, count, result.high);
        store_count(low + i, count, result.low);
    });
}

}  // namespace
