# Operations on rows: the zero-one loss, the Brier score, softmax, log_softmax, logsumexp. Included by _kernels.pyx.
#
# `run_call` cuts them into the same blocks as cross-entropy, and `run_rows` calls the functions here. The cuts depend on the
# shape alone, so that results depend neither on the number of threads nor on strides.

cdef void zero_one_rows(const Call* c, Py_ssize_t n, const Tile[real]* x, const Tile[real]* q, Rows* r) noexcept nogil:
    """Losses of the rows from n on: one where the class of the maximum is wrong; with probabilities what the others hold."""
    cdef const BlockOps[real]* ops = ops_of(x.at)
    cdef double* loss = r.results.loss
    cdef Py_ssize_t i
    cdef double s
    cdef const int64_t* target = r.target
    if c.soft:
        target = NULL
    ops.argmax(x, <real*>r.maximum, r.where, r.first, target)
    if c.soft:
        ops.mass_without(q, r.first, loss)
    for i in range(x.rows):
        s = c.options.sample_weight[n + i] if c.options.sample_weight != NULL else 1.0
        if not c.soft and r.target[i] < 0:
            loss[i] = 0
        elif r.first[i] < 0:
            loss[i] = NAN
        elif c.soft:
            loss[i] *= s
        else:
            loss[i] = s if r.first[i] != r.target[i] else 0.0


cdef void brier_rows(const Call* c, Py_ssize_t n, const Tile[real]* x, const Tile[real]* g, const Tile[real]* q, double* wide,
                     Py_ssize_t low, Rows* r) noexcept nogil:
    """Losses of the rows from n on, and their gradients in g. `wide`: room for exponentials; their errors lie `low` behind."""
    cdef const BlockOps[real]* ops = ops_of(x.at)
    cdef real* m = <real*>r.maximum
    cdef Tile[double] e
    cdef Blend[real] blend
    cdef RowOptions options = options_of_rows(c, n, r.target)
    cdef const Tile[real]* labels = NULL
    cdef const int64_t* target = options.target
    cdef Py_ssize_t i
    if c.options.blended:
        labels = q
    if c.options.blended and not c.soft:
        memset(q.at, 0, <size_t>low * sizeof(real))
        for i in range(x.rows):
            if r.target[i] >= 0:
                q.at[i * q.row_stride + r.target[i] * q.class_stride] = 1
    set_blend(c, &blend, labels)
    blend.w = NULL
    e.at = wide
    e.rows = x.rows
    e.classes = x.classes
    e.row_stride = q.row_stride
    e.class_stride = q.class_stride
    ops.argmax(x, m, r.where, r.first, target)
    ops.brier_exp(x, &e, low, m, r.first, target, &r.sums)
    ops.brier_sums(&e, low, &blend, r.first, target, &r.sums, &r.brier)
    ops.brier_rows(&e, low, &options, &blend, r.first, &r.sums, &r.brier, r.results.loss)
    if c.g.at == NULL:
        return
    ops.brier_gradient(&e, low, g, &blend, target, &r.sums, &r.brier)
    for i in range(x.rows):
        if not c.soft and r.target[i] < 0:
            r.first[i] = -1         # `put` makes it a row of zeros
        elif r.first[i] < 0:
            r.first[i] = 0          # a row of NaN throughout
    ops.put(g, r.first, r.brier.at_first)
    if labels == NULL:
        ops.put(g, r.target, r.brier.at_target)


cdef void activation_rows(const Call* c, const Tile[real]* x, const Tile[real]* g, bint direct, Py_ssize_t ahead,
                          Rows* r) noexcept nogil:
    """softmax or log_softmax in g, which is in the user's array if `direct`; or logsumexp where losses are put."""
    cdef const BlockOps[real]* ops = ops_of(x.at)
    cdef real* m = <real*>r.maximum
    cdef double* sum = r.results.loss
    cdef Tile[real] e = g[0], result = g[0]
    cdef Py_ssize_t i
    if c.operation != SOFTMAX:
        e.at = NULL
    if not direct:
        result.at = NULL
    ops.maximum(x, m, r.where, NULL)
    ops.exp_sum(x, &e, m, r.where, NULL, NULL, NULL, ahead, &result, &r.sums)
    ops.log_rows(x.rows, m, m, m, &r.sums)
    if c.operation == LOGSUMEXP:
        for i in range(x.rows):
            sum[i] = <double>m[i] + r.sums.log_sum[i]
            if m[i] - m[i] != 0:
                sum[i] = infinite_sum(x.at + i * x.row_stride, x.class_stride, x.classes)
    elif c.operation == LOG_SOFTMAX:
        ops.log_probability(x, g, m, &r.sums)
    else:
        for i in range(x.rows):
            r.results.coefficient[i] = 1
        ops.scale(&e, &e, r.results.coefficient, NULL, &r.sums, NULL, NULL, NULL)


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


cdef int activate_rows(Call* c, int limit) except -1:
    """`run_call` for an activation; other threads of the interpreter run meanwhile, unless it is over at once."""
    cdef atomic[Py_ssize_t] bad_row
    cdef double nothing = 0
    cdef bint enough
    bad_row.store(-1)
    c.bad_row = &bad_row
    if c.rows * c.classes <= SMALL_CALL:
        enough = run_call(c, limit, &nothing)
    else:
        with nogil:
            enough = run_call(c, limit, &nothing)
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
