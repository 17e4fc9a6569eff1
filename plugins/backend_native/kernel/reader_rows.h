// The products of a reader. Included behind `rows.h` by each level, which defines
//   WIDE                         strips of outputs that a tile of the product has
//
// Here, too, a row gets the same operations in the same order whatever rows are computed with it.

// One group of inputs: ROWS rows times COUNT strips are added to `out` (rows, across).
template <int ROWS, int COUNT>
void add_group(const Matrix& m, int strip, const Operand& in, int row, int g, float* out, size_t across) {
    const uint8_t* at[COUNT];
    UNROLLED for (int s = 0; s < COUNT; s++) at[s] = strip_of(m, strip + s) + size_t(g) * (m.group + 4) * PANEL;
    Ints sum[ROWS][COUNT];
    group_sums<ROWS, COUNT>(m, at, in, row, g, sum);
    Floats scales[COUNT];
    UNROLLED for (int s = 0; s < COUNT; s++) scales[s] = load(reinterpret_cast<const float*>(at[s] + m.group * PANEL));
    UNROLLED for (int r = 0; r < ROWS; r++) {
        const Floats scale = all(in.scales[in.at(row + r, g)]);
        UNROLLED for (int s = 0; s < COUNT; s++) {
            float* to = out + r * across + s * LANES;
            store(to, multiply_add(__builtin_convertvector(sum[r][s], Floats), scales[s] * scale, load(to)));
        }
    }
}

template <int COUNT>
void add_group_of(int rows, const Matrix& m, int strip, const Operand& in, int row, int g, float* out,
                  size_t across) {
    switch (rows) {
        case 1: return add_group<1, COUNT>(m, strip, in, row, g, out, across);
        case 2: return add_group<2, COUNT>(m, strip, in, row, g, out, across);
        case 3: return add_group<3, COUNT>(m, strip, in, row, g, out, across);
        case 4: return add_group<4, COUNT>(m, strip, in, row, g, out, across);
        case 5: return add_group<5, COUNT>(m, strip, in, row, g, out, across);
        default: return add_group<TILE, COUNT>(m, strip, in, row, g, out, across);
    }
}

// One group of the weights of COUNT strips stays near while all rows of the block are multiplied with it.
template <int COUNT>
void multiply_strips(const Matrix& m, const Operand& in, const Block& block, int strip, float* out, size_t across) {
    for (int row = block.first_row; row < block.last_row; row++)
        for (int s = 0; s < COUNT; s++)
            store(out + (row - block.first_row) * across + s * LANES, load(m.bias + (strip + s) * LANES));
    for (int g = 0; g < m.groups; g++)
        for (int row = block.first_row; row < block.last_row; row += TILE)
            add_group_of<COUNT>(block.last_row - row, m, strip, in, row, g, out + (row - block.first_row) * across,
                                across);
}

// out = weights * operand + bias, of the rows and panels of a block; weights have groups.
void multiply_block(const Matrix& m, const Operand& in, const Block& block, float* out) {
    const int first = block.first_panel * STRIPS, last = block.last_panel * STRIPS;
    const size_t across = size_t(last - first) * LANES;
    int strip = first;
    for (; strip + WIDE <= last; strip += WIDE)
        multiply_strips<WIDE>(m, in, block, strip, out + (strip - first) * LANES, across);
    for (; strip < last; strip++) multiply_strips<1>(m, in, block, strip, out + (strip - first) * LANES, across);
}

constexpr float TAIL[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};

// x * (1 + erf(x / sqrt 2)) / 2, the error function to 2e-7 (Abramowitz and Stegun, 7.1.26).
inline Floats gelu(Floats x) {
    const Floats size = larger(x, -x) * 0.70710678f;
    const Floats t = 1.0f / multiply_add(size, all(0.3275911f), all(1.0f));
    Floats y = all(1.061405429f);
    for (float term : TAIL) y = multiply_add(y, t, all(term));
    const Floats tail = y * t * exponential(-size * size);  // 1 - erf
    const Floats half = x * 0.5f;
    return x > 0.0f ? x - half * tail : half * tail;
}

void activate(float* x, int count, Activation kind) {
    for (int i = 0; i < count; i += LANES)
        store(x + i, kind == GELU ? gelu(load(x + i)) : larger(Floats{}, load(x + i)));
}

void to_halves(const float* from, int count, uint16_t* to) {
    for (int i = 0; i < count; i += LANES) store_halves(to + i, load(from + i));
}
