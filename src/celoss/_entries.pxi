# The entries of cross-entropy from Python, and the checks and layouts of arrays that all entries share. Included by
# _kernels.pyx.
#
# `plain_cross_entropy` is the short path of the usual call: it looks at the arguments itself (Python would take 20 times as
# long), and allocates. `cross_entropy` is the general path, on arguments that `_arguments` has checked. Both fill a Call and
# run it.

cdef inline bint is_plain(cnp.ndarray a) noexcept:
    return cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_ISBEHAVED_RO(a)


cdef int reduction_named(str name):
    """The Reduction of this name, or -1."""
    if name == "mean":
        return MEAN
    if name == "sum":
        return SUM
    return NONE if name == "none" else -1


def plain_cross_entropy(int operation, logits, target, axis, weight, sample_weight, ignore_index, label_smoothing, reduction,
                        normalizer, n_threads, bint want_grad, grad_output, out):
    """The path without detours: plain arrays, and of the options those of all rows. None where anything is unusual."""
    cdef cnp.ndarray x, y, g, w
    cdef Call c
    cdef int kind, target_kind, reduce_by
    cdef cnp.npy_intp* shape
    cdef object row_loss = None
    cdef double smoothing, divisor = 0
    if (sample_weight is not None or n_threads is not None or grad_output is not None or type(reduction) is not str
            or type(ignore_index) is not int or type(axis) is not int or axis != -1 or type(label_smoothing) is not float):
        return None
    smoothing = label_smoothing
    if not 0 <= smoothing <= 1:
        return None
    if normalizer is not None:
        if type(normalizer) is not float or not 0 < <double>normalizer < INFINITY:
            return None
        divisor = normalizer
    reduce_by = reduction_named(reduction)
    if reduce_by < 0 or not cnp.PyArray_CheckExact(logits) or not cnp.PyArray_CheckExact(target):
        return None
    x = <cnp.ndarray>logits
    y = <cnp.ndarray>target
    kind = cnp.PyArray_TYPE(x)
    target_kind = cnp.PyArray_TYPE(y)
    if (cnp.PyArray_NDIM(x) != 2 or cnp.PyArray_NDIM(y) != 1 or (kind != cnp.NPY_FLOAT32 and kind != cnp.NPY_FLOAT64)
            or not is_plain(x) or not is_plain(y)):
        return None
    if target_kind == cnp.NPY_INT64:
        c.target_size = 8
    elif target_kind == cnp.NPY_INT32:
        c.target_size = 4
    else:
        return None
    shape = cnp.PyArray_DIMS(x)
    c.rows = shape[0]
    c.classes = shape[1]
    c.operation = operation
    if c.classes < 1 or cnp.PyArray_DIM(y, 0) != c.rows:
        return None
    c.options.class_weight = NULL
    if weight is not None:
        if not cnp.PyArray_CheckExact(weight):
            return None
        w = <cnp.ndarray>weight
        if (cnp.PyArray_TYPE(w) != cnp.NPY_FLOAT64 or cnp.PyArray_NDIM(w) != 1 or cnp.PyArray_DIM(w, 0) != c.classes
                or not is_plain(w) or not are_weights(<const double*>cnp.PyArray_DATA(w), c.classes)):
            return None
        c.options.class_weight = <const double*>cnp.PyArray_DATA(w)
    grad = None
    c.g.at = NULL
    if want_grad:
        if out is None:
            grad = cnp.PyArray_EMPTY(2, shape, kind, 0)
        else:
            if not cnp.PyArray_CheckExact(out):
                return None
            grad = out
            g = <cnp.ndarray>out
            # Another buffer than the logits' might overlap it: the general path looks.
            if (cnp.PyArray_TYPE(g) != kind or cnp.PyArray_NDIM(g) != 2 or not cnp.PyArray_IS_C_CONTIGUOUS(g)
                    or not cnp.PyArray_ISBEHAVED(g) or cnp.PyArray_DIM(g, 0) != c.rows
                    or cnp.PyArray_DIM(g, 1) != c.classes or not same_or_apart(x, g) or not apart(y, g)
                    or (weight is not None and not apart(w, g))):
                return None
        c.g.at = <char*>cnp.PyArray_DATA(<cnp.ndarray>grad)
    c.x.at = <char*>cnp.PyArray_DATA(x)
    c.x.storage = STORED_FLOAT32 if kind == cnp.NPY_FLOAT32 else STORED_FLOAT64
    c.x.class_stride = 4 if kind == cnp.NPY_FLOAT32 else 8
    c.x.inner_stride = c.classes * c.x.class_stride
    c.x.outer_stride = 0
    c.x.outer_offsets = NULL
    c.x.unaligned = False
    c.g.storage = c.x.storage
    c.g.class_stride = c.x.class_stride
    c.g.inner_stride = c.x.inner_stride
    c.g.outer_stride = 0
    c.g.outer_offsets = NULL
    c.g.unaligned = False
    c.q.at = NULL
    c.inner_rows = max(c.rows, <Py_ssize_t>1)
    c.soft = False
    c.target = <const char*>cnp.PyArray_DATA(y)
    try:
        c.ignore_index = ignore_index
    except OverflowError:
        return None
    c.options.sample_weight = NULL
    c.options.upstream = NULL
    set_smoothing(&c, smoothing)
    c.row_loss = NULL
    if reduce_by == NONE:
        row_loss = cnp.PyArray_EMPTY(1, shape, kind, 0)
        c.row_loss = <char*>cnp.PyArray_DATA(<cnp.ndarray>row_loss)
        c.row_loss_size = 4 if kind == cnp.NPY_FLOAT32 else 8
    return run(&c, reduce_by, divisor, 1.0, row_loss, grad, thread_limit.load())


cdef bint are_weights(const double* weight, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i
    for i in range(n):
        if not 0 <= weight[i] < INFINITY:
            return False
    return True


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two contiguous arrays share no byte."""
    cdef char* a_at = <char*>cnp.PyArray_DATA(a)
    cdef char* b_at = <char*>cnp.PyArray_DATA(b)
    return a_at + cnp.PyArray_NBYTES(a) <= b_at or b_at + cnp.PyArray_NBYTES(b) <= a_at


cdef inline bint same_or_apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    return cnp.PyArray_DATA(a) == cnp.PyArray_DATA(b) or apart(a, b)


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


def cross_entropy(cnp.ndarray logits, int storage, int axis, cnp.ndarray target, cnp.ndarray probabilities, int q_storage,
                  weight, cnp.ndarray sample_weight, ignore_index, double smoothing, int reduction, double normalizer,
                  upstream, bint want_grad, cnp.ndarray out, cnp.ndarray row_loss, int limit, int operation):
    """The general path, on arguments that `_arguments.cross_entropy_arguments` has brought into this form."""
    cdef Call c
    arrays = [a for a in (logits, out, probabilities) if a is not None]
    cdef int inner_dims = inner_dimensions(arrays, axis)
    cdef double scalar_upstream = 1
    cdef cnp.ndarray weight64 = None, row_upstream = None
    keep = [set_layout(&c.x, logits, storage, axis, inner_dims)]
    c.classes = logits.shape[axis]
    c.operation = operation
    c.rows = 1
    for d in range(logits.ndim):
        if d != axis:
            c.rows *= logits.shape[d]
    c.classes = max(c.classes, <Py_ssize_t>1)  # none only where there are no rows
    c.inner_rows = 1
    for d in [d for d in range(logits.ndim) if d != axis][logits.ndim - 1 - inner_dims:]:
        c.inner_rows *= logits.shape[d]
    c.inner_rows = max(c.inner_rows, <Py_ssize_t>1)
    c.g.at = NULL
    if want_grad:
        keep.append(set_layout(&c.g, out, storage, axis, inner_dims))
    c.soft = probabilities is not None
    c.q.at = NULL
    c.target = NULL
    c.target_size = 8
    c.ignore_index = 0
    if c.soft:
        keep.append(set_layout(&c.q, probabilities, q_storage, axis, inner_dims))
    else:
        c.target = <const char*>cnp.PyArray_DATA(target)
        c.target_size = <int>target.itemsize
        c.ignore_index = ignore_index
    c.options.class_weight = NULL
    if weight is not None:
        weight64 = np.ascontiguousarray(weight, np.float64)
        c.options.class_weight = <const double*>cnp.PyArray_DATA(weight64)
    c.options.sample_weight = NULL
    if sample_weight is not None:
        c.options.sample_weight = <const double*>cnp.PyArray_DATA(sample_weight)
    c.options.upstream = NULL
    if isinstance(upstream, float):
        scalar_upstream = upstream
    elif upstream is not None:
        row_upstream = upstream
        c.options.upstream = <const double*>cnp.PyArray_DATA(row_upstream)
    set_smoothing(&c, smoothing)
    c.row_loss = NULL
    if reduction == NONE:
        c.row_loss = <char*>cnp.PyArray_DATA(row_loss)
        c.row_loss_size = <int>row_loss.itemsize
    return run(&c, reduction, normalizer, scalar_upstream, row_loss, out, limit if limit > 0 else thread_limit.load())
