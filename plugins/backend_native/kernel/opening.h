// How the C interface opens a network of any kind.
#pragma once

#include "errors.h"
#include "memory.h"
#include "team.h"

#include <memory>
#include <new>

namespace native {

// A `Network` of this shape on a level, nullptr where there is none of the name; returns one of `Error`.
template <class Network, class Shape, class Level>
int open_network(const Shape& shape, bool is_possible, const Level* level, const Array* arrays, int count, int threads,
                 void** handle) {
    if (!level) return NO_LEVEL;
    if (!is_possible || threads < 1 || threads > MOST_THREADS || count < 0) return BAD_SHAPE;
    try {
        auto network = std::make_unique<Network>(shape, *level, threads);
        const Error error = network->open(arrays, count);
        if (error == OK) *handle = network.release();
        return error;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    }
}

}  // namespace native
