#include "base/checksum.h"

#include <array>
#include <bit>
#include <cstring>

namespace ridge {

namespace {

static_assert(std::endian::native == std::endian::little);

// The specification's five primes.
constexpr uint64_t prime1 = 0x9E3779B185EBCA87u;
constexpr uint64_t prime2 = 0xC2B2AE3D27D4EB4Fu;
constexpr uint64_t prime3 = 0x165667B19E3779F9u;
constexpr uint64_t prime4 = 0x85EBCA77C2B2AE63u;
constexpr uint64_t prime5 = 0x27D4EB2F165667C5u;

template <typename Word>
uint64_t load(const std::byte* at) {
  Word word;
  std::memcpy(&word, at, sizeof(Word));
  return word;
}

uint64_t take(uint64_t lane, uint64_t word) { return std::rotl(lane + word * prime2, 31) * prime1; }

// Four lanes over whole stripes of 32 bytes; moves `at` behind them.
uint64_t sum_stripes(const std::byte*& at, const std::byte* end, uint64_t seed) {
  std::array<uint64_t, 4> lanes = {seed + prime1 + prime2, seed + prime2, seed, seed - prime1};
  for (; end - at >= 32; at += 32) {
    for (int i = 0; i < 4; ++i) lanes[i] = take(lanes[i], load<uint64_t>(at + 8 * i));
  }
  uint64_t sum = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
                 std::rotl(lanes[3], 18);
  for (const uint64_t lane : lanes) sum = (sum ^ take(0, lane)) * prime1 + prime4;
  return sum;
}

}  // namespace

uint64_t xxh64(std::span<const std::byte> bytes, uint64_t seed) {
  const std::byte* at = bytes.data();
  const std::byte* const end = at + bytes.size();
  uint64_t sum = bytes.size() >= 32 ? sum_stripes(at, end, seed) : seed + prime5;
  sum += bytes.size();
  for (; end - at >= 8; at += 8) {
    sum = std::rotl(sum ^ take(0, load<uint64_t>(at)), 27) * prime1 + prime4;
  }
  if (end - at >= 4) {
    sum = std::rotl(sum ^ (load<uint32_t>(at) * prime1), 23) * prime2 + prime3;
    at += 4;
  }
  for (; at < end; ++at) sum = std::rotl(sum ^ (load<uint8_t>(at) * prime5), 11) * prime1;
  sum = (sum ^ (sum >> 33)) * prime2;
  sum = (sum ^ (sum >> 29)) * prime3;
  return sum ^ (sum >> 32);
}

}  // namespace ridge
