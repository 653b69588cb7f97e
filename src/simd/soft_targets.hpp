// soft_targets.hpp: what smoothing or probabilities add to a row: their sums over the logits, and their gradient.
//
// All in float64, where m - x, weights and products would else show.
#pragma once

#include "contract.h"
#include "layout.hpp"
#include "number.hpp"
#include "row_groups.hpp"
#include "vector.hpp"

namespace {

// q' = keep q + add of a vector of numbers q.
template <class T> struct Smoothed {
    typedef Number<T> N;
    const N keep, add;
    const bool as_given;  // without smoothing; for float64 worth a branch
    CELOSS_INLINE explicit Smoothed(const RowOptions* o)
        : keep(number<T>(splat(o->keep), splat(o->keep_low))), add(number<T>(splat(o->add), splat(o->add_low))),
          as_given(sizeof(T) == 8 && o->keep == 1.0) {}
    CELOSS_INLINE N of(F64 q) const { return as_given ? number<T>(q) : multiply_add(number<T>(q), keep, add); }
    CELOSS_INLINE N subtracted_from(N p, const T* q, int count) const { return q ? p - of(load_wide(q, count)) : p; }
};

// What some classes add to mass and gap. Without probabilities and weights, what all have in common comes at the end: the
// share of each, and for float32 also the maximum, since float64 adds up plain logits to far below float32's rounding.
template <class T, bool Q, bool WEIGHT> struct SoftTerms {
    typedef Number<T> N;
    static constexpr bool ALIKE = !Q && !WEIGHT, PLAIN = ALIKE && sizeof(T) == 4;
    N mass, gap;
    CELOSS_INLINE SoftTerms(const Smoothed<T>& with, F64 top, F64 logits, F64 q, F64 weight) : mass{}, gap{} {
        if constexpr (PLAIN) {
            gap = logits;
            return;
        }
        const N distance = difference<T>(top, logits);
        gap = distance;
        if (ALIKE) return;
        mass = Q ? with.of(q) : with.add;
        if (WEIGHT) mass = mass * number<T>(weight);
        gap = select(top_of(mass) == 0.0, N{}, mass * distance);
    }
};

template <class T, bool Q, bool WEIGHT> struct SoftSum {
    typedef Number<T> N;
    Sum<T> mass, gap;
    CELOSS_INLINE void add(SoftTerms<T, Q, WEIGHT> terms) {
        if (Q) mass.add(terms.mass);
        gap.add(terms.gap);
    }
    // Of so many classes in each lane.
    CELOSS_INLINE N total_gap(const Smoothed<T>& with, double classes, F64 top) const {
        typedef SoftTerms<T, Q, WEIGHT> Terms;
        N total = gap.total();
        if constexpr (Terms::PLAIN) total = fma(F64{} + classes, top, -total);
        return Terms::ALIKE ? weighted(with.add, total) : total;
    }
};

// Classes as lanes: one row.
template <class T, bool Q, bool WEIGHT>
void soft_sums_of_row(const Tile<T>& x, const Tile<T>* q_tile, const RowOptions* o, ptrdiff_t row, Rows<T>* r) {
    typedef SoftTerms<T, Q, WEIGHT> Terms;
    constexpr int W = lanes_of<double>();
    const T *from = x.at + row * x.row_stride, *q = Q ? q_tile->at + row * q_tile->row_stride : nullptr;
    const ptrdiff_t classes = x.classes;
    const Smoothed<T> with(o);
    const F64 top = splat((double)r->maximum[row]);
    SoftSum<T, Q, WEIGHT> sum;
    const auto terms = [&](ptrdiff_t j, F64 logits, int count) CELOSS_LAMBDA_INLINE {
        return Terms(with, top, logits, Q ? load_wide(q + j, count) : F64{},
                     WEIGHT ? load_wide(o->class_weight + j, count) : F64{});
    };
    ptrdiff_t j = 0;
    for (; sizeof(T) == 4 && j + 4 * W <= classes; j += 4 * W) {
        const Terms four[4] = {terms(j, load_wide(from + j, W), W), terms(j + W, load_wide(from + j + W, W), W),
                               terms(j + 2 * W, load_wide(from + j + 2 * W, W), W),
                               terms(j + 3 * W, load_wide(from + j + 3 * W, W), W)};
        Terms all = four[0];
        all.mass = (four[0].mass + four[1].mass) + (four[2].mass + four[3].mass);
        all.gap = (four[0].gap + four[1].gap) + (four[2].gap + four[3].gap);
        sum.add(all);
    }
    for (; j < classes; j += W) {
        const int count = (int)(classes - j < W ? classes - j : W);
        const M64 used = first_lanes<double>(count);
        Terms last = terms(j, count < W ? select(used, load_wide(from + j, count), top) : load_wide(from + j, W), count);
        if (count < W) last.mass = select(used, last.mass, Number<T>{});
        sum.add(last);
    }
    if (Q) r->mass.high[row] = add_lanes(sum.mass.total(), r->mass.low + row);
    r->gap.high[row] = add_lanes(sum.total_gap(with, (double)((classes + W - 1) / W), top), r->gap.low + row);
}

// Rows as lanes.
template <class T, bool Q, bool WEIGHT>
void soft_sums_of_lanes(const Tile<T>& x, const Tile<T>* q, const RowOptions* o, ptrdiff_t row, Rows<T>* r) {
    constexpr int W = lanes_of<double>();
    const Smoothed<T> with(o);
    const F64 top = load_wide(r->maximum + row, W);
    SoftSum<T, Q, WEIGHT> sum;
    const T* from = x.at + row;
    for (ptrdiff_t j = 0; j < x.classes; ++j, from += x.class_stride)
        sum.add(SoftTerms<T, Q, WEIGHT>(with, top, load_wide(from, W),
                                        Q ? load_wide(q->at + j * q->class_stride + row, W) : F64{},
                                        WEIGHT ? splat(o->class_weight[j]) : F64{}));
    if (Q) store_number(r->mass, row, sum.mass.total());
    store_number(r->gap, row, sum.total_gap(with, (double)x.classes, top));
}

template <class T, bool Q, bool WEIGHT> void soft_sums_of(const Tile<T>* x, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    if (has_rows_as_lanes(x))
        for (ptrdiff_t i = 0; i < x->rows; i += lanes_of<double>()) soft_sums_of_lanes<T, Q, WEIGHT>(*x, q, o, i, r);
    else
        for (ptrdiff_t i = 0; i < x->rows; ++i)
            if (!r->targets || r->targets[i] >= 0) soft_sums_of_row<T, Q, WEIGHT>(*x, q, o, i, r);
}

template <class T> void soft_sums(const Tile<T>* x, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    const auto sums = o->probabilities  ? o->class_weight ? soft_sums_of<T, true, true> : soft_sums_of<T, true, false>
                      : o->class_weight ? soft_sums_of<T, false, true>
                                        : soft_sums_of<T, false, false>;
    sums(x, q, o, r);
}

// a e - w (q keep + add), where a is the row's coefficient over its sum, and keep and add are the options' times what the row
// subtracts of them. Products a e below the smallest normal number become 0.
template <class T, bool Q, bool WEIGHT>
void soft_gradient_of(const Tile<T>* e, const Tile<T>* g, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    const Smoothed<T> with(o);
    for (ptrdiff_t i = 0; i < e->rows; i += lanes_of<double>()) {  // for as many rows as a vector has lanes
        const HighLow inverse = {load(r->inverse.high + i), load(r->inverse.low + i)};
        store_number(r->coefficient, i, HighLow(load_number<T>(r->coefficient, i)) * inverse);
    }
    each_group<T>(e, r->targets, [&](auto rows) CELOSS_LAMBDA_INLINE {
        const HighLow a = rows.own_in_two_parts(r->coefficient);
        const Number<T> subtracted = rows.own(r->subtracted);
        const F64 keep = rounded(with.keep * subtracted), add = rounded(with.add * subtracted);
        const T *from = e->at + rows.row * e->row_stride, *shares = Q ? q->at + rows.row * q->row_stride : nullptr;
        T* to = g->at + rows.row * g->row_stride;
        const ptrdiff_t from_stride = rows.stride(e->class_stride), to_stride = rows.stride(g->class_stride),
                        q_stride = Q ? rows.stride(q->class_stride) : 0;
        rows.each(e->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
            const F64 exp = load_wide(from + j * from_stride, count);
            F64 share = Q ? fma(load_wide(shares + j * q_stride, count), keep, add) : add;
            if (WEIGHT) share *= rows.of_class(o->class_weight, j, count);
            // In two steps: a probability of 1 is 1 exactly.
            const F64 product = fma(exp, a.high, exp * a.low);
            const F64 normal = select(absolute(product) < (double)smallest_normal<T>(), F64{}, product);
            store_wide(to + j * to_stride, count, normal - share);
        });
    });
}

template <class T> void soft_gradient(const Tile<T>* e, const Tile<T>* g, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    const auto gradient = o->probabilities  ? o->class_weight ? soft_gradient_of<T, true, true> : soft_gradient_of<T, true, false>
                          : o->class_weight ? soft_gradient_of<T, false, true>
                                            : soft_gradient_of<T, false, false>;
    gradient(e, g, q, o, r);
}

}  // namespace
