// The primitives of both levels with AVX-512, see `rows.h`.

constexpr int LANES = 16;
#include "vectors.h"

constexpr int OFFSET = 128;

constexpr int strips(int rows) { return rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }
constexpr int WIDE = 4, SUMS = 24;  // strips of a product of many rows; sums that registers hold

typedef __m512i Bytes;

inline Bytes load_bytes(const uint8_t* from) { return _mm512_load_si512(from); }

inline Ints dot4(Ints sum, Bytes weights, int32_t four) {
    return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), weights, _mm512_set1_epi32(four)));
}

inline Floats load_halves(const uint16_t* from) {
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline void store_halves(uint16_t* to, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_maskz_cvtps_ph(0xffff, values, _MM_FROUND_TO_NEAREST_INT));
}

inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

// Neighbouring lanes added: first those of a, then those of b.
inline Floats pairs(Floats a, Floats b) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_add_ps(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
}

inline Floats sums(const Floats (&of)[LANES]) {
    Floats step[LANES];
    for (int j = 0; j < LANES; j++) step[j] = of[j];
    for (int left = LANES / 2; left >= 1; left /= 2)
        for (int j = 0; j < left; j++) step[j] = pairs(step[2 * j], step[2 * j + 1]);
    return step[0];
}
