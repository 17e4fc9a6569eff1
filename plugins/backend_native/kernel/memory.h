// The memory of a network: one block that is set aside once, and the arrays of a file that are copied into it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace native {

// One block for everything, on large pages where the system has them: a token reads all of it.
class Arena {
public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    ~Arena() {
        if (start_) munmap(start_, size_);
    }

    // Filled with zeros. Once per arena.
    bool reserve(size_t size) {
        void* found = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) return false;
        start_ = static_cast<uint8_t*>(found);
        size_ = size;
        madvise(start_, size_, MADV_HUGEPAGE);  // no more than a wish
        return true;
    }

    // Aligned to 64 bytes. Throws bad_alloc where less was reserved.
    template <class T>
    T* take(size_t count) {
        uint8_t* at = start_ + used_;
        used_ += room_for(count * sizeof(T));
        if (used_ > size_) throw std::bad_alloc();
        return reinterpret_cast<T*>(at);
    }

    static size_t room_for(size_t bytes) { return (bytes + 63) & ~size_t(63); }

private:
    uint8_t* start_ = nullptr;
    size_t size_ = 0, used_ = 0;
};

// An array as the caller gives it.
struct Array {
    const void* data;
    uint64_t bytes;
};

// Hands out the arrays that were given, in their order, and checks that each has the size that the shape demands.
class Given {
public:
    Given(const Array* arrays, int count) : next_(arrays), left_(count) {}

    const void* take(size_t bytes) {
        if (left_ == 0 || next_->bytes != bytes || (bytes && !next_->data)) {
            is_wrong_ = true;
            return nullptr;
        }
        left_--;
        return next_++->data;
    }

    bool is_used_up() const { return !is_wrong_ && left_ == 0; }

private:
    const Array* next_;
    int left_;
    bool is_wrong_ = false;
};

inline const float* take_floats(Given& given, Arena& arena, size_t count) {
    float* to = arena.take<float>(count);
    if (const void* from = given.take(count * sizeof(float))) memcpy(to, from, count * sizeof(float));
    return to;
}

}  // namespace native
