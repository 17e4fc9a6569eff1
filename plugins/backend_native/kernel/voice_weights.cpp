#include "voice_weights.h"

#include <cstring>

namespace native {
namespace {

constexpr int PANEL = 16, PRODUCTS = 4;

uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

int width_of(const Plan& plan) {
    const int panels = plan.outside / PANEL;
    for (int count : {4, 3, 2})
        if (panels % count == 0 && !(plan.is_gate && count % 2)) return count * PANEL;
    return PANEL;
}

std::vector<Group> groups_of(int taps) {
    std::vector<Group> groups;
    int twos = taps % 3 == 0 ? 0 : taps % 3 == 1 ? 2 : 1;
    for (int tap = 0; tap < taps;) {
        const bool is_whole = taps - tap > 2 * twos;
        groups.push_back({tap, is_whole});
        tap += is_whole ? 3 : 2;
    }
    return groups;
}

// Weights of the four products, in the order in which they are made: of sums, of differences, and of what is apart.
float combined(const Weight& weight, int output, int input, const Group& group, int product) {
    const float a = weight(output, input, group.tap), b = weight(output, input, group.tap + 1);
    const float c = group.is_whole ? weight(output, input, group.tap + 2) : 0;
    switch (product) {
        case 0: return (a + b + c) / 2;
        case 1: return (a - b + c) / 2;
        case 2: return a;
        default: return -c;
    }
}

bool is_empty(const Plan& plan, const Weight& weight, int column, int width, int tap) {
    for (int output = column; output < column + width; output++)
        for (int input = 0; input < plan.inside; input++)
            if (weight(output, input, tap) != 0) return false;
    return true;
}

// One term of a strip: all inputs, in pairs.
template <class Value>
uint16_t* put(const Plan& plan, int column, int width, uint16_t* to, Value value) {
    const int padded = (plan.inside + 1) / 2 * 2;
    for (int input = 0; input < padded; input++)
        for (int lane = 0; lane < width; lane++)
            to[(input / 2 * width + lane) * 2 + input % 2] =
                input < plan.inside ? half_of(value(column + lane, input)) : 0;
    return to + size_t(padded) * width;
}

// The last strip of `c`.
uint16_t* put_groups(const Plan& plan, const Weight& weight, const Convolution& c, uint16_t* to) {
    const int column = (int(c.strips.size()) - 1) * c.width;
    for (int product = 0; product < PRODUCTS; product++)
        for (const Group& group : c.groups)
            if (group.is_whole || product + 1 < PRODUCTS)
                to = put(plan, column, c.width, to, [&](int output, int input) {
                    return combined(weight, output, input, group, product);
                });
    return to;
}

// And that: without the taps before and behind all that have any weight.
uint16_t* put_taps(const Plan& plan, const Weight& weight, Convolution& c, uint16_t* to) {
    const int column = (int(c.strips.size()) - 1) * c.width;
    int &first = c.strips.back().first, &last = c.strips.back().last;
    while (first < last - 1 && is_empty(plan, weight, column, c.width, first)) first++;
    while (last - 1 > first && is_empty(plan, weight, column, c.width, last - 1)) last--;
    for (int tap = first; tap < last; tap++)
        to = put(plan, column, c.width, to, [&](int output, int input) { return weight(output, input, tap); });
    return to;
}

size_t terms_of(const Plan& plan) {
    if (!plan.is_grouped) return plan.taps;
    size_t terms = 0;
    for (const Group& group : groups_of(plan.taps)) terms += group.is_whole ? PRODUCTS : PRODUCTS - 1;
    return terms;
}

}  // namespace

size_t room_of(const Plan& plan) {
    return Arena::room_for(terms_of(plan) * size_t((plan.inside + 1) / 2) * 4 * plan.outside);
}

Convolution pack(const Plan& plan, const Weight& weight, const float* bias, uint16_t* to) {
    Convolution c;
    c.inside = plan.inside, c.outside = plan.outside, c.taps = plan.taps, c.dilation = plan.dilation;
    c.before = plan.before, c.width = width_of(plan);
    if (plan.is_grouped) c.groups = groups_of(plan.taps);
    for (int column = 0; column < plan.outside; column += c.width) {
        c.strips.push_back({reinterpret_cast<const uint32_t*>(to), bias + column, 0, plan.taps});
        to = c.is_grouped() ? put_groups(plan, weight, c, to) : put_taps(plan, weight, c, to);
    }
    return c;
}

}  // namespace native
