// pieces.hpp: what is known of a long row that is worked on in pieces: what each piece adds, and how they are put together.
// Plain C++: the kernels use it as it is.
//
// Each piece is exponentiated as a row of its own, so that one trip through memory finds its maximum and its sums. Its
// exponentials are the row's but for a ratio, which is a power of two unless one of the two was shifted.
#pragma once

#include "contract.h"
#include "sums.hpp"

namespace {

// The numbers of a row that outlive one pass over a piece of it.
template <class T>
constexpr PerRow Rows<T>::* numbers_of_piece[] = {
    &Rows<T>::others,      &Rows<T>::e_left_out, &Rows<T>::mass,   &Rows<T>::gap,  &Rows<T>::inverse, &Rows<T>::minus_log,
    &Rows<T>::coefficient, &Rows<T>::subtracted, &Rows<T>::moment, &Rows<T>::mean, &Rows<T>::bend};
enum { OTHERS = 0, E_LEFT_OUT = 1, MASS = 2, GAP = 3, MOMENT = 8, NUMBERS_OF_PIECE = 11 };

struct Piece {
    double maximum;       // -inf: nothing of it counts
    double shift, steps;  // RowScale
    int64_t argmax;       // in the piece
    bool without_argmax;  // which is what its sum leaves out
    double loss;          // of logsumexp: see infinite_sums
    double high[NUMBERS_OF_PIECE], low[NUMBERS_OF_PIECE];
};

// Row 0 of the workspace into a piece, and back.
template <class T> void take_piece(const Rows<T>* r, Piece* piece) {
    piece->maximum = (double)r->maximum[0];
    piece->shift = (double)r->shift[0];
    piece->steps = (double)r->steps[0];
    piece->argmax = r->argmax[0];
    piece->without_argmax = r->left_out == r->argmax;
    piece->loss = r->loss[0];
    for (int k = 0; k < NUMBERS_OF_PIECE; ++k) {
        piece->high[k] = (r->*numbers_of_piece<T>[k]).high[0];
        piece->low[k] = (r->*numbers_of_piece<T>[k]).low[0];
    }
}
template <class T> void put_piece(const Piece* piece, Rows<T>* r) {
    r->maximum[0] = (T)piece->maximum;
    r->argmax[0] = piece->argmax;
    r->loss[0] = piece->loss;
    for (int k = 0; k < NUMBERS_OF_PIECE; ++k) {
        (r->*numbers_of_piece<T>[k]).high[0] = piece->high[k];
        (r->*numbers_of_piece<T>[k]).low[0] = piece->low[k];
    }
}

// A number and its rounding error: of the sums over pieces.
struct Exact {
    double high, low;
    void add(Exact more) { add_exactly(&high, &low, more.high, more.low); }
};
inline Exact product_of(Exact a, Exact b) {
    const double product = a.high * b.high;
    const double error = __builtin_fma(a.high, b.high, -product) + (a.high * b.low + a.low * b.high);
    return {product, error - error == 0 ? error : 0.0};
}
inline Exact number_of(const Piece& piece, int k, bool with_error) { return {piece.high[k], with_error ? piece.low[k] : 0.0}; }

// The first piece that has the row's maximum, and that maximum into row 0 of the workspace.
template <class T> ptrdiff_t put_maximum(const Piece* piece, ptrdiff_t pieces, Rows<T>* r) {
    ptrdiff_t first = 0;
    for (ptrdiff_t p = 1; p < pieces; ++p)
        if (piece[p].maximum > piece[first].maximum || piece[p].maximum != piece[p].maximum) first = p;
    r->maximum[0] = (T)piece[first].maximum;
    r->shift[0] = (T)piece[first].shift;
    r->steps[0] = (T)piece[first].steps;
    return first;
}

// A piece's exponentials times 2^power times ratio are the row's.
struct Ratio {
    Exact ratio;
    int power;
};
// From what ratios_of_pieces has found. Powers down to 2^-32 stay in the ratio, which becomes part of the gradient's factor.
// Further down the factor might be no normal number where its product with an exponential is one: then `power` goes to the
// exponentials.
inline Ratio ratio_of(double high, double low) {
    int power = 0;
    const double share = __builtin_frexp(high, &power);
    if (high == 0 || high != high) return {{high, 0}, 0};
    const Exact ratio = {share, __builtin_ldexp(low, -power)};
    power -= 64;
    if (power < -32) return {ratio, power};
    return {{__builtin_ldexp(ratio.high, power), __builtin_ldexp(ratio.low, power)}, 0};
}

// Into row 0 of the workspace: the coefficient of the gradient in a piece.
template <class T> void scale_coefficient(const Ratio& ratio, Rows<T>* r) {
    PerRow& coefficient = r->coefficient;
    const Exact scaled = product_of({coefficient.high[0], sizeof(T) == 8 ? coefficient.low[0] : 0.0}, ratio.ratio);
    coefficient.high[0] = scaled.high;
    coefficient.low[0] = scaled.low;
}

// The sums of the pieces, in their order, into row 0 of the workspace. What the row leaves out is its target, whose
// logit stands in x_left_out already, or the maximum: then each piece has left out its own, and those of all pieces but `first`
// belong to the others.
template <class T> void merge_sums(const Piece* piece, const Ratio* ratio, ptrdiff_t pieces, ptrdiff_t first, Rows<T>* r) {
    constexpr bool exact = sizeof(T) == 8;
    const double maximum = (double)r->maximum[0];
    Exact others = {0, 0}, moment = {0, 0}, mass = {0, 0}, gap = {0, 0};
    r->loss[0] = -__builtin_inf();
    for (ptrdiff_t p = 0; p < pieces; ++p) {
        const Piece& each = piece[p];
        if (each.loss > r->loss[0] || each.loss != each.loss) r->loss[0] = each.loss;
        gap.add(number_of(each, GAP, exact));
        mass.add(number_of(each, MASS, exact));
        Exact e = number_of(each, OTHERS, exact);
        if (each.maximum == -__builtin_inf() && e.high == e.high) continue;
        if (e.high != e.high && each.maximum < __builtin_inf()) r->loss[0] = e.high;  // a NaN that the maximum passed over
        if (each.without_argmax && p != first && each.argmax >= 0) e.add(number_of(each, E_LEFT_OUT, exact));
        const Exact scale = {__builtin_ldexp(ratio[p].ratio.high, ratio[p].power),
                             __builtin_ldexp(ratio[p].ratio.low, ratio[p].power)};
        others.add(product_of(e, scale));
        moment.add(product_of(number_of(each, MOMENT, exact), scale));
        const double below = maximum - each.maximum, seen = below - maximum;
        const Exact distance = {below, (maximum - (below - seen)) + (-each.maximum - seen)};
        const Exact share = number_of(each, MASS, exact);
        if (below > 0 && share.high != 0) gap.add(product_of(share, distance));
    }
    if (maximum == -__builtin_inf()) others = {__builtin_nan(""), 0};
    if (piece->without_argmax) r->x_left_out[0] = r->maximum[0];
    const auto put = [r](int k, Exact sum) {
        (r->*numbers_of_piece<T>[k]).high[0] = sum.high;
        (r->*numbers_of_piece<T>[k]).low[0] = sum.low;
    };
    put(OTHERS, others), put(MASS, mass), put(GAP, gap), put(MOMENT, moment);
}

}  // namespace
