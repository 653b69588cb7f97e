// block_ops_driver.cpp: every operation of the tables of src/simd, on buffers of exactly the size their contract asks for.
//
// No Python. Built with the sanitizers by tests/test_sanitizers.py; usable by hand too. Prints how many calls were made.
// A buffer lies against a page that faults and the rest of its own page is poisoned, so that also what the sanitizer does
// not see (masked loads and stores are builtins to it) ends the program.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "simd/block_ops.h"

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

namespace {

// Memory of one buffer at a time, between two pages that fault.
class Guarded {
public:
    explicit Guarded(size_t most) {
        page = (size_t)sysconf(_SC_PAGESIZE);
        size = (most + page - 1) / page * page;
        char* all = (char*)mmap(nullptr, size + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all, page, PROT_NONE) || mprotect(all + page + size, page, PROT_NONE)) abort();
        begin = all + page;
    }
    // Room for n numbers, at the one end or at the other, filled with `value(i)`.
    template <class T, class F> T* room(ptrdiff_t n, bool at_end, F value) {
        const size_t bytes = (size_t)n * sizeof(T);
        if (bytes > size) abort();
        ASAN_UNPOISON_MEMORY_REGION(begin, size);
        char* at = at_end ? begin + size - bytes : begin;
        ASAN_POISON_MEMORY_REGION(begin, size);
        ASAN_UNPOISON_MEMORY_REGION(at, bytes);
        for (ptrdiff_t i = 0; i < n; ++i) {
            const T v = value(i);
            memcpy(at + i * (ptrdiff_t)sizeof(T), &v, sizeof v);
        }
        return (T*)at;
    }

private:
    char* begin;
    size_t size, page;
};

constexpr ptrdiff_t GROUP = CELOSS_LANE_GROUP;
ptrdiff_t up_to_group(ptrdiff_t n) { return (n + GROUP - 1) / GROUP * GROUP; }

long calls = 0;
bool at_end = true;

double logit(ptrdiff_t i) { return (double)((i * 7919) % 201 - 100) / 16; }
double share(ptrdiff_t i) { return (double)((i * 7919) % 101) / 100; }
double one(ptrdiff_t) { return 1; }

const size_t MOST = (size_t)1 << 21;
Guarded for_x(MOST), for_e(MOST), for_wide(4 * MOST), for_q(MOST), for_w(MOST), for_user(2 * MOST), for_out(2 * MOST);
Guarded for_m(8 * CELOSS_BLOCK_ROWS), for_x_t(8 * CELOSS_BLOCK_ROWS), for_e_t(8 * CELOSS_BLOCK_ROWS);
Guarded for_sample_weight(8 * CELOSS_BLOCK_ROWS), for_upstream(8 * CELOSS_BLOCK_ROWS);
Guarded for_where(8 * CELOSS_BLOCK_ROWS), for_target(8 * CELOSS_BLOCK_ROWS), for_first(8 * CELOSS_BLOCK_ROWS);
Guarded for_a(8 * CELOSS_BLOCK_ROWS), for_b(8 * CELOSS_BLOCK_ROWS), for_c(8 * CELOSS_BLOCK_ROWS);

// All operations on one tile of rows x classes, rows as lanes or class after class.
template <class T> void run_tile(const BlockOps<T>& ops, ptrdiff_t rows, ptrdiff_t classes, bool lanes) {
    const ptrdiff_t padded = up_to_group(rows), row_stride = lanes ? 1 : classes, class_stride = lanes ? padded : 1;
    const ptrdiff_t numbers = (lanes ? padded : rows) * classes, per_row = lanes ? padded : rows;
    const Tile<T> x = {for_x.room<T>(numbers, at_end, logit), row_stride, class_stride, rows, classes};
    const Tile<T> e = {for_e.room<T>(numbers, at_end, one), row_stride, class_stride, rows, classes};
    const Tile<T> nowhere = {nullptr, row_stride, class_stride, rows, classes};
    const T* q = for_q.room<T>(numbers, at_end, share);
    const double* w = for_w.room<double>(classes, at_end, share);
    // Per-row arrays have room up to a multiple of the group (block_ops.h); options are the user's.
    T* m = for_m.room<T>(padded, at_end, one);
    T* x_t = for_x_t.room<T>(padded, at_end, one);
    T* e_t = for_e_t.room<T>(padded, at_end, one);
    ptrdiff_t* where = for_where.room<ptrdiff_t>(per_row, at_end, one);
    int64_t* target =
        for_target.room<int64_t>(padded, at_end, [&](ptrdiff_t i) { return i % 7 == 3 ? -1 : (int64_t)(i * 5 % classes); });
    int64_t* first = for_first.room<int64_t>(padded, at_end, one);
    double* a = for_a.room<double>(padded, at_end, one);
    double* b = for_b.room<double>(padded, at_end, one);
    double* c = for_c.room<double>(padded, at_end, one);
    double* sample_weight = for_sample_weight.room<double>(rows, at_end, share);
    double* upstream = for_upstream.room<double>(rows, at_end, share);
    static RowSums sums;
    static BlendSums blend_sums;
    static RowResults results;
    static BrierRows brier;

    ops.maximum(&x, m, where, target);
    ops.exp_sum(&x, &nowhere, m, where, nullptr, nullptr, nullptr, 0, &nowhere, &sums);
    ops.exp_sum(&x, &nowhere, m, where, target, x_t, e_t, 0, &nowhere, &sums);
    ops.exp_sum(&x, &e, m, where, nullptr, nullptr, nullptr, 0, &e, &sums);
    ops.exp_sum(&x, &e, m, where, target, x_t, e_t, 0, &e, &sums);
    ops.log_rows(rows, m, x_t, e_t, &sums);
    for (const T* probabilities : {(const T*)nullptr, q})
        for (const double* weights : {(const double*)nullptr, w}) {
            const Blend<T> blend = {probabilities, row_stride, class_stride, weights, 0.9, 0.01, 0x1p-55, 0x1p-60};
            ops.blend_sums(&x, &blend, m, &blend_sums);
            for (int options = 0; options < 8; ++options) {
                const RowOptions of_rows = {options & 1 ? nullptr : target,
                                            options & 2 ? sample_weight : nullptr,
                                            options & 4 ? upstream : nullptr,
                                            weights,
                                            0.5,
                                            probabilities || weights,
                                            0.1,
                                            0.9,
                                            0.01,
                                            0x1p-55,
                                            0x1p-60};
                ops.finish_rows(rows, &of_rows, e_t, &sums, &blend_sums, &results);
            }
            ops.scale_blended(&e, &e, &results, &sums, &blend);
            calls += 10;
        }
    ops.scale(&e, &e, a, nullptr, &sums, nullptr, nullptr, nullptr);
    ops.scale(&e, &e, a, results.coefficient_low, &sums, b, target, c);
    ops.put(&e, target, c);
    ops.log_probability(&x, &e, m, &sums);
    ops.log_probability(&x, &x, m, &sums);
    ops.argmax(&x, m, where, first, nullptr);
    ops.mass_without(&x, first, a);
    calls += 13;
    for (ptrdiff_t i = 0; i < rows; i += 3) target[i] = -1;  // put clears rows that are ignored
    ops.put(&e, target, c);
    ++calls;

    // The Brier score: exponentials in float64, for float64 with their rounding errors.
    const Tile<double> wide = {for_wide.room<double>(sizeof(T) == 8 ? 2 * numbers : numbers, at_end, share), row_stride,
                               class_stride, rows, classes};
    for (ptrdiff_t i = 0; i < padded; ++i) {
        first[i] = (int64_t)1 << 40;  // no class: argmax leaves it nowhere
        target[i] = i % 3 ? i * 5 % classes : -1;
    }
    ops.argmax(&x, m, where, first, target);
    ops.brier_exp(&x, &wide, numbers, m, first, nullptr, &sums);
    ops.brier_exp(&x, &wide, numbers, m, first, target, &sums);
    for (const T* probabilities : {(const T*)nullptr, q}) {
        const Blend<T> blend = {probabilities, row_stride, class_stride, nullptr, 0.9, 0.01, 0, 0};
        const RowOptions of_rows = {target, sample_weight, upstream, w, 0.5, probabilities != nullptr, 0.1, 0.9, 0.01, 0, 0};
        ops.brier_sums(&wide, numbers, &blend, first, target, &sums, &brier);
        ops.brier_rows(&wide, numbers, &of_rows, &blend, first, &sums, &brier, c);
        ops.brier_gradient(&wide, numbers, &e, &blend, target, &sums, &brier);
        calls += 3;
    }
    calls += 3;
}

// Between a user's matrix, whose last number is the last of its memory, and a tile.
template <class T, class U>
void run_copies(const BlockOps<T>& ops, int storage, ptrdiff_t rows, ptrdiff_t classes, bool lanes, ptrdiff_t row_gap,
                ptrdiff_t class_gap, bool by_class) {
    const ptrdiff_t padded = up_to_group(rows), size = (ptrdiff_t)sizeof(U);
    const Tile<T> tile = {for_e.room<T>((lanes ? padded : rows) * classes, at_end, one), lanes ? 1 : classes, lanes ? padded : 1,
                          rows, classes};
    const ptrdiff_t class_stride = by_class ? class_gap : rows * row_gap,
                    row_stride = by_class ? classes * class_gap + row_gap - 1 : row_gap;
    const ptrdiff_t numbers = (rows - 1) * row_stride + (classes - 1) * class_stride + 1;
    for (int sign : {1, -1}) {
        char* in = (char*)for_user.room<U>(numbers, at_end, [](ptrdiff_t i) { return (U)(i % 50); });
        char* out = (char*)for_out.room<U>(numbers, at_end, [](ptrdiff_t) { return (U)0; });
        const ptrdiff_t last = sign < 0 ? (numbers - 1) * size : 0;
        const Matrix from = {in + last, sign * row_stride * size, sign * class_stride * size, storage};
        const Matrix to = {out + last, sign * row_stride * size, sign * class_stride * size, storage};
        if (storage >= STORED_INT8) {
            if (!lanes) ops.load_labels(&from, &tile), ++calls;
            continue;
        }
        ops.load_tile(&from, &tile);
        ops.store_tile(&tile, &to);
        calls += 2;
        // There and back, the bits are those that were there.
        for (ptrdiff_t i = 0; i < rows; ++i)
            for (ptrdiff_t j = 0; j < classes; ++j) {
                const ptrdiff_t at = last + sign * (i * row_stride + j * class_stride) * size;
                if (memcmp(in + at, out + at, sizeof(U))) {
                    fprintf(stderr, "storage %d, %td x %td, lanes %d: not copied\n", storage, rows, classes, lanes);
                    abort();
                }
            }
    }
}

template <class T> void run_scores(const BlockOps<T>& ops, ptrdiff_t n) {
    T* z = for_x.room<T>(n, at_end, logit);
    T* y = for_q.room<T>(n, at_end, share);
    T* out = for_e.room<T>(n, at_end, one);
    T* loss = (T*)for_out.room<T>(n, at_end, one);
    double* weight = for_w.room<double>(n, at_end, share);
    double* pos_weight = for_wide.room<double>(n, at_end, share);
    double* upstream = for_user.room<double>(n, at_end, share);
    ops.sigmoid(n, z, out);
    ops.log_sigmoid(n, z, out);
    calls += 2;
    for (int kind : {BINARY_CROSS_ENTROPY, BINARY_BRIER, BINARY_ZERO_ONE})
        for (int options = 0; options < 64; ++options) {
            BinaryBlock<T> block = {kind,
                                    n,
                                    z,
                                    y,
                                    options & 32 ? 0.9 : 1.0,
                                    options & 32 ? 0.05 : 0.0,
                                    0.5,
                                    0,
                                    0,
                                    options & 1 ? weight : nullptr,
                                    options & 2 ? pos_weight : nullptr,
                                    options & 4 ? upstream : nullptr,
                                    options & 8 ? loss : nullptr,
                                    options & 16 && kind != BINARY_ZERO_ONE ? out : nullptr,
                                    0};

            ops.binary(&block);
            ++calls;
            if (block.bad_weight) abort();
        }
}

void run_targets(const BlockOpsTable* table, ptrdiff_t n) {
    int64_t* out = for_out.room<int64_t>(n, at_end, [](ptrdiff_t) { return (int64_t)0; });
    const int64_t* wide = for_x.room<int64_t>(n, at_end, [](ptrdiff_t i) { return (int64_t)(i % 10); });
    const int32_t* narrow = for_q.room<int32_t>(n, at_end, [](ptrdiff_t i) { return (int32_t)(i % 10); });
    for (int64_t value : {(int64_t)3, (int64_t)-100, INT64_MIN, INT64_MAX}) {
        table->count_other_than_i64(wide, n, value);
        table->count_other_than_i32(narrow, n, value);
        const int seen = table->read_targets_i64(wide, n, value, 10, out) | table->read_targets_i32(narrow, n, value, 10, out);
        if (seen & SEEN_OUT_OF_RANGE) abort();
        if (n > 9 && !(table->read_targets_i64(wide, n, value, 9, out) & SEEN_OUT_OF_RANGE)) abort();
        calls += 5;
    }
}

template <class T>
void run_type(const BlockOpsTable* table, const BlockOps<T>& ops, const std::vector<ptrdiff_t>& edges, bool full) {
    std::vector<ptrdiff_t> row_counts = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 255, 256};
    if (!full) row_counts = {1, 5, 16, 17, 256};
    for (ptrdiff_t classes = 1; classes <= 97; classes += full || classes < 34 ? 1 : 7)
        for (ptrdiff_t rows : row_counts)
            for (bool lanes : {false, true}) run_tile(ops, rows, classes, lanes);
    for (ptrdiff_t classes : edges)
        for (ptrdiff_t rows : {1, 3}) run_tile(ops, rows, classes, false);
    for (ptrdiff_t classes = 1; classes <= 70; classes += full || classes < 20 ? 1 : 7)
        for (ptrdiff_t rows : {1, 5, 15, 16, 17, 33})
            for (int form = 0; form < 16; ++form) {
                if (!full && (form + rows + classes) % 3) continue;
                const bool lanes = form & 1, by_class = form & 2;
                const ptrdiff_t row_gap = form & 4 ? 2 : 1, class_gap = form & 8 ? 3 : 1;
                run_copies<T, float>(ops, STORED_FLOAT32, rows, classes, lanes, row_gap, class_gap, by_class);
                run_copies<T, double>(ops, STORED_FLOAT64, rows, classes, lanes, row_gap, class_gap, by_class);
                run_copies<T, uint16_t>(ops, STORED_FLOAT16, rows, classes, lanes, row_gap, class_gap, by_class);
                run_copies<T, uint16_t>(ops, STORED_BFLOAT16, rows, classes, lanes, row_gap, class_gap, by_class);
                run_copies<T, int8_t>(ops, STORED_INT8, rows, classes, lanes, row_gap, class_gap, by_class);
                run_copies<T, uint8_t>(ops, STORED_UINT8, rows, classes, lanes, row_gap, class_gap, by_class);
                run_copies<T, int32_t>(ops, STORED_INT32, rows, classes, lanes, row_gap, class_gap, by_class);
                run_copies<T, int64_t>(ops, STORED_INT64, rows, classes, lanes, row_gap, class_gap, by_class);
            }
    for (ptrdiff_t n = 1; n <= 70; ++n) run_scores(ops, n);
}

}  // namespace

// driver [full] [LEVEL]...
int main(int argc, char** argv) {
    const bool full = argc > 1 && !strcmp(argv[1], "full");
    std::vector<ptrdiff_t> edges;
    for (ptrdiff_t n :
         full ? std::vector<ptrdiff_t>{128, 256, 512, 1024, 2048, 4096, 32768, 65536} : std::vector<ptrdiff_t>{128, 1024, 4096})
        for (ptrdiff_t d : {-1, 0, 1}) edges.push_back(n + d);
    int count;
    const Level* levels = celoss_levels(&count);
    for (int i = 0; i < count; ++i) {
        if (!levels[i].runnable) continue;
        const long before = calls;
        for (bool end : {true, false}) {
            at_end = end;
            run_type(levels[i].table, levels[i].table->f32, edges, full);
            run_type(levels[i].table, levels[i].table->f64, edges, full);
            for (ptrdiff_t n = 1; n <= 70; ++n) run_targets(levels[i].table, n);
        }
        printf("%s %ld\n", levels[i].name, calls - before);
    }
    return 0;
}
