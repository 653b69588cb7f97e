# Long rows: cut into pieces, so that threads share a row. Included by _kernels.pyx, whose names it uses.
#
# The passes are those of `operations`, over rows x pieces instead of blocks of rows, in two trips through memory: maximum and
# sums, each piece in the scale of its own maximum; then the result, if one is wanted. Between them the pieces of a row are put
# together in their order (simd/pieces.hpp).

cdef enum:
    # Longer rows are cut into pieces of PIECE_CLASSES; so are long rows that come few at a time.
    LONG_ROW_BYTES = 1048576
    FEW_ROWS = 16
    LONG_AMONG_FEW = 65536
    PIECE_CLASSES = 32768

cdef struct LongRows:
    Call* call
    Py_ssize_t pieces               # of each row
    Piece* piece                    # rows x pieces
    Ratio* ratio                    # of each piece's exponentials to the row's
    Piece* row                      # put together
    int64_t* target                 # as read at first (the array may change under the call); -1 where the row is ignored
    double* x_target
    double* v_target
    double* at_target
    double* hess_left_out
    double* hess_target
    double* slope_target
    int64_t* argmax
    bint target_apart               # what the result is at the target stands in at_target
    int threads
    bint result                     # which trip is made: the second
    bint stored                     # exponentials wait where the result goes; if not, they are computed again


cdef inline Matrix piece_at(const Layout& a, const Call* c, Py_ssize_t n, Py_ssize_t first_class) noexcept nogil:
    return matrix_at(a, n // c.inner_rows, n % c.inner_rows, first_class)


cdef real number_at(const Layout& a, const Call* c, Py_ssize_t n, Py_ssize_t of_class, real* number) noexcept nogil:
    cdef Tile[real] one = tile_at(number, 1, 1, False)
    cdef Matrix matrix = piece_at(a, c, n, of_class)
    ops_for(number).load_tile(&matrix, &one, False)
    return number[0]


cdef real logit_at(const Call* c, Py_ssize_t n, Py_ssize_t of_class, real* slope) noexcept nogil:
    """A logit as the options have it, and the slope of a cap there (without one 1)."""
    cdef real number
    cdef Tile[real] one = tile_at(&number, 1, 1, False), beside = tile_at(slope, 1, 1, False)
    number_at(c.x, c, n, of_class, &number)
    slope[0] = 1
    soften(c, &one, &one, &beside, <Rows[real]*>NULL)
    return number


cdef void put_number_at(const Layout& a, const Call* c, Py_ssize_t n, Py_ssize_t of_class, real number) noexcept nogil:
    cdef Tile[real] one = tile_at(&number, 1, 1, False)
    cdef Matrix matrix = piece_at(a, c, n, of_class)
    ops_for(&number).store_tile(&one, &matrix, False)


cdef void run_piece(const LongRows* job, Py_ssize_t block, Rows[real]* r) noexcept nogil:
    cdef Call* c = job.call
    cdef const BlockOps[real]* ops = ops_of(r)
    cdef Py_ssize_t n = block // job.pieces, first = block % job.pieces * PIECE_CLASSES
    cdef Py_ssize_t classes = min(c.classes - first, <Py_ssize_t>PIECE_CLASSES)
    cdef Piece* piece = job.piece + block
    cdef real* memory = <real*>(r + 1)
    cdef Workplace[real] at
    cdef Tile[real] scratch
    cdef Matrix matrix
    cdef bint nothing
    if job.target[n] < 0:
        if job.result:
            matrix = piece_at(c.g, c, n, first)
            clear_rows(matrix, 1, classes)
        if job.result and c.h.at != NULL:
            matrix = piece_at(c.h, c, n, first)
            clear_rows(matrix, 1, classes)
        return

    at.first_class = first
    at.whole_rows = at.has_maxima = False
    at.ratio = 1
    # What comes next, unless it is another thread's.
    at.ahead = ahead_in_row(c.x, c.v, c.g, c.h, n // c.inner_rows, n % c.inner_rows, first + classes,
                            min(c.classes - first - classes, <Py_ssize_t>PIECE_CLASSES) if job.threads == 1 else 0)
    at.x = tile_at(memory, 1, classes, False)
    at.g = at.x
    at.q = tile_at(memory + classes, 1, classes, False)
    at.slope = tile_at(memory + 3 * classes, 1, classes, False)
    if c.softcap == 0 or not job.result:
        at.slope.at = NULL
    scratch = at.x
    if is_direct(c.x, memory):
        work_in_place(c.x, n // c.inner_rows, n % c.inner_rows, first, &at.x)
    elif not (job.stored and job.result):
        matrix = piece_at(c.x, c, n, first)
        ops.load_tile(&matrix, &at.x, False)
    soften(c, &at.x, &scratch, &at.slope, <Rows[real]*>NULL)
    if is_direct(c.g, memory):
        work_in_place(c.g, n // c.inner_rows, n % c.inner_rows, first, &at.g)
    at.e = at.g
    if not job.result and not job.stored:
        at.g.at = at.e.at = NULL
        if c.v.at != NULL:
            at.e = tile_at(memory, 1, classes, False)
    at.stream = False
    if c.options.probabilities and is_direct(c.q, memory):
        work_in_place(c.q, n // c.inner_rows, n % c.inner_rows, first, &at.q)
    elif c.options.probabilities:
        matrix = piece_at(c.q, c, n, first)
        ops.load_tile(&matrix, &at.q, False)
    at.v = at.h = tile_at(memory + 2 * classes, 1, classes, False)
    if c.v.at == NULL:
        at.v.at = NULL
    elif is_direct(c.v, memory):
        work_in_place(c.v, n // c.inner_rows, n % c.inner_rows, first, &at.v)
    else:
        matrix = piece_at(c.v, c, n, first)
        ops.load_tile(&matrix, &at.v, False)
    if c.h.at == NULL:
        at.h.at = NULL
    elif is_direct(c.h, memory):
        work_in_place(c.h, n // c.inner_rows, n % c.inner_rows, first, &at.h)

    r.targets = NULL
    r.target[0] = job.target[n] - first if c.target != NULL and 0 <= job.target[n] - first < classes else -1
    if not job.result:
        r.maximum[0] = 0
        r.shift[0] = r.steps[0] = 0
        r.argmax[0] = -1
        r.loss[0] = -INFINITY
        run_passes(c, n, &at, r, MAXIMUM)
        nothing = r.maximum[0] == -INFINITY
        if nothing:
            r.maximum[0] = 0            # then all exponentials are 0, and not NaN
        run_passes(c, n, &at, r, SOFT_SUMS | EXP_SUM)
        take_piece(r, piece)
        if nothing:
            piece.maximum = -INFINITY
        return
    if c.does.keeps_exponentials:
        if not job.stored:
            put_piece(piece, r)
            if piece.maximum == -INFINITY:
                r.maximum[0] = 0
            run_passes(c, n, &at, r, EXP_SUM)
        if job.ratio[block].power != 0:
            ops.times_power(&at.g, job.ratio[block].power)
    put_piece(job.row + n, r)
    if c.does.keeps_exponentials:
        scale_coefficient(job.ratio[block], r)
        at.ratio = job.ratio[block].ratio.high
    run_passes(c, n, &at, r, RESULT)
    if at.g.at == memory:
        matrix = piece_at(c.g, c, n, first)
        ops.store_tile(&at.g, &matrix, False)
    if at.h.at == memory + 2 * classes:
        matrix = piece_at(c.h, c, n, first)
        ops.store_tile(&at.h, &matrix, False)


cdef void piece_of_floats(void* job, Py_ssize_t block, void* scratch) noexcept nogil:
    run_piece(<const LongRows*>job, block, <Rows[float]*>scratch)


cdef void piece_of_doubles(void* job, Py_ssize_t block, void* scratch) noexcept nogil:
    run_piece(<const LongRows*>job, block, <Rows[double]*>scratch)


cdef void find_ratios(const LongRows* job, Py_ssize_t n, double row_shift, double row_steps) noexcept nogil:
    """Of the exponentials of each piece of a row to those of the row."""
    cdef double shift[64]
    cdef double steps[64]
    cdef double high[64]
    cdef double low[64]
    cdef const Piece* piece = job.piece + n * job.pieces
    cdef Ratio* ratio = job.ratio + n * job.pieces
    cdef Py_ssize_t p = 0, i, count
    while p < job.pieces:
        count = min(job.pieces - p, <Py_ssize_t>64)
        for i in range(count):
            shift[i] = piece[p + i].shift
            steps[i] = piece[p + i].steps
        table.ratios_of_pieces(count, shift, steps, row_shift, row_steps, high, low)
        for i in range(count):
            if piece[p + i].maximum == -INFINITY:  # all are 0, in a scale that has nothing to do with the row's
                high[i] = low[i] = 0
            ratio[p + i] = ratio_of(high[i], low[i])
        p += count


cdef double end_row(LongRows* job, Py_ssize_t n, Rows[real]* r) noexcept nogil:
    """Put the pieces of a row together and finish it: its loss, and what its result is made of."""
    cdef Call* c = job.call
    cdef const Piece* piece = job.piece + n * job.pieces
    cdef Workplace[real] at
    cdef Py_ssize_t first
    at.first_class = 0
    at.whole_rows = at.has_maxima = False
    at.x.rows = 1
    at.v.at = <real*>c.v.at         # of which only matters whether there is one
    r.loss[0] = 0
    if job.target[n] >= 0:
        first = put_maximum(piece, job.pieces, r)
        find_ratios(job, n, r.shift[0], r.steps[0])
        r.targets = r.target if c.target != NULL else NULL
        r.target[0] = job.target[n]
        r.x_target[0] = r.x_left_out[0] = <real>job.x_target[n] if c.target != NULL else -INFINITY
        r.v_target[0] = job.v_target[n]
        merge_sums(piece, job.ratio + n * job.pieces, job.pieces, first, r)
        ops_of(r).exp_left_out(1, r)
        run_passes(c, n, &at, r, LOSS)
        take_piece(r, job.row + n)
        job.at_target[n] = r.at_target[0]
        job.target_apart = c.target != NULL and (c.v.at == NULL or r.left_out == r.targets)
        job.hess_left_out[n] = r.hess_left_out[0]
        job.hess_target[n] = r.hess_target[0]
        job.argmax[n] = first * PIECE_CLASSES + max(piece[first].argmax, <int64_t>0)
    if c.row_loss != NULL:
        put_losses(r.loss, 1, c.row_loss, c.row_loss_size, n)
    return r.loss[0]


cdef bint make_trip(LongRows* job, bint result, Rows[real]* r) noexcept nogil:
    """One trip over all pieces. False: no memory."""
    cdef PoolWork work
    if real is float:
        work = piece_of_floats
    else:
        work = piece_of_doubles
    job.result = result
    return celoss_pool_run(work, job, job.call.rows * job.pieces, job.threads,
                           sizeof(Rows[real]) + <size_t>(4 * PIECE_CLASSES) * sizeof(real))


cdef bint run_rows_in_pieces(LongRows* job, double* loss, Rows[real]* r) noexcept nogil:
    cdef Call* c = job.call
    cdef Py_ssize_t n
    cdef real kind, slope
    cdef bint has_targets = c.target != NULL
    # (A cap's slope is found in the second trip, from logits whose place is not taken yet.)
    job.stored = c.does.keeps_exponentials and is_direct(c.g, &kind) and not c.softens
    for n in range(c.rows if has_targets else 0):  # before a result may take the place of the logits
        if job.target[n] >= 0:
            job.x_target[n] = logit_at(c, n, job.target[n], &slope)
            job.slope_target[n] = slope
            if c.v.at != NULL:
                job.v_target[n] = number_at(c.v, c, n, job.target[n], &kind)

    if not make_trip(job, False, r):
        return False
    for n in range(c.rows):
        loss[0] += end_row(job, n, r)
    if c.g.at == NULL:
        return True
    if not make_trip(job, True, r):
        return False
    for n in range(c.rows):
        if job.target[n] < 0:
            continue
        if job.target_apart:
            put_number_at(c.g, c, n, job.target[n], <real>job.at_target[n] * <real>job.slope_target[n])
        if c.h.at != NULL:
            put_number_at(c.h, c, n, job.argmax[n], <real>job.hess_left_out[n])
        if c.h.at != NULL and c.options.focal_gamma > 0:
            put_number_at(c.h, c, n, job.target[n], <real>job.hess_target[n])
    return True


cdef bint run_long_rows(Call* c, int limit, double* loss) noexcept nogil:
    """As `run_blocks`, for rows that are cut into pieces."""
    cdef LongRows job
    cdef void* workspace
    cdef double* numbers
    cdef Py_ssize_t n
    cdef int seen = 0
    cdef bint enough
    job.call = c
    job.target_apart = False
    job.threads = threads_for(c.rows * c.classes, limit)
    job.pieces = (c.classes + PIECE_CLASSES - 1) // PIECE_CLASSES
    job.piece = <Piece*>calloc(<size_t>(c.rows * job.pieces), sizeof(Piece))
    job.ratio = <Ratio*>calloc(<size_t>(c.rows * job.pieces), sizeof(Ratio))
    job.row = <Piece*>calloc(<size_t>c.rows, sizeof(Piece))
    job.target = <int64_t*>calloc(<size_t>c.rows, sizeof(int64_t))
    job.argmax = <int64_t*>calloc(<size_t>c.rows, sizeof(int64_t))
    numbers = <double*>calloc(<size_t>c.rows * 6, sizeof(double))
    job.x_target = numbers
    job.v_target = numbers + c.rows
    job.at_target = numbers + 2 * c.rows
    job.hess_left_out = numbers + 3 * c.rows
    job.hess_target = numbers + 4 * c.rows
    job.slope_target = numbers + 5 * c.rows
    workspace = malloc(sizeof(Rows[double]))
    loss[0] = 0
    enough = (job.piece != NULL and job.ratio != NULL and job.row != NULL and job.target != NULL and job.argmax != NULL
              and numbers != NULL and workspace != NULL)
    if enough and c.target != NULL:
        seen = read_targets(c, 0, c.rows, job.target)
        if seen & SEEN_OUT_OF_RANGE:
            c.bad_row.store(0)
    if enough:
        for n in range(c.rows):
            if is_left_out(c, n):
                job.target[n] = -1
    if enough and not seen & SEEN_OUT_OF_RANGE:
        if is_native(c.x.storage, <double*>NULL):
            enough = run_rows_in_pieces(&job, loss, <Rows[double]*>workspace)
        else:
            enough = run_rows_in_pieces(&job, loss, <Rows[float]*>workspace)
    free(job.piece)
    free(job.ratio)
    free(job.row)
    free(job.target)
    free(job.argmax)
    free(numbers)
    free(workspace)
    return enough


cdef inline bint are_long_rows(const Call* c) noexcept nogil:
    """Whether rows are cut into pieces. This depends on the shape alone, as every cut does."""
    cdef Py_ssize_t size = 8 if is_native(c.x.storage, <double*>NULL) else 4
    return c.does.in_pieces and (c.classes * size > LONG_ROW_BYTES or (c.rows < FEW_ROWS and c.classes >= LONG_AMONG_FEW))
