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


MAXIMUM = "src/simd/maximum.hpp"
EXP_SUM = "src/simd/exp_sum.hpp"
GRADIENT = "src/simd/gradient.hpp"
TARGETS = "src/simd/targets.hpp"
TILES = "src/simd/tiles.hpp"
HALVES = "src/simd/halves.hpp"
VECTORS = "src/simd/vector.hpp"
EXP_LOG = "src/simd/exp_log.hpp"
NUMBERS = "src/simd/number.hpp"
CROSS_ENTROPY = "src/simd/cross_entropy.hpp"
HESSIAN = "src/simd/hessian.hpp"
SOFT_TARGETS = "src/simd/soft_targets.hpp"
GROUPS = "src/simd/row_groups.hpp"
BRIER = "src/simd/brier.hpp"
SOFTCAP = "src/simd/softcap.hpp"
STATISTICS = "src/simd/statistics.hpp"
DIVERGENCE = "src/simd/kl_divergence.hpp"
CHAIN_RULE = "src/celoss/_chain_rule.py"
ACTIVATIONS = "src/simd/activations.hpp"
BINARY = "src/simd/scores.hpp"
PIECES = "src/simd/pieces.hpp"
SUMS = "src/simd/sums.hpp"
POOL = "src/threads/pool.cpp"
KEPT = "src/memory/kept.cpp"
KERNELS = "src/celoss/_kernels.pyx"
ENTRIES = "src/celoss/_entries.pxi"
SHORT = "src/celoss/_short_paths.pxi"
LONG = "src/celoss/_long_rows.pxi"
SCORES = "src/celoss/_scores.pxi"
RESULTS = "src/celoss/_results.pxi"
ARGUMENTS = "src/celoss/_arguments.py"
ROW_ARGUMENTS = "src/celoss/_row_arguments.py"
OUTPUTS = "src/celoss/_outputs.py"
GENERAL = "src/celoss/_general_paths.py"
CONFIG = "src/celoss/_config.py"
LOSSES = "src/celoss/losses.py"
CRITERIA = "src/celoss/criteria.py"
BOOSTING = "src/celoss/boosting.py"
LINEAR = "src/celoss/linear.py"
LINEAR_ARGUMENTS = "src/celoss/_linear_arguments.py"

FAULTS = [
    # ---- the maximum -------------------------------------------------------------------------------------------------
    Fault(
        "maximum: groups before the last are forgotten", MAXIMUM,
        "best = larger_of(best, group);", "best = group;", "test_zero_one test_activations",
    ),
    Fault(
        "maximum: half of a group is left out", MAXIMUM,
        "other = larger_of(other, larger_of(load(x + j + 2 * W), load(x + j + 3 * W)));", "", "test_cross_entropy",
    ),
    Fault(
        "maximum: the tail of a row is left out", MAXIMUM,
        "if (!(m > in_groups)) {", "if (true) {", "test_zero_one test_activations",
    ),
    Fault(
        "maximum: rows as lanes, the last class is left out", MAXIMUM,
        "j < x->classes; ++j) best", "j + 1 < x->classes; ++j) best", "test_cross_entropy test_special_values",
    ),
    Fault(
        "argmax: looked for in the other half of a group", MAXIMUM,
        "return __builtin_ctzll(found) + (low ? 0 : HALF);", "return __builtin_ctzll(found);", "test_zero_one",
    ),
    Fault(
        "left out: the target stays in the sum", EXP_SUM,
        "at[left_out - begin] = (T)-__builtin_inff();", "", "test_cross_entropy",
    ),
    Fault(
        "left out: the target stays in the sum, rows as lanes", EXP_SUM,
        "for (ptrdiff_t i = 0; i < rows; ++i) at[places.of_row[i]] = (T)-__builtin_inff();", "", "test_cross_entropy",
    ),
    Fault(
        "left out: the target stays in the sum, few classes", EXP_SUM,
        "store(at, select(wanted == (Int)j, minus_infinity<T>(), v));", "store(at, v);", "test_cross_entropy",
    ),
    Fault(
        "left out: the copy of a row's batch is made anew before it is used", EXP_SUM,
        "AHEAD = 2, RING = 4;", "AHEAD = 2, RING = 2;", "test_cross_entropy",
    ),
    Fault(
        "left out: the copy of a row's batch ends with the last whole vector", EXP_SUM,
        "if (n - k * W >= W) store(at + k * W, load(x + begin + k * W));\n            else store_first(",
        "if (n - k * W >= W) store(at + k * W, load(x + begin + k * W));\n            else if (false) store_first(",
        "test_cross_entropy",
    ),
    Fault(
        "left out: the maximum has no gradient", EXP_SUM,
        "if (r->left_out == r->argmax && e->at) put(e, r->argmax, r->e_left_out.high);", "", "test_options",
    ),
    Fault(
        "left out: with smoothing and class weights it is the target", KERNELS,
        "            and (options.class_weight == NULL or not options.soft_targets)):", "            ):",
        "test_compensations::test_loss_of_the_maximum_alone",
    ),
    # ---- the sum of the exponentials ---------------------------------------------------------------------------------
    Fault(
        "exponentials: the tail of a row is skipped", EXP_SUM,
        "if (j >= classes) break;", "if (j + W > classes) break;", "test_cross_entropy",
    ),
    Fault(
        "exponentials: the sum lacks the tail of a row", EXP_SUM,
        "sum.add((first + N - 1) % VECTORS, exp.value[N - 1]);", "", "test_cross_entropy",
    ),
    Fault(
        "exponentials: the sum lacks a row's last whole vector", EXP_SUM,
        "if (classes >= N * W) sum.add_stored(", "if (false) sum.add_stored(", "test_cross_entropy",
    ),
    Fault(
        "exponentials: rows with a negative shift have none", EXP_SUM,
        "shift[i] != 0 ? row_exp_sum<T, true, true>", "shift[i] > 0 ? row_exp_sum<T, true, true>",
        "test_cross_entropy",
    ),
    Fault(
        "exponentials: rows with a negative shift have none, rows as lanes", EXP_SUM,
        "if (any_lane(row.shift != V{}))", "if (any_lane(row.shift > V{}))", "test_cross_entropy",
    ),
    Fault(
        "exponentials: what the maximum's lacks is forgotten", EXP_SUM,
        "sum.lost[0][0] = lack;", "", "test_compensations::test_cross_entropy",
    ),
    Fault(
        "exponentials: what the maximum's lacks is forgotten, rows as lanes", EXP_SUM,
        "sum.lost[0] = lack_of_rows<T>(i, row, r);", "", "test_compensations::test_cross_entropy", levels="v3",
    ),
    Fault(
        "exponentials: what the maximum's lacks is added where it is left out", EXP_SUM,
        "return select(load(r->x_left_out + i) < m, exp_of_maximum<T>(m, scale).lack, decltype(m){});",
        "return exp_of_maximum<T>(m, scale).lack;",
        "test_compensations::test_cross_entropy",
    ),
    Fault(
        "left out: a target far below underflows, float32", EXP_SUM,
        "near = max_or_nan((m - shift) - FAR, x);", "near = x;", "test_cross_entropy",
    ),
    Fault(
        "left out: a target far below underflows, float64", EXP_SUM,
        "near = max_or_nan((m - scale.shift) - FAR, x.high);", "near = x.high;", "test_cross_entropy",
    ),
    Fault(
        "left out: the distance of a target far below is lost, float32", EXP_SUM,
        "store_side(r->minus_log.high + i, near - x);", "store_side(r->minus_log.high + i, V{});", "test_cross_entropy",
    ),
    Fault(
        "left out: the distance of a target far below is lost, float64", EXP_SUM,
        "store_number(r->minus_log, i, sum_of(HighLow(near), -x));", "store_number(r->minus_log, i, HighLow());",
        "test_cross_entropy",
    ),
    Fault(
        "left out: a maximum without others has not quite the probability 1", EXP_SUM,
        "if (r->left_out == r->argmax) round_if_alone(n, r);", "", "test_special_values::test_one_class",
    ),
    Fault(
        "exponentials: lanes of the sum swapped, half of them twice", EXP_SUM,
        "sum[2 * k + 1] += widen_high_at(at);", "sum[2 * k + 1] += widen_low_at(at);", "test_cross_entropy",
    ),
    Fault(
        "exponentials: rounding errors of float32 values forgotten", EXP_SUM,
        "for (int k = 0; k < VECTORS; ++k) add(k, lost[k]);", "for (int k = 0; k < 0; ++k) add(k, lost[k]);",
        "test_compensations::test_cross_entropy",
    ),
    Fault(
        "exponentials: rounding errors of values forgotten", EXP_SUM,
        "sum.lost[(first + k) % VECTORS] += exp.error[k];", "(void)exp.error;", "test_compensations::test_cross_entropy",
    ),
    Fault(
        "exponentials: rounding errors of the float64 sum forgotten", EXP_SUM,
        "lost[k] += both.low;", "", "test_compensations::test_cross_entropy",
    ),
    # ---- the logarithm, and what the gradient is multiplied with -----------------------------------------------------
    Fault(
        "logarithm: low part of a float64 sum forgotten", CROSS_ENTROPY,
        "HighLow others = load_number<double>(r->others, i), e =", "HighLow others(load(r->others.high + i)), e =",
        "test_compensations::test_cross_entropy",
    ),
    Fault(
        "loss: rounding error of m - x_t forgotten", NUMBERS,
        "return number<T>(exact.high, known(exact.low));", "return number<T>(exact.high);", "test_compensations",
    ),
    Fault(
        "gradient: float32 factor in one part", GRADIENT,
        "low = narrow(factor0 - widen_low(high), factor1 - widen_high(high));", "low = V{};", "test_compensations",
    ),
    Fault(
        "gradient: float64 factor in one part", GRADIENT,
        "low = fma(a0, load(r->inverse.low + row), remainder_of(-factor0, -a0, inverse0));", "low = V{};", "test_compensations",
    ),
    Fault(
        "gradient at the target: low part of float64 1 - p forgotten", CROSS_ENTROPY,
        "miss = others * inverse, nll", "miss = others * number<T>(top_of(inverse)), nll",
        "test_compensations::test_cross_entropy",
    ),
    Fault(
        "smoothing with class weights: the maximum is not among the others", CROSS_ENTROPY,
        "miss = select(is_maximum, miss, (others + (e - e_t)) * inverse);", "", "test_options",
    ),
    Fault(
        "smoothing with class weights: the target has the maximum's exponential", CROSS_ENTROPY,
        "e_t = select(is_maximum, e, exp_of_target(r, i, x, m));", "", "test_options",
    ),
    Fault(
        "gradient: the tail of a row is not scaled", GRADIENT,
        "if (j < classes) store_first(g + j,", "if (false) store_first(g + j,", "test_cross_entropy",
    ),
    Fault(
        "gradient: which rows are ignored is read of the first ones, rows as lanes", GRADIENT,
        "load_targets<T>(r->targets + i)", "load_targets<T>(r->targets)",
        "test_special_values::test_ignored_rows_are_never_read",
    ),
    Fault(
        "gradient: the target's goes to another row's, rows as lanes", TARGETS,
        "(int32_t)class_or_0(classes[i]) * stride + i;", "(int32_t)class_or_0(classes[i]) * stride;", "test_cross_entropy",
    ),
    Fault(
        "gradient: the target's goes to the class before, few classes", TARGETS,
        "select(class_or_0(wanted) == (Int)j, there, load(lanes))",
        "select(class_or_0(wanted) == (Int)(j + 1), there, load(lanes))",
        "test_cross_entropy",
    ),
    # ---- the focal loss ----------------------------------------------------------------------------------------------
    Fault(
        "gradient: a row of one class is taken for rows as lanes", TARGETS,
        "if (!has_rows_as_lanes(g)) {", "if (row_stride != 1) {", "test_sanitizers::test_kernels_on_the_lowest_level",
    ),
    Fault(
        "focal: the gradient lacks the derivative of the factor", CROSS_ENTROPY,
        "power * (one + gamma * weighted(p, ratio))", "power", "test_focal",
    ),
    Fault(
        "focal: the others and the target changed places", CROSS_ENTROPY,
        "focal_factors(p, miss, nll,", "focal_factors(miss, p, nll,", "test_focal",
    ),
    Fault(
        "focal: a target that cannot occur has some probability", CROSS_ENTROPY,
        "select(top_of(nll) < FAR, e_t * inverse, N{})", "e_t * inverse", "test_focal",
    ),
    Fault(
        "focal: a factor below float32's range rounds", GRADIENT,
        "!o->soft_targets && !(o->focal_gamma > 0)", "!o->soft_targets", "test_focal",
    ),
    Fault(
        "focal: the upstream gradient is subtracted as of soft targets", GRADIENT,
        "if (o->soft_targets && !o->probabilities &&", "if (!o->probabilities &&", "test_focal",
    ),
    Fault(
        "focal: a sure row is NaN", EXP_LOG,
        "(top_of(miss) == 0.0) | (top_of(exponent) < -700.0)", "top_of(exponent) < -700.0", "test_focal",
    ),
    Fault(
        "focal: a huge exponent leaves the smallest exponential", EXP_LOG,
        "(top_of(miss) == 0.0) | (top_of(exponent) < -700.0)", "top_of(miss) == 0.0", "test_focal",
    ),
    Fault(
        "focal: the scale of what is next to nothing is forgotten", EXP_LOG,
        "select(tiny, log - log_of_scale, log)", "log", "test_focal",
    ),
    Fault(
        "focal: binary, the inverse of a subnormal number is infinite", BINARY,
        "p * miss * scale * inverse_of(others * scale)", "p * miss * inverse_of(others)", "test_focal",
    ),
    Fault(
        "focal: binary, the factor's derivative has the other sign", BINARY,
        "sign = no - yes;", "sign = yes - no;", "test_focal",
    ),
    Fault(
        "focal: smoothing beside it is not refused on the short path", SHORT,
        " and not (smoothing[0] > 0 and gamma[0] > 0)", "", "test_focal",
    ),
    # ---- targets and blends ------------------------------------------------------------------------------------------
    Fault(
        "target: negative indices are not tested", TARGETS,
        "(uint64_t)t >= (uint64_t)classes", "t >= classes", "test_errors",
    ),
    Fault(
        "target: the index C is let through", TARGETS,
        "(uint64_t)t >= (uint64_t)classes", "(uint64_t)t > (uint64_t)classes", "test_errors",
    ),
    Fault(
        "target: ignored rows are not marked", TARGETS,
        "out[i] = t | is_ignored;", "out[i] = t;", "test_options",
    ),
    Fault(
        "mean: ignored rows are counted", TARGETS,
        "count += target[i] != (I)value;", "count += 1;", "test_special_values test_options",
    ),
    Fault(
        "probabilities: 0 times infinity counts", SOFT_TARGETS,
        "gap = select(top_of(mass) == 0.0, N{}, mass * distance);", "gap = mass * distance;", "test_special_values",
    ),
    Fault(
        "probabilities: class weights forgotten in the gradient", SOFT_TARGETS,
        "if (WEIGHT) share *=", "if (false) share *=", "test_options",
    ),
    Fault(
        "probabilities: the lanes behind the last class count", SOFT_TARGETS,
        "terms.mass = select(used, terms.mass, N{});", "", "test_options",
    ),
    Fault(
        "probabilities: the tail of a row is skipped", NUMBERS,
        "if (left > 0) f(k,", "if (left >= W) f(k,", "test_options",
    ),
    Fault(
        "softmax: a rounding error is taken from memory that nobody wrote to", ACTIVATIONS,
        "store_number(r->coefficient, i + k, number<T>(F64{} + 1.0));", "store(r->coefficient.high + i + k, F64{} + 1.0);",
        "test_memory::test_scratch_may_hold_anything",
    ),
    Fault(
        "softmax: a maximum without others has not quite the probability 1", ACTIVATIONS,
        "if (alone[i] != 0)", "if (false)", "test_activations::test_a_maximum_without_others_has_the_probability_1",
    ),
    Fault(
        "softmax: a maximum without others has not quite the probability 1, rows as lanes", ACTIVATIONS,
        "if (any_lane(here))", "if (false)", "test_activations::test_a_maximum_without_others_has_the_probability_1",
    ),
    Fault(
        "softmax: what the maximum's exponential lacks is forgotten", ACTIVATIONS,
        "inverse_of(others + missing)", "inverse_of(others)", "test_compensations::test_softmax_of_sure_rows",
    ),
    Fault(
        "log_softmax: the maximum's own is not put, rows as lanes", ACTIVATIONS,
        "put(y, r->argmax, log_of_maximum);", "", "test_activations",
    ),
    # ---- exponential and logarithm -----------------------------------------------------------------------------------
    Fault(
        "exp: NaN becomes the smallest number", EXP_LOG,
        "d = max_or_nan(row.lowest, d);", "d = max_or_nan(d, row.lowest);", "test_special_values",
    ),
    Fault(
        "exp: every row is shifted, the rounding of x - m shows", EXP_LOG,
        "row.shift = select(absolute(m) < V{} + K::unshifted, V{}, m);", "row.shift = m;", "test_cross_entropy",
    ),
    Fault(
        "exp: no row is shifted", EXP_LOG,
        "row.shift = select(absolute(m) < V{} + K::unshifted, V{}, m);", "row.shift = V{};", "test_cross_entropy",
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
        "float16: truncated instead of rounded, one number at a time", HALVES,
        "(magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13", "(magnitude - 0x38000000u) >> 13", "test_dtypes",
    ),
    Fault(
        "float16: truncated instead of rounded, v3 only", HALVES,
        "_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT)", "_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_ZERO)",
        "test_dtypes",
        levels="v3 baseline",
    ),
    Fault(
        "bfloat16: truncated instead of rounded, vectors", HALVES,
        "rounded = bits + 0x7fffu + ((bits >> 16) & 1u)", "rounded = bits", "test_dtypes",
    ),
    Fault(
        "bfloat16: halves rounded up instead of to even", HALVES,
        "rounded = bits + 0x7fffu + ((bits >> 16) & 1u)", "rounded = bits + 0x8000u", "test_dtypes",
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
        "argmax: of equal maxima a later one", MAXIMUM,
        "found = (v > best) ?", "found = (v >= best) ?", "test_zero_one",
    ),
    Fault(
        "argmax: of an ignored row anything", MAXIMUM,
        "        r->argmax[i] = -1;\n", "", "test_memory::test_scratch_may_hold_anything test_sanitizers",
    ),
    Fault(
        "argmax: a NaN is passed over", MAXIMUM,
        "if (NANS && any_lane(zero != zero))", "if (NANS && any_lane(best != best))", "test_zero_one",
    ),
    Fault(
        "brier: the float64 sum's rounding errors forgotten", NUMBERS,
        "lost[k] += known(both.low) + v.low;", "lost[k] += v.low;", "test_accuracy",
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
    # ---- what a weight of 0 leaves out -------------------------------------------------------------------------------
    Fault(
        "left out: the target of such a row is looked at", TARGETS,
        "sample_weight[i] == 0 ? ignore_index : out[i];", "out[i];", "test_left_out",
    ),
    Fault(
        "left out: the gradient of such a row of probabilities stays", KERNELS,
        "                    if is_left_out(c, n + done + i):", "                    if False:", "test_left_out",
    ),
    Fault(
        "left out: long rows of probabilities are read all the same", LONG,
        "            if is_left_out(c, n):", "            if False:", "test_left_out",
    ),
    # ---- binary losses -----------------------------------------------------------------------------------------------
    Fault(
        "binary: pos_weight weighs every label", BINARY,
        "a0 = weight * no;", "a0 = weight * (pos ? no * number<T>(load(pos)) : no);", "test_binary",
    ),
    Fault(
        "binary: the error of the exponential forgotten", BINARY,
        "fma(square_low, V{} - T(0.25), fma(e.low, slope, lost))", "fma(square_low, V{} - T(0.25), lost)",
        "test_compensations",
    ),
    Fault(
        "binary: lanes behind the last score count in the sum", BINARY,
        "if (count < lanes_of<T>()) loss =", "if (false) loss =", "test_binary",
    ),
    Fault(
        "binary: weights are not tested", BINARY,
        "*bad |= ~(absolute(weight) < __builtin_inf());", "", "test_binary",
    ),
    Fault(
        "binary: labels are not tested beside weights", BINARY,
        "*bad |= ~left_out & outside;", "", "test_labels",
    ),
    Fault(
        "binary: labels are not tested without weights", BINARY,
        "least = select(y * no < least, y * no, least);", "", "test_labels",
    ),
    Fault(
        "binary: labels beside no weights are not tested, where not all is float32", BINARY,
        "} else *bad |= outside;", "}", "test_labels",
    ),
    Fault(
        "binary: labels of weight 0 are tested", BINARY,
        "*bad |= ~left_out & outside;", "*bad |= outside;", "test_left_out",
    ),
    Fault(
        "binary: the gradient of a score of weight 0 is a product with 0", BINARY,
        "if (GRAD) *grad = select(left_out, F64{}, *grad);", "", "test_left_out",
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
        "the interpreter's lock is held during a call", ENTRIES,
        "with nogil:", "if True:", "test_threads::test_other_threads_run_during_a_call",
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
        "threads: any number of them is started for a call", ENTRIES,
        "THREADS_OF_A_CALL = 1024", "THREADS_OF_A_CALL = 1000000000", "test_processes::test_threads_of_one_call_are_bounded",
    ),
    # ---- the order of the passes -------------------------------------------------------------------------------------
    Fault(
        "sum: chunks are added in the order in which they arrive", KERNELS,
        "c.chunk_loss[chunk] = loss\n",
        "c.chunk_loss[0] = c.chunk_loss[0] + loss if chunk else loss\n    if chunk:\n        c.chunk_loss[chunk] = 0\n",
        "test_layouts test_threads",
    ),
    Fault(
        "blocks follow the number of threads", KERNELS,
        "min(<Py_ssize_t>CELOSS_BLOCK_ROWS, ", "min(<Py_ssize_t>CELOSS_BLOCK_ROWS // limit, ", "test_layouts test_threads",
    ),
    Fault(
        "blocks: the last chunk is forgotten unless it is full", KERNELS,
        "chunks = (c.rows + c.chunk_rows - 1) // c.chunk_rows", "chunks = max(<Py_ssize_t>1, c.rows // c.chunk_rows)",
        "test_cross_entropy test_layouts",
    ),
    Fault(
        "blocks: losses are put one row too early from the second block on", SUMS,
        "((float*)to)[row + i]", "((float*)to)[row + i - (row ? 1 : 0)]", "test_cross_entropy",
    ),
    Fault(
        "sum: every fourth loss is left out", SUMS,
        "k < 4; ++k", "k < 3; ++k", "test_cross_entropy test_options",
    ),
    Fault(
        "stride of the logits used for the gradient", KERNELS,
        "work_in_place(c.g, outer, inner, 0, &at.g)\n",
        "work_in_place(c.g, outer, inner, 0, &at.g)\n        at.g.row_stride = at.x.row_stride\n",
        "test_layouts",
    ),
    Fault(
        "dimensions are merged that do not follow one another", ENTRIES,
        "if any(a.strides[left] != a.strides[right] * shape[right] for a in arrays):", "if False:", "test_layouts",
    ),
    Fault(
        "gradient of an ignored row is what its logits give", GRADIENT,
        "store(to, SOME_IGNORED ? without(v, ignored) : v);", "store(to, v);",
        "test_special_values::test_ignored_rows_are_never_read",
    ),
    Fault(
        "loss of an ignored row counts", CROSS_ENTROPY,
        "store(r->loss + i, select(ignored, F64{}, rounded(loss)));", "store(r->loss + i, rounded(loss));",
        "test_special_values",
    ),
    Fault(
        "rows behind an ignored one are passed over in the sums of soft targets", SOFT_TARGETS,
        "if (!r->targets || r->targets[i] >= 0) soft", "if (r->targets && r->targets[i] < 0) break;\n            else soft",
        "test_options",
    ),
    Fault(
        "rows behind an ignored one are passed over in the gradient of soft targets", GROUPS,
        "if (!targets || targets[i] >= 0) pass", "if (targets && targets[i] < 0) break;\n            else pass", "test_options",
    ),
    Fault(
        "smoothing: sign of the target's share", CROSS_ENTROPY,
        "w_t * (keep * miss + add)", "w_t * (keep * miss - add)", "test_options",
    ),
    Fault(
        "smoothing: class weights are not summed", SUMS,
        "weights = next;", "", "test_options",
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
        "smoothing: rounding error of the share forgotten", SUMS,
        "__builtin_fma(-o->add, count, smoothing) / count", "0", "test_accuracy",
    ),
    Fault(
        "upstream gradient of each row dropped", CROSS_ENTROPY,
        " * number<T>(option_of_rows(o->upstream, i, count))", "", "test_options",
    ),
    Fault(
        "upstream gradient of the reduced loss dropped", ENTRIES,
        "call.upstream / divisor", "1 / divisor", "test_options",
    ),
    Fault(
        "denominator: normalizer not looked at", ENTRIES,
        "call.normalizer if call.normalizer > 0 else denominator(c)", "denominator(c)", "test_options",
    ),
    Fault(
        "the mean of nothing leaves the gradient as it was", ENTRIES,
        "c.g.at == NULL or run_rows(c, limit, loss)", "True", "test_special_values",
    ),
    Fault(
        "smoothing: a maximum too many is counted", SOFT_TARGETS,
        "fma(F64{} + (double)classes, top, -sum)", "fma(F64{} + (double)(classes + 1), top, -sum)", "test_options",
    ),
    Fault(
        "denominator: class weights forgotten", TARGETS,
        " * weight_of_targets(targets, o, i, count)", "", "test_options",
    ),
    Fault(
        "denominator: ignored rows count with their weights", TARGETS,
        "ignored_rows(targets, i) | ", "", "test_options test_special_values",
    ),
    Fault(
        "denominator: the weight of a target out of range is read", ENTRIES,
        "read_targets(c, n, rows, target) & SEEN_OUT_OF_RANGE", "read_targets(c, n, rows, target) & 0", "test_errors",
    ),
    # ---- long rows ---------------------------------------------------------------------------------------------------
    Fault(
        "long rows: the maximum of a later piece is not seen", PIECES,
        "piece[p].maximum > piece[first].maximum", "false", "test_long_rows::test_pieces_far_below",
    ),
    Fault(
        "long rows: pieces are added in the order in which they arrive", LONG,
        "take_piece(r, piece)",
        "take_piece(r, job.piece + n * job.pieces + <Py_ssize_t>job.row[n].steps % job.pieces)\n        job.row[n].steps += 1",
        "test_layouts test_threads",
    ),
    Fault(
        "long rows: rounding errors of the merge forgotten", SUMS,
        "(*sum - (total - seen)) + (more - seen) + ", "", "test_compensations",
    ),
    Fault(
        "long rows: the last piece is one class short", LONG,
        "min(c.classes - first, ", "min(c.classes - first - (1 if first else 0), ", "test_cross_entropy",
    ),
    Fault(
        "long rows: an ignored row keeps what was in out", LONG,
        "matrix = piece_at(c.g, c, n, first)\n            clear_rows(matrix, 1, classes)", "pass", "test_special_values",
    ),
    Fault(
        "long rows: the maximum is left out of every piece that attains it", PIECES,
        "if (each.without_argmax && p != first", "if (false && p != first",
        "test_long_rows::test_equal_maxima_in_several_pieces",
    ),
    Fault(
        "long rows: pieces are added each in its own scale", PIECES,
        "others.add(product_of(e, scale));", "others.add(e);", "test_long_rows::test_pieces_far_below",
    ),
    Fault(
        "long rows: the distance of a piece's maximum to the row's is forgotten", PIECES,
        "if (below > 0 && share.high != 0) gap.add(", "if (false) gap.add(", "test_options::test_long_rows",
    ),
    Fault(
        "long rows: the factor of a piece far below is no normal number", PIECES,
        "if (power < -32) return", "if (power < -3200) return", "test_long_rows::test_pieces_far_below",
    ),
    Fault(
        "long rows: a power below the normal numbers is cut off", EXP_SUM,
        "b = (T)__builtin_ldexp(1.0, second);", "b = 1;", "test_long_rows::test_pieces_far_below",
    ),
    Fault(
        "long rows: the shift of a piece is not in its ratio", EXP_SUM,
        "const F64 d = load_count(shift + i, count) - row_shift,",
        "const F64 d = load_count(shift + i, count) - load_count(shift + i, count),",
        "test_long_rows::test_pieces_far_below",
    ),
    Fault(
        "long rows: the ratio is rounded to float32 beside the exponentials", PIECES,
        "    coefficient.high[0] = scaled.high;", "    coefficient.high[0] = (float)scaled.high;",
        "test_long_rows::test_pieces_far_below",
    ),
    Fault(
        "long rows: the ratio of a shifted piece in one part", PIECES,
        "const Exact ratio = {share, __builtin_ldexp(low, -power)};", "const Exact ratio = {share, 0 * low};",
        "test_long_rows::test_pieces_far_below",
    ),
    Fault(
        "long rows: an infinity hides the NaN of another piece", PIECES,
        "if (e.high != e.high && each.maximum < __builtin_inf()) r->loss[0] = e.high;", "",
        "test_long_rows::test_a_nan_counts_beside_an_infinity_of_another_piece",
    ),
    Fault(
        "long rows: a number of the row is lost between two passes", PIECES,
        "&Rows<T>::minus_log,", "&Rows<T>::inverse,", "test_activations",
    ),
    Fault(
        "long rows: a sum of the last piece is taken for the row's", PIECES,
        "put(GAP, gap), put(MOMENT", "put(MOMENT", "test_options::test_long_rows",
    ),
    Fault(
        "long rows: a piece has the class weights of the first one", KERNELS,
        "options.class_weight += first_class", "pass", "test_options::test_long_rows",
    ),
    Fault(
        "long rows: the exponential at the target is not computed", LONG,
        "ops_of(r).exp_left_out(1, r)", "pass", "test_cross_entropy",
    ),
    Fault(
        "long rows: the target stays in the sum of its piece", LONG,
        "if c.target != NULL and 0 <= job.target[n] - first < classes else -1", "if False else -1", "test_cross_entropy",
    ),
    Fault(
        "long rows: a piece without any number is NaN", LONG,
        "            r.maximum[0] = 0            # then all exponentials are 0, and not NaN", "            pass",
        "test_long_rows::test_pieces_without_any_number",
    ),
    Fault(
        "long rows: a piece without any number is NaN the second time", LONG,
        "            if piece.maximum == -INFINITY:\n                r.maximum[0] = 0", "            pass",
        "test_long_rows::test_pieces_without_any_number",
    ),
    Fault(
        "long rows: what smoothing needs of the logits is not summed", LONG,
        "SOFT_SUMS | EXP_SUM", "EXP_SUM", "test_options::test_long_rows",
    ),
    Fault(
        "long rows: a piece without any number has a scale", LONG,
        "high[i] = low[i] = 0", "pass", "test_long_rows::test_pieces_without_any_number",
    ),
    Fault(
        "long rows: exponentials that nobody stored are not computed again", LONG,
        "run_passes(c, n, &at, r, EXP_SUM)", "pass", "test_long_rows::test_pieces_far_below",
    ),
    # ---- the table of operations, and the memory that it asks for ----------------------------------------------------
    Fault(
        "operations: log_softmax is said to keep exponentials, and finds no logits", KERNELS,
        "log_softmax_rows[double], ROWS_AS_FEWER_LANES, True, False",
        "log_softmax_rows[double], ROWS_AS_FEWER_LANES, True, True",
        "test_activations",
    ),
    Fault(
        "operations: softmax is said to have a number for each row", KERNELS,
        " softmax_rows[double], ROWS_AS_LANES, True, True, False", " softmax_rows[double], ROWS_AS_LANES, True, True, True",
        "test_activations",
    ),
    Fault(
        "operations: the Brier score of long rows is cut into pieces", KERNELS,
        "brier_rows[double], ROWS_AS_FEWER_LANES, False", "brier_rows[double], ROWS_AS_FEWER_LANES, True", "test_brier",
    ),
    Fault(
        "scratch: no room for the exponentials in float64", KERNELS,
        "return tiles + c.does.wide_tiles", "return tiles", "test_brier",
    ),
    Fault(
        "scratch: no memory is no error", ENTRIES,
        "except? -1:", "noexcept:", "test_processes::test_no_memory_to_be_had",
    ),
    # ---- rows of activations and of the other losses -----------------------------------------------------------------
    Fault(
        "softmax_vjp: the sum is that of the upstream gradient alone", ACTIVATIONS,
        "sum.add(k, LOG ? u : ", "sum.add(k, true ? u : ", "test_vjp",
    ),
    Fault(
        "log_softmax_vjp: log-probabilities above 0 are none", ACTIVATIONS,
        "const auto beyond = (v > 0) | (", "const auto beyond = (", "test_vjp",
        levels="v3",
    ),
    Fault(
        "log_softmax_vjp: the sum in one part", ACTIVATIONS,
        "V back = fma(e, s.high, fma(e, s.low, u));", "V back = fma(e, s.high, u);", "test_vjp test_bits",
        levels="v3",
    ),
    Fault(
        "log_softmax_vjp: sums of any size are let through", ACTIVATIONS,
        "if (!(absolute(sum) > 1 / largest && absolute(sum) < largest)) return false;", "", "test_vjp",
        levels="v3",
    ),
    Fault(
        "softmax_vjp: an infinite sum has a rounding error", ACTIVATIONS,
        "number<T>(v) * sum_of(u, -sum)", "number<T>(v) * (u - sum)", "test_vjp",
    ),
    Fault(
        "logsumexp: infinities are NaN", ACTIVATIONS,
        "if (r->maximum[i] - r->maximum[i] == 0) r->loss", "if (true) r->loss", "test_activations",
    ),
    Fault(
        "brier: in rows as lanes the class of the maximum is not left out", GROUPS,
        "return load_classes(but + row) != j;", "return ~M64{};", "test_brier",
    ),
    Fault(
        "brier: in a row's last vector the lanes without a class count", GROUPS,
        "if (count < W) used =", "if (false) used =", "test_brier",
    ),
    Fault(
        "brier: the target's share of the squares forgotten", BRIER,
        "squares + select(at_maximum, N{}, one - two * p_t) + d * d", "squares + d * d", "test_brier",
    ),
    Fault(
        "brier: the upstream gradient of each row dropped", BRIER,
        " * number<T>(option_of_rows(o->upstream, i, count))", "", "test_brier",
    ),
    Fault(
        "brier: with smoothing, what stood in the tile of targets is added to them", BRIER,
        "__builtin_memset(q->at, 0,", "if (false) __builtin_memset(q->at, 0,", "test_brier",
    ),
    # ---- second derivatives ------------------------------------------------------------------------------------------
    Fault(
        "hessian: of rows that are sure and wrong nobody looks for the others", HESSIAN,
        "if (!look || r->wrong[i] == 0) return", "return", "test_hessian::test_diagonal",
    ),
    Fault(
        "hessian: of rows that are sure and wrong nobody looks for the others, rows as lanes", HESSIAN,
        "if (!look || !any_lane(any_wrong != 0.0)) {", "if (true) {", "test_hessian::test_diagonal",
    ),
    Fault(
        "hessian: the target is missing from the sum of the others", HESSIAN,
        "* shares.p[i] + r->p_left_out[i];", "* shares.p[i];", "test_hessian::test_diagonal",
    ),
    Fault(
        "hessian: the target is missing from the sum of the others, rows as lanes", HESSIAN,
        "load(shares.p + i + k) + load(r->p_left_out + i + k);", "load(shares.p + i + k);", "test_hessian::test_diagonal",
    ),
    Fault(
        "hessian: wrong is who has nine tenths", CROSS_ENTROPY,
        "< -0.7134)", "< -0.1054)", "test_hessian",
    ),
    Fault(
        "hessian: at the target as elsewhere", HESSIAN,
        "put_or_clear(h, place, r->hess_left_out);",
        "for (ptrdiff_t i = 0; i < h->rows; ++i)\n        if (place[i] < 0) clear_row(h, i);",
        "test_hessian::test_diagonal",
    ),
    Fault(
        "hessian: at the target as elsewhere, rows as lanes", HESSIAN,
        "put(h, places, r->hess_left_out);", "", "test_hessian::test_diagonal",
    ),
    Fault(
        "hessian: at the class left out as elsewhere, few classes and options", HESSIAN,
        "if (whole_rows) put(h, r->left_out, r->hess_left_out);", "", "test_hessian::test_diagonal",
    ),
    Fault(
        "hessian: an ignored row keeps what was in hess_out", HESSIAN,
        "place[i] = r->targets && r->targets[i] < 0 ? -1 : class_or_0(r->left_out[i]);",
        "place[i] = class_or_0(r->left_out[i]);", "test_special_values",
    ),
    Fault(
        "hessian: ignored rows of NaN are NaN, rows as lanes", HESSIAN,
        "store(to + j * to_stride, without(result, ignored));", "store(to + j * to_stride, result);", "test_special_values",
    ),
    Fault(
        "hessian: where all rows are ignored, what was in hess_out stays", KERNELS,
        "    if c.h.at != NULL:\n        matrix = matrix_at(c.h, outer, inner, 0)\n        clear_rows(",
        "    if False:\n        matrix = matrix_at(c.h, outer, inner, 0)\n        clear_rows(", "test_special_values",
    ),
    Fault(
        "hessian: no room for the diagonal of strided logits", KERNELS,
        "    if c.v.at != NULL or c.h.at != NULL:\n        tiles = 3", "    if c.v.at != NULL:\n        tiles = 3",
        "test_sanitizers::test_kernels_on_the_lowest_level",
    ),
    Fault(
        "hessian: a focal factor's part has the other sign", HESSIAN,
        "splat<T>((T)((1.0 + shares.bend[i])", "splat<T>((T)((1.0 - shares.bend[i])", "test_hessian::test_focal",
    ),
    Fault(
        "hessian: a focal factor's part has the other sign, rows as lanes", HESSIAN,
        "(1.0 + load(shares.bend + i + k)) * p", "(1.0 - load(shares.bend + i + k)) * p", "test_hessian::test_focal",
    ),
    Fault(
        "hessian: a focal loss has no part in what is above one half", HESSIAN,
        "miss - shares.bend[i] * (1.0 - miss)", "miss", "test_hessian::test_focal",
    ),
    Fault(
        "hessian: a focal loss has no part in what is above one half, rows as lanes", HESSIAN,
        "miss - load(shares.bend + i + k) * (1.0 - miss)", "miss", "test_hessian::test_focal",
    ),
    Fault(
        "hessian: a focal loss's part at the target has the other sign", CROSS_ENTROPY,
        "(p_t - bend * miss)", "(p_t + bend * miss)", "test_hessian::test_focal",
    ),
    Fault(
        "hessian: a focal loss's exponent counts once too often", CROSS_ENTROPY,
        "((gamma - 1.0) * slope + 2.0)", "(gamma * slope + 2.0)", "test_hessian::test_focal",
    ),
    Fault(
        "hessian: a focal factor's part may be infinite", CROSS_ENTROPY,
        "return select(bend > largest, F64{} + largest, select(bend < -largest, F64{} - largest, bend));", "return bend;",
        "test_hessian::test_focal_of_rows_that_are_sure",
    ),
    Fault(
        "hessian: a focal factor's part ends before its results do", CROSS_ENTROPY,
        "sizeof(T) == 4 ? 1e36 : 1e305", "sizeof(T) == 4 ? 1e30 : 1e300", "test_hessian::test_focal_of_rows_that_are_sure",
    ),
    Fault(
        "hessian: what goes past the cache begins with the first whole line", VECTORS,
        "some(before < n ? before : n);", "i = before < n ? before : n;", "test_hessian::test_past_the_cache",
    ),
    Fault(
        "hessian: what goes past the cache ends with the last whole line", VECTORS,
        "    some(n);\n}", "    if (!STREAM) some(n);\n}", "test_hessian::test_past_the_cache",
    ),
    Fault(
        "hessian: long rows leave out the target", KERNELS,
        "if (not options.probabilities and (at.whole_rows or not options.hessian)", "if (not options.probabilities",
        "test_hessian::test_long_rows",
    ),
    Fault(
        "hessian: a piece's exponentials are the row's", HESSIAN,
        "p[i] = r->inverse.high[i] * ratio;", "p[i] = r->inverse.high[i];", "test_hessian::test_long_rows",
    ),
    Fault(
        "hessian: the maximum of a long row is in its first piece", LONG,
        "job.argmax[n] = first * PIECE_CLASSES + ", "job.argmax[n] = ", "test_hessian::test_long_rows",
    ),
    Fault(
        "hessian: of a long row's focal loss the target is as the others", LONG,
        "if c.h.at != NULL and c.options.focal_gamma > 0:", "if False:", "test_hessian::test_focal",
    ),
    Fault(
        "hessian: a long row that is ignored keeps what was in hess_out", LONG,
        "matrix = piece_at(c.h, c, n, first)\n            clear_rows(matrix, 1, classes)", "pass", "test_special_values",
    ),
    Fault(
        "product: the last classes count nothing", HESSIAN,
        "each_wide_vector(classes - j,", "each_wide_vector(0,", "test_hessian::test_product",
    ),
    Fault(
        "product: the last classes count nothing, rows as lanes", HESSIAN,
        "for (ptrdiff_t j = 0; j < classes; j += PRODUCTS) {", "for (ptrdiff_t j = 0; j + PRODUCTS <= classes; j += PRODUCTS) {",
        "test_hessian::test_product",
    ),
    Fault(
        "product: the target is missing from the mean", HESSIAN,
        "mean += p * v - bend * above;", "", "test_hessian::test_product",
    ),
    Fault(
        "product: a focal loss has no part in the mean", HESSIAN,
        "mean += p * v - bend * above;", "mean += p * v;", "test_hessian::test_focal",
    ),
    Fault(
        "product: a focal loss has no part at the target", HESSIAN,
        "above * (p - bend * miss)", "above * p", "test_hessian::test_focal",
    ),
    Fault(
        "product: an ignored row keeps what was in out", HESSIAN,
        "if (r->targets && r->targets[i] < 0) clear_row(g, i);", "{}", "test_special_values",
    ),
    Fault(
        "product: ignored rows of NaN are NaN", HESSIAN,
        "select(ignored_rows(r->targets, i), F64{}, at_target)", "at_target", "test_special_values",
    ),
    Fault(
        "product: of a long row only the last piece counts", PIECES,
        "moment.add(product_of(number_of(each, MOMENT, exact), scale));",
        "moment = product_of(number_of(each, MOMENT, exact), scale);", "test_hessian::test_long_rows",
    ),
    Fault(
        "product: pieces add up as they are", PIECES,
        "moment.add(product_of(number_of(each, MOMENT, exact), scale));", "moment.add(number_of(each, MOMENT, exact));",
        "test_hessian::test_long_rows",
    ),
    Fault(
        "product: at the target of a long row stands its gradient", LONG,
        "job.target_apart = c.target != NULL and (c.v.at == NULL or r.left_out == r.targets)",
        "job.target_apart = c.target != NULL", "test_hessian::test_long_rows",
    ),
    Fault(
        "product: what the vector is at a long row's target is forgotten", LONG,
        "job.v_target[n] = number_at(c.v, c, n, job.target[n], &kind)", "pass", "test_hessian::test_long_rows",
    ),
    Fault(
        "binary: second derivatives without the upstream gradient", BINARY,
        "factor.times(product, product_low)", "common.times(product, product_low)", "test_hessian::test_binary",
    ),
    Fault(
        "binary: weighted second derivatives without the upstream gradient", BINARY,
        "rounded(curvature * up)", "rounded(curvature)", "test_hessian::test_binary",
    ),
    Fault(
        "binary: second derivatives without the weight of the positive", BINARY,
        "curvature = (a0 + a1) * (p * miss)", "curvature = weight * (p * miss)", "test_hessian::test_binary",
    ),
    Fault(
        "binary: the focal factor's second derivative has the other sign", BINARY,
        "s * (miss - p) + (gamma", "s * (p - miss) + (gamma", "test_hessian::test_binary_focal",
    ),
    Fault(
        "binary: the second derivative of a weight of 0 is NaN", BINARY,
        "*hess = select(left_out, F64{}, *hess);", "{}", "test_special_values",
    ),
    Fault(
        "arguments: an out that overlaps the vector is let through", OUTPUTS,
        'beside_out = {**inputs, "vector": second}', "pass", "test_errors",
    ),
    Fault(
        "arguments: a hess_out that overlaps out is let through", OUTPUTS,
        'beside_out = {**inputs, "hess_out": second}', "pass", "test_errors",
    ),
    Fault(
        "arguments: a hess_out that overlaps what is given is let through", OUTPUTS,
        'as_out(second, logits, given, inputs, called="hess_out")', 'as_out(second, logits, given, {}, called="hess_out")',
        "test_errors",
    ),
    Fault(
        "arguments: a vector of another shape is let through", OUTPUTS,
        "if vector.shape != logits.shape:", "if vector.size != logits.size:", "test_errors",
    ),
    Fault(
        "short path: an out that overlaps the vector or hess_out is let through", SHORT,
        "<cnp.ndarray>grad, (target, weight, sample_weight, grad_output, second))",
        "<cnp.ndarray>grad, (target, weight, sample_weight, grad_output))", "test_errors",
    ),
    Fault(
        "short path: a hess_out that overlaps the weights is let through", SHORT,
        "<cnp.ndarray>hess, (target, weight, sample_weight, grad_output))",
        "<cnp.ndarray>hess, (target, sample_weight, grad_output))", "test_short_paths",
    ),
    Fault(
        "short path: a hess_out of scores that overlaps the labels is let through", SHORT,
        "<cnp.ndarray>hess, (target, weight, pos_weight, grad_output))",
        "<cnp.ndarray>hess, (weight, pos_weight, grad_output))", "test_short_paths",
    ),
    Fault(
        "short path: a vector of another shape is let through", SHORT,
        "not same_shape(<cnp.ndarray>vector, x)", "cnp.PyArray_SIZE(<cnp.ndarray>vector) != cnp.PyArray_SIZE(x)", "test_errors",
    ),
    Fault(
        "short path: a vector that is a list goes on to the general path", SHORT,
        "row_weight, upstream = array_of(weight), array_of(sample_weight), array_of(grad_output)\n"
        "    vector = array_of(second)",
        "row_weight, upstream = array_of(weight), array_of(sample_weight), array_of(grad_output)\n"
        "    vector = second", "test_short_paths",
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
    # ---- language models ---------------------------------------------------------------------------------------------
    Fault(
        "soft cap: the low part of the argument is forgotten", SOFTCAP,
        "const V low = select(beyond, V{}, fma(", "const V low = select(beyond, V{}, V{} * fma(",
        "test_language_options::test_slope_of_any_cap", "v3",
    ),
    Fault(
        "soft cap: the slope is formed by subtraction", SOFTCAP,
        "e * inverse * inverse * of.four_scales)", "(V{} + T(1) - tanh * tanh) * (of.four_scales * T(0.25)))", "test_exp_log",
    ),
    Fault(
        "soft cap: -inf is a number", SOFTCAP,
        "select(size == sure, x, select(x < V{}, -value, value))", "select(x < V{}, -value, value)", "test_language_options",
    ),
    Fault(
        "soft cap: the slope of a sure logit is that of the clamp", SOFTCAP,
        "select(beyond, V{}, e * inverse", "select(product < V{} - T(1e9), V{}, e * inverse", "test_language_options",
    ),
    Fault(
        "soft cap: a scale of 1 is taken for every other", SOFTCAP,
        "const double ratio = -2 * scale / c;", "const double ratio = -2 / c;", "test_language_options",
    ),
    Fault(
        "soft cap: ignored rows are multiplied", SOFTCAP,
        "if (targets && targets[i] < 0) continue;", "", "test_language_options",
    ),
    Fault(
        "soft cap: ignored rows as lanes are multiplied", SOFTCAP,
        "const auto ignored = targets ? load_targets<T>(targets + i) < 0 : typename VectorOf<T>::M{};",
        "const auto ignored = typename VectorOf<T>::M{};", "test_language_options",
    ),
    Fault(
        "scale: the gradient is that of scaled logits", ENTRIES,
        "c.options.factor *= c.logit_scale", "pass", "test_language_options",
    ),
    Fault(
        "scale: long rows take the target unscaled", LONG,
        "    soften(c, &one, &one, &beside, <Rows[real]*>NULL)\n", "", "test_language_options",
    ),
    Fault(
        "soft cap: long rows forget the slope at the target", LONG,
        "<real>job.at_target[n] * <real>job.slope_target[n])", "<real>job.at_target[n])", "test_language_options",
    ),
    Fault(
        "soft cap: exponentials of long rows wait where logits stand", LONG,
        "is_direct(c.g, &kind) and not c.softens", "is_direct(c.g, &kind)", "test_language_options",
    ),
    Fault(
        "z-loss: the target's share is forgotten", CROSS_ENTROPY,
        "at_target = sum_of(at_target, slope * p_target);", "", "test_language_options",
    ),
    Fault(
        "z-loss: the gradient has half of it", CROSS_ENTROPY,
        "slope = up * (z + z) * log_sum;", "slope = up * z * log_sum;", "test_language_options",
    ),
    Fault(
        "z-loss: it counts sample weights not", CROSS_ENTROPY,
        "loss = sum_of(loss, weighted(s * z, log_sum * log_sum));", "loss = sum_of(loss, weighted(z, log_sum * log_sum));",
        "test_language_options",
    ),
    Fault(
        "z-loss: a target far below is taken where it stands", CROSS_ENTROPY,
        "const M64 far = m - x > FAR;", "const M64 far{};", "test_language_options",
    ),
    Fault(
        "statistics: the target counts as above itself", STATISTICS,
        "r->rank[i] = count_above(row, x->classes, row[r->targets[i]]);",
        "r->rank[i] = count_above(row, x->classes, row[r->targets[i]]) + 1;",
        "test_language_models",
    ),
    Fault(
        "statistics: the class left out in scratch counts as far below", STATISTICS,
        "return without(-e * max_or_nan(splat<T>(T(-1024)), x - m), x == minus_infinity<T>());",
        "return -e * max_or_nan(splat<T>(T(-1024)), x - m);", "test_language_models",
    ),
    Fault(
        "statistics: the entropy lacks the logarithm", STATISTICS,
        "put(r->entropy, sum_of(spread, minus_log));", "put(r->entropy, spread);", "test_language_models",
    ),
    Fault(
        "statistics: ignored rows have a prediction", STATISTICS,
        "if (r->targets[i] < 0) r->argmax[i] = -1;", "", "test_language_models",
    ),
    Fault(
        "statistics: rank and prediction go by the capped logits", KERNELS,
        "    ops.ranks(&x, r)\n    if c.softens and",
        "    soften(c, &x, &at.q, &at.slope, <Rows[real]*>NULL)\n    ops.ranks(&x, r)\n    if c.softens and",
        "test_language_models",
    ),
    Fault(
        "divergence: no series near 0", DIVERGENCE,
        "const M64 near = absolute(d) <= NEAR<T>, none = q == 0.0;", "const M64 near = absolute(d) < 0.0, none = q == 0.0;",
        "test_language_models",
    ),
    Fault(
        "divergence: a class of no probability makes NaN", DIVERGENCE,
        "term = select(none, p, term);", "", "test_language_models",
    ),
    Fault(
        "divergence: the gradient is not divided by the temperature", DIVERGENCE,
        "const F64 factor = inverse_temperature * o->factor * s * up;", "const F64 factor = o->factor * s * up;",
        "test_language_models",
    ),
    Fault(
        "divergence: rows of weight 0 count", DIVERGENCE,
        "weighted_loss = select(s == 0.0, F64{}, s * loss);", "weighted_loss = s * loss;", "test_language_models",
    ),
    Fault(
        "chain rule: what bends is forgotten", CHAIN_RULE,
        "hess * u.slope**2 + gradient_by_u * u.bend", "hess * u.slope**2", "test_language_options",
    ),
    Fault(
        "chain rule: the square of logsumexp lacks p p^T", CHAIN_RULE,
        "added = p * mean + log_sum * p * (vector - mean)", "added = log_sum * p * (vector - mean)", "test_language_options",
    ),
    # ---- arguments ---------------------------------------------------------------------------------------------------
    Fault(
        "arguments: infinite and NaN weights are let through", ARGUMENTS,
        "else (array >= 0) & (array < np.inf)", "else ~(array < 0)", "test_errors",
    ),
    Fault(
        "arguments: rows with several ones are one-hot", ROW_ARGUMENTS,
        "good = (array != 0).sum(axis=axis) == 1", "good = (array != 0).any(axis=axis)", "test_labels",
    ),
    Fault(
        "arguments: normalizer=0 is taken where something counts", ARGUMENTS,
        "if count := counting():", "if (count := counting()) < 0:", "test_left_out",
    ),
    Fault(
        "arguments: an out that overlaps the logits is let through", OUTPUTS,
        "if out is not given and overlap(out, given) and not same_elements(out, given):", "if False:", "test_errors",
    ),
    Fault(
        "arguments: an out that overlaps itself is let through", OUTPUTS,
        "if _overlaps_itself(out):", "if False:", "test_errors",
    ),
    Fault(
        "arguments: negative axes count from the front", ARGUMENTS,
        "return number % ndim", "return abs(number)", "test_layouts test_options",
    ),
    Fault(
        "arguments: unsigned targets wrap around", ROW_ARGUMENTS,
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
    # ---- short paths, criteria ---------------------------------------------------------------------------------------
    Fault(
        "short path: the sample weights are forgotten", SHORT,
        "c.options.sample_weight = <const double*>", "keep = <const double*>", "test_options",
    ),
    Fault(
        "short path: the normalizer is forgotten", SHORT,
        "call.reduction < 0 or not is_normalizer(normalizer, &call.normalizer)", "call.reduction < 0", "test_options",
    ),
    Fault(
        "short path: the smoothing is forgotten", SHORT,
        "set_smoothing(&c.options, smoothing, c.classes)", "set_smoothing(&c.options, 0, c.classes)", "test_options",
    ),
    Fault(
        "short path: an out that overlaps the weights is let through", SHORT,
        "<cnp.ndarray>grad, (target, weight, sample_weight, grad_output, second))",
        "<cnp.ndarray>grad, (target, sample_weight, grad_output, second))", "test_errors",
    ),
    Fault(
        "short path: an out that overlaps strided labels is let through", SHORT,
        "            or (cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>given) and apart(out, <cnp.ndarray>given)))",
        "            or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>given) or apart(out, <cnp.ndarray>given))", "test_errors",
    ),
    Fault(
        "short path: weights that are none are let through", SHORT,
        "if not (least <= weight[i] < INFINITY and weight[i] > -INFINITY):", "if False:", "test_errors",
    ),
    Fault(
        "short path: weights of classes may be negative", SHORT,
        "class_weight), c.classes, 0)", "class_weight), c.classes, -INFINITY)", "test_errors",
    ),
    Fault(
        "short path: it is taken whatever the axis", SHORT,
        "type(axis) is int and (axis == -1 or axis == ndim - 1)", "type(axis) is int", "test_layouts",
    ),
    Fault(
        "short path: unsigned integers beyond int64 become negative", SHORT,
        "            if at[i] < 0:", "            if False:", "test_short_paths",
    ),
    Fault(
        "short path: ignore_index beside probabilities is let through", SHORT,
        " or c.ignore_index != IGNORED_BY_DEFAULT", "", "test_short_paths",
    ),
    Fault(
        "short path: a target out of range is returned as a loss", SHORT,
        "return None if type(result) is int else result", "return result", "test_errors",
    ),
    Fault(
        "short path: the upstream gradient of scores is forgotten", SHORT,
        "set_plain_operand(&s.upstream, <cnp.ndarray>upstream, STORED_FLOAT64)", "pass", "test_short_paths",
    ),
    Fault(
        "short path: a weight for each row of scores is read along the columns", SHORT,
        "add_dimension(operand, cnp.PyArray_DIM(like, d), 0)",
        "add_dimension(operand, cnp.PyArray_DIM(like, d), cnp.PyArray_ITEMSIZE(a))", "test_short_paths",
    ),
    Fault(
        "short path: lists go on to the general path", SHORT,
        "array_of_list(value) if is_list(value) else None", "None", "test_short_paths",
    ),
    Fault(
        "short path: the gradient of a vjp may be missing", SHORT,
        "if (not is_plain_scores(gradient) or not same_shape", "if (not same_shape", "test_errors",
    ),
    # ---- results in kept blocks --------------------------------------------------------------------------------------
    Fault(
        "kept: a block that is taken can be taken again", KEPT,
        "found = kept.remove(best);", "found = kept.blocks[best];", "test_kept",
    ),
    Fault(
        "kept: no lock around the taking of a block", KEPT,
        "std::lock_guard<std::mutex> lock(kept.mutex);\n        int best", "int best", "test_sanitizers::test_kept_blocks",
    ),
    Fault(
        "kept: a block serves a tenth of its size", KEPT,
        "size / 2 <= bytes && ", "size / 10 <= bytes && ", "test_kept",
    ),
    Fault(
        "kept: the system may not take what is kept", KEPT,
        "    leave_to_system(block);  // before another thread can have it\n", "", "test_kept",
    ),
    Fault(
        "kept: the bytes are not bounded", KEPT,
        "    kept.remove_beyond(kept.most_bytes - block.bytes, &leaving);\n", "", "test_kept",
    ),
    Fault(
        "kept: a block stays however often it is passed over", KEPT,
        "if (++kept.passes[i] >= MOST_PASSES)", "if (false)", "test_kept",
    ),
    Fault(
        "kept: a larger array loses its data", KEPT,
        "    memcpy(moved, at, old.bytes - DATA_OFFSET);\n", "", "test_kept",
    ),
    Fault(
        "kept: a smaller array keeps all its memory", KEPT,
        "if (size <= old.bytes / 2 && unmap(", "if (false && unmap(", "test_kept",
    ),
    Fault(
        "kept: blocks are kept across a fork", KEPT,
        "            kept.remove_beyond(0, &leaving);\n        },", "        },", "test_kept",
    ),
    Fault(
        "kept: a block that a fork has shared is kept", KEPT,
        "block_bytes <= most_bytes && born == forks", "block_bytes <= most_bytes", "test_kept",
    ),
    Fault(
        "kept: a forked child finds the lock taken", KEPT,
        "[] { kept.mutex.unlock(); }, [] { kept.mutex.unlock(); });", "[] { kept.mutex.unlock(); }, [] {});", "test_kept",
    ),
    Fault(
        "results: a handler of the user is replaced", RESULTS,
        "return <void*>handler == PyDataMem_DefaultHandler", "return True", "test_kept",
    ),
    Fault(
        "results: the handler stays set", RESULTS,
        "        return np.empty(shape, dtype)\n    finally:\n        PyDataMem_SetHandler(before)",
        "        return np.empty(shape, dtype)\n    finally:\n        pass", "test_kept",
    ),
    Fault(
        "results: CELOSS_KEEP_RESULTS is not looked at", CONFIG,
        'asked = os.environ.get("CELOSS_KEEP_RESULTS", "").strip()', 'asked = ""', "test_kept",
    ),
    Fault(
        "general path: any failure in the kernel is tried a second time", GENERAL,
        "    found = _kernels.loss_of_rows(operation, arguments)\n",
        "    try:\n        found = _kernels.loss_of_rows(operation, arguments)\n"
        "    except:\n        found = _kernels.loss_of_rows(operation, arguments)\n",
        "test_processes::test_keyboard_interrupt_during_a_call",
    ),
    Fault(
        "losses: a function that cannot be pickled", LOSSES,
        "def brier_score(",
        "cross_entropy_with_grad = (lambda f: lambda *a, **k: f(*a, **k))(cross_entropy_with_grad)\n\n\ndef brier_score(",
        "test_processes::test_pools_of_new_processes",
    ),
    Fault(
        "criteria: a module is imported in the call", CRITERIA,
        "array: NDArray[Any] = logits if",
        "from celoss._arguments import as_array\n\n        array: NDArray[Any] = logits if",
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
    Fault(
        "boosting: margins by columns lose their weights", BOOSTING,
        'return margins.T, target.T, {"axis": 0, **options}',
        'return margins.T, target.T, {"axis": 0, **options, "sample_weight": None}',
        "test_boosting::test_lightgbm_trains_as_with_its_own_objective",
    ),
    Fault(
        "boosting: one library's curvature for both", BOOSTING,
        'hess *= 2 if self.library == "xgboost" else classes / (classes - 1)', "hess *= 2", "test_boosting",
    ),
    Fault(
        "boosting: a focal loss's curvature may be negative", BOOSTING,
        "np.maximum(hess, _LEAST_CURVATURE, out=hess)", "pass", "test_boosting",
    ),
    Fault(
        "boosting: the mean of a binary metric is that of the rows", BOOSTING,
        'options["normalizer"] = np.sum(weights, dtype=np.float64)', "pass", "test_boosting",
    ),
    Fault(
        "linear: the mean of a chunk is that of its rows", LINEAR,
        "(1.0 if upstream is None else upstream) / call.divisor", "(1.0 if upstream is None else upstream)", "test_linear",
    ),
    Fault(
        "linear: the mean's denominator knows no class weights beside sample weights", LINEAR_ARGUMENTS,
        "shares = sample_weight[kept] * (1.0 if shares is None else shares)", "shares = sample_weight[kept]", "test_linear",
    ),
    Fault(
        "linear: rows of weight 0 are multiplied", LINEAR_ARGUMENTS,
        "counts &= row_weight != 0", "pass", "test_linear::test_left_out_rows",
    ),
    Fault(
        "linear: every row that counts is copied", LINEAR_ARGUMENTS,
        "rows[-1] - rows[0] + 1 > rows.size", "True", "test_linear::test_rows_are_not_copied_needlessly",
    ),
    Fault(
        "linear: the last chunk's gradient of the weights is all there is", LINEAR,
        "self.sum[part] += product", "self.sum[part] = product", "test_linear",
    ),
    Fault(
        "linear: halves are summed up in halves", LINEAR,
        "if gradient is not None and gradient.dtype != self.dtype and chunks > 1:", "if False:", "test_linear",
    ),
    Fault(
        "linear: half-precision weights are cast at once", LINEAR,
        "step = max(_FEWEST_CLASSES,", "step = max(1_000_000,", "test_linear::test_memory",
    ),
    Fault(
        "linear: a target out of range is found by the chunk it is in", LINEAR_ARGUMENTS,
        "if (counts & ((indices < 0) | (indices >= classes))).any():", "if False:",
        "test_linear::test_a_target_out_of_range",
    ),
    Fault(
        "linear: gradients may share memory", LINEAR_ARGUMENTS,
        'others = call.inputs | {f"out.{other}": array for other, array in found.items()}', "others = call.inputs",
        "test_linear::test_out_that_overlaps",
    ),
]  # fmt: skip
