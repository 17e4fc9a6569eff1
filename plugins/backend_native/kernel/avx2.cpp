// AVX2 with FMA and F16C.
#if defined(__x86_64__)
#include "kernel.h"

#include <immintrin.h>

#pragma GCC target("avx2,fma,f16c")

namespace native {
namespace {

constexpr int LANES = 8;
#include "vectors.h"

constexpr int OFFSET = 0;  // weights are made signed while they are loaded

constexpr int strips(int rows) { return rows <= 1 ? 4 : rows <= 3 ? 2 : 1; }
constexpr int WIDE = 1, SUMS = 12;

struct Bytes {
    __m256i value, size;
};

inline Bytes load_bytes(const uint8_t* from) {
    const __m256i raw = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i value = _mm256_xor_si256(raw, _mm256_set1_epi8(char(0x80)));
    return {value, _mm256_abs_epi8(value)};
}

// The instruction multiplies unsigned by signed numbers and saturates sums of two at 16 bits. So the weight gives its
// size, and the other number takes over its sign: 2 * 128 * 127 fits.
inline Ints dot4(Ints sum, Bytes weights, int32_t four) {
    const __m256i other = _mm256_sign_epi8(_mm256_set1_epi32(four), weights.value);
    const __m256i two = _mm256_maddubs_epi16(weights.size, other);
    return sum + reinterpret_cast<Ints>(_mm256_madd_epi16(two, _mm256_set1_epi16(1)));
}

inline Floats load_halves(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

inline void store_halves(uint16_t* to, Floats values) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}

inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

inline Floats sums(const Floats (&of)[LANES]) {
    const __m256 first = _mm256_hadd_ps(_mm256_hadd_ps(of[0], of[1]), _mm256_hadd_ps(of[2], of[3]));
    const __m256 last = _mm256_hadd_ps(_mm256_hadd_ps(of[4], of[5]), _mm256_hadd_ps(of[6], of[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(first, last, 0x20), _mm256_permute2f128_ps(first, last, 0x31));
}

#include "rows.h"
#include "float_units.h"
#include "reader_rows.h"
#include "look_rows.h"

}  // namespace

const Level avx2 = VOICED_LEVEL(avx2);

}  // namespace native
#endif
