// zero_one.hpp: the classification error of rows whose argmax is known.
#pragma once

#include "contract.h"
#include "targets.hpp"
#include "vector.hpp"

namespace {

// The sum of a row of probabilities over all classes but one.
template <class T> double mass_without(const Tile<T>* q, ptrdiff_t row, int64_t excluded) {
    const T* from = q->at + row * q->row_stride;
    double sum[4] = {0, 0, 0, 0};
    for (ptrdiff_t j = 0; j < q->classes; ++j)
        if (j != excluded) sum[j % 4] += (double)from[j * q->class_stride];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// s_n where the class of the maximum is wrong; with probabilities times what the others hold of them. NaN: a row that decides
// nothing.
template <class T> void zero_one(ptrdiff_t n, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    constexpr int W = lanes_of<double>();
    if (o->probabilities)
        for (ptrdiff_t i = 0; i < n; ++i) r->loss[i] = mass_without(q, i, r->argmax[i]);
    for (ptrdiff_t i = 0; i < n; i += W) {
        const M64 found = load_classes(r->argmax + i);
        const F64 s = option_of_rows(o->sample_weight, i, (int)(n - i < W ? n - i : W));
        F64 loss;
        if (o->probabilities) loss = load(r->loss + i) * s;
        else loss = select(found != load_classes(r->targets + i), s, F64{});
        loss = select(found < 0, F64{} + (double)__builtin_nanf(""), loss);
        store(r->loss + i, select(ignored_rows(r->targets, i) | (s == 0.0), F64{}, loss));
    }
}

}  // namespace
