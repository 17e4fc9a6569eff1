// What the parts of the kernel share: matrices as they lie in memory, and the table of what each level computes.
//
// A level is one set of instructions (portable, AVX2, AVX-512). All levels compile the same `rows.h` over their own
// few primitives; `level.cpp` chooses one at run time, and nobody else knows them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace native {

constexpr int PANEL = 16;            // outputs whose weights lie together
constexpr int MOST_ROWS = 16;        // answers in one step
constexpr int MOST_CAPACITY = 4096;  // rows of keys and values of one answer

// Weights (outputs, inputs), in panels of 16 outputs so that one stream of memory feeds a product.
//   8 bits: per group of inputs [group / 4][16][4] numbers around 128, then the 16 scales
//   halves: [inputs][16] half floats
struct Matrix {
    int inputs = 0, panels = 0;
    int group = 0, groups = 0;     // group: inputs that share a scale; 0 for halves
    size_t panel_bytes = 0;
    const uint8_t* data = nullptr;
    const float* bias = nullptr;   // of panels * 16 outputs

    int padded() const { return group ? groups * group : inputs; }
};

// Rows that are multiplied, as the product reads them.
struct Operand {
    int8_t* numbers = nullptr;     // rows of `Matrix::padded()`
    float* scales = nullptr;       // rows of `groups`
    int32_t* offsets = nullptr;    // rows of `groups`: what makes good for weights that lie around 128
    const float* floats = nullptr; // for halves: rows of `inputs`
};

// One head of one answer: its new row is put behind `count` earlier ones and looks at all of them.
struct Head {
    const float *query, *key, *value;
    uint16_t *keys, *values;       // half floats, rows of `size`
    int count, size;
    float* scores;                 // room for MOST_CAPACITY
    float* out;
};

struct Level {
    const char* name;
    void (*prepare)(const Matrix& matrix, const float* x, int rows, Operand& operand);
    void (*multiply)(const Matrix& matrix, int first, int last, const Operand& operand, int rows, float* out,
                     bool rectified);
    void (*attend)(const Head& head);
    void (*add_and_norm)(float* x, const float* more, int width, const float* gain, const float* bias);
};

extern const Level portable;
#if defined(__x86_64__)
extern const Level avx2, avx512;
#endif

// The level of that name if this processor has it, or nullptr; the best one for "".
const Level* level_named(const char* name);

}  // namespace native
