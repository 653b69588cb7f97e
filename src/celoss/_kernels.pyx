# cython: language_level=3, cdivision=True
# cython: freethreading_compatible=True
"""The fused kernels: which passes an operation on rows is made of, and how blocks of rows go through them.

Read this file for the algorithm: `operations` has a line for each operation, and the function that it names has the passes in
their order. What is included at the end stands above it: long rows in pieces, scores one at a time, and what Python calls.
Data reaches this module checked (by `_arguments`, or by `_short_paths.pxi`), except what is tested where it is
read: the range of targets, weights of scores. Nothing below this file knows Python; nothing in it knows an instruction set.
"""
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strcpy
from libcpp.atomic cimport atomic

from celoss._kept cimport (
    celoss_keep_blocks, celoss_kept_bytes, celoss_kept_calloc, celoss_kept_free, celoss_kept_malloc, celoss_kept_realloc,
    celoss_most_kept_bytes,
)
from celoss._pool cimport PoolWork, celoss_pool_helpers, celoss_pool_run
from celoss._simd cimport (
    CELOSS_BLOCK_ROWS, CELOSS_LANE_GROUP, SEEN_IGNORED, SEEN_KEPT, SEEN_OUT_OF_RANGE, STORED_BFLOAT16, STORED_FLOAT16,
    STORED_FLOAT32, STORED_FLOAT64, STORED_INT8, STORED_INT32, STORED_INT64, STORED_UINT8, BlockOps, BlockOpsTable, Layout,
    Level, Matrix, Piece, Ratio, RowOptions, Rows, ScoreBlock, Tile, Workplace, ahead_in_row, ahead_of, celoss_levels,
    clear_rows, is_class_after_class, is_direct, is_native, matrix_at, merge_sums, numbers_of_tile, put_losses, put_maximum,
    put_piece, ratio_of, scale_coefficient, set_smoothing, sum_of_losses, take_piece, tile_at, work_in_place,
)
from celoss cimport _simd

import os

import numpy as np

cnp.import_array()

ctypedef fused real:
    float
    double

# ---- sizes: the one place ------------------------------------------------------------------------------------------------

cdef enum:
    # Up to so many classes, rows are the lanes of the vectors; above, classes are. Where the two cost the same (docs/design.md,
    # "Blocks, stretches, chunks"): of most operations; and of log_softmax, the Brier score and the classification error.
    ROWS_AS_LANES = 127
    ROWS_AS_FEWER_LANES = 96
    # Rows whose losses are summed together: a tile of them stays in the second-level cache, and they are at most
    # CELOSS_BLOCK_ROWS, the length of the per-row arrays.
    BLOCK_BYTES = 131072
    # Of a block, so many go through the passes together that logits and exponentials stay in the first-level cache; where
    # they are copied to a tile first, the whole block (long runs cost fewer cache lines and pages).
    STRETCH_BYTES = 16384
    # From so many bytes on a second result is written past the cache: 30 % less time at 1 024 x 32 000.
    STREAMED_BYTES = 67108864
    # What a thread takes at a time: 5 to 20 microseconds of work. Fixed, since the final sum runs over chunks.
    CHUNK_NUMBERS = 32768
    # One more thread for every so many numbers: about 50 microseconds of work each.
    NUMBERS_PER_THREAD = 163840


# ---- the state of the module: the level in use, and how many threads ------------------------------------------------------
#
# All that calls share, with the pool. It is safe without the interpreter's lock: `table` is set at import (and by tests,
# between calls), `thread_limit` is atomic. docs/design.md, "Free threading", has the reasons for the rest.

cdef const BlockOpsTable* table = NULL
cdef atomic[int] thread_limit
thread_limit.store(1)


def levels():
    """Levels of this build, best first: (name, whether this machine can run it)."""
    cdef int count, i
    cdef const Level* found = celoss_levels(&count)
    return [(found[i].name.decode(), bool(found[i].runnable)) for i in range(count)]


def use_level(str name):
    """Use the block operations of the level `name`; "" means the best that can run."""
    global table
    cdef int count, i
    cdef const Level* found = celoss_levels(&count)
    for i in range(count):
        if found[i].runnable and (not name or found[i].name.decode() == name):
            table = found[i].table
            return
    built = ", ".join(f"{level} ({'runs here' if runs else 'cannot run on this machine'})" for level, runs in levels())
    asked = f"CELOSS_LEVEL={name!r} names no level that can be used here" if name else "no level can be used here"
    raise ImportError(f"{asked}; levels of this build: {built}")


def level():
    """Name of the level in use."""
    return table.level.decode()


def build():
    """Compiler and build type of this module."""
    return {"compiler": CELOSS_COMPILER.decode(), "build_type": CELOSS_BUILD_TYPE.decode()}


cdef extern from *:
    const char* CELOSS_COMPILER
    const char* CELOSS_BUILD_TYPE


def set_thread_limit(int n):
    """Use at most n threads, the caller's among them."""
    thread_limit.store(n)


def get_thread_limit():
    """At most so many threads are used."""
    return thread_limit.load()


def helper_threads():
    """Helper threads that exist now."""
    return celoss_pool_helpers()


use_level(os.environ.get("CELOSS_LEVEL", ""))


cdef inline const BlockOps[real]* ops_for(const real* kind) noexcept nogil:
    if real is float:
        return &table.f32
    else:
        return &table.f64


cdef inline const BlockOps[real]* ops_of(const Rows[real]* r) noexcept nogil:
    return ops_for(<const real*>NULL)


# ---- one call's work -------------------------------------------------------------------------------------------------------

cdef struct Call:
    const RowOperation* does
    Py_ssize_t rows, classes, inner_rows
    Py_ssize_t chunk_rows, block_rows, stretch_rows
    bint rows_as_lanes
    bint streams                    # the diagonal, or the product, is written past the cache
    Layout x, g, q                  # g.at is NULL: no result for each logit. q.at is NULL: targets are class indices, or none
    Layout h, v                     # the Hessian's diagonal; a vector whose product with it is wanted. NULL: not
    const char* target              # contiguous, int64 or int32; or NULL
    int target_size
    int64_t ignore_index
    RowOptions options              # of all rows: see `options_of_rows`
    double logit_scale, softcap     # softcap 0: none
    bint softens                    # one of them changes the logits
    double temperature
    char* row_logsumexp             # of statistics, as row_loss: NULL for everything else
    char* row_entropy
    int64_t* row_rank
    int64_t* row_prediction
    bint ignore_all                 # the mean's denominator is 0: there is a gradient to clear, and nothing else
    char* row_loss                  # one per row, or NULL
    int row_loss_size
    double* chunk_loss
    atomic[Py_ssize_t] bad_row      # a row whose target is out of range; -1: none


# The passes, each a step of every operation. A block of rows goes through all of them at once; a long row's pieces go
# through some of them together, and are put together in between.
cdef enum Step:
    MAXIMUM = 1
    SOFT_SUMS = 2
    EXP_SUM = 4
    LOSS = 8
    RESULT = 16
    ALL_STEPS = 31

ctypedef void (*PassesOfFloats)(Call*, Py_ssize_t, const Workplace[float]*, Rows[float]*, int) noexcept nogil
ctypedef void (*PassesOfDoubles)(Call*, Py_ssize_t, const Workplace[double]*, Rows[double]*, int) noexcept nogil

# What sets one operation on rows apart from the others: all of it. `operations`, below, has a line for each.
cdef struct RowOperation:
    PassesOfFloats floats           # the passes over some rows, in the arithmetic type
    PassesOfDoubles doubles
    Py_ssize_t most_lane_classes    # up to so many classes, rows are the lanes
    bint in_pieces                  # long rows are cut into pieces that threads share
    bint keeps_exponentials         # between EXP_SUM and RESULT, where the result goes
    bint has_losses                 # there is a number for each row, to be summed
    bint fetches                    # its passes have the rows that come next fetched into the cache
    int wide_tiles                  # scratch for exponentials in float64: so many tiles of the arithmetic type
    bint one_hot                    # smoothing takes a tile of its own, for the targets as probabilities
    bint ranks                      # goes by the logits as they are given; wants exponentials, and no result for each logit


cdef inline RowOptions options_of_rows(const Call* c, Py_ssize_t n, Py_ssize_t first_class) noexcept nogil:
    """The options of rows n and on, and of their classes from `first_class` on."""
    cdef RowOptions options = c.options
    if options.sample_weight != NULL:
        options.sample_weight += n
    if options.upstream != NULL:
        options.upstream += n
    if options.class_weight != NULL:
        options.class_weight += first_class
    return options


# ---- the passes of each operation ------------------------------------------------------------------------------------------
#
# Over rows n and on, which are worked on at `at`; what is known of them stands in r. (docs/design.md, "One row".)

cdef inline bint soften(const Call* c, Tile[real]* x, const Tile[real]* scratch, const Tile[real]* slope,
                        Rows[real]* r) noexcept nogil:
    """Logits as their options have them, in scratch; and the slope of a cap, where a place for it is given.

    Returns whether their maxima are in r, if it is there: a pass less over them.
    """
    if not c.softens:
        return False
    ops_for(x.at).soften(x, scratch, slope, c.logit_scale, c.softcap, r)
    x[0] = scratch[0]
    return r != NULL and not c.rows_as_lanes


cdef void cross_entropy_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    cdef RowOptions options = options_of_rows(c, n, at.first_class)
    # 1. The maximum of each row; and which class is left out of its sum, so that the share of the others has its full relative
    # accuracy: the target, or the maximum where its logarithm, or the others' share, may be all of a result (cross_entropy.hpp).
    if (not options.probabilities and (at.whole_rows or not options.hessian)
            and (options.class_weight == NULL or not options.soft_targets)):
        r.left_out = r.target
        if steps & MAXIMUM and not at.has_maxima:
            ops.maximum(&at.x, r)
    else:
        r.left_out = r.argmax
        if steps & MAXIMUM:
            ops.place_of_maximum(&at.x, r)
    # 2. What smoothing or probabilities need of the logits, which step 3 may overwrite.
    if steps & SOFT_SUMS and options.soft_targets:
        ops.soft_sums(&at.x, &at.q, &options, r)
    # 3. Exponentials, and the sum of the others.
    if steps & EXP_SUM:
        ops.exp_sum(&at.x, &at.e, &at.ahead, r)
        if at.v.at != NULL:
            ops.hessp_sums(&at.e, &at.v, r)
    # 4. The logarithm, and the loss with all options.
    if steps & LOSS:
        ops.cross_entropy(at.x.rows, &options, r)
        if at.v.at != NULL:
            ops.hessp_rows(at.x.rows, &options, r)
    # 5. The gradient, and the Hessian's diagonal; or its product with a vector.
    if steps & RESULT and at.v.at != NULL:
        ops.hessp(&at.e, &at.v, &at.g, at.stream, r)
    elif steps & RESULT and at.h.at != NULL:
        ops.gradient_and_hessian(&at.e, &at.g, &at.h, &at.q, at.ratio, at.whole_rows, at.stream, &options, r)
    elif steps & RESULT and at.g.at != NULL:
        ops.gradient(&at.e, &at.g, &at.q, &options, r)
    # 6. Back through the cap of the logits.
    if steps & RESULT and at.slope.at != NULL:
        ops.times_slope(&at.g, &at.slope, r)


cdef void softmax_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    if steps & MAXIMUM:
        ops.maximum(&at.x, r)
    r.left_out = NULL
    if steps & EXP_SUM:
        ops.exp_sum(&at.x, &at.g, &at.ahead, r)
    if steps & LOSS:
        ops.inverse_rows(at.x.rows, r)
    if steps & RESULT:
        ops.softmax(&at.g, &at.g, r)


cdef void log_softmax_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    cdef Tile[real] nowhere = at.g
    nowhere.at = NULL
    if steps & MAXIMUM:
        ops.place_of_maximum(&at.x, r)
    r.left_out = r.argmax
    if steps & EXP_SUM:
        ops.exp_sum(&at.x, &nowhere, &at.ahead, r)
    if steps & LOSS:
        ops.log_rows(at.x.rows, r)
    if steps & RESULT:
        ops.log_softmax(&at.x, &at.g, r)


cdef void logsumexp_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    if steps & MAXIMUM:
        ops.place_of_maximum(&at.x, r)
    r.left_out = r.argmax
    if steps & EXP_SUM:
        ops.infinite_sums(&at.x, r)
        ops.exp_sum(&at.x, &at.g, &at.ahead, r)
    if steps & LOSS:
        ops.log_rows(at.x.rows, r)
        ops.logsumexp(at.x.rows, r)


cdef void softmax_vjp_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    """Of probabilities x and their upstream gradient, which stands where other operations have probabilities as targets."""
    cdef const BlockOps[real]* ops = ops_of(r)
    if steps & EXP_SUM:
        ops.softmax_vjp_sums(&at.x, &at.q, r)
    if steps & RESULT:
        ops.softmax_vjp(&at.x, &at.q, &at.g, r)


cdef void log_softmax_vjp_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    if steps & EXP_SUM:
        ops.log_softmax_vjp_sums(&at.x, &at.q, r)
    if steps & RESULT:
        ops.log_softmax_vjp(&at.x, &at.q, &at.g, r)


cdef void brier_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    cdef RowOptions options = options_of_rows(c, n, 0)
    ops.argmax(&at.x, r)
    ops.brier(&at.x, &at.wide, &at.g if at.g.at != NULL else NULL, &at.q, &options, r)


cdef void zero_one_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    cdef RowOptions options = options_of_rows(c, n, 0)
    ops.argmax(&at.x, r)
    ops.zero_one(at.x.rows, &at.q, &options, r)


cdef void statistics_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    cdef const BlockOps[real]* ops = ops_of(r)
    cdef Tile[real] x = at.x
    # 1. What a cap may not change, though it rounds to equal logits what is not equal.
    ops.argmax(&x, r)
    r.left_out = r.argmax
    ops.ranks(&x, r)
    if c.softens and not soften(c, &x, &at.q, &at.slope, r):
        ops.maximum(&x, r)
    # 2. Exponentials, and their sums.
    ops.exp_sum(&x, &at.e, &at.ahead, r)
    ops.entropy_sums(&x, &at.e, r)
    ops.statistics(x.rows, r)


cdef void kl_divergence_rows(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    """Of logits x and those of the reference, which stand where other operations have probabilities as targets."""
    cdef RowOptions options = options_of_rows(c, n, 0)
    ops_of(r).kl_divergence(&at.x, &at.q, &at.wide, &at.g if at.g.at != NULL else NULL, c.temperature, &options, r)


cpdef enum Operation:
    CROSS_ENTROPY = 0
    BRIER = 1
    ZERO_ONE = 2
    SOFTMAX = 3
    LOG_SOFTMAX = 4
    LOGSUMEXP = 5
    SOFTMAX_VJP = 6
    LOG_SOFTMAX_VJP = 7
    STATISTICS = 8
    KL_DIVERGENCE = 9


cdef RowOperation operations[10]


cdef void add(Operation operation, PassesOfFloats floats, PassesOfDoubles doubles, Py_ssize_t most_lane_classes, bint in_pieces,
              bint keeps_exponentials, bint has_losses, bint fetches, int wide_tiles, bint one_hot,
              bint ranks=False) noexcept nogil:
    operations[<int>operation] = RowOperation(floats, doubles, most_lane_classes, in_pieces, keeps_exponentials, has_losses,
                                              fetches, wide_tiles, one_hot, ranks)


cdef void fill_operations() noexcept nogil:
    # Each: its passes; most_lane_classes; in_pieces, keeps_exponentials, has_losses, fetches; wide_tiles, one_hot; ranks.
    add(CROSS_ENTROPY, cross_entropy_rows[float], cross_entropy_rows[double], ROWS_AS_LANES, True, True, True, True, 0, False)
    add(BRIER, brier_rows[float], brier_rows[double], ROWS_AS_FEWER_LANES, False, False, True, False, 2, True)
    add(ZERO_ONE, zero_one_rows[float], zero_one_rows[double], ROWS_AS_FEWER_LANES, False, False, True, False, 0, False)
    add(SOFTMAX, softmax_rows[float], softmax_rows[double], ROWS_AS_LANES, True, True, False, True, 0, False)
    add(LOG_SOFTMAX, log_softmax_rows[float], log_softmax_rows[double], ROWS_AS_FEWER_LANES, True, False, False, True, 0, False)
    add(LOGSUMEXP, logsumexp_rows[float], logsumexp_rows[double], ROWS_AS_LANES, True, False, True, True, 0, False)
    add(SOFTMAX_VJP, softmax_vjp_rows[float], softmax_vjp_rows[double], ROWS_AS_LANES, True, False, False, False, 0, False)
    add(LOG_SOFTMAX_VJP, log_softmax_vjp_rows[float], log_softmax_vjp_rows[double], ROWS_AS_LANES, True, False, False, False, 0,
        False)
    add(STATISTICS, statistics_rows[float], statistics_rows[double], ROWS_AS_FEWER_LANES, False, False, True, True, 0, False,
        True)
    add(KL_DIVERGENCE, kl_divergence_rows[float], kl_divergence_rows[double], ROWS_AS_FEWER_LANES, False, False, True, False,
        4, False)


fill_operations()


cdef inline void run_passes(Call* c, Py_ssize_t n, const Workplace[real]* at, Rows[real]* r, int steps) noexcept nogil:
    if real is float:
        c.does.floats(c, n, at, r, steps)
    else:
        c.does.doubles(c, n, at, r, steps)


# ---- blocks of rows ----------------------------------------------------------------------------------------------------------

cdef inline int read_targets(const Call* c, Py_ssize_t n, Py_ssize_t rows, int64_t* out) noexcept nogil:
    """Targets of `rows` rows from n on, each read once (the array may change under the call); what is seen among them."""
    cdef const double* weight = c.options.sample_weight
    if weight != NULL:
        weight += n
    if c.target_size == 8:
        return table.read_targets_i64(<const int64_t*>c.target + n, weight, rows, c.ignore_index, c.classes, out)
    return table.read_targets_i32(<const int32_t*>c.target + n, weight, rows, c.ignore_index, c.classes, out)


cdef inline bint is_left_out(const Call* c, Py_ssize_t n) noexcept nogil:
    """Whether a row of probabilities counts nothing. (Of class indices `read_targets` tells.)"""
    return c.options.probabilities and c.options.sample_weight != NULL and c.options.sample_weight[n] == 0


cdef inline Py_ssize_t tiles_of_scratch(const Call* c, real* kind) noexcept nogil:
    """How many tiles the rows that go through the passes together need, beside the user's arrays."""
    cdef Py_ssize_t tiles = 0
    if c.rows_as_lanes or c.softens or not is_direct(c.x, kind) or (c.g.at != NULL and not is_direct(c.g, kind)):
        tiles = 1
    if c.options.probabilities or (c.does.one_hot and c.options.smoothing > 0) or c.does.ranks:
        tiles = 2
    if c.v.at != NULL or c.h.at != NULL:
        tiles = 3
    if c.softcap > 0 and c.g.at != NULL:
        tiles = 4
    return tiles + c.does.wide_tiles


cdef inline void take_in(const Call* c, const Layout& a, Py_ssize_t outer, Py_ssize_t inner, Tile[real]* tile) noexcept nogil:
    """Rows of an array, worked on where they are if its layout allows it, or copied to the tile's memory."""
    cdef Matrix matrix
    if not c.rows_as_lanes and is_direct(a, tile.at):
        work_in_place(a, outer, inner, 0, tile)
    else:
        matrix = matrix_at(a, outer, inner, 0)
        ops_for(tile.at).load_tile(&matrix, tile, not c.does.fetches)


cdef inline Layout fetched(const Call* c, const Layout& a, bint may_stream) noexcept nogil:
    """An array of results as what is to be fetched into the cache: not what is written past it."""
    cdef Layout layout = a
    if may_stream and c.streams:
        layout.at = NULL
    return layout


cdef bint is_streamed(const Call* c, const Layout& a, real* kind) noexcept nogil:
    """Whether a result is better written past the cache: it is large, nothing of it is there, and its lines are whole."""
    return (a.at != NULL and a.at != c.x.at and c.rows * c.classes * <Py_ssize_t>sizeof(real) >= STREAMED_BYTES
            and not c.rows_as_lanes and is_direct(a, kind))


cdef void run_stretch(Call* c, Py_ssize_t n, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t rows, Rows[real]* r) noexcept nogil:
    """All passes over rows that follow one another at `inner` within `outer`; those ignored are marked in r.target.

    Logits and result are worked on in the user's arrays where their layout allows, elsewhere in one tile of scratch.
    """
    cdef const BlockOps[real]* ops = ops_of(r)
    cdef Py_ssize_t numbers = numbers_of_tile(rows, c.classes, c.rows_as_lanes)
    cdef real* memory = <real*>(r + 1)
    cdef Workplace[real] at
    cdef Tile[real] scratch
    cdef Matrix matrix
    at.first_class = 0
    at.has_maxima = False
    at.whole_rows = True
    at.ratio = 1
    at.wide = tile_at(<double*>memory, rows, c.classes, c.rows_as_lanes)
    memory += c.does.wide_tiles * numbers
    at.x = tile_at(memory, rows, c.classes, c.rows_as_lanes)
    at.g = scratch = at.x
    at.q = tile_at(memory + numbers, rows, c.classes, c.rows_as_lanes)
    at.v = at.h = tile_at(memory + 2 * numbers, rows, c.classes, c.rows_as_lanes)
    if c.options.probabilities:
        take_in(c, c.q, outer, inner, &at.q)
    if c.v.at != NULL:
        take_in(c, c.v, outer, inner, &at.v)
    else:
        at.v.at = NULL
    if c.h.at == NULL:
        at.h.at = NULL
    elif not c.rows_as_lanes and is_direct(c.h, memory):
        work_in_place(c.h, outer, inner, 0, &at.h)
    at.stream = c.streams
    at.ahead = ahead_of(c.x, c.v, fetched(c, c.g, c.v.at != NULL), fetched(c, c.h, True), outer, inner + rows,
                        min(rows, c.inner_rows - inner - rows), c.classes)
    take_in(c, c.x, outer, inner, &at.x)
    at.slope = tile_at(memory + 3 * numbers, rows, c.classes, c.rows_as_lanes)
    if c.g.at == NULL or c.softcap == 0:
        at.slope.at = NULL
    if c.g.at == NULL:
        at.g.at = NULL
    elif not c.rows_as_lanes and is_direct(c.g, memory):
        work_in_place(c.g, outer, inner, 0, &at.g)
    if c.does.ranks:
        at.q = scratch
    else:  # where the result goes: a tile less in the cache
        at.has_maxima = soften(c, &at.x, &at.g if at.g.at != NULL else &scratch, &at.slope, r)
    at.e = at.g
    if c.does.ranks:
        at.e = tile_at(memory + numbers, rows, c.classes, c.rows_as_lanes)
    if at.stream and c.v.at != NULL:  # exponentials in its place would bring into the cache what is written past it
        at.e = tile_at(memory, rows, c.classes, False)
    run_passes(c, n, &at, r, ALL_STEPS)
    if at.g.at == memory:
        matrix = matrix_at(c.g, outer, inner, 0)
        ops.store_tile(&at.g, &matrix, not c.does.fetches)
    if at.h.at == memory + 2 * numbers:
        matrix = matrix_at(c.h, outer, inner, 0)
        ops.store_tile(&at.h, &matrix, not c.does.fetches)


cdef void clear_results(const Call* c, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t rows) noexcept nogil:
    cdef Matrix matrix
    if c.g.at != NULL:
        matrix = matrix_at(c.g, outer, inner, 0)
        clear_rows(matrix, rows, c.classes)
    if c.h.at != NULL:
        matrix = matrix_at(c.h, outer, inner, 0)
        clear_rows(matrix, rows, c.classes)


cdef void put_statistics(const Call* c, Py_ssize_t n, Py_ssize_t rows, bint counts, Rows[real]* r) noexcept nogil:
    cdef Py_ssize_t i
    if not counts:
        for i in range(rows):
            r.rank[i] = r.argmax[i] = -1
            r.logsumexp[i] = r.entropy[i] = 0
    put_losses(r.logsumexp, rows, c.row_logsumexp, c.row_loss_size, n)
    put_losses(r.entropy, rows, c.row_entropy, c.row_loss_size, n)
    memcpy(c.row_rank + n, r.rank, <size_t>rows * sizeof(int64_t))
    memcpy(c.row_prediction + n, r.argmax, <size_t>rows * sizeof(int64_t))


cdef double run_block(Call* c, Py_ssize_t n, Py_ssize_t rows, Rows[real]* r) noexcept nogil:
    """Rows n to n + rows: their targets read once and tested, then the passes over each stretch of neighbours.

    Returns the sum of their losses, in an order that knows nothing of the stretches.
    """
    cdef Py_ssize_t done = 0, outer, inner, stretch, i
    cdef int seen, all_seen = 0
    r.targets = r.target if c.target != NULL else NULL
    while done < rows:
        outer = (n + done) // c.inner_rows
        inner = (n + done) - outer * c.inner_rows
        stretch = min(min(rows - done, c.inner_rows - inner), c.stretch_rows)
        seen = SEEN_KEPT
        if c.ignore_all:
            seen = SEEN_IGNORED
        elif c.target != NULL:
            seen = read_targets(c, n + done, stretch, r.target)
            if seen & SEEN_OUT_OF_RANGE:
                c.bad_row.store(n + done)
                return 0
        all_seen |= seen
        if seen & SEEN_KEPT:
            run_stretch(c, n + done, outer, inner, stretch, r)
            if c.g.at != NULL and c.options.probabilities:
                for i in range(stretch):
                    if is_left_out(c, n + done + i):
                        clear_results(c, outer, inner + i, 1)
            memcpy(r.block_loss + done, r.loss, <size_t>stretch * sizeof(double))
        else:
            clear_results(c, outer, inner, stretch)
            memset(r.block_loss + done, 0, <size_t>stretch * sizeof(double))
        if c.row_rank != NULL:
            put_statistics(c, n + done, stretch, seen & SEEN_KEPT, r)
        done += stretch
    if c.row_loss != NULL:
        put_losses(r.block_loss, rows, c.row_loss, c.row_loss_size, n)
    return sum_of_losses(r.block_loss, rows) if all_seen & SEEN_KEPT and c.does.has_losses else 0


cdef void run_chunk(Call* c, Py_ssize_t chunk, Rows[real]* r) noexcept nogil:
    cdef Py_ssize_t n = chunk * c.chunk_rows, end = min(c.rows, n + c.chunk_rows), rows
    cdef double loss = 0
    while n < end and c.bad_row.load() < 0:
        rows = min(c.block_rows, end - n)
        loss += run_block(c, n, rows, r)
        n += rows
    c.chunk_loss[chunk] = loss


cdef void chunk_of_floats(void* call, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_chunk(<Call*>call, chunk, <Rows[float]*>scratch)


cdef void chunk_of_doubles(void* call, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_chunk(<Call*>call, chunk, <Rows[double]*>scratch)


cdef inline Py_ssize_t in_groups(Py_ssize_t rows, Py_ssize_t group) noexcept nogil:
    """The most whole groups of at most so many rows, but one at least."""
    return max(group, rows // group * group)


cdef bint run_blocks(Call* c, int limit, double* loss) noexcept nogil:
    """Cut the call into blocks and chunks by its shape alone, and run them; the sum of the losses. False: no memory."""
    cdef bint wide = is_native(c.x.storage, <double*>NULL)
    cdef Py_ssize_t size = 8 if wide else 4
    cdef Py_ssize_t row = c.classes * size, group = 1, chunks, tiles
    cdef size_t scratch = sizeof(Rows[double]) if wide else sizeof(Rows[float])
    cdef bint ran
    cdef double one_chunk
    c.rows_as_lanes = c.classes <= c.does.most_lane_classes
    c.streams = False
    if c.rows_as_lanes:
        group = CELOSS_LANE_GROUP
    elif c.h.at != NULL or c.v.at != NULL:
        c.streams = is_streamed(c, c.g if c.h.at == NULL else c.h, <double*>NULL) if wide else is_streamed(
            c, c.g if c.h.at == NULL else c.h, <float*>NULL)
    c.block_rows = in_groups(min(<Py_ssize_t>CELOSS_BLOCK_ROWS, BLOCK_BYTES // row), group)
    c.stretch_rows = c.block_rows
    if is_class_after_class(c.x):
        c.stretch_rows = in_groups(min(c.block_rows, STRETCH_BYTES // row), group)
    c.chunk_rows = max(c.block_rows, CHUNK_NUMBERS // c.classes // c.block_rows * c.block_rows)
    chunks = (c.rows + c.chunk_rows - 1) // c.chunk_rows
    tiles = tiles_of_scratch(c, <double*>NULL) if wide else tiles_of_scratch(c, <float*>NULL)
    scratch += <size_t>(c.stretch_rows * row * tiles)
    c.chunk_loss = &one_chunk
    if chunks > 1:
        c.chunk_loss = <double*>malloc(<size_t>chunks * sizeof(double))
        if c.chunk_loss == NULL:
            return False
    ran = celoss_pool_run(chunk_of_doubles if wide else chunk_of_floats, c, chunks, threads_for(c.rows * c.classes, limit),
                          scratch)
    if ran:
        loss[0] = sum_of_losses(c.chunk_loss, chunks)  # in the order of the chunks
    if chunks > 1:
        free(c.chunk_loss)
    return ran


cdef inline int threads_for(Py_ssize_t numbers, int limit) noexcept nogil:
    """How many threads are worth their waking, at most `limit`."""
    return <int>max(<Py_ssize_t>1, min(<Py_ssize_t>limit, numbers // NUMBERS_PER_THREAD))


include "_long_rows.pxi"
include "_scores.pxi"
include "_results.pxi"
include "_entries.pxi"
include "_short_paths.pxi"
