// pieces.hpp: what is known of a long row that is worked on in pieces: what each piece adds, and how they are put together.
// Plain C++: the kernels use it as it is.
#pragma once

#include "contract.h"
#include "sums.hpp"

namespace {

// The numbers of a row that outlive one pass over a piece of it; the first three are sums over the pieces.
template <class T>
constexpr PerRow Rows<T>::* numbers_of_piece[] = {&Rows<T>::rest,        &Rows<T>::mass,      &Rows<T>::gap,
                                                  &Rows<T>::unit,        &Rows<T>::inverse,   &Rows<T>::log_sum,
                                                  &Rows<T>::coefficient, &Rows<T>::subtracted};
enum { SUMS_OF_PIECE = 3, NUMBERS_OF_PIECE = 8 };

struct Piece {
    double maximum;           // of the piece; once they are merged, of the row
    ptrdiff_t maximum_group;  // -1: the row's maximum comes first in another piece
    double loss;              // of logsumexp: see infinite_sums
    double high[NUMBERS_OF_PIECE], low[NUMBERS_OF_PIECE];
};

// Row 0 of the workspace into a piece, and back.
template <class T> void take_piece(const Rows<T>* r, Piece* piece) {
    piece->maximum = (double)r->maximum[0];
    piece->maximum_group = r->maximum_group[0];
    piece->loss = r->loss[0];
    for (int k = 0; k < NUMBERS_OF_PIECE; ++k) {
        piece->high[k] = (r->*numbers_of_piece<T>[k]).high[0];
        piece->low[k] = (r->*numbers_of_piece<T>[k]).low[0];
    }
}
template <class T> void put_piece(const Piece* piece, Rows<T>* r) {
    r->maximum[0] = (T)piece->maximum;
    r->maximum_group[0] = piece->maximum_group;
    r->loss[0] = piece->loss;
    for (int k = 0; k < NUMBERS_OF_PIECE; ++k) {
        (r->*numbers_of_piece<T>[k]).high[0] = piece->high[k];
        (r->*numbers_of_piece<T>[k]).low[0] = piece->low[k];
    }
}

// The row's maximum into all of its pieces, and the piece whose sum leaves it out.
inline void merge_maxima(Piece* piece, ptrdiff_t pieces) {
    ptrdiff_t first = 0;
    for (ptrdiff_t p = 1; p < pieces; ++p)
        if (piece[p].maximum > piece[first].maximum) first = p;
    const double maximum = piece[first].maximum;
    for (ptrdiff_t p = 0; p < pieces; ++p) {
        piece[p].maximum = maximum;
        if (p != first) piece[p].maximum_group = -1;
    }
}

// The sums of the pieces, in their order, into row 0 of the workspace.
template <class T> void merge_sums(const Piece* piece, ptrdiff_t pieces, Rows<T>* r) {
    put_piece(piece, r);
    for (int k = 0; k < SUMS_OF_PIECE; ++k) {
        double sum = piece[0].high[k], low = sizeof(T) == 8 ? piece[0].low[k] : 0.0;
        for (ptrdiff_t p = 1; p < pieces; ++p) add_exactly(&sum, &low, piece[p].high[k], sizeof(T) == 8 ? piece[p].low[k] : 0.0);
        (r->*numbers_of_piece<T>[k]).high[0] = sum;
        (r->*numbers_of_piece<T>[k]).low[0] = low;
    }
    for (ptrdiff_t p = 1; p < pieces; ++p)
        if (piece[p].loss > r->loss[0] || piece[p].loss != piece[p].loss) r->loss[0] = piece[p].loss;
}

}  // namespace
