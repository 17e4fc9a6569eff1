// The arithmetic of a reader: products of many rows, and rows that look at each other. Included behind `rows.h` by each
// level, which defines
//   WIDE                         strips of outputs that a tile of the product has
//   SUMS                         vectors of sums that its registers hold beside what they are made from
//
// Here, too, a row gets the same operations in the same order whatever rows are computed with it.

constexpr int TILE = 6;  // rows of a product that are computed together

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
void add_group_of(int rows, const Matrix& m, int strip, const Operand& in, int row, int g, float* out, size_t across) {
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
            add_group_of<COUNT>(block.last_row - row, m, strip, in, row, g, out + (row - block.first_row) * across, across);
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
    for (int i = 0; i < count; i += LANES) store(x + i, kind == GELU ? gelu(load(x + i)) : larger(Floats{}, load(x + i)));
}

void to_halves(const float* from, int count, uint16_t* to) {
    for (int i = 0; i < count; i += LANES) store_halves(to + i, load(from + i));
}

constexpr int SCORED = SUMS / TILE;  // strips of columns

// Scores (rows, look.across) of TILE rows from `row` on, against SCORED strips of columns from `column` on.
void score_tile(const Look& look, int row, int column) {
    const float* queries[TILE];
    UNROLLED for (int r = 0; r < TILE; r++) {
        const int near = row + r < look.count ? row + r : look.count - 1;  // rows that are none repeat the last one
        queries[r] = look.queries + size_t(near) * look.stride;
    }
    Floats sum[TILE][SCORED] = {};
    for (int i = 0; i < look.size; i++) {
        Floats keys[SCORED];
        UNROLLED for (int s = 0; s < SCORED; s++) keys[s] = load(look.keys + size_t(i) * look.across + column + s * LANES);
        UNROLLED for (int r = 0; r < TILE; r++)
            UNROLLED for (int s = 0; s < SCORED; s++) sum[r][s] = multiply_add(keys[s], all(queries[r][i]), sum[r][s]);
    }
    UNROLLED for (int r = 0; r < TILE; r++)
        UNROLLED for (int s = 0; s < SCORED; s++)
            store(look.scores + size_t(row + r) * look.across + column + s * LANES, sum[r][s]);
}

// Scores of one row -> what is not yet divided by the sum that is returned; 0 up to column `end` where it sees nothing.
float share_row(const Look& look, int row, int end) {
    float* scores = look.scores + size_t(row) * look.across;
    const int last = look.last[row], whole = (last + LANES - 1) / LANES * LANES;
    for (int column = look.free[row]; column < last; column++)
        scores[column] += look.mask[size_t(row) * look.masked + column];
    for (int column = last; column < whole; column++) scores[column] = -1e30f;
    Floats most = all(-1e30f), total = {};
    for (int column = 0; column < whole; column += LANES) most = larger(most, load(scores + column));
    most = all(largest_of(most));
    for (int column = 0; column < whole; column += LANES) {
        const Floats share = exponential(load(scores + column) - most);
        store(scores + column, share);
        total += share;
    }
    for (int column = whole; column < end; column += LANES) store(scores + column, Floats{});
    return sum_of(total);
}

// Values of columns 0 … end - 1, weighed for ROWS rows from `row` on; COUNT strips from `strip` on.
template <int ROWS, int COUNT>
void mix_tile(const Look& look, int row, int strip, int end, const float* totals) {
    Floats mixed[ROWS][COUNT] = {};
    const float* scores = look.scores + size_t(row) * look.across;
    for (int column = 0; column < end; column++) {
        Floats values[COUNT];
        UNROLLED for (int s = 0; s < COUNT; s++) values[s] = load(look.values + size_t(column) * look.size + (strip + s) * LANES);
        UNROLLED for (int r = 0; r < ROWS; r++)
            UNROLLED for (int s = 0; s < COUNT; s++)
                mixed[r][s] = multiply_add(values[s], all(scores[size_t(r) * look.across + column]), mixed[r][s]);
    }
    for (int r = 0; r < ROWS && row + r < look.count; r++)
        UNROLLED for (int s = 0; s < COUNT; s++)
            store(look.out + size_t(row + r) * look.out_stride + (strip + s) * LANES, mixed[r][s] * (1 / totals[row + r]));
}

template <int SIZE>
void mix(const Look& look, const int* ends, const float* totals) {
    constexpr int ALL = SIZE / LANES, COUNT = ALL < SCORED ? ALL : SCORED, ROWS = SUMS / COUNT;
    static_assert(LOOK_ROWS % ROWS == 0 && ALL % COUNT == 0);
    for (int row = 0; row < look.count; row += ROWS) {
        int end = 0;
        for (int r = row; r < row + ROWS; r += TILE) end = ends[r / TILE] > end ? ends[r / TILE] : end;
        for (int strip = 0; strip < ALL; strip += COUNT) mix_tile<ROWS, COUNT>(look, row, strip, end, totals);
    }
}

void look(const Look& look) {
    int ends[LOOK_ROWS / TILE] = {}, end = 0;  // columns that some row of a tile sees
    float totals[LOOK_ROWS];
    for (int row = 0; row < look.count; row++) {
        int& furthest = ends[row / TILE];
        furthest = look.last[row] > furthest ? look.last[row] : furthest;
        end = furthest > end ? furthest : end;
    }
    for (int column = 0; column < end; column += SCORED * LANES)
        for (int row = 0; row < look.count; row += TILE)
            if (column < ends[row / TILE]) score_tile(look, row, column);
    for (int row = 0; row < look.count; row++) totals[row] = share_row(look, row, end);
    switch (look.size) {
        case 16: return mix<16>(look, ends, totals);
        case 32: return mix<32>(look, ends, totals);
        default: return mix<64>(look, ends, totals);
    }
}
