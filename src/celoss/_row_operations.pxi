# Operations on rows: softmax, log_softmax, logsumexp, the Brier score, the zero-one loss. Included by _kernels.pyx.
#
# Blocks of rows go through the same operations as cross-entropy's, in the same cuts. The cuts depend on the shape alone, so
# that results depend neither on the number of threads nor on strides.

cdef enum RowOperation:
    # 0 is cross-entropy, which has a path of its own.
    BRIER = 1
    ZERO_ONE = 2
    SOFTMAX = 3
    LOG_SOFTMAX = 4
    LOGSUMEXP = 5


cdef struct RowWork:
    # Per-row numbers of a block, in a thread's scratch.
    RowSums sums
    int64_t target[CELOSS_BLOCK_ROWS]       # -1: ignored
    int64_t first[CELOSS_BLOCK_ROWS]        # class of the maximum
    Py_ssize_t where[CELOSS_BLOCK_ROWS]
    double maximum[CELOSS_BLOCK_ROWS]       # of the arithmetic type
    double factor[CELOSS_BLOCK_ROWS]
    BrierRows brier
    double loss[CELOSS_BLOCK_ROWS]          # of a stretch of rows
    double block_loss[CELOSS_BLOCK_ROWS]    # of the whole block


cdef void zero_one_rows(const Call* c, Py_ssize_t n, Py_ssize_t rows, RowWork* w) noexcept nogil:
    """Losses of rows whose prediction is w.first, and for probabilities what the other classes hold is w.loss."""
    cdef Py_ssize_t i
    cdef double s
    for i in range(rows):
        s = c.options.sample_weight[n + i] if c.options.sample_weight != NULL else 1.0
        if not c.soft and w.target[i] < 0:
            w.loss[i] = 0
        elif w.first[i] < 0:
            w.loss[i] = NAN
        elif c.soft:
            w.loss[i] *= s
        else:
            w.loss[i] = s if w.first[i] != w.target[i] else 0.0


cdef void operate_on_rows(const Call* c, Py_ssize_t n, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t rows,
                          Py_ssize_t ahead, char* scratch, real* kind) noexcept nogil:
    """All passes over rows that follow one another at `inner` within `outer`, as `run_rows` does for cross-entropy."""
    cdef const BlockOps[real]* ops = ops_of(kind)
    cdef RowWork* w = <RowWork*>scratch
    cdef real* m = <real*>w.maximum
    cdef real* tile_memory = <real*>(scratch + sizeof(RowWork))
    cdef Tile[real] x, e, q
    cdef Tile[double] wide_e
    cdef Blend[real] blend
    cdef Matrix where
    cdef RowOptions options
    cdef Py_ssize_t i, tile_numbers, low
    cdef bint want_grad = c.g.at != NULL
    cdef bint direct_x = not c.few_classes and is_direct(&c.x, kind)
    cdef bint direct_g = not c.few_classes and want_grad and is_direct(&c.g, kind)

    x.rows = rows
    x.classes = c.classes
    x.row_stride = c.classes
    x.class_stride = 1
    tile_numbers = rows * c.classes
    if c.few_classes:
        x.row_stride = 1
        x.class_stride = (rows + CELOSS_LANE_GROUP - 1) // CELOSS_LANE_GROUP * CELOSS_LANE_GROUP
        tile_numbers = x.class_stride * c.classes
    if c.operation == BRIER:
        # Behind the exponentials, and for float64 their rounding errors.
        tile_memory += 2 * tile_numbers
    x.at = tile_memory
    e = x
    q = x
    q.at = tile_memory + tile_numbers
    if direct_x:
        x.at = <real*>row_at(&c.x, outer, inner)
        x.row_stride = c.x.inner_stride // <Py_ssize_t>sizeof(real)
    else:
        where = matrix_at(&c.x, outer, inner)
        ops.load_tile(&where, &x)
    if direct_g:
        e.at = <real*>row_at(&c.g, outer, inner)
        e.row_stride = c.g.inner_stride // <Py_ssize_t>sizeof(real)
    if c.soft:
        where = matrix_at(&c.q, outer, inner)
        ops.load_tile(&where, &q)
    elif c.operation == BRIER and c.options.smoothing > 0:
        memset(q.at, 0, <size_t>tile_numbers * sizeof(real))
        for i in range(rows):
            if w.target[i] >= 0:
                q.at[i * q.row_stride + w.target[i] * q.class_stride] = 1

    # 1. The maximum of each row; the classification error needs no more.
    if c.operation == ZERO_ONE or c.operation == BRIER:
        ops.argmax(&x, m, w.where, w.first)
    else:
        ops.maximum(&x, m, w.where, NULL)
    if c.operation == ZERO_ONE:
        if c.soft:
            ops.mass_without(&q, w.first, w.loss)
        zero_one_rows(c, n, rows, w)
        return

    # 2. Exponentials, their sum without the maximum, its logarithm and inverse.
    # log_softmax has no use for the exponentials, but where they are put its result will soon be written.
    if c.operation == LOGSUMEXP or (c.operation == LOG_SOFTMAX and (not direct_g or e.at == x.at)):
        e.at = NULL
    if c.operation == BRIER:
        wide_e.rows = rows
        wide_e.classes = c.classes
        wide_e.row_stride = q.row_stride
        wide_e.class_stride = q.class_stride
        wide_e.at = <double*>(scratch + sizeof(RowWork))
        low = tile_numbers
        set_blend(c, &blend, &q if c.options.blended else NULL)
        blend.w = NULL
        options = options_of_rows(c, n, w.target)
        ops.brier_exp(&x, &wide_e, low, m, w.first, &w.sums)
        ops.brier_sums(&wide_e, low, &blend, w.first, &w.sums, &w.brier)
        ops.brier_rows(&wide_e, low, &options, &blend, w.first, &w.sums, &w.brier, w.loss)
        if not want_grad:
            return
        ops.brier_gradient(&wide_e, low, &e, &blend, &w.sums, &w.brier)
        for i in range(rows):
            if not c.soft and w.target[i] < 0:
                w.first[i] = -1         # `put` makes it a row of zeros
            elif w.first[i] < 0:
                w.first[i] = 0          # a row of NaN throughout
        ops.put(&e, w.first, w.brier.at_first)
        if blend.q == NULL:
            ops.put(&e, w.target, w.brier.at_target)
        if not direct_g:
            where = matrix_at(&c.g, outer, inner)
            ops.store_tile(&e, &where)
        return
    ops.exp_sum(&x, &e, m, w.where, NULL, NULL, NULL, ahead if direct_x else 0, &w.sums)
    ops.log_rows(rows, m, m, m, &w.sums)

    # 3. The result.
    if c.operation == LOGSUMEXP:
        for i in range(rows):
            w.loss[i] = <double>m[i] + w.sums.log_sum[i]
            if m[i] - m[i] != 0:
                w.loss[i] = infinite_sum(x.at + i * x.row_stride, x.class_stride, x.classes)
        return
    if c.operation == LOG_SOFTMAX:
        e.at = tile_memory
        if direct_g:
            e.at = <real*>row_at(&c.g, outer, inner)
        ops.log_probability(&x, &e, m, &w.sums)
    elif c.operation == SOFTMAX:
        for i in range(rows):
            w.factor[i] = 1.0
        ops.scale(&e, &e, w.factor, NULL, &w.sums, NULL, NULL, NULL)
    if not direct_g:
        where = matrix_at(&c.g, outer, inner)
        ops.store_tile(&e, &where)


cdef double infinite_sum(const real* x, Py_ssize_t stride, Py_ssize_t classes) noexcept nogil:
    """logsumexp of a row whose maximum is not finite: that maximum, or NaN where there is one."""
    cdef Py_ssize_t j
    cdef double sum = -INFINITY
    for j in range(classes):
        if x[j * stride] != x[j * stride]:
            return NAN
        if x[j * stride] > sum:
            sum = x[j * stride]
    return sum


cdef double operate_on_block(const Call* c, Py_ssize_t n, Py_ssize_t rows, char* scratch, real* kind) noexcept nogil:
    """Rows n to n + rows, as `run_block` does for cross-entropy; the sum of their losses."""
    cdef RowWork* w = <RowWork*>scratch
    cdef Py_ssize_t done = 0, outer, inner, stretch, ahead, i
    cdef int seen
    while done < rows:
        outer = (n + done) // c.inner_rows
        inner = (n + done) - outer * c.inner_rows
        stretch = min(min(rows - done, c.inner_rows - inner), c.stretch_rows)
        seen = SEEN_KEPT
        if c.target != NULL:
            seen = read_targets(c, n + done, stretch, w.target)
            if seen & SEEN_OUT_OF_RANGE:
                c.bad_row.store(n + done)
                return 0
            if seen == (SEEN_KEPT | SEEN_IGNORED) and not c.few_classes:
                i = 1
                while (w.target[i] >= 0) == (w.target[0] >= 0):
                    i += 1
                stretch = i
                seen = SEEN_KEPT if w.target[0] >= 0 else SEEN_IGNORED
        if seen & SEEN_KEPT:
            ahead = min(stretch, c.inner_rows - inner - stretch)
            operate_on_rows(c, n + done, outer, inner, stretch, ahead, scratch, kind)
        else:
            if c.g.at != NULL:
                zero_rows(&c.g, outer, inner, stretch, c.classes)
            memset(w.loss, 0, <size_t>stretch * sizeof(double))
        memcpy(w.block_loss + done, w.loss, <size_t>stretch * sizeof(double))
        done += stretch
    if c.row_loss != NULL:
        put_losses(c, n, rows, w.block_loss)
    return 0.0 if c.operation == SOFTMAX or c.operation == LOG_SOFTMAX else sum_of(w.block_loss, rows)


cdef void operate_on_chunk(const Call* c, Py_ssize_t chunk, char* scratch, real* kind) noexcept nogil:
    cdef Py_ssize_t n = chunk * c.chunk_rows, end = min(c.rows, n + c.chunk_rows), rows
    cdef double loss = 0
    while n < end and c.bad_row.load() < 0:
        rows = min(c.block_rows, end - n)
        loss += operate_on_block(c, n, rows, scratch, kind)
        n += rows
    c.chunk_loss[chunk] = loss


cdef void row_chunk_of_floats(void* call, Py_ssize_t chunk, void* scratch) noexcept nogil:
    operate_on_chunk[float](<const Call*>call, chunk, <char*>scratch, NULL)


cdef void row_chunk_of_doubles(void* call, Py_ssize_t chunk, void* scratch) noexcept nogil:
    operate_on_chunk[double](<const Call*>call, chunk, <char*>scratch, NULL)


cdef bint run_row_operation(Call* c, int limit, double* loss) noexcept nogil:
    """`run_call` for a RowOperation. False: no memory."""
    cdef Py_ssize_t size = 8 if c.x.storage == STORED_FLOAT64 else 4
    cdef Py_ssize_t numbers_size = 0                # in scratch, of each number of a stretch
    cdef Py_ssize_t chunks, threads, tile_rows
    cdef size_t scratch
    cdef bint ran, blended = c.soft or (c.operation == BRIER and c.options.smoothing > 0)
    if c.classes >> 48:
        return False  # a broadcast row, longer than any memory: the sizes below would overflow
    threads = max(<Py_ssize_t>1, min(<Py_ssize_t>limit, c.rows * c.classes // NUMBERS_PER_THREAD))
    if c.operation >= SOFTMAX and are_long_rows(c):
        return run_long_rows_of(c, <int>threads, loss)
    c.few_classes = c.classes <= (FEW_CLASSES_OF_SUMS if c.operation == LOGSUMEXP
                                  else FEW_CLASSES if c.operation >= SOFTMAX else FEW_CLASSES_OF_ERRORS)
    c.block_rows = max(<Py_ssize_t>1, min(<Py_ssize_t>CELOSS_BLOCK_ROWS, BLOCK_BYTES // (c.classes * size)))
    if c.few_classes:
        c.block_rows = max(<Py_ssize_t>CELOSS_LANE_GROUP, c.block_rows // CELOSS_LANE_GROUP * CELOSS_LANE_GROUP)
    c.stretch_rows = c.block_rows
    if c.few_classes or is_class_after_class(&c.x):
        c.stretch_rows = max(<Py_ssize_t>1, min(c.block_rows, STRETCH_BYTES // (c.classes * size)))
        if c.few_classes:
            c.stretch_rows = max(<Py_ssize_t>CELOSS_LANE_GROUP, c.stretch_rows // CELOSS_LANE_GROUP * CELOSS_LANE_GROUP)
    c.chunk_rows = max(c.block_rows, CHUNK_NUMBERS // c.classes // c.block_rows * c.block_rows)
    chunks = (c.rows + c.chunk_rows - 1) // c.chunk_rows
    if blended:
        numbers_size = 2 * size
    elif needs_tile(c):
        numbers_size = size
    if c.operation == BRIER:
        numbers_size += 2 * size
    tile_rows = c.stretch_rows + (CELOSS_LANE_GROUP if c.few_classes else 0)
    scratch = sizeof(RowWork) + <size_t>(tile_rows * c.classes * numbers_size)
    c.chunk_loss = <double*>malloc(<size_t>(chunks + 1) * sizeof(double))
    if c.chunk_loss == NULL:
        return False
    ran = celoss_pool_run(row_chunk_of_doubles if size == 8 else row_chunk_of_floats, c, chunks, <int>threads, scratch)
    if ran:
        loss[0] = sum_of(c.chunk_loss, chunks)  # in the order of the chunks
    free(c.chunk_loss)
    return ran


cdef int activate_rows(Call* c, int limit) except -1:
    """`run_row_operation` for an activation; other threads of the interpreter run meanwhile, unless it is over at once."""
    cdef atomic[Py_ssize_t] bad_row
    cdef double nothing = 0
    cdef bint enough
    bad_row.store(-1)
    c.bad_row = &bad_row
    if c.rows * c.classes <= SMALL_CALL:
        enough = run_row_operation(c, limit, &nothing)
    else:
        with nogil:
            enough = run_row_operation(c, limit, &nothing)
    if not enough:
        raise MemoryError("celoss could not allocate its scratch memory")
    return 0


def row_activation(int operation, cnp.ndarray x, int storage, int axis, cnp.ndarray out, cnp.ndarray row_result):
    """softmax and log_softmax into `out`, logsumexp into `row_result` (contiguous); 3, 4 and 5 are the operations."""
    cdef Call c
    cdef int inner_dims
    if x.size == 0:
        return
    inner_dims = inner_dimensions([x] if out is None else [x, out], axis)
    memset(&c, 0, sizeof(Call))
    c.operation = operation
    keep = [set_layout(&c.x, x, storage, axis, inner_dims)]
    if out is not None:
        keep.append(set_layout(&c.g, out, storage, axis, inner_dims))
    c.classes = x.shape[axis]
    c.rows = x.size // c.classes
    c.inner_rows = 1
    for d in [d for d in range(x.ndim) if d != axis][x.ndim - 1 - inner_dims:]:
        c.inner_rows *= x.shape[d]
    if row_result is not None:
        c.row_loss = <char*>cnp.PyArray_DATA(row_result)
        c.row_loss_size = <int>row_result.itemsize
    activate_rows(&c, thread_limit.load())


cdef inline bint fits_plainly(cnp.ndarray out, cnp.ndarray x) noexcept:
    """Whether a result can be written to `out` without a closer look: like the plain array x, and x itself or apart."""
    cdef int d
    if (cnp.PyArray_TYPE(out) != cnp.PyArray_TYPE(x) or cnp.PyArray_NDIM(out) != cnp.PyArray_NDIM(x)
            or not cnp.PyArray_IS_C_CONTIGUOUS(out) or not cnp.PyArray_ISBEHAVED(out) or not same_or_apart(x, out)):
        return False
    for d in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(out, d) != cnp.PyArray_DIM(x, d):
            return False
    return True


cdef inline object plain_scores(x, out, bint want_out):
    """The array for a result of the shape of x if both are plain (None: none is wanted); else NotImplemented."""
    cdef int kind
    if not cnp.PyArray_CheckExact(x):
        return NotImplemented
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    if (kind != cnp.NPY_FLOAT32 and kind != cnp.NPY_FLOAT64) or not is_plain(<cnp.ndarray>x):
        return NotImplemented
    if not want_out:
        return None
    if out is None:
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(<cnp.ndarray>x), cnp.PyArray_DIMS(<cnp.ndarray>x), kind, 0)
    if not cnp.PyArray_CheckExact(out) or not fits_plainly(<cnp.ndarray>out, <cnp.ndarray>x):
        return NotImplemented
    return out


def plain_row_activation(int operation, x, out):
    """`row_activation` along the last axis of a plain array, with nothing to check; None where anything is unusual."""
    cdef Call c
    cdef int ndim
    cdef Py_ssize_t size
    cdef cnp.ndarray a
    result = plain_scores(x, out, operation != LOGSUMEXP)
    if result is NotImplemented:
        return None
    a = <cnp.ndarray>x
    ndim = cnp.PyArray_NDIM(a)
    if ndim == 0 or cnp.PyArray_SIZE(a) == 0:
        return None
    if operation == LOGSUMEXP:
        result = cnp.PyArray_EMPTY(ndim - 1, cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0)
    memset(&c, 0, sizeof(Call))
    c.operation = operation
    size = cnp.PyArray_ITEMSIZE(a)
    c.classes = cnp.PyArray_DIM(a, ndim - 1)
    c.rows = cnp.PyArray_SIZE(a) // c.classes
    c.inner_rows = c.rows
    c.x.at = <char*>cnp.PyArray_DATA(a)
    c.x.storage = STORED_FLOAT32 if size == 4 else STORED_FLOAT64
    c.x.class_stride = size
    c.x.inner_stride = size * c.classes
    if operation == LOGSUMEXP:
        c.row_loss = <char*>cnp.PyArray_DATA(<cnp.ndarray>result)
        c.row_loss_size = <int>size
    else:
        c.g = c.x
        c.g.at = <char*>cnp.PyArray_DATA(<cnp.ndarray>result)
    activate_rows(&c, thread_limit.load())
    return result
