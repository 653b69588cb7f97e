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

// What some classes add to mass and gap. Without probabilities, what all have in common comes at the end: the share of each, and
// without weights for float32 also the maximum, since float64 adds up plain logits to far below float32's rounding.
template <class T, bool Q, bool WEIGHT> struct SoftTerms {
    typedef Number<T> N;
    static constexpr bool PLAIN = !Q && !WEIGHT && sizeof(T) == 4;
    N mass, gap;
    CELOSS_INLINE SoftTerms() : mass{}, gap{} {}
    CELOSS_INLINE SoftTerms(const Smoothed<T>& with, F64 top, F64 logits, F64 q, F64 weight) : mass{}, gap{} {
        if constexpr (PLAIN) {
            gap = logits;
            return;
        }
        const N distance = difference<T>(top, logits);
        gap = distance;
        if (!Q && !WEIGHT) return;
        mass = Q ? with.of(q) : number<T>(weight);
        if (Q && WEIGHT) mass = mass * number<T>(weight);
        gap = select(top_of(mass) == 0.0, N{}, mass * distance);
    }
    CELOSS_INLINE SoftTerms operator+(const SoftTerms& other) const {
        SoftTerms both;
        both.mass = mass + other.mass;
        both.gap = gap + other.gap;
        return both;
    }
};

// MASS: also of the mass.
template <class T, bool Q, bool WEIGHT, bool MASS, int VECTORS> struct SoftSum {
    typedef Number<T> N;
    Sum<T, VECTORS> mass, gap;
    CELOSS_INLINE void add(int k, SoftTerms<T, Q, WEIGHT> terms) {
        if (MASS) mass.add(k, terms.mass);
        gap.add(k, terms.gap);
    }
};
// The gap of rows from the sum of their terms over all classes.
template <class T, bool Q, bool WEIGHT>
CELOSS_INLINE Number<T> gap_of(Number<T> sum, const Smoothed<T>& with, ptrdiff_t classes, F64 top) {
    if constexpr (SoftTerms<T, Q, WEIGHT>::PLAIN) sum = fma(F64{} + (double)classes, top, -sum);
    return Q ? sum : weighted(with.add, sum);
}

// Classes as lanes: one row.
template <class T, bool Q, bool WEIGHT, bool MASS>
void soft_sums_of_row(const Tile<T>& x, const Tile<T>* q_tile, const RowOptions* o, ptrdiff_t row, Rows<T>* r) {
    typedef SoftTerms<T, Q, WEIGHT> Terms;
    typedef Number<T> N;
    constexpr int W = lanes_of<double>();
    const T *from = x.at + row * x.row_stride, *q = Q ? q_tile->at + row * q_tile->row_stride : nullptr;
    const Smoothed<T> with(o);
    const F64 top = splat((double)r->maximum[row]);
    SoftSum<T, Q, WEIGHT, MASS, SUM_VECTORS> sum;
    const auto terms_at = [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
        return Terms(with, top, load_wide(from + j, count), Q ? load_wide(q + j, count) : F64{},
                     WEIGHT ? load_wide(o->class_weight + j, count) : F64{});
    };
    // For float32 four vectors of a lane at a time: one addition after the other would take longer than all the rest.
    constexpr ptrdiff_t FOUR = sizeof(T) == 4 ? 4 * SUM_LANES : PTRDIFF_MAX;
    ptrdiff_t begin = 0;
    for (; begin + FOUR <= x.classes; begin += FOUR) UNROLL_8 for (int k = 0; k < SUM_VECTORS; ++k) {
            const ptrdiff_t j = begin + k * W;
            sum.add(k, (terms_at(j, W) + terms_at(j + SUM_LANES, W)) +
                           (terms_at(j + 2 * SUM_LANES, W) + terms_at(j + 3 * SUM_LANES, W)));
        }
    each_wide_vector(x.classes - begin, [&](int k, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
        Terms terms = terms_at(begin + j, count);
        if (count < W) {
            const M64 used = first_lanes<double>(count);
            terms.mass = select(used, terms.mass, N{});
            terms.gap = select(used, terms.gap, N{});
        }
        sum.add(k, terms);
    });
    if (MASS) r->mass.high[row] = sum.mass.of_lanes(r->mass.low + row);
    double low = 0;
    const double high = sum.gap.of_lanes(&low);
    const N gap = gap_of<T, Q, WEIGHT>(number<T>(splat(high), splat(low)), with, x.classes, top);
    r->gap.high[row] = top_of(gap)[0];
    if constexpr (sizeof(T) == 8) r->gap.low[row] = gap.low[0];
}

// Rows as lanes.
template <class T, bool Q, bool WEIGHT, bool MASS>
void soft_sums_of_lanes(const Tile<T>& x, const Tile<T>* q, const RowOptions* o, ptrdiff_t row, Rows<T>* r) {
    constexpr int W = lanes_of<double>();
    const Smoothed<T> with(o);
    const F64 top = load_wide(r->maximum + row, W);
    SoftSum<T, Q, WEIGHT, MASS, 1> sum;
    const T* from = x.at + row;
    for (ptrdiff_t j = 0; j < x.classes; ++j, from += x.class_stride)
        sum.add(0, SoftTerms<T, Q, WEIGHT>(with, top, load_wide(from, W),
                                           Q ? load_wide(q->at + j * q->class_stride + row, W) : F64{},
                                           WEIGHT ? splat(o->class_weight[j]) : F64{}));
    if (MASS) store_number(r->mass, row, sum.mass.of_vector(0));
    store_number(r->gap, row, gap_of<T, Q, WEIGHT>(sum.gap.of_vector(0), with, x.classes, top));
}

template <class T, bool Q, bool WEIGHT, bool MASS>
void soft_sums_of(const Tile<T>* x, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    if (has_rows_as_lanes(x))
        for (ptrdiff_t i = 0; i < x->rows; i += lanes_of<double>()) soft_sums_of_lanes<T, Q, WEIGHT, MASS>(*x, q, o, i, r);
    else
        for (ptrdiff_t i = 0; i < x->rows; ++i)
            if (!r->targets || r->targets[i] >= 0) soft_sums_of_row<T, Q, WEIGHT, MASS>(*x, q, o, i, r);
}
template <class T> void soft_sums(const Tile<T>* x, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    if (o->probabilities) {
        if (o->class_weight) soft_sums_of<T, true, true, true>(x, q, o, r);
        else soft_sums_of<T, true, false, true>(x, q, o, r);
    } else if (!o->class_weight) {
        soft_sums_of<T, false, false, false>(x, q, o, r);
        store_number(r->mass, 0, Smoothed<T>(o).add * number<T>(splat((double)x->classes)));  // of a piece
    } else if (r->targets) {
        soft_sums_of<T, false, true, false>(x, q, o, r);
    } else {  // a piece
        soft_sums_of<T, false, true, true>(x, q, o, r);
        store_number(r->mass, 0, Smoothed<T>(o).add * load_number<T>(r->mass, 0));
    }
}

// a e - w (q keep + add), where a is the row's coefficient over its sum, and keep and add are the options' times what the row
// subtracts of them. Products a e below the smallest normal number become 0.
template <class T, bool Q, bool WEIGHT>
void soft_gradient_of(const Tile<T>* e, const Tile<T>* g, const Tile<T>* q, const RowOptions* o, Rows<T>* r) {
    const Smoothed<T> with(o);
    for (ptrdiff_t i = 0; i < e->rows; i += lanes_of<double>()) {  // for as many rows as a vector has lanes
        const HighLow total = HighLow(load_number<T>(r->e_left_out, i)) + HighLow(load_number<T>(r->others, i));
        store_number(r->coefficient, i, HighLow(load_number<T>(r->coefficient, i)) * inverse_of(total));
    }
    each_group<T>(e, r->targets, [&](auto rows) CELOSS_LAMBDA_INLINE {
        const HighLow a = rows.own_in_two_parts(r->coefficient);
        const Number<T> subtracted = rows.own(r->subtracted);
        const F64 keep = rounded(with.keep * subtracted), add = rounded(with.add * subtracted);
        const T *from = e->at + rows.row * e->row_stride, *shares = Q ? q->at + rows.row * q->row_stride : nullptr;
        T* to = g->at + rows.row * g->row_stride;
        const ptrdiff_t from_stride = rows.stride(e->class_stride), to_stride = rows.stride(g->class_stride),
                        q_stride = Q ? rows.stride(q->class_stride) : 0;
        rows.each(e->classes, [&](int, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
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
