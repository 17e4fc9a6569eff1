// Which level is used: chosen when the kernel runs.
#include "kernel.h"

#include <cstring>

namespace native {

const Level* level_named(const char* name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has_avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512vnni");
    const bool has_bf16 = has_avx512 && __builtin_cpu_supports("avx512bf16");
    if (has_bf16 && (!*name || !strcmp(name, avx512_bf16.name))) return &avx512_bf16;
    if (has_avx512 && (!*name || !strcmp(name, avx512.name))) return &avx512;
    if (has_avx2 && (!*name || !strcmp(name, avx2.name))) return &avx2;
#endif
    return !*name || !strcmp(name, portable.name) ? &portable : nullptr;
}

}  // namespace native

#pragma GCC visibility push(default)
extern "C" {

// The name of the level that networks are opened with, or nullptr where this processor has no level of that name.
const char* voiced_level(const char* wanted) {
    const native::Level* level = native::level_named(wanted);
    return level ? level->name : nullptr;
}

}  // extern "C"
#pragma GCC visibility pop
