// AVX-512 with BF16: 32 products of bf16 per instruction.
#if defined(__x86_64__)
#include "voice.h"

#include <immintrin.h>

#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")

namespace native {
namespace {

constexpr int LANES = 16;
#include "vectors.h"

typedef __m512bh Pairs;

inline Pairs load_pairs(const uint32_t* from) { return reinterpret_cast<__m512bh>(_mm512_load_si512(from)); }

inline Floats dot2(Floats sum, Pairs weights, uint32_t pair) {
    return _mm512_dpbf16_ps(sum, weights, reinterpret_cast<__m512bh>(_mm512_set1_epi32(int(pair))));
}

inline void store_halves(uint16_t* to, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

#include "voice_rows.h"

}  // namespace

const VoiceLevel voice_avx512_bf16 = {"avx512_bf16", convolve, condition, halve};

}  // namespace native
#endif
