# The general paths: what Python calls with arguments that `_arguments` has checked. Each fills a call and runs it. Included by
# _kernels.pyx, whose names it uses, and those of _long_rows.pxi, _scores.pxi and _results.pxi. The usual calls come by
# _short_paths.pxi.

cpdef enum Reduction:
    NONE = 0
    MEAN = 1
    SUM = 2

# What is wanted of a loss, beside or in place of its value.
cpdef enum Wanted:
    LOSS_ALONE = 0
    GRADIENT = 1
    GRADIENT_AND_HESSIAN = 2
    HESSIAN_PRODUCT = 3

cdef enum:
    # Up to so many numbers a call is over before another thread could have used the interpreter's lock.
    SMALL_CALL = 4096
    # Of `n_threads`: nobody has more cores, and a slip of the hand in a number should not start them.
    THREADS_OF_A_CALL = 1024
    IGNORED_BY_DEFAULT = -100

MOST_THREADS, IGNORE_INDEX = THREADS_OF_A_CALL, IGNORED_BY_DEFAULT

# How arrays are stored, by the names of their dtypes (bool is uint8).
STORAGES = {
    "float32": STORED_FLOAT32, "float64": STORED_FLOAT64, "float16": STORED_FLOAT16, "bfloat16": STORED_BFLOAT16,
    "int8": STORED_INT8, "uint8": STORED_UINT8, "bool": STORED_UINT8, "int32": STORED_INT32, "int64": STORED_INT64,
}


# ---- into the kernels and back ---------------------------------------------------------------------------------------------

ctypedef bint (*Work)(void* call, int limit, double* loss) noexcept nogil


cdef double run_unlocked(Work work, void* call, Py_ssize_t numbers, int limit) except? -1:
    """Run a filled call; the sum of its losses. Other threads of the interpreter run meanwhile, unless it is over at once."""
    cdef double loss = 0
    cdef bint enough
    if limit < 1:
        limit = thread_limit.load()
    if numbers <= SMALL_CALL:
        enough = work(call, limit, &loss)
    else:
        with nogil:
            enough = work(call, limit, &loss)
    if not enough:
        raise MemoryError("celoss could not allocate its scratch memory")
    return loss


cdef struct LossCall:
    # A call of rows, and how their losses become one.
    Call rows
    int reduction                   # a Reduction
    double normalizer               # in place of the mean's denominator, or 0
    double upstream


cdef void begin(LossCall* call, int operation, Py_ssize_t rows, Py_ssize_t classes) noexcept:
    """A call without arrays and options."""
    cdef Call* c = &call.rows
    call.reduction = NONE
    call.normalizer = 0
    call.upstream = 1
    c.does = &operations[operation]
    c.rows = rows
    c.classes = classes
    c.inner_rows = max(rows, <Py_ssize_t>1)
    c.x.at = NULL
    c.g.at = NULL
    c.q.at = NULL
    c.h.at = NULL
    c.v.at = NULL
    c.target = NULL
    c.target_size = 8
    c.ignore_index = 0
    c.options.sample_weight = NULL
    c.options.upstream = NULL
    c.options.class_weight = NULL
    c.options.factor = 1
    c.options.probabilities = False
    set_smoothing(&c.options, 0, classes)
    c.options.focal_gamma = 0
    c.options.hessian = False
    c.options.z_loss = 0
    c.logit_scale = c.temperature = 1
    c.softcap = 0
    c.softens = False
    c.row_logsumexp = c.row_entropy = NULL
    c.row_rank = c.row_prediction = NULL
    c.ignore_all = False
    c.row_loss = NULL
    c.bad_row.store(-1)


cdef inline void set_language_options(Call* c, double logit_scale, double softcap, double z_loss) noexcept:
    c.logit_scale = logit_scale
    c.softcap = softcap
    c.softens = logit_scale != 1 or softcap > 0
    c.options.z_loss = z_loss


cdef double denominator(Call* c) noexcept nogil:
    """What the mean is divided by: the one place. Sum of s_n w_t over the rows that count; of s_n for probabilities."""
    cdef RowOptions options
    cdef int64_t target[CELOSS_BLOCK_ROWS]
    cdef const int64_t* targets = NULL
    cdef Py_ssize_t n = 0, rows
    # Of all blocks before, and of this one: a sum of sums drifts less.
    cdef double total = 0
    if c.options.class_weight == NULL and c.options.sample_weight == NULL:
        if c.options.probabilities:
            return <double>c.rows
        if c.target_size == 8:
            return <double>table.count_other_than_i64(<const int64_t*>c.target, c.rows, c.ignore_index)
        return <double>table.count_other_than_i32(<const int32_t*>c.target, c.rows, c.ignore_index)
    if c.target != NULL:
        targets = target
    while n < c.rows:
        rows = min(<Py_ssize_t>CELOSS_BLOCK_ROWS, c.rows - n)
        if targets != NULL and read_targets(c, n, rows, target) & SEEN_OUT_OF_RANGE:
            c.bad_row.store(n)
            return 0
        options = options_of_rows(c, n, 0)
        total += table.sum_of_weights(rows, targets, &options)
        n += rows
    return total


cdef bint run_rows(Call* c, int limit, double* loss) noexcept nogil:
    if c.classes >> 48:
        return False  # a broadcast row, longer than any memory: sizes of scratch would overflow
    return run_long_rows(c, limit, loss) if are_long_rows(c) and not c.ignore_all else run_blocks(c, limit, loss)


cdef bint run_loss(void* loss_call, int limit, double* loss) noexcept nogil:
    cdef LossCall* call = <LossCall*>loss_call
    cdef Call* c = &call.rows
    cdef double divisor = 1
    cdef bint enough
    if call.reduction == MEAN:
        divisor = call.normalizer if call.normalizer > 0 else denominator(c)
        if c.bad_row.load() >= 0:
            return True
        if divisor == 0:
            c.ignore_all = True
            enough = c.g.at == NULL or run_rows(c, limit, loss)
            loss[0] = NAN
            return enough
    c.options.factor = call.upstream / divisor
    if c.softcap == 0:  # else the slope has it
        c.options.factor *= c.logit_scale
    enough = run_rows(c, limit, loss)
    loss[0] /= divisor
    return enough


cdef object loss_of(LossCall* call, object row_loss, int wanted, object grad, object hess, int limit):
    """Run a filled call and return what is wanted of it; an int is the row of a target out of range."""
    cdef double loss = run_unlocked(run_loss, call, call.rows.rows * call.rows.classes, limit)
    if call.rows.bad_row.load() >= 0:
        return call.rows.bad_row.load()
    return results_of(wanted, loss if call.reduction != NONE else row_loss, grad, hess)


cdef inline object results_of(int wanted, object loss, object grad, object hess):
    if wanted == GRADIENT:
        return loss, grad
    if wanted == GRADIENT_AND_HESSIAN:
        return loss, grad, hess
    return loss if wanted == LOSS_ALONE else grad


# ---- plain arrays: C-contiguous, aligned, in native byte order ---------------------------------------------------------------

cdef inline bint is_plain(cnp.ndarray a) noexcept:
    return cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_ISBEHAVED_RO(a)


cdef inline bint is_plain_scores(object x) noexcept:
    """Whether x is a plain array of float32 or float64."""
    cdef int kind
    if not cnp.PyArray_CheckExact(x):
        return False
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    return (kind == cnp.NPY_FLOAT32 or kind == cnp.NPY_FLOAT64) and is_plain(<cnp.ndarray>x)


cdef inline int plain_storage(cnp.ndarray x) noexcept:
    return STORED_FLOAT32 if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 else STORED_FLOAT64


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int d
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for d in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, d) != cnp.PyArray_DIM(b, d):
            return False
    return True


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two contiguous arrays share no byte."""
    cdef char* a_at = <char*>cnp.PyArray_DATA(a)
    cdef char* b_at = <char*>cnp.PyArray_DATA(b)
    return a_at + cnp.PyArray_NBYTES(a) <= b_at or b_at + cnp.PyArray_NBYTES(b) <= a_at


cdef inline object plain_result(cnp.ndarray x, object out):
    """The array for a result like the plain array x: a fresh one, or `out` where it fits without a closer look; else None."""
    cdef cnp.ndarray g
    if out is None:
        return result_like(x, cnp.PyArray_NDIM(x))
    if not cnp.PyArray_CheckExact(out):
        return None
    g = <cnp.ndarray>out
    # Another buffer than that of x might overlap it: the general path looks.
    if (cnp.PyArray_TYPE(g) != cnp.PyArray_TYPE(x) or not same_shape(g, x) or not cnp.PyArray_IS_C_CONTIGUOUS(g)
            or not cnp.PyArray_ISBEHAVED(g) or not (cnp.PyArray_DATA(g) == cnp.PyArray_DATA(x) or apart(g, x))):
        return None
    return g


cdef inline void set_plain_layout(Layout* layout, cnp.ndarray a, Py_ssize_t classes) noexcept:
    layout.at = <char*>cnp.PyArray_DATA(a)
    layout.storage = plain_storage(a)
    layout.class_stride = cnp.PyArray_ITEMSIZE(a)
    layout.inner_stride = classes * layout.class_stride
    layout.outer_stride = 0
    layout.outer_offsets = NULL
    layout.unaligned = False


# ---- losses of rows ----------------------------------------------------------------------------------------------------------

def loss_of_rows(int operation, arguments):
    """What is wanted of a loss, on `_row_arguments.RowArguments`; an int is the row of a target out of range."""
    cdef LossCall call
    cdef Call* c = &call.rows
    cdef cnp.ndarray array
    keep = begin_with_layouts(
        &call, operation, arguments.axis, arguments.logits, arguments.storage, arguments.out, arguments.probabilities,
        arguments.probabilities_storage, arguments.hess, arguments.vector, arguments.vector_storage,
    )
    if arguments.target is not None:
        array = arguments.target
        c.target = <const char*>cnp.PyArray_DATA(array)
        c.target_size = <int>array.itemsize
        c.ignore_index = arguments.ignore_index
    if arguments.weight is not None and arguments.weight.size:
        array = arguments.weight
        c.options.class_weight = <const double*>cnp.PyArray_DATA(array)
    if arguments.sample_weight is not None:
        array = arguments.sample_weight
        c.options.sample_weight = <const double*>cnp.PyArray_DATA(array)
    if isinstance(arguments.upstream, float):
        call.upstream = arguments.upstream
    elif arguments.upstream is not None:
        array = arguments.upstream
        c.options.upstream = <const double*>cnp.PyArray_DATA(array)
    set_smoothing(&c.options, arguments.label_smoothing, c.classes)
    c.options.focal_gamma = arguments.focal_gamma
    set_language_options(c, arguments.logit_scale, arguments.softcap, arguments.z_loss)
    c.temperature = arguments.temperature
    call.reduction = arguments.reduction
    call.normalizer = arguments.normalizer
    if arguments.row_loss is not None:
        array = arguments.row_loss
        c.row_loss = <char*>cnp.PyArray_DATA(array)
        c.row_loss_size = <int>array.itemsize
    if arguments.statistics is not None:
        logsumexps, entropies, ranks, predictions = arguments.statistics
        c.row_logsumexp = <char*>cnp.PyArray_DATA(<cnp.ndarray?>logsumexps)
        c.row_entropy = <char*>cnp.PyArray_DATA(<cnp.ndarray?>entropies)
        c.row_rank = <int64_t*>cnp.PyArray_DATA(<cnp.ndarray?>ranks)
        c.row_prediction = <int64_t*>cnp.PyArray_DATA(<cnp.ndarray?>predictions)
    return loss_of(&call, arguments.row_loss, arguments.wanted, arguments.out, arguments.hess, arguments.n_threads)


# ---- layouts of any arrays -----------------------------------------------------------------------------------------------------

cdef object begin_with_layouts(LossCall* call, int operation, int axis, cnp.ndarray x, int storage, cnp.ndarray out,
                               cnp.ndarray probabilities, int probabilities_storage, cnp.ndarray hess=None,
                               cnp.ndarray vector=None, int vector_storage=0):
    """`begin` for these arrays; what has to outlive the call."""
    cdef Call* c = &call.rows
    cdef int inner_dims = inner_dimensions([a for a in (x, out, probabilities, hess, vector) if a is not None], axis)
    dims = [d for d in range(x.ndim) if d != axis]
    rows, inner_rows = 1, 1
    for d in dims:
        rows *= x.shape[d]
    for d in dims[len(dims) - inner_dims:]:
        inner_rows *= x.shape[d]
    begin(call, operation, rows, max(<Py_ssize_t>x.shape[axis], <Py_ssize_t>1))  # no classes only where there are no rows
    c.inner_rows = max(<Py_ssize_t>inner_rows, <Py_ssize_t>1)
    keep = [set_layout(&c.x, x, storage, axis, inner_dims)]
    if out is not None:
        keep.append(set_layout(&c.g, out, storage, axis, inner_dims))
    if probabilities is not None:
        c.options.probabilities = True
        keep.append(set_layout(&c.q, probabilities, probabilities_storage, axis, inner_dims))
    if hess is not None:
        c.options.hessian = True
        keep.append(set_layout(&c.h, hess, storage, axis, inner_dims))
    if vector is not None:
        keep.append(set_layout(&c.v, vector, vector_storage, axis, inner_dims))
    return keep


cdef object set_layout(Layout* layout, cnp.ndarray a, int storage, int axis, int inner_dims):
    """Describe an array by outer rows, inner rows and classes; returns the offsets that must outlive the call, if any.

    The last `inner_dims` dimensions other than the axis follow one another at one stride: they are the inner rows.
    """
    dims = [d for d in range(a.ndim) if d != axis]
    outer, inner = dims[:len(dims) - inner_dims], dims[len(dims) - inner_dims:]
    layout.at = <char*>cnp.PyArray_DATA(a)
    layout.storage = storage
    layout.class_stride = a.strides[axis]
    layout.inner_stride = a.strides[inner[-1]] if inner else 0
    layout.outer_stride = a.strides[outer[0]] if len(outer) == 1 else 0
    layout.outer_offsets = NULL
    layout.unaligned = any([a.strides[d] % a.itemsize for d in outer])
    if len(outer) <= 1:
        return None
    cdef cnp.ndarray offsets = np.zeros((), np.int64)
    for d in outer:
        offsets = offsets[..., None] + np.arange(a.shape[d], dtype=np.int64) * a.strides[d]
    offsets = np.ascontiguousarray(offsets).reshape(-1)
    layout.outer_offsets = <const int64_t*>cnp.PyArray_DATA(offsets)
    return offsets


def inner_dimensions(arrays, int axis):
    """How many trailing dimensions other than the axis follow one another at one stride in every one of the arrays."""
    shape = arrays[0].shape
    dims = [d for d in range(len(shape)) if d != axis]
    count = min(1, len(dims))
    while count < len(dims):
        left, right = dims[-count - 1], dims[-count]
        if any(a.strides[left] != a.strides[right] * shape[right] for a in arrays):
            break
        count += 1
    return count


# ---- activations of rows -------------------------------------------------------------------------------------------------------

def activation_of_rows(int operation, cnp.ndarray x, int storage, int axis, cnp.ndarray out, cnp.ndarray row_result,
                       cnp.ndarray upstream=None, int upstream_storage=0):
    """A result for each score into `out`, or for each row into `row_result` (contiguous); `upstream` is a vjp's."""
    cdef LossCall call
    cdef Call* c = &call.rows
    if x.size == 0:
        return
    keep = begin_with_layouts(&call, operation, axis, x, storage, out, upstream, upstream_storage)
    if row_result is not None:
        c.row_loss = <char*>cnp.PyArray_DATA(row_result)
        c.row_loss_size = <int>row_result.itemsize
    run_unlocked(run_loss, &call, c.rows * c.classes, 0)


# ---- one score at a time -------------------------------------------------------------------------------------------------------

cdef bint run_scores_call(void* call, int limit, double* loss) noexcept nogil:
    return run_scores(<ScoresCall*>call, limit, loss)


cdef void begin_scores(ScoresCall* s, int operation, Py_ssize_t count) noexcept:
    """A call without arrays and options."""
    s.operation = operation
    s.count = count
    s.keep = 1
    s.keep_low = s.add = s.focal_gamma = 0
    s.factor = 1
    s.loss = NULL
    s.bad_value.store(0)
    s.y.storage = s.weight.storage = s.pos_weight.storage = s.upstream.storage = s.out.storage = s.hess.storage = -1


cdef void set_plain_operand(Operand* operand, cnp.ndarray a, int storage) noexcept:
    operand.at = <char*>cnp.PyArray_DATA(a)
    operand.storage = storage
    operand.dims = 1
    operand.shape[0] = max(cnp.PyArray_SIZE(a), <Py_ssize_t>1)
    operand.stride[0] = cnp.PyArray_ITEMSIZE(a)


cdef inline void begin_operand(Operand* operand, cnp.ndarray a, int storage) noexcept:
    """An array whose dimensions are to be added: so far one number."""
    operand.at = <char*>cnp.PyArray_DATA(a)
    operand.storage = storage
    operand.dims = 1
    operand.shape[0] = 1
    operand.stride[0] = cnp.PyArray_ITEMSIZE(a)


cdef inline void add_dimension(Operand* operand, Py_ssize_t length, Py_ssize_t stride) noexcept:
    """The next dimension inwards, merged with the one before where they follow one another at one stride."""
    cdef int last = operand.dims - 1
    if length == 1:
        return
    if operand.shape[last] == 1:  # only that of `begin_operand`
        operand.shape[last] = length
        operand.stride[last] = stride
    elif operand.stride[last] == stride * length:
        operand.shape[last] *= length
        operand.stride[last] = stride
    else:
        operand.shape[operand.dims] = length
        operand.stride[operand.dims] = stride
        operand.dims += 1


cdef int set_operand(Operand* operand, cnp.ndarray a, int storage, list dims) except -1:
    """Describe an array along the flat index over the dimensions `dims` of it, outermost first. None: there is none."""
    if a is None:
        return 0
    begin_operand(operand, a, storage)
    for d in dims:
        add_dimension(operand, cnp.PyArray_DIM(a, d), cnp.PyArray_STRIDE(a, d))
    return 0


cdef void set_label_smoothing(ScoresCall* s, double label_smoothing) noexcept:
    s.keep = 1 - label_smoothing
    s.keep_low = (1 - s.keep) - label_smoothing
    s.add = label_smoothing / 2


cdef object loss_of_scores_call(ScoresCall* s, int reduction, double normalizer, object loss, int wanted, object grad,
                                object hess, int limit):
    """Run a filled call and return what is wanted of it."""
    cdef double total = 0, divisor = 1
    if reduction == MEAN:
        divisor = normalizer if normalizer > 0 else <double>s.count
    if s.count:
        s.factor /= divisor
        total = run_unlocked(run_scores_call, s, s.count, limit)
    return results_of(wanted, loss if reduction == NONE else total / divisor if divisor > 0 else NAN, grad, hess)


def loss_of_scores(int operation, arguments):
    """What is wanted of a loss, on `_score_arguments.ScoreArguments`. None: a label or weight cannot be."""
    cdef ScoresCall s
    cdef cnp.ndarray logits = arguments.logits, loss = arguments.loss
    dims = list(range(logits.ndim))
    begin_scores(&s, operation, logits.size)
    set_operand(&s.z, logits, arguments.storage, dims)
    set_operand(&s.y, arguments.target, arguments.target_storage, dims)
    set_operand(&s.weight, arguments.weight, arguments.weight_storage, dims)
    set_operand(&s.pos_weight, arguments.pos_weight, arguments.pos_weight_storage, dims)
    if arguments.wanted == HESSIAN_PRODUCT:  # second derivatives, times the vector as an upstream gradient
        set_operand(&s.hess, arguments.out, arguments.storage, dims)
        set_operand(&s.upstream, arguments.vector, arguments.vector_storage, dims)
    else:
        set_operand(&s.out, arguments.out, arguments.storage, dims)
        set_operand(&s.hess, arguments.hess, arguments.storage, dims)
    set_label_smoothing(&s, arguments.label_smoothing)
    s.focal_gamma = arguments.focal_gamma
    if isinstance(arguments.upstream, float):
        s.factor = arguments.upstream
    elif arguments.upstream is not None:
        set_operand(&s.upstream, arguments.upstream, STORED_FLOAT64, dims)
    if loss is not None:
        s.loss = <char*>cnp.PyArray_DATA(loss)
    result = loss_of_scores_call(&s, arguments.reduction, arguments.normalizer, loss, arguments.wanted, arguments.out,
                                 arguments.hess, arguments.n_threads)
    return None if s.bad_value.load() else result


def activation_of_scores(int operation, cnp.ndarray x, int storage, cnp.ndarray out):
    """A result for each score into `out`, in the order in which x lies in memory."""
    cdef ScoresCall s
    if x.size == 0:
        return
    dims = list(range(x.ndim))
    if not cnp.PyArray_IS_C_CONTIGUOUS(x):
        dims.sort(key=lambda d: -abs(x.strides[d]))
    begin_scores(&s, operation, x.size)
    set_operand(&s.z, x, storage, dims)
    set_operand(&s.out, out, storage, dims)
    run_unlocked(run_scores_call, &s, s.count, 0)


# ---- for the tests: the functions that the operations are made of --------------------------------------------------------------

PROBES = {
    "exp": _simd.EXP,
    "log1p_of_exp": _simd.LOG1P_OF_EXP,
    "less_likely": _simd.LESS_LIKELY,
    "exp_of_maximum": _simd.EXP_OF_MAXIMUM,
    "exp_in_row": _simd.EXP_IN_ROW,
    "log1p_ratio": _simd.LOG1P_RATIO,
    "log1p_ratio_exact": _simd.LOG1P_RATIO_EXACT,
    "exp_to_39_bits": _simd.EXP_TO_39_BITS,
    "exp_with_error": _simd.EXP_WITH_ERROR,
    "log_and_inverse": _simd.LOG_AND_INVERSE,
    "tanh": _simd.TANH,
}


cdef void run_probe(int function, list arrays, real* kind) noexcept:
    cdef const real* numbers[4]
    cdef int k
    for k in range(4):
        numbers[k] = <const real*>cnp.PyArray_DATA(<cnp.ndarray>arrays[k])
    ops_for(kind).probe(function, (<cnp.ndarray>arrays[0]).size, numbers, <real*>cnp.PyArray_DATA(<cnp.ndarray>arrays[4]),
                        <real*>cnp.PyArray_DATA(<cnp.ndarray>arrays[5]))


def probe(str name, cnp.ndarray x, y=0, x_low=0, y_low=0):
    """Value and rounding error of a function of PROBES (see simd/contract.h), on the level in use. x: float32 or float64."""
    cdef int function = PROBES[name]
    if x.dtype != np.float64 and (x.dtype != np.float32 or _simd.EXP_IN_ROW <= function <= _simd.LOG_AND_INVERSE):
        raise TypeError(f"{name} does not exist in {x.dtype}")
    arrays = [np.ascontiguousarray(np.broadcast_to(a, (<object>x).shape), x.dtype) for a in (x, y, x_low, y_low)]
    arrays += [np.empty_like(arrays[0]), np.empty_like(arrays[0])]
    if x.dtype == np.float32:
        run_probe[float](function, arrays, NULL)
    else:
        run_probe[double](function, arrays, NULL)
    return arrays[4], arrays[5]
