// AVX-512 with VNNI and BF16: 32 products of bf16 per instruction, where rows look at each other.
#if defined(__x86_64__)
#include "kernel.h"

#include <immintrin.h>

#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")

namespace native {
namespace {

#include "avx512_primitives.h"
#include "rows.h"
constexpr int STEP = 2;
typedef uint32_t Unit;  // two bf16
typedef __m512bh Units;

inline Units load_units(const Unit* from) { return reinterpret_cast<Units>(_mm512_loadu_si512(from)); }

inline Floats add_products(Floats sum, Units a, const Unit* b) {
    return _mm512_dpbf16_ps(sum, a, reinterpret_cast<Units>(_mm512_set1_epi32(int32_t(*b))));
}

inline void pack(Floats values, Unit* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

inline void pack_across(const float* first, const float* second, Unit* to) {
    const __m512i low = _mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(load(first))));
    const Floats other = second ? load(second) : Floats{};
    const __m512i high = _mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(other)));
    _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_maskz_slli_epi32(0xffff, high, 16)));
}

#include "reader_rows.h"
#include "look_rows.h"

}  // namespace

const Level avx512_bf16 = VOICED_LEVEL(avx512_bf16);

}  // namespace native
#endif
