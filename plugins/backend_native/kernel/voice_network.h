// Flow and vocoder as convolutions: what their file gives, packed.
#pragma once

#include "team.h"
#include "voice_weights.h"

#include <vector>

namespace native {

constexpr int VOICE_PANEL = 16, MOST_KINDS = 8;
constexpr int GROUPED_FROM = 48;  // channels from which groups of taps pay

// Sizes of a network, as the C interface takes them.
struct VoiceShape {
    int32_t latent, hidden, timbre, couplings, layers, wave_taps, initial;
    int32_t stages, blocks, pairs;  // of each stage of the vocoder: blocks of pairs of convolutions
    int32_t rates[MOST_KINDS], kernels[MOST_KINDS], taps[MOST_KINDS], dilations[MOST_KINDS * MOST_KINDS];

    int half() const { return latent / 2; }
    int channels(int stage) const { return initial >> stage; }  // after `stage` stages
    int dilation(int block, int pair) const { return dilations[block * MOST_KINDS + pair]; }
    int reach() const;   // rows on each side that any output depends on
    int margin() const;  // and rows that are looked at, at what becomes of no output
    bool is_possible() const;
};

inline int padded(int channels) { return (channels + VOICE_PANEL - 1) / VOICE_PANEL * VOICE_PANEL; }

// Rows on each side that an output depends on. Groups of two taps take one row more into their products and out again.
inline int reach_of(int taps, int dilation) { return (taps / 2 + 1) * dilation; }

// Rows of a block that a thread has room for; 0 where there is none for any.
int grouped_rows(int taps, int dilation, int stride);

struct Coupling {
    bool is_flipped;  // it moves the first half of the channels, and hears the second one
    Convolution before, after;
    std::vector<Convolution> gates, residuals, skips;
};

struct Pair {
    Convolution dilated, plain;
};

struct Stage {
    int rate = 1, channels = 0;
    bool is_grouped = false;
    Convolution up;
    std::vector<std::vector<Pair>> blocks;
};

class VoiceNetwork final : private Work {
public:
    explicit VoiceNetwork(const VoiceShape& shape) : shape(shape) {}

    // Packs what is given, once. False where arrays do not have the sizes that the shape demands; throws bad_alloc.
    bool open(Given& given, Team& team);

    // Biases that depend on the timbre (shape.timbre,): in `conditions()` pieces, each by itself.
    int conditions() const { return int(conditioned_.size()); }
    void condition(const VoiceLevel& level, int piece, const float* timbre);

    const VoiceShape shape;
    std::vector<Coupling> couplings;
    Convolution first, last;
    std::vector<Stage> stages;

private:
    struct Pending {
        Plan plan;
        Weight weight;
        size_t bias;
        Convolution* to;
        uint16_t* room;
    };
    struct Conditioned {
        size_t bias, matrix;  // of 16 outputs
    };
    struct Conditions {
        const float *matrix, *bias;
    };

    int phases() const override { return 1; }
    int pieces_of(int) const override { return int(pending_.size()); }
    void run(int phase, int piece, int pieces, int thread) override;
    void conclude(int) override {}

    void take_flow(Given& given);
    void take_coupling(Given& given, Coupling& coupling);
    void take_layer(Given& given, Coupling& coupling, int index, const Conditions& timbre);
    void take_vocoder(Given& given);
    void take_first(Given& given);
    void take_stage(Given& given, int index);
    void take_up(Given& given, int index);
    void take_block(Given& given, Stage& stage, int index);
    const float* take(Given& given, size_t count);

    size_t add_bias(const float* from, int columns);
    size_t add_bias(const float* from, const std::vector<int>& rows, float sign = 1);
    void add_conditions(size_t bias, const Conditions& timbre, int offset, const std::vector<int>& rows);
    void add(Convolution& to, const Plan& plan, Weight weight, size_t bias);

    bool is_wrong_ = false;
    Arena arena_;
    std::vector<Pending> pending_;
    std::vector<Conditioned> conditioned_;
    std::vector<float> plain_, biases_, matrices_;
};

}  // namespace native
