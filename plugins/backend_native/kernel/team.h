// The threads of a network. Work is a row of phases, each cut into pieces. Threads claim pieces; whoever finishes the
// last piece of a phase prepares the next one. So nobody waits for a thread that has not claimed anything: one that the
// system has put aside costs the others nothing, which matters on a box with other work.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace native {

constexpr int MOST_THREADS = 64, MOST_PHASES = 0xfffe, MOST_PIECES = 0xfff;

// What a team does together. No two pieces of a phase write to the same place.
class Work {
public:
    virtual int phases() const = 0;                  // 1 … MOST_PHASES
    virtual int pieces_of(int phase) const = 0;      // 1 … MOST_PIECES
    virtual void run(int phase, int piece, int pieces, int thread) = 0;
    virtual void conclude(int phase) = 0;            // small work that one thread does after the last piece

protected:
    ~Work() = default;
};

class Team {
public:
    explicit Team(int threads) : threads_(threads) {}
    ~Team();

    int threads() const { return threads_; }
    bool start();        // the others beside the caller; false where the system has no more threads
    void go(Work& work); // the caller takes part, and returns when all phases are done. One caller at a time

private:
    void help(int number);
    void take_part(int number);

    const int threads_;
    Work* work_ = nullptr;  // written between works, read by who has claimed a piece
    alignas(64) std::atomic<uint64_t> claim_;
    alignas(64) std::atomic<int> finished_{0};
    alignas(64) std::mutex turn_;
    std::condition_variable wake_;
    bool is_closing_ = false;
    std::vector<std::thread> helpers_;
};

}  // namespace native
