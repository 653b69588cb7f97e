// blend.hpp: what smoothing and probabilities blend into a row's target: their sums over the logits, and their gradient.
//
// All in float64, where m - x, weights and products would else show. Includes block_ops.h, number.hpp and row_formulas.hpp
// only.
#pragma once

#include "block_ops.h"
#include "number.hpp"
#include "row_formulas.hpp"

namespace {

// q' = keep q + add of a vector of numbers q.
template <class T> struct Blended {
    typedef Number<T> N;
    const N keep, add;
    const bool as_given;  // without smoothing; for float64 worth a branch
    CELOSS_INLINE explicit Blended(const Blend<T>* blend)
        : keep(number<T>(splat(blend->keep), splat(blend->keep_low))), add(number<T>(splat(blend->add), splat(blend->add_low))),
          as_given(sizeof(T) == 8 && blend->keep == 1.0) {}
    CELOSS_INLINE N of(F64 q) const { return as_given ? number<T>(q) : multiply_add(number<T>(q), keep, add); }
    CELOSS_INLINE N subtracted_from(N p, const T* q, int count) const { return q ? p - of(load_wide(q, count)) : p; }
};

// What some classes add to mass and gap. Without probabilities and weights, what all have in common comes at the end: the
// share of each, and for float32 also the maximum, since float64 adds up plain logits to far below float32's rounding.
template <class T, bool Q, bool WEIGHT> struct BlendTerms {
    typedef Number<T> N;
    static constexpr bool ALIKE = !Q && !WEIGHT, PLAIN = ALIKE && sizeof(T) == 4;
    N mass, gap;
    CELOSS_INLINE BlendTerms(const Blended<T>& with, F64 top, F64 logits, F64 q, F64 weight) : mass{}, gap{} {
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

template <class T, bool Q, bool WEIGHT> struct BlendSum {
    typedef Number<T> N;
    Sum<T> mass, gap;
    CELOSS_INLINE void add(BlendTerms<T, Q, WEIGHT> terms) {
        if (Q) mass.add(terms.mass);
        gap.add(terms.gap);
    }
    // Of so many classes in each lane.
    CELOSS_INLINE N total_gap(const Blended<T>& with, double classes, F64 top) const {
        typedef BlendTerms<T, Q, WEIGHT> Terms;
        N total = gap.total();
        if constexpr (Terms::PLAIN) total = fma(F64{} + classes, top, -total);
        return Terms::ALIKE ? weighted(with.add, total) : total;
    }
};

template <class T, bool Q, bool WEIGHT>
void row_blend_sums(const T* x, const T* q, const Blend<T>* blend, ptrdiff_t classes, double m, ptrdiff_t row, BlendSums* sums) {
    typedef BlendTerms<T, Q, WEIGHT> Terms;
    constexpr int W = lanes_of<double>();
    const Blended<T> with(blend);
    const F64 top = splat(m);
    BlendSum<T, Q, WEIGHT> sum;
    const auto terms = [&](ptrdiff_t j, F64 logits, int count) CELOSS_LAMBDA_INLINE {
        return Terms(with, top, logits, Q ? load_wide(q + j, count) : F64{}, WEIGHT ? load_wide(blend->w + j, count) : F64{});
    };
    ptrdiff_t j = 0;
    for (; sizeof(T) == 4 && j + 4 * W <= classes; j += 4 * W) {
        const Terms four[4] = {terms(j, load_wide(x + j, W), W), terms(j + W, load_wide(x + j + W, W), W),
                               terms(j + 2 * W, load_wide(x + j + 2 * W, W), W),
                               terms(j + 3 * W, load_wide(x + j + 3 * W, W), W)};
        Terms all = four[0];
        all.mass = (four[0].mass + four[1].mass) + (four[2].mass + four[3].mass);
        all.gap = (four[0].gap + four[1].gap) + (four[2].gap + four[3].gap);
        sum.add(all);
    }
    for (; j < classes; j += W) {
        const int count = (int)(classes - j < W ? classes - j : W);
        Terms last = terms(j, count < W ? select(first_lanes(count), load_wide(x + j, count), top) : load_wide(x + j, W), count);
        if (count < W) last.mass = select(first_lanes(count), last.mass, Number<T>{});
        sum.add(last);
    }
    if (Q) sums->mass[row] = add_lanes(sum.mass.total(), sums->mass_low + row);
    sums->gap[row] = add_lanes(sum.total_gap(with, (double)((classes + W - 1) / W), top), sums->gap_low + row);
}

template <class T, bool Q, bool WEIGHT> void blend_sums_of(const Tile<T>& x, const Blend<T>* blend, const T* m, BlendSums* sums) {
    constexpr int W = lanes_of<double>();
    if (x.class_stride == 1) {
        for (ptrdiff_t i = 0; i < x.rows; ++i)
            row_blend_sums<T, Q, WEIGHT>(x.at + i * x.row_stride, Q ? blend->q + i * blend->q_row_stride : nullptr, blend,
                                         x.classes, m[i], i, sums);
        return;
    }
    const Blended<T> with(blend);
    for (ptrdiff_t i = 0; i < x.rows; i += W) {
        const F64 top = load_wide(m + i, W);
        BlendSum<T, Q, WEIGHT> sum;
        const T* from = x.at + i;
        for (ptrdiff_t j = 0; j < x.classes; ++j, from += x.class_stride)
            sum.add(BlendTerms<T, Q, WEIGHT>(with, top, load_wide(from, W),
                                             Q ? load_wide(blend->q + j * blend->q_class_stride + i, W) : F64{},
                                             WEIGHT ? splat(blend->w[j]) : F64{}));
        if (Q) store_number(sums->mass + i, sums->mass_low + i, sum.mass.total());
        store_number(sums->gap + i, sums->gap_low + i, sum.total_gap(with, (double)x.classes, top));
    }
}

template <class T> void blend_sums(const Tile<T>* x, const Blend<T>* blend, const T* m, BlendSums* to) {
    const auto sums = blend->q   ? blend->w ? blend_sums_of<T, true, true> : blend_sums_of<T, true, false>
                      : blend->w ? blend_sums_of<T, false, true>
                                 : blend_sums_of<T, false, false>;
    sums(*x, blend, m, to);
}

// a e - w (q keep + add), where a is the row's coefficient over its sum, and keep and add are those of the blend times what the
// row subtracts of it. Products a e below the smallest normal number become 0.
template <class T, bool Q, bool WEIGHT>
void scale_blended_of(const Tile<T>* e, const Tile<T>* g, const RowResults* with, const RowSums* sums, const Blend<T>* blend) {
    constexpr int W = lanes_of<double>();
    const Blended<T> blended(blend);
    const auto gradient = [&](F64 exp, HighLow a, F64 q, F64 keep, F64 add, F64 weight) CELOSS_LAMBDA_INLINE {
        F64 share = Q ? fma(q, keep, add) : add;
        if (WEIGHT) share *= weight;
        // In two steps: a probability of 1 is 1 exactly.
        const F64 product = fma(exp, a.high, exp * a.low);
        return select(absolute(product) < (double)smallest_normal<T>(), F64{}, product) - share;
    };
    for (ptrdiff_t first = 0; first < e->rows; first += W) {
        const HighLow coefficient = {load(with->coefficient + first),
                                     sizeof(T) == 8 ? load(with->coefficient_low + first) : F64{}};
        const HighLow a = coefficient * HighLow(load(sums->inverse + first), load(sums->inverse_low + first));
        const Number<T> subtracted = load_number<T>(with->subtracted + first, with->subtracted_low + first);
        const F64 keep = rounded(blended.keep * subtracted), add = rounded(blended.add * subtracted);
        if (e->class_stride != 1) {
            for (ptrdiff_t j = 0; j < e->classes; ++j)
                store_wide(g->at + j * g->class_stride + first, W,
                           gradient(load_wide(e->at + j * e->class_stride + first, W), a,
                                    Q ? load_wide(blend->q + j * blend->q_class_stride + first, W) : F64{}, keep, add,
                                    WEIGHT ? splat(blend->w[j]) : F64{}));
            continue;
        }
        for (ptrdiff_t i = first; i < e->rows && i < first + W; ++i) {
            const HighLow row_a = {splat(a.high[i - first]), splat(a.low[i - first])};
            const F64 row_keep = splat(keep[i - first]), row_add = splat(add[i - first]);
            const T* from = e->at + i * e->row_stride;
            const T* q = Q ? blend->q + i * blend->q_row_stride : nullptr;
            T* to = g->at + i * g->row_stride;
            each_wide_vector(e->classes, [&](ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
                store_wide(to + j, count,
                           gradient(load_wide(from + j, count), row_a, Q ? load_wide(q + j, count) : F64{}, row_keep, row_add,
                                    WEIGHT ? load_wide(blend->w + j, count) : F64{}));
            });
        }
    }
}

template <class T>
void scale_blended(const Tile<T>* e, const Tile<T>* g, const RowResults* with, const RowSums* sums, const Blend<T>* blend) {
    const auto scaled = blend->q   ? blend->w ? scale_blended_of<T, true, true> : scale_blended_of<T, true, false>
                        : blend->w ? scale_blended_of<T, false, true>
                                   : scale_blended_of<T, false, false>;
    scaled(e, g, with, sums, blend);
}

}  // namespace
