#include "team.h"

#include <system_error>

namespace native {
namespace {

constexpr int SPINS = 2000;  // looks at the claim before the processor is offered to others
constexpr uint64_t IDLE = MOST_PHASES + 1;

// What is to be done: which phase of which work, in how many pieces, and how many of them are claimed.
struct Claim {
    uint64_t work, phase, pieces, claimed;

    static Claim of(uint64_t word) { return {word >> 40, word >> 24 & 0xffff, word >> 12 & 0xfff, word & 0xfff}; }
    uint64_t word() const { return work << 40 | phase << 24 | pieces << 12 | claimed; }
};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

Team::~Team() {
    {
        std::lock_guard<std::mutex> hold(turn_);
        is_closing_ = true;
    }
    wake_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
}

bool Team::start() {
    claim_.store(Claim{0, IDLE, 0, 0}.word());
    try {
        for (int number = 1; number < threads_; number++) helpers_.emplace_back([this, number] { help(number); });
    } catch (const std::system_error&) {
        return false;
    }
    return true;
}

void Team::go(Work& work) {
    work_ = &work;
    const uint64_t number = Claim::of(claim_.load(std::memory_order_relaxed)).work + 1;
    {
        std::lock_guard<std::mutex> hold(turn_);  // so that no helper falls asleep past it
        claim_.store(Claim{number & 0xffffff, 0, uint64_t(work.pieces_of(0)), 0}.word(), std::memory_order_release);
    }
    wake_.notify_all();
    take_part(0);
}

void Team::help(int number) {
    while (true) {
        {
            std::unique_lock<std::mutex> hold(turn_);
            wake_.wait(hold, [this] {
                return is_closing_ || Claim::of(claim_.load(std::memory_order_acquire)).phase != IDLE;
            });
            if (is_closing_) return;
        }
        take_part(number);
    }
}

// Claims pieces until the work is done.
void Team::take_part(int number) {
    int looks = 0;
    while (true) {
        uint64_t word = claim_.load(std::memory_order_acquire);
        const Claim claim = Claim::of(word);
        if (claim.phase == IDLE) return;
        if (claim.claimed == claim.pieces) {
            if (++looks < SPINS)
                pause();
            else
                std::this_thread::yield();
            continue;
        }
        if (!claim_.compare_exchange_weak(word, word + 1, std::memory_order_acq_rel)) continue;
        looks = 0;
        const int phase = int(claim.phase), pieces = int(claim.pieces);
        work_->run(phase, int(claim.claimed), pieces, number);
        if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 < pieces) continue;
        work_->conclude(phase);
        finished_.store(0, std::memory_order_relaxed);
        const bool is_last = phase + 1 == work_->phases();
        const uint64_t after = is_last ? 0 : uint64_t(work_->pieces_of(phase + 1));
        const Claim next{claim.work, is_last ? IDLE : claim.phase + 1, after, 0};
        claim_.store(next.word(), std::memory_order_release);
    }
}

}  // namespace native
