#include "voice_network.h"

#include <algorithm>
#include <utility>

namespace native {
namespace {

constexpr int MOST_CHANNELS = 4096, MOST_LAYERS = 64, MOST_TAPS = 63, MOST_DILATION = 31, MOST_RATE = 63;
constexpr int MOST_SAMPLES = 4096;  // of a frame
constexpr int LEAST_BLOCK = 48;     // rows for which groups of taps pay
constexpr int ENDS = 7;  // taps of the vocoder's first and last convolution
constexpr int NONE = -1;

bool within(int value, int most) { return value >= 1 && value <= most; }

bool is_odd(int value) { return within(value, MOST_TAPS) && value % 2; }

// Rows of a file in the columns where they go: `count` of them as they come, or from the last to the first.
std::vector<int> in_order(int count, int columns, bool is_reversed = false) {
    std::vector<int> rows(columns, NONE);
    for (int i = 0; i < count; i++) rows[i] = is_reversed ? count - 1 - i : i;
    return rows;
}

std::vector<ptrdiff_t> placed(const std::vector<int>& rows, size_t stride) {
    std::vector<ptrdiff_t> places;
    for (int row : rows) places.push_back(row == NONE ? Weight::NOWHERE : ptrdiff_t(row * stride));
    return places;
}

// Of a file's (outputs, inputs, taps).
Weight weights(const float* data, const std::vector<int>& outputs, const std::vector<int>& inputs, int taps) {
    const size_t across = std::count_if(inputs.begin(), inputs.end(), [](int row) { return row != NONE; });
    return {data, taps, placed(outputs, across * taps), placed(inputs, taps), {}, 1, 1};
}

}  // namespace

bool VoiceShape::is_possible() const {
    if (!within(latent, MOST_CHANNELS) || latent % 2 || !within(hidden, MOST_CHANNELS) ||
        !within(timbre, MOST_CHANNELS) || !within(couplings, MOST_LAYERS) || !within(layers, MOST_LAYERS) ||
        !is_odd(wave_taps) || !within(initial, MOST_CHANNELS) || !within(stages, MOST_KINDS) ||
        !within(blocks, MOST_KINDS) || !within(pairs, MOST_KINDS))
        return false;
    int samples = 1;
    for (int i = 0; i < stages; i++)
        if (!within(rates[i], MOST_RATE) || !within(kernels[i], MOST_TAPS) || kernels[i] < rates[i] ||
            (kernels[i] - rates[i]) % 2 || channels(i + 1) < 1 || (samples *= rates[i]) > MOST_SAMPLES)
            return false;
    for (int i = 0; i < blocks; i++) {
        if (!is_odd(taps[i])) return false;
        for (int j = 0; j < pairs; j++)
            if (!within(dilation(i, j), MOST_DILATION)) return false;
    }
    return true;
}

int VoiceShape::reach() const {
    int most = std::max<int>(wave_taps, ENDS) / 2;
    for (int i = 0; i < stages; i++) most = std::max(most, kernels[i] / rates[i] + 1);
    for (int i = 0; i < blocks; i++)
        for (int j = 0; j < pairs; j++) most = std::max(most, reach_of(taps[i], dilation(i, j)));
    return most;
}

int VoiceShape::margin() const {
    int furthest = 1;
    for (int i = 0; i < blocks; i++)
        for (int j = 0; j < pairs; j++) furthest = std::max(furthest, dilation(i, j));
    return reach() + 6 * furthest;
}

int grouped_rows(int taps, int dilation, int stride) {
    if (taps == 1 || dilation % 2 == 0) return 0;
    const int places = SEEN / stride - 1;  // one row more where their number is odd
    const int pairs = (places - dilation * taps - 1) / 2;
    const int rows = (2 * pairs - dilation) / 2 * 2;
    return rows < LEAST_BLOCK ? 0 : rows < MOST_BLOCK ? rows : MOST_BLOCK;
}

bool VoiceNetwork::open(Given& given, Team& team) {
    take_flow(given);
    take_vocoder(given);
    if (is_wrong_ || !given.is_used_up() || int(pending_.size()) > MOST_PIECES) return false;
    size_t room = 0;
    for (const Pending& one : pending_) room += room_of(one.plan);
    if (!arena_.reserve(room)) throw std::bad_alloc();
    for (Pending& one : pending_) one.room = arena_.take<uint16_t>(room_of(one.plan) / sizeof(uint16_t));
    biases_ = plain_;
    team.go(*this);
    pending_.clear();
    return true;
}

void VoiceNetwork::run(int, int piece, int, int) {
    const Pending& one = pending_[piece];
    *one.to = pack(one.plan, one.weight, biases_.data() + one.bias, one.room);
}

void VoiceNetwork::condition(const VoiceLevel& level, int piece, const float* timbre) {
    const Conditioned& one = conditioned_[piece];
    level.condition(matrices_.data() + one.matrix, timbre, shape.timbre, plain_.data() + one.bias,
                    biases_.data() + one.bias);
}

// ---------------------------------------------------------------- the flow

// Couplings in the order in which they are undone. The channels are reversed before each of them; instead, every other
// one takes its weights in reverse.
void VoiceNetwork::take_flow(Given& given) {
    couplings.resize(shape.couplings);
    for (int i = 0; i < shape.couplings && !is_wrong_; i++) {
        couplings[i].is_flipped = i % 2 == 0;
        couplings[i].gates.resize(shape.layers);
        couplings[i].residuals.resize(shape.layers - 1);
        couplings[i].skips.resize(shape.layers);
        take_coupling(given, couplings[i]);
    }
}

void VoiceNetwork::take_coupling(Given& given, Coupling& coupling) {
    const int half = shape.half(), hidden = shape.hidden, wide = padded(hidden);
    const float* before = take(given, size_t(hidden) * half);
    const float* before_bias = take(given, hidden);
    const float* matrix = take(given, size_t(2 * hidden) * shape.layers * shape.timbre);
    const float* matrix_bias = take(given, size_t(2 * hidden) * shape.layers);
    if (is_wrong_) return;
    const auto rows = in_order(hidden, wide), heard = in_order(half, half, coupling.is_flipped);
    add(coupling.before, {half, wide, 1, 1, 0, false, false}, weights(before, rows, heard, 1),
        add_bias(before_bias, hidden));
    for (int i = 0; i < shape.layers && !is_wrong_; i++) take_layer(given, coupling, i, {matrix, matrix_bias});
    const float* after = take(given, size_t(half) * hidden);
    const float* after_bias = take(given, half);
    if (is_wrong_) return;
    const auto moved = in_order(half, padded(half), coupling.is_flipped);
    Weight weight = weights(after, moved, in_order(hidden, hidden), 1);
    weight.sign = -1;  // it is taken away
    add(coupling.after, {hidden, padded(half), 1, 1, 0, false, false}, weight, add_bias(after_bias, moved, -1));
}

void VoiceNetwork::take_layer(Given& given, Coupling& coupling, int index, const Conditions& timbre) {
    const int hidden = shape.hidden, wide = padded(hidden), taps = shape.wave_taps;
    const bool is_last = index + 1 == shape.layers;
    const float* gate = take(given, size_t(2 * hidden) * hidden * taps);
    const float* gate_bias = take(given, 2 * hidden);
    const float* out = take(given, size_t(is_last ? hidden : 2 * hidden) * hidden);
    const float* out_bias = take(given, is_last ? hidden : 2 * hidden);
    if (is_wrong_) return;
    std::vector<int> turns(2 * wide, NONE);  // a panel of signals, its panel of gates, and so on
    for (int i = 0; i < hidden; i++) {
        const int column = i / VOICE_PANEL * 2 * VOICE_PANEL + i % VOICE_PANEL;
        turns[column] = i;
        turns[column + VOICE_PANEL] = hidden + i;
    }
    const auto rows = in_order(hidden, wide), inputs = in_order(hidden, hidden);
    const size_t bias = add_bias(gate_bias, turns);
    add_conditions(bias, timbre, 2 * hidden * index, turns);
    const Plan both{hidden, 2 * wide, taps, 1, taps / 2, true, false}, plan{hidden, wide, 1, 1, 0, false, false};
    add(coupling.gates[index], both, weights(gate, turns, inputs, taps), bias);
    if (!is_last) add(coupling.residuals[index], plan, weights(out, rows, inputs, 1), add_bias(out_bias, hidden));
    const size_t skipped = is_last ? 0 : hidden;
    add(coupling.skips[index], plan, weights(out + skipped * hidden, rows, inputs, 1),
        add_bias(out_bias + skipped, hidden));
}

// ---------------------------------------------------------------- the vocoder

void VoiceNetwork::take_vocoder(Given& given) {
    if (!is_wrong_) take_first(given);
    stages.resize(shape.stages);
    for (int i = 0; i < shape.stages && !is_wrong_; i++) take_stage(given, i);
    const int channels = shape.channels(shape.stages);
    const float* weight = take(given, size_t(channels) * ENDS);
    if (is_wrong_) return;
    add(last, {channels, VOICE_PANEL, ENDS, 1, ENDS / 2, false, false},
        weights(weight, in_order(1, VOICE_PANEL), in_order(channels, channels), ENDS), add_bias(nullptr, VOICE_PANEL));
}

void VoiceNetwork::take_first(Given& given) {
    const int latent = shape.latent, half = shape.half(), gap = padded(half), initial = shape.initial;
    const float* weight = take(given, size_t(initial) * latent * ENDS);
    const float* bias = take(given, initial);
    const float* matrix = take(given, size_t(initial) * shape.timbre);
    const float* matrix_bias = take(given, initial);
    if (is_wrong_) return;
    const bool is_reversed = shape.couplings % 2;  // the channels, at last
    std::vector<int> inputs(gap + half, NONE);     // the halves lie apart
    for (int i = 0; i < latent; i++) inputs[i < half ? i : i - half + gap] = is_reversed ? latent - 1 - i : i;
    const auto rows = in_order(initial, padded(initial));
    const size_t at = add_bias(bias, initial);
    add_conditions(at, {matrix, matrix_bias}, 0, rows);
    add(first, {gap + half, padded(initial), ENDS, 1, ENDS / 2, false, false}, weights(weight, rows, inputs, ENDS), at);
}

void VoiceNetwork::take_stage(Given& given, int index) {
    Stage& stage = stages[index];
    stage.rate = shape.rates[index];
    stage.channels = shape.channels(index + 1);
    stage.is_grouped = stage.channels >= GROUPED_FROM;
    for (int i = 0; i < shape.blocks; i++)
        for (int j = 0; j < shape.pairs; j++)
            stage.is_grouped &= grouped_rows(shape.taps[i], shape.dilation(i, j), padded(stage.channels)) > 0;
    stage.blocks.assign(shape.blocks, std::vector<Pair>(shape.pairs));
    take_up(given, index);
    for (int i = 0; i < shape.blocks && !is_wrong_; i++) take_block(given, stage, i);
}

// A transposed convolution by phase: its kernel's taps r + padding + d * rate are what output r of every input n gets
// from input n - d.
void VoiceNetwork::take_up(Given& given, int index) {
    Stage& stage = stages[index];
    const int inside = shape.channels(index), outside = stage.channels, wide = padded(outside);
    const int rate = stage.rate, taps = shape.kernels[index], padding = (taps - rate) / 2;
    const int most = (taps - 1 - padding) / rate, least = -((rate - 1 + padding) / rate);  // d
    const float* data = take(given, size_t(inside) * outside * taps);
    const float* bias = take(given, outside);
    if (is_wrong_) return;
    Weight weight{data, taps, {}, {}, {}, -rate, 1};
    std::vector<int> rows;
    for (int column = 0; column < rate * wide; column++) {
        rows.push_back(column % wide < outside ? column % wide : NONE);
        weight.first.push_back(column / wide + padding + most * rate);
    }
    weight.outputs = placed(rows, taps);
    weight.inputs = placed(in_order(inside, inside), size_t(outside) * taps);
    add(stage.up, {inside, rate * wide, most - least + 1, 1, most, false, false}, weight, add_bias(bias, rows));
}

// The file has all dilated ones first.
void VoiceNetwork::take_block(Given& given, Stage& stage, int index) {
    const int channels = stage.channels, wide = padded(channels), taps = shape.taps[index];
    const auto rows = in_order(channels, wide), inputs = in_order(channels, channels);
    for (int i = 0; i < 2 * shape.pairs; i++) {
        const bool is_plain = i >= shape.pairs;
        Pair& pair = stage.blocks[index][i % shape.pairs];
        const int dilation = is_plain ? 1 : shape.dilation(index, i);
        const float* data = take(given, size_t(channels) * channels * taps);
        const float* bias = take(given, channels);
        if (is_wrong_) return;
        add(is_plain ? pair.plain : pair.dilated,
            {channels, wide, taps, dilation, dilation * (taps / 2), false, stage.is_grouped},
            weights(data, rows, inputs, taps), add_bias(bias, channels));
    }
}

// ---------------------------------------------------------------- what is given

const float* VoiceNetwork::take(Given& given, size_t count) {
    const void* found = is_wrong_ ? nullptr : given.take(count * sizeof(float));
    is_wrong_ |= !found;
    return static_cast<const float*>(found);
}

// With zeros up to a whole panel; nothing but zeros where there is none.
size_t VoiceNetwork::add_bias(const float* from, int columns) {
    return add_bias(from, in_order(from ? columns : 0, padded(columns)));
}

size_t VoiceNetwork::add_bias(const float* from, const std::vector<int>& rows, float sign) {
    const size_t at = plain_.size();
    for (int row : rows) plain_.push_back(row == NONE ? 0 : sign * from[row]);
    return at;
}

// Rows of what makes biases of the timbre, `offset` rows further on in its file.
void VoiceNetwork::add_conditions(size_t bias, const Conditions& timbre, int offset, const std::vector<int>& rows) {
    for (size_t column = 0; column < rows.size(); column++) {
        const int lane = column % VOICE_PANEL, across = shape.timbre;
        if (lane == 0) {
            conditioned_.push_back({bias + column, matrices_.size()});
            matrices_.resize(matrices_.size() + size_t(across) * VOICE_PANEL);
        }
        if (rows[column] == NONE) continue;
        plain_[bias + column] += timbre.bias[offset + rows[column]];
        const float* from = timbre.matrix + size_t(offset + rows[column]) * across;
        float* to = matrices_.data() + conditioned_.back().matrix + lane;
        for (int k = 0; k < across; k++) to[size_t(k) * VOICE_PANEL] = from[k];
    }
}

void VoiceNetwork::add(Convolution& to, const Plan& plan, Weight weight, size_t bias) {
    pending_.push_back({plan, std::move(weight), bias, &to, nullptr});
}

}  // namespace native
