// level.cpp: which levels were built, and which of them this CPU and operating system can run. Baseline flags only.
#include "block_ops.h"

#if defined(__AVX__) && !defined(CELOSS_ALLOW_ISA_FLAGS)
#error "celoss: instruction-set flags reached baseline code; only block_ops.cpp may have them (CELOSS_ALLOW_ISA_FLAGS permits)"
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

// The features tested here are the flags of the same level in CMakeLists.txt; the compiler's test asks the operating
// system (XGETBV) too. macOS is left at v3: its kernel does not always save the AVX-512 mask registers.
#if defined(CELOSS_HAVE_V4) || defined(CELOSS_HAVE_V3)
bool runs_v3() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
}
bool runs_v4() {
#ifdef __APPLE__
    return false;
#else
    return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#endif
}
#endif

}  // namespace

const Level* celoss_levels(int* count) {
#if defined(CELOSS_HAVE_V4) || defined(CELOSS_HAVE_V3)
    __builtin_cpu_init();
#endif
    static const Level levels[] = {
#ifdef CELOSS_HAVE_V4
        {"v4", &celoss_table_v4, runs_v4()},
#endif
#ifdef CELOSS_HAVE_V3
        {"v3", &celoss_table_v3, runs_v3()},
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
