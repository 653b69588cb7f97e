// level.cpp: which levels were built, and which of them this CPU and operating system can run. Baseline flags only.
#include "contract.h"

#if defined(CELOSS_HAVE_V4) || defined(CELOSS_HAVE_V3)
#include <cpuid.h>
#endif

#if defined(__AVX__) && !defined(CELOSS_ALLOW_ISA_FLAGS)
#error "celoss: instruction-set flags reached baseline code; only table.cpp may have them (CELOSS_ALLOW_ISA_FLAGS permits)"
#endif

#ifdef CELOSS_HAVE_V4
extern const BlockOpsTable celoss_table_v4;
#endif
#ifdef CELOSS_HAVE_V3
extern const BlockOpsTable celoss_table_v3;
#endif
#ifdef CELOSS_HAVE_NEON
extern const BlockOpsTable celoss_table_neon;
#endif
#ifdef CELOSS_HAVE_BASELINE
extern const BlockOpsTable celoss_table_baseline;
#endif

namespace {

#if defined(CELOSS_HAVE_V4) || defined(CELOSS_HAVE_V3)
// The features tested here are the flags of the same level in CMakeLists.txt, and that the operating system saves their
// registers. Not __builtin_cpu_supports: Clang before 19 does not know f16c there, and clang-cl links no library that has it.
struct Runs {
    bool v3 = false, v4 = false;
};

bool has(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }

Runs what_runs() {
    Runs runs;
    unsigned a, b, c, d, saved, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) return runs;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return runs;
    __asm__("xgetbv" : "=a"(saved), "=d"(unused) : "c"(0));
    runs.v3 = has(saved, 0x6 /* xmm, ymm */) && has(b, bit_AVX2 | bit_BMI | bit_BMI2);
#ifndef __APPLE__  // left at v3: its kernel does not always save the AVX-512 mask registers
    runs.v4 = runs.v3 && has(saved, 0xe0 /* masks, zmm */) && has(b, bit_AVX512F | bit_AVX512VL | bit_AVX512BW | bit_AVX512DQ);
#endif
    return runs;
}
#endif

}  // namespace

const Level* celoss_levels(int* count) {
#if defined(CELOSS_HAVE_V4) || defined(CELOSS_HAVE_V3)
    static const Runs runs = what_runs();
#endif
    static const Level levels[] = {
#ifdef CELOSS_HAVE_V4
        {"v4", &celoss_table_v4, runs.v4},
#endif
#ifdef CELOSS_HAVE_V3
        {"v3", &celoss_table_v3, runs.v3},
#endif
#ifdef CELOSS_HAVE_NEON
        {"neon", &celoss_table_neon, true},
#endif
#ifdef CELOSS_HAVE_BASELINE
        {"baseline", &celoss_table_baseline, true},
#endif
    };
    *count = (int)(sizeof levels / sizeof *levels);
    return levels;
}
