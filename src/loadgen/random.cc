#include "loadgen/random.h"

#include <cmath>
#include <numbers>

namespace ridge::loadgen {
namespace {

constexpr uint64_t golden_step = 0x9e3779b97f4a7c15;

uint64_t mixed(uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

}  // namespace

// Mixed twice: neighbouring streams would otherwise be the same sequence, one draw apart.
Random::Random(uint64_t seed, uint64_t stream)
    : state_(mixed(mixed(seed + golden_step) ^ mixed(stream + 2 * golden_step))) {}

uint64_t Random::bits() {
  state_ += golden_step;
  return mixed(state_);
}

double Random::uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }

int Random::between(int least, int most) {
  const double choices = static_cast<double>(most) - least + 1;
  return least + static_cast<int>(uniform() * choices);
}

double Random::exponential(double mean) { return -mean * std::log(uniform()); }

double Random::normal() {
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

}  // namespace ridge::loadgen
