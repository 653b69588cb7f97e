# Long rows: cut into pieces, so that threads share a row. Included by _kernels.pyx.
#
# Three phases over rows x pieces, each a call of the pool: the maximum, the sum of the exponentials, the gradient. Between
# them the pieces of a row are merged in their order. Softmax and its relatives (other operations) take the same way: their
# results are written where the gradient is.

cdef enum Phase:
    MAXIMUM = 0
    EXP_SUM = 1
    GRADIENT = 2

cdef struct Piece:
    # What one piece adds to its row; of a row's first piece, the merged row.
    double maximum, rest, rest_low, mass, mass_low, gap, gap_low, inverse, inverse_low, log_sum
    double coefficient, coefficient_low, subtracted, subtracted_low
    double infinite                 # for logsumexp, see `infinite_sum`
    Py_ssize_t where                # of the maximum in the piece; -1 where the row's comes first in another

cdef struct LongRows:
    Call* call
    Phase phase
    Py_ssize_t pieces               # of each row
    Piece* piece                    # rows x pieces


cdef inline Matrix piece_at(const Layout* a, const Call* c, Py_ssize_t n, Py_ssize_t first_class) noexcept nogil:
    cdef Matrix m = matrix_at(a, n // c.inner_rows, n % c.inner_rows)
    m.at += first_class * a.class_stride
    return m


cdef void run_piece(const LongRows* job, Py_ssize_t block, char* scratch, real* kind) noexcept nogil:
    cdef const Call* c = job.call
    cdef const BlockOps[real]* ops = ops_of(kind)
    cdef Py_ssize_t n = block // job.pieces
    cdef Py_ssize_t first = block % job.pieces * PIECE_CLASSES
    cdef Piece* piece = job.piece + block
    cdef Piece* row = job.piece + n * job.pieces
    cdef Rows* r = <Rows*>scratch
    cdef real* m = <real*>r.maximum
    cdef Tile[real] x, e, q
    cdef Blend[real] blend
    cdef Matrix where
    cdef bint want_grad = c.g.at != NULL
    cdef bint blended = c.options.blended
    cdef bint direct_x = is_direct(&c.x, kind)
    cdef bint direct_g = want_grad and is_direct(&c.g, kind)
    # Exponentials wait in the gradient's place where they can be stored there; elsewhere they are computed again.
    cdef bint stored = direct_g and c.operation != LOG_SOFTMAX
    if not c.soft and target_of_row(c, n) < 0:
        if job.phase == GRADIENT:
            where = piece_at(&c.g, c, n, first)
            zero_classes(where.at, c.g.class_stride, min(c.classes - first, <Py_ssize_t>PIECE_CLASSES), c.g.storage)
        return

    x.rows = 1
    x.classes = min(c.classes - first, <Py_ssize_t>PIECE_CLASSES)
    x.row_stride = x.classes
    x.class_stride = 1
    x.at = <real*>(scratch + sizeof(Rows))
    e = x
    q = x
    q.at = x.at + x.classes
    if direct_g:
        where = piece_at(&c.g, c, n, first)
        e.at = <real*>where.at
    if not (job.phase == GRADIENT and stored):
        where = piece_at(&c.x, c, n, first)
        if direct_x:
            x.at = <real*>where.at
        else:
            ops.load_tile(&where, &x)
    if blended and job.phase != MAXIMUM:
        if c.soft:
            where = piece_at(&c.q, c, n, first)
            ops.load_tile(&where, &q)
        set_blend(c, &blend, &q if c.soft else NULL)
        if blend.w != NULL:
            blend.w += first

    if job.phase == MAXIMUM:
        ops.maximum(&x, m, &piece.where, NULL)
        piece.maximum = m[0]
        return
    m[0] = <real>row.maximum
    if job.phase == EXP_SUM:
        if blended:
            ops.blend_sums(&x, &blend, m, &r.blend)
            piece.mass = r.blend.mass[0]
            piece.gap = r.blend.gap[0]
            if real is double:
                piece.mass_low = r.blend.mass_low[0]
                piece.gap_low = r.blend.gap_low[0]
        if not stored:
            e.at = NULL
        ops.exp_sum(&x, &e, m, &piece.where, NULL, NULL, NULL, 0, &e, &r.sums)
        piece.rest = r.sums.rest[0]
        if real is double:
            piece.rest_low = r.sums.rest_low[0]  # stays 0 for float32, which has none
        if c.operation == LOGSUMEXP and m[0] - m[0] != 0:
            piece.infinite = infinite_sum(x.at, 1, x.classes)
        return
    if c.operation == LOG_SOFTMAX:
        r.sums.log_sum[0] = row.log_sum
        ops.log_probability(&x, &e, m, &r.sums)
        if not direct_g:
            where = piece_at(&c.g, c, n, first)
            ops.store_tile(&e, &where)
        return
    if not stored:
        ops.exp_sum(&x, &e, m, &piece.where, NULL, NULL, NULL, 0, &e, &r.sums)
    r.sums.inverse[0] = row.inverse
    r.sums.inverse_low[0] = row.inverse_low
    r.results.coefficient[0] = row.coefficient
    r.results.coefficient_low[0] = row.coefficient_low
    r.results.subtracted[0] = row.subtracted
    r.results.subtracted_low[0] = row.subtracted_low
    if blended:
        ops.scale_blended(&e, &e, &r.results, &r.sums, &blend)
    else:
        ops.scale(&e, &e, r.results.coefficient, r.results.coefficient_low, &r.sums, NULL, NULL, NULL)
    if not stored:
        where = piece_at(&c.g, c, n, first)
        ops.store_tile(&e, &where)


cdef void piece_of_floats(void* job, Py_ssize_t block, void* scratch) noexcept nogil:
    run_piece[float](<const LongRows*>job, block, <char*>scratch, NULL)


cdef void piece_of_doubles(void* job, Py_ssize_t block, void* scratch) noexcept nogil:
    run_piece[double](<const LongRows*>job, block, <char*>scratch, NULL)


cdef void begin_long_row(LongRows* job, Py_ssize_t n) noexcept nogil:
    """After MAXIMUM: the row's maximum, and the piece whose sum leaves it out."""
    cdef Piece* row = job.piece + n * job.pieces
    cdef double m = row.maximum
    cdef Py_ssize_t p, first = 0
    for p in range(job.pieces):
        if row[p].maximum > m:
            m = row[p].maximum
            first = p
    for p in range(job.pieces):
        if p != first:
            row[p].where = -1
    row.maximum = m


cdef inline void add_exactly(double* sum, double* low, double more, double more_low) noexcept nogil:
    """sum + low += more + more_low; the rounding error goes to `low` (no error is known of an infinite sum)."""
    cdef double total = sum[0] + more, seen = total - sum[0]
    cdef double error = (sum[0] - (total - seen)) + (more - seen) + (low[0] + more_low)
    sum[0] = total
    low[0] = 0
    if error == error:
        sum[0] = total + error
        low[0] = error - (sum[0] - total)


cdef double end_long_row(LongRows* job, Py_ssize_t n, Rows* r, real x_target, real* kind) noexcept nogil:
    """After EXP_SUM: merge the pieces in their order, finish the row; its loss. Puts the target's gradient in r.results."""
    cdef Call* c = job.call
    cdef const BlockOps[real]* ops = ops_of(kind)
    cdef Piece* row = job.piece + n * job.pieces
    cdef real m = <real>row.maximum, e_target = 0
    cdef Tile[real] one
    cdef RowResults* results = &r.results
    cdef Py_ssize_t p
    one.rows = 1
    one.classes = 1
    one.row_stride = 1
    one.class_stride = 1
    one.at = &x_target
    (<real*>r.x_target)[0] = x_target
    r.where[0] = -1
    ops.exp_sum(&one, &one, &m, r.where, NULL, NULL, NULL, 0, &one, &r.sums)
    (<real*>r.e_target)[0] = one.at[0]
    r.sums.rest[0] = row.rest
    r.sums.rest_low[0] = row.rest_low
    r.blend.mass[0] = row.mass
    r.blend.mass_low[0] = row.mass_low
    r.blend.gap[0] = row.gap
    r.blend.gap_low[0] = row.gap_low
    for p in range(1, job.pieces):
        add_exactly(r.sums.rest, r.sums.rest_low, row[p].rest, row[p].rest_low)
        add_exactly(r.blend.mass, r.blend.mass_low, row[p].mass, row[p].mass_low)
        add_exactly(r.blend.gap, r.blend.gap_low, row[p].gap, row[p].gap_low)
    r.target[0] = 0 if c.soft else target_of_row(c, n)
    (<real*>r.maximum)[0] = m
    ops.log_rows(1, <real*>r.maximum, <real*>r.x_target, <real*>r.e_target, &r.sums)
    if c.operation != CROSS_ENTROPY:
        results.coefficient[0] = 1
        results.coefficient_low[0] = 0
        results.loss[0] = <double>m + r.sums.log_sum[0]
        if m - m != 0:
            results.loss[0] = row.infinite
            for p in range(1, job.pieces):
                if row[p].infinite != row[p].infinite or row[p].infinite > results.loss[0]:
                    results.loss[0] = row[p].infinite
    else:
        finish_rows(c, n, 1, r, kind)
    if c.row_loss != NULL:
        put_losses(c, n, 1, results.loss)
    row.inverse = r.sums.inverse[0]
    row.inverse_low = r.sums.inverse_low[0]
    row.log_sum = r.sums.log_sum[0]
    row.coefficient = results.coefficient[0]
    row.coefficient_low = results.coefficient_low[0]
    row.subtracted = results.subtracted[0]
    row.subtracted_low = results.subtracted_low[0]
    return results.loss[0]


cdef inline int64_t target_of_row(const Call* c, Py_ssize_t n) noexcept nogil:
    """The target as the first look found it, or -1 where the row is ignored (the array may change under the call)."""
    return c.seen_target[n]


cdef bint run_long_rows(Call* c, int limit, double* loss, real* kind) noexcept nogil:
    """All rows in three phases over rows x pieces. False: no memory."""
    cdef LongRows job
    cdef Py_ssize_t n, blocks
    cdef int seen = 0
    cdef size_t scratch = sizeof(Rows) + <size_t>(2 * PIECE_CLASSES) * sizeof(real)
    cdef PoolWork work
    cdef Rows* r
    cdef real* x_target
    cdef real value
    cdef double* at_target
    cdef Tile[real] one
    cdef Matrix where
    cdef const BlockOps[real]* ops = ops_of(kind)
    if real is float:
        work = piece_of_floats
    else:
        work = piece_of_doubles
    job.call = c
    job.pieces = (c.classes + PIECE_CLASSES - 1) // PIECE_CLASSES
    blocks = c.rows * job.pieces
    job.piece = <Piece*>calloc(<size_t>blocks, sizeof(Piece))
    c.seen_target = <int64_t*>calloc(<size_t>c.rows, sizeof(int64_t))
    x_target = <real*>calloc(<size_t>c.rows, sizeof(real))
    at_target = <double*>malloc(<size_t>c.rows * sizeof(double))
    r = <Rows*>malloc(sizeof(Rows))
    cdef bint enough = (job.piece != NULL and c.seen_target != NULL and x_target != NULL and at_target != NULL
                        and r != NULL)
    one.rows = 1
    one.classes = 1
    one.row_stride = 1
    one.class_stride = 1
    one.at = &value
    loss[0] = 0
    if enough:
        if c.target != NULL:
            seen = read_targets(c, 0, c.rows, c.seen_target)
        if seen & SEEN_OUT_OF_RANGE:
            c.bad_row.store(0)
        if c.bad_row.load() < 0:
            for n in range(c.rows):
                if c.target != NULL and c.seen_target[n] >= 0:
                    where = piece_at(&c.x, c, n, c.seen_target[n])
                    ops.load_tile(&where, &one)
                    x_target[n] = value
            job.phase = MAXIMUM
            enough = celoss_pool_run(work, &job, blocks, limit, scratch)
            for n in range(c.rows):
                begin_long_row(&job, n)
                if c.target == NULL:
                    x_target[n] = <real>job.piece[n * job.pieces].maximum
            job.phase = EXP_SUM
            enough = enough and celoss_pool_run(work, &job, blocks, limit, scratch)
            for n in range(c.rows):
                if c.seen_target[n] < 0:
                    r.results.loss[0] = 0
                    if c.row_loss != NULL:
                        put_losses(c, n, 1, r.results.loss)
                    continue
                loss[0] += end_long_row(&job, n, r, x_target[n], kind)
                at_target[n] = r.results.at_target[0]
            if c.g.at != NULL:
                job.phase = GRADIENT
                enough = enough and celoss_pool_run(work, &job, blocks, limit, scratch)
                for n in range(c.rows):
                    if c.target != NULL and c.seen_target[n] >= 0:
                        value = <real>at_target[n]
                        where = piece_at(&c.g, c, n, c.seen_target[n])
                        ops.store_tile(&one, &where)
    free(job.piece)
    free(c.seen_target)
    free(x_target)
    free(at_target)
    free(r)
    return enough


cdef inline bint are_long_rows(const Call* c) noexcept nogil:
    """Whether rows are cut into pieces. This depends on the shape alone, as every cut does."""
    cdef Py_ssize_t size = 8 if c.x.storage == STORED_FLOAT64 else 4
    if c.operation == BRIER or c.operation == ZERO_ONE or c.operation == CLEAR:
        return False
    return c.classes * size > LONG_ROW_BYTES or (c.rows < FEW_ROWS and c.classes >= LONG_AMONG_FEW)


cdef bint run_long_rows_of(Call* c, int limit, double* loss) noexcept nogil:
    c.few_classes = False
    if c.x.storage == STORED_FLOAT64:
        return run_long_rows[double](c, limit, loss, NULL)
    return run_long_rows[float](c, limit, loss, NULL)
