// One step of s1 for several answers, and its C interface. The arithmetic is in `rows.h`, threads are in `team.h`. A step
// is five phases per layer and the prediction.
#include "errors.h"
#include "kernel.h"
#include "memory.h"
#include "opening.h"
#include "panels.h"
#include "team.h"

#include <cstring>
#include <vector>

namespace native {
namespace {

constexpr int MOST_LAYERS = 256, MOST_WIDTH = 8192, MOST_TABLE = 1 << 20;
constexpr float EPSILON = 1e-5f;

enum Phase { IN_PROJECTION, ATTENTION, OUT_PROJECTION, FIRST_LINEAR, SECOND_LINEAR, PHASES };

struct Shape {
    int32_t layers, width, heads, inner, vocabulary, positions;
    int32_t group;  // weights that share a scale; 0: weights are half floats
};

struct Layer {
    Matrix in_projection, out_projection, first_linear, second_linear;
    Norm norm1, norm2;
};

bool is_possible(const Shape& s) {
    const auto within = [](int value, int most) { return value >= 1 && value <= most; };
    if (!within(s.layers, MOST_LAYERS) || !within(s.width, MOST_WIDTH) || !within(s.inner, 4 * MOST_WIDTH) ||
        !within(s.heads, s.width) || !within(s.vocabulary, MOST_TABLE) || !within(s.positions, MOST_TABLE))
        return false;
    const int size = s.width / s.heads;
    return s.width % s.heads == 0 && (size == 16 || size == 32 || size == 64) && s.inner % PANEL == 0 &&
           (s.group == 0 || (s.group >= PANEL && s.group <= MOST_WIDTH && s.group % PANEL == 0));
}

// ---------------------------------------------------------------- the decoder

struct Step {
    int rows, capacity;
    const int32_t* past;
    uint16_t* const *keys, *const *values;  // per layer (rows, heads, capacity, size)
    float* logits;                          // (rows, vocabulary)
};

class Decoder final : public Work {
public:
    Decoder(const Shape& shape, const Level& level, int threads) : shape_(shape), level_(level), team_(threads) {}

    Error open(const Array* arrays, int count);
    Error step(const int64_t* tokens, const int64_t* positions, const Step& step);

    int phases() const override { return shape_.layers * PHASES + 1; }
    int pieces_of(int phase) const override;
    void run(int phase, int piece, int pieces, int thread) override;
    void conclude(int phase) override;

private:
    bool is_prediction(int phase) const { return phase == phases() - 1; }
    int size() const { return shape_.width / shape_.heads; }
    size_t room() const;
    void take_weights(Source& source);
    void take_buffers();
    const Matrix& matrix_of(int phase) const;
    void attend(int layer, int first, int last, int thread);
    void add_and_norm(const Norm& norm);
    void prepare(const Matrix& matrix, const float* x);

    const Shape shape_;
    const Level& level_;
    Arena arena_;
    std::vector<Layer> layers_;
    Matrix prediction_;
    const float *embedding_ = nullptr, *places_ = nullptr;

    Step now_{};
    Operand operand_;
    float *x_, *projected_, *mixed_, *added_, *inner_, *predicted_, *scores_;  // rows of one step

    Team team_;  // last: it ends before what it works on
};

size_t Decoder::room() const {
    const auto& s = shape_;
    const auto floats = [](size_t count) { return Arena::room_for(count * sizeof(float)); };
    const size_t layer = matrix_room(3 * s.width, s.width, s.group) + matrix_room(s.width, s.width, s.group) +
                         matrix_room(s.inner, s.width, s.group) + matrix_room(s.width, s.inner, s.group) +
                         4 * floats(s.width);
    const size_t widest = s.inner > s.width ? s.inner : s.width;
    const size_t padded = s.group ? (widest + s.group - 1) / s.group * s.group : 0;
    const size_t rows = floats(MOST_ROWS * size_t(s.width)) * 3 + floats(MOST_ROWS * size_t(3 * s.width + PANEL)) +
                        floats(MOST_ROWS * size_t(s.inner)) +
                        floats(MOST_ROWS * size_t(panels_for(s.vocabulary)) * PANEL) + 3 * floats(MOST_ROWS * padded);
    return s.layers * layer + matrix_room(s.vocabulary, s.width, s.group) + floats(size_t(s.vocabulary) * s.width) +
           floats(size_t(s.positions) * s.width) + rows + floats(size_t(team_.threads()) * (MOST_CAPACITY + PANEL));
}

void Decoder::take_weights(Source& source) {
    const auto& s = shape_;
    embedding_ = take_floats(source.given, source.arena, size_t(s.vocabulary) * s.width);
    places_ = take_floats(source.given, source.arena, size_t(s.positions) * s.width);
    for (int i = 0; i < s.layers; i++) {
        Layer layer;
        layer.in_projection = take_matrix(source, 3 * s.width, s.width, s.group, true);
        layer.out_projection = take_matrix(source, s.width, s.width, s.group, true);
        layer.norm1 = take_norm(source, s.width, EPSILON);
        layer.first_linear = take_matrix(source, s.inner, s.width, s.group, true);
        layer.second_linear = take_matrix(source, s.width, s.inner, s.group, true);
        layer.norm2 = take_norm(source, s.width, EPSILON);
        layers_.push_back(layer);
    }
    prediction_ = take_matrix(source, s.vocabulary, s.width, s.group, false);
}

void Decoder::take_buffers() {
    const auto& s = shape_;
    const size_t widest = s.inner > s.width ? s.inner : s.width;
    const size_t padded = s.group ? (widest + s.group - 1) / s.group * s.group : 0;
    x_ = arena_.take<float>(MOST_ROWS * size_t(s.width));
    mixed_ = arena_.take<float>(MOST_ROWS * size_t(s.width));
    added_ = arena_.take<float>(MOST_ROWS * size_t(s.width));
    projected_ = arena_.take<float>(MOST_ROWS * size_t(3 * s.width + PANEL));
    inner_ = arena_.take<float>(MOST_ROWS * size_t(s.inner));
    predicted_ = arena_.take<float>(MOST_ROWS * size_t(panels_for(s.vocabulary)) * PANEL);
    operand_.numbers = arena_.take<int8_t>(MOST_ROWS * padded);
    operand_.scales = arena_.take<float>(MOST_ROWS * padded);
    operand_.offsets = arena_.take<int32_t>(MOST_ROWS * padded);
    scores_ = arena_.take<float>(size_t(team_.threads()) * (MOST_CAPACITY + PANEL));
}

Error Decoder::open(const Array* arrays, int count) {
    if (!arena_.reserve(room())) return NO_MEMORY;
    Given given(arrays, count);
    Packing packing;
    Source source{given, arena_, packing};
    take_weights(source);
    if (!given.is_used_up()) return BAD_ARRAYS;
    take_buffers();
    if (!team_.start()) return NO_THREADS;
    packing.finish(team_);
    return OK;
}

Error Decoder::step(const int64_t* tokens, const int64_t* positions, const Step& step) {
    if (step.rows < 1 || step.rows > MOST_ROWS || step.capacity < 1 || step.capacity > MOST_CAPACITY) return BAD_CALL;
    for (int row = 0; row < step.rows; row++)
        if (tokens[row] < 0 || tokens[row] >= shape_.vocabulary || positions[row] < 0 ||
            positions[row] >= shape_.positions || step.past[row] < 0 || step.past[row] >= step.capacity)
            return BAD_CALL;
    now_ = step;
    const int width = shape_.width;
    for (int row = 0; row < step.rows; row++) {
        const float *token = embedding_ + tokens[row] * width, *place = places_ + positions[row] * width;
        for (int i = 0; i < width; i++) x_[row * width + i] = token[i] + place[i];
    }
    prepare(matrix_of(0), x_);
    team_.go(*this);
    return OK;
}

const Matrix& Decoder::matrix_of(int phase) const {
    if (is_prediction(phase)) return prediction_;
    const Layer& layer = layers_[phase / PHASES];
    switch (phase % PHASES) {
        case IN_PROJECTION: return layer.in_projection;
        case OUT_PROJECTION: return layer.out_projection;
        case FIRST_LINEAR: return layer.first_linear;
        default: return layer.second_linear;
    }
}

// Enough for the threads to share, few enough that claiming them costs nothing.
int Decoder::pieces_of(int phase) const {
    const bool is_attention = phase % PHASES == ATTENTION && !is_prediction(phase);
    const int units = is_attention ? now_.rows * shape_.heads : (matrix_of(phase).panels + 3) / 4;
    const int most = team_.threads() == 1 ? 1 : 8 * team_.threads();
    return units < most ? units : most;
}

void Decoder::run(int phase, int piece, int pieces, int thread) {
    const bool is_prediction = this->is_prediction(phase);
    if (!is_prediction && phase % PHASES == ATTENTION) {
        const int items = now_.rows * shape_.heads;
        attend(phase / PHASES, items * piece / pieces, items * (piece + 1) / pieces, thread);
        return;
    }
    const Matrix& matrix = matrix_of(phase);
    const int quads = (matrix.panels + 3) / 4;  // whole tiles
    const int first = quads * piece / pieces * 4, last = quads * (piece + 1) / pieces * 4;
    float* out = is_prediction ? predicted_ : added_;
    if (!is_prediction && phase % PHASES == IN_PROJECTION) out = projected_;
    if (!is_prediction && phase % PHASES == FIRST_LINEAR) out = inner_;
    const bool rectified = !is_prediction && phase % PHASES == FIRST_LINEAR;
    level_.multiply(matrix, first, last < matrix.panels ? last : matrix.panels, operand_, now_.rows, out, rectified);
}

// Items are pairs of answer and head.
void Decoder::attend(int layer, int first, int last, int thread) {
    const int width = shape_.width, across = panels_for(3 * width) * PANEL;
    for (int item = first; item < last; item++) {
        const int row = item / shape_.heads, head = item % shape_.heads;
        const float* query = projected_ + size_t(row) * across + head * size();
        const size_t block = size_t(item) * now_.capacity * size();
        level_.attend({query, query + width, query + 2 * width, now_.keys[layer] + block, now_.values[layer] + block,
                       now_.past[row], size(), scores_ + size_t(thread) * (MOST_CAPACITY + PANEL),
                       mixed_ + size_t(row) * width + head * size()});
    }
}

// What follows the last piece of a phase: small work that one thread does for all.
void Decoder::conclude(int phase) {
    if (is_prediction(phase)) {
        for (int row = 0; row < now_.rows; row++)
            memcpy(now_.logits + size_t(row) * shape_.vocabulary, predicted_ + size_t(row) * prediction_.panels * PANEL,
                   shape_.vocabulary * sizeof(float));
        return;
    }
    const Layer& layer = layers_[phase / PHASES];
    switch (phase % PHASES) {
        case IN_PROJECTION: return;
        case ATTENTION: prepare(layer.out_projection, mixed_); return;
        case OUT_PROJECTION: add_and_norm(layer.norm1); break;
        case FIRST_LINEAR: prepare(layer.second_linear, inner_); return;
        default: add_and_norm(layer.norm2);
    }
    prepare(matrix_of(phase + 1), x_);
}

void Decoder::add_and_norm(const Norm& norm) {
    const size_t width = shape_.width;
    for (int row = 0; row < now_.rows; row++)
        level_.add_and_norm(x_ + row * width, added_ + row * width, int(width), norm);
}

void Decoder::prepare(const Matrix& matrix, const float* x) {
    operand_.row_step = matrix.groups;
    level_.prepare(matrix, x, 0, now_.rows, operand_);
}

}  // namespace
}  // namespace native

// ---------------------------------------------------------------- the C interface
// Calls of one handle must not overlap. All return one of `Error`; nothing is kept of the arrays that are given.

#pragma GCC visibility push(default)
extern "C" {

int voiced_s1_open(const native::Shape* shape, const native::Array* arrays, int count, int threads,
                   const char* level_name, void** handle) {
    const auto level = native::level_named(level_name);
    return native::open_network<native::Decoder>(*shape, native::is_possible(*shape), level, arrays, count, threads, handle);
}

// tokens, positions (rows,), past (rows,) rows that each answer has; keys and values one pointer per layer to
// (rows, heads, capacity, size) half floats; logits (rows, vocabulary).
int voiced_s1_step(void* handle, int rows, int capacity, const int64_t* tokens, const int64_t* positions,
                   const int32_t* past, uint16_t* const* keys, uint16_t* const* values, float* logits) {
    const native::Step step{rows, capacity, past, keys, values, logits};
    return static_cast<native::Decoder*>(handle)->step(tokens, positions, step);
}

void voiced_s1_close(void* handle) { delete static_cast<native::Decoder*>(handle); }

}  // extern "C"
#pragma GCC visibility pop
