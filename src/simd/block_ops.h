// block_ops.h: the contract between the kernels (_kernels.pyx) and the vector code: one table of block operations per level.
//
// A block operation works on a few rows at a time, small enough for the cache, and never sees Python or threads. Arrays with a
// number for each row have room up to the next multiple of CELOSS_LANE_GROUP, where anything may stand and be overwritten; but
// not the options, which are the user's.
// Includes <stddef.h> and <stdint.h> only.
#pragma once

#include <stddef.h>
#include <stdint.h>

// A block of rows x classes numbers in memory; strides count elements. Either class_stride is 1 (class after class), or
// row_stride is 1 and the rows are the lanes; then the block is scratch whose class_stride is a multiple of
// CELOSS_LANE_GROUP, and operations may work on the lanes between rows and that multiple.
template <class T> struct Tile {
    T* at;
    ptrdiff_t row_stride, class_stride;
    ptrdiff_t rows, classes;
};
enum { CELOSS_LANE_GROUP = 16 };

// How numbers are stored in the user's arrays. Arithmetic is float64 for float64 and float32 for all others.
enum Storage { STORED_FLOAT32 = 0, STORED_FLOAT64 = 1, STORED_FLOAT16 = 2, STORED_BFLOAT16 = 3 };
// Labels of binary losses may also be stored as integers (bool as uint8): for load_labels only.
enum LabelStorage { STORED_INT8 = 4, STORED_UINT8 = 5, STORED_INT32 = 6, STORED_INT64 = 7 };

// A matrix of the user's: any strides, in bytes, of any sign, unaligned.
struct Matrix {
    char* at;
    ptrdiff_t row_stride, class_stride;
    int storage;
};

// Probabilities as targets, in the form they enter the loss: w_c * (keep * q_ic + add). No q: q = 0. No w: w = 1.
template <class T> struct Blend {
    const T* q;
    ptrdiff_t q_row_stride, q_class_stride;
    const double* w;
    double keep, add, keep_low, add_low;
};

// What is known of each row of a block, in float64. The *_low are rounding errors, kept where arithmetic is float64.
enum { CELOSS_BLOCK_ROWS = 256 };
struct RowSums {
    double rest[CELOSS_BLOCK_ROWS];     // sum of the exponentials but one maximum's
    double unit[CELOSS_BLOCK_ROWS];     // the exponential of that maximum
    double log_sum[CELOSS_BLOCK_ROWS];  // log(1 + rest / unit)
    double inverse[CELOSS_BLOCK_ROWS];  // 1 / (unit + rest)
    double nll[CELOSS_BLOCK_ROWS];      // -log p_t = (m - x_t) + log_sum
    double miss[CELOSS_BLOCK_ROWS];     // 1 - p_t, from the exponentials of the others
    double rest_low[CELOSS_BLOCK_ROWS], unit_low[CELOSS_BLOCK_ROWS], log_sum_low[CELOSS_BLOCK_ROWS];
    double inverse_low[CELOSS_BLOCK_ROWS], nll_low[CELOSS_BLOCK_ROWS], miss_low[CELOSS_BLOCK_ROWS];
};

// What smoothing or probabilities v_ic = w_c (keep q_ic + add) need of the logits. 0 * inf counts 0.
struct BlendSums {
    double mass[CELOSS_BLOCK_ROWS];  // sum of v_ic
    double gap[CELOSS_BLOCK_ROWS];   // sum of v_ic (m_i - x_ic)
    double mass_low[CELOSS_BLOCK_ROWS], gap_low[CELOSS_BLOCK_ROWS];
};

// What enters the loss of some rows beside their logits: of each row, or of each class (null: 1), and of all.
struct RowOptions {
    const int64_t* target;  // -1: ignored; null: probabilities
    const double *sample_weight, *upstream, *class_weight;
    double factor;     // of the gradient
    int blended;       // smoothing or probabilities
    double smoothing;  // keep = 1 - smoothing and add = smoothing / classes, with their rounding errors:
    double keep, add, keep_low, add_low;
};

// A block's losses, and what its gradients are made of: dx_k = coefficient p_k - subtracted v_k, and at the target.
struct RowResults {
    double loss[CELOSS_BLOCK_ROWS];
    double coefficient[CELOSS_BLOCK_ROWS];
    double subtracted[CELOSS_BLOCK_ROWS];
    double at_target[CELOSS_BLOCK_ROWS];
    double coefficient_low[CELOSS_BLOCK_ROWS], subtracted_low[CELOSS_BLOCK_ROWS];
};

// What the Brier score needs of each row. With p_c the probabilities, d_c = p_c - q'_c and j the class of the maximum:
struct BrierRows {
    double squares[CELOSS_BLOCK_ROWS];  // sum of d_c^2 over c != j
    double moment[CELOSS_BLOCK_ROWS];   // sum of p_c d_c over c != j
    double mean[CELOSS_BLOCK_ROWS];     // the gradient is factor p_k (d_k - mean)
    double factor[CELOSS_BLOCK_ROWS];
    double at_first[CELOSS_BLOCK_ROWS];  // and at j
    double at_target[CELOSS_BLOCK_ROWS];
    double squares_low[CELOSS_BLOCK_ROWS], moment_low[CELOSS_BLOCK_ROWS], mean_low[CELOSS_BLOCK_ROWS];
};

// n binary scores z and labels y, one after another, and what else enters their loss (formulas: elementwise.hpp).
enum BinaryLoss { BINARY_CROSS_ENTROPY = 0, BINARY_BRIER = 1, BINARY_ZERO_ONE = 2 };
template <class T> struct BinaryBlock {
    int loss_kind;
    ptrdiff_t n;
    const T *z, *y;
    double keep, add, factor;                      // y' = keep y + add; the gradient is scaled by factor
    double keep_low, add_low;                      // rounding errors
    const double *weight, *pos_weight, *upstream;  // null: 1
    T *loss, *grad;                                // null: not wanted; grad may be z
    int bad_weight;                                // set where a weight is not finite and >= 0
};

// The functions that the operations are made of, in the form they have there; those from EXP_OF_MAXIMUM on in float64 only.
enum Elementary {
    EXP = 0,           // exp(x) in a row whose maximum is y (exp_log.hpp: exp_parts)
    LOG1P_OF_EXP = 1,  // log(1 + exp(-|x|)) (elementwise.hpp: Score)
    LESS_LIKELY = 2,   // sigma(-|x|) (elementwise.hpp: Score)
    EXP_OF_MAXIMUM = 3,
    LOG1P_RATIO = 4,
    LOG1P_RATIO_EXACT = 5,
    EXP_OF_DISTANCE = 6,
    EXP_OF_DIFFERENCE = 7
};

template <class T> struct BlockOps {
    // m_i = max_j x_ij, for rows up to a multiple of CELOSS_LANE_GROUP. NaNs are passed over here and found by exp_sum.
    // where_i: the group of classes in which the maximum comes first, for exp_sum.
    // target, here and below: rows with target_i < 0 may be passed over; then what stands in their places is anything.
    void (*maximum)(const Tile<T>* x, T* m, ptrdiff_t* where, const int64_t* target);

    // e_ij = exp(x_ij - m_i) * u_i with a factor u_i of the row's own, into e (nowhere if e->at is null; e may be x).
    // rest_i = the sum of e_ij over all but one maximum; unit_i = e of that maximum, to float64's precision.
    // So loss_i = (m_i - x_it) + log(1 + rest_i / unit_i) and p_ij = e_ij / (unit_i + rest_i). NaN or +inf: rest or unit is NaN.
    // where_i < 0: the row is a piece without the maximum; nothing is left out of its sum.
    // target: also x_t and e_t at target_i (e_t only if e is stored).
    // While it computes, the `ahead` rows behind x and g are fetched into the cache. g is where the rows' result will be
    // written: e, another place, or nowhere.
    void (*exp_sum)(const Tile<T>* x, const Tile<T>* e, const T* m, const ptrdiff_t* where, const int64_t* target, T* x_t, T* e_t,
                    ptrdiff_t ahead, const Tile<T>* g, RowSums* sums);

    // For n rows with maximum m, and logit x_t and exponential e_t at the target: log_sum, inverse, nll and miss.
    void (*log_rows)(ptrdiff_t n, const T* m, const T* x_t, const T* e_t, RowSums* sums);

    // g_ij = a_i * inverse_i * e_ij - minus_i (g may be e; minus may be null, and a_low, the rounding error of a). Products
    // below the smallest normal number become 0. target: also put.
    void (*scale)(const Tile<T>* e, const Tile<T>* g, const double* a, const double* a_low, const RowSums* sums,
                  const double* minus, const int64_t* target, const double* at_target);

    // The same with probabilities or weights: g_ij = coefficient_i * inverse_i * e_ij
    // - subtracted_i * w_j * (keep * q_ij + add).
    void (*scale_blended)(const Tile<T>* e, const Tile<T>* g, const RowResults* with, const RowSums* sums, const Blend<T>* blend);

    // g_it = at_target_i at t = target_i; a whole row of 0 where target_i < 0.
    void (*put)(const Tile<T>* g, const int64_t* target, const double* at_target);

    // Of rows with maximum m.
    void (*blend_sums)(const Tile<T>* x, const Blend<T>* blend, const T* m, BlendSums* sums);

    // Losses and gradient factors of n rows whose sums log_rows has finished; e_t as there. Formulas: row_formulas.hpp.
    void (*finish_rows)(ptrdiff_t n, const RowOptions* options, const T* e_t, const RowSums* sums, const BlendSums* blend,
                        RowResults* results);

    // Between a user's matrix and a tile. Tiles with row_stride 1 are filled up with copies of nothing in particular.
    void (*load_tile)(const Matrix* from, const Tile<T>* to);
    void (*store_tile)(const Tile<T>* from, const Matrix* to);

    // y_ij = x_ij - m_i - log_sum_i, the logarithm of the softmax (y may be x).
    void (*log_probability)(const Tile<T>* x, const Tile<T>* y, const T* m, const RowSums* sums);

    // As maximum, and first_i: the first class that attains m_i; -1 where the row has a NaN, m_i is infinite, or the row was
    // passed over.
    void (*argmax)(const Tile<T>* x, T* m, ptrdiff_t* where, int64_t* first, const int64_t* target);

    // mass_i = sum of q_ij over all classes but excluded_i.
    void (*mass_without)(const Tile<T>* q, const int64_t* excluded, double* mass);

    // Elementwise on n numbers; the result may replace the scores.
    void (*sigmoid)(ptrdiff_t n, const T* z, T* p);
    void (*log_sigmoid)(ptrdiff_t n, const T* z, T* y);

    // Losses and gradients of a block of binary scores; returns the sum of the losses.
    double (*binary)(BinaryBlock<T>* block);

    // load_tile for a LabelStorage and tiles with class_stride 1.
    void (*load_labels)(const Matrix* from, const Tile<T>* to);

    // The Brier score. e_ij = exp(x_ij - m_i), times 2^64 for float64, whose rounding errors lie `low` numbers behind; rest,
    // unit, inverse; first_i < 0: inverse is NaN.
    void (*brier_exp)(const Tile<T>* x, const Tile<double>* e, ptrdiff_t low, const T* m, const int64_t* first,
                      const int64_t* target, RowSums* sums);
    // squares and moment, with q' = keep q + add (no q: 0).
    void (*brier_sums)(const Tile<double>* e, ptrdiff_t low, const Blend<T>* blend, const int64_t* first, const int64_t* target,
                       const RowSums* sums, BrierRows* rows);
    // The rest of it, and the losses.
    void (*brier_rows)(const Tile<double>* e, ptrdiff_t low, const RowOptions* options, const Blend<T>* blend,
                       const int64_t* first, const RowSums* sums, BrierRows* rows, double* loss);
    // g may be x.
    void (*brier_gradient)(const Tile<double>* e, ptrdiff_t low, const Tile<T>* g, const Blend<T>* blend, const int64_t* target,
                           const RowSums* sums, const BrierRows* rows);

    // For the tests: an Elementary function of n numbers x = in[0] and y = in[1], whose rounding errors are in[2] and in[3].
    void (*elementary)(int function, ptrdiff_t n, const T* const in[4], T* high, T* low);
};

enum TargetsSeen { SEEN_KEPT = 1, SEEN_IGNORED = 2, SEEN_OUT_OF_RANGE = 4 };

struct BlockOpsTable {
    const char* level;
    BlockOps<float> f32;
    BlockOps<double> f64;
    // How many of n targets differ from `value`.
    ptrdiff_t (*count_other_than_i64)(const int64_t* target, ptrdiff_t n, int64_t value);
    ptrdiff_t (*count_other_than_i32)(const int32_t* target, ptrdiff_t n, int64_t value);
    // Targets, each read once: out_i = target_i, or -1 where that is ignore_index. Returns what was among them (TargetsSeen).
    int (*read_targets_i64)(const int64_t* target, ptrdiff_t n, int64_t ignore_index, int64_t classes, int64_t* out);
    int (*read_targets_i32)(const int32_t* target, ptrdiff_t n, int64_t ignore_index, int64_t classes, int64_t* out);
    // What n rows weigh in a mean: the sum of s_n w_t, but of those that are ignored.
    double (*sum_of_weights)(ptrdiff_t n, const RowOptions* options);
};

// level.cpp: the levels of this build, best first.
struct Level {
    const char* name;
    const BlockOpsTable* table;
    bool runnable;
};
const Level* celoss_levels(int* count);
