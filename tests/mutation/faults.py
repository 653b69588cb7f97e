"""The faults that the tests have to notice: where, which text, what stands there instead, and which tests to try first.

Texts are short and stand exactly once in their file. Each fault is one that a change could make by mistake and that no
compiler sees; none leaves the results within their tolerance.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str  # without tests/ and .py; file::test where others would catch it before the one that is meant to
    levels: str = "baseline"  # the instruction-set levels that are built while these tests run


BLOCKS = "src/simd/block_ops.cpp"
TILES = "src/simd/tiles.hpp"
VECTORS = "src/simd/vector.hpp"
EXP_LOG = "src/simd/exp_log.hpp"
NUMBERS = "src/simd/number.hpp"
FORMULAS = "src/simd/row_formulas.hpp"
BLENDS = "src/simd/blend.hpp"
BRIER = "src/simd/brier.hpp"
SOFTMAX = "src/simd/softmax_ops.hpp"
ELEMENTS = "src/simd/elementwise.hpp"
LEVEL = "src/simd/level.cpp"
POOL = "src/threads/pool.cpp"
KERNELS = "src/celoss/_kernels.pyx"
ENTRIES = "src/celoss/_entries.pxi"
LONG = "src/celoss/_long_rows.pxi"
ROWS = "src/celoss/_row_operations.pxi"
SCORES = "src/celoss/_elementwise.pxi"
ARGUMENTS = "src/celoss/_arguments.py"
CONFIG = "src/celoss/_config.py"
LOSSES = "src/celoss/losses.py"
CRITERIA = "src/celoss/criteria.py"

FAULTS = [
    # ---- the maximum -------------------------------------------------------------------------------------------------
    Fault(
        "maximum: groups before the last are forgotten", BLOCKS,
        "best = max_or_nan(best, group);", "best = group;", "test_cross_entropy",
    ),
    Fault(
        "maximum: the tail of a row is left out", BLOCKS,
        "if (in_tail > in_groups) {", "if (false) {", "test_cross_entropy test_special_values",
    ),
    Fault(
        "maximum: rows as lanes, the last class is left out", BLOCKS,
        "for (ptrdiff_t j = 1; j < x.classes; ++j) best", "for (ptrdiff_t j = 1; j + 1 < x.classes; ++j) best",
        "test_cross_entropy test_special_values",
    ),
    Fault(
        "maximum: of several equal ones only one is counted", BLOCKS,
        "if (where[i] >= 0 && maxima > 1)", "if (false)", "test_special_values test_cross_entropy",
    ),
    Fault(
        "maximum: of several equal ones only one is counted, rows as lanes", BLOCKS,
        "if (any_lane(maxima > 1)) sum", "if (false) sum", "test_special_values test_cross_entropy",
    ),
    # ---- the sum of the exponentials ---------------------------------------------------------------------------------
    Fault(
        "exponentials: the tail of a row is skipped", BLOCKS,
        "if (j < n) exp_of_vector", "if (false) exp_of_vector", "test_cross_entropy",
    ),
    Fault(
        "exponentials: the sum lacks the tail of a row", BLOCKS,
        "for (j = 0; j < n; j += W) sum.add_stored", "for (j = 0; j + W <= n; j += W) sum.add_stored", "test_cross_entropy",
    ),
    Fault(
        "exponentials: the maximum is not left out of the sum", EXP_LOG,
        "select(left_out, row.lowest, max_or_nan(", "select(left_out, row.lowest - row.lowest, max_or_nan(", "test_cross_entropy",
    ),
    Fault(
        "exponentials: lanes of the sum swapped, half of them twice", BLOCKS,
        "high += widen_high_at(at);", "high += widen_low_at(at);", "test_cross_entropy",
    ),
    Fault(
        "exponentials: rounding errors of float32 values forgotten", BLOCKS,
        "add_error(ExpParts<F32> exp) { lost += exp.error; }", "add_error(ExpParts<F32>) {}", "test_compensations",
    ),
    Fault(
        "exponentials: rounding errors of float64 values forgotten", BLOCKS,
        "lost += both.low + exp.error;", "lost += both.low;", "test_compensations",
    ),
    Fault(
        "exponentials: rounding errors of the float64 sum forgotten", BLOCKS,
        "lost += both.low + exp.error;", "lost += exp.error;", "test_compensations",
    ),
    # ---- the logarithm, and what the gradient is multiplied with -----------------------------------------------------
    Fault(
        "logarithm: low part of a float64 sum forgotten", FORMULAS,
        "const N rest = load_number<T>(sums->rest + i, sums->rest_low + i)", "const N rest = number<T>(load(sums->rest + i))",
        "test_compensations",
    ),
    Fault(
        "loss: rounding error of m - x_t forgotten", NUMBERS,
        "return number<T>(exact.high, known(exact.low));", "return number<T>(exact.high);", "test_compensations",
    ),
    Fault(
        "gradient: float32 factor in one part", BLOCKS,
        "low = narrow(factor0 - widen_low(high), factor1 - widen_high(high));", "low = V{};", "test_compensations",
    ),
    Fault(
        "gradient: float64 factor in one part", BLOCKS,
        "low = fma(a0, load(sums->inverse_low + row), remainder_of(-factor0, -a0, inverse0));", "low = V{};",
        "test_compensations",
    ),
    Fault(
        "gradient at the target: low part of float64 1 - p forgotten", FORMULAS,
        "(rest + of_maximum) * inverse)", "(rest + of_maximum) * number<T>(top_of(inverse)))", "test_compensations",
    ),
    Fault(
        "gradient at the target: the maximum is counted among the others", FORMULAS,
        "select(top_of(gap) == 0.0, N{}, unit - number<T>(load_wide(e_t + i, W)))", "unit - number<T>(load_wide(e_t + i, W))",
        "test_cross_entropy",
    ),
    Fault(
        "gradient: the tail of a row is not scaled", BLOCKS,
        "if (j < classes) store_first(g + j,", "if (false) store_first(g + j,", "test_cross_entropy",
    ),
    Fault(
        "gradient: another row's target, rows as lanes", BLOCKS,
        "wanted = load_targets<T>(target + i);\n            ignored", "wanted = load_targets<T>(target);\n            ignored",
        "test_cross_entropy",
    ),
    # ---- targets and blends ------------------------------------------------------------------------------------------
    Fault(
        "target: negative indices are not tested", BLOCKS,
        "(uint64_t)t >= (uint64_t)classes", "t >= classes", "test_errors",
    ),
    Fault(
        "target: the index C is let through", BLOCKS,
        "(uint64_t)t >= (uint64_t)classes", "(uint64_t)t > (uint64_t)classes", "test_errors",
    ),
    Fault(
        "target: ignored rows are not marked", BLOCKS,
        "out[i] = t | is_ignored;", "out[i] = t;", "test_options",
    ),
    Fault(
        "mean: ignored rows are counted", BLOCKS,
        "count += target[i] != (I)value;", "count += 1;", "test_special_values test_options",
    ),
    Fault(
        "probabilities: 0 times infinity counts", BLENDS,
        "gap = select(top_of(mass) == 0.0, N{}, mass * distance);", "gap = mass * distance;", "test_special_values",
    ),
    Fault(
        "probabilities: class weights forgotten in the gradient", BLENDS,
        "if (WEIGHT) share *= weight;", "", "test_options",
    ),
    Fault(
        "probabilities: the lanes behind the last class count", BLENDS,
        "if (count < W) last.mass = select(first_lanes(count), last.mass, Number<T>{});", "", "test_options",
    ),
    Fault(
        "probabilities: the tail of a row is skipped", BLENDS,
        "for (; j < classes; j += W) {", "for (; j + W <= classes; j += W) {", "test_options",
    ),
    Fault(
        "long rows: softmax takes a rounding error from memory that nobody wrote to", LONG,
        "        results.coefficient_low[0] = 0\n", "", "test_memory::test_scratch_may_hold_anything",
    ),
    # ---- exponential and logarithm -----------------------------------------------------------------------------------
    Fault(
        "exp: NaN becomes the smallest number", EXP_LOG,
        "max_or_nan(row.lowest, SHIFTED ? x - row.shift : x)", "max_or_nan(SHIFTED ? x - row.shift : x, row.lowest)",
        "test_special_values",
    ),
    Fault(
        "exp: every row is shifted, the rounding of x - m shows", EXP_LOG,
        "row.shift = absolute(m) < K::unshifted ? V{} : m;", "row.shift = m;", "test_cross_entropy",
    ),
    Fault(
        "exp: no row is shifted", EXP_LOG,
        "row.shift = absolute(m) < K::unshifted ? V{} : m;", "row.shift = V{};", "test_cross_entropy",
    ),
    Fault(
        "exp: the low part of ln 2 forgotten", EXP_LOG,
        "fma(n, V{} - K::ln2_high, d), n * (V{} - K::ln2_low)", "fma(n, V{} - K::ln2_high, d), V{}", "test_cross_entropy",
    ),
    Fault(
        "log1p becomes log", EXP_LOG,
        "select(is_near, rest.high, near - unit.high)", "near - unit.high", "test_cross_entropy",
    ),
    Fault(
        "log1p: the correction of the quotient forgotten", EXP_LOG,
        "fma(s * z, series, correction + correction)", "s * z * series", "test_cross_entropy",
    ),
    # ---- tiles: layouts and formats ----------------------------------------------------------------------------------
    Fault(
        "transpose: two classes swapped", TILES,
        "F64 a = low_halves(v[0], v[1]);\n    v[1] = high_halves(v[0], v[1]);",
        "F64 a = high_halves(v[0], v[1]);\n    v[1] = low_halves(v[0], v[1]);", "test_cross_entropy",
    ),
    Fault(
        "transpose: baseline only, two lanes swapped", TILES,
        "__builtin_shufflevector(a, b, 2, 6, 3, 7)", "__builtin_shufflevector(a, b, 2, 6, 7, 3)", "test_cross_entropy",
    ),
    Fault(
        "transpose: rows that fill no vector lose their last class", TILES,
        "for (ptrdiff_t j = 0; j < inner; ++j)\n                    __builtin_memcpy(",
        "for (ptrdiff_t j = 0; j + 1 < inner; ++j)\n                    __builtin_memcpy(", "test_cross_entropy",
    ),
    Fault(
        "tile: strides of rows and classes mixed up", TILES,
        "from->at + i * from->row_stride + j * from->class_stride, from->storage",
        "from->at + j * from->row_stride + i * from->class_stride, from->storage", "test_layouts",
    ),
    Fault(
        "float16: truncated instead of rounded, one number at a time", TILES,
        "(magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13", "(magnitude - 0x38000000u) >> 13", "test_dtypes",
    ),
    Fault(
        "float16: truncated instead of rounded, v3 only", TILES,
        "_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT)", "_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_ZERO)",
        "test_dtypes",
        levels="v3 baseline",
    ),
    Fault(
        "bfloat16: truncated instead of rounded, vectors", TILES,
        "(bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16", "bits >> 16", "test_dtypes",
    ),
    Fault(
        "bfloat16: halves rounded up instead of to even", TILES,
        "(bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16", "(bits + 0x8000u) >> 16", "test_dtypes",
    ),
    # ---- vectors of one level ----------------------------------------------------------------------------------------
    Fault(
        "v3 only: a lane is left out of the maximum", VECTORS,
        "_mm_shuffle_ps(a, a, 1)", "_mm_shuffle_ps(a, a, 0)", "test_cross_entropy",
        levels="v3 baseline",
    ),
    Fault(
        "v4 only: the last store of a row writes one number too many", VECTORS,
        "_mm512_mask_storeu_ps(to, first_lanes_f32(count),", "_mm512_mask_storeu_ps(to, first_lanes_f32(count + 1),",
        "test_layouts test_memory",
        levels="v4 baseline",
    ),
    Fault(
        "v3 only: the last load of a row reads one number too many", VECTORS,
        "_mm256_maskload_ps(from, mask)", "_mm256_maskload_ps(from, first_lanes_f32(count < 8 ? count + 1 : 8))",
        "test_memory",
        levels="v3 baseline",
    ),
    Fault(
        "baseline only: halves of float64 results swapped", VECTORS,
        "_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low), _mm_cvtpd_ps((__m128d)high))",
        "_mm_movelh_ps(_mm_cvtpd_ps((__m128d)high), _mm_cvtpd_ps((__m128d)low))", "test_cross_entropy",
    ),
    # ---- log_softmax, argmax, Brier score ----------------------------------------------------------------------------
    Fault(
        "argmax: of equal maxima a later one", SOFTMAX,
        "found = (v > best) ?", "found = (v >= best) ?", "test_zero_one",
    ),
    Fault(
        "argmax: of an ignored row anything", SOFTMAX,
        "else first[i] = -1;", "", "test_sanitizers",
    ),
    Fault(
        "argmax: a NaN is passed over", SOFTMAX,
        "if (any_lane(zero != zero))  //", "if (any_lane(best != best))  //", "test_zero_one",
    ),
    Fault(
        "brier: the float64 sum's rounding errors forgotten", NUMBERS,
        "lost += known(both.low) + v.low;", "lost += v.low;", "test_compensations test_accuracy",
    ),
    Fault(
        "numbers: the rounding error of a product forgotten", NUMBERS,
        "fma(a.low, b.high, -excess_of(product, a.high, b.high))", "a.low * b.high", "test_accuracy",
    ),
    Fault(
        "numbers: the rounding error of a sum forgotten", NUMBERS,
        "const F64 low = known(sum.low) + (a.low + b.low)", "const F64 low = a.low + b.low", "test_accuracy",
    ),
    Fault(
        "brier: the rounding errors of float64 exponentials forgotten", BRIER,
        "store_wide(at + low, count, v.low);", "store_wide(at + low, count, F64{});", "test_accuracy",
    ),
    # ---- binary losses -----------------------------------------------------------------------------------------------
    Fault(
        "binary: pos_weight weighs every label", ELEMENTS,
        "a0 = weight * no;", "a0 = weight * (pos ? no * number<T>(load(pos)) : no);", "test_binary",
    ),
    Fault(
        "binary: the error of the exponential forgotten", ELEMENTS,
        "fma(square_low, V{} - T(0.25), fma(e.low, slope, lost))", "fma(square_low, V{} - T(0.25), lost)",
        "test_compensations",
    ),
    Fault(
        "binary: lanes behind the last score count in the sum", ELEMENTS,
        "if (count < lanes_of<T>()) loss = select(lanes_before<T>(count), loss, V{});", "", "test_binary",
    ),
    Fault(
        "binary: weights are not tested", ELEMENTS,
        "*bad |= ~((weight >= 0) & (weight < __builtin_inf()));", "(void)bad;", "test_binary",
    ),
    # ---- level and threads -------------------------------------------------------------------------------------------
    Fault(
        "level: CELOSS_LEVEL is not looked at", KERNELS,
        'use_level(os.environ.get("CELOSS_LEVEL", ""))', 'use_level("")', "test_levels",
        levels="v3 baseline",
    ),
    Fault(
        "pool: threads take the same block (a counter that is not atomic)", POOL,
        "(block = next.fetch_add(1, std::memory_order_relaxed)) < blocks;",
        "(block = next.load(), next.store(block + 1), block) < blocks;", "test_sanitizers",
    ),
    Fault(
        "pool: the caller does not wait for its helpers", POOL,
        "    job.take_blocks(scratch);\n", "    job.take_blocks(scratch);\n    job.active.store(0);\n",
        "test_threads test_layouts",
    ),
    Fault(
        "pool: helpers share one scratch memory", POOL,
        "thread_local Scratch scratch_of_thread;", "Scratch scratch_of_thread;", "test_threads test_layouts",
    ),
    Fault(
        "pool: a forked child waits for its parent's helpers", POOL,
        "pthread_atfork(nullptr, nullptr, [] { new (storage) Pool; });", "", "test_threads test_processes",
    ),
    Fault(
        "pool: a forked child keeps the mutex of its parent", POOL,
        "[] { new (storage) Pool; }", "[] { pool.helpers = 0; pool.jobs = nullptr; }",
        "test_threads::test_fork_while_other_threads_are_inside",
    ),
    Fault(
        "pool: a forked child counts on its parent's helpers", POOL,
        "pthread_atfork(nullptr, nullptr, [] { new (storage) Pool; });",
        "pthread_atfork(nullptr, nullptr, [] { new (&pool.mutex) std::mutex; });", "test_threads::test_multiprocessing_by_fork",
    ),
    Fault(
        "pool: a thread more than asked for", POOL,
        "(threads < blocks ? threads : blocks) - 1;", "(threads < blocks ? threads : blocks);",
        "test_threads::test_one_thread_starts_no_helper",
    ),
    Fault(
        "pool: helpers take the program's signals", POOL,
        "pthread_sigmask(SIG_BLOCK, &signals, &before);", "pthread_sigmask(SIG_BLOCK, nullptr, &before);",
        "test_processes::test_helpers_take_no_signals",
    ),
    Fault(
        "pool: the caller's signals stay blocked", POOL,
        "pthread_sigmask(SIG_SETMASK, &before, nullptr);", "",
        "test_processes::test_keyboard_interrupt_during_a_call",
    ),
    Fault(
        "pool: destroyed at exit, while helpers wait in it", POOL,
        "return new (storage) Pool;", "std::atexit([] { pool.~Pool(); });\n    return new (storage) Pool;",
        "test_processes::test_exit_while_daemon_threads_are_inside",
    ),
    Fault(
        "pool: the exit waits for helpers, which never end", POOL,
        "return new (storage) Pool;",
        "std::atexit([] {\n        std::unique_lock<std::mutex> lock(pool.mutex);\n"
        "        pool.helper_left.wait(lock, [] { return pool.helpers == 0; });\n    });\n    return new (storage) Pool;",
        "test_threads::test_exit_with_helpers_waiting",
    ),
    Fault(
        "pool: no thread to be had is an error", POOL,
        "catch (const std::exception&)", "catch (const std::bad_alloc&)", "test_processes::test_no_thread_to_be_had",
    ),
    Fault(
        "pool: the caller's scratch is not looked at", POOL,
        "if (!scratch) return false;", "", "test_processes::test_no_memory_to_be_had",
    ),
    Fault(
        "pool: helpers compute in the mode that they were made in", POOL,
        "std::fesetenv(&job->arithmetic);", "", "test_float_environment::test_modes_stay_and_helpers_share_them",
    ),
    Fault(
        "pool: calls change the caller's rounding mode", POOL,
        "std::fegetenv(&job.arithmetic);", "std::fesetround(FE_TONEAREST);\n    std::fegetenv(&job.arithmetic);",
        "test_float_environment::test_modes_stay_and_helpers_share_them",
    ),
    Fault(
        "pool: the import changes the rounding mode", POOL,
        "return new (storage) Pool;", "std::fesetround(FE_UPWARD);\n    return new (storage) Pool;",
        "test_float_environment::test_import_and_first_calls_change_no_mode",
    ),
    Fault(
        "pool: the first call changes the rounding mode", POOL,
        "std::fegetenv(&job.arithmetic);", "std::fesetround(FE_UPWARD);\n    std::fegetenv(&job.arithmetic);",
        "test_float_environment::test_import_and_first_calls_change_no_mode",
    ),
    Fault(
        "the interpreter's lock is held during a call", KERNELS,
        "        with nogil:\n            enough_memory =", "        if True:\n            enough_memory =",
        "test_threads::test_other_threads_run_during_a_call",
    ),
    Fault(
        "threads: CELOSS_NUM_THREADS is not looked at", CONFIG,
        'os.environ.get("CELOSS_NUM_THREADS", "")', '""', "test_threads::test_environment_variable",
    ),
    Fault(
        "threads: the affinity mask is not looked at", CONFIG,
        'len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1', "os.cpu_count() or 1",
        "test_threads::test_default_respects_the_affinity_mask",
    ),
    Fault(
        "threads: any number of them is set", CONFIG,
        "set_thread_limit(min(number, MOST_THREADS))", "set_thread_limit(number)", "test_threads::test_set_num_threads",
    ),
    Fault(
        "threads: any number of them is started for a call", ARGUMENTS,
        "MOST_THREADS = 1024", "MOST_THREADS = 10**9", "test_processes::test_threads_of_one_call_are_bounded",
    ),
    # ---- the order of the passes -------------------------------------------------------------------------------------
    Fault(
        "sum: chunks are added in the order in which they arrive", KERNELS,
        "        n += rows\n    c.chunk_loss[chunk] = loss\n\n\ncdef void chunk_of_floats",
        "        n += rows\n    c.chunk_loss[0] = c.chunk_loss[0] + loss if chunk else loss\n"
        "    if chunk:\n        c.chunk_loss[chunk] = 0\n\n\ncdef void chunk_of_floats", "test_layouts test_threads",
    ),
    Fault(
        "blocks follow the number of threads", KERNELS,
        "c.block_rows = in_groups(min(<Py_ssize_t>CELOSS_BLOCK_ROWS, ",
        "c.block_rows = in_groups(min(<Py_ssize_t>CELOSS_BLOCK_ROWS // threads, ",
        "test_layouts test_threads",
    ),
    Fault(
        "blocks: the last chunk is forgotten unless it is full", KERNELS,
        "chunks = (c.rows + c.chunk_rows - 1) // c.chunk_rows", "chunks = max(<Py_ssize_t>1, c.rows // c.chunk_rows)",
        "test_cross_entropy test_layouts",
    ),
    Fault(
        "blocks: losses are put one row too early from the second block on", KERNELS,
        "(<float*>c.row_loss)[n + i] = <float>loss[i]", "(<float*>c.row_loss)[n + i - (1 if n else 0)] = <float>loss[i]",
        "test_cross_entropy",
    ),
    Fault(
        "sum: every fourth loss is left out", KERNELS,
        "s3 += a[i + 3]", "s3 += 0", "test_cross_entropy test_options",
    ),
    Fault(
        "stride of the logits used for the gradient", KERNELS,
        "g.row_stride = c.g.inner_stride // <Py_ssize_t>sizeof(real)",
        "g.row_stride = c.x.inner_stride // <Py_ssize_t>sizeof(real)", "test_layouts",
    ),
    Fault(
        "dimensions are merged that do not follow one another", ENTRIES,
        "if any(a.strides[left] != a.strides[right] * shape[right] for a in arrays):", "if False:", "test_layouts",
    ),
    Fault(
        "gradient of an ignored row is what its logits give", BLOCKS,
        "without(select(wanted == (Int)j, there, v), ignored)", "select(wanted == (Int)j, there, v)", "test_special_values",
    ),
    Fault(
        "loss of an ignored row counts", FORMULAS,
        "store(r->loss + i, select(ignored, F64{}, rounded(loss)));", "store(r->loss + i, rounded(loss));",
        "test_special_values",
    ),
    Fault(
        "smoothing: sign of the target's share", FORMULAS,
        "w_t * (keep * miss + add)", "w_t * (keep * miss - add)", "test_options",
    ),
    Fault(
        "smoothing: class weights are not summed", KERNELS,
        "            sum = next\n    c.mass", "    c.mass", "test_options",
    ),
    Fault(
        "numbers: the rounding error of an infinite product is infinite", NUMBERS,
        "select(error - error == 0.0, error, F64{})", "known(error)", "test_special_values",
    ),
    Fault(
        "weights: 0 times infinity is NaN", NUMBERS,
        "return select((top_of(weight) == 0.0) & (absolute(top) == (double)__builtin_inff()), N{}, weight * a);",
        "(void)top;\n    return weight * a;",
        "test_options test_special_values",
    ),
    Fault(
        "sample_weight of the first rows for every block", KERNELS,
        "options.sample_weight += n", "pass", "test_options",
    ),
    Fault(
        "smoothing: rounding error of the share forgotten", KERNELS,
        "options.add_low = fma(-options.add, classes, smoothing) / classes", "options.add_low = 0", "test_accuracy",
    ),
    Fault(
        "upstream gradient of each row dropped", FORMULAS,
        " * number<T>(option_of_rows(o->upstream, i, count))", "", "test_options",
    ),
    Fault(
        "upstream gradient of the reduced loss dropped", KERNELS,
        "c.options.factor = upstream / divisor", "c.options.factor = 1 / divisor", "test_options",
    ),
    Fault(
        "denominator: normalizer not looked at", KERNELS,
        "divisor = normalizer if normalizer > 0 else denominator(c)", "divisor = denominator(c)", "test_options",
    ),
    Fault(
        "the mean of nothing leaves the gradient as it was", KERNELS,
        "enough_memory = c.g.at == NULL or run_call(c, limit, loss)", "enough_memory = True", "test_special_values",
    ),
    Fault(
        "smoothing: the last vector's empty lanes are no maxima", BLENDS,
        "(double)((classes + W - 1) / W), top)", "(double)(classes / W), top)", "test_options",
    ),
    Fault(
        "denominator: class weights forgotten", FORMULAS,
        "option_of_rows(o->sample_weight, i, count) * weight_of_targets(o, i, count);",
        "option_of_rows(o->sample_weight, i, count);", "test_options",
    ),
    Fault(
        "denominator: ignored rows count with their weights", FORMULAS,
        "select(ignored_rows(o, i) | ~first_lanes(count), F64{}, weight)", "select(~first_lanes(count), F64{}, weight)",
        "test_options test_special_values",
    ),
    Fault(
        "denominator: the weight of a target out of range is read", KERNELS,
        "        if not c.soft and read_targets(c, n, rows, target) & SEEN_OUT_OF_RANGE:\n            c.bad_row.store(n)\n"
        "            return 0\n",
        "        if not c.soft:\n            read_targets(c, n, rows, target)\n", "test_errors",
    ),
    # ---- long rows ---------------------------------------------------------------------------------------------------
    Fault(
        "long rows: the maximum of a later piece is not seen", LONG,
        "if row[p].maximum > m:", "if False:", "test_cross_entropy",
    ),
    Fault(
        "long rows: pieces are added in the order in which they arrive", LONG,
        "piece.rest = r.sums.rest[0]", "row.rest += r.sums.rest[0]", "test_cross_entropy test_layouts",
    ),
    Fault(
        "long rows: rounding errors of the merge forgotten", LONG,
        "error = (sum[0] - (total - seen)) + (more - seen) + (low[0] + more_low)", "error = low[0] + more_low",
        "test_compensations",
    ),
    Fault(
        "long rows: the last piece is one class short", LONG,
        "x.classes = min(c.classes - first, <Py_ssize_t>PIECE_CLASSES)",
        "x.classes = min(c.classes - first - (1 if first else 0), <Py_ssize_t>PIECE_CLASSES)", "test_cross_entropy",
    ),
    Fault(
        "long rows: an ignored row keeps what was in out", LONG,
        "zero_classes(where.at, c.g.class_stride,", "zero_classes(where.at, 0 * c.g.class_stride,", "test_special_values",
    ),
    # ---- rows of activations and of the other losses -----------------------------------------------------------------
    Fault(
        "logsumexp: infinities are NaN", ROWS,
        "if m[i] - m[i] != 0:", "if False:", "test_activations",
    ),
    Fault(
        "brier: in rows as lanes the class of the maximum is not left out", BRIER,
        "return load_classes(but + row) != j;", "return ~M64{};", "test_brier",
    ),
    Fault(
        "brier: in a row's last vector the lanes without a class count", BRIER,
        "if (count < W) used = first_lanes(count);", "", "test_brier",
    ),
    Fault(
        "brier: the target's share of the squares forgotten", BRIER,
        "squares + select(at_maximum, N{}, one - two * p_t) + d * d", "squares + d * d", "test_brier",
    ),
    Fault(
        "brier: the upstream gradient of each row dropped", BRIER,
        " * number<T>(option_of_rows(o->upstream, i, count))", "", "test_brier",
    ),
    # ---- scores of binary losses -------------------------------------------------------------------------------------
    Fault(
        "binary: a weight for the whole run is taken for its first score only", SCORES,
        "fill(tile.at + i * tile.row_stride, tile.row_stride)", "pass", "test_binary",
    ),
    Fault(
        "binary: chunks overlap by one score", SCORES,
        "cdef Py_ssize_t start = chunk * CHUNK_NUMBERS, end = min(s.count, start + CHUNK_NUMBERS), n",
        "cdef Py_ssize_t start = chunk * CHUNK_NUMBERS, end = min(s.count, start + CHUNK_NUMBERS + 1), n", "test_binary",
    ),
    # ---- arguments ---------------------------------------------------------------------------------------------------
    Fault(
        "arguments: infinite and NaN weights are let through", ARGUMENTS,
        "good = (array >= 0) & (array < np.inf)", "good = ~(array < 0)", "test_errors",
    ),
    Fault(
        "arguments: an out that overlaps the logits is let through", ARGUMENTS,
        "if out is not given and _overlap(out, given) and not _same_elements(out, given):", "if False:", "test_errors",
    ),
    Fault(
        "arguments: an out that overlaps itself is let through", ARGUMENTS,
        "if _overlaps_itself(out):", "if False:", "test_errors",
    ),
    Fault(
        "arguments: negative axes count from the front", ARGUMENTS,
        "return number % ndim", "return abs(number)", "test_layouts test_options",
    ),
    Fault(
        "arguments: unsigned targets wrap around", ARGUMENTS,
        "if (array.dtype.kind == \"u\" and array.itemsize == 8) or mark != ignore_index:", "if mark != ignore_index:",
        "test_dtypes",
    ),
    Fault(
        "arguments: upstream gradients become float32", ARGUMENTS,
        "array = array.astype(np.float64)\n    if array.ndim == 0:", "array = array.astype(np.float32)\n    if array.ndim == 0:",
        "test_float_environment::test_calls_raise_and_warn_of_nothing",
    ),
    Fault(
        "arguments: weights become float32", ARGUMENTS,
        "array = array.astype(np.float64)\n    good = ", "array = array.astype(np.float32)\n    good = ",
        "test_float_environment::test_weights_beyond_the_dtype_warn_of_nothing",
    ),
    Fault(
        "arguments: byte-swapped logits are read as they are", ARGUMENTS,
        "    elif not array.dtype.isnative:\n        array = array.astype(array.dtype.newbyteorder(\"=\"))\n    storage",
        "    elif not array.dtype.isnative:\n        array = array.view(array.dtype.newbyteorder(\"=\"))\n    storage",
        "test_layouts",
    ),
    # ---- short path, criteria ----------------------------------------------------------------------------------------
    Fault(
        "short path: it is taken with sample weights", ENTRIES,
        "if (sample_weight is not None or n_threads", "if (n_threads", "test_options",
    ),
    Fault(
        "short path: the normalizer is forgotten", ENTRIES,
        "return run(&c, reduce_by, divisor,", "return run(&c, reduce_by, 0.0,", "test_options",
    ),
    Fault(
        "short path: the smoothing is forgotten", ENTRIES,
        "upstream = NULL\n    set_smoothing(&c, smoothing)", "upstream = NULL\n    set_smoothing(&c, 0)", "test_options",
    ),
    Fault(
        "short path: an out that overlaps the weights is let through", ENTRIES,
        "or (weight is not None and not apart(w, g))", "", "test_errors",
    ),
    Fault(
        "short path: weights that are none are let through", ENTRIES,
        "if not 0 <= weight[i] < INFINITY:", "if False:", "test_errors",
    ),
    Fault(
        "short path: it is taken whatever the axis", ENTRIES,
        "or type(axis) is not int or axis != -1 or type(label", "or type(label", "test_layouts",
    ),
    Fault(
        "losses: any failure in the kernel is tried a second time", LOSSES,
        "    result = _kernels.cross_entropy(*arguments, operation)\n",
        "    try:\n        result = _kernels.cross_entropy(*arguments, operation)\n"
        "    except:\n        result = _kernels.cross_entropy(*arguments, operation)\n",
        "test_processes::test_keyboard_interrupt_during_a_call",
    ),
    Fault(
        "losses: a function that cannot be pickled", LOSSES,
        "def _loss_of_rows(",
        "cross_entropy_with_grad = (lambda f: lambda *a, **k: f(*a, **k))(cross_entropy_with_grad)\n\n\ndef _loss_of_rows(",
        "test_processes::test_pools_of_new_processes",
    ),
    Fault(
        "criteria: a module is imported in the call", CRITERIA,
        'array = as_array(logits, "logits")\n',
        'from celoss._arguments import as_array\n\n        array = as_array(logits, "logits")\n',
        "test_processes::test_calls_while_the_interpreter_ends",
    ),
    Fault(
        "criteria: objects share their buffers", CRITERIA,
        "buffer = np.empty(array.shape, array.dtype)",
        "buffer = vars(losses).setdefault(str(array.shape), np.empty(array.shape, array.dtype))",
        "test_threads::test_sixteen_callers_of_the_family",
    ),
    Fault(
        "criteria: the buffer is used again for another dtype", CRITERIA,
        "if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:\n                self",
        "if buffer is None or buffer.shape != array.shape:\n                self", "test_criteria",
    ),
    Fault(
        "criteria: backward multiplies into its buffer", CRITERIA,
        "np.multiply(self._grad, factor, dtype=np.float64).astype(self._grad.dtype, copy=False)",
        'np.multiply(self._grad, factor, out=self._grad, dtype=self._grad.dtype, casting="unsafe")', "test_criteria",
    ),
]  # fmt: skip
