// Weights of convolutions as files have them -> strips.
#pragma once

#include "memory.h"
#include "voice.h"

#include <functional>

namespace native {

// What is packed: weight(output, input, tap), with outputs and inputs where they lie in rows.
struct Plan {
    int inside, outside;  // channels; outputs are a multiple of 16
    int taps, dilation, before;
    bool is_gate;         // panels of a strip belong together in twos
    bool is_grouped;
};

typedef std::function<float(int output, int input, int tap)> Weight;

size_t room_of(const Plan& plan);

// `bias` (outside,) is kept, not copied.
Convolution pack(const Plan& plan, const Weight& weight, const float* bias, Arena& arena);

}  // namespace native
