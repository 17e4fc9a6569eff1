// Flow and vocoder of GPT-SoVITS: latent frames and a timbre -> sound. The network as a row of layers, their memory and
// the C interface. The arithmetic is in `voice_rows.h`, the threads' in `team.h`.
#include "errors.h"
#include "kernel.h"
#include "memory.h"
#include "opening.h"
#include "team.h"
#include "voice.h"
#include "voice_network.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

namespace native {
namespace {

constexpr int MOST_FRAMES = 4096;
constexpr float SLOPE = 0.1f, LAST_SLOPE = 0.01f;  // before the last convolution the official network uses another one
constexpr size_t HEAVY = size_t(1) << 20;   // bytes of weights that threads rather share than read twice
constexpr int SECTION = 3 << 18;            // rows times channels that go through all layers of a stage together

// Rows in memory, with room for what convolutions see around them.
template <class Value>
struct Rows {
    Value* data = nullptr;
    int stride = 0;
};

// Rows of all that there are.
struct Range {
    int first, last, count;

    Range wider(int by) const { return {std::max(0, first - by), std::min(count, last + by), count}; }
};

bool within(int value, int most) { return value >= 1 && value <= most; }

struct Step {
    Layer layer;
    int cleared = -1;  // the stage that begins here: what lies around its rows becomes zero
};

class Voice final : public Work {
public:
    Voice(const VoiceShape& shape, const VoiceLevel& level, int threads)
        : network_(shape), level_(level), team_(threads), scratch_(size_t(threads) * SCRATCH + VOICE_PANEL) {}

    Error open(const Array* arrays, int count);
    Error speak(const float* latent, int frames, const float* timbre, float* sound);

    int phases() const override { return int(steps_.size()) + 1; }
    int pieces_of(int phase) const override;
    void run(int phase, int piece, int pieces, int thread) override;
    void conclude(int phase) override;

private:
    void lay_out(int frames);
    size_t room(int frames) const;
    int margin() const { return network_.shape.margin(); }
    int reach() const { return network_.shape.reach(); }
    int rows(int stage, int frames) const;
    template <class Value>
    Rows<Value> at(Value* base, int channels) const;
    void add(Layer layer, const Convolution& c, Range range);
    void add_flow(int frames);
    void add_coupling(const Coupling& coupling, Range range);
    void add_stage(int index, int frames);
    void add_block(int index, int block, Range range);
    void clear(int stage);
    float* scratch_of(int thread);

    VoiceNetwork network_;
    const VoiceLevel& level_;
    Team team_;
    std::vector<float> scratch_, timbre_;
    bool is_conditioned_ = false;

    int frames_ = 0, capacity_ = 0;
    std::unique_ptr<Arena> arena_;
    std::vector<Step> steps_;
    float *x_ = nullptr, *r_ = nullptr, *h_ = nullptr, *total_ = nullptr, *latent_ = nullptr;
    uint16_t *x_halves_ = nullptr, *r_halves_ = nullptr, *given_[2] = {}, *latent_halves_ = nullptr;
};

// ---------------------------------------------------------------- memory

// Numbers in the largest buffer.
size_t Voice::room(int frames) const {
    const VoiceShape& s = network_.shape;
    const auto numbers = [this](size_t rows, int channels) { return (rows + 2 * margin()) * padded(channels); };
    size_t most = std::max(numbers(frames, s.initial), numbers(frames, std::max(s.hidden, 2 * padded(s.half()))));
    size_t rows = frames;
    for (const Stage& stage : network_.stages) most = std::max(most, numbers(rows *= stage.rate, stage.channels));
    return most;
}

Error Voice::open(const Array* arrays, int count) {
    Given given(arrays, count);
    if (!team_.start()) return NO_THREADS;
    return network_.open(given, team_) ? OK : BAD_ARRAYS;
}

float* Voice::scratch_of(int thread) {
    const uintptr_t start = (reinterpret_cast<uintptr_t>(scratch_.data()) + 63) / 64 * 64;
    return reinterpret_cast<float*>(start) + thread * SCRATCH;
}

// Row 0 of a buffer.
template <class Value>
Rows<Value> Voice::at(Value* base, int channels) const {
    return {base + size_t(margin()) * padded(channels), padded(channels)};
}

// Sets memory aside, and what is to be done for so many frames.
void Voice::lay_out(int frames) {
    if (frames == frames_) return;
    frames_ = 0;
    if (frames > capacity_) {
        capacity_ = 0;
        arena_ = std::make_unique<Arena>();
        const int enough = (frames + 63) / 64 * 64;
        const size_t numbers = room(enough), bytes = Arena::room_for(numbers * sizeof(float));
        if (!arena_->reserve(9 * bytes)) throw std::bad_alloc();
        for (float** to : {&x_, &r_, &h_, &total_, &latent_}) *to = arena_->take<float>(numbers);
        for (uint16_t** to : {&x_halves_, &r_halves_, &given_[0], &given_[1], &latent_halves_})
            *to = arena_->take<uint16_t>(numbers);
        capacity_ = enough;
    }
    steps_.clear();
    add_flow(frames);
    for (int i = 0; i < network_.shape.stages; i++) add_stage(i, frames);
    const int stages = network_.shape.stages;
    const auto in = at(given_[stages % 2], network_.stages.back().channels);
    Layer sound;
    sound.in = in.data, sound.in_stride = in.stride, sound.then = Then::SOUND, sound.stride = 1;
    const int samples = rows(stages, frames);
    add(sound, network_.last, {0, samples, samples});
    frames_ = frames;
}

// What convolutions see beside the rows of a stage, or before the first one: silence.
void Voice::clear(int stage) {
    const int count = rows(stage, frames_);
    const auto around = [&](auto buffer) {
        const size_t size = size_t(reach()) * buffer.stride * sizeof(*buffer.data);
        memset(buffer.data - size_t(reach()) * buffer.stride, 0, size);
        memset(buffer.data + size_t(count) * buffer.stride, 0, size);
    };
    if (stage == 0) {
        around(at(latent_halves_, 2 * padded(network_.shape.half())));
        around(at(x_halves_, network_.shape.hidden));
        around(at(given_[0], network_.shape.initial));
        return;
    }
    const Stage& now = network_.stages[stage - 1];
    around(at(given_[stage % 2], now.channels));
    if (now.is_grouped) {
        for (float* base : {x_, r_, h_}) around(at(base, now.channels));
    } else {
        for (uint16_t* base : {x_halves_, r_halves_, reinterpret_cast<uint16_t*>(h_)}) around(at(base, now.channels));
    }
}

// ---------------------------------------------------------------- layers

// After so many stages.
int Voice::rows(int stage, int frames) const {
    for (int i = 0; i < stage; i++) frames *= network_.stages[i].rate;
    return frames;
}

// Cut into pieces: enough for the threads to share, few enough that claiming them costs nothing.
void Voice::add(Layer layer, const Convolution& c, Range range) {
    const int first = range.first, last = range.last;
    const int strips = int(c.strips.size()), wanted = 8 * team_.threads();
    const int most_parts = std::min(strips, c.is_grouped() ? 2 * team_.threads() : wanted);  // each looks at all rows
    const size_t bytes = size_t(c.taps) * c.pairs() * c.outside * 4;
    const int unit = 48;
    layer.convolution = &c;
    layer.first = first, layer.last = last;
    layer.parts = bytes >= HEAVY || last - first <= unit ? most_parts : 1;
    const int blocks = std::max(1, wanted / layer.parts);
    layer.block = ((last - first + blocks - 1) / blocks + unit - 1) / unit * unit;
    if (c.is_grouped()) layer.block = std::min(layer.block, grouped_rows(c.taps, c.dilation, layer.in_stride));
    layer.blocks = (last - first + layer.block - 1) / layer.block;
    steps_.push_back({layer});
}

void Voice::add_flow(int frames) {
    for (const Coupling& coupling : network_.couplings) add_coupling(coupling, {0, frames, frames});
    const auto from = at(latent_halves_, 2 * padded(network_.shape.half()));
    const auto to = at(given_[0], network_.shape.initial);
    Layer first;
    first.in = from.data, first.in_stride = from.stride;
    first.halves = to.data, first.stride = to.stride, first.slope = SLOPE;
    add(first, network_.first, {0, frames, frames});
}

void Voice::add_coupling(const Coupling& coupling, Range range) {
    const VoiceShape& s = network_.shape;
    const int half = padded(s.half()), heard = coupling.is_flipped ? half : 0, moved = half - heard;
    const auto latent = at(latent_, 2 * half);
    const auto latent_halves = at(latent_halves_, 2 * half);
    const auto x = at(x_, s.hidden), total = at(total_, s.hidden);
    const auto x_halves = at(x_halves_, s.hidden), gated = at(r_halves_, s.hidden), last = at(given_[1], s.hidden);
    Layer before;
    before.in = latent_halves.data + heard, before.in_stride = latent_halves.stride;
    before.floats = x.data, before.halves = x_halves.data, before.stride = x.stride;
    add(before, coupling.before, range);
    for (int i = 0; i < s.layers; i++) {
        const bool is_last = i + 1 == s.layers;
        Layer gate;
        gate.in = x_halves.data, gate.in_stride = gate.stride = x.stride, gate.then = Then::GATE;
        gate.halves = gated.data;
        add(gate, coupling.gates[i], range);
        Layer residual;
        residual.in = gated.data, residual.in_stride = residual.stride = x.stride;
        Layer skip = residual;
        residual.add = residual.floats = x.data, residual.halves = x_halves.data;
        if (!is_last) add(residual, coupling.residuals[i], range);
        skip.add = i ? total.data : nullptr;
        skip.floats = is_last ? nullptr : total.data, skip.halves = is_last ? last.data : nullptr;
        add(skip, coupling.skips[i], range);
    }
    Layer after;
    after.in = last.data, after.in_stride = last.stride;
    after.floats = latent.data + moved, after.halves = latent_halves.data + moved, after.stride = latent.stride;
    after.add = after.floats;
    add(after, coupling.after, range);
}

void Voice::add_stage(int index, int frames) {
    const Stage& stage = network_.stages[index];
    const int inside = network_.shape.channels(index), count = rows(index + 1, frames);
    const auto in = at(given_[index % 2], inside);
    const auto x = at(x_, stage.channels);
    Layer up;
    up.in = in.data, up.in_stride = in.stride;
    up.floats = x.data, up.stride = stage.rate * x.stride;
    if (!stage.is_grouped) up.halves = at(x_halves_, stage.channels).data, up.slope = SLOPE;
    add(up, stage.up, {0, count / stage.rate, count / stage.rate});
    steps_.back().cleared = index + 1;
    const int sections = int((size_t(count) * x.stride + SECTION - 1) / SECTION);
    for (int i = 0; i < sections; i++) {
        const int first = int(int64_t(count) * i / sections) / 2 * 2;
        const int last = i + 1 == sections ? count : int(int64_t(count) * (i + 1) / sections) / 2 * 2;
        for (int block = 0; block < network_.shape.blocks; block++) add_block(index, block, {first, last, count});
    }
}

// A block for rows first … last - 1, and around them what its later layers see.
void Voice::add_block(int index, int block, Range range) {
    const VoiceShape& s = network_.shape;
    const Stage& stage = network_.stages[index];
    const bool is_grouped = stage.is_grouped, is_final = block + 1 == s.blocks;
    const auto x = at(x_, stage.channels), r = at(r_, stage.channels), h = at(h_, stage.channels);
    const auto x_halves = at(x_halves_, stage.channels), r_halves = at(r_halves_, stage.channels);
    const auto h_halves = at(reinterpret_cast<uint16_t*>(h_), stage.channels);
    int around = 0;
    for (int pair = 0; pair < s.pairs; pair++) around += reach_of(s.taps[block], s.dilation(block, pair) + 1);
    for (int pair = 0; pair < s.pairs; pair++) {
        Layer dilated;
        dilated.in_stride = dilated.stride = x.stride, dilated.in_slope = dilated.slope = SLOPE;
        Layer plain = dilated;
        dilated.in_floats = (pair ? r : x).data, dilated.in = (pair ? r_halves : x_halves).data;
        plain.in_floats = h.data, plain.in = h_halves.data;
        dilated.floats = is_grouped ? h.data : nullptr;
        dilated.halves = is_grouped ? nullptr : h_halves.data;
        plain.add = (pair ? r : x).data;
        if (pair + 1 < s.pairs) {
            plain.floats = r.data, plain.halves = is_grouped ? nullptr : r_halves.data;
        } else {
            plain.more = block ? at(total_, stage.channels).data : nullptr;
            plain.floats = is_final ? nullptr : at(total_, stage.channels).data;
            plain.halves = is_final ? at(given_[(index + 1) % 2], stage.channels).data : nullptr;
            plain.scale = 1.0f / float(s.blocks), plain.slope = index + 1 == s.stages ? LAST_SLOPE : SLOPE;
        }
        const Pair& both = stage.blocks[block][pair];
        around -= reach_of(s.taps[block], s.dilation(block, pair));
        add(dilated, both.dilated, range.wider(around));
        around -= reach_of(s.taps[block], 1);
        add(plain, both.plain, range.wider(around));
    }
}

// ---------------------------------------------------------------- a call

Error Voice::speak(const float* latent, int frames, const float* timbre, float* sound) {
    if (!within(frames, MOST_FRAMES)) return BAD_CALL;
    lay_out(frames);
    if (phases() > MOST_PHASES) return BAD_CALL;
    const VoiceShape& s = network_.shape;
    is_conditioned_ = timbre_.size() == size_t(s.timbre) && !memcmp(timbre_.data(), timbre, s.timbre * sizeof(float));
    timbre_.assign(timbre, timbre + s.timbre);
    const auto rows = at(latent_, 2 * padded(s.half()));
    memset(rows.data, 0, size_t(frames) * rows.stride * sizeof(float));
    for (int channel = 0; channel < s.latent; channel++) {
        const bool is_second = channel >= s.half();
        float* to = rows.data + (is_second ? channel - s.half() + padded(s.half()) : channel);
        for (int i = 0; i < frames; i++) to[size_t(i) * rows.stride] = latent[size_t(channel) * frames + i];
    }
    level_.halve(rows.data, size_t(frames) * rows.stride, at(latent_halves_, rows.stride).data);
    steps_.back().layer.floats = sound;
    team_.go(*this);
    return OK;
}

int Voice::pieces_of(int phase) const {
    if (phase == 0) return is_conditioned_ ? 1 : std::min(network_.conditions(), 8 * team_.threads());
    const Layer& layer = steps_[phase - 1].layer;
    return layer.blocks * layer.parts;
}

void Voice::run(int phase, int piece, int pieces, int thread) {
    if (phase > 0) {
        level_.convolve(steps_[phase - 1].layer, piece, scratch_of(thread));
        return;
    }
    if (is_conditioned_) return;
    const int count = network_.conditions();
    for (int i = count * piece / pieces; i < count * (piece + 1) / pieces; i++)
        network_.condition(level_, i, timbre_.data());
}

void Voice::conclude(int phase) {
    const int stage = phase ? steps_[phase - 1].cleared : 0;
    if (stage >= 0) clear(stage);
}

}  // namespace

const VoiceLevel* voice_level_named(const char* name) {
    const Level* level = level_named(name);
#if defined(__x86_64__)
    if (level == &avx512_bf16) return &voice_avx512_bf16;
#endif
    return level == &portable ? &voice_portable : nullptr;
}

}  // namespace native

// ---------------------------------------------------------------- the C interface
// Calls of one handle must not overlap. All return one of `Error`; nothing is kept of the arrays that are given.

#pragma GCC visibility push(default)
extern "C" {

// The name of the level that `open` would take, or nullptr where this processor has no level of that name.
const char* voiced_voice_level(const char* wanted) {
    const native::VoiceLevel* level = native::voice_level_named(wanted);
    return level ? level->name : nullptr;
}

int voiced_voice_open(const native::VoiceShape* shape, const native::Array* arrays, int count, int threads,
                      const char* level_name, void** handle) {
    const auto level = native::voice_level_named(level_name);
    return native::open_network<native::Voice>(*shape, shape->is_possible(), level, arrays, count, threads, handle);
}

// latent (channels, frames), timbre (timbre,), sound (frames * samples of a frame,).
int voiced_voice_speak(void* handle, const float* latent, int frames, const float* timbre, float* sound) {
    try {
        return static_cast<native::Voice*>(handle)->speak(latent, frames, timbre, sound);
    } catch (const std::bad_alloc&) {
        return native::NO_MEMORY;
    }
}

void voiced_voice_close(void* handle) { delete static_cast<native::Voice*>(handle); }

}  // extern "C"
#pragma GCC visibility pop
