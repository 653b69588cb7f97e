# cython: language_level=3, cdivision=True
# cython: freethreading_compatible=True
"""The fused kernels: how the blocks of rows go through the passes, on which threads, with which options.

Data reaches this module checked (by `_arguments`, or by the fast path here), except the range of the targets, which is
tested where a target is read. Nothing below this file knows Python; nothing in it knows an instruction set.
"""
cimport numpy as cnp
from libc.math cimport INFINITY, NAN, fma
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from libcpp.atomic cimport atomic

import os

import numpy as np

cnp.import_array()

ctypedef fused real:
    float
    double

include "_declarations.pxi"

# ---- sizes: the one place ------------------------------------------------------------------------------------------------

cdef enum:
    # See `most_classes_in_lanes`.
    FEW_CLASSES = 81
    FEW_CLASSES_OF_ERRORS = 96  # of the Brier score (a squared error) and the classification error
    FEW_CLASSES_OF_SUMS = 127   # of logsumexp, which has nothing to transpose back
    # Rows whose losses are summed together: a tile of them stays in the second-level cache, and they are at most
    # CELOSS_BLOCK_ROWS, the length of the per-row arrays.
    BLOCK_BYTES = 131072
    # Of a block, so many go through the passes together that logits and exponentials stay in the first-level cache; where
    # they are copied to a tile first, the whole block (long runs cost fewer cache lines and pages).
    STRETCH_BYTES = 16384
    # What a thread takes at a time: 5 to 20 microseconds of work. Fixed, since the final sum runs over chunks.
    CHUNK_NUMBERS = 32768
    # One more thread for every so many numbers: about 50 microseconds of work each.
    NUMBERS_PER_THREAD = 163840
    # Up to so many numbers a call is over before another thread could have used the interpreter's lock.
    SMALL_CALL = 4096
    # Longer rows are cut into pieces of PIECE_CLASSES; so are long rows that come few at a time.
    LONG_ROW_BYTES = 1048576
    FEW_ROWS = 16
    LONG_AMONG_FEW = 65536
    PIECE_CLASSES = 32768

cdef enum Operation:
    CROSS_ENTROPY = 0
    BRIER = 1
    ZERO_ONE = 2
    # Of rows without targets.
    SOFTMAX = 3
    LOG_SOFTMAX = 4
    LOGSUMEXP = 5
    # The gradient where the mean's denominator is 0.
    CLEAR = 6

cdef enum Reduction:
    NONE = 0
    MEAN = 1
    SUM = 2


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
    raise ImportError(f"CELOSS_LEVEL={name!r} names no level that can be used here; levels of this build: {built}")


def level():
    """Name of the level in use."""
    return table.level.decode()


def build():
    """Compiler and build type of this module."""
    return {"compiler": CELOSS_COMPILER.decode(), "build_type": CELOSS_BUILD_TYPE.decode()}


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


# ---- one call's work -------------------------------------------------------------------------------------------------------

cdef struct Layout:
    # Where row n = outer * inner_rows + inner of an array begins, in bytes from `at`, and how its classes follow.
    char* at
    const int64_t* outer_offsets    # NULL: outer * outer_stride
    Py_ssize_t outer_stride, inner_stride, class_stride
    int storage
    bint unaligned                  # some outer row may begin between two multiples of the number's size

cdef struct Call:
    int operation                   # an Operation
    Py_ssize_t rows, classes, inner_rows
    Py_ssize_t chunk_rows, block_rows, stretch_rows
    int few_classes, soft
    Layout x, g, q                  # g.at is NULL: loss only. q.at is NULL: targets are class indices
    const char* target              # contiguous, int64 or int32
    int target_size
    int64_t ignore_index
    RowOptions options              # of all rows: see `options_of_rows`
    double mass, mass_low           # of the smoothing, in every row: add times the sum of the class weights
    # Results.
    char* row_loss                  # one per row, or NULL
    int row_loss_size
    double* chunk_loss
    int64_t* seen_target            # long rows: targets as first read, -1 where ignored
    atomic[Py_ssize_t]* bad_row     # a row whose target is out of range; -1: none


cdef struct Rows:
    # Per-row numbers of a block, in a thread's scratch.
    RowSums sums
    int64_t target[CELOSS_BLOCK_ROWS]       # -1: ignored
    double maximum[CELOSS_BLOCK_ROWS]       # these three of the arithmetic type
    double x_target[CELOSS_BLOCK_ROWS]
    double e_target[CELOSS_BLOCK_ROWS]
    Py_ssize_t where[CELOSS_BLOCK_ROWS]     # of the maximum
    int64_t first[CELOSS_BLOCK_ROWS]        # the first class that attains it; these two for _row_operations.pxi
    BrierRows brier
    BlendSums blend
    RowResults results                      # of a stretch of rows
    double block_loss[CELOSS_BLOCK_ROWS]    # of the whole block


cdef inline const BlockOps[real]* ops_of(real* kind) noexcept nogil:
    if real is float:
        return &table.f32
    else:
        return &table.f64


cdef inline char* row_at(const Layout* a, Py_ssize_t outer, Py_ssize_t inner) noexcept nogil:
    cdef Py_ssize_t offset = a.outer_offsets[outer] if a.outer_offsets != NULL else outer * a.outer_stride
    return a.at + offset + inner * a.inner_stride


cdef inline Matrix matrix_at(const Layout* a, Py_ssize_t outer, Py_ssize_t inner) noexcept nogil:
    cdef Matrix m
    m.at = row_at(a, outer, inner)
    m.row_stride = a.inner_stride
    m.class_stride = a.class_stride
    m.storage = a.storage
    return m


cdef inline bint is_direct(const Layout* a, real* kind) noexcept nogil:
    """Whether the kernel can work in the array itself: class after class, in the arithmetic type, aligned."""
    cdef Py_ssize_t size = sizeof(real)
    cdef int native
    if real is float:
        native = STORED_FLOAT32
    else:
        native = STORED_FLOAT64
    return (a.storage == native and a.class_stride == size and a.inner_stride % size == 0 and <size_t>a.at % size == 0
            and not a.unaligned)


cdef inline bint is_class_after_class(const Layout* a) noexcept nogil:
    return a.class_stride == (8 if a.storage == STORED_FLOAT64 else 4 if a.storage == STORED_FLOAT32 else 2)


cdef inline int read_targets(const Call* c, Py_ssize_t n, Py_ssize_t rows, int64_t* out) noexcept nogil:
    """Targets of `rows` rows from n on, each read once (the array may change under the call); what is seen among them."""
    if c.target_size == 8:
        return table.read_targets_i64(<const int64_t*>c.target + n, rows, c.ignore_index, c.classes, out)
    return table.read_targets_i32(<const int32_t*>c.target + n, rows, c.ignore_index, c.classes, out)


cdef void zero_classes(char* at, Py_ssize_t class_stride, Py_ssize_t classes, int storage) noexcept nogil:
    cdef Py_ssize_t size = 8 if storage == STORED_FLOAT64 else 4 if storage == STORED_FLOAT32 else 2
    cdef Py_ssize_t j
    if class_stride == size:
        memset(at, 0, <size_t>(classes * size))
        return
    for j in range(classes):
        memset(at + j * class_stride, 0, <size_t>size)


cdef void zero_rows(const Layout* a, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t rows, Py_ssize_t classes) noexcept nogil:
    cdef Py_ssize_t size = 8 if a.storage == STORED_FLOAT64 else 4 if a.storage == STORED_FLOAT32 else 2
    cdef Py_ssize_t i
    if a.class_stride == size and a.inner_stride == size * classes:
        memset(row_at(a, outer, inner), 0, <size_t>(rows * classes * size))
        return
    for i in range(rows):
        zero_classes(row_at(a, outer, inner + i), a.class_stride, classes, a.storage)


# ---- the passes over one block ----------------------------------------------------------------------------------------------

cdef void put_losses(const Call* c, Py_ssize_t n, Py_ssize_t rows, const double* loss) noexcept nogil:
    cdef Py_ssize_t i
    if c.row_loss_size == 8:
        for i in range(rows):
            (<double*>c.row_loss)[n + i] = loss[i]
    else:
        for i in range(rows):
            (<float*>c.row_loss)[n + i] = <float>loss[i]


cdef inline double sum_of(const double* a, Py_ssize_t n) noexcept nogil:
    cdef double s0 = 0, s1 = 0, s2 = 0, s3 = 0
    cdef Py_ssize_t i = 0
    while i + 4 <= n:
        s0 += a[i]
        s1 += a[i + 1]
        s2 += a[i + 2]
        s3 += a[i + 3]
        i += 4
    while i < n:
        s0 += a[i]
        i += 1
    return (s0 + s1) + (s2 + s3)


cdef void set_smoothing(Call* c, double smoothing) noexcept nogil:
    """The shares of targets and smoothing, and the smoothing's mass, each as a number and its rounding error."""
    cdef RowOptions* options = &c.options
    cdef double classes = <double>c.classes, sum = classes, low = 0, next, seen
    cdef Py_ssize_t j
    options.smoothing = smoothing
    options.blended = c.soft or smoothing > 0
    options.keep = 1 - smoothing
    options.keep_low = (1 - options.keep) - smoothing
    options.add = smoothing / classes
    options.add_low = fma(-options.add, classes, smoothing) / classes
    if smoothing > 0 and options.class_weight != NULL:
        sum = 0
        for j in range(c.classes):
            next = sum + options.class_weight[j]
            seen = next - sum
            low += (sum - (next - seen)) + (options.class_weight[j] - seen)
            sum = next
    c.mass = options.add * sum
    c.mass_low = fma(options.add, sum, -c.mass) + (options.add * low + options.add_low * sum)


cdef inline RowOptions options_of_rows(const Call* c, Py_ssize_t n, const int64_t* target) noexcept nogil:
    """The options of rows n and on, whose targets are `target`."""
    cdef RowOptions options = c.options
    options.target = target
    if c.soft:
        options.target = NULL
    if options.sample_weight != NULL:
        options.sample_weight += n
    if options.upstream != NULL:
        options.upstream += n
    return options


cdef void finish_rows(const Call* c, Py_ssize_t n, Py_ssize_t rows, Rows* r, real* kind) noexcept nogil:
    """Losses of a block's rows, and what the gradient's pass needs."""
    cdef RowOptions options = options_of_rows(c, n, r.target)
    cdef Py_ssize_t i
    if options.blended and not c.soft:
        for i in range(rows):
            r.blend.mass[i] = c.mass
            r.blend.mass_low[i] = c.mass_low
    ops_of(kind).finish_rows(rows, &options, <real*>r.e_target, &r.sums, &r.blend, &r.results)


cdef inline void set_blend(const Call* c, Blend[real]* blend, const Tile[real]* q) noexcept nogil:
    """What is blended into the targets: smoothing, or the probabilities in tile q."""
    blend.q = NULL
    blend.w = c.options.class_weight
    blend.keep = c.options.keep
    blend.keep_low = c.options.keep_low
    blend.add = c.options.add
    blend.add_low = c.options.add_low
    if q != NULL:
        blend.q = q.at
        blend.q_row_stride = q.row_stride
        blend.q_class_stride = q.class_stride


cdef inline Py_ssize_t lanes_of_rows(Py_ssize_t rows) noexcept nogil:
    """Rows of a tile whose rows are the lanes: whole groups of them."""
    return (rows + CELOSS_LANE_GROUP - 1) // CELOSS_LANE_GROUP * CELOSS_LANE_GROUP


cdef inline Py_ssize_t numbers_of_tile(const Call* c, Py_ssize_t rows) noexcept nogil:
    return (lanes_of_rows(rows) if c.few_classes else rows) * c.classes


cdef bint load_rows(const Call* c, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t rows, real* memory, Tile[real]* x,
                    Tile[real]* g, Tile[real]* q) noexcept nogil:
    """Where rows are worked on: x the logits, g the place of the result, q the probabilities if there are any.

    Logits and result are in the user's arrays where their layout allows, elsewhere in one tile at `memory`; behind it is q's.
    True: the logits are in the user's array.
    """
    cdef const BlockOps[real]* ops = ops_of(memory)
    cdef Matrix where
    cdef bint direct = not c.few_classes and is_direct(&c.x, memory)
    x.rows = rows
    x.classes = c.classes
    x.row_stride = c.classes
    x.class_stride = 1
    if c.few_classes:
        x.row_stride = 1
        x.class_stride = lanes_of_rows(rows)
    x.at = memory
    g[0] = x[0]
    q[0] = x[0]
    q.at = memory + numbers_of_tile(c, rows)
    if c.soft:
        where = matrix_at(&c.q, outer, inner)
        ops.load_tile(&where, q)
    if direct:
        x.at = <real*>row_at(&c.x, outer, inner)
        x.row_stride = c.x.inner_stride // <Py_ssize_t>sizeof(real)
    else:
        where = matrix_at(&c.x, outer, inner)
        ops.load_tile(&where, x)
    if not c.few_classes and c.g.at != NULL and is_direct(&c.g, memory):
        g.at = <real*>row_at(&c.g, outer, inner)
        g.row_stride = c.g.inner_stride // <Py_ssize_t>sizeof(real)
    return direct


cdef void run_rows(const Call* c, Py_ssize_t n, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t rows, Py_ssize_t ahead,
                   char* scratch, real* kind) noexcept nogil:
    """All passes over rows that follow one another at `inner` within `outer`; those ignored are marked in r.target.

    `ahead` more rows follow there, which will be wanted next.
    """
    cdef Rows* r = <Rows*>scratch
    cdef real* memory = <real*>(scratch + sizeof(Rows))
    cdef Py_ssize_t numbers = numbers_of_tile(c, rows)
    cdef Tile[real] x, g, q
    cdef Matrix where
    if c.operation == BRIER:
        memory += 2 * numbers  # behind its exponentials, in float64, and for float64 their rounding errors
    if not load_rows(c, outer, inner, rows, memory, &x, &g, &q):
        ahead = 0
    if c.operation == CROSS_ENTROPY:
        cross_entropy_rows(c, n, &x, &g, &q, ahead, r)
    elif c.operation == BRIER:
        brier_rows(c, n, &x, &g, &q, <double*>(scratch + sizeof(Rows)), numbers, r)
    elif c.operation == ZERO_ONE:
        zero_one_rows(c, n, &x, &q, r)
    else:
        activation_rows(c, &x, &g, g.at != memory, ahead, r)
    if c.g.at != NULL and g.at == memory:
        where = matrix_at(&c.g, outer, inner)
        ops_of(kind).store_tile(&g, &where)


cdef void cross_entropy_rows(const Call* c, Py_ssize_t n, const Tile[real]* x, const Tile[real]* g, const Tile[real]* q,
                             Py_ssize_t ahead, Rows* r) noexcept nogil:
    """Losses of the rows from n on, and their gradients in g."""
    cdef const BlockOps[real]* ops = ops_of(x.at)
    cdef real* m = <real*>r.maximum
    cdef real* x_target = <real*>r.x_target
    cdef real* e_target = <real*>r.e_target
    cdef Tile[real] e = g[0]
    cdef Blend[real] blend
    cdef RowResults* results = &r.results
    cdef Py_ssize_t i
    cdef double* minus = NULL
    cdef const int64_t* target = r.target
    cdef bint blended = c.options.blended
    if c.soft:
        target = NULL
    if c.g.at == NULL:
        e.at = NULL

    # 1. The maximum of each row.
    ops.maximum(x, m, r.where, target)

    # 2. What smoothing or probabilities need of the logits, which step 3 may overwrite.
    if blended:
        set_blend(c, &blend, q if c.soft else NULL)
        ops.blend_sums(x, &blend, m, &r.blend)

    # 3. Exponentials, and their sum without the maximum. 4. The logarithm.
    if c.soft:
        memcpy(x_target, m, <size_t>x.rows * sizeof(real))
    ops.exp_sum(x, &e, m, r.where, target, x_target, e_target, ahead, &e, &r.sums)
    ops.log_rows(x.rows, m, x_target, e_target, &r.sums)

    # 5. The loss with all options, and the gradient.
    finish_rows(c, n, x.rows, r, m)
    if e.at == NULL:
        return
    if blended and (c.soft or c.options.class_weight != NULL):
        ops.scale_blended(&e, &e, results, &r.sums, &blend)
        if not c.soft:
            ops.put(&e, r.target, results.at_target)
    else:
        if blended:
            minus = results.subtracted
            for i in range(x.rows):
                minus[i] *= blend.add
        ops.scale(&e, &e, results.coefficient, results.coefficient_low, &r.sums, minus, r.target, results.at_target)


cdef double run_block(const Call* c, Py_ssize_t n, Py_ssize_t rows, char* scratch, real* kind) noexcept nogil:
    """Rows n to n + rows: their targets read once and tested, then the passes over each stretch of neighbours.

    Returns the sum of their losses, in an order that knows nothing of the stretches.
    """
    cdef Rows* r = <Rows*>scratch
    cdef Py_ssize_t done = 0, outer, inner, stretch
    cdef int seen, all_seen = 0
    while done < rows:
        outer = (n + done) // c.inner_rows
        inner = (n + done) - outer * c.inner_rows
        stretch = min(min(rows - done, c.inner_rows - inner), c.stretch_rows)
        seen = SEEN_KEPT
        if c.operation == CLEAR:
            seen = SEEN_IGNORED
        elif c.target != NULL:
            seen = read_targets(c, n + done, stretch, r.target)
            if seen & SEEN_OUT_OF_RANGE:
                c.bad_row.store(n + done)
                return 0
        all_seen |= seen
        if seen & SEEN_KEPT:
            run_rows(c, n + done, outer, inner, stretch, min(stretch, c.inner_rows - inner - stretch), scratch, kind)
            memcpy(r.block_loss + done, r.results.loss, <size_t>stretch * sizeof(double))
        else:
            if c.g.at != NULL:
                zero_rows(&c.g, outer, inner, stretch, c.classes)
            memset(r.block_loss + done, 0, <size_t>stretch * sizeof(double))
        done += stretch
    if c.row_loss != NULL:
        put_losses(c, n, rows, r.block_loss)
    return sum_of(r.block_loss, rows) if all_seen & SEEN_KEPT and c.operation not in (SOFTMAX, LOG_SOFTMAX) else 0


cdef void run_chunk(const Call* c, Py_ssize_t chunk, char* scratch, real* kind) noexcept nogil:
    cdef Py_ssize_t n = chunk * c.chunk_rows, end = min(c.rows, n + c.chunk_rows), rows
    cdef double loss = 0
    while n < end and c.bad_row.load() < 0:
        rows = min(c.block_rows, end - n)
        loss += run_block(c, n, rows, scratch, kind)
        n += rows
    c.chunk_loss[chunk] = loss


cdef void chunk_of_floats(void* call, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_chunk[float](<const Call*>call, chunk, <char*>scratch, NULL)


cdef void chunk_of_doubles(void* call, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_chunk[double](<const Call*>call, chunk, <char*>scratch, NULL)


include "_long_rows.pxi"


# ---- the call ------------------------------------------------------------------------------------------------------------

cdef bint needs_tile(const Call* c) noexcept nogil:
    """Whether a block is worked on in scratch rather than in the user's arrays."""
    cdef bint direct
    if c.few_classes:
        return True
    if c.x.storage == STORED_FLOAT64:
        direct = is_direct(&c.x, <double*>NULL) and (c.g.at == NULL or is_direct(&c.g, <double*>NULL))
    else:
        direct = is_direct(&c.x, <float*>NULL) and (c.g.at == NULL or is_direct(&c.g, <float*>NULL))
    return not direct


cdef Py_ssize_t most_classes_in_lanes(int operation) noexcept nogil:
    """Up to this many classes the rows are the lanes of the vectors; above it, the classes are."""
    if operation == LOGSUMEXP:
        return FEW_CLASSES_OF_SUMS
    if operation == BRIER or operation == ZERO_ONE:
        return FEW_CLASSES_OF_ERRORS
    return FEW_CLASSES


cdef Py_ssize_t bytes_in_scratch(const Call* c, Py_ssize_t size) noexcept nogil:
    """Scratch for each number of the rows that go through the passes together."""
    cdef Py_ssize_t tiles = 1 if needs_tile(c) else 0
    if c.soft or (c.operation == BRIER and c.options.smoothing > 0):
        tiles = 2
    if c.operation == BRIER:
        tiles += 2
    return tiles * size


cdef bint run_call(Call* c, int limit, double* loss) noexcept nogil:
    """Cut the call into blocks and chunks by its shape alone, and run them; the sum of the losses. False: no memory."""
    cdef Py_ssize_t size = 8 if c.x.storage == STORED_FLOAT64 else 4
    cdef Py_ssize_t group = 1, chunks, threads
    cdef size_t scratch
    cdef PoolWork work = chunk_of_doubles if size == 8 else chunk_of_floats
    cdef bint ran
    cdef double one_chunk
    if c.classes >> 48:
        return False  # a broadcast row, longer than any memory: the sizes below would overflow
    threads = max(<Py_ssize_t>1, min(<Py_ssize_t>limit, c.rows * c.classes // NUMBERS_PER_THREAD))
    if are_long_rows(c):
        return run_long_rows_of(c, <int>threads, loss)
    c.few_classes = c.classes <= most_classes_in_lanes(c.operation)
    if c.few_classes:
        group = CELOSS_LANE_GROUP
    c.block_rows = in_groups(min(<Py_ssize_t>CELOSS_BLOCK_ROWS, BLOCK_BYTES // (c.classes * size)), group)
    c.stretch_rows = c.block_rows
    if is_class_after_class(&c.x):
        c.stretch_rows = in_groups(min(c.block_rows, STRETCH_BYTES // (c.classes * size)), group)
    c.chunk_rows = max(c.block_rows, CHUNK_NUMBERS // c.classes // c.block_rows * c.block_rows)
    chunks = (c.rows + c.chunk_rows - 1) // c.chunk_rows
    scratch = sizeof(Rows) + <size_t>(c.stretch_rows * c.classes * bytes_in_scratch(c, size))
    c.chunk_loss = &one_chunk
    if chunks > 1:
        c.chunk_loss = <double*>malloc(<size_t>chunks * sizeof(double))
        if c.chunk_loss == NULL:
            return False
    ran = celoss_pool_run(work, c, chunks, <int>threads, scratch)
    if ran:
        loss[0] = sum_of(c.chunk_loss, chunks)  # in the order of the chunks
    if chunks > 1:
        free(c.chunk_loss)
    return ran


cdef inline Py_ssize_t in_groups(Py_ssize_t rows, Py_ssize_t group) noexcept nogil:
    """The most whole groups of at most so many rows, but one at least."""
    return max(group, rows // group * group)


cdef double denominator(Call* c) noexcept nogil:
    """What the mean is divided by: the one place. Sum of s_n w_t over the rows that count; of s_n for probabilities."""
    cdef RowOptions options
    cdef int64_t target[CELOSS_BLOCK_ROWS]
    cdef Py_ssize_t n = 0, rows
    # Of all blocks before, and of this one: a sum of sums drifts less.
    cdef double total = 0
    if c.options.class_weight == NULL and c.options.sample_weight == NULL:
        if c.soft:
            return <double>c.rows
        if c.target_size == 8:
            return <double>table.count_other_than_i64(<const int64_t*>c.target, c.rows, c.ignore_index)
        return <double>table.count_other_than_i32(<const int32_t*>c.target, c.rows, c.ignore_index)
    while n < c.rows:
        rows = min(<Py_ssize_t>CELOSS_BLOCK_ROWS, c.rows - n)
        if not c.soft and read_targets(c, n, rows, target) & SEEN_OUT_OF_RANGE:
            c.bad_row.store(n)
            return 0
        options = options_of_rows(c, n, target)
        total += table.sum_of_weights(rows, &options)
        n += rows
    return total


cdef bint execute(Call* c, int reduction, double normalizer, double upstream, int limit, double* loss) noexcept nogil:
    """Run a filled call; its loss. False: no memory."""
    cdef double divisor = 1
    cdef bint enough_memory
    if reduction == MEAN:
        divisor = normalizer if normalizer > 0 else denominator(c)
        if c.bad_row.load() >= 0:
            return True
        if divisor == 0:
            c.operation = CLEAR
            enough_memory = c.g.at == NULL or run_call(c, limit, loss)
            loss[0] = NAN
            return enough_memory
    c.options.factor = upstream / divisor
    enough_memory = run_call(c, limit, loss)
    loss[0] /= divisor
    return enough_memory


cdef object run(Call* c, int reduction, double normalizer, double upstream, object row_loss, object grad, int limit):
    """Run a filled call. Its loss, or with a gradient (loss, gradient); an int is the row of a target out of range."""
    cdef atomic[Py_ssize_t] bad_row
    cdef double loss = 0
    cdef bint enough_memory
    bad_row.store(-1)
    c.bad_row = &bad_row
    if c.rows * c.classes <= SMALL_CALL:
        enough_memory = execute(c, reduction, normalizer, upstream, limit, &loss)
    else:
        with nogil:
            enough_memory = execute(c, reduction, normalizer, upstream, limit, &loss)
    if not enough_memory:
        raise MemoryError("celoss could not allocate its scratch memory")
    if bad_row.load() >= 0:
        return bad_row.load()
    result = loss if reduction != NONE else row_loss
    return result if c.g.at == NULL else (result, grad)


include "_entries.pxi"
include "_row_operations.pxi"
include "_elementwise.pxi"
