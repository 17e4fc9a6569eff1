// The arithmetic of a step, written once over the primitives of a level. A level's file includes this inside its own
// unnamed namespace, after it has defined
//   LANES                        floats of a vector
//   Bytes, load_bytes, dot4      four weights around 128 per lane, and their sum of products with four numbers
//   load_halves, store_halves    LANES half floats
//   multiply_add, sums           a * b + c; the sums of LANES vectors as one vector
//   OFFSET, strips(rows)         what weights are too large by in `dot4`; how many vectors of outputs suit a tile
//
// UNROLLED: loops over what is to stay in registers are written out, early enough for the compiler to see it.
//
// A row gets the same operations in the same order whatever its neighbours are: that is what makes an answer the same
// in company as alone.

#define UNROLLED _Pragma("GCC unroll 24")

#include "elementary.h"

template <int BY, class Vector, int... LANE>
inline Vector turned(Vector values, std::integer_sequence<int, LANE...>) {
    return __builtin_shufflevector(values, values, (LANE ^ BY)...);
}

// All lanes become what `both` makes of all lanes: each with its neighbour BY lanes away, then by half of that.
template <int BY = LANES / 2, class Vector, class Both>
inline Vector folded(Vector values, Both both) {
    if constexpr (BY == 0) return values;
    else return folded<BY / 2>(both(values, turned<BY>(values, std::make_integer_sequence<int, LANES>())), both);
}

inline float sum_of(Floats values) { return folded(values, [](Floats a, Floats b) { return a + b; })[0]; }
inline int32_t sum_of(Ints values) { return folded(values, [](Ints a, Ints b) { return a + b; })[0]; }
inline float largest_of(Floats values) { return folded(values, larger)[0]; }

// `count` floats -> `group` numbers of 8 bits (zeros behind them) at block `at` of the operand; the largest becomes
// 127. What is not finite makes the scale not a number, so that it is still seen in the logits.
void round_group(const float* from, int count, int group, Operand& to, size_t at) {
    int8_t* numbers = to.numbers + at * group;
    Floats most = {}, nothing = {};
    for (int k = 0; k < count; k += LANES) {
        most = larger(most, larger(load(from + k), -load(from + k)));
        nothing += load(from + k) * 0.0f;
    }
    const float peak = largest_of(most);
    const Floats up = all(peak > 0 ? 127 / peak : 0);
    Ints total = {};
    for (int k = 0; k < group; k += LANES) {
        Ints whole = {};
        if (k < count) whole = rounded(load(from + k) * up);
        total += whole;
        *reinterpret_cast<LooseNumbers*>(numbers + k) = __builtin_convertvector(whole, Numbers);
    }
    to.scales[at] = peak / 127 + sum_of(nothing);
    to.offsets[at] = -OFFSET * sum_of(total);
}

// Rows first … last - 1 of x (rows, inputs), as `m` multiplies them.
void prepare(const Matrix& m, const float* x, int first, int last, Operand& to) {
    to.floats = x;
    if (!m.group) return;
    for (int row = first; row < last; row++)
        for (int g = 0; g < m.groups; g++) {
            const int left = m.inputs - g * m.group;
            round_group(x + size_t(row) * m.inputs + size_t(g) * m.group, left < m.group ? left : m.group, m.group, to,
                        to.at(row, g));
        }
}

// A strip is one vector of outputs: a panel, or a part of one.
constexpr int STRIPS = PANEL / LANES;

// Exact sums of one group of inputs: ROWS rows from `row` on times the COUNT strips whose numbers are `at`.
template <int ROWS, int COUNT>
inline void group_sums(const Matrix& m, const uint8_t* const (&at)[COUNT], const Operand& in, int row, int g,
                       Ints (&sum)[ROWS][COUNT]) {
    const size_t block = in.at(row, g), step = in.row_step * m.group;
    const int8_t* numbers = in.numbers + block * m.group;
    UNROLLED for (int r = 0; r < ROWS; r++) {
        const Ints offset = in.offsets[block + r * in.row_step] - Ints{};
        UNROLLED for (int s = 0; s < COUNT; s++) sum[r][s] = offset;
    }
    for (int k = 0; k < m.group; k += 4) {
        Bytes weights[COUNT];
        UNROLLED for (int s = 0; s < COUNT; s++) weights[s] = load_bytes(at[s] + k * PANEL);
        UNROLLED for (int r = 0; r < ROWS; r++) {
            int32_t four;
            __builtin_memcpy(&four, numbers + r * step + k, 4);
            UNROLLED for (int s = 0; s < COUNT; s++) sum[r][s] = dot4(sum[r][s], weights[s], four);
        }
    }
}

// Where the numbers of a strip begin; behind those of a group lie its scales, four bytes per output, too.
inline const uint8_t* strip_of(const Matrix& m, int strip) {
    return m.data + m.panel_bytes * (strip / STRIPS) + strip % STRIPS * LANES * 4;
}

// ROWS rows times COUNT strips from `strip` on.
template <int ROWS, int COUNT>
inline void numbers_tile(const Matrix& m, int strip, const Operand& in, int row, Floats (&total)[ROWS][COUNT]) {
    const uint8_t* at[COUNT];
    for (int s = 0; s < COUNT; s++) at[s] = strip_of(m, strip + s);
    for (int g = 0; g < m.groups; g++) {
        Ints sum[ROWS][COUNT];
        group_sums<ROWS, COUNT>(m, at, in, row, g, sum);
        for (int s = 0; s < COUNT; s++) {
            at[s] += m.group * PANEL;
            const Floats scales = load(reinterpret_cast<const float*>(at[s]));
            at[s] += PANEL * sizeof(float);
            for (int r = 0; r < ROWS; r++) {
                const Floats both = scales * in.scales[in.at(row + r, g)];
                total[r][s] = multiply_add(__builtin_convertvector(sum[r][s], Floats), both, total[r][s]);
            }
        }
    }
}

template <int ROWS, int COUNT>
inline void halves_tile(const Matrix& m, int strip, const Operand& in, int row, Floats (&total)[ROWS][COUNT]) {
    const uint16_t* at[COUNT];
    for (int s = 0; s < COUNT; s++)
        at[s] = reinterpret_cast<const uint16_t*>(m.data + m.panel_bytes * ((strip + s) / STRIPS)) +
                (strip + s) % STRIPS * LANES;
    const float* x = in.floats + size_t(row) * m.inputs;
    for (int k = 0; k < m.inputs; k++)
        for (int s = 0; s < COUNT; s++) {
            const Floats weights = load_halves(at[s] + k * PANEL);
            for (int r = 0; r < ROWS; r++)
                total[r][s] = multiply_add(weights, all(x[size_t(r) * m.inputs + k]), total[r][s]);
        }
}

template <int ROWS, int COUNT>
void tile(const Matrix& m, int strip, const Operand& in, int row, float* out, bool rectified) {
    Floats total[ROWS][COUNT];
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < COUNT; s++) total[r][s] = load(m.bias + (strip + s) * LANES);
    if (m.group)
        numbers_tile<ROWS, COUNT>(m, strip, in, row, total);
    else
        halves_tile<ROWS, COUNT>(m, strip, in, row, total);
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < COUNT; s++) {
            const Floats y = rectified ? larger(Floats{}, total[r][s]) : total[r][s];
            store(out + size_t(row + r) * m.panels * PANEL + (strip + s) * LANES, y);
        }
}

template <int ROWS>
void tiles(const Matrix& m, int first, int last, const Operand& in, int row, float* out, bool rectified) {
    constexpr int COUNT = strips(ROWS);
    int strip = first * STRIPS;
    for (; strip + COUNT <= last * STRIPS; strip += COUNT) tile<ROWS, COUNT>(m, strip, in, row, out, rectified);
    for (; strip < last * STRIPS; strip++) tile<ROWS, 1>(m, strip, in, row, out, rectified);
}

// Panels first … last - 1 of `out` (rows, panels * 16) = weights * operand + bias.
void multiply(const Matrix& m, int first, int last, const Operand& in, int rows, float* out, bool rectified) {
    for (int row = 0; row < rows; row += 8) {
        switch (rows - row) {
            case 1: tiles<1>(m, first, last, in, row, out, rectified); break;
            case 2: tiles<2>(m, first, last, in, row, out, rectified); break;
            case 3: tiles<3>(m, first, last, in, row, out, rectified); break;
            case 4: tiles<4>(m, first, last, in, row, out, rectified); break;
            case 5: tiles<5>(m, first, last, in, row, out, rectified); break;
            case 6: tiles<6>(m, first, last, in, row, out, rectified); break;
            case 7: tiles<7>(m, first, last, in, row, out, rectified); break;
            default: tiles<8>(m, first, last, in, row, out, rectified);
        }
    }
}

// Asks for what is read one page of memory later than `row`: a processor reads ahead by itself up to the end of a page
// only. Rows are those of the keys, then those of the values.
template <int SIZE>
inline void read_ahead(const Head& head, int row) {
    const int later = row + 4096 / int(SIZE * sizeof(uint16_t)), count = head.count + 1;
    if (later < count)
        __builtin_prefetch(head.keys + size_t(later) * SIZE);
    else if (later < 2 * count)
        __builtin_prefetch(head.values + size_t(later - count) * SIZE);
}

// Scores of all rows against the query; the last block is filled up with what weighs nothing.
template <int BLOCKS>
Floats score_rows(const Floats (&query)[BLOCKS], const Head& head) {
    constexpr int SIZE = BLOCKS * LANES;
    const int count = head.count + 1;
    float* scores = head.scores;
    Floats most = all(-1e30f);
    for (int at = 0; at < count; at += LANES) {
        Floats partial[LANES];
        for (int j = 0; j < LANES; j++) {
            read_ahead<SIZE>(head, at + j);
            const uint16_t* row = head.keys + size_t(at + j < count ? at + j : count - 1) * SIZE;
            partial[j] = query[0] * load_halves(row);
            for (int b = 1; b < BLOCKS; b++) partial[j] = multiply_add(query[b], load_halves(row + b * LANES), partial[j]);
        }
        store(scores + at, sums(partial));
        for (int j = count - at; j < LANES; j++) scores[at + j] = -1e30f;
        most = larger(most, load(scores + at));
    }
    return most;
}

template <int SIZE>
void attend_over(const Head& head) {
    constexpr int BLOCKS = SIZE / LANES;
    const int count = head.count + 1;
    Floats query[BLOCKS], mixed[BLOCKS], other[BLOCKS];
    for (int b = 0; b < BLOCKS; b++) {
        query[b] = load(head.query + b * LANES) * (1 / __builtin_sqrtf(float(SIZE)));
        mixed[b] = other[b] = Floats{};
        store_halves(head.keys + size_t(head.count) * SIZE + b * LANES, load(head.key + b * LANES));
        store_halves(head.values + size_t(head.count) * SIZE + b * LANES, load(head.value + b * LANES));
    }
    const Floats most = all(largest_of(score_rows<BLOCKS>(query, head)));
    Floats total = {};
    for (int at = 0; at < count; at += LANES) {
        const Floats share = exponential(load(head.scores + at) - most);
        store(head.scores + at, share);
        total += share;
    }
    const uint16_t* row = head.values;
    int i = 0;
    for (; i + 2 <= count; i += 2, row += 2 * SIZE) {
        read_ahead<SIZE>(head, count + i);
        read_ahead<SIZE>(head, count + i + 1);
        for (int b = 0; b < BLOCKS; b++) {
            mixed[b] = multiply_add(all(head.scores[i]), load_halves(row + b * LANES), mixed[b]);
            other[b] = multiply_add(all(head.scores[i + 1]), load_halves(row + SIZE + b * LANES), other[b]);
        }
    }
    if (i < count)
        for (int b = 0; b < BLOCKS; b++)
            mixed[b] = multiply_add(all(head.scores[i]), load_halves(row + b * LANES), mixed[b]);
    for (int b = 0; b < BLOCKS; b++) store(head.out + b * LANES, (mixed[b] + other[b]) * (1 / sum_of(total)));
}

void attend(const Head& head) {
    switch (head.size) {
        case 16: attend_over<16>(head); break;
        case 32: attend_over<32>(head); break;
        default: attend_over<64>(head);
    }
}

// x = norm(x + more) * gain + bias, over `width` floats.
void add_and_norm(float* x, const float* more, int width, const Norm& norm) {
    Floats total = {}, squares = {};
    for (int i = 0; i < width; i += LANES) {
        const Floats sum = load(x + i) + load(more + i);
        store(x + i, sum);
        total += sum;
    }
    const Floats mean = all(sum_of(total) / width);
    for (int i = 0; i < width; i += LANES) {
        const Floats apart = load(x + i) - mean;
        squares = multiply_add(apart, apart, squares);
    }
    const Floats scale = all(1 / __builtin_sqrtf(sum_of(squares) / width + norm.epsilon));
    for (int i = 0; i < width; i += LANES)
        store(x + i, multiply_add((load(x + i) - mean) * scale, load(norm.gain + i), load(norm.bias + i)));
}
