# Arrays for results: the one place where they are made. Included by _kernels.pyx.
#
# A large one lies in a block that is kept when the array is freed (src/memory). NumPy gets it from a handler of data memory
# (NEP 49) that is set while the array is made; the array remembers it, so that its memory goes back to where it is from.

cdef enum:
    # From so many bytes on: where the C library may take each result from the operating system anew.
    LARGE_RESULT = 1 << 17


# NumPy's declarations for Cython have this from 2.2 on.
cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void* ctx
        void* (*malloc)(void*, size_t) noexcept
        void* (*calloc)(void*, size_t, size_t) noexcept
        void* (*realloc)(void*, void*, size_t) noexcept
        void (*free)(void*, void*, size_t) noexcept
    ctypedef struct PyDataMem_Handler:
        char[127] name
        uint8_t version
        PyDataMemAllocator allocator
    object PyDataMem_GetHandler()
    object PyDataMem_SetHandler(object)
    void* PyDataMem_DefaultHandler


cdef PyDataMem_Handler memory_of_results
strcpy(memory_of_results.name, "celoss_kept_results")
memory_of_results.version = 1
memory_of_results.allocator.ctx = NULL
memory_of_results.allocator.malloc = celoss_kept_malloc
memory_of_results.allocator.calloc = celoss_kept_calloc
memory_of_results.allocator.realloc = celoss_kept_realloc
memory_of_results.allocator.free = celoss_kept_free
cdef object handler_of_results = PyCapsule_New(&memory_of_results, "mem_handler", NULL)


def keep_results(size_t most_bytes, bint huge_pages=True):
    """Keep at most so many bytes of freed results for the next ones; 0: none."""
    celoss_keep_blocks(most_bytes, huge_pages)


def most_kept_bytes():
    """At most so many bytes of freed results are kept."""
    return celoss_most_kept_bytes()


def kept_bytes():
    """Bytes of freed results that are kept now."""
    return celoss_kept_bytes()


cdef bint is_kept_memory_for(Py_ssize_t nbytes):
    """Whether an array of this size is to lie in a kept block: a handler that the user has set is left alone."""
    if nbytes < LARGE_RESULT or <size_t>nbytes > celoss_most_kept_bytes():
        return False
    handler = PyDataMem_GetHandler()
    return <void*>handler == PyDataMem_DefaultHandler


cdef object result_like(cnp.ndarray x, int dims):
    """An array for a result, of the dtype of x and its first `dims` dimensions."""
    cdef Py_ssize_t nbytes = cnp.PyArray_ITEMSIZE(x)
    cdef int d
    for d in range(dims):
        nbytes *= cnp.PyArray_DIM(x, d)
    if nbytes < LARGE_RESULT or not is_kept_memory_for(nbytes):
        return cnp.PyArray_EMPTY(dims, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    before = PyDataMem_SetHandler(handler_of_results)
    try:
        return cnp.PyArray_EMPTY(dims, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    finally:
        PyDataMem_SetHandler(before)


def empty_result(tuple shape, dtype):
    """An array for a result: numpy.empty, in a kept block where it is large."""
    cdef double size = 1  # a float: broadcast shapes may have more elements than any array
    for n in shape:
        size *= n
    if size < LARGE_RESULT // 8:  # the look at a dtype takes as long as the array
        return np.empty(shape, dtype)
    size *= np.dtype(dtype).itemsize
    if size > 2.0**62 or not is_kept_memory_for(<Py_ssize_t>size):
        return np.empty(shape, dtype)
    before = PyDataMem_SetHandler(handler_of_results)
    try:
        return np.empty(shape, dtype)
    finally:
        PyDataMem_SetHandler(before)
