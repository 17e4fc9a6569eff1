// For every processor, with whatever vectors the compiler finds; slow, and there to compare with.
#include "voice.h"

#include <cstring>

namespace native {
namespace {

constexpr int LANES = 16;
#include "vectors.h"

typedef Ints Pairs;

inline Pairs load_pairs(const uint32_t* from) { return *reinterpret_cast<const Ints*>(from); }

inline Floats multiply_add(Floats a, Floats b, Floats c) { return a * b + c; }

inline Floats upper(Ints pairs) { return reinterpret_cast<Floats>(pairs & int32_t(0xffff0000)); }

inline Floats dot2(Floats sum, Pairs weights, uint32_t pair) {
    const Ints both = int32_t(pair) - Ints{};
    return multiply_add(upper(weights << 16), upper(both << 16), multiply_add(upper(weights), upper(both), sum));
}

// To the nearest, of two to the even one; what is not a number stays none.
inline uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline void store_halves(uint16_t* to, Floats values) {
    for (int lane = 0; lane < LANES; lane++) to[lane] = half_of(values[lane]);
}

#include "voice_rows.h"

}  // namespace

const VoiceLevel voice_portable = {"portable", convolve, condition, halve};

}  // namespace native
