# What the vector code (src/simd) and the thread pool (src/threads) offer, as their headers say it. Included by _kernels.pyx.

cdef extern from "simd/block_ops.h" nogil:
    enum: CELOSS_LANE_GROUP
    enum: CELOSS_BLOCK_ROWS
    enum: SEEN_KEPT, SEEN_IGNORED, SEEN_OUT_OF_RANGE
    enum: STORED_FLOAT32, STORED_FLOAT64, STORED_FLOAT16, STORED_BFLOAT16
    enum: EXP, LOG1P_OF_EXP, LESS_LIKELY, EXP_OF_MAXIMUM, LOG1P_RATIO, LOG1P_RATIO_EXACT, EXP_OF_DISTANCE, EXP_OF_DIFFERENCE
    enum: STORED_INT8, STORED_UINT8, STORED_INT32, STORED_INT64

    cdef cppclass Tile[T]:
        T* at
        Py_ssize_t row_stride, class_stride, rows, classes

    cdef struct Matrix:
        char* at
        Py_ssize_t row_stride, class_stride
        int storage

    cdef cppclass Blend[T]:
        const T* q
        Py_ssize_t q_row_stride, q_class_stride
        const double* w
        double keep, add, keep_low, add_low

    cdef cppclass BinaryBlock[T]:
        int loss_kind
        Py_ssize_t n
        const T* z
        const T* y
        double keep, add, factor, keep_low, add_low
        const double* weight
        const double* pos_weight
        const double* upstream
        T* loss
        T* grad
        int bad_weight

    cdef struct RowSums:
        double* rest
        double* unit
        double* log_sum
        double* inverse
        double* nll
        double* miss
        double* rest_low
        double* log_sum_low
        double* inverse_low

    cdef struct BlendSums:
        double* mass
        double* gap
        double* mass_low
        double* gap_low

    cdef struct RowOptions:
        const int64_t* target
        const double* sample_weight
        const double* upstream
        const double* class_weight
        double factor
        bint blended
        double smoothing, keep, add, keep_low, add_low

    cdef struct RowResults:
        double* loss
        double* coefficient
        double* subtracted
        double* at_target
        double* coefficient_low
        double* subtracted_low

    cdef struct BrierRows:
        double* at_first
        double* at_target

    cdef cppclass BlockOps[T]:
        void maximum(const Tile[T]*, T*, Py_ssize_t*, const int64_t*)
        void exp_sum(const Tile[T]*, const Tile[T]*, const T*, const Py_ssize_t*, const int64_t*, T*, T*, Py_ssize_t,
                     const Tile[T]*, RowSums*)
        void log_rows(Py_ssize_t, const T*, const T*, const T*, RowSums*)
        void scale(const Tile[T]*, const Tile[T]*, const double*, const double*, const RowSums*, const double*, const int64_t*,
                   const double*)
        void scale_blended(const Tile[T]*, const Tile[T]*, const RowResults*, const RowSums*, const Blend[T]*)
        void put(const Tile[T]*, const int64_t*, const double*)
        void blend_sums(const Tile[T]*, const Blend[T]*, const T*, BlendSums*)
        void finish_rows(Py_ssize_t, const RowOptions*, const T*, const RowSums*, const BlendSums*, RowResults*)
        void load_tile(const Matrix*, const Tile[T]*)
        void store_tile(const Tile[T]*, const Matrix*)
        void log_probability(const Tile[T]*, const Tile[T]*, const T*, const RowSums*)
        void argmax(const Tile[T]*, T*, Py_ssize_t*, int64_t*, const int64_t*)
        void mass_without(const Tile[T]*, const int64_t*, double*)
        void sigmoid(Py_ssize_t, const T*, T*)
        void log_sigmoid(Py_ssize_t, const T*, T*)
        double binary(BinaryBlock[T]*)
        void load_labels(const Matrix*, const Tile[T]*)
        void brier_exp(const Tile[T]*, const Tile[double]*, Py_ssize_t, const T*, const int64_t*, const int64_t*, RowSums*)
        void brier_sums(const Tile[double]*, Py_ssize_t, const Blend[T]*, const int64_t*, const int64_t*, const RowSums*,
                        BrierRows*)
        void brier_rows(const Tile[double]*, Py_ssize_t, const RowOptions*, const Blend[T]*, const int64_t*, const RowSums*,
                        BrierRows*, double*)
        void brier_gradient(const Tile[double]*, Py_ssize_t, const Tile[T]*, const Blend[T]*, const int64_t*, const RowSums*,
                            const BrierRows*)
        void elementary(int, Py_ssize_t, const T**, T*, T*)

    cdef struct BlockOpsTable:
        const char* level
        BlockOps[float] f32
        BlockOps[double] f64
        Py_ssize_t (*count_other_than_i64)(const int64_t*, Py_ssize_t, int64_t) noexcept nogil
        Py_ssize_t (*count_other_than_i32)(const int32_t*, Py_ssize_t, int64_t) noexcept nogil
        int (*read_targets_i64)(const int64_t*, Py_ssize_t, int64_t, int64_t, int64_t*) noexcept nogil
        int (*read_targets_i32)(const int32_t*, Py_ssize_t, int64_t, int64_t, int64_t*) noexcept nogil
        double (*sum_of_weights)(Py_ssize_t, const RowOptions*) noexcept nogil

    cdef cppclass Level:
        const char* name
        const BlockOpsTable* table
        bint runnable

    const Level* celoss_levels(int*)

cdef extern from "threads/pool.h" nogil:
    ctypedef void (*PoolWork)(void*, Py_ssize_t, void*) noexcept
    bint celoss_pool_run(PoolWork, void*, Py_ssize_t, int, size_t)
    int celoss_pool_helpers()

cdef extern from *:
    """
    #define CELOSS_TEXT(macro) macro
    """
    const char* CELOSS_COMPILER
    const char* CELOSS_BUILD_TYPE
