# The short paths: what the public functions call. Usual calls end here; Python would take ten times as long to look at their
# arguments. Included by _kernels.pyx, whose names it uses, and those of _entries.pxi and _scores.pxi.
#
# A `short_...` gets the general path along, as `general`, and hands it the same arguments where its `usual_...` returns None:
# wherever anything is unusual or wrong. Nothing is raised here; `_arguments` looks again at what is wrong, and names it. What is
# taken gives the very bits of the general path.
#
# Lists are converted first of all, since their items may be objects whose code runs then. From there on no code of the user's
# does, and arrays stay where they are.

from cpython.long cimport PyLong_AsLongLongAndOverflow

cdef frozenset SCALARS = frozenset([
    np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
])


# ---- options -------------------------------------------------------------------------------------------------------------------

cdef bint is_number(object value, double* number) except -1:
    """Whether it is a real number of Python's or NumPy's, and what: the value as a double. False beyond 64 bits."""
    cdef int overflow = 0
    if type(value) is float:
        number[0] = value
        return True
    if type(value) is int:
        number[0] = <double>PyLong_AsLongLongAndOverflow(value, &overflow)
        return overflow == 0
    if type(type(value)) is type and type(value) in SCALARS:  # a metaclass may have no hash
        number[0] = value
        return True
    return False


cdef inline bint is_last_axis(object axis, int ndim) noexcept:
    return type(axis) is int and (axis == -1 or axis == ndim - 1)


cdef inline int reduction_named(object name) noexcept:
    """The Reduction of this name, or -1."""
    if type(name) is not str:
        return -1
    if <str>name == "mean":
        return MEAN
    if <str>name == "sum":
        return SUM
    return NONE if <str>name == "none" else -1


cdef inline bint is_normalizer(object value, double* number) except -1:
    """Whether it is None, for which 0 stands, or a positive finite number."""
    number[0] = 0
    return value is None or (is_number(value, number) and 0 < number[0] < INFINITY)


cdef inline bint is_limit(object n_threads, int* limit) except -1:
    """Whether it is None, for which 0 stands, or a number of threads."""
    limit[0] = 0
    if n_threads is None:
        return True
    if type(n_threads) is not int or not 1 <= n_threads <= THREADS_OF_A_CALL:
        return False
    limit[0] = n_threads
    return True


cdef inline bint are_factors(object label_smoothing, object focal_gamma, double* smoothing, double* gamma) except -1:
    return (is_number(label_smoothing, smoothing) and 0 <= smoothing[0] <= 1 and is_number(focal_gamma, gamma)
            and 0 <= gamma[0] < INFINITY and not (smoothing[0] > 0 and gamma[0] > 0))


cdef inline bint is_positive(object value, double* number) except -1:
    return is_number(value, number) and 0 < number[0] < INFINITY


# ---- arrays --------------------------------------------------------------------------------------------------------------------

cdef inline bint is_list(object value) noexcept:
    return type(value) is list or type(value) is tuple


cdef bint put_numbers(object numbers, int kind, char* at, Py_ssize_t n) noexcept:
    """Whether a list or tuple holds n numbers of this type, int64 or float64, which then stand at `at`."""
    cdef Py_ssize_t i = 0
    cdef int overflow = 0
    for number in numbers:
        if i == n:
            return False
        if kind == cnp.NPY_FLOAT64 and type(number) is float:
            (<double*>at)[i] = <double>number
        elif kind == cnp.NPY_INT64 and type(number) is int:
            (<int64_t*>at)[i] = PyLong_AsLongLongAndOverflow(number, &overflow)
            if overflow:
                return False
        else:
            return False
        i += 1
    return i == n


cdef bint put_rows(object rows, int kind, char* at, Py_ssize_t n, Py_ssize_t length) noexcept:
    """Whether a list or tuple holds n others of so many numbers, which then stand at `at`."""
    cdef Py_ssize_t i = 0
    for row in rows:
        if i == n or not is_list(row) or not put_numbers(row, kind, at + 8 * i * length, length):
            return False
        i += 1
    return i == n


cdef object array_of_list(object items):
    """What NumPy makes of a list or tuple, where that is an array. Numbers alike, and lists of them, in a tenth of its time."""
    cdef cnp.npy_intp shape[2]
    cdef cnp.ndarray array
    cdef bint nested
    cdef int kind
    try:
        shape[0] = len(items)
        first = items[0] if shape[0] else None
        nested = is_list(first)
        if nested:
            shape[1] = len(first)
            first = first[0] if shape[1] else None
        if type(first) is int or type(first) is float:
            kind = cnp.NPY_INT64 if type(first) is int else cnp.NPY_FLOAT64
            array = cnp.PyArray_EMPTY(1 + nested, shape, kind, 0)
            if (put_rows(items, kind, <char*>cnp.PyArray_DATA(array), shape[0], shape[1]) if nested
                    else put_numbers(items, kind, <char*>cnp.PyArray_DATA(array), shape[0])):
                return array
        return cnp.PyArray_FROM_O(items)
    except Exception:
        return None


cdef inline object array_of(object value):
    """An array as it is, a list or tuple as an array; None for anything else."""
    if cnp.PyArray_CheckExact(value):
        return value
    return array_of_list(value) if is_list(value) else None


cdef inline bint has_shape(cnp.ndarray a, int ndim, const cnp.npy_intp* shape) noexcept:
    cdef int d
    if cnp.PyArray_NDIM(a) != ndim:
        return False
    for d in range(ndim):
        if cnp.PyArray_DIM(a, d) != shape[d]:
            return False
    return True


cdef inline object converted(cnp.ndarray a, int kind):
    """A plain array of this type, as `astype` makes it."""
    return cnp.PyArray_FROM_OTF(a, kind, cnp.NPY_ARRAY_IN_ARRAY | cnp.NPY_ARRAY_FORCECAST)


cdef object indices_of(cnp.ndarray a):
    """Integers as plain int64 or int32, if only as a copy. None: not each is an int64, or they are no integers."""
    cdef int kind = cnp.PyArray_TYPE(a)
    cdef cnp.ndarray indices
    cdef const int64_t* at
    cdef Py_ssize_t i
    if (kind == cnp.NPY_INT64 or kind == cnp.NPY_INT32) and is_plain(a):
        return a
    if not cnp.PyTypeNum_ISINTEGER(kind):
        return None
    indices = converted(a, cnp.NPY_INT64)
    if cnp.PyTypeNum_ISUNSIGNED(kind) and cnp.PyArray_ITEMSIZE(a) == 8:
        at = <const int64_t*>cnp.PyArray_DATA(indices)
        for i in range(cnp.PyArray_SIZE(indices)):
            if at[i] < 0:
                return None
    return indices


cdef object doubles_of(object array, int ndim, const cnp.npy_intp* shape):
    """Real numbers of this shape as plain float64, if only as a copy; None for anything else."""
    if array is None or not has_shape(<cnp.ndarray>array, ndim, shape):
        return None
    kind = cnp.PyArray_TYPE(<cnp.ndarray>array)
    if kind == cnp.NPY_FLOAT64 and is_plain(<cnp.ndarray>array):
        return array
    if storage_of_numbers(kind) < 0 and not cnp.PyTypeNum_ISINTEGER(kind):
        return None
    return converted(<cnp.ndarray>array, cnp.NPY_FLOAT64)


cdef inline int storage_of_numbers(int kind) noexcept:
    """How the kernels of binary losses read this type, or -1."""
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
    if kind == cnp.NPY_INT8:
        return STORED_INT8
    return STORED_FLOAT16 if kind == cnp.NPY_FLOAT16 else -1


cdef inline bint is_clear_of(cnp.ndarray out, object given) noexcept:
    """Whether `out`, contiguous, shares no byte with what was given: no array, or a contiguous one apart."""
    return (not cnp.PyArray_CheckExact(given)
            or (cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>given) and apart(out, <cnp.ndarray>given)))


cdef inline bint is_clear_of_all(cnp.ndarray out, tuple given) noexcept:
    for one in given:
        if not is_clear_of(out, one):
            return False
    return True


cdef bint are_finite(const double* weight, Py_ssize_t n, double least) noexcept:
    """Whether all are finite and at least `least`."""
    cdef Py_ssize_t i
    for i in range(n):
        if not (least <= weight[i] < INFINITY and weight[i] > -INFINITY):
            return False
    return True


# ---- losses of rows ------------------------------------------------------------------------------------------------------------

cdef object usual_loss_of_rows(int operation, object logits, object target, object axis, object ignore_index, tuple options):
    """`loss_of_rows` on contiguous logits along the last axis; None where anything is unusual."""
    cdef LossCall call
    cdef Call* c = &call.rows
    cdef cnp.ndarray x, y
    cdef int limit, ndim, wanted, overflow = 0
    cdef object row_loss = None, grad = None, hess = None
    cdef double smoothing, gamma, scale, square, cap = 0
    (weight, sample_weight, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss, reduction, normalizer, n_threads,
     wanted, grad_output, out, second) = options
    scores, labels = array_of(logits), array_of(target)
    class_weight, row_weight, upstream = array_of(weight), array_of(sample_weight), array_of(grad_output)
    vector = array_of(second) if wanted == HESSIAN_PRODUCT else None
    if not is_plain_scores(scores) or labels is None:
        return None
    x, y = <cnp.ndarray>scores, <cnp.ndarray>labels
    ndim = cnp.PyArray_NDIM(x) - 1  # of the rows
    if (ndim < 1 or cnp.PyArray_DIM(x, ndim) < 1 or not is_last_axis(axis, ndim + 1) or type(ignore_index) is not int
            or not is_limit(n_threads, &limit) or not are_factors(label_smoothing, focal_gamma, &smoothing, &gamma)):
        return None
    begin(&call, operation, cnp.PyArray_SIZE(x) // cnp.PyArray_DIM(x, ndim), cnp.PyArray_DIM(x, ndim))
    set_plain_layout(&c.x, x, c.classes)
    call.reduction = reduction_named(reduction)
    if call.reduction < 0 or not is_normalizer(normalizer, &call.normalizer):
        return None
    c.ignore_index = PyLong_AsLongLongAndOverflow(ignore_index, &overflow)
    if overflow:
        return None
    if has_shape(y, ndim, cnp.PyArray_DIMS(x)):
        indices = indices_of(y)
        if indices is None:
            return None
        c.target = <const char*>cnp.PyArray_DATA(<cnp.ndarray>indices)
        c.target_size = <int>cnp.PyArray_ITEMSIZE(<cnp.ndarray>indices)
    else:  # probabilities, beside which some options are an error and one class is a warning
        if (not is_plain_scores(y) or not same_shape(y, x) or c.ignore_index != IGNORED_BY_DEFAULT or gamma > 0
                or c.classes == 1 or (operation == BRIER and weight is not None)):
            return None
        c.options.probabilities = True
        set_plain_layout(&c.q, y, c.classes)
    if weight is not None:
        class_weight = doubles_of(class_weight, 1, cnp.PyArray_DIMS(x) + ndim)
        if class_weight is None or not are_finite(<const double*>cnp.PyArray_DATA(<cnp.ndarray>class_weight), c.classes, 0):
            return None
        c.options.class_weight = <const double*>cnp.PyArray_DATA(<cnp.ndarray>class_weight)
    if sample_weight is not None:
        row_weight = doubles_of(row_weight, ndim, cnp.PyArray_DIMS(x))
        if row_weight is None or not are_finite(<const double*>cnp.PyArray_DATA(<cnp.ndarray>row_weight), c.rows, -INFINITY):
            return None
        c.options.sample_weight = <const double*>cnp.PyArray_DATA(<cnp.ndarray>row_weight)
    if grad_output is not None and not is_number(grad_output, &call.upstream):
        upstream = doubles_of(upstream, ndim, cnp.PyArray_DIMS(x)) if call.reduction == NONE else None
        if upstream is None:
            return None
        c.options.upstream = <const double*>cnp.PyArray_DATA(<cnp.ndarray>upstream)
    set_smoothing(&c.options, smoothing, c.classes)
    c.options.focal_gamma = gamma
    if (not is_positive(logit_scale, &scale) or not is_number(z_loss, &square) or not 0 <= square < INFINITY
            or not (logit_softcap is None or is_positive(logit_softcap, &cap))):
        return None
    if scale != 1 or cap > 0 or square > 0:
        if wanted > GRADIENT:
            return None
        set_language_options(c, scale, cap, square)
    if wanted != LOSS_ALONE:
        grad = plain_result(x, out)
        if grad is None or (out is not None and not is_clear_of_all(
                <cnp.ndarray>grad, (target, weight, sample_weight, grad_output, second))):
            return None
        set_plain_layout(&c.g, <cnp.ndarray>grad, c.classes)
    if wanted == GRADIENT_AND_HESSIAN:
        hess = plain_result(x, second)
        if hess is None or (second is not None and not is_clear_of_all(
                <cnp.ndarray>hess, (target, weight, sample_weight, grad_output))):
            return None
        c.options.hessian = True
        set_plain_layout(&c.h, <cnp.ndarray>hess, c.classes)
    elif wanted == HESSIAN_PRODUCT:
        if not is_plain_scores(vector) or not same_shape(<cnp.ndarray>vector, x):
            return None
        set_plain_layout(&c.v, <cnp.ndarray>vector, c.classes)
    if call.reduction == NONE and wanted != HESSIAN_PRODUCT:
        row_loss = result_like(x, ndim)
        c.row_loss = <char*>cnp.PyArray_DATA(<cnp.ndarray>row_loss)
        c.row_loss_size = <int>cnp.PyArray_ITEMSIZE(x)
    result = loss_of(&call, row_loss, wanted, grad, hess, limit)
    return None if type(result) is int else result  # a target out of range


def short_loss_of_rows(general, int operation, logits, target, axis, ignore_index, tuple options):
    """What is wanted of a loss. `options`: those of `_row_arguments.row_arguments`, in its order."""
    result = usual_loss_of_rows(operation, logits, target, axis, ignore_index, options)
    return general(operation, logits, target, axis, ignore_index, options) if result is None else result


# ---- activations of rows -------------------------------------------------------------------------------------------------------

cdef object usual_activation_of_rows(int operation, object x, object upstream, bint is_vjp, object axis, object out):
    """`activation_of_rows` along the last axis of a contiguous array; None where anything is unusual."""
    cdef LossCall call
    cdef Call* c = &call.rows
    cdef cnp.ndarray a, row_result
    cdef int last
    scores, gradient = array_of(x), array_of(upstream)
    if not is_plain_scores(scores):
        return None
    a = <cnp.ndarray>scores
    last = cnp.PyArray_NDIM(a) - 1
    if (last < 0 or cnp.PyArray_SIZE(a) == 0 or not is_last_axis(axis, last + 1)
            or (last == 0 and operations[operation].has_losses)):
        return None
    begin(&call, operation, cnp.PyArray_SIZE(a) // cnp.PyArray_DIM(a, last), cnp.PyArray_DIM(a, last))
    set_plain_layout(&c.x, a, c.classes)
    if c.does.has_losses:
        result = row_result = result_like(a, last)
        c.row_loss = <char*>cnp.PyArray_DATA(row_result)
        c.row_loss_size = <int>cnp.PyArray_ITEMSIZE(a)
    else:
        result = plain_result(a, out)
        if result is None:
            return None
        set_plain_layout(&c.g, <cnp.ndarray>result, c.classes)
    if is_vjp:
        if (not is_plain_scores(gradient) or not same_shape(<cnp.ndarray>gradient, a)
                or not (gradient is out or apart(<cnp.ndarray>gradient, <cnp.ndarray>result))):
            return None
        c.options.probabilities = True
        set_plain_layout(&c.q, <cnp.ndarray>gradient, c.classes)
    run_unlocked(run_loss, &call, c.rows * c.classes, 0)
    return result


def short_activation_of_rows(general, int operation, x, axis, out):
    """A result for each score, in `out` where it is given; or for each row."""
    result = usual_activation_of_rows(operation, x, None, False, axis, out)
    return general(operation, x, axis, out) if result is None else result


def short_vjp_of_rows(general, int operation, x, grad_output, axis, out):
    """The gradient with respect to each score, in `out` where it is given."""
    result = usual_activation_of_rows(operation, x, grad_output, True, axis, out)
    return general(operation, x, grad_output, axis, out) if result is None else result


# ---- one score at a time -------------------------------------------------------------------------------------------------------

cdef object readable(cnp.ndarray a):
    """Real numbers as the kernels of binary losses can read them, if only as a copy; None for anything else."""
    cdef int kind = cnp.PyArray_TYPE(a)
    if cnp.PyArray_ISNOTSWAPPED(a) and storage_of_numbers(kind) >= 0:
        return a
    return converted(a, cnp.NPY_FLOAT64) if cnp.PyTypeNum_ISINTEGER(kind) else None


cdef bint set_number(Operand* operand, object value, double* number, cnp.ndarray like) except -1:
    """Describe a number for every score, which stands at `number` from then on. False: it is none."""
    if not is_number(value, number):
        return False
    operand.at = <char*>number
    operand.storage = STORED_FLOAT64
    operand.dims = 1
    operand.shape[0] = cnp.PyArray_SIZE(like)
    operand.stride[0] = 0
    return True


cdef object set_broadcast(Operand* operand, object array, cnp.ndarray like):
    """Describe an array that broadcasts to the shape of `like`; what has to outlive the call, or None: it is none."""
    cdef cnp.ndarray a
    cdef int d, lead
    array = None if array is None else readable(<cnp.ndarray>array)
    if array is None:
        return None
    a = <cnp.ndarray>array
    lead = cnp.PyArray_NDIM(like) - cnp.PyArray_NDIM(a)
    if lead < 0:
        return None
    begin_operand(operand, a, storage_of_numbers(cnp.PyArray_TYPE(a)))
    for d in range(cnp.PyArray_NDIM(like)):
        if d < lead or cnp.PyArray_DIM(a, d - lead) == 1:
            add_dimension(operand, cnp.PyArray_DIM(like, d), 0)
        elif cnp.PyArray_DIM(a, d - lead) == cnp.PyArray_DIM(like, d):
            add_dimension(operand, cnp.PyArray_DIM(like, d), cnp.PyArray_STRIDE(a, d - lead))
        else:
            return None
    return a


cdef object usual_loss_of_scores(int operation, object logits, object target, object weight, object pos_weight, tuple options):
    """`loss_of_scores` of contiguous logits; None where anything is unusual, a result without dimensions among it."""
    cdef ScoresCall s
    cdef int limit, reduce_by, wanted
    cdef cnp.ndarray z, y
    cdef object loss = None, grad = None, hess = None
    cdef double smoothing, gamma, divisor, one_weight, one_positive
    label_smoothing, focal_gamma, reduction, normalizer, n_threads, wanted, grad_output, out, second = options
    reduce_by = reduction_named(reduction)
    scores, labels = array_of(logits), array_of(target)
    weights, positive, upstream = array_of(weight), array_of(pos_weight), array_of(grad_output)
    vector = array_of(second) if wanted == HESSIAN_PRODUCT else None
    if (not is_plain_scores(scores) or labels is None or reduce_by < 0 or not is_normalizer(normalizer, &divisor)
            or not is_limit(n_threads, &limit) or not are_factors(label_smoothing, focal_gamma, &smoothing, &gamma)):
        return None
    z, y = <cnp.ndarray>scores, <cnp.ndarray>labels
    if cnp.PyArray_NDIM(z) == 0 or cnp.PyArray_SIZE(z) == 0 or not same_shape(y, z):
        return None
    begin_scores(&s, operation, cnp.PyArray_SIZE(z))
    set_plain_operand(&s.z, z, plain_storage(z))
    set_label_smoothing(&s, smoothing)
    s.focal_gamma = gamma
    # The kernel tests the values of all three.
    labels = set_broadcast(&s.y, labels, z)
    if labels is None:
        return None
    if weight is not None and not set_number(&s.weight, weight, &one_weight, z):
        weights = set_broadcast(&s.weight, weights, z)
        if weights is None:
            return None
    if pos_weight is not None and not set_number(&s.pos_weight, pos_weight, &one_positive, z):
        positive = set_broadcast(&s.pos_weight, positive, z)
        if positive is None:
            return None
    if grad_output is not None and not is_number(grad_output, &s.factor):
        upstream = doubles_of(upstream, cnp.PyArray_NDIM(z), cnp.PyArray_DIMS(z)) if reduce_by == NONE else None
        if upstream is None:
            return None
        set_plain_operand(&s.upstream, <cnp.ndarray>upstream, STORED_FLOAT64)
    if wanted != LOSS_ALONE:
        grad = plain_result(z, out)
        if grad is None or (out is not None and not is_clear_of_all(
                <cnp.ndarray>grad, (target, weight, pos_weight, grad_output, second))):
            return None
        set_plain_operand(&s.out if wanted != HESSIAN_PRODUCT else &s.hess, <cnp.ndarray>grad, plain_storage(z))
    if wanted == GRADIENT_AND_HESSIAN:
        hess = plain_result(z, second)
        if hess is None or (second is not None and not is_clear_of_all(
                <cnp.ndarray>hess, (target, weight, pos_weight, grad_output))):
            return None
        set_plain_operand(&s.hess, <cnp.ndarray>hess, plain_storage(z))
    elif wanted == HESSIAN_PRODUCT:
        if not is_plain_scores(vector) or not same_shape(<cnp.ndarray>vector, z):
            return None
        set_plain_operand(&s.upstream, <cnp.ndarray>vector, plain_storage(<cnp.ndarray>vector))
    if reduce_by == NONE and wanted != HESSIAN_PRODUCT:
        loss = result_like(z, cnp.PyArray_NDIM(z))
        s.loss = <char*>cnp.PyArray_DATA(<cnp.ndarray>loss)
    result = loss_of_scores_call(&s, reduce_by, divisor, loss, wanted, grad, hess, limit)
    return None if s.bad_value.load() else result


def short_loss_of_scores(general, int operation, logits, target, weight, pos_weight, tuple options):
    """What is wanted of a loss. `options`: those of `_score_arguments.score_arguments`, in its order."""
    result = usual_loss_of_scores(operation, logits, target, weight, pos_weight, options)
    return general(operation, logits, target, weight, pos_weight, options) if result is None else result


cdef object usual_activation_of_scores(int operation, object x, object out):
    """`activation_of_scores` of a contiguous array; None where anything is unusual, a result without dimensions among it."""
    cdef ScoresCall s
    scores = array_of(x)
    if not is_plain_scores(scores) or cnp.PyArray_NDIM(<cnp.ndarray>scores) == 0:
        return None
    result = plain_result(<cnp.ndarray>scores, out)
    if result is None:
        return None
    begin_scores(&s, operation, cnp.PyArray_SIZE(<cnp.ndarray>scores))
    set_plain_operand(&s.z, <cnp.ndarray>scores, plain_storage(<cnp.ndarray>scores))
    set_plain_operand(&s.out, <cnp.ndarray>result, plain_storage(<cnp.ndarray>scores))
    run_unlocked(run_scores_call, &s, s.count, 0)
    return result


def short_activation_of_scores(general, int operation, x, out):
    """A result for each score, in `out` where it is given."""
    result = usual_activation_of_scores(operation, x, out)
    return general(operation, x, out) if result is None else result
