#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ridge {

// XXH64 (source: the algorithm's specification in xxHash's doc/xxhash_spec.md). As fast as one core
// reads memory. It finds damage by accident; whoever can write the bytes can also make the sum fit.
uint64_t xxh64(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace ridge
