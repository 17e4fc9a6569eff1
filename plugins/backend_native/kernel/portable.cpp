// What every processor can do; the compiler uses the vectors that all of a kind have (SSE2, NEON).
#include "kernel.h"

#include <cstring>

namespace native {
namespace {

constexpr int LANES = 4;
#include "vectors.h"

typedef uint32_t Bits __attribute__((vector_size(16)));
typedef uint16_t Shorts __attribute__((vector_size(8), aligned(2), may_alias));
typedef uint8_t LooseBytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef int8_t Numbers16 __attribute__((vector_size(16)));
typedef int16_t Products __attribute__((vector_size(32)));
typedef int32_t Pairs __attribute__((vector_size(32)));

constexpr int OFFSET = 0;

constexpr int strips(int rows) { return rows <= 1 ? 4 : rows <= 3 ? 2 : 1; }
constexpr int WIDE = 1, SUMS = 12;

typedef Products Bytes;

inline Bytes load_bytes(const uint8_t* from) {
    return __builtin_convertvector(*reinterpret_cast<const LooseBytes*>(from), Products) - 128;
}

// Products, and sums of two of them, fit into 16 bits: 2 * 127 * 128 at most.
inline Ints dot4(Ints sum, Bytes weights, int32_t four) {
    const Ints fours = four - Ints{};
    const Products products = weights * __builtin_convertvector(reinterpret_cast<Numbers16>(fours), Products);
    const Pairs pairs = reinterpret_cast<Pairs>(products);
    const Pairs two = (pairs >> 16) + (pairs << 16 >> 16);
    return sum + __builtin_shufflevector(two, two, 0, 2, 4, 6) + __builtin_shufflevector(two, two, 1, 3, 5, 7);
}

// The exponent moves from 5 to 8 bits: its bias changes by 112, which a product puts right, small numbers included.
inline Floats load_halves(const uint16_t* from) {
    const Bits raw = __builtin_convertvector(*reinterpret_cast<const Shorts*>(from), Bits);
    const Bits size = (raw & 0x7fff) << 13;
    const Bits endless = reinterpret_cast<Bits>(size >= (0x7c00u << 13)) & 0x7f800000u;  // infinity, not a number
    const Floats value = reinterpret_cast<Floats>(size) * 0x1p112f;
    return reinterpret_cast<Floats>(reinterpret_cast<Bits>(value) | endless | (raw & 0x8000) << 16);
}

inline uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return uint16_t(sign | 0x7e00);
    if (size >= 0x477ff000) return uint16_t(sign | 0x7c00);  // from 65520 on it rounds to infinity
    if (size < 0x38800000) {                                 // below the smallest normal half
        float small;
        memcpy(&small, &size, 4);
        return uint16_t(sign | uint32_t(small * 0x1p24f + 0x1.8p23f - 0x1.8p23f));
    }
    return uint16_t(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
}

inline void store_halves(uint16_t* to, Floats values) {
    for (int lane = 0; lane < LANES; lane++) to[lane] = half_of(values[lane]);
}

inline Floats multiply_add(Floats a, Floats b, Floats c) { return a * b + c; }

inline Floats sums(const Floats (&of)[LANES]) {
    Floats found;
    for (int j = 0; j < LANES; j++) {
        float total = 0;
        for (int lane = 0; lane < LANES; lane++) total += of[j][lane];
        found[j] = total;
    }
    return found;
}

#include "rows.h"
#include "float_units.h"
#include "reader_rows.h"
#include "look_rows.h"

}  // namespace

const Level portable = VOICED_LEVEL(portable);

}  // namespace native
