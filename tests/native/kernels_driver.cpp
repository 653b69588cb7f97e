// kernels_driver.cpp: the pipelines of _kernels.pyx as Cython translates them, and the copies, scores and targets of the tables
// that they call, on memory of exactly the size that src/simd/contract.h and the kernels ask for.
//
// No interpreter: the translation is included here; what it calls of Python is left unresolved by the linker, and would end the
// program. The order of the passes stands nowhere in this file. Built with the sanitizers by tests/test_sanitizers.py. Prints
// how many calls were made. Each buffer lies against a page that faults and the rest of its own page is poisoned, so that also
// what the sanitizer does not see (masked loads and stores are builtins to it) ends the program. What no pass has written yet is
// garbage.
#include "threads/pool.h"

// The kernels' pool: the real one, but that scratch is guarded.
static bool run_with_guarded_scratch(PoolWork work, void* context, ptrdiff_t blocks, int threads, size_t scratch_bytes);
#define celoss_pool_run run_with_guarded_scratch
#include "_kernels.cpp"
#undef celoss_pool_run

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

// A name of _kernels.pyx as Cython writes it: v a variable, t a type, f a function, e a value of an enum.
#define OF_KERNELS(kind, name) __pyx_##kind##_6celoss_8_kernels_##name

namespace {

typedef OF_KERNELS(t, Call) Call;
typedef OF_KERNELS(t, LossCall) LossCall;
typedef OF_KERNELS(t, ScoresCall) ScoresCall;
typedef OF_KERNELS(t, Operand) Operand;

constexpr int OPERATIONS = sizeof OF_KERNELS(v, operations) / sizeof *OF_KERNELS(v, operations);
enum { ALL_STEPS = OF_KERNELS(e, ALL_STEPS) };

[[noreturn]] void fail(const char* what) {
    fprintf(stderr, "%s\n", what);
    abort();
}

// ---- memory ------------------------------------------------------------------------------------------------------------

bool at_end = true;  // buffers end where their memory ends; else they begin where it begins

// Memory of one buffer at a time, between two pages that fault.
class Guarded {
public:
    explicit Guarded(size_t most) {
        page = (size_t)sysconf(_SC_PAGESIZE);
        size = (most + page - 1) / page * page;
        char* all = (char*)mmap(nullptr, size + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all, page, PROT_NONE) || mprotect(all + page + size, page, PROT_NONE))
            fail("no guarded memory");
        begin = used = all + page;
        ASAN_POISON_MEMORY_REGION(begin, size);
    }
    // Room for so many bytes of garbage: huge numbers in every type, and no class that exists.
    char* bytes(size_t n, size_t alignment = 1) {
        if (n > size) fail("a buffer is larger than its memory");
        const size_t slack = (size_t)used % 8;  // what shares 8 bytes with the first one is not poisoned along with it
        ASAN_POISON_MEMORY_REGION(used - slack, (slack + used_bytes + 7) / 8 * 8);
        used = at_end ? begin + (size - n) / alignment * alignment : begin;
        used_bytes = n;
        ASAN_UNPOISON_MEMORY_REGION(used, n);
        memset(used, 0x5a, n);
        return used;
    }
    template <class T> T* room(ptrdiff_t n) { return (T*)bytes((size_t)n * sizeof(T)); }
    // The same, filled with `value(i)`.
    template <class T, class F> T* room(ptrdiff_t n, F value) {
        T* at = room<T>(n);
        for (ptrdiff_t i = 0; i < n; ++i) at[i] = value(i);
        return at;
    }

private:
    char *begin, *used;
    size_t size, page, used_bytes = 0;
};

const size_t MOST_OF_ARRAYS = (size_t)1 << 26, MOST = (size_t)1 << 24, MOST_OF_ROWS = (size_t)1 << 16;
Guarded for_x(MOST_OF_ARRAYS), for_g(MOST_OF_ARRAYS), for_g2(MOST_OF_ARRAYS), for_q(MOST_OF_ARRAYS);
Guarded for_v(MOST_OF_ARRAYS), for_h(MOST_OF_ARRAYS), for_h2(MOST_OF_ARRAYS);
Guarded for_slope(MOST), for_exponentials(MOST), for_logsumexp(MOST), for_entropy(MOST), for_rank(MOST), for_prediction(MOST);
Guarded for_wide(MOST), for_class_weight(MOST), for_workspace(MOST);
Guarded for_x_offsets(MOST_OF_ROWS), for_g_offsets(MOST_OF_ROWS), for_g2_offsets(MOST_OF_ROWS), for_q_offsets(MOST_OF_ROWS);
Guarded for_v_offsets(MOST_OF_ROWS), for_h_offsets(MOST_OF_ROWS), for_h2_offsets(MOST_OF_ROWS);
Guarded for_sample_weight(MOST), for_upstream(MOST), for_target(MOST), for_row_loss(MOST), for_row_loss2(MOST);

struct Guarding {
    PoolWork work;
    void* context;
    size_t bytes;
};
void work_with_guarded_scratch(void* guarding, ptrdiff_t block, void*) {
    static thread_local Guarded scratch(MOST);
    const Guarding* of = (const Guarding*)guarding;
    of->work(of->context, block, scratch.bytes(of->bytes, alignof(double)));
}

// ---- numbers -----------------------------------------------------------------------------------------------------------

// A fixed series: each level, and each run, sees the same calls.
struct Draws {
    uint64_t state = 1;
    ptrdiff_t below(ptrdiff_t n) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (ptrdiff_t)((state >> 33) % (uint64_t)n);
    }
    bool one_of(ptrdiff_t n) { return below(n) == 0; }
} draws;

long calls = 0;

double logit(ptrdiff_t i) { return (double)((i * 7919) % 201 - 100) / 16; }
double share(ptrdiff_t i) { return (double)((i * 7919) % 101) / 100; }
double label(ptrdiff_t i) { return (double)((i * 7919) % 3 == 1); }
// Logits that take the other ways: rows of large ones, and infinite ones and NaN among others.
double wild(ptrdiff_t i) {
    const double odd[] = {INFINITY, -INFINITY, NAN, 900, -900};
    return i % 173 < 5 ? odd[i % 173] : i % 500 < 250 ? 400 + logit(i) : logit(i);
}
typedef double (*Values)(ptrdiff_t);

ptrdiff_t size_of(int storage) {
    return storage == STORED_INT8 || storage == STORED_UINT8         ? 1
           : storage == STORED_FLOAT16 || storage == STORED_BFLOAT16 ? 2
           : storage == STORED_FLOAT64 || storage == STORED_INT64    ? 8
                                                                     : 4;
}

template <class U> void put_as(char* to, U value) { memcpy(to, &value, sizeof value); }
void put_number(char* to, int storage, double value) {
    const float as_float = (float)value;
    uint32_t bits;
    memcpy(&bits, &as_float, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    switch (storage) {
    case STORED_FLOAT32: return put_as(to, as_float);
    case STORED_FLOAT64: return put_as(to, value);
    case STORED_BFLOAT16: return put_as(to, (uint16_t)(bits >> 16));
    case STORED_FLOAT16:  // cut off; no subnormal numbers
        if (magnitude >= 0x7f800000u) return put_as(to, (uint16_t)(sign | 0x7c00u | (magnitude > 0x7f800000u)));
        return put_as(to, (uint16_t)(sign | (magnitude ? (magnitude >> 13) - (112u << 10) : 0u)));
    case STORED_INT8: return put_as(to, (int8_t)value);
    case STORED_UINT8: return put_as(to, (uint8_t)value);
    case STORED_INT32: return put_as(to, (int32_t)value);
    default: return put_as(to, (int64_t)value);
    }
}

// As many bytes of such numbers.
void fill(char* to, size_t bytes, int storage, Values values) {
    const ptrdiff_t size = size_of(storage), period = 173 * 5;
    size_t filled = 0;
    for (ptrdiff_t i = 0; i < period && filled + (size_t)size <= bytes; ++i, filled += (size_t)size)
        put_number(to + filled, storage, values(i));
    for (size_t n; filled < bytes && filled; filled += n) {
        n = bytes - filled < filled ? bytes - filled : filled;
        memcpy(to + filled, to, n);
    }
}
template <class T> constexpr int storage_of() { return sizeof(T) == 8 ? STORED_FLOAT64 : STORED_FLOAT32; }
template <class T> T* numbers(Guarded& memory, ptrdiff_t n, Values values) {
    T* at = memory.room<T>(n);
    fill((char*)at, (size_t)n * sizeof(T), storage_of<T>(), values);
    return at;
}

// ---- the passes of an operation, over one tile -------------------------------------------------------------------------

// Back through an activation: its upstream gradient stands where others have probabilities.
bool is_vjp(int operation) { return operation == OF_KERNELS(e, SOFTMAX_VJP) || operation == OF_KERNELS(e, LOG_SOFTMAX_VJP); }
bool is_activation(int operation) {
    return operation == OF_KERNELS(e, SOFTMAX) || operation == OF_KERNELS(e, LOG_SOFTMAX) ||
           operation == OF_KERNELS(e, LOGSUMEXP) || is_vjp(operation);
}
bool is_statistics(int operation) { return operation == OF_KERNELS(e, STATISTICS); }
// Of two arrays of logits, the second of which stands where others have probabilities.
bool is_divergence(int operation) { return operation == OF_KERNELS(e, KL_DIVERGENCE); }
// A number for each row, and nothing for each logit.
bool has_no_result(int operation) {
    return operation == OF_KERNELS(e, ZERO_ONE) || operation == OF_KERNELS(e, LOGSUMEXP) || is_statistics(operation);
}

void run_steps(Call* c, ptrdiff_t n, const Workplace<float>* at, Rows<float>* r, int steps) {
    c->does->floats(c, n, at, r, steps);
    ++calls;
}
void run_steps(Call* c, ptrdiff_t n, const Workplace<double>* at, Rows<double>* r, int steps) {
    c->does->doubles(c, n, at, r, steps);
    ++calls;
}

// In what a call of an operation may differ from another one on the same rows.
struct Choice {
    enum { INDICES, PROBABILITIES, NO_TARGETS } targets;
    enum { NO_RESULT, IN_PLACE, ELSEWHERE } result;
    bool class_weight, smoothing, row_options, one_step_at_a_time;
    enum { NEITHER, DIAGONAL, DIAGONAL_IN_PLACE, PRODUCT } second;  // derivatives; in place: of the logits
    enum { ALL = 3 * 3 * 16 * 4 };
};
Choice choice_of(int number) {
    const int flags = number / 9 % 16;
    return {(decltype(Choice::targets))(number % 3),
            (decltype(Choice::result))(number / 3 % 3),
            (flags & 1) != 0,
            (flags & 2) != 0,
            (flags & 4) != 0,
            (flags & 8) != 0,
            (decltype(Choice::second))(number / 144)};
}

// Whether there is such a call; of activations options are left out, since they make no difference.
bool is_call(int operation, const Choice& choice) {
    const auto& does = OF_KERNELS(v, operations)[operation];
    if (!does.has_losses && choice.result == Choice::NO_RESULT) return false;
    if (has_no_result(operation) && choice.result != Choice::NO_RESULT) return false;
    if (choice.one_step_at_a_time && !does.in_pieces) return false;
    if (choice.second && (operation != OF_KERNELS(e, CROSS_ENTROPY) || choice.result == Choice::NO_RESULT)) return false;
    if (choice.second == Choice::DIAGONAL_IN_PLACE && choice.result == Choice::IN_PLACE) return false;  // that is the gradient's
    if (is_activation(operation))
        return choice.targets == (is_vjp(operation) ? Choice::PROBABILITIES : Choice::NO_TARGETS) && !choice.class_weight &&
               !choice.smoothing && !choice.row_options;
    if (is_statistics(operation))
        return choice.targets == Choice::INDICES && !choice.class_weight && !choice.smoothing && !choice.row_options;
    if (is_divergence(operation)) return choice.targets == Choice::PROBABILITIES && !choice.class_weight && !choice.smoothing;
    return choice.targets != Choice::NO_TARGETS || does.in_pieces;  // a piece of a long row has no targets
}

// What stands in a call's options beside probabilities, for `rows` rows.
void set_options(Call* c, const Choice& choice, ptrdiff_t rows) {
    if (choice.class_weight) c->options.class_weight = numbers<double>(for_class_weight, c->classes, share);
    if (choice.row_options) {
        c->options.sample_weight = numbers<double>(for_sample_weight, rows, share);
        c->options.upstream = numbers<double>(for_upstream, rows, logit);
    }
    c->options.probabilities = choice.targets == Choice::PROBABILITIES;
    set_smoothing(&c->options, choice.smoothing ? 0.1 : 0.0, c->classes);
    c->options.hessian = choice.second == Choice::DIAGONAL || choice.second == Choice::DIAGONAL_IN_PLACE;
    if (choice.targets == Choice::INDICES && !choice.smoothing && draws.one_of(3)) c->options.focal_gamma = 2;
    if (!choice.second && draws.one_of(3)) c->options.z_loss = 0.01;
    c->temperature = draws.one_of(2) ? 1 : 2.5;
}

// Logits times a scale, or under a cap, where an operation knows them.
void set_softening(Call* c, int operation, const Choice& choice) {
    if (choice.second || !(operation == OF_KERNELS(e, CROSS_ENTROPY) || is_statistics(operation)) || draws.one_of(2)) return;
    c->logit_scale = draws.one_of(2) ? 1 : 0.75;
    c->softcap = c->logit_scale != 1 && draws.one_of(2) ? 0 : 5;
    c->softens = true;
}

// A tile of the user's array: rows apart, or in the other direction.
template <class T> Tile<T> tile_in_place(Guarded& memory, ptrdiff_t rows, ptrdiff_t classes, Values values) {
    const ptrdiff_t stride = classes + draws.below(3), n = (rows - 1) * stride + classes;
    T* at = numbers<T>(memory, n, values);
    if (draws.one_of(3)) return {at + (rows - 1) * stride, -stride, 1, rows, classes};
    return {at, stride, 1, rows, classes};
}

template <class T> void run_tile(int operation, ptrdiff_t rows, ptrdiff_t classes, bool lanes, const Choice& choice) {
    const ptrdiff_t n = draws.below(4), in_tile = numbers_of_tile(rows, classes, lanes);
    const Values values = draws.one_of(3) ? wild : logit;
    LossCall call;
    Call* c = &call.rows;
    OF_KERNELS(f, begin)(&call, operation, n + rows, classes);
    set_options(c, choice, n + rows);

    // What is not there is room for nothing.
    const bool has_q = choice.targets == Choice::PROBABILITIES || (c->does->one_hot && choice.smoothing);
    Workplace<T> at;
    at.first_class = 0;
    at.whole_rows = !choice.one_step_at_a_time;  // else as a piece
    at.ratio = at.whole_rows ? 1 : 0.75;
    at.stream = at.has_maxima = false;
    at.ahead = {nullptr, nullptr, nullptr, nullptr, 0};
    if (is_statistics(operation)) set_softening(c, operation, choice);
    at.q = tile_at(numbers<T>(for_q, has_q || is_statistics(operation) ? in_tile : 0, share), rows, classes, lanes);
    at.slope = tile_at(numbers<T>(for_slope, in_tile, share), rows, classes, lanes);
    if (operation != OF_KERNELS(e, CROSS_ENTROPY) || choice.second || choice.result == Choice::NO_RESULT || draws.one_of(2))
        at.slope.at = nullptr;
    at.wide = tile_at((double*)for_wide.bytes((size_t)(c->does->wide_tiles * in_tile) * sizeof(T)), rows, classes, lanes);
    const bool x_in_place = !lanes && draws.one_of(2), g_in_place = !lanes && draws.one_of(2);
    at.x = x_in_place ? tile_in_place<T>(for_x, rows, classes, values)
                      : tile_at(numbers<T>(for_x, in_tile, values), rows, classes, lanes);
    if (choice.result != Choice::ELSEWHERE) at.g = at.x;
    else if (g_in_place) at.g = tile_in_place<T>(for_g, rows, classes, logit);
    else at.g = tile_at(for_g.room<T>(in_tile), rows, classes, lanes);
    if (choice.result == Choice::NO_RESULT) at.g.at = nullptr;
    at.e = is_statistics(operation) ? tile_at(for_exponentials.room<T>(in_tile), rows, classes, lanes) : at.g;
    at.v = at.h = at.x;
    const bool v_in_place = !lanes && draws.one_of(2);
    if (choice.second == Choice::DIAGONAL)
        at.h = v_in_place ? tile_in_place<T>(for_h, rows, classes, logit) : tile_at(for_h.room<T>(in_tile), rows, classes, lanes);
    else if (choice.second != Choice::DIAGONAL_IN_PLACE) at.h.at = nullptr;
    if (choice.second != Choice::PRODUCT) at.v.at = nullptr;
    else
        at.v = v_in_place ? tile_in_place<T>(for_v, rows, classes, values)
                          : tile_at(numbers<T>(for_v, in_tile, logit), rows, classes, lanes);
    // Past the cache, which needs classes as lanes; the product then has its exponentials elsewhere.
    at.stream = choice.second && choice.second != Choice::DIAGONAL_IN_PLACE && !lanes && draws.one_of(2);
    if (at.stream && choice.second == Choice::PRODUCT) at.e = tile_at(for_h.room<T>(in_tile), rows, classes, false);
    if (draws.one_of(2))  // only fetched
        at.ahead = {(const char*)at.x.at, (const char*)at.v.at, (const char*)at.g.at, (const char*)at.h.at, draws.below(4096)};

    Rows<T>* r = for_workspace.room<Rows<T>>(1);
    r->targets = choice.targets == Choice::INDICES ? r->target : nullptr;
    const ptrdiff_t ignored = draws.below(4);  // 0: every other one, 3: none
    if (r->targets)
        for (ptrdiff_t i = 0; i < rows; ++i) r->target[i] = (i + 1) % (ignored + 2) == 0 && ignored < 3 ? -1 : i * 5 % classes;
    else  // a piece of a long row has its target, or another one has
        for (ptrdiff_t i = 0; i < rows; ++i) r->target[i] = ignored ? i * 5 % classes : -1;
    if (!choice.one_step_at_a_time) return run_steps(c, n, &at, r, ALL_STEPS);
    r->maximum[0] = r->shift[0] = r->steps[0] = 0;  // as a piece's before its first pass
    r->argmax[0] = -1;
    r->loss[0] = -INFINITY;
    for (int step = 1; step <= ALL_STEPS; step *= 2) run_steps(c, n, &at, r, step);
}

// Every operation; of its calls one of so many, of activations, which have few of them, more.
template <class T> void run_tiles(ptrdiff_t rows, ptrdiff_t classes, bool lanes, int every) {
    for (int operation = 0; operation < OPERATIONS; ++operation) {
        const int of = is_activation(operation) && every > 3 ? 3 : every;
        std::vector<Choice> choices;
        for (int i = 0; i < Choice::ALL; ++i)
            if (is_call(operation, choice_of(i))) choices.push_back(choice_of(i));
        for (size_t i = (size_t)draws.below(of); i < choices.size(); i += (size_t)of)
            run_tile<T>(operation, rows, classes, lanes, choices[i]);
    }
}

// ---- whole calls, on the user's arrays ---------------------------------------------------------------------------------

// How an array lies in memory.
struct Form {
    int order, reversed;  // which dimension is inside which; a bit for each that runs backwards
    bool spread, padded, odd, by_offsets;
};
Form any_form() {
    if (draws.one_of(4)) return {0, 0, false, false, false, false};  // as NumPy allocates it
    return {(int)draws.below(6), (int)draws.below(8), draws.one_of(4), draws.one_of(3), draws.one_of(8), draws.one_of(2)};
}

// An array of outer x inner rows of classes, with no byte around it.
Layout array_of(Guarded& memory, Guarded& offsets, int storage, ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t classes,
                const Form& form, Values values) {
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const ptrdiff_t length[3] = {outer, inner, classes}, size = size_of(storage);
    ptrdiff_t stride[3], step = form.spread ? 2 * size : size, before = 0, behind = size;
    for (int k = 2; k >= 0; --k) {
        const int axis = orders[form.order][k];
        stride[axis] = form.reversed >> axis & 1 ? -step : step;
        (stride[axis] < 0 ? before : behind) += (length[axis] - 1) * step;
        step = step * length[axis] + (form.padded ? size : 0) + (form.odd && k == 2 ? 1 : 0);
    }
    char* at = memory.bytes((size_t)(before + behind));
    fill(at, (size_t)(before + behind), storage, values);
    Layout layout = {at + before, nullptr, stride[0], stride[1], stride[2], storage, stride[0] % size != 0};
    if (form.by_offsets && outer > 1) {
        layout.outer_offsets = offsets.room<int64_t>(outer, [&](ptrdiff_t i) { return (int64_t)(i * stride[0]); });
        layout.outer_stride = 0;
    }
    return layout;
}

void set_row_loss(Call* c, Guarded& memory, int size) {
    c->row_loss = memory.bytes((size_t)(c->rows * size));
    c->row_loss_size = size;
}

// Rows that are cut into pieces: the results are those of whole rows, whose passes are the same over other memory.
template <class T> void compare_with_blocks(Call* c, Form form) {
    const T* row_loss = (const T*)c->row_loss;
    const Layout g = c->g, h = c->h;
    double loss = 0;
    set_row_loss(c, for_row_loss2, (int)sizeof(T));
    if (g.at) c->g = array_of(for_g2, for_g2_offsets, g.storage, c->rows / c->inner_rows, c->inner_rows, c->classes, form, logit);
    if (h.at) c->h = array_of(for_h2, for_h2_offsets, h.storage, c->rows / c->inner_rows, c->inner_rows, c->classes, form, logit);
    if (!OF_KERNELS(f, run_blocks)(c, 1, &loss)) fail("run_blocks: no memory");
    ++calls;
    const double close = sizeof(T) == 8 ? 1e-12 : 1e-5;
    for (ptrdiff_t i = 0; i < c->rows; ++i) {
        const T* other_loss = (const T*)c->row_loss;
        bool alike = !c->does->has_losses || std::abs(row_loss[i] - other_loss[i]) <= close * (1 + std::abs(row_loss[i]));
        for (const auto& [found, other] : {std::pair{g, c->g}, std::pair{h, c->h}}) {
            if (!found.at) continue;
            const Matrix a = matrix_at(found, i / c->inner_rows, i % c->inner_rows, 0),
                         b = matrix_at(other, i / c->inner_rows, i % c->inner_rows, 0);
            for (ptrdiff_t j = 0; j < c->classes; ++j) {
                T in_pieces, whole;
                memcpy(&in_pieces, a.at + j * a.class_stride, sizeof in_pieces);
                memcpy(&whole, b.at + j * b.class_stride, sizeof whole);
                alike = alike && std::abs(in_pieces - whole) <= close * std::abs(in_pieces) + close / 1000;
            }
        }
        if (alike) continue;
        fprintf(stderr, "row %td of %td x %td: other results in pieces\n", i, c->rows, c->classes);
        abort();
    }
}

template <class I> void set_targets(Call* c, bool with_ignored, bool all_ignored) {
    c->ignore_index = -100;
    c->target = (const char*)for_target.room<I>(
        c->rows, [&](ptrdiff_t i) { return (I)(all_ignored || (with_ignored && i % 5 == 1) ? -100 : i * 31 % c->classes); });
    c->target_size = (int)sizeof(I);
}

// One operation as Python calls it. `compared`: as in compare_with_blocks, with numbers that have a result.
void run_call(int operation, ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t classes, const Choice& choice, int threads,
              bool compared) {
    static const int storages[] = {STORED_FLOAT32, STORED_FLOAT64, STORED_FLOAT16, STORED_BFLOAT16};
    const int storage = storages[draws.below(compared ? 2 : 4)], number_size = storage == STORED_FLOAT64 ? 8 : 4;
    LossCall call;
    Call* c = &call.rows;
    const ptrdiff_t rows = outer * inner;
    OF_KERNELS(f, begin)(&call, operation, rows, classes);
    c->inner_rows = inner;
    Form form = any_form(), g_form = any_form();
    form.odd = form.odd && !compared;
    g_form.odd = g_form.odd && !compared;
    c->x = array_of(for_x, for_x_offsets, storage, outer, inner, classes, form, draws.one_of(3) && !compared ? wild : logit);
    if (choice.result == Choice::IN_PLACE && !compared) c->g = c->x;
    else if (choice.result != Choice::NO_RESULT)
        c->g = array_of(for_g, for_g_offsets, storage, outer, inner, classes, g_form, logit);
    set_options(c, choice, rows);
    set_softening(c, operation, choice);
    Form second_form = any_form();
    second_form.odd = second_form.odd && !compared;
    if (choice.second == Choice::DIAGONAL_IN_PLACE && !compared) c->h = c->x;
    else if (c->options.hessian) c->h = array_of(for_h, for_h_offsets, storage, outer, inner, classes, second_form, logit);
    else if (choice.second == Choice::PRODUCT)
        c->v = array_of(for_v, for_v_offsets, storages[draws.below(4)], outer, inner, classes, second_form, logit);
    if (choice.targets == Choice::PROBABILITIES) {
        Form q_form = any_form();
        q_form.odd = q_form.odd && !compared;
        c->q = array_of(for_q, for_q_offsets, storages[draws.below(4)], outer, inner, classes, q_form, share);
    } else if (!is_activation(operation)) {
        const bool all = draws.one_of(12), some = draws.one_of(2);
        if (draws.one_of(2)) set_targets<int64_t>(c, some, all);
        else set_targets<int32_t>(c, some, all);
    }
    if (!is_activation(operation)) call.reduction = (int)draws.below(3);
    if (c->does->has_losses && (compared || is_activation(operation) || draws.one_of(2)))
        set_row_loss(c, for_row_loss, compared || draws.one_of(2) ? number_size : 8);
    if (is_statistics(operation)) {
        set_row_loss(c, for_row_loss, number_size);
        c->row_logsumexp = for_logsumexp.bytes((size_t)(rows * number_size));
        c->row_entropy = for_entropy.bytes((size_t)(rows * number_size));
        c->row_rank = for_rank.room<int64_t>(rows);
        c->row_prediction = for_prediction.room<int64_t>(rows);
    }
    double loss = 0;
    if (!OF_KERNELS(f, run_loss)(&call, threads, &loss) || c->bad_row.load() >= 0) fail("run_loss: a bad target, or no memory");
    ++calls;
    if (compared && !c->ignore_all) {
        if (number_size == 8) compare_with_blocks<double>(c, g_form);
        else compare_with_blocks<float>(c, g_form);
    }
    if (!c->target || compared) return;
    // A target out of range is found, wherever it is.
    const ptrdiff_t bad = draws.below(rows);
    c->ignore_all = false;
    if (c->options.sample_weight) ((double*)c->options.sample_weight)[bad] = 1;  // a weight of 0 would leave it out
    if (c->target_size == 8) ((int64_t*)c->target)[bad] = classes;
    else ((int32_t*)c->target)[bad] = -1;
    if (!OF_KERNELS(f, run_loss)(&call, threads, &loss) || c->bad_row.load() < 0)
        fail("run_loss: a target out of range was not found");
    ++calls;
}

void run_calls(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t classes, int times, int threads, bool compared) {
    for (int operation = 0; operation < OPERATIONS; ++operation)
        for (int i = 0; i < times;) {
            Choice choice = choice_of((int)draws.below(Choice::ALL));
            if (operation != OF_KERNELS(e, CROSS_ENTROPY)) choice.second = Choice::NEITHER;
            if (is_activation(operation)) {
                const auto targets = is_vjp(operation) ? Choice::PROBABILITIES : Choice::NO_TARGETS;
                choice = {targets, choice.result, false, false, false, false, Choice::NEITHER};
            }
            choice.one_step_at_a_time = false;
            // Only a piece has neither probabilities nor targets.
            if (!is_call(operation, choice) || (!is_activation(operation) && choice.targets == Choice::NO_TARGETS)) continue;
            const bool in_pieces = compared && OF_KERNELS(v, operations)[operation].in_pieces;
            run_call(operation, outer, inner, classes, choice, threads, in_pieces);
            ++i;
        }
}

// ---- scores ------------------------------------------------------------------------------------------------------------

// An array of outer x inner numbers along which the scores go; it may be the same number everywhere along a dimension.
Operand operand_of(Guarded& memory, int storage, ptrdiff_t outer, ptrdiff_t inner, bool may_repeat, Values values) {
    const ptrdiff_t size = size_of(storage), length[2] = {outer, inner};
    const bool plain = draws.one_of(3), turned = !plain && draws.one_of(3);
    ptrdiff_t stride[2], step = !plain && draws.one_of(3) ? 3 * size : size, before = 0, behind = size;
    for (int k = 0; k < 2; ++k) {
        const int axis = turned ? k : 1 - k;
        stride[axis] = !plain && draws.one_of(4) ? -step : step;
        if (may_repeat && !plain && draws.one_of(3)) stride[axis] = 0;
        else (stride[axis] < 0 ? before : behind) += (length[axis] - 1) * step;
        step = step * length[axis] + (!plain && draws.one_of(3) ? size : 0) + (!plain && draws.one_of(6) ? 1 : 0);
    }
    char* at = memory.bytes((size_t)(before + behind));
    if (stride[0] % size == 0 && stride[1] % size == 0) fill(at, (size_t)(before + behind), storage, values);
    else
        for (ptrdiff_t i = 0; i < outer * inner; ++i)
            put_number(at + before + i / inner * stride[0] + i % inner * stride[1], storage, values(i));
    Operand operand;
    operand.at = at + before;
    operand.storage = storage;
    operand.dims = 0;
    for (int axis = 0; axis < 2; ++axis) {
        if (operand.dims && operand.stride[operand.dims - 1] == stride[axis] * length[axis]) --operand.dims;
        else operand.shape[operand.dims] = 1;
        operand.shape[operand.dims] *= length[axis];
        operand.stride[operand.dims++] = stride[axis];
    }
    return operand;
}

void run_score_call(ptrdiff_t outer, ptrdiff_t inner, int threads) {
    const int operation = (int)draws.below(LOG_SIGMOID + 1), storage = (int)draws.below(4);
    const bool is_loss = operation < SIGMOID, has_hess = operation == BINARY_CROSS_ENTROPY && draws.one_of(2);
    const bool is_product = has_hess && draws.one_of(3);  // of the second derivative with a vector, which stands as upstream
    const bool has_result = !is_product && operation != BINARY_ZERO_ONE && (has_hess || !is_loss || draws.one_of(2));
    ScoresCall s;
    OF_KERNELS(f, begin_scores)(&s, operation, outer * inner);
    s.z = operand_of(for_x, storage, outer, inner, !has_result && !has_hess, draws.one_of(3) ? wild : logit);
    const ptrdiff_t in_place = draws.below(3);
    if (has_result) s.out = in_place == 0 ? s.z : operand_of(for_g, storage, outer, inner, false, logit);
    if (has_hess) s.hess = in_place == 1 ? s.z : operand_of(for_h, storage, outer, inner, false, logit);
    if (is_loss) {
        s.y = operand_of(for_q, (int)draws.below(8), outer, inner, true, label);
        if (draws.one_of(2)) s.weight = operand_of(for_class_weight, (int)draws.below(4), outer, inner, true, share);
        if (draws.one_of(2)) s.pos_weight = operand_of(for_wide, (int)draws.below(4), outer, inner, true, share);
        if (is_product) s.upstream = operand_of(for_v, (int)draws.below(4), outer, inner, false, logit);
        else if (draws.one_of(2)) s.upstream = operand_of(for_upstream, STORED_FLOAT64, outer, inner, true, logit);
        if (draws.one_of(2)) s.loss = for_row_loss.bytes((size_t)(s.count * (storage == STORED_FLOAT64 ? 8 : 4)));
        if (draws.one_of(2)) s.keep = 0.9, s.keep_low = 0x1p-56, s.add = 0.05;
        else if (draws.one_of(2)) s.focal_gamma = 2;
    }
    double loss = 0;
    if (!OF_KERNELS(f, run_scores)(&s, threads, &loss) || s.bad_value.load()) fail("run_scores: a bad value, or no memory");
    ++calls;
}

template <class T> void run_scores(const BlockOps<T>& ops, ptrdiff_t n) {
    T* z = numbers<T>(for_x, n, logit);
    T* y = numbers<T>(for_q, n, share);
    T* out = for_g.room<T>(n);
    T* loss = for_row_loss.room<T>(n);
    double* weight = numbers<double>(for_class_weight, n, share);
    double* pos_weight = numbers<double>(for_wide, n, share);
    double* upstream = numbers<double>(for_upstream, n, share);
    T* hess = for_h.room<T>(n);
    for (int operation = 0; operation <= LOG_SIGMOID; ++operation)
        for (int options = 0; options < 128; ++options) {
            if (operation >= SIGMOID && options != 16) continue;
            if (options & 64 && (operation != BINARY_CROSS_ENTROPY || !(options & (16 | 4)))) continue;
            ScoreBlock<T> block = {operation,
                                   n,
                                   z,
                                   y,
                                   options & 32 ? 0.9 : 1.0,
                                   0,
                                   options & 32 ? 0.05 : 0.0,
                                   0.5,
                                   options & 32 || options % 3 ? 0.0 : 2.0,
                                   options & 1 ? weight : nullptr,
                                   options & 2 ? pos_weight : nullptr,
                                   options & 4 ? upstream : nullptr,
                                   options & 8 ? loss : nullptr,
                                   options & 16 && operation != BINARY_ZERO_ONE ? out : nullptr,
                                   options & 64 ? hess : nullptr,
                                   0};
            ops.scores(&block);
            ++calls;
            if (block.bad_value) fail("scores: a bad value");
        }
}

// ---- copies and targets ------------------------------------------------------------------------------------------------

// Between a user's matrix, whose last number is the last of its memory, and a tile.
template <class T>
void run_copies(const BlockOps<T>& ops, int storage, ptrdiff_t rows, ptrdiff_t classes, bool lanes, ptrdiff_t row_gap,
                ptrdiff_t class_gap, bool by_class) {
    const ptrdiff_t size = size_of(storage);
    const Tile<T> tile = tile_at(for_wide.room<T>(numbers_of_tile(rows, classes, lanes)), rows, classes, lanes);
    const ptrdiff_t class_stride = by_class ? class_gap : rows * row_gap,
                    row_stride = by_class ? classes * class_gap + row_gap - 1 : row_gap;
    const ptrdiff_t bytes = ((rows - 1) * row_stride + (classes - 1) * class_stride + 1) * size;
    for (int sign : {1, -1}) {
        char* in = for_x.bytes((size_t)bytes);
        char* out = for_g.bytes((size_t)bytes);
        fill(in, (size_t)bytes, storage, logit);
        const ptrdiff_t first = sign < 0 ? bytes - size : 0;
        const Matrix from = {in + first, sign * row_stride * size, sign * class_stride * size, storage};
        const Matrix to = {out + first, sign * row_stride * size, sign * class_stride * size, storage};
        if (storage >= STORED_INT8) {
            if (!lanes) ops.load_labels(&from, &tile), ++calls;
            continue;
        }
        ops.load_tile(&from, &tile, sign > 0);
        ops.store_tile(&tile, &to, sign > 0);
        calls += 2;
        // There and back, the bits are those that were there.
        for (ptrdiff_t i = 0; i < rows; ++i)
            for (ptrdiff_t j = 0; j < classes; ++j) {
                const ptrdiff_t at = first + sign * (i * row_stride + j * class_stride) * size;
                if (memcmp(in + at, out + at, (size_t)size)) {
                    fprintf(stderr, "storage %d, %td x %td, lanes %d: not copied\n", storage, rows, classes, lanes);
                    abort();
                }
            }
    }
}

void run_targets(const BlockOpsTable* table, ptrdiff_t n) {
    int64_t* out = for_g.room<int64_t>(n);
    const int64_t* wide = for_x.room<int64_t>(n, [](ptrdiff_t i) { return (int64_t)(i % 10); });
    const double* weight = numbers<double>(for_sample_weight, n, share);
    const int32_t* narrow = for_q.room<int32_t>(n, [](ptrdiff_t i) { return (int32_t)(i % 10); });
    for (int64_t value : {(int64_t)3, (int64_t)-100, INT64_MIN, INT64_MAX}) {
        table->count_other_than_i64(wide, n, value);
        table->count_other_than_i32(narrow, n, value);
        const int seen = table->read_targets_i64(wide, nullptr, n, value, 10, out) |
                         table->read_targets_i32(narrow, weight, n, value, 10, out);
        if (seen & SEEN_OUT_OF_RANGE) fail("read_targets: a target out of range is none");
        if (n > 9 && !(table->read_targets_i64(wide, nullptr, n, value, 9, out) & SEEN_OUT_OF_RANGE))
            fail("read_targets: a target out of range was not found");
        calls += 5;
    }
}

// ---- pieces of long rows -----------------------------------------------------------------------------------------------

// Exponentials times a power of two are what ldexp says, and nothing behind them is touched.
template <class T> void run_powers(const BlockOps<T>& ops, ptrdiff_t n) {
    for (int power : {0, -1, -33, -126, -127, -200, -1022, -1100}) {
        const Values values = [](ptrdiff_t i) { return (1 + share(i)) * 4096; };
        const T* before = numbers<T>(for_x, n, values);
        const Tile<T> tile = {numbers<T>(for_g, n, values), n, 1, 1, n};
        ops.times_power(&tile, power);
        ++calls;
        for (ptrdiff_t j = 0; j < n; ++j)
            if (tile.at[j] != std::ldexp(before[j], power) && std::ldexp(before[j], power) >= std::numeric_limits<T>::min())
                fail("times_power: another number");
    }
}

// Of pieces without a shift the ratio is a power of two; and the parts of it are put together to what it was.
void run_ratios(const BlockOpsTable* table, ptrdiff_t n) {
    const double* shift = for_x.room<double>(n, [](ptrdiff_t i) { return i % 3 == 2 ? -1600.0 : 0.0; });
    const double* steps = for_q.room<double>(n, [](ptrdiff_t i) { return i % 3 == 2 ? 0.0 : (double)(i * 37 % 1100) - 1100; });
    double *high = for_g.room<double>(n), *low = for_g2.room<double>(n);
    table->ratios_of_pieces(n, shift, steps, 0, 0, high, low);
    ++calls;
    for (ptrdiff_t i = 0; i < n; ++i) {
        const double exact = i % 3 == 2 || steps[i] <= -1084 ? 0.0 : std::ldexp(1.0, 64 + (int)steps[i]);
        if (high[i] != exact || low[i] != 0) fail("ratios_of_pieces: another number");
        const Ratio ratio = ratio_of(high[i], low[i]);
        if (std::ldexp(ratio.ratio.high, ratio.power + 64) != high[i]) fail("ratio_of: another number");
    }
    for (double bad : {(double)NAN, (double)INFINITY}) {
        table->ratios_of_pieces(n, shift, steps, bad, bad, high, low);
        ++calls;
        for (ptrdiff_t i = 0; i < n; ++i)
            if (ratio_of(high[i], low[i]).ratio.high != 0) fail("ratios_of_pieces: a row with no finite maximum has pieces");
    }
}

// What rows weigh: the targets have room for whole vectors, the weights have not.
void run_weights(const BlockOpsTable* table, ptrdiff_t n) {
    RowOptions options{};
    const ptrdiff_t room = (n + 7) / 8 * 8;
    const int64_t* targets = for_target.room<int64_t>(room, [](ptrdiff_t i) { return (int64_t)(i % 5 - 1); });
    for (int flags = 0; flags < 4; ++flags) {
        options.sample_weight = flags & 1 ? numbers<double>(for_sample_weight, n, label) : nullptr;
        options.class_weight = flags & 2 ? numbers<double>(for_class_weight, 4, label) : nullptr;
        double all = 0, kept = 0;
        for (ptrdiff_t i = 0; i < n; ++i) {
            const double weight = options.sample_weight ? options.sample_weight[i] : 1;
            all += weight;
            if (targets[i] >= 0) kept += weight * (options.class_weight ? options.class_weight[targets[i]] : 1);
        }
        if (table->sum_of_weights(n, targets, &options) != kept || table->sum_of_weights(n, nullptr, &options) != all)
            fail("sum_of_weights: another number");
        calls += 2;
    }
}

template <class T> void run_probes(const BlockOps<T>& ops, ptrdiff_t n) {
    const T* in[4] = {numbers<T>(for_x, n, wild), numbers<T>(for_q, n, logit), numbers<T>(for_class_weight, n, share),
                      numbers<T>(for_sample_weight, n, share)};
    for (int function = EXP; function <= TANH; ++function) {
        if (sizeof(T) == 4 && function >= EXP_IN_ROW && function <= LOG_AND_INVERSE) continue;
        ops.probe(function, n, in, for_g.room<T>(n), for_g2.room<T>(n));
        ++calls;
    }
}

// ---- all of it ---------------------------------------------------------------------------------------------------------

template <class T> void run_type(const BlockOps<T>& ops, const std::vector<ptrdiff_t>& edges, bool full) {
    std::vector<ptrdiff_t> row_counts = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 255, 256};
    if (!full) row_counts = {1, 5, 16, 17, 256};
    for (ptrdiff_t classes = 1; classes <= 97; classes += full || classes < 34 ? 1 : 7)
        for (ptrdiff_t rows : row_counts)
            for (bool lanes : {false, true}) run_tiles<T>(rows, classes, lanes, full ? rows < 100 ? 4 : 16 : rows < 100 ? 6 : 24);
    for (ptrdiff_t classes : edges)
        for (ptrdiff_t rows : {1, 3}) run_tiles<T>(rows, classes, false, 12);
    for (ptrdiff_t classes = 1; classes <= 70; classes += full || classes < 20 ? 1 : 7)
        for (ptrdiff_t rows : {1, 5, 15, 16, 17, 33})
            for (int form = 0; form < 16; ++form) {
                if (!full && (form + rows + classes) % 3) continue;
                for (int storage = 0; storage <= STORED_INT64; ++storage)
                    run_copies<T>(ops, storage, rows, classes, form & 1, form & 4 ? 2 : 1, form & 8 ? 3 : 1, (form & 2) != 0);
            }
    for (ptrdiff_t n = 1; n <= 70; ++n) run_scores(ops, n), run_powers(ops, n), run_probes(ops, n);
}

void run_users(const std::vector<ptrdiff_t>& edges, bool full) {
    const int times = full ? 24 : 8;
    for (ptrdiff_t classes = 1; classes <= 135; classes += full || classes < 20 ? 1 : 13)
        for (ptrdiff_t inner : {1, 5, 16, 17, 40})
            for (ptrdiff_t outer : {1, 3}) run_calls(outer, inner, classes, times, 1, false);
    for (ptrdiff_t classes : edges) run_calls(2, 3, classes, full ? times : 2, 1, false);
    // More rows than a block's; more than one chunk; enough for a second thread.
    for (ptrdiff_t classes : {1, 2, 10, 90}) run_calls(2, 290, classes, times, 1, false);
    run_calls(1, 700, 130, full ? times : 2, 1, false);
    run_calls(2, 300, 600, full ? times : 1, 2, false);
    // Long rows.
    run_calls(1, 3, 65537, full ? times : 4, 2, true);
    run_calls(1, 1, 65537, full ? times : 4, 1, true);
    run_calls(1, 2, 65540, full ? times : 2, 2, false);
    if (full) run_calls(2, 2, 98304, times, 1, true), run_calls(1, 16, 131080, 4, 2, true);

    for (ptrdiff_t n = 1; n <= 70; ++n)
        for (ptrdiff_t outer : {1, 2, 7})
            for (int i = 0; i < 2 * times; ++i) run_score_call(outer, n, 1);
    for (ptrdiff_t n : {511, 1023, 1024, 1025, 2049})
        for (ptrdiff_t outer : {1, 2, 3})
            for (int i = 0; i < times; ++i) run_score_call(outer, n, 1);
    for (int i = 0; i < times; ++i) run_score_call(3, 32769, 1), run_score_call(350, 1001, 2);
}

}  // namespace

static bool run_with_guarded_scratch(PoolWork work, void* context, ptrdiff_t blocks, int threads, size_t scratch_bytes) {
    Guarding guarding = {work, context, scratch_bytes};
    return celoss_pool_run(work_with_guarded_scratch, &guarding, blocks, threads, scratch_bytes);
}

// driver [full]
int main(int argc, char** argv) {
    const bool full = argc > 1 && !strcmp(argv[1], "full");
    std::vector<ptrdiff_t> edges;
    for (ptrdiff_t n :
         full ? std::vector<ptrdiff_t>{128, 256, 512, 1024, 2048, 4096, 32768, 65536} : std::vector<ptrdiff_t>{128, 1024, 4096})
        for (ptrdiff_t d : {-1, 0, 1}) edges.push_back(n + d);
    OF_KERNELS(f, fill_operations)();
    int count;
    const Level* levels = celoss_levels(&count);
    for (int i = 0; i < count; ++i) {
        if (!levels[i].runnable) continue;
        const BlockOpsTable* table = OF_KERNELS(v, table) = levels[i].table;
        draws = Draws();
        calls = 0;
        for (bool end : {true, false}) {
            at_end = end;
            run_type(table->f32, edges, full);
            run_type(table->f64, edges, full);
            run_users(edges, full);
            for (ptrdiff_t n = 1; n <= 70; ++n) run_targets(table, n), run_ratios(table, n), run_weights(table, n);
        }
        printf("%s %ld\n", levels[i].name, calls);
    }
    return 0;
}
