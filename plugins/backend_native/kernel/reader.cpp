// Reading a prompt: a stack of transformer layers (norms behind what is added) over all its rows at once, and its
// C interface. Weights and rows are numbers of 8 bits in groups. Every phase is cut into blocks of rows and of panels; a
// row's numbers do not depend on how.
#include "errors.h"
#include "kernel.h"
#include "memory.h"
#include "opening.h"
#include "panels.h"
#include "team.h"

#include <cmath>
#include <cstring>
#include <vector>

namespace native {
namespace {

constexpr int MOST_LAYERS = 256, MOST_WIDTH = 8192, MOST_TABLE = 1 << 20, MOST_READ = 4096;
constexpr int BLOCK_ROWS = 8 * TILE;  // of a product: their numbers of one group stay in the nearest cache
constexpr int NORM_ROWS = 8;          // that are normed together
constexpr float BLOCKED = -1e8f;      // what is added to a score that counts nothing

enum Phase {
    IN_PROJECTION, ATTENTION, OUT_PROJECTION, FIRST_NORM, FIRST_LINEAR, SECOND_LINEAR, SECOND_NORM, PHASES
};

struct ReaderShape {
    int32_t layers, width, heads, inner, group;
    int32_t features;    // width of what is added to the first rows through a matrix of its own; 0: nothing
    int32_t vocabulary;  // logits of the last row, which is all that the last layer is finished for; 0: rows are wanted
    int32_t activation;
    float epsilon;
};

struct Reading {
    int32_t rows, featured;
    float* x;               // (rows, width), overwritten by the result
    const float* features;  // (featured, features)
    const float* mask;      // (rows, rows) added to scores; nullptr: all see all
    uint16_t *const *keys, *const *values;  // per layer (heads, rows, size) half floats; nullptr: not wanted
    float* logits;          // (vocabulary,)
};

struct Layer {
    Matrix in_projection, out_projection, first_linear, second_linear;
    Norm norm1, norm2;
};

struct Span {
    int first, last;

    int count() const { return last - first; }
    // Part `number` of `parts`, whose size is a multiple of `unit` where that is not what is left.
    Span part(int number, int parts, int unit) const {
        const int size = (count() + parts * unit - 1) / (parts * unit) * unit;
        const int begin = first + number * size < last ? first + number * size : last;
        return {begin, begin + size < last ? begin + size : last};
    }
};

bool is_possible(const ReaderShape& s) {
    const auto within = [](int value, int least, int most) { return value >= least && value <= most; };
    if (!within(s.layers, 1, MOST_LAYERS) || !within(s.width, 1, MOST_WIDTH) || !within(s.inner, 1, 4 * MOST_WIDTH) ||
        !within(s.heads, 1, s.width) || !within(s.features, 0, MOST_WIDTH) || !within(s.vocabulary, 0, MOST_TABLE) ||
        !within(s.group, PANEL, MOST_WIDTH) || !within(s.activation, RECTIFIED, GELU) || !(s.epsilon >= 0))
        return false;
    const int size = s.width / s.heads;
    return s.width % s.heads == 0 && (size == 16 || size == 32 || size == 64) && s.group % size == 0 &&
           s.inner % PANEL == 0 && s.features % PANEL == 0;
}

class Reader final : public Work {
public:
    Reader(const ReaderShape& shape, const Level& level, int threads) : shape_(shape), level_(level), team_(threads) {}

    Error open(const Array* arrays, int count);
    Error read(const Reading& reading);

    int phases() const override { return 1 + shape_.layers * PHASES + (shape_.vocabulary ? 1 : 0); }
    int pieces_of(int phase) const override;
    void run(int phase, int piece, int pieces, int thread) override;
    void conclude(int) override {}

private:
    int size() const { return shape_.width / shape_.heads; }
    int across() const { return (now_.rows + COLUMNS - 1) / COLUMNS * COLUMNS; }
    size_t head_step() const { return size_t(size()) * across() / level_.step; }  // of keys and values, in floats
    bool is_start(int phase) const { return phase == 0; }
    bool is_end(int phase) const { return shape_.vocabulary && phase == phases() - 1; }
    int layer_of(int phase) const { return (phase - 1) / PHASES; }
    Phase kind_of(int phase) const { return Phase((phase - 1) % PHASES); }
    Span rows_of(int phase) const;
    int row_blocks(int phase) const;
    int groups_of(int phase) const;
    const Matrix* matrix_of(int phase) const;
    size_t weights_room() const;
    size_t buffers_room() const;
    void take_weights(Source& source);
    void take_buffers();
    Operand take_operand(size_t groups);

    void start(Span rows, int thread);
    void add_features(Span rows, int thread);
    void see(int row);
    void multiply(int phase, Span rows, int group, int thread);
    void finish(int phase, const Block& block, float* product);
    void put_heads(int layer, const Block& block, const float* product);
    void attend(Span rows, int group, int thread);
    void norm(int phase, Span rows);

    const ReaderShape shape_;
    const Level& level_;
    Arena weights_, buffers_;
    std::vector<Layer> layers_;
    Matrix features_, prediction_;

    Reading now_{};
    float *added_, *scratch_;
    float *queries_, *keys_, *values_;  // as the level puts them
    int32_t *free_, *last_;
    Operand narrow_, wide_, featured_;  // numbers of rows that are as wide as x, as the feed-forward, as features
    size_t scratch_step_ = 0;

    Team team_;  // last: it ends before what it works on
};

int groups_in(int inputs, int group) { return (inputs + group - 1) / group; }

// ---------------------------------------------------------------- memory

size_t Reader::weights_room() const {
    const auto& s = shape_;
    const auto floats = [](size_t count) { return Arena::room_for(count * sizeof(float)); };
    const size_t layer = matrix_room(3 * s.width, s.width, s.group) + matrix_room(s.width, s.width, s.group) +
                         matrix_room(s.inner, s.width, s.group) + matrix_room(s.width, s.inner, s.group) +
                         4 * floats(s.width);
    return s.layers * layer + (s.features ? matrix_room(s.width, s.features, s.group) : 0) +
           (s.vocabulary ? matrix_room(s.vocabulary, s.width, s.group) : 0);
}

void Reader::take_weights(Source& source) {
    const auto& s = shape_;
    if (s.features) features_ = take_matrix(source, s.width, s.features, s.group, true);
    for (int i = 0; i < s.layers; i++) {
        Layer layer;
        layer.in_projection = take_matrix(source, 3 * s.width, s.width, s.group, true);
        layer.out_projection = take_matrix(source, s.width, s.width, s.group, true);
        layer.norm1 = take_norm(source, s.width, s.epsilon);
        layer.first_linear = take_matrix(source, s.inner, s.width, s.group, true);
        layer.second_linear = take_matrix(source, s.width, s.inner, s.group, true);
        layer.norm2 = take_norm(source, s.width, s.epsilon);
        layers_.push_back(layer);
    }
    if (s.vocabulary) prediction_ = take_matrix(source, s.vocabulary, s.width, s.group, false);
}

// Memory is the system's until it is written: short prompts take little of it.
size_t Reader::buffers_room() const {
    const auto& s = shape_;
    const size_t groups = groups_in(s.width, s.group) + groups_in(s.inner, s.group) + groups_in(s.features, s.group);
    const size_t operands = MOST_READ * groups * (s.group + sizeof(float) + sizeof(int32_t)) + 9 * 64;
    const size_t rows = (4 * MOST_READ * size_t(s.width) + 2 * MOST_READ) * sizeof(float) + 6 * 64;
    return operands + rows + team_.threads() * (scratch_step_ * sizeof(float) + 64);
}

Operand Reader::take_operand(size_t groups) {
    Operand operand;
    operand.numbers = buffers_.take<int8_t>(MOST_READ * groups * shape_.group);
    operand.scales = buffers_.take<float>(MOST_READ * groups);
    operand.offsets = buffers_.take<int32_t>(MOST_READ * groups);
    return operand;
}

void Reader::take_buffers() {
    const auto& s = shape_;
    const size_t whole = MOST_READ * size_t(s.width);
    added_ = buffers_.take<float>(whole);
    queries_ = buffers_.take<float>(whole);
    keys_ = buffers_.take<float>(whole);
    values_ = buffers_.take<float>(whole);
    free_ = buffers_.take<int32_t>(MOST_READ);
    last_ = buffers_.take<int32_t>(MOST_READ);
    narrow_ = take_operand(groups_in(s.width, s.group));
    wide_ = take_operand(groups_in(s.inner, s.group));
    featured_ = take_operand(groups_in(s.features, s.group));
    scratch_ = buffers_.take<float>(team_.threads() * scratch_step_);
}

Error Reader::open(const Array* arrays, int count) {
    const size_t product = size_t(BLOCK_ROWS) * shape_.group, scores = size_t(LOOK_ROWS) * (MOST_READ + shape_.group);
    scratch_step_ = (product > scores ? product : scores) + 16;
    if (!weights_.reserve(weights_room()) || !buffers_.reserve(buffers_room())) return NO_MEMORY;
    Given given(arrays, count);
    Packing packing;
    Source source{given, weights_, packing};
    take_weights(source);
    if (!given.is_used_up()) return BAD_ARRAYS;
    take_buffers();
    if (!team_.start()) return NO_THREADS;
    packing.finish(team_);
    return OK;
}

Error Reader::read(const Reading& reading) {
    if (reading.rows < 1 || reading.rows > MOST_READ || reading.featured < 0 || reading.featured > reading.rows ||
        (reading.featured && !shape_.features))
        return BAD_CALL;
    now_ = reading;
    for (Operand* operand : {&narrow_, &wide_, &featured_}) operand->group_step = reading.rows;
    team_.go(*this);
    return OK;
}

// ---------------------------------------------------------------- who does what

Span Reader::rows_of(int phase) const {
    const bool is_last = shape_.vocabulary && phase > (shape_.layers - 1) * PHASES + 1;  // behind its keys and values
    return {is_last ? now_.rows - 1 : 0, now_.rows};
}

int Reader::row_blocks(int phase) const {
    int most = BLOCK_ROWS;
    if (is_start(phase)) most = LOOK_ROWS;
    else if (!is_end(phase) && kind_of(phase) == ATTENTION) most = LOOK_ROWS;
    else if (!matrix_of(phase)) most = NORM_ROWS;
    return (rows_of(phase).count() + most - 1) / most;
}

int Reader::groups_of(int phase) const {
    if (is_start(phase)) return 1;
    if (const Matrix* matrix = matrix_of(phase)) return groups_in(matrix->panels * PANEL, shape_.group);
    return kind_of(phase) == ATTENTION ? groups_in(shape_.width, shape_.group) : 1;
}

const Matrix* Reader::matrix_of(int phase) const {
    if (is_start(phase)) return nullptr;
    if (is_end(phase)) return &prediction_;
    const Layer& layer = layers_[layer_of(phase)];
    switch (kind_of(phase)) {
        case IN_PROJECTION: return &layer.in_projection;
        case OUT_PROJECTION: return &layer.out_projection;
        case FIRST_LINEAR: return &layer.first_linear;
        case SECOND_LINEAR: return &layer.second_linear;
        default: return nullptr;
    }
}

int Reader::pieces_of(int phase) const {
    const int64_t units = int64_t(row_blocks(phase)) * groups_of(phase);
    return int(units < MOST_PIECES ? units : MOST_PIECES);
}

// Neighbouring units have the same weights, or the same keys and values.
void Reader::run(int phase, int piece, int pieces, int thread) {
    const int blocks = row_blocks(phase);
    const int64_t units = int64_t(blocks) * groups_of(phase);
    const Matrix* matrix = matrix_of(phase);
    for (int64_t unit = units * piece / pieces; unit < units * (piece + 1) / pieces; unit++) {
        const Span rows = rows_of(phase).part(int(unit % blocks), blocks, matrix ? TILE : 1);
        const int group = int(unit / blocks);
        if (rows.count() == 0) continue;
        if (is_start(phase))
            start(rows, thread);
        else if (matrix)
            multiply(phase, rows, group, thread);
        else if (kind_of(phase) == ATTENTION)
            attend(rows, group, thread);
        else
            norm(phase, rows);
    }
}

// ---------------------------------------------------------------- the work

// What features add, the numbers of the first layer's rows, and what each row sees.
void Reader::start(Span rows, int thread) {
    const Span featured{rows.first, rows.last < now_.featured ? rows.last : now_.featured};
    if (featured.count() > 0) add_features(featured, thread);
    level_.prepare(layers_[0].in_projection, now_.x, rows.first, rows.last, narrow_);
    for (int row = rows.first; row < rows.last; row++) see(row);
}

void Reader::add_features(Span rows, int thread) {
    level_.prepare(features_, now_.features, rows.first, rows.last, featured_);
    float* product = scratch_ + thread * scratch_step_;
    const int at_once = shape_.group / PANEL;
    for (int panel = 0; panel < features_.panels; panel += at_once) {
        const int end = panel + at_once < features_.panels ? panel + at_once : features_.panels;
        const int across = (end - panel) * PANEL;
        level_.multiply_block(features_, featured_, {rows.first, rows.last, panel, end}, product);
        for (int row = rows.first; row < rows.last; row++) {
            float* to = now_.x + size_t(row) * shape_.width + panel * PANEL;
            for (int i = 0; i < across; i++) to[i] += product[size_t(row - rows.first) * across + i];
        }
    }
}

// A row that sees nothing has what the sums say: everything behind a mask.
void Reader::see(int row) {
    free_[row] = last_[row] = now_.rows;
    if (!now_.mask) return;
    const float* mask = now_.mask + size_t(row) * now_.rows;
    while (last_[row] > 0 && mask[last_[row] - 1] <= BLOCKED) last_[row]--;
    if (last_[row] == 0) last_[row] = now_.rows;
    for (free_[row] = 0; free_[row] < last_[row] && mask[free_[row]] == 0; free_[row]++) continue;
}

void Reader::multiply(int phase, Span rows, int group, int thread) {
    const Matrix& matrix = *matrix_of(phase);
    const int panels = shape_.group / PANEL, first = group * panels;
    const Block block{rows.first, rows.last, first, first + panels < matrix.panels ? first + panels : matrix.panels};
    float* product = scratch_ + thread * scratch_step_;
    const bool is_wide = !is_end(phase) && kind_of(phase) == SECOND_LINEAR;
    level_.multiply_block(matrix, is_wide ? wide_ : narrow_, block, product);
    finish(phase, block, product);
}

void Reader::finish(int phase, const Block& block, float* product) {
    const int across = (block.last_panel - block.first_panel) * PANEL, from = block.first_panel * PANEL;
    if (is_end(phase)) {
        const int left = shape_.vocabulary - from;
        memcpy(now_.logits + from, product, (across < left ? across : left) * sizeof(float));
        return;
    }
    if (kind_of(phase) == IN_PROJECTION) return put_heads(layer_of(phase), block, product);
    for (int row = block.first_row; row < block.last_row; row++, product += across) {
        if (kind_of(phase) == FIRST_LINEAR) {
            level_.activate(product, across, Activation(shape_.activation));
            level_.round_group(product, across, shape_.group, wide_, wide_.at(row, from / shape_.group));
        } else {
            memcpy(added_ + size_t(row) * shape_.width + from, product, across * sizeof(float));
        }
    }
}

// Queries, keys and values, as the attention reads them and as the caller wants them.
void Reader::put_heads(int layer, const Block& block, const float* product) {
    const int step = (block.last_panel - block.first_panel) * PANEL;
    const auto& s = shape_;
    const float scale = 1 / std::sqrt(float(size()));
    for (int panel = block.first_panel; panel < block.last_panel; panel++) {
        const int kind = panel * PANEL / s.width, at = panel * PANEL % s.width;
        const int head = at / size(), inside = at % size();
        const float* from = product + (panel - block.first_panel) * PANEL;
        const HeadRows rows{from, step, block.first_row, block.last_row, inside, size(), s.width, across(), scale};
        if (kind == 0) level_.put_queries(rows, queries_ + size_t(head) * size() / level_.step);
        if (kind == 1) level_.put_keys(rows, keys_ + head_step() * head);
        if (kind == 2) level_.put_values(rows, values_ + head_step() * head);
        uint16_t* const* halves = kind == 1 ? now_.keys : kind == 2 ? now_.values : nullptr;
        for (int row = block.first_row; halves && row < block.last_row; row++)
            level_.to_halves(rows.row(row), PANEL, halves[layer] + (size_t(head) * now_.rows + row) * size() + inside);
    }
}

// The heads whose results are one group of inputs of what follows.
void Reader::attend(Span rows, int group, int thread) {
    const auto& s = shape_;
    const int from = group * s.group, count = s.width - from < s.group ? s.width - from : s.group;
    float* scores = scratch_ + thread * scratch_step_;
    float* mixed = scores + LOOK_ROWS * size_t(across());
    for (int at = from; at < from + count; at += size()) {
        const size_t head = head_step() * (at / size());
        const float* queries = queries_ + (size_t(rows.first) * s.width + at) / level_.step;
        const float* mask = now_.mask ? now_.mask + size_t(rows.first) * now_.rows : nullptr;
        level_.look({queries, rows.count(), s.width, size(), keys_ + head, values_ + head, across(),
                     free_ + rows.first, last_ + rows.first, mask, size_t(now_.rows), scores, mixed + (at - from), s.group});
    }
    for (int row = rows.first; row < rows.last; row++)
        level_.round_group(mixed + size_t(row - rows.first) * s.group, count, s.group, narrow_, narrow_.at(row, group));
}

void Reader::norm(int phase, Span rows) {
    const Layer& layer = layers_[layer_of(phase)];
    const bool is_first = kind_of(phase) == FIRST_NORM;
    for (int row = rows.first; row < rows.last; row++) {
        const size_t at = size_t(row) * shape_.width;
        level_.add_and_norm(now_.x + at, added_ + at, shape_.width, is_first ? layer.norm1 : layer.norm2);
    }
    const bool is_over = !is_first && layer_of(phase) == shape_.layers - 1 && !shape_.vocabulary;
    if (is_over) return;
    const Matrix& next = is_first ? layer.first_linear : *matrix_of(phase + 1);
    level_.prepare(next, now_.x, rows.first, rows.last, narrow_);
}

}  // namespace
}  // namespace native

// ---------------------------------------------------------------- the C interface
// Calls of one handle must not overlap. All return one of `Error`; nothing is kept of the arrays that are given.

#pragma GCC visibility push(default)
extern "C" {

int voiced_reader_open(const native::ReaderShape* shape, const native::Array* arrays, int count, int threads,
                       const char* level_name, void** handle) {
    const auto level = native::level_named(level_name);
    return native::open_network<native::Reader>(*shape, native::is_possible(*shape), level, arrays, count, threads, handle);
}

int voiced_reader_read(void* handle, const native::Reading* reading) {
    return static_cast<native::Reader*>(handle)->read(*reading);
}

void voiced_reader_close(void* handle) { delete static_cast<native::Reader*>(handle); }

}  // extern "C"
#pragma GCC visibility pop
