// Rows of a prompt look at each other. Included behind `rows.h` by each level, which defines
//   SUMS                         vectors of sums that its registers hold beside what they are made from
//   Unit, STEP                   what numbers are multiplied in, and how many a unit has
//   Units, load_units            LANES of them
//   add_products                 a sum plus the products of each lane with one unit
//   pack, pack_across            LANES floats as units; those of STEP rows, PANEL of each, row by row within a unit

void put_queries(const HeadRows& rows, void* to) {
    for (int row = rows.first; row < rows.last; row++) {
        Unit* at = static_cast<Unit*>(to) + (size_t(row) * rows.stride + rows.inside) / STEP;
        for (int i = 0; i < PANEL; i += LANES) pack(load(rows.row(row) + i) * rows.scale, at + i / STEP);
    }
}

// Units (size / STEP, across)
void put_keys(const HeadRows& rows, void* to) {
    for (int row = rows.first; row < rows.last; row++) {
        Unit* at = static_cast<Unit*>(to) + size_t(rows.inside / STEP) * rows.across + row;
        Unit units[PANEL / STEP];
        for (int i = 0; i < PANEL; i += LANES) pack(load(rows.row(row) + i), units + i / STEP);
        for (int i = 0; i < PANEL / STEP; i++) at[size_t(i) * rows.across] = units[i];
    }
}

// Units (across / STEP, size); `first` is a multiple of STEP.
void put_values(const HeadRows& rows, void* to) {
    for (int row = rows.first; row < rows.last; row += STEP) {
        const float* second = STEP > 1 && row + 1 < rows.last ? rows.row(row + 1) : nullptr;
        pack_across(rows.row(row), second, static_cast<Unit*>(to) + size_t(row / STEP) * rows.size + rows.inside);
    }
}

constexpr int SCORED = SUMS / TILE;  // strips of columns

// Scores (rows, look.across) of TILE rows from `row` on, against SCORED strips of columns from `column` on.
void score_tile(const Look& look, int row, int column) {
    const Unit* queries[TILE];
    UNROLLED for (int r = 0; r < TILE; r++) {
        const int near = row + r < look.count ? row + r : look.count - 1;  // rows that are none repeat the last one
        queries[r] = static_cast<const Unit*>(look.queries) + size_t(near) * look.stride / STEP;
    }
    Floats sum[TILE][SCORED] = {};
    for (int i = 0; i < look.size / STEP; i++) {
        const Unit* from = static_cast<const Unit*>(look.keys) + size_t(i) * look.across + column;
        Units keys[SCORED];
        UNROLLED for (int s = 0; s < SCORED; s++) keys[s] = load_units(from + s * LANES);
        UNROLLED for (int r = 0; r < TILE; r++)
            UNROLLED for (int s = 0; s < SCORED; s++) sum[r][s] = add_products(sum[r][s], keys[s], queries[r] + i);
    }
    UNROLLED for (int r = 0; r < TILE; r++)
        UNROLLED for (int s = 0; s < SCORED; s++)
            store(look.scores + size_t(row + r) * look.across + column + s * LANES, sum[r][s]);
}

// Scores of one row -> units of what is not yet divided by the sum that is returned; 0 up to column `end` where it sees
// nothing.
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
    if (STEP > 1)
        for (int column = 0; column < whole || column < end; column += LANES)
            pack(load(scores + column), reinterpret_cast<Unit*>(scores) + column / STEP);
    return sum_of(total);
}

// Values of columns 0 … end - 1, weighed for ROWS rows from `row` on; COUNT strips from `strip` on.
template <int ROWS, int COUNT>
void mix_tile(const Look& look, int row, int strip, int end, const float* totals) {
    Floats mixed[ROWS][COUNT] = {};
    const Unit* scores = reinterpret_cast<const Unit*>(look.scores + size_t(row) * look.across);
    for (int i = 0; i < (end + STEP - 1) / STEP; i++) {
        const Unit* from = static_cast<const Unit*>(look.values) + size_t(i) * look.size + strip * LANES;
        Units values[COUNT];
        UNROLLED for (int s = 0; s < COUNT; s++) values[s] = load_units(from + s * LANES);
        UNROLLED for (int r = 0; r < ROWS; r++)
            UNROLLED for (int s = 0; s < COUNT; s++)
                mixed[r][s] = add_products(mixed[r][s], values[s], scores + size_t(r) * look.across + i);
    }
    UNROLLED for (int r = 0; r < ROWS; r++) {
        if (row + r >= look.count) break;
        float* out = look.out + size_t(row + r) * look.out_stride + strip * LANES;
        UNROLLED for (int s = 0; s < COUNT; s++) store(out + s * LANES, mixed[r][s] * (1 / totals[row + r]));
    }
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
