# Operations on one score at a time: sigmoid, log_sigmoid, the binary losses. Included by _kernels.pyx, whose names it uses.
#
# Stretches of the flat, C-ordered index of the scores. The cuts depend on the shape alone, so that results depend neither on
# the number of threads nor on strides.

cdef enum:
    # Scores that go through the passes together; the buffers of a block stay in the first-level cache.
    BLOCK_SCORES = 1024
    MOST_DIMENSIONS = 64

# Defined in simd/contract.h.
cdef extern from "simd/contract.h":
    cpdef enum ScoreOperation:
        BINARY_CROSS_ENTROPY
        BINARY_BRIER
        BINARY_ZERO_ONE
        SIGMOID
        LOG_SIGMOID


cdef struct Operand:
    # An array seen along the flat, C-ordered index: dimensions that follow one another at one stride are merged.
    char* at
    int storage                     # -1: there is none
    int dims                        # at least 1
    Py_ssize_t shape[MOST_DIMENSIONS]
    Py_ssize_t stride[MOST_DIMENSIONS]


cdef struct ScoresCall:
    int operation                   # a ScoreOperation
    Py_ssize_t count
    Operand z, y, weight, pos_weight, upstream, out, hess
    double keep, keep_low, add, factor, focal_gamma
    char* loss                      # contiguous, in the arithmetic type, or NULL
    double* chunk_loss
    atomic[int] bad_value           # whether a label or weight was met that cannot be: see ScoreBlock


cdef Py_ssize_t stretch_at(const Operand* a, Py_ssize_t start, Py_ssize_t n, Matrix* matrix,
                           Py_ssize_t* run) noexcept nogil:
    """Up to n numbers from flat index `start` as a matrix of rows of `run` numbers; returns how many rows."""
    cdef Py_ssize_t length = a.shape[a.dims - 1]
    cdef Py_ssize_t row = start // length
    cdef Py_ssize_t at = start - row * length
    cdef Py_ssize_t offset = at * a.stride[a.dims - 1]
    cdef Py_ssize_t rows = 1, rest = row
    cdef int d = a.dims - 2
    run[0] = min(n, length - at)
    matrix.row_stride = 0
    if d >= 0:
        matrix.row_stride = a.stride[d]
        if at == 0 and run[0] == length:
            rows = max(<Py_ssize_t>1, min(n // length, a.shape[d] - row % a.shape[d]))
    while d >= 0:
        offset += rest % a.shape[d] * a.stride[d]
        rest //= a.shape[d]
        d -= 1
    matrix.at = a.at + offset
    matrix.class_stride = a.stride[a.dims - 1]
    matrix.storage = a.storage
    return rows


cdef inline real* direct_at(const Operand* a, Py_ssize_t start, real* kind) noexcept nogil:
    """Where the numbers from flat index `start` on lie one after another in the arithmetic type; else NULL."""
    cdef Py_ssize_t size = sizeof(real)
    if a.dims == 1 and is_native(a.storage, kind) and a.stride[0] == size and <size_t>a.at % size == 0:
        return <real*>a.at + start
    return NULL


cdef const real* fetch(const Operand* a, Py_ssize_t start, Py_ssize_t n, real* buffer) noexcept nogil:
    """n numbers from flat index `start` on: in place where possible, elsewhere in `buffer`. NULL: no operand."""
    cdef const BlockOps[real]* ops = ops_for(buffer)
    cdef Tile[real] tile
    cdef Matrix matrix
    cdef Py_ssize_t done = 0, i
    if a.storage < 0:
        return NULL
    tile.at = direct_at(a, start, buffer)
    if tile.at != NULL:
        return tile.at
    while done < n:
        tile.at = buffer + done
        tile.rows = stretch_at(a, start + done, n - done, &matrix, &tile.classes)
        tile.row_stride = tile.classes
        tile.class_stride = 1
        if matrix.class_stride == 0:
            tile.classes = 1            # one number for the whole run
        if a.storage >= STORED_INT8:
            ops.load_labels(&matrix, &tile)
        else:
            ops.load_tile(&matrix, &tile, False)
        if matrix.class_stride == 0:
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
    """n numbers of `buffer` to where they are from flat index `start` on."""
    cdef const BlockOps[real]* ops = ops_for(buffer)
    cdef Tile[real] tile
    cdef Matrix matrix
    cdef Py_ssize_t done = 0
    while done < n:
        tile.at = buffer + done
        tile.rows = stretch_at(a, start + done, n - done, &matrix, &tile.classes)
        tile.row_stride = tile.classes
        tile.class_stride = 1
        ops.store_tile(&tile, &matrix, False)
        done += tile.rows * tile.classes


cdef inline real* result_at(const Operand* a, Py_ssize_t start, real* buffer) noexcept nogil:
    """Where results from flat index `start` on are computed: in place where possible, elsewhere in `buffer`. NULL: none."""
    cdef real* at
    if a.storage < 0:
        return NULL
    at = direct_at(a, start, buffer)
    return at if at != NULL else buffer


cdef double run_block_of_scores(ScoresCall* s, Py_ssize_t start, Py_ssize_t n, char* scratch, real* kind) noexcept nogil:
    """All passes over one block of scores; the sum of the losses."""
    cdef const BlockOps[real]* ops = ops_for(kind)
    cdef double* wide = <double*>scratch
    cdef real* buffer = <real*>(wide + 3 * BLOCK_SCORES)
    cdef ScoreBlock[real] block
    cdef double loss = 0
    cdef const real* z = fetch(&s.z, start, n, buffer)
    cdef real* out = result_at(&s.out, start, buffer + 2 * BLOCK_SCORES)
    cdef real* hess = result_at(&s.hess, start, buffer + 3 * BLOCK_SCORES)
    block.operation = s.operation
    block.n = n
    block.z = z
    block.y = fetch(&s.y, start, n, buffer + BLOCK_SCORES)
    block.keep = s.keep
    block.keep_low = s.keep_low
    block.add = s.add
    block.factor = s.factor
    block.focal_gamma = s.focal_gamma
    block.weight = fetch(&s.weight, start, n, wide)
    block.pos_weight = fetch(&s.pos_weight, start, n, wide + BLOCK_SCORES)
    block.upstream = fetch(&s.upstream, start, n, wide + 2 * BLOCK_SCORES)
    block.loss = <real*>s.loss + start if s.loss != NULL else NULL
    block.result = out
    block.hess = hess
    block.bad_value = 0
    loss = ops.scores(&block)
    if block.bad_value:
        s.bad_value.store(1)
    if out == buffer + 2 * BLOCK_SCORES:
        put_back(&s.out, start, n, out)
    if hess == buffer + 3 * BLOCK_SCORES:
        put_back(&s.hess, start, n, hess)
    return loss


cdef void run_chunk_of_scores(ScoresCall* s, Py_ssize_t chunk, char* scratch, real* kind) noexcept nogil:
    cdef Py_ssize_t start = chunk * CHUNK_NUMBERS, end = min(s.count, start + CHUNK_NUMBERS), n
    cdef double loss = 0
    while start < end:
        n = min(<Py_ssize_t>BLOCK_SCORES, end - start)
        loss += run_block_of_scores(s, start, n, scratch, kind)
        start += n
    s.chunk_loss[chunk] = loss


cdef void scores_of_floats(void* s, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_chunk_of_scores[float](<ScoresCall*>s, chunk, <char*>scratch, NULL)


cdef void scores_of_doubles(void* s, Py_ssize_t chunk, void* scratch) noexcept nogil:
    run_chunk_of_scores[double](<ScoresCall*>s, chunk, <char*>scratch, NULL)


cdef bint run_scores(ScoresCall* s, int limit, double* loss) noexcept nogil:
    """Cut the scores into chunks and run them; the sum of the losses. False: no memory."""
    cdef Py_ssize_t chunks = (s.count + CHUNK_NUMBERS - 1) // CHUNK_NUMBERS
    cdef size_t scratch = (3 + 4) * BLOCK_SCORES * sizeof(double)
    cdef double one_chunk
    cdef bint ran
    s.chunk_loss = &one_chunk
    if chunks > 1:
        s.chunk_loss = <double*>malloc(<size_t>chunks * sizeof(double))
        if s.chunk_loss == NULL:
            return False
    ran = celoss_pool_run(scores_of_doubles if is_native(s.z.storage, <double*>NULL) else scores_of_floats, s, chunks,
                          threads_for(s.count, limit), scratch)
    if ran:
        loss[0] = sum_of_losses(s.chunk_loss, chunks)
    if chunks > 1:
        free(s.chunk_loss)
    return ran
