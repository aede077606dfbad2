#pragma once

#include <array>
#include <cstdint>

namespace ridge::sampling {

// Philox4x32-10: 128 random bits from a counter and a key, without a state, so that draw number i
// of a seed is the same however a sequence came to it. Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// 64 uniform bits for one token: the key is the seed,
// the counter the token's number and its choice.
uint64_t random_bits(uint64_t seed, uint32_t choice, uint64_t token_index);

// An integer uniform in [0, bound) to within 2^-64, for bound >= 1.
inline uint64_t scale_to(uint64_t bits, uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(bits) * bound) >> 64);
}

// A seed from the system's entropy.
uint64_t fresh_seed();

}  // namespace ridge::sampling
