// What flow and vocoder of GPT-SoVITS share with the levels that compute them: convolutions as they lie in memory, and
// layers, which say what is convolved and what becomes of the sums.
//
// Rows are moments of time, with channels side by side. Strides are multiples of 16: what is missing is zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace native {

// Neighbouring outputs whose weights lie together: bf16 pairs of inputs [term][inside / 2][width][2].
struct Strip {
    const uint32_t* weights;
    const float* bias;
    int first, last;  // taps that have any weight
};

// Three taps at once. Two outputs that are a dilation apart take six products; the differences and sums of what they
// see take four (Winograd's minimal filtering F(2, 3)), or three where the third tap is nothing.
struct Group {
    int tap;        // its first one
    bool is_whole;  // three taps, else two
};

struct Convolution {
    int inside = 0, outside = 0;  // channels; outputs are a multiple of 16
    int taps = 1, dilation = 1;
    int before = 0;               // rows from the first tap to the output
    int width = 16;               // outputs of a strip: 16, 32, 48 or 64
    std::vector<Strip> strips;
    std::vector<Group> groups;    // where it is computed by groups, else none

    bool is_grouped() const { return !groups.empty(); }
    int pairs() const { return (inside + 1) / 2; }
};

// GATE: tanh(signal) * sigmoid(gate), of panels in turns. SOUND: tanh of output 0.
enum class Then { STORE, GATE, SOUND };

// One convolution over rows first … last - 1, cut into `blocks` of rows times `parts` of strips.
struct Layer {
    const Convolution* convolution = nullptr;
    const uint16_t* in = nullptr;       // bf16; where it is grouped:
    const float* in_floats = nullptr;   // floats before their activation
    int in_stride = 0;
    float in_slope = 1;                 // of the leaky ReLU of `in_floats`

    Then then = Then::STORE;
    const float *add = nullptr, *more = nullptr;  // added to the sums, if any
    float* floats = nullptr;            // where sums go, if anywhere
    uint16_t* halves = nullptr;         // where their leaky ReLU goes as bf16, if anywhere
    int stride = 0;                     // of the four above
    float scale = 1, slope = 1;         // of what goes to `halves`

    int first = 0, last = 0;
    int block = 0, blocks = 1, parts = 1;  // rows of a block
};

// Rows that groups see for so many pairs of outputs.
inline int places_of(const Convolution& c, int pairs) {
    return 2 * (pairs - 1) + c.dilation * (c.groups.back().tap + 1) + 1;
}

// What a thread needs for itself: sums of a strip, and what groups see.
constexpr int STRIP = 64, SUM_ROWS = 48;     // widest strip; rows whose sums are made before they are stored
constexpr int MOST_BLOCK = 768;              // rows of a block that is computed by groups
constexpr int MOST_SUMS = (MOST_BLOCK / 2 + 16) * STRIP;
constexpr int SEEN = 64 << 10;               // rows that groups see, times their stride
constexpr size_t SCRATCH = size_t(2) * MOST_SUMS + 3 * SEEN / 2;  // floats

struct VoiceLevel {
    const char* name;
    void (*convolve)(const Layer& layer, int piece, float* scratch);
    // to[i] = bias[i] + sum of x[k] * matrix[k][i], i < 16
    void (*condition)(const float* matrix, const float* x, int count, const float* bias, float* to);
    void (*halve)(const float* from, size_t count, uint16_t* to);  // floats to bf16; a multiple of 16
};

extern const VoiceLevel voice_portable;
#if defined(__x86_64__)
extern const VoiceLevel voice_avx512_bf16;
#endif

// That of the level of that name; nullptr where this processor has no such level, or it does not compute this network.
const VoiceLevel* voice_level_named(const char* name);

}  // namespace native
