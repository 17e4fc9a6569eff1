// What the parts of the kernel share: matrices as they lie in memory, and the table of what each level computes.
//
// A level is one set of instructions (portable, AVX2, AVX-512). All levels compile the same `rows.h` over their own
// few primitives; `level.cpp` chooses one at run time, and nobody else knows them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace native {

constexpr int PANEL = 16;            // outputs whose weights lie together
constexpr int MOST_ROWS = 16;        // answers in one step
constexpr int MOST_CAPACITY = 4096;  // rows of keys and values of one answer
constexpr int TILE = 6;              // rows of a product of many that are computed together
constexpr int LOOK_ROWS = 24;        // of a prompt, that look at its keys together
constexpr int COLUMNS = 64;          // keys that they look at together

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

// Rows that are multiplied, as the product reads them: blocks of one row and one group of inputs.
struct Operand {
    int8_t* numbers = nullptr;     // blocks of `Matrix::group`
    float* scales = nullptr;       // one per block
    int32_t* offsets = nullptr;    // one per block: what makes good for weights that lie around 128
    const float* floats = nullptr; // for halves: rows of `inputs`
    size_t row_step = 1, group_step = 1;  // blocks from a row, from a group, to the next

    size_t at(int row, int group) const { return row * row_step + group * group_step; }
};

// Rows and panels of a product; its result has rows of (last_panel - first_panel) * PANEL floats.
struct Block {
    int first_row, last_row, first_panel, last_panel;
};

struct Norm {
    const float *gain, *bias;
    float epsilon;
};

// One head of one answer: its new row is put behind `count` earlier ones and looks at all of them.
struct Head {
    const float *query, *key, *value;
    uint16_t *keys, *values;       // half floats, rows of `size`
    int count, size;
    float* scores;                 // room for MOST_CAPACITY
    float* out;
};

// Rows first … last - 1 of a prompt, of which PANEL numbers of one head have been computed.
struct HeadRows {
    const float* from;             // (last - first, step)
    int step, first, last;
    int inside, size;              // where in the head the numbers belong, and how many it has
    int stride, across;            // of queries; of keys and values, see `Look`
    float scale;                   // of queries

    const float* row(int row) const { return from + size_t(row - first) * step; }
};

// Rows of one head of a prompt that look at the keys of all its rows. What they look with lies as the level puts it.
struct Look {
    const void* queries;           // (count, stride)
    int count, stride, size;
    const void *keys, *values;     // (size, across), (across, size)
    int across;                    // a multiple of COLUMNS, at least all rows
    const int32_t *free, *last;    // per row: columns that it sees as they are; columns behind which it sees nothing
    const float* mask;             // (count, masked): what is added to the columns free … last - 1; or nullptr
    size_t masked;
    float* scores;                 // room for LOOK_ROWS * across
    float* out;                    // (count, out_stride)
    int out_stride;
};

enum Activation { RECTIFIED, GELU };

struct Level {
    const char* name;
    void (*round_group)(const float* from, int count, int group, Operand& to, size_t at);
    void (*prepare)(const Matrix& matrix, const float* x, int first, int last, Operand& operand);
    void (*multiply)(const Matrix& matrix, int first, int last, const Operand& operand, int rows, float* out,
                     bool rectified);
    void (*attend)(const Head& head);
    void (*add_and_norm)(float* x, const float* more, int width, const Norm& norm);
    void (*multiply_block)(const Matrix& matrix, const Operand& operand, const Block& block, float* out);
    void (*activate)(float* x, int count, Activation kind);
    int step;                      // numbers in four bytes of queries, keys and values
    void (*put_queries)(const HeadRows& rows, void* to);
    void (*put_keys)(const HeadRows& rows, void* to);
    void (*put_values)(const HeadRows& rows, void* to);
    void (*look)(const Look& look);
    void (*to_halves)(const float* from, int count, uint16_t* to);
};

#define VOICED_LEVEL(name) \
    {#name,          round_group, prepare,     multiply, attend,     add_and_norm, multiply_block, activate, \
     STEP,           put_queries, put_keys,    put_values, look,     to_halves}

extern const Level portable;
#if defined(__x86_64__)
extern const Level avx2, avx512, avx512_bf16;
#endif

// The level of that name if this processor has it, or nullptr; the best one for "".
const Level* level_named(const char* name);

}  // namespace native
