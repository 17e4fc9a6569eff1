// The arithmetic of a convolution, written once over the primitives of a level. A level's file includes this inside its
// own unnamed namespace, after it has defined (LANES is 16)
//   Pairs, load_pairs            16 pairs of bf16 weights
//   dot2                         a sum plus the products of pairs with one pair of bf16 inputs
//   store_halves                 16 floats rounded to bf16
//   multiply_add                 a * b + c
//
// An output gets the same operations in the same order wherever its tile begins: how work is cut into pieces, and how
// many threads there are, changes no bit.

#include "elementary.h"

inline Floats leaky(Floats x, float slope) { return larger(x, x * slope); }

inline Floats sigmoid(Floats x) {
    const Floats e = exponential(-larger(x, -x));
    return (x < 0 ? e : all(1)) / (1 + e);
}

inline Floats hyperbolic_tangent(Floats x) { return 2 * sigmoid(2 * x) - 1; }

// ---------------------------------------------------------------- sums

constexpr int MOST_TERMS = 64;

// Terms that are summed: each is all pairs of channels of the rows from `offsets` on.
struct Sum {
    const uint32_t* weights;
    const uint32_t* in;
    size_t across;  // pairs from row to row
    int pairs, terms;
    size_t offsets[MOST_TERMS];
};

// ROWS rows times COUNT panels that stay in registers over all terms.
template <int ROWS, int COUNT>
inline void tile(const Sum& sum, int row, const float* from, size_t from_stride, float* to) {
    Floats total[ROWS][COUNT];
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < COUNT; s++) total[r][s] = load(from + r * from_stride + s * LANES);
    const uint32_t* weights = sum.weights;
    for (int term = 0; term < sum.terms; term++) {
        const uint32_t* rows[(ROWS + 2) / 3];
        for (int r = 0; r < ROWS; r += 3) rows[r / 3] = sum.in + sum.offsets[term] + size_t(row + r) * sum.across;
        for (int k = 0; k < sum.pairs; k++) {
            Pairs pairs[COUNT];
            for (int s = 0; s < COUNT; s++) pairs[s] = load_pairs(weights + s * LANES);
            weights += COUNT * LANES;
            for (int r = 0; r < ROWS; r++) {
                const uint32_t pair = rows[r / 3][k + (r % 3) * sum.across];
                for (int s = 0; s < COUNT; s++) total[r][s] = dot2(total[r][s], pairs[s], pair);
            }
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < COUNT; s++) store(to + (r * COUNT + s) * LANES, total[r][s]);
}

// Rows 0 … count - 1; they begin with `from`, which is a bias for all (stride 0) or sums that may be those of `to`.
template <int ROWS, int COUNT>
void tiles(const Sum& sum, int count, const float* from, size_t stride, float* to) {
    constexpr int WIDTH = COUNT * LANES;
    int row = 0;
    for (; row + ROWS <= count; row += ROWS) tile<ROWS, COUNT>(sum, row, from + row * stride, stride, to + row * WIDTH);
    for (; row + ROWS / 2 <= count; row += ROWS / 2)
        tile<ROWS / 2, COUNT>(sum, row, from + row * stride, stride, to + row * WIDTH);
    for (; row + 2 <= count; row += 2) tile<2, COUNT>(sum, row, from + row * stride, stride, to + row * WIDTH);
    if (row < count) tile<1, COUNT>(sum, row, from + row * stride, stride, to + row * WIDTH);
}

void sums(const Sum& sum, int width, int count, const float* from, size_t stride, float* to) {
    switch (width / LANES) {
        case 1: tiles<12, 1>(sum, count, from, stride, to); break;
        case 2: tiles<12, 2>(sum, count, from, stride, to); break;
        case 3: tiles<8, 3>(sum, count, from, stride, to); break;
        default: tiles<6, 4>(sum, count, from, stride, to);
    }
}

// ---------------------------------------------------------------- what becomes of sums

struct Rows {
    int first, step, count;
};

template <bool HAS_ADD, bool HAS_MORE, bool HAS_FLOATS, bool HAS_HALVES>
void store_rows(const Layer& layer, const float* sums, int column, const Rows& rows) {
    const int width = layer.convolution->width;
    const float scale = layer.scale, slope = layer.slope;
    const size_t step = size_t(rows.step) * layer.stride;
    size_t at = size_t(rows.first) * layer.stride + column;
    for (int i = 0; i < rows.count; i++, at += step, sums += width)
        for (int s = 0; s < width; s += LANES) {
            Floats y = load(sums + s);
            if (HAS_ADD) y += load(layer.add + at + s);
            if (HAS_MORE) y += load(layer.more + at + s);
            if (HAS_FLOATS) store(layer.floats + at + s, y);
            if (HAS_HALVES) store_halves(layer.halves + at + s, leaky(y * scale, slope));
        }
}

typedef void (*Store)(const Layer& layer, const float* sums, int column, const Rows& rows);

Store store_of(const Layer& layer) {
    const int kind = (layer.add ? 8 : 0) | (layer.more ? 4 : 0) | (layer.floats ? 2 : 0) | (layer.halves ? 1 : 0);
    switch (kind) {
        case 1: return store_rows<false, false, false, true>;
        case 2: return store_rows<false, false, true, false>;
        case 3: return store_rows<false, false, true, true>;
        case 9: return store_rows<true, false, false, true>;
        case 10: return store_rows<true, false, true, false>;
        case 11: return store_rows<true, false, true, true>;
        case 13: return store_rows<true, true, false, true>;
        default: return store_rows<true, true, true, false>;
    }
}

void finish(const Layer& layer, const float* sums, int column, const Rows& rows) {
    const int width = layer.convolution->width;
    if (layer.then == Then::STORE) {
        store_of(layer)(layer, sums, column, rows);
        return;
    }
    for (int i = 0; i < rows.count; i++) {
        const size_t at = size_t(rows.first + i * rows.step) * layer.stride;
        const float* from = sums + i * width;
        if (layer.then == Then::SOUND) {
            layer.floats[at] = hyperbolic_tangent(load(from))[0];
            continue;
        }
        for (int s = 0; s < width; s += 2 * LANES) {
            const Floats signal = hyperbolic_tangent(load(from + s)), gate = sigmoid(load(from + s + LANES));
            store_halves(layer.halves + at + (column + s) / 2, signal * gate);
        }
    }
}

// ---------------------------------------------------------------- tap by tap

void convolve_strip(const Layer& layer, int index, int first, int last, float* scratch) {
    const Convolution& c = *layer.convolution;
    const Strip& strip = c.strips[index];
    Sum sum{strip.weights, nullptr, size_t(layer.in_stride) / 2, c.pairs(), strip.last - strip.first, {}};
    for (int tap = strip.first; tap < strip.last; tap++)
        sum.offsets[tap - strip.first] = size_t(tap) * c.dilation * sum.across;
    for (int row = first; row < last; row += SUM_ROWS) {
        const int count = last - row < SUM_ROWS ? last - row : SUM_ROWS;
        sum.in = reinterpret_cast<const uint32_t*>(layer.in + (ptrdiff_t(row) - c.before) * layer.in_stride);
        sums(sum, c.width, count, strip.bias, 0, scratch);
        finish(layer, scratch, index * c.width, {row, 1, count});
    }
}

// ---------------------------------------------------------------- by groups

// What groups see of the rows from `first` on, those of odd places behind those of even ones: every other row begins a
// pair, and so the rows of a tile are neighbours. A pair is a dilation apart, and dilations are odd.
struct Seen {
    uint16_t *apart, *sum, *difference;  // x[u] - x[u + 2d], x[u] + x[u + d], x[u + d] - x[u]
    int first, pairs, places, half;

    size_t at(int place) const { return size_t(place % 2) * half + place / 2; }
};

void look(const Layer& layer, const Seen& seen) {
    const size_t stride = layer.in_stride, step = layer.convolution->dilation * stride;
    for (int u = 0; u < seen.places; u++) {
        const float* from = layer.in_floats + (ptrdiff_t(seen.first) + u) * ptrdiff_t(stride);
        const size_t at = seen.at(u) * stride;
        for (size_t channel = 0; channel < stride; channel += LANES, from += LANES) {
            const Floats now = leaky(load(from), layer.in_slope), next = leaky(load(from + step), layer.in_slope);
            store_halves(seen.apart + at + channel, now - leaky(load(from + 2 * step), layer.in_slope));
            store_halves(seen.sum + at + channel, now + next);
            store_halves(seen.difference + at + channel, next - now);
        }
    }
}

// A strip of a block by groups, and its sums for the first and the second row of every pair.
struct Grouped {
    const Layer& layer;
    const Seen& seen;
    int index, first, last;
    float *earlier, *later;

    const Convolution& convolution() const { return *layer.convolution; }
};

struct Product {
    const uint16_t* seen;
    int place;         // where groups look, in dilations from their first tap on
    bool takes_whole;  // whether groups of two taps have no part in it
};

// Adds to what is in `from` (one row for all where `stride` is 0) one of the four products; returns the next one's
// weights.
const uint32_t* multiply(const Grouped& g, const Product& p, const uint32_t* weights, const float* from, size_t stride,
                         float* to) {
    const Convolution& c = g.convolution();
    Sum sum{weights, reinterpret_cast<const uint32_t*>(p.seen), size_t(g.layer.in_stride) / 2, c.pairs(), 0, {}};
    for (const Group& group : c.groups)
        if (group.is_whole || !p.takes_whole)
            sum.offsets[sum.terms++] = g.seen.at((group.tap + p.place) * c.dilation) * sum.across;
    sums(sum, c.width, g.seen.pairs, from, stride, to);
    return weights + size_t(sum.terms) * c.pairs() * c.width;
}

// Pairs begin before the block, and end behind it.
void finish_every_other(const Grouped& g, const float* sums, int row) {
    const int width = g.convolution().width, skipped = row < g.first ? (g.first - row + 1) / 2 : 0;
    const int begin = row + 2 * skipped, end = row + 2 * g.seen.pairs < g.last ? row + 2 * g.seen.pairs : g.last;
    if (begin >= end) return;
    finish(g.layer, sums + size_t(skipped) * width, g.index * width, {begin, 2, (end - begin + 1) / 2});
}

void convolve_groups(const Grouped& g) {
    static const float nothing[STRIP] = {};
    const Convolution& c = g.convolution();
    const int row = g.seen.first + c.before;
    const Strip& strip = c.strips[g.index];
    const uint32_t* weights = multiply(g, {g.seen.sum, 1, false}, strip.weights, strip.bias, 0, g.earlier);
    weights = multiply(g, {g.seen.difference, 1, false}, weights, nothing, 0, g.later);
    for (int i = 0; i < g.seen.pairs * c.width; i += LANES) {
        const Floats a = load(g.earlier + i), b = load(g.later + i);
        store(g.earlier + i, a + b);
        store(g.later + i, a - b);
    }
    weights = multiply(g, {g.seen.apart, 0, false}, weights, g.earlier, c.width, g.earlier);
    finish_every_other(g, g.earlier, row);
    multiply(g, {g.seen.apart, 1, true}, weights, g.later, c.width, g.later);
    finish_every_other(g, g.later, row + c.dilation);
}

// ---------------------------------------------------------------- a level's functions

void convolve(const Layer& layer, int piece, float* scratch) {
    const Convolution& c = *layer.convolution;
    const int strips = int(c.strips.size()), part = piece % layer.parts;
    const int first = layer.first + piece / layer.parts * layer.block;
    const int last = layer.last - first < layer.block ? layer.last : first + layer.block;
    const int from = strips * part / layer.parts, to = strips * (part + 1) / layer.parts;
    if (!c.is_grouped()) {
        for (int index = from; index < to; index++) convolve_strip(layer, index, first, last, scratch);
        return;
    }
    const int begin = first / 2 * 2 - (c.dilation - 1), pairs = (last - begin + 1) / 2, places = places_of(c, pairs);
    uint16_t* kinds = reinterpret_cast<uint16_t*>(scratch + 2 * MOST_SUMS);
    const Seen seen{kinds, kinds + SEEN, kinds + 2 * SEEN, begin - c.before, pairs, places, (places + 1) / 2};
    look(layer, seen);
    for (int index = from; index < to; index++)
        convolve_groups({layer, seen, index, first, last, scratch, scratch + MOST_SUMS});
}

void condition(const float* matrix, const float* x, int count, const float* bias, float* to) {
    Floats total = load(bias);
    for (int k = 0; k < count; k++) total = multiply_add(all(x[k]), load(matrix + size_t(k) * LANES), total);
    store(to, total);
}

void halve(const float* from, size_t count, uint16_t* to) {
    for (size_t i = 0; i < count; i += LANES) store_halves(to + i, load(from + i));
}
