// One step of s1 for several answers: memory, threads and the C interface. The arithmetic is in `rows.h`.
//
// A step is a row of phases (five per layer and the prediction), each cut into pieces. Threads claim pieces; whoever
// finishes the last piece of a phase prepares the next one. So nobody waits for a thread that has not claimed anything:
// one that the system has put aside costs the others nothing, which matters on a box with other work.
#include "kernel.h"

#include <sys/mman.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace s1 {
namespace {

constexpr int SPINS = 2000;  // looks at the claim before the processor is offered to others
constexpr int MOST_THREADS = 64, MOST_LAYERS = 256, MOST_WIDTH = 8192, MOST_TABLE = 1 << 20;

enum Error { OK, BAD_SHAPE, BAD_ARRAYS, NO_LEVEL, NO_MEMORY, BAD_STEP, NO_THREADS };
enum Phase { IN_PROJECTION, ATTENTION, OUT_PROJECTION, FIRST_LINEAR, SECOND_LINEAR, PHASES };

struct Shape {
    int32_t layers, width, heads, inner, vocabulary, positions;
    int32_t group;  // weights that share a scale; 0: weights are half floats
};

struct Array {
    const void* data;
    uint64_t bytes;
};

struct Layer {
    Matrix in_projection, out_projection, first_linear, second_linear;
    const float *gain1, *bias1, *gain2, *bias2;
};

// ---------------------------------------------------------------- memory

// One block for everything, on large pages where the system has them: a token reads all of it.
class Arena {
public:
    ~Arena() {
        if (start_) munmap(start_, size_);
    }

    bool reserve(size_t size) {
        void* found = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) return false;
        start_ = static_cast<uint8_t*>(found);
        size_ = size;
        madvise(start_, size_, MADV_HUGEPAGE);  // no more than a wish
        return true;
    }

    template <class T>
    T* take(size_t count) {
        uint8_t* at = start_ + used_;
        used_ += room_for(count * sizeof(T));
        if (used_ > size_) throw std::bad_alloc();
        return reinterpret_cast<T*>(at);
    }

    static size_t room_for(size_t bytes) { return (bytes + 63) & ~size_t(63); }

private:
    uint8_t* start_ = nullptr;
    size_t size_ = 0, used_ = 0;
};

// Hands out the arrays that were given, in their order, and checks that each has the size that the shape demands.
class Given {
public:
    Given(const Array* arrays, int count) : next_(arrays), left_(count) {}

    const void* take(size_t bytes) {
        if (left_ == 0 || next_->bytes != bytes || (bytes && !next_->data)) {
            is_wrong_ = true;
            return nullptr;
        }
        left_--;
        return next_++->data;
    }

    bool is_used_up() const { return !is_wrong_ && left_ == 0; }

private:
    const Array* next_;
    int left_;
    bool is_wrong_ = false;
};

size_t panel_bytes(int inputs, int group) {
    const size_t groups = group ? (inputs + group - 1) / group : 0;
    return group ? groups * (size_t(group) * PANEL + PANEL * sizeof(float)) : size_t(inputs) * PANEL * 2;
}

int panels_for(int outputs) { return (outputs + PANEL - 1) / PANEL; }

size_t matrix_room(int outputs, int inputs, int group) {
    const size_t panels = panels_for(outputs);
    return Arena::room_for(panels * panel_bytes(inputs, group)) + Arena::room_for(panels * PANEL * sizeof(float));
}

// Numbers (outputs, groups, group) and scales (outputs, groups) -> panels.
void pack_numbers(const Matrix& m, int outputs, const uint8_t* numbers, const float* scales, uint8_t* to) {
    for (int panel = 0; panel < m.panels; panel++)
        for (int g = 0; g < m.groups; g++) {
            float* ends = reinterpret_cast<float*>(to + size_t(m.group) * PANEL);
            for (int lane = 0; lane < PANEL; lane++) {
                const int output = panel * PANEL + lane;
                const bool is_there = output < outputs;
                const size_t block = size_t(output) * m.groups + g;
                for (int k = 0; k < m.group; k++)
                    to[(k / 4 * PANEL + lane) * 4 + k % 4] = is_there ? numbers[block * m.group + k] : 128;
                ends[lane] = is_there ? scales[block] : 0;
            }
            to = reinterpret_cast<uint8_t*>(ends + PANEL);
        }
}

// Half floats (outputs, inputs) -> panels.
void pack_halves(const Matrix& m, int outputs, const uint16_t* halves, uint16_t* to) {
    for (int panel = 0; panel < m.panels; panel++)
        for (int lane = 0; lane < PANEL; lane++) {
            const int output = panel * PANEL + lane;
            for (int k = 0; k < m.inputs; k++)
                to[(size_t(panel) * m.inputs + k) * PANEL + lane] =
                    output < outputs ? halves[size_t(output) * m.inputs + k] : 0;
        }
}

Matrix take_matrix(Given& given, Arena& arena, int outputs, int inputs, int group, bool has_bias) {
    Matrix m;
    m.inputs = inputs;
    m.panels = panels_for(outputs);
    m.group = group;
    m.groups = group ? (inputs + group - 1) / group : 0;
    m.panel_bytes = panel_bytes(inputs, group);
    const size_t numbers = size_t(outputs) * m.padded();
    const void* weights = given.take(group ? numbers : numbers * 2);
    const void* scales = group ? given.take(size_t(outputs) * m.groups * sizeof(float)) : nullptr;
    const void* bias = has_bias ? given.take(outputs * sizeof(float)) : nullptr;
    uint8_t* data = arena.take<uint8_t>(m.panels * m.panel_bytes);
    float* shift = arena.take<float>(size_t(m.panels) * PANEL);
    m.data = data;
    m.bias = shift;
    if (!weights || (group && !scales) || (has_bias && !bias)) return m;
    if (group)
        pack_numbers(m, outputs, static_cast<const uint8_t*>(weights), static_cast<const float*>(scales), data);
    else
        pack_halves(m, outputs, static_cast<const uint16_t*>(weights), reinterpret_cast<uint16_t*>(data));
    if (bias) memcpy(shift, bias, outputs * sizeof(float));
    return m;
}

const float* take_floats(Given& given, Arena& arena, size_t count) {
    float* to = arena.take<float>(count);
    if (const void* from = given.take(count * sizeof(float))) memcpy(to, from, count * sizeof(float));
    return to;
}

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

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// What is to be done: which phase of which step, in how many pieces, and how many of them are claimed.
struct Claim {
    uint64_t step, phase, pieces, claimed;

    static Claim of(uint64_t word) { return {word >> 40, word >> 24 & 0xffff, word >> 12 & 0xfff, word & 0xfff}; }
    uint64_t word() const { return step << 40 | phase << 24 | pieces << 12 | claimed; }
};

struct Step {
    int rows, capacity;
    const int32_t* past;
    uint16_t* const *keys, *const *values;  // per layer (rows, heads, capacity, size)
    float* logits;                          // (rows, vocabulary)
};

class Decoder {
public:
    Decoder(const Shape& shape, const Level& level, int threads) : shape_(shape), level_(level), threads_(threads) {}

    ~Decoder() {
        {
            std::lock_guard<std::mutex> hold(turn_);
            is_closing_ = true;
        }
        wake_.notify_all();
        for (std::thread& helper : helpers_) helper.join();
    }

    Error open(const Array* arrays, int count);
    Error step(const int64_t* tokens, const int64_t* positions, const Step& step);

private:
    int end() const { return shape_.layers * PHASES + 1; }
    int size() const { return shape_.width / shape_.heads; }
    size_t room() const;
    void take_weights(Given& given);
    void take_buffers();
    const Matrix& matrix_of(int phase) const;
    int pieces_of(int phase) const;
    void help(int number);
    void work(int number);
    void run(int phase, int piece, int pieces, int number);
    void attend(int layer, int first, int last, int number);
    void conclude(int phase);
    void add_and_norm(const float* more, const float* gain, const float* bias);

    const Shape shape_;
    const Level& level_;
    const int threads_;
    Arena arena_;
    std::vector<Layer> layers_;
    Matrix prediction_;
    const float *embedding_ = nullptr, *places_ = nullptr;

    Step now_{};
    Operand operand_;
    float *x_, *projected_, *mixed_, *added_, *inner_, *predicted_, *scores_;  // rows of one step

    alignas(64) std::atomic<uint64_t> claim_{0};
    alignas(64) std::atomic<int> finished_{0};
    alignas(64) std::mutex turn_;
    std::condition_variable wake_;
    bool is_closing_ = false;
    std::vector<std::thread> helpers_;
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
           floats(size_t(s.positions) * s.width) + rows + floats(size_t(threads_) * (MOST_CAPACITY + PANEL));
}

void Decoder::take_weights(Given& given) {
    const auto& s = shape_;
    embedding_ = take_floats(given, arena_, size_t(s.vocabulary) * s.width);
    places_ = take_floats(given, arena_, size_t(s.positions) * s.width);
    for (int i = 0; i < s.layers; i++) {
        Layer layer;
        layer.in_projection = take_matrix(given, arena_, 3 * s.width, s.width, s.group, true);
        layer.out_projection = take_matrix(given, arena_, s.width, s.width, s.group, true);
        layer.gain1 = take_floats(given, arena_, s.width);
        layer.bias1 = take_floats(given, arena_, s.width);
        layer.first_linear = take_matrix(given, arena_, s.inner, s.width, s.group, true);
        layer.second_linear = take_matrix(given, arena_, s.width, s.inner, s.group, true);
        layer.gain2 = take_floats(given, arena_, s.width);
        layer.bias2 = take_floats(given, arena_, s.width);
        layers_.push_back(layer);
    }
    prediction_ = take_matrix(given, arena_, s.vocabulary, s.width, s.group, false);
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
    scores_ = arena_.take<float>(size_t(threads_) * (MOST_CAPACITY + PANEL));
}

Error Decoder::open(const Array* arrays, int count) {
    if (!arena_.reserve(room())) return NO_MEMORY;
    Given given(arrays, count);
    take_weights(given);
    if (!given.is_used_up()) return BAD_ARRAYS;
    take_buffers();
    claim_.store(Claim{0, uint64_t(end()), 0, 0}.word());
    try {
        for (int number = 1; number < threads_; number++) helpers_.emplace_back([this, number] { help(number); });
    } catch (const std::system_error&) {
        return NO_THREADS;
    }
    return OK;
}

Error Decoder::step(const int64_t* tokens, const int64_t* positions, const Step& step) {
    if (step.rows < 1 || step.rows > MOST_ROWS || step.capacity < 1 || step.capacity > MOST_CAPACITY) return BAD_STEP;
    for (int row = 0; row < step.rows; row++)
        if (tokens[row] < 0 || tokens[row] >= shape_.vocabulary || positions[row] < 0 ||
            positions[row] >= shape_.positions || step.past[row] < 0 || step.past[row] >= step.capacity)
            return BAD_STEP;
    now_ = step;
    const int width = shape_.width;
    for (int row = 0; row < step.rows; row++) {
        const float *token = embedding_ + tokens[row] * width, *place = places_ + positions[row] * width;
        for (int i = 0; i < width; i++) x_[row * width + i] = token[i] + place[i];
    }
    level_.prepare(matrix_of(0), x_, step.rows, operand_);
    const uint64_t number = Claim::of(claim_.load(std::memory_order_relaxed)).step + 1;
    {
        std::lock_guard<std::mutex> hold(turn_);  // so that no helper falls asleep past it
        claim_.store(Claim{number & 0xffffff, 0, uint64_t(pieces_of(0)), 0}.word(), std::memory_order_release);
    }
    wake_.notify_all();
    work(0);
    return OK;
}

const Matrix& Decoder::matrix_of(int phase) const {
    if (phase == end() - 1) return prediction_;
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
    const bool is_attention = phase % PHASES == ATTENTION && phase != end() - 1;
    const int units = is_attention ? now_.rows * shape_.heads : (matrix_of(phase).panels + 3) / 4;
    const int most = threads_ == 1 ? 1 : 8 * threads_;
    return units < most ? units : most;
}

void Decoder::help(int number) {
    while (true) {
        {
            std::unique_lock<std::mutex> hold(turn_);
            wake_.wait(hold, [this] {
                return is_closing_ || Claim::of(claim_.load(std::memory_order_acquire)).phase != uint64_t(end());
            });
            if (is_closing_) return;
        }
        work(number);
    }
}

// Claims pieces until the step is over.
void Decoder::work(int number) {
    int looks = 0;
    while (true) {
        uint64_t word = claim_.load(std::memory_order_acquire);
        const Claim claim = Claim::of(word);
        if (claim.phase == uint64_t(end())) return;
        if (claim.claimed == claim.pieces) {
            if (++looks < SPINS)
                pause();
            else
                std::this_thread::yield();
            continue;
        }
        if (!claim_.compare_exchange_weak(word, word + 1, std::memory_order_acq_rel)) continue;
        looks = 0;
        const int phase = int(claim.phase), pieces = int(claim.pieces);
        run(phase, int(claim.claimed), pieces, number);
        if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 < pieces) continue;
        conclude(phase);
        finished_.store(0, std::memory_order_relaxed);
        const uint64_t next = phase + 1 == end() ? 0 : uint64_t(pieces_of(phase + 1));
        claim_.store(Claim{claim.step, claim.phase + 1, next, 0}.word(), std::memory_order_release);
    }
}

void Decoder::run(int phase, int piece, int pieces, int number) {
    const bool is_prediction = phase == end() - 1;
    if (!is_prediction && phase % PHASES == ATTENTION) {
        const int items = now_.rows * shape_.heads;
        attend(phase / PHASES, items * piece / pieces, items * (piece + 1) / pieces, number);
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
void Decoder::attend(int layer, int first, int last, int number) {
    const int width = shape_.width, across = panels_for(3 * width) * PANEL;
    for (int item = first; item < last; item++) {
        const int row = item / shape_.heads, head = item % shape_.heads;
        const float* query = projected_ + size_t(row) * across + head * size();
        const size_t block = size_t(item) * now_.capacity * size();
        level_.attend({query, query + width, query + 2 * width, now_.keys[layer] + block, now_.values[layer] + block,
                       now_.past[row], size(), scores_ + size_t(number) * (MOST_CAPACITY + PANEL),
                       mixed_ + size_t(row) * width + head * size()});
    }
}

// What follows the last piece of a phase: small work that one thread does for all.
void Decoder::conclude(int phase) {
    if (phase == end() - 1) {
        for (int row = 0; row < now_.rows; row++)
            memcpy(now_.logits + size_t(row) * shape_.vocabulary, predicted_ + size_t(row) * prediction_.panels * PANEL,
                   shape_.vocabulary * sizeof(float));
        return;
    }
    const Layer& layer = layers_[phase / PHASES];
    switch (phase % PHASES) {
        case IN_PROJECTION: return;
        case ATTENTION: level_.prepare(layer.out_projection, mixed_, now_.rows, operand_); return;
        case OUT_PROJECTION: add_and_norm(added_, layer.gain1, layer.bias1); break;
        case FIRST_LINEAR: level_.prepare(layer.second_linear, inner_, now_.rows, operand_); return;
        default: add_and_norm(added_, layer.gain2, layer.bias2);
    }
    level_.prepare(matrix_of(phase + 1), x_, now_.rows, operand_);
}

void Decoder::add_and_norm(const float* more, const float* gain, const float* bias) {
    for (int row = 0; row < now_.rows; row++)
        level_.add_and_norm(x_ + size_t(row) * shape_.width, more + size_t(row) * shape_.width, shape_.width, gain, bias);
}

// The level of that name if this processor has it; the best one for "".
const Level* level_named(const char* name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has_avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512vnni");
    if (has_avx512 && (!*name || !strcmp(name, avx512.name))) return &avx512;
    if (has_avx2 && (!*name || !strcmp(name, avx2.name))) return &avx2;
#endif
    return !*name || !strcmp(name, portable.name) ? &portable : nullptr;
}

}  // namespace
}  // namespace s1

// ---------------------------------------------------------------- the C interface
// Calls of one handle must not overlap. All return one of `Error`; nothing is kept of the arrays that are given.

#pragma GCC visibility push(default)
extern "C" {

// The name of the level that `open` would take, or nullptr where this processor has no level of that name.
const char* voiced_s1_level(const char* wanted) {
    const s1::Level* level = s1::level_named(wanted);
    return level ? level->name : nullptr;
}

int voiced_s1_open(const s1::Shape* shape, const s1::Array* arrays, int count, int threads, const char* level_name,
                   void** handle) {
    const s1::Level* level = s1::level_named(level_name);
    if (!level) return s1::NO_LEVEL;
    if (!s1::is_possible(*shape) || threads < 1 || threads > s1::MOST_THREADS || count < 0) return s1::BAD_SHAPE;
    try {
        auto decoder = std::make_unique<s1::Decoder>(*shape, *level, threads);
        const s1::Error error = decoder->open(arrays, count);
        if (error == s1::OK) *handle = decoder.release();
        return error;
    } catch (const std::bad_alloc&) {
        return s1::NO_MEMORY;
    }
}

// tokens, positions (rows,), past (rows,) rows that each answer has; keys and values one pointer per layer to
// (rows, heads, capacity, size) half floats; logits (rows, vocabulary).
int voiced_s1_step(void* handle, int rows, int capacity, const int64_t* tokens, const int64_t* positions,
                   const int32_t* past, uint16_t* const* keys, uint16_t* const* values, float* logits) {
    const s1::Step step{rows, capacity, past, keys, values, logits};
    return static_cast<s1::Decoder*>(handle)->step(tokens, positions, step);
}

void voiced_s1_close(void* handle) { delete static_cast<s1::Decoder*>(handle); }

}  // extern "C"
#pragma GCC visibility pop
