#include "voice_network.h"

#include <utility>

namespace native {
namespace {

constexpr int MOST_CHANNELS = 4096, MOST_LAYERS = 64, MOST_TAPS = 63, MOST_DILATION = 64, MOST_RATE = 64;
constexpr int ENDS = 7;  // taps of the vocoder's first and last convolution

bool within(int value, int most) { return value >= 1 && value <= most; }

bool is_odd(int value) { return within(value, MOST_TAPS) && value % 2; }

// Where outputs end before their padding.
Weight bounded(const float* from, int outputs, int inputs, int taps) {
    return [=](int output, int input, int tap) {
        return output < outputs ? from[(size_t(output) * inputs + input) * taps + tap] : 0;
    };
}

int floor_divided(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

}  // namespace

bool VoiceShape::is_possible() const {
    if (!within(latent, MOST_CHANNELS) || latent % 2 || !within(hidden, MOST_CHANNELS) ||
        !within(timbre, MOST_CHANNELS) || !within(couplings, MOST_LAYERS) || !within(layers, MOST_LAYERS) ||
        !is_odd(wave_taps) || !within(initial, MOST_CHANNELS) || !within(stages, MOST_KINDS) ||
        !within(blocks, MOST_KINDS) || !within(pairs, MOST_KINDS))
        return false;
    for (int i = 0; i < stages; i++)
        if (!within(rates[i], MOST_RATE) || !within(kernels[i], MOST_TAPS) || kernels[i] < rates[i] ||
            (kernels[i] - rates[i]) % 2 || channels(i + 1) < 1)
            return false;
    for (int i = 0; i < blocks; i++) {
        if (!is_odd(taps[i])) return false;
        for (int j = 0; j < pairs; j++)
            if (!within(dilation(i, j), MOST_DILATION)) return false;
    }
    return true;
}

int grouped_rows(int taps, int dilation, int stride) {
    if (taps == 1 || dilation % 2 == 0) return 0;
    const int places = SEEN / stride - 1;  // one row more where their number is odd
    const int pairs = (places - dilation * taps - 1) / 2;
    const int rows = (2 * pairs - dilation) / 2 * 2;
    return rows < 2 ? 0 : rows < MOST_BLOCK ? rows : MOST_BLOCK;
}

bool VoiceNetwork::open(Given& given) {
    take_flow(given);
    take_vocoder(given);
    if (is_wrong_ || !given.is_used_up()) return false;
    size_t room = 0;
    for (const Pending& one : pending_) room += room_of(one.plan);
    if (!arena_.reserve(room)) throw std::bad_alloc();
    biases_ = plain_;
    for (const Pending& one : pending_) *one.to = pack(one.plan, one.weight, biases_.data() + one.bias, arena_);
    pending_.clear();
    return true;
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
    for (int i = 0; i < shape.couplings; i++) {
        couplings[i].is_flipped = i % 2 == 0;
        couplings[i].gates.resize(shape.layers);
        couplings[i].residuals.resize(shape.layers - 1);
        couplings[i].skips.resize(shape.layers);
        take_coupling(given, couplings[i]);
    }
}

void VoiceNetwork::take_coupling(Given& given, Coupling& coupling) {
    const int half = shape.half(), hidden = shape.hidden, wide = padded(hidden), taps = shape.wave_taps;
    const bool is_flipped = coupling.is_flipped;
    const auto place = [=](int channel) { return is_flipped ? half - 1 - channel : channel; };
    const float* before = take(given, size_t(hidden) * half);
    const float* before_bias = take(given, hidden);
    const float* timbre = take(given, size_t(2 * hidden) * shape.layers * shape.timbre);
    const float* timbre_bias = take(given, size_t(2 * hidden) * shape.layers);
    if (is_wrong_) return;
    add(coupling.before, {half, wide, 1, 1, 0, false, false},
        [=](int output, int input, int) { return output < hidden ? before[size_t(output) * half + place(input)] : 0; },
        add_bias(hidden, [=](int i) { return before_bias[i]; }));
    for (int i = 0; i < shape.layers; i++) {
        const bool is_last = i + 1 == shape.layers;
        const float* in = take(given, size_t(2 * hidden) * hidden * taps);
        const float* in_bias = take(given, 2 * hidden);
        const float* out = take(given, size_t(is_last ? hidden : 2 * hidden) * hidden);
        const float* out_bias = take(given, is_last ? hidden : 2 * hidden);
        if (is_wrong_) return;
        // a panel of signals, its panel of gates, and so on
        const auto row = [=](int column) {
            const int channel = column / (2 * VOICE_PANEL) * VOICE_PANEL + column % VOICE_PANEL;
            return channel >= hidden ? -1 : column / VOICE_PANEL % 2 ? hidden + channel : channel;
        };
        const int at = 2 * hidden * i, across = shape.timbre;
        const size_t bias = add_bias(2 * wide, [=](int column) {
            return row(column) < 0 ? 0 : in_bias[row(column)] + timbre_bias[at + row(column)];
        });
        add_conditions(bias, 2 * wide, [=](int column) {
            return row(column) < 0 ? nullptr : timbre + size_t(at + row(column)) * across;
        });
        add(coupling.gates[i], {hidden, 2 * wide, taps, 1, taps / 2, true, false},
            [=](int output, int input, int tap) {
                return row(output) < 0 ? 0 : in[(size_t(row(output)) * hidden + input) * taps + tap];
            },
            bias);
        const Plan plan{hidden, wide, 1, 1, 0, false, false};
        if (!is_last)
            add(coupling.residuals[i], plan, bounded(out, hidden, hidden, 1),
                add_bias(hidden, [=](int j) { return out_bias[j]; }));
        const size_t skipped = is_last ? 0 : hidden;
        add(coupling.skips[i], plan, bounded(out + skipped * hidden, hidden, hidden, 1),
            add_bias(hidden, [=](int j) { return out_bias[skipped + j]; }));
    }
    const float* after = take(given, size_t(half) * hidden);
    const float* after_bias = take(given, half);
    if (is_wrong_) return;
    add(coupling.after, {hidden, padded(half), 1, 1, 0, false, false},
        [=](int output, int input, int) { return output < half ? -after[size_t(place(output)) * hidden + input] : 0; },
        add_bias(half, [=](int i) { return -after_bias[place(i)]; }));
}

// ---------------------------------------------------------------- the vocoder

void VoiceNetwork::take_vocoder(Given& given) {
    const int latent = shape.latent, half = shape.half(), gap = padded(half), initial = shape.initial;
    const float* weight = take(given, size_t(initial) * latent * ENDS);
    const float* bias = take(given, initial);
    const float* timbre = take(given, size_t(initial) * shape.timbre);
    const float* timbre_bias = take(given, initial);
    if (is_wrong_) return;
    const size_t at = add_bias(initial, [=](int i) { return bias[i] + timbre_bias[i]; });
    const int across = shape.timbre;
    add_conditions(at, padded(initial), [=](int i) { return i < initial ? timbre + size_t(i) * across : nullptr; });
    const bool is_odd = shape.couplings % 2;  // the channels are reversed at last
    add(first, {gap + half, padded(initial), ENDS, 1, ENDS / 2, false, false},
        [=](int output, int input, int tap) -> float {
            const int inside = input < half ? input : input - gap + half;  // the halves lie apart
            if (output >= initial || (input >= half && input < gap)) return 0;
            return weight[(size_t(output) * latent + (is_odd ? latent - 1 - inside : inside)) * ENDS + tap];
        },
        at);
    stages.resize(shape.stages);
    for (int i = 0; i < shape.stages && !is_wrong_; i++) take_stage(given, i);
    const int channels = shape.channels(shape.stages);
    const float* end = take(given, size_t(channels) * ENDS);
    if (is_wrong_) return;
    add(last, {channels, VOICE_PANEL, ENDS, 1, ENDS / 2, false, false}, bounded(end, 1, channels, ENDS),
        add_bias(1, [](int) { return 0; }));
}

// Transposed convolutions by phase: a kernel's taps r + padding + d * rate are what output r of every input n gets from
// input n - d.
void VoiceNetwork::take_stage(Given& given, int index) {
    Stage& stage = stages[index];
    const int inside = shape.channels(index), outside = shape.channels(index + 1), wide = padded(outside);
    const int rate = shape.rates[index], taps = shape.kernels[index], padding = (taps - rate) / 2;
    const int first_delay = -floor_divided(rate - 1 + padding, rate), last_delay = (taps - 1 - padding) / rate;
    stage.rate = rate;
    stage.channels = outside;
    const float* weight = take(given, size_t(inside) * outside * taps);
    const float* bias = take(given, outside);
    if (is_wrong_) return;
    add(stage.up, {inside, rate * wide, last_delay - first_delay + 1, 1, last_delay, false, false},
        [=](int output, int input, int place) -> float {
            const int phase = output / wide, channel = output % wide;
            const int tap = phase + padding + (last_delay - place) * rate;
            return channel < outside && tap >= 0 && tap < taps ? weight[(size_t(input) * outside + channel) * taps + tap] : 0;
        },
        add_bias(rate * wide, [=](int i) { return i % wide < outside ? bias[i % wide] : 0; }));
    stage.is_grouped = outside >= GROUPED_FROM;
    for (int i = 0; i < shape.blocks; i++)
        for (int j = 0; j < shape.pairs; j++)
            stage.is_grouped &= grouped_rows(shape.taps[i], shape.dilation(i, j), wide) > 0;
    stage.blocks.assign(shape.blocks, std::vector<Pair>(shape.pairs));
    for (int i = 0; i < shape.blocks; i++)
        for (int j = 0; j < 2 * shape.pairs; j++) {  // the file has all dilated ones first
            const bool is_plain = j >= shape.pairs;
            Pair& pair = stage.blocks[i][j % shape.pairs];
            const int size = shape.taps[i], dilation = is_plain ? 1 : shape.dilation(i, j);
            const float* from = take(given, size_t(outside) * outside * size);
            const float* shift = take(given, outside);
            if (is_wrong_) return;
            add(is_plain ? pair.plain : pair.dilated,
                {outside, wide, size, dilation, dilation * (size / 2), false, stage.is_grouped},
                bounded(from, outside, outside, size), add_bias(outside, [=](int k) { return shift[k]; }));
        }
}

// ---------------------------------------------------------------- what is given

const float* VoiceNetwork::take(Given& given, size_t count) {
    const void* found = is_wrong_ ? nullptr : given.take(count * sizeof(float));
    is_wrong_ |= !found;
    return static_cast<const float*>(found);
}

// With zeros up to a whole panel.
size_t VoiceNetwork::add_bias(int columns, const std::function<float(int)>& value) {
    const size_t at = plain_.size();
    for (int i = 0; i < columns; i++) plain_.push_back(value(i));
    plain_.resize(at + padded(columns));
    return at;
}

void VoiceNetwork::add_conditions(size_t bias, int columns, const std::function<const float*(int)>& row) {
    for (int column = 0; column < columns; column += VOICE_PANEL) {
        conditioned_.push_back({bias + column, matrices_.size()});
        const size_t at = matrices_.size();
        matrices_.resize(at + size_t(shape.timbre) * VOICE_PANEL);
        for (int lane = 0; lane < VOICE_PANEL; lane++) {
            const float* from = row(column + lane);
            for (int k = 0; from && k < shape.timbre; k++) matrices_[at + size_t(k) * VOICE_PANEL + lane] = from[k];
        }
    }
}

void VoiceNetwork::add(Convolution& to, const Plan& plan, Weight weight, size_t bias) {
    pending_.push_back({plan, std::move(weight), bias, &to});
}

}  // namespace native
