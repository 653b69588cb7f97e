// sums.hpp: sums that are made once for a call or a block, one number after another. Plain C++: the kernels use it as it is.
#pragma once

#include "contract.h"

namespace {

// Four sums side by side: as exact as one, and not held up by one addition after the other.
inline double sum_of_losses(const double* loss, ptrdiff_t n) {
    double sum[4] = {0, 0, 0, 0};
    ptrdiff_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; ++k) sum[k] += loss[i + k];
    for (; i < n; ++i) sum[0] += loss[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// Losses of n rows from `row` on, into an array of float32 or float64.
inline void put_losses(const double* loss, ptrdiff_t n, char* to, int size, ptrdiff_t row) {
    if (size == 8)
        for (ptrdiff_t i = 0; i < n; ++i) ((double*)to)[row + i] = loss[i];
    else
        for (ptrdiff_t i = 0; i < n; ++i) ((float*)to)[row + i] = (float)loss[i];
}

// sum + low += more + more_low; the rounding error goes to `low` (no error is known of an infinite sum).
inline void add_exactly(double* sum, double* low, double more, double more_low) {
    const double total = *sum + more, seen = total - *sum;
    const double error = (*sum - (total - seen)) + (more - seen) + (*low + more_low);
    *sum = total;
    *low = 0;
    if (error == error) {
        *sum = total + error;
        *low = error - (*sum - total);
    }
}

// The shares of targets and smoothing, and the smoothing's mass, each as a number and its rounding error: after class_weight and
// probabilities are set.
inline void set_smoothing(RowOptions* o, double smoothing, ptrdiff_t classes) {
    o->smoothing = smoothing;
    o->soft_targets = o->probabilities || smoothing > 0;
    o->keep = 1;
    o->keep_low = o->add = o->add_low = o->mass = o->mass_low = 0;
    if (smoothing == 0) return;
    const double count = (double)classes;
    double weights = count, low = 0;
    if (o->class_weight) {
        weights = 0;
        for (ptrdiff_t j = 0; j < classes; ++j) {
            const double weight = o->class_weight[j], next = weights + weight, seen = next - weights;
            low += (weights - (next - seen)) + (weight - seen);
            weights = next;
        }
    }
    o->keep = 1 - smoothing;
    o->keep_low = (1 - o->keep) - smoothing;
    o->add = smoothing / count;
    o->add_low = __builtin_fma(-o->add, count, smoothing) / count;
    o->mass = o->add * weights;
    o->mass_low = __builtin_fma(o->add, weights, -o->mass) + (o->add * low + o->add_low * weights);
}

}  // namespace
