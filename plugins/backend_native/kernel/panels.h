// Weights as files have them -> panels, see `Matrix`.
#pragma once

#include "kernel.h"
#include "memory.h"
#include "team.h"

#include <vector>

namespace native {

inline int panels_for(int outputs) { return (outputs + PANEL - 1) / PANEL; }

inline size_t panel_bytes(int inputs, int group) {
    const size_t groups = group ? (inputs + group - 1) / group : 0;
    return group ? groups * (size_t(group) * PANEL + PANEL * sizeof(float)) : size_t(inputs) * PANEL * 2;
}

// Bytes that `take_matrix` takes of an arena.
inline size_t matrix_room(int outputs, int inputs, int group) {
    const size_t panels = panels_for(outputs);
    return Arena::room_for(panels * panel_bytes(inputs, group)) + Arena::room_for(panels * PANEL * sizeof(float));
}

// Numbers (outputs, groups, group) and scales (outputs, groups) -> panels.
inline void pack_numbers(const Matrix& m, int outputs, const uint8_t* numbers, const float* scales, uint8_t* to) {
    for (int panel = 0; panel < m.panels; panel++)
        for (int g = 0; g < m.groups; g++) {
            float* ends = reinterpret_cast<float*>(to + size_t(m.group) * PANEL);
            for (int lane = 0; lane < PANEL; lane++) {
                const int output = panel * PANEL + lane;
                const bool is_there = output < outputs;
                const size_t block = size_t(output) * m.groups + g;
                for (int k = 0; k < m.group; k += 4) {
                    uint8_t* four = to + (k / 4 * PANEL + lane) * 4;
                    if (is_there)
                        memcpy(four, numbers + block * m.group + k, 4);
                    else
                        memset(four, 128, 4);
                }
                ends[lane] = is_there ? scales[block] : 0;
            }
            to = reinterpret_cast<uint8_t*>(ends + PANEL);
        }
}

// Half floats (outputs, inputs) -> panels.
inline void pack_halves(const Matrix& m, int outputs, const uint16_t* halves, uint16_t* to) {
    for (int panel = 0; panel < m.panels; panel++)
        for (int lane = 0; lane < PANEL; lane++) {
            const int output = panel * PANEL + lane;
            for (int k = 0; k < m.inputs; k++)
                to[(size_t(panel) * m.inputs + k) * PANEL + lane] =
                    output < outputs ? halves[size_t(output) * m.inputs + k] : 0;
        }
}

// Matrices that are packed by all threads, once all that is given has been looked at.
class Packing final : public Work {
public:
    struct Pending {
        Matrix matrix;
        int outputs;
        const void *weights, *scales;
        uint8_t* to;
    };

    void add(const Pending& one) { pending_.push_back(one); }

    // While what was given still lives.
    void finish(Team& team) {
        if (!pending_.empty()) team.go(*this);
        pending_.clear();
    }

    int phases() const override { return 1; }
    int pieces_of(int) const override { return int(pending_.size()); }
    void conclude(int) override {}

    void run(int, int piece, int, int) override {
        const Pending& one = pending_[piece];
        if (one.matrix.group)
            pack_numbers(one.matrix, one.outputs, static_cast<const uint8_t*>(one.weights),
                         static_cast<const float*>(one.scales), one.to);
        else
            pack_halves(one.matrix, one.outputs, static_cast<const uint16_t*>(one.weights),
                        reinterpret_cast<uint16_t*>(one.to));
    }

private:
    std::vector<Pending> pending_;
};

// Where the weights of a network come from and go to.
struct Source {
    Given& given;
    Arena& arena;
    Packing& packing;
};

// Weights, scales where there are groups, and bias, of the next arrays given.
inline Matrix take_matrix(Source& source, int outputs, int inputs, int group, bool has_bias) {
    Given& given = source.given;
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
    uint8_t* data = source.arena.take<uint8_t>(m.panels * m.panel_bytes);
    float* shift = source.arena.take<float>(size_t(m.panels) * PANEL);
    m.data = data;
    m.bias = shift;
    if (!weights || (group && !scales) || (has_bias && !bias)) return m;
    source.packing.add({m, outputs, weights, scales, data});
    if (bias) memcpy(shift, bias, outputs * sizeof(float));
    return m;
}

inline Norm take_norm(Source& source, int width, float epsilon) {
    const float* gain = take_floats(source.given, source.arena, width);
    return {gain, take_floats(source.given, source.arena, width), epsilon};
}

}  // namespace native
