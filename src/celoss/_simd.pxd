# The vector code, as its headers say it: what the kernels use of them.
from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool


cdef extern from "simd/contract.h" nogil:
    enum: CELOSS_LANE_GROUP
    enum: CELOSS_BLOCK_ROWS
    enum: SEEN_KEPT, SEEN_IGNORED, SEEN_OUT_OF_RANGE
    enum: EXP, LOG1P_OF_EXP, LESS_LIKELY, EXP_OF_MAXIMUM, EXP_IN_ROW
    enum: LOG1P_RATIO, LOG1P_RATIO_EXACT, EXP_TO_39_BITS, EXP_WITH_ERROR, LOG_AND_INVERSE, TANH
    enum: STORED_FLOAT32, STORED_FLOAT64, STORED_FLOAT16, STORED_BFLOAT16
    enum: STORED_INT8, STORED_UINT8, STORED_INT32, STORED_INT64

    cdef cppclass Tile[T]:
        T* at
        Py_ssize_t row_stride, class_stride, rows, classes

    cdef struct Ahead:
        pass

    cdef struct Matrix:
        char* at
        Py_ssize_t row_stride, class_stride
        int storage

    cdef cppclass Rows[T]:
        const int64_t* targets
        int64_t* target
        const int64_t* left_out
        T* maximum
        int64_t* argmax
        T* x_target
        T* x_left_out
        T* shift
        T* steps
        double* loss
        double* at_target
        double* hess_left_out
        double* hess_target
        double* v_target
        double* block_loss
        int64_t* rank
        double* logsumexp
        double* entropy

    cdef struct RowOptions:
        const double* sample_weight
        const double* upstream
        const double* class_weight
        double factor
        bint probabilities, soft_targets, hessian
        double smoothing, focal_gamma, z_loss

    cdef cppclass ScoreBlock[T]:
        int operation
        Py_ssize_t n
        const T* z
        const T* y
        double keep, keep_low, add, factor, focal_gamma
        const double* weight
        const double* pos_weight
        const double* upstream
        T* loss
        T* result
        T* hess
        int bad_value

    cdef cppclass BlockOps[T]:
        void maximum(const Tile[T]*, Rows[T]*)
        void place_of_maximum(const Tile[T]*, Rows[T]*)
        void argmax(const Tile[T]*, Rows[T]*)
        void soft_sums(const Tile[T]*, const Tile[T]*, const RowOptions*, Rows[T]*)
        void exp_sum(const Tile[T]*, const Tile[T]*, const Ahead*, Rows[T]*)
        void exp_left_out(Py_ssize_t, Rows[T]*)
        void times_power(const Tile[T]*, int)
        void log_rows(Py_ssize_t, Rows[T]*)
        void cross_entropy(Py_ssize_t, const RowOptions*, Rows[T]*)
        void gradient(const Tile[T]*, const Tile[T]*, const Tile[T]*, const RowOptions*, Rows[T]*)
        void gradient_and_hessian(const Tile[T]*, const Tile[T]*, const Tile[T]*, const Tile[T]*, double, bint, bint,
                                  const RowOptions*, Rows[T]*)
        void hessp_sums(const Tile[T]*, const Tile[T]*, Rows[T]*)
        void hessp_rows(Py_ssize_t, const RowOptions*, Rows[T]*)
        void hessp(const Tile[T]*, const Tile[T]*, const Tile[T]*, bint, const Rows[T]*)
        void inverse_rows(Py_ssize_t, Rows[T]*)
        void softmax(const Tile[T]*, const Tile[T]*, Rows[T]*)
        void log_softmax(const Tile[T]*, const Tile[T]*, const Rows[T]*)
        void logsumexp(Py_ssize_t, Rows[T]*)
        void infinite_sums(const Tile[T]*, Rows[T]*)
        void soften(const Tile[T]*, const Tile[T]*, const Tile[T]*, double, double, Rows[T]*)
        void times_slope(const Tile[T]*, const Tile[T]*, const Rows[T]*)
        void ranks(const Tile[T]*, Rows[T]*)
        void entropy_sums(const Tile[T]*, const Tile[T]*, Rows[T]*)
        void statistics(Py_ssize_t, Rows[T]*)
        void kl_divergence(const Tile[T]*, const Tile[T]*, const Tile[double]*, const Tile[T]*, double, const RowOptions*,
                           Rows[T]*)
        void softmax_vjp_sums(const Tile[T]*, const Tile[T]*, Rows[T]*)
        void softmax_vjp(const Tile[T]*, const Tile[T]*, const Tile[T]*, const Rows[T]*)
        void log_softmax_vjp_sums(const Tile[T]*, const Tile[T]*, Rows[T]*)
        void log_softmax_vjp(const Tile[T]*, const Tile[T]*, const Tile[T]*, const Rows[T]*)
        void zero_one(Py_ssize_t, const Tile[T]*, const RowOptions*, Rows[T]*)
        void brier(const Tile[T]*, const Tile[double]*, const Tile[T]*, const Tile[T]*, const RowOptions*, Rows[T]*)
        void load_tile(const Matrix*, const Tile[T]*, bint)
        void store_tile(const Tile[T]*, const Matrix*, bint)
        void load_labels(const Matrix*, const Tile[T]*)
        double scores(ScoreBlock[T]*)
        void probe(int, Py_ssize_t, const T**, T*, T*)

    cdef struct BlockOpsTable:
        const char* level
        BlockOps[float] f32
        BlockOps[double] f64
        Py_ssize_t (*count_other_than_i64)(const int64_t*, Py_ssize_t, int64_t) noexcept nogil
        Py_ssize_t (*count_other_than_i32)(const int32_t*, Py_ssize_t, int64_t) noexcept nogil
        int (*read_targets_i64)(const int64_t*, const double*, Py_ssize_t, int64_t, int64_t, int64_t*) noexcept nogil
        int (*read_targets_i32)(const int32_t*, const double*, Py_ssize_t, int64_t, int64_t, int64_t*) noexcept nogil
        void (*ratios_of_pieces)(Py_ssize_t, const double*, const double*, double, double, double*, double*) noexcept nogil
        double (*sum_of_weights)(Py_ssize_t, const int64_t*, const RowOptions*) noexcept nogil

    cdef cppclass Level:
        const char* name
        const BlockOpsTable* table
        bint runnable

    const Level* celoss_levels(int*)


cdef extern from "simd/layout.hpp" nogil:
    cdef struct Layout:
        char* at
        const int64_t* outer_offsets
        Py_ssize_t outer_stride, inner_stride, class_stride
        int storage
        bool unaligned

    cdef cppclass Workplace[T]:
        Tile[T] x, q, g, e, v, h, slope
        Tile[double] wide
        Ahead ahead
        Py_ssize_t first_class
        bint whole_rows, stream, has_maxima
        double ratio

    Ahead ahead_in_row(const Layout&, const Layout&, const Layout&, const Layout&, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    Tile[T] tile_at[T](T*, Py_ssize_t, Py_ssize_t, bool)
    Py_ssize_t numbers_of_tile(Py_ssize_t, Py_ssize_t, bool)
    bint is_class_after_class(const Layout&)
    Ahead ahead_of(const Layout&, const Layout&, const Layout&, const Layout&, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    Matrix matrix_at(const Layout&, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    bint is_direct[T](const Layout&, const T*)
    bint is_native[T](int, const T*)
    void work_in_place[T](const Layout&, Py_ssize_t, Py_ssize_t, Py_ssize_t, Tile[T]*)
    void clear_rows(const Matrix&, Py_ssize_t, Py_ssize_t)


cdef extern from "simd/sums.hpp" nogil:
    double sum_of_losses(const double*, Py_ssize_t)
    void put_losses(const double*, Py_ssize_t, char*, int, Py_ssize_t)
    void set_smoothing(RowOptions*, double, Py_ssize_t)


cdef extern from "simd/pieces.hpp" nogil:
    cdef struct Piece:
        double maximum, shift, steps
        int64_t argmax

    cdef struct Exact:
        double high, low

    cdef struct Ratio:
        Exact ratio
        int power

    void take_piece[T](const Rows[T]*, Piece*)
    void put_piece[T](const Piece*, Rows[T]*)
    Py_ssize_t put_maximum[T](const Piece*, Py_ssize_t, Rows[T]*)
    Ratio ratio_of(double, double)
    void scale_coefficient[T](const Ratio&, Rows[T]*)
    void merge_sums[T](const Piece*, const Ratio*, Py_ssize_t, Py_ssize_t, Rows[T]*)
