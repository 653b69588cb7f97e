// contract.h: what the kernels (_kernels.pyx) and the vector code agree on: one table of block operations for each level.
//
// A block operation works on a few rows at a time, small enough for the cache, and never sees Python or threads. What it knows
// of the rows stands in one workspace, `Rows`, which every operation reads and adds to.
#pragma once

#include <stddef.h>
#include <stdint.h>

// ---- where numbers are -----------------------------------------------------------------------------------------------

// A block of rows x classes numbers in memory; strides count numbers. Either class_stride is 1 (classes as lanes), or
// row_stride is 1 (rows as lanes); then the block is scratch whose class_stride is a multiple of CELOSS_LANE_GROUP, and
// operations may work on the lanes between rows and that multiple.
template <class T> struct Tile {
    T* at;
    ptrdiff_t row_stride, class_stride;
    ptrdiff_t rows, classes;
};
enum { CELOSS_LANE_GROUP = 16 };

// Numbers that follow behind those that are worked on: of x and of a vector v, and where results g and h will go. Null: there are
// none, or nowhere that is not x.
struct Ahead {
    const char *x, *v, *g, *h;
    ptrdiff_t bytes;
};

// How numbers are stored in the user's arrays. Arithmetic is float64 for float64 and float32 for all others. Labels of binary
// losses may also be integers (bool as uint8).
enum Storage {
    STORED_FLOAT32 = 0,
    STORED_FLOAT64 = 1,
    STORED_FLOAT16 = 2,
    STORED_BFLOAT16 = 3,
    STORED_INT8 = 4,
    STORED_UINT8 = 5,
    STORED_INT32 = 6,
    STORED_INT64 = 7
};

// A matrix of the user's: any strides, in bytes, of any sign, unaligned.
struct Matrix {
    char* at;
    ptrdiff_t row_stride, class_stride;
    int storage;
};

// ---- what is known of rows -------------------------------------------------------------------------------------------

// Rows of a block at most. Arrays with a number for each row have room for more, so that what works on whole vectors of rows
// may go past the last one; and so that no two arrays are a multiple of 4096 bytes apart, where a store holds up a load.
enum { CELOSS_BLOCK_ROWS = 256, CELOSS_ROOM_FOR_ROWS = CELOSS_BLOCK_ROWS + 48 };

// A number of each row, and its rounding error: kept where arithmetic is float64; elsewhere anything, but of the inverse.
struct PerRow {
    double high[CELOSS_ROOM_FOR_ROWS], low[CELOSS_ROOM_FOR_ROWS];
};

// All that is known of the rows of a block. With m_i the row's maximum, t its target, e_ij the exponentials, p_ij the
// probabilities, and v_ij = w_j (keep q_ij + add) the soft targets (smoothing or probabilities q):
template <class T> struct Rows {
    const int64_t* targets;                             // `target`, or null: probabilities, or rows without targets
    char to_a_cache_line[64 - sizeof(const int64_t*)];  // what follows begins on one, and so does what stands behind all of it
    // -1: the row is ignored; it may be passed over, and what stands in its other places is anything.
    int64_t target[CELOSS_ROOM_FOR_ROWS];

    // The class left out of sums of exponentials, so that the others' share keeps its relative accuracy: `target`, `argmax`, or
    // null where that share is not wanted. -1: none is left out of this row.
    const int64_t* left_out;

    T maximum[CELOSS_ROOM_FOR_ROWS];
    int64_t argmax[CELOSS_ROOM_FOR_ROWS];  // the first class that attains it; -1: it is infinite, or there is a NaN
    T x_target[CELOSS_ROOM_FOR_ROWS], x_left_out[CELOSS_ROOM_FOR_ROWS];  // logits; -inf where none is left out

    T shift[CELOSS_ROOM_FOR_ROWS], steps[CELOSS_ROOM_FOR_ROWS];  // how a row is exponentiated: exp_log.hpp, RowScale

    PerRow others;      // sum of the exponentials but the one left out
    PerRow e_left_out;  // that one; not below that of a logit which is 512 under the maximum
    PerRow inverse;     // 1 / (e_left_out + others)
    PerRow minus_log;   // -log p of the class left out

    PerRow mass;  // sum of v_ij
    PerRow gap;   // sum of v_ij (m_i - x_ij), where 0 * inf counts 0

    double loss[CELOSS_ROOM_FOR_ROWS];
    PerRow coefficient, subtracted;          // the gradient is coefficient p_k - subtracted v_k,
    double at_target[CELOSS_ROOM_FOR_ROWS];  // and at the target

    // Second derivatives (hessian.hpp). The diagonal is coefficient p_k (1 - p_k - bend p_k), and at the class left out and at
    // the target:
    PerRow bend;
    double hess_left_out[CELOSS_ROOM_FOR_ROWS], hess_target[CELOSS_ROOM_FOR_ROWS];
    double p_left_out[CELOSS_ROOM_FOR_ROWS];
    double wrong[CELOSS_ROOM_FOR_ROWS];  // 1: a class with p_k > 1/2, or nearly, is not the one left out; else 0
    // The product with a vector v is coefficient p_k (v_k - mean), and at the target at_target.
    double v_target[CELOSS_ROOM_FOR_ROWS];

    // Statistics: how many logits are above the target's, sum of p_ij (m_i - x_ij), and what comes of that.
    int64_t rank[CELOSS_ROOM_FOR_ROWS];
    double logsumexp[CELOSS_ROOM_FOR_ROWS], entropy[CELOSS_ROOM_FOR_ROWS];

    // The Brier score, with d_j = p_j - v_j and k the class of the maximum:
    PerRow squares;                          // sum of d_j^2 over j != k
    PerRow moment;                           // sum of p_j d_j over j != k; of the product with a vector: of e_j v_j
    PerRow mean;                             // the gradient is factor p_j (d_j - mean),
    double factor[CELOSS_ROOM_FOR_ROWS];     //
    double at_argmax[CELOSS_ROOM_FOR_ROWS];  // at k, and at the target at_target

    double block_loss[CELOSS_ROOM_FOR_ROWS];  // `loss` of the whole block, whose stretches are worked on one after the other
};

// What enters the loss of some rows beside their logits and targets. Arrays are the user's: no room behind the last.
struct RowOptions {
    const double *sample_weight, *upstream;  // of each row; null: 1
    const double* class_weight;              // of each class; null: 1
    double factor;                           // of the gradient
    int probabilities;                       // targets are probabilities
    int soft_targets;                        // smoothing or probabilities
    double smoothing;
    // keep = 1 - smoothing, add = smoothing / classes, mass = the sum of add w_j, with their rounding errors.
    double keep, keep_low, add, add_low, mass, mass_low;
    double focal_gamma;  // losses times (1 - p_t)^focal_gamma: class indices only, and no smoothing
    double z_loss;       // losses get z_loss times the square of logsumexp; without second derivatives
    int hessian;         // second derivatives are wanted
};

// ---- scores ----------------------------------------------------------------------------------------------------------

enum ScoreOperation { BINARY_CROSS_ENTROPY = 0, BINARY_BRIER = 1, BINARY_ZERO_ONE = 2, SIGMOID = 3, LOG_SIGMOID = 4 };

// n scores z, one after another, and what else enters their loss (formulas: scores.hpp). y and loss are of losses only.
template <class T> struct ScoreBlock {
    int operation;
    ptrdiff_t n;
    const T *z, *y;
    double keep, keep_low, add, factor;            // y' = keep y + add; the gradient is scaled by factor
    double focal_gamma;                            // losses times (1 - p of the label)^focal_gamma; without smoothing
    const double *weight, *pos_weight, *upstream;  // null: 1
    T *loss, *result;                              // null: not wanted; the result (a gradient, sigmoid) may be z
    T* hess;                                       // the second derivative, scaled as the gradient; null: not wanted
    int bad_value;  // set where a label that counts is not in [0, 1], a weight not finite, or a pos_weight not finite and >= 0
};

// ---- the table -------------------------------------------------------------------------------------------------------

// For the tests: the functions that the operations are made of, in the form they have there. From EXP_IN_ROW to LOG_AND_INVERSE
// in float64 only.
enum Probe {
    EXP = 0,             // exp(x) in a row whose maximum is y (exp_log.hpp: exp_parts)
    LOG1P_OF_EXP = 1,    // log(1 + exp(-|x|)) (scores.hpp: Score)
    LESS_LIKELY = 2,     // sigma(-|x|) (scores.hpp: Score)
    EXP_OF_MAXIMUM = 3,  // as EXP, where x is the maximum; with what value and error lack
    EXP_IN_ROW = 4,      // exp(x) 2^-y (exp_log.hpp: exp_in_row_with_error)
    LOG1P_RATIO = 5,
    LOG1P_RATIO_EXACT = 6,
    EXP_TO_39_BITS = 7,
    EXP_WITH_ERROR = 8,
    LOG_AND_INVERSE = 9,  // of others x and e = y: the logarithm, and in place of a rounding error the inverse
    TANH = 10             // and in place of a rounding error its slope (softcap.hpp)
};

// Tiles are of either orientation, but for what is said to be one.
template <class T> struct BlockOps {
    // maximum. NaNs are passed over here and found by exp_sum.
    void (*maximum)(const Tile<T>* x, Rows<T>* rows);
    // maximum, argmax; of a row with a NaN whatever comes. And for what decides by it: -1 there.
    void (*place_of_maximum)(const Tile<T>* x, Rows<T>* rows);
    void (*argmax)(const Tile<T>* x, Rows<T>* rows);

    // mass (of probabilities) and gap.
    void (*soft_sums)(const Tile<T>* x, const Tile<T>* q, const RowOptions* options, Rows<T>* rows);

    // e_ij = exp(x_ij - m_i) * u_i with a factor u_i of the row's own, into e (nowhere if e->at is null; e may be x); their sum
    // without the class left out, t: others. So -log p_it = log(1 + others_i / e_it) and p_ij = e_ij / (e_it + others_i). At t,
    // e is 0, or what it should be if that is argmax; where rows are the lanes, x becomes -inf there. NaN or +inf: others or
    // e_left_out is NaN. Also what exp_left_out says, x_left_out, and x_target if there are targets. What is `ahead` is fetched
    // into the cache meanwhile.
    void (*exp_sum)(const Tile<T>* x, const Tile<T>* e, const Ahead* ahead, Rows<T>* rows);
    // e_left_out, shift and steps of n rows, from maximum and x_left_out; and what minus_log begins with: by how much more than
    // 512 x_left_out is below the maximum.
    void (*exp_left_out)(ptrdiff_t n, Rows<T>* rows);
    // Exponentials of one row times a power of two.
    void (*times_power)(const Tile<T>* e, int power);

    // inverse and minus_log of n rows.
    void (*log_rows)(ptrdiff_t n, Rows<T>* rows);

    // inverse and minus_log of n rows; and their results: losses, and what their gradients are made of.
    void (*cross_entropy)(ptrdiff_t n, const RowOptions* options, Rows<T>* rows);
    // g_ij = coefficient_i p_ij - subtracted_i v_ij, and at the target; 0 where the row is ignored. g may be e. Products below
    // the smallest normal number become 0. Coefficient and subtracted are used up.
    void (*gradient)(const Tile<T>* e, const Tile<T>* g, const Tile<T>* q, const RowOptions* options, Rows<T>* rows);

    // gradient, and the diagonal of the Hessian into h. In a piece of a row `ratio` is what makes its exponentials the row's; in
    // whole rows it is 1, and hess_left_out comes to its place too. `stream`: h is not to be read soon, and is written past the
    // cache.
    void (*gradient_and_hessian)(const Tile<T>* e, const Tile<T>* g, const Tile<T>* h, const Tile<T>* q, double ratio,
                                 int whole_rows, int stream, const RowOptions* options, Rows<T>* rows);
    // The Hessian's product with v in three steps: moment, and v_target; mean and at_target of n rows, after cross_entropy; the
    // product. g may be e; `stream` as above.
    void (*hessp_sums)(const Tile<T>* e, const Tile<T>* v, Rows<T>* rows);
    void (*hessp_rows)(ptrdiff_t n, const RowOptions* options, Rows<T>* rows);
    void (*hessp)(const Tile<T>* e, const Tile<T>* v, const Tile<T>* g, int stream, const Rows<T>* rows);

    // inverse of n rows, and a coefficient of 1: of softmax, which needs no logarithm.
    void (*inverse_rows)(ptrdiff_t n, Rows<T>* rows);
    // g_ij = coefficient_i p_ij; g may be e.
    void (*softmax)(const Tile<T>* e, const Tile<T>* g, Rows<T>* rows);
    // y_ij = log p_ij = x_ij - m_i + log p_i,argmax; y may be x.
    void (*log_softmax)(const Tile<T>* x, const Tile<T>* y, const Rows<T>* rows);
    // loss_i = m_i - log p_i,argmax of n rows; where m_i is not finite it is what infinite_sums has left there:
    void (*logsumexp)(ptrdiff_t n, Rows<T>* rows);
    // that maximum, or NaN where there is one in the row.
    void (*infinite_sums)(const Tile<T>* x, Rows<T>* rows);

    // Logits as an option has them: u = scale x, or with a cap > 0 u = cap tanh(scale x / cap), infinite where x is; and then
    // du / dx into `slope` (nowhere if null). u may be x. Where classes are the lanes, also the maxima of u into `rows`, unless null.
    void (*soften)(const Tile<T>* x, const Tile<T>* u, const Tile<T>* slope, double scale, double cap, Rows<T>* rows);
    // Gradients with respect to u times that, but for rows that are ignored.
    void (*times_slope)(const Tile<T>* g, const Tile<T>* slope, const Rows<T>* rows);

    // rank, and x_target, of rows whose argmax is known; entropy, from exponentials; then those and loss and logsumexp of n rows.
    // (left_out is argmax.)
    void (*ranks)(const Tile<T>* x, Rows<T>* rows);
    void (*entropy_sums)(const Tile<T>* x, const Tile<T>* e, Rows<T>* rows);
    void (*statistics)(ptrdiff_t n, Rows<T>* rows);

    // The divergence of softmax(x / temperature) from softmax(y / temperature), with gradients in g (nowhere if null; may be x).
    // e: room for the exponentials of both.
    void (*kl_divergence)(const Tile<T>* x, const Tile<T>* y, const Tile<double>* e, const Tile<T>* g, double temperature,
                          const RowOptions* options, Rows<T>* rows);

    // Back through the two, from their result x and the upstream gradient q: others_i = the sum of x_ij q_ij, or of q_ij; and
    // g_ij = x_ij (q_ij - others_i), or q_ij - exp(x_ij) others_i. g may be x or q.
    void (*softmax_vjp_sums)(const Tile<T>* x, const Tile<T>* q, Rows<T>* rows);
    void (*softmax_vjp)(const Tile<T>* x, const Tile<T>* q, const Tile<T>* g, const Rows<T>* rows);
    void (*log_softmax_vjp_sums)(const Tile<T>* x, const Tile<T>* q, Rows<T>* rows);
    void (*log_softmax_vjp)(const Tile<T>* x, const Tile<T>* q, const Tile<T>* g, const Rows<T>* rows);

    // Losses of rows whose argmax is known: the classification error; the Brier score, with gradients in g (nowhere if
    // null; may be x). e: room for exponentials in float64, and for float64 as much again for their rounding errors.
    void (*zero_one)(ptrdiff_t n, const Tile<T>* q, const RowOptions* options, Rows<T>* rows);
    void (*brier)(const Tile<T>* x, const Tile<double>* e, const Tile<T>* g, const Tile<T>* q, const RowOptions* options,
                  Rows<T>* rows);

    // Between a user's matrix and a tile. With rows as lanes, those behind the last row become 0, or copies of other rows.
    // `fetch`: what follows in the matrix is fetched into the cache, a page ahead (of contiguous rows).
    void (*load_tile)(const Matrix* from, const Tile<T>* to, int fetch);
    void (*store_tile)(const Tile<T>* from, const Matrix* to, int fetch);
    // load_tile of labels stored as integers; tiles with class_stride 1.
    void (*load_labels)(const Matrix* from, const Tile<T>* to);

    // One operation on a block of scores; the sum of the losses, or 0.
    double (*scores)(ScoreBlock<T>* block);

    // A function of n numbers x = in[0] and y = in[1], whose rounding errors are in[2] and in[3].
    void (*probe)(int function, ptrdiff_t n, const T* const in[4], T* high, T* low);
};

enum TargetsSeen { SEEN_KEPT = 1, SEEN_IGNORED = 2, SEEN_OUT_OF_RANGE = 4 };

struct BlockOpsTable {
    const char* level;
    BlockOps<float> f32;
    BlockOps<double> f64;
    // How many of n targets differ from `value`.
    ptrdiff_t (*count_other_than_i64)(const int64_t* target, ptrdiff_t n, int64_t value);
    ptrdiff_t (*count_other_than_i32)(const int32_t* target, ptrdiff_t n, int64_t value);
    // Targets, each read once: out_i = target_i, or -1 where that is ignore_index or the row's weight 0 (no weights: null).
    // Returns what was among them (TargetsSeen).
    int (*read_targets_i64)(const int64_t* target, const double* sample_weight, ptrdiff_t n, int64_t ignore_index,
                            int64_t classes, int64_t* out);
    int (*read_targets_i32)(const int32_t* target, const double* sample_weight, ptrdiff_t n, int64_t ignore_index,
                            int64_t classes, int64_t* out);
    // What the exponentials of n pieces of a row are multiplied with to be the row's, times 2^64, and its rounding error: from
    // shift and steps of the pieces, and those of the row.
    void (*ratios_of_pieces)(ptrdiff_t n, const double* shift, const double* steps, double row_shift, double row_steps,
                             double* high, double* low);
    // What n rows weigh in a mean: the sum of s_n w_t, but of those that are ignored. No targets: of s_n.
    double (*sum_of_weights)(ptrdiff_t n, const int64_t* targets, const RowOptions* options);
};

// level.cpp: the levels of this build, best first.
struct Level {
    const char* name;
    const BlockOpsTable* table;
    bool runnable;
};
const Level* celoss_levels(int* count);
