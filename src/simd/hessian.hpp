// hessian.hpp: second derivatives of the loss of a row with respect to its logits.
//
// With M what multiplies p_k in the gradient, t the target and G = p_t dM/dp_t, which only a focal loss has,
//
//     H = M (diag p - p p^T) - G (p - y)(p - y)^T        y_k = [k = t]
//
// With b = G / M ("bend", cross_entropy.hpp) its diagonal is
//
//     M p_k (1 - p_k - b p_k), and at the target M (1 - p_t)(p_t - b (1 - p_t))
//
// and its product with a vector v, where a = sum_c p_c v_c,
//
//     M p_k (v_k - a - b (a - v_t)), and at the target M (v_t - a)(p_t - b (1 - p_t)).
#pragma once

#include "contract.h"
#include "exp_sum.hpp"
#include "gradient.hpp"
#include "layout.hpp"
#include "number.hpp"
#include "targets.hpp"
#include "vector.hpp"
#include <type_traits>

namespace {

// ---- the gradient and the diagonal --------------------------------------------------------------------------------------

// 1 - p_k loses nothing where p_k is 1/2 at most. Of the class left out it is known. If another's p_k is above, the row being
// sure and wrong, it is the share of all others, which is summed first.
template <class T> struct Diagonal {
    typedef typename VectorOf<T>::V V;
    RowFactor<T> mass;
    V share;   // (1 + b) / the sum of the exponentials
    V most;    // of that sum, a bit more than half: one class alone can be above
    V others;  // 1 - p_k - b p_k of the class above it

    // M p_k, which is also the gradient, and what that is multiplied with.
    CELOSS_INLINE V product(V e) const { return mass.times(e); }
    template <bool WRONG> CELOSS_INLINE V slope(V e) const {
        const V plain = fma(-e, share, V{} + T(1));
        return WRONG ? select(e > most, others, plain) : plain;
    }
};

// Of each row: what makes a p_k of its exponentials, and b.
struct Shares {
    double p[CELOSS_ROOM_FOR_ROWS], bend[CELOSS_ROOM_FOR_ROWS];
    template <class T> Shares(ptrdiff_t rows, double ratio, bool focal, const Rows<T>* r) {
        for (ptrdiff_t i = 0; i < whole_groups(rows); ++i) {
            p[i] = r->inverse.high[i] * ratio;
            bend[i] = focal ? r->bend.high[i] : 0.0;
        }
    }
};

// Of the sum of a row; of two equal maxima neither is above.
constexpr double MORE_THAN_HALF = 0.51;

// A vector of T to the k-th of a sum.
template <class T, int VECTORS> CELOSS_INLINE void add_wide(Sum<T, VECTORS>& sum, int k, typename VectorOf<T>::V v) {
    if constexpr (sizeof(T) == 4) {
        sum.add(2 * k, widen_low(v));
        sum.add(2 * k + 1, widen_high(v));
    } else {
        sum.add(k, HighLow(v));
    }
}

// The sum of a row's exponentials up to `most`.
template <class T> double sum_up_to(const T* e, ptrdiff_t classes, T most) {
    Sum<T, SUM_VECTORS> sum;
    each_wide_vector(classes, [&](int k, ptrdiff_t j, int count) CELOSS_LAMBDA_INLINE {
        const F64 v = load_wide(e + j, count);
        sum.add(k, Number<T>(select(v > (double)most, F64{}, v)));
    });
    double low;
    return sum.of_lanes(&low);
}

// GRAD: the gradient too, into g, which may be e.
template <class T, bool GRAD, bool STREAM>
void diagonal_of_rows(const Tile<T>* e, const Tile<T>* g, const Tile<T>* h, const Shares& shares, bool look, const Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    each_row_with_factor<T>(e->rows, r, [&](ptrdiff_t i, const RowFactor<T>& mass) CELOSS_LAMBDA_INLINE {
        const T* from = e->at + i * e->row_stride;
        T *to = h->at + i * h->row_stride, *also_to = GRAD ? g->at + i * g->row_stride : nullptr;
        const T most = (T)(MORE_THAN_HALF / shares.p[i]);
        Diagonal<T> row = {mass, splat<T>((T)((1.0 + shares.bend[i]) * shares.p[i])), splat<T>(most), V{}};
        const auto run = [&](auto wrong) CELOSS_LAMBDA_INLINE {
            const Diagonal<T> diagonal = row;
            each_line<STREAM>(to, e->classes, [&](ptrdiff_t j, int count, auto may_stream) CELOSS_LAMBDA_INLINE {
                const V v = load_count(from + j, count), product = diagonal.product(v);
                const V result = product * diagonal.template slope<decltype(wrong)::value>(v);
                if (GRAD) store_count(also_to + j, count, product);
                if constexpr (decltype(may_stream)::value) stream(to + j, result);
                else store_count(to + j, count, result);
            });
        };
        if (!look || r->wrong[i] == 0) return run(std::false_type());
        const double miss = sum_up_to(from, e->classes, most) * shares.p[i] + r->p_left_out[i];
        row.others = splat<T>((T)(miss - shares.bend[i] * (1.0 - miss)));
        run(std::true_type());
    });
    if (STREAM) end_streams();
}

template <class T, bool GRAD>
void diagonal_of_lanes(const Tile<T>* e, const Tile<T>* g, const Tile<T>* h, const Shares& shares, bool look, const Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    constexpr int W = lanes_of<T>(), WIDE = lanes_of<double>();
    const ptrdiff_t stride = e->class_stride, to_stride = h->class_stride, also_stride = GRAD ? g->class_stride : 0;
    for (ptrdiff_t i = 0; i < e->rows; i += W) {
        const T* from = e->at + i;
        T *to = h->at + i, *also_to = GRAD ? g->at + i : nullptr;
        double share[W], most[W], others[W];
        F64 any_wrong{};
        for (int k = 0; k < W; k += WIDE) {
            const F64 p = load(shares.p + i + k);
            store(share + k, (1.0 + load(shares.bend + i + k)) * p);
            store(most + k, MORE_THAN_HALF / p);
            any_wrong += load(r->wrong + i + k);
        }
        Diagonal<T> rows = {RowFactor<T>(r, i), load_narrowed<T>(share), load_narrowed<T>(most), V{}};
        const auto ignored = r->targets ? load_targets<T>(r->targets + i) < 0 : typename VectorOf<T>::M{};
        const auto run = [&](auto wrong) CELOSS_LAMBDA_INLINE {
            const Diagonal<T> diagonal = rows;
            for (ptrdiff_t j = 0; j < e->classes; ++j) {
                const V v = load(from + j * stride), product = diagonal.product(v);
                const V result = product * diagonal.template slope<decltype(wrong)::value>(v);
                if (GRAD) store(also_to + j * also_stride, without(product, ignored));
                store(to + j * to_stride, without(result, ignored));
            }
        };
        if (!look || !any_lane(any_wrong != 0.0)) {
            run(std::false_type());
            continue;
        }
        Sum<T, W / WIDE> sum;
        for (ptrdiff_t j = 0; j < e->classes; ++j) {
            const V v = load(from + j * stride);
            add_wide<T>(sum, 0, without(v, v > rows.most));
        }
        for (int k = 0; k < W; k += WIDE) {
            const F64 miss = rounded(sum.of_vector(k / WIDE)) * load(shares.p + i + k) + load(r->p_left_out + i + k);
            store(others + k, miss - load(shares.bend + i + k) * (1.0 - miss));
        }
        rows.others = load_narrowed<T>(others);
        run(std::true_type());
    }
}

template <class T>
void gradient_and_hessian(const Tile<T>* e, const Tile<T>* g, const Tile<T>* h, const Tile<T>* q, double ratio, int whole_rows,
                          int stream, const RowOptions* o, Rows<T>* r) {
    const bool focal = o->focal_gamma > 0, together = !o->soft_targets && !focal;
    const bool look = whole_rows && r->left_out == r->targets;
    const Shares shares(e->rows, ratio, focal, r);
    if (has_rows_as_lanes(e)) {
        (together ? diagonal_of_lanes<T, true> : diagonal_of_lanes<T, false>)(e, g, h, shares, look, r);
        if (!together) gradient(e, g, q, o, r);
        // Rows that are ignored are 0 already.
        if (together && g->classes > FEW_CLASSES && r->left_out == r->targets) {
            const PlacesOfClasses places(r->targets, g->rows, g->class_stride);
            put(g, places, r->at_target);
            put(h, places, r->hess_left_out);
            return;
        }
        if (together && r->targets) put(g, r->targets, r->at_target);
        if (whole_rows) put(h, r->left_out, r->hess_left_out);
        return;
    }
    const auto diagonal = together ? stream ? diagonal_of_rows<T, true, true> : diagonal_of_rows<T, true, false>
                          : stream ? diagonal_of_rows<T, false, true>
                                   : diagonal_of_rows<T, false, false>;
    diagonal(e, g, h, shares, look, r);
    if (!together) gradient(e, g, q, o, r);
    else if (r->targets) put_or_clear(g, r->targets, r->at_target);
    if (!whole_rows) return;
    int64_t place[CELOSS_ROOM_FOR_ROWS];  // of a row that is NaN throughout, class 0
    for (ptrdiff_t i = 0; i < h->rows; ++i) place[i] = r->targets && r->targets[i] < 0 ? -1 : class_or_0(r->left_out[i]);
    put_or_clear(h, place, r->hess_left_out);
}

// ---- the product with a vector ------------------------------------------------------------------------------------------

// Sums of e_j v_j. Some products are summed in T's own arithmetic before they go into float64 (or, for float64, where the sum's
// rounding errors are kept): good to 1e-6 (1e-14) of the sum of their sizes. Where a float32 product is beyond its range the row is
// summed again, in float64.
constexpr int PRODUCTS = 4;

// Classes as lanes: one row. `wide`: all of it in float64.
template <class T> double products_of_row(const T* e, const T* v, ptrdiff_t classes, bool wide, double* low) {
    constexpr int W = lanes_of<T>(), VECTORS = SUM_LANES / W;
    Sum<T, SUM_VECTORS> sum;
    ptrdiff_t j = 0;
    for (; !wide && j + PRODUCTS * SUM_LANES <= classes; j += PRODUCTS * SUM_LANES) {
        UNROLL_8 for (int k = 0; k < VECTORS; ++k) {
            const T *from = e + j + k * W, *with = v + j + k * W;
            auto products = load(from) * load(with);
            UNROLL_4 for (int p = 1; p < PRODUCTS; ++p) {
                products = fma(load(from + p * SUM_LANES), load(with + p * SUM_LANES), products);
            }
            add_wide<T>(sum, k, products);
        }
    }
    each_wide_vector(classes - j, [&](int k, ptrdiff_t i, int count) CELOSS_LAMBDA_INLINE {
        sum.add(k, Number<T>(load_wide(e + j + i, count) * load_wide(v + j + i, count)));
    });
    const double total = sum.of_lanes(low);
    return sizeof(T) == 8 || wide || total - total == 0 ? total : products_of_row(e, v, classes, true, low);
}

// Rows as lanes.
template <class T> void products_of_lanes(const Tile<T>* e, const Tile<T>* v, ptrdiff_t i, Rows<T>* r) {
    constexpr int VECTORS = sizeof(T) == 4 ? 2 : 1, WIDE = lanes_of<double>();
    const ptrdiff_t classes = e->classes;
    const auto at = [=](const Tile<T>* a, ptrdiff_t j) CELOSS_LAMBDA_INLINE { return a->at + j * a->class_stride + i; };
    Sum<T, VECTORS> sum;
    for (ptrdiff_t j = 0; j < classes; j += PRODUCTS) {
        auto products = load(at(e, j)) * load(at(v, j));
        for (ptrdiff_t p = j + 1; p < classes && p < j + PRODUCTS; ++p) products = fma(load(at(e, p)), load(at(v, p)), products);
        add_wide<T>(sum, 0, products);
    }
    for (int k = 0; k < VECTORS; ++k) {
        Number<T> total = sum.of_vector(k);
        if constexpr (sizeof(T) == 4) {
            const M64 finite = total - total == 0.0;
            if (any_lane(~finite)) {
                F64 again{};
                for (ptrdiff_t j = 0; j < classes; ++j)
                    again += load_wide(at(e, j) + k * WIDE, WIDE) * load_wide(at(v, j) + k * WIDE, WIDE);
                total = select(finite, total, again);
            }
        }
        store_number(r->moment, i + k * WIDE, total);
    }
}

template <class T> void hessp_sums(const Tile<T>* e, const Tile<T>* v, Rows<T>* r) {
    if (has_rows_as_lanes(e))
        for (ptrdiff_t i = 0; i < e->rows; i += lanes_of<T>()) products_of_lanes(e, v, i, r);
    else
        for (ptrdiff_t i = 0; i < e->rows; ++i)
            if (!r->targets || r->targets[i] >= 0)
                r->moment.high[i] =
                    products_of_row(e->at + i * e->row_stride, v->at + i * v->row_stride, e->classes, false, r->moment.low + i);
    if (r->targets)
        for (ptrdiff_t i = 0; i < e->rows; ++i)
            r->v_target[i] = (double)v->at[i * v->row_stride + class_or_0(r->targets[i]) * v->class_stride];
}

// Where the target is left out, its term of the sum is missing; and with it v_t - a is v_t (1 - p_t) less the others' terms.
template <class T> void hessp_rows(ptrdiff_t n, const RowOptions* o, Rows<T>* r) {
    const bool target_left_out = r->targets && r->left_out == r->targets;
    for (ptrdiff_t i = 0; i < n; i += lanes_of<double>()) {
        const F64 inverse = load(r->inverse.high + i);
        F64 mean = rounded(load_number<T>(r->moment, i)) * inverse;
        if (target_left_out) {
            const F64 p = top_of(probability_left_out(i, r)), miss = load(r->others.high + i) * inverse;
            const F64 v = load(r->v_target + i), above = v * miss - mean;
            const F64 bend = o->focal_gamma > 0 ? load(r->bend.high + i) : F64{};
            const F64 at_target = load(r->coefficient.high + i) * above * (p - bend * miss);
            mean += p * v - bend * above;
            store(r->at_target + i, select(ignored_rows(r->targets, i), F64{}, at_target));
        }
        store(r->mean.high + i, mean);
    }
}

// (M p_k is no result here, and does not become 0 below the smallest normal number: v_k may make one of it.)
template <class T, bool STREAM> void products_into_rows(const Tile<T>* e, const Tile<T>* v, const Tile<T>* g, const Rows<T>* r) {
    typedef typename VectorOf<T>::V V;
    each_row_with_factor<T>(e->rows, r, [&](ptrdiff_t i, const RowFactor<T>& mass) CELOSS_LAMBDA_INLINE {
        const V factor = mass.high, mean = splat<T>((T)r->mean.high[i]);
        const T *from = e->at + i * e->row_stride, *with = v->at + i * v->row_stride;
        T* to = g->at + i * g->row_stride;
        each_line<STREAM>(to, e->classes, [&](ptrdiff_t j, int count, auto may_stream) CELOSS_LAMBDA_INLINE {
            const V result = load_count(from + j, count) * factor * (load_count(with + j, count) - mean);
            if constexpr (decltype(may_stream)::value) stream(to + j, result);
            else store_count(to + j, count, result);
        });
    });
    if (STREAM) end_streams();
}

template <class T> void products_into_lanes(const Tile<T>* e, const Tile<T>* v, const Tile<T>* g, const Rows<T>* r) {
    for (ptrdiff_t i = 0; i < e->rows; i += lanes_of<T>()) {
        const auto factor = RowFactor<T>(r, i).high, mean = load_narrowed<T>(r->mean.high + i);
        const auto ignored = r->targets ? load_targets<T>(r->targets + i) < 0 : typename VectorOf<T>::M{};
        const T *from = e->at + i, *with = v->at + i;
        T* to = g->at + i;
        for (ptrdiff_t j = 0; j < e->classes; ++j, from += e->class_stride, with += v->class_stride, to += g->class_stride)
            store(to, without(load(from) * factor * (load(with) - mean), ignored));
    }
}

template <class T> void hessp(const Tile<T>* e, const Tile<T>* v, const Tile<T>* g, int stream, const Rows<T>* r) {
    const bool target_left_out = r->targets && r->left_out == r->targets;
    if (has_rows_as_lanes(e)) {
        products_into_lanes(e, v, g, r);
        if (target_left_out) put(g, r->targets, r->at_target);
        return;
    }
    (stream ? products_into_rows<T, true> : products_into_rows<T, false>)(e, v, g, r);
    if (target_left_out) return put_or_clear(g, r->targets, r->at_target);
    for (ptrdiff_t i = 0; i < g->rows; ++i)
        if (r->targets && r->targets[i] < 0) clear_row(g, i);
}

}  // namespace
