// Weights of convolutions as files have them -> strips.
#pragma once

#include "memory.h"
#include "voice.h"

#include <vector>

namespace native {

// What is packed, with outputs and inputs where they lie in rows.
struct Plan {
    int inside, outside;  // channels; outputs are a multiple of 16
    int taps, dilation, before;
    bool is_gate;         // panels of a strip belong together in twos
    bool is_grouped;
};

// Where a file has the weight of an output and an input, in floats; NOWHERE for what only fills up. Taps lie together,
// and place p of an output is its tap `first` + p * `step`, if there is one.
struct Weight {
    static constexpr ptrdiff_t NOWHERE = -1;

    const float* data;
    int taps;
    std::vector<ptrdiff_t> outputs, inputs;
    std::vector<int> first;  // of each output; none where all begin with 0
    int step = 1;
    float sign = 1;

    float operator()(int output, int input, int place) const {
        const ptrdiff_t row = outputs[output], column = inputs[input];
        const int tap = (first.empty() ? 0 : first[output]) + place * step;
        return row < 0 || column < 0 || tap < 0 || tap >= taps ? 0 : sign * data[row + column + tap];
    }
};

size_t room_of(const Plan& plan);  // bytes

// `bias` (outside,) and the packed weights `to` are kept, not copied.
Convolution pack(const Plan& plan, const Weight& weight, const float* bias, uint16_t* to);

}  // namespace native
