# Operations on one score at a time: sigmoid, log_sigmoid, the binary losses. Included by _kernels.pyx.
#
# Stretches of the flat, C-ordered index of the scores. The cuts depend on the shape alone, so that results depend neither on
# the number of threads nor on strides.

cdef enum:
    # Scores that go through the passes together; the buffers of a block stay in the first-level cache.
    BLOCK_SCORES = 1024
    MOST_DIMENSIONS = 64

cdef enum ElementOperation:
    BINARY = 0
    SIGMOID = 1
    LOG_SIGMOID = 2


cdef struct Operand:
    # An array seen along the flat, C-ordered index: dimensions that follow one another at one stride are merged.
    char* at
    int storage                     # -1: there is none
    int dims                        # at least 1
    Py_ssize_t shape[MOST_DIMENSIONS]
    Py_ssize_t stride[MOST_DIMENSIONS]


cdef struct Elements:
    ElementOperation operation
    Py_ssize_t count
    Operand z, y, weight, pos_weight, upstream, out
    int loss_kind
    double keep, keep_low, add, factor
    char* loss                      # contiguous, in the arithmetic type, or NULL
    double* chunk_loss
    atomic[int] bad_weight          # whether a weight was met that is not finite and >= 0


cdef Py_ssize_t stretch_at(const Operand* a, Py_ssize_t start, Py_ssize_t n, Matrix* where,
                           Py_ssize_t* run) noexcept nogil:
    """Up to n numbers from flat index `start` as a matrix of rows of `run` numbers; returns how many rows."""
    cdef Py_ssize_t length = a.shape[a.dims - 1]
    cdef Py_ssize_t row = start // length
    cdef Py_ssize_t at = start - row * length
    cdef Py_ssize_t offset = at * a.stride[a.dims - 1]
    cdef Py_ssize_t rows = 1, rest = row
    cdef int d = a.dims - 2
    run[0] = min(n, length - at)
    where.row_stride = 0
    if d >= 0:
        where.row_stride = a.stride[d]
        if at == 0 and run[0] == length:
            rows = max(<Py_ssize_t>1, min(n // length, a.shape[d] - row % a.shape[d]))
    while d >= 0:
        offset += rest % a.shape[d] * a.stride[d]
        rest //= a.shape[d]
        d -= 1
    where.at = a.at + offset
    where.class_stride = a.stride[a.dims - 1]
    where.storage = a.storage
    return rows


cdef inline real* direct_at(const Operand* a, Py_ssize_t start, real* kind) noexcept nogil:
    """Where the numbers from flat index `start` on lie one after another in the arithmetic type; else NULL."""
    cdef Py_ssize_t size = sizeof(real)
    cdef int native
    if real is float:
        native = STORED_FLOAT32
    else:
        native = STORED_FLOAT64
    if a.dims == 1 and a.storage == native and a.stride[0] == size and <size_t>a.at % size == 0:
        return <real*>a.at + start
    return NULL


cdef const real* fetch(const Operand* a, Py_ssize_t start, Py_ssize_t n, real* buffer) noexcept nogil:
    """n numbers from flat index `start` on: in place where possible, elsewhere in `buffer`. NULL: no operand."""
    cdef const BlockOps[real]* ops = ops_of(buffer)
    cdef Tile[real] tile
    cdef Matrix where
    cdef Py_ssize_t done = 0, i
    if a.storage < 0:
        return NULL
    tile.at = direct_at(a, start, buffer)
    if tile.at != NULL:
        return tile.at
    while done < n:
        tile.at = buffer + done
        tile.rows = stretch_at(a, start + done, n - done, &where, &tile.classes)
        tile.row_stride = tile.classes
        tile.class_stride = 1
        if where.class_stride == 0:
            tile.classes = 1            # one number for the whole run
        if a.storage >= STORED_INT8:
            ops.load_labels(&where, &tile)
        else:
            ops.load_tile(&where, &tile)
        if where.class_stride == 0:
            for i in range(tile.rows):
                fill(tile.at + i * tile.row_stride, tile.row_stride)
        done += tile.rows * tile.row_stride
    return buffer


cdef inline void fill(real* at, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real value = at[0]
    for i in range(1, n):
        at[i] = value


cdef void put_back(const Operand* a, Py_ssize_t start, Py_ssize_t n, real* buffer) noexcept nogil:
    """The way back, of `fetch`."""
    cdef const BlockOps[real]* ops = ops_of(buffer)
    cdef Tile[real] tile
    cdef Matrix where
    cdef Py_ssize_t done = 0
    while done < n:
        tile.at = buffer + done
        tile.rows = stretch_at(a, start + done, n - done, &where, &tile.classes)
        tile.row_stride = tile.classes
        tile.class_stride = 1
        ops.store_tile(&tile, &where)
        done += tile.rows * tile.classes


cdef double run_scores(Elements* s, Py_ssize_t start, Py_ssize_t n, char* scratch, real* kind) noexcept nogil:
    """All passes over one block of scores; the sum of the losses."""
    cdef const BlockOps[real]* ops = ops_of(kind)
    cdef double* wide = <double*>scratch
    cdef real* buffer = <real*>(wide + 3 * BLOCK_SCORES)
    cdef BinaryBlock[real] block
    cdef double loss = 0
    cdef const real* z = fetch(&s.z, start, n, buffer)
    cdef real* out = NULL
    if s.out.storage >= 0:
        out = direct_at(&s.out, start, kind)
        if out == NULL:
            out = buffer + 2 * BLOCK_SCORES
    if s.operation == BINARY:
        block.loss_kind = s.loss_kind
        block.n = n
        block.z = z
        block.y = fetch(&s.y, start, n, buffer + BLOCK_SCORES)
        block.keep = s.keep
        block.keep_low = s.keep_low
        block.add = s.add
        block.add_low = 0               # half of a number is one
        block.factor = s.factor
        block.weight = fetch(&s.weight, start, n, wide)
        block.pos_weight = fetch(&s.pos_weight, start, n, wide + BLOCK_SCORES)
        block.upstream = fetch(&s.upstream, start, n, wide + 2 * BLOCK_SCORES)
        block.loss = <real*>s.loss + start if s.loss != NULL else NULL
        block.grad = out
        block.bad_weight = 0
        loss = ops.binary(&block)
        if block.bad_weight:
            s.bad_weight.store(1)
    elif s.operation == SIGMOID:
        ops.sigmoid(n, z, out)
    else:
        ops.log_sigmoid(n, z, out)
    if out == buffer + 2 * BLOCK_SCORES:
        put_back(&s.out, start, n, out)
    return loss


cdef void run_scores_chunk(Elements* s, Py_ssize_t chunk, char* scratch, real* kind) noexcept nogil:
    cdef Py_ssize_t start = chunk * CHUNK_NUMBERS, end = min(s.count, start + CHUNK_NUMBERS), n
    cdef double loss = 0
    while start < end:
        n = min(<Py_ssize_t>BLOCK_SCORES, end - start)
        loss += run_scores(s, start, n, scratch, kind)
        start += n
    if s.chunk_loss != NULL:
        s.chunk_loss[chunk] = loss


cdef void scores_of_floats(void* s, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_scores_chunk[float](<Elements*>s, chunk, <char*>scratch, NULL)


cdef void scores_of_doubles(void* s, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_scores_chunk[double](<Elements*>s, chunk, <char*>scratch, NULL)


cdef bint run_elements(Elements* s, int limit, double* loss) noexcept nogil:
    """Cut the scores into chunks and run them; the sum of the losses. False: no memory."""
    cdef Py_ssize_t chunks = (s.count + CHUNK_NUMBERS - 1) // CHUNK_NUMBERS
    cdef Py_ssize_t threads = max(<Py_ssize_t>1, min(<Py_ssize_t>limit, s.count // NUMBERS_PER_THREAD))
    cdef size_t scratch = 3 * BLOCK_SCORES * (sizeof(double) + sizeof(double))
    cdef double one_chunk
    cdef bint ran
    s.chunk_loss = NULL
    s.bad_weight.store(0)
    if s.operation == BINARY:
        s.chunk_loss = &one_chunk
        if chunks > 1:
            s.chunk_loss = <double*>malloc(<size_t>chunks * sizeof(double))
            if s.chunk_loss == NULL:
                return False
    ran = celoss_pool_run(scores_of_doubles if s.z.storage == STORED_FLOAT64 else scores_of_floats, s, chunks,
                          <int>threads, scratch)
    if ran and s.chunk_loss != NULL:
        loss[0] = sum_of(s.chunk_loss, chunks)
    if chunks > 1:
        free(s.chunk_loss)
    return ran


cdef double run_over_scores(Elements* s, int limit) except? -1:
    """`run_elements`; other threads of the interpreter run meanwhile, unless it is over at once."""
    cdef double loss = 0
    cdef bint enough
    if s.count <= SMALL_CALL:
        enough = run_elements(s, limit, &loss)
    else:
        with nogil:
            enough = run_elements(s, limit, &loss)
    if not enough:
        raise MemoryError("celoss could not allocate its scratch memory")
    return loss


cdef int set_operand(Operand* operand, cnp.ndarray a, int storage, list dims) except -1:
    """Describe an array along the flat index over the dimensions `dims` of it, outermost first."""
    cdef Py_ssize_t length, stride
    operand.storage = -1
    if a is None:
        return 0
    operand.at = <char*>cnp.PyArray_DATA(a)
    operand.storage = storage
    operand.dims = 0
    for d in dims:
        length = cnp.PyArray_DIM(a, d)
        stride = cnp.PyArray_STRIDE(a, d)
        if length == 1:
            continue
        if operand.dims and operand.stride[operand.dims - 1] == stride * length:
            operand.shape[operand.dims - 1] *= length
            operand.stride[operand.dims - 1] = stride
        else:
            operand.shape[operand.dims] = length
            operand.stride[operand.dims] = stride
            operand.dims += 1
    if operand.dims == 0:
        operand.dims = 1
        operand.shape[0] = 1
        operand.stride[0] = a.itemsize
    return 0


def element_activation(int operation, cnp.ndarray x, int storage, cnp.ndarray out):
    """sigmoid (1) or log_sigmoid (2) into `out`, in the order in which x lies in memory."""
    cdef Elements s
    if x.size == 0:
        return
    dims = list(range(x.ndim))
    if not cnp.PyArray_IS_C_CONTIGUOUS(x):
        dims.sort(key=lambda d: -abs(x.strides[d]))
    s.operation = <ElementOperation>operation
    s.count = x.size
    set_operand(&s.z, x, storage, dims)
    set_operand(&s.out, out, storage, dims)
    set_operand(&s.y, None, 0, None)
    run_over_scores(&s, thread_limit.load())


cdef void set_plain_operand(Operand* operand, cnp.ndarray a, int storage) noexcept:
    operand.storage = -1
    if a is None:
        return
    operand.at = <char*>cnp.PyArray_DATA(a)
    operand.storage = storage
    operand.dims = 1
    operand.shape[0] = max(cnp.PyArray_SIZE(a), <Py_ssize_t>1)
    operand.stride[0] = cnp.PyArray_ITEMSIZE(a)


def plain_element_activation(int operation, x, out):
    """`element_activation` of a plain array, with nothing to check; None where anything is unusual."""
    cdef Elements s
    cdef int storage
    result = plain_scores(x, out, True)
    if result is NotImplemented:
        return None
    storage = STORED_FLOAT32 if cnp.PyArray_ITEMSIZE(<cnp.ndarray>x) == 4 else STORED_FLOAT64
    s.operation = <ElementOperation>operation
    s.count = cnp.PyArray_SIZE(<cnp.ndarray>x)
    set_plain_operand(&s.z, <cnp.ndarray>x, storage)
    set_plain_operand(&s.out, <cnp.ndarray>result, storage)
    run_over_scores(&s, thread_limit.load())
    return result


cdef inline int plain_label_storage(int kind) noexcept:
    if kind == cnp.NPY_FLOAT32:
        return STORED_FLOAT32
    if kind == cnp.NPY_FLOAT64:
        return STORED_FLOAT64
    if kind == cnp.NPY_INT64:
        return STORED_INT64
    if kind == cnp.NPY_INT32:
        return STORED_INT32
    if kind == cnp.NPY_BOOL or kind == cnp.NPY_UINT8:
        return STORED_UINT8
    return -1


def plain_binary_loss(int loss_kind, logits, target, weight, pos_weight, label_smoothing, reduction, normalizer, n_threads,
                      bint want_grad, grad_output, out):
    """`binary_loss` of plain arrays without options, with nothing to check; None where anything is unusual."""
    cdef Elements s
    cdef double total = 0, divisor = 1
    cdef int storage, label_storage, reduce_by, d
    cdef cnp.ndarray z, y
    cdef object loss = None
    if (weight is not None or pos_weight is not None or normalizer is not None or n_threads is not None
            or grad_output is not None or type(reduction) is not str
            or type(label_smoothing) is not float or label_smoothing != 0.0):
        return None
    reduce_by = reduction_named(reduction)
    grad = plain_scores(logits, out, want_grad)
    if reduce_by < 0 or grad is NotImplemented or not cnp.PyArray_CheckExact(target):
        return None
    z = <cnp.ndarray>logits
    y = <cnp.ndarray>target
    label_storage = plain_label_storage(cnp.PyArray_TYPE(y))
    if label_storage < 0 or not is_plain(y) or cnp.PyArray_NDIM(y) != cnp.PyArray_NDIM(z):
        return None
    for d in range(cnp.PyArray_NDIM(z)):
        if cnp.PyArray_DIM(y, d) != cnp.PyArray_DIM(z, d):
            return None
    if out is not None and not apart(y, <cnp.ndarray>out):
        return None
    storage = STORED_FLOAT32 if cnp.PyArray_ITEMSIZE(z) == 4 else STORED_FLOAT64
    s.operation = BINARY
    s.loss_kind = loss_kind
    s.count = cnp.PyArray_SIZE(z)
    set_plain_operand(&s.z, z, storage)
    set_plain_operand(&s.y, y, label_storage)
    set_plain_operand(&s.weight, None, 0)
    set_plain_operand(&s.pos_weight, None, 0)
    set_plain_operand(&s.upstream, None, 0)
    set_plain_operand(&s.out, <cnp.ndarray>grad if want_grad else None, storage)
    s.keep = 1
    s.keep_low = s.add = 0
    s.loss = NULL
    if reduce_by == NONE:
        loss = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(z), cnp.PyArray_DIMS(z), cnp.PyArray_TYPE(z), 0)
        s.loss = <char*>cnp.PyArray_DATA(<cnp.ndarray>loss)
    elif reduce_by == MEAN:
        divisor = <double>s.count
    if s.count:
        s.factor = 1 / divisor
        total = run_over_scores(&s, thread_limit.load())
    result = loss if reduce_by == NONE else total / divisor if divisor > 0 else NAN
    return (result, grad) if want_grad else result


def binary_loss(int loss_kind, cnp.ndarray logits, int storage, cnp.ndarray target, int target_storage,
                cnp.ndarray weight, int weight_storage, cnp.ndarray pos_weight, int pos_weight_storage, double smoothing, int reduction,
                double normalizer, upstream, bint want_grad, cnp.ndarray out, cnp.ndarray loss, int limit):
    """A binary loss, or with a gradient (loss, gradient), on arguments from `_arguments.binary_arguments`.

    None where a weight is not finite and >= 0.
    """
    cdef Elements s
    cdef double total = 0, divisor = 1
    cdef cnp.ndarray upstreams = None
    dims = list(range(logits.ndim))
    s.operation = BINARY
    s.loss_kind = loss_kind
    s.count = logits.size
    set_operand(&s.z, logits, storage, dims)
    set_operand(&s.y, target, target_storage, dims)
    set_operand(&s.weight, weight, weight_storage, dims)
    set_operand(&s.pos_weight, pos_weight, pos_weight_storage, dims)
    set_operand(&s.out, out if want_grad else None, storage, dims)
    s.keep = 1 - smoothing
    s.keep_low = (1 - s.keep) - smoothing
    s.add = smoothing / 2
    s.factor = 1
    if isinstance(upstream, float):
        s.factor = upstream
    elif upstream is not None:
        upstreams = upstream
    set_operand(&s.upstream, upstreams, STORED_FLOAT64, dims)
    s.loss = NULL
    if reduction == NONE:
        s.loss = <char*>cnp.PyArray_DATA(loss)
    elif reduction == MEAN:
        divisor = normalizer if normalizer > 0 else <double>s.count
    if s.count:
        s.factor /= divisor
        total = run_over_scores(&s, limit if limit > 0 else thread_limit.load())
        if s.bad_weight.load():
            return None
    result = loss if reduction == NONE else total / divisor if divisor > 0 else NAN
    return (result, out) if want_grad else result


# ---- for the tests: the functions that the operations are made of -----------------------------------------------------------

ELEMENTARY = {
    "exp": EXP,
    "log1p_of_exp": LOG1P_OF_EXP,
    "less_likely": LESS_LIKELY,
    "exp_of_maximum": EXP_OF_MAXIMUM,
    "log1p_ratio": LOG1P_RATIO,
    "log1p_ratio_exact": LOG1P_RATIO_EXACT,
    "exp_of_distance": EXP_OF_DISTANCE,
    "exp_of_difference": EXP_OF_DIFFERENCE,
}


cdef void run_elementary(int function, list arrays, real* kind) noexcept:
    cdef const real* numbers[4]
    cdef int k
    for k in range(4):
        numbers[k] = <const real*>cnp.PyArray_DATA(<cnp.ndarray>arrays[k])
    ops_of(kind).elementary(function, (<cnp.ndarray>arrays[0]).size, numbers, <real*>cnp.PyArray_DATA(<cnp.ndarray>arrays[4]),
                            <real*>cnp.PyArray_DATA(<cnp.ndarray>arrays[5]))


def elementary(str name, cnp.ndarray x, y=0, x_low=0, y_low=0):
    """Value and rounding error of a function of ELEMENTARY (see block_ops.h), on the level in use. x: float32 or float64."""
    cdef int function = ELEMENTARY[name]
    if x.dtype != np.float64 and (x.dtype != np.float32 or function >= EXP_OF_MAXIMUM):
        raise TypeError(f"{name} does not exist in {x.dtype}")
    arrays = [np.ascontiguousarray(np.broadcast_to(a, (<object>x).shape), x.dtype) for a in (x, y, x_low, y_low)]
    arrays += [np.empty_like(arrays[0]), np.empty_like(arrays[0])]
    if x.dtype == np.float32:
        run_elementary[float](function, arrays, NULL)
    else:
        run_elementary[double](function, arrays, NULL)
    return arrays[4], arrays[5]
