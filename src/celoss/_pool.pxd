# The thread pool, as its header says it.
cdef extern from "threads/pool.h" nogil:
    ctypedef void (*PoolWork)(void*, Py_ssize_t, void*) noexcept
    bint celoss_pool_run(PoolWork, void*, Py_ssize_t, int, size_t)
    int celoss_pool_helpers()
