#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "backend/weight.h"

namespace ridge::conformance {

using Random = std::mt19937;

// Independent normal values of standard deviation `spread`.
std::vector<float> random_values(Random& random, size_t count, float spread = 1.0f);

// A weight source and the bytes that it views.
struct TestWeight {
  std::vector<std::vector<std::byte>> bytes;
  backend::WeightSource source;
};
using TestWeightPointer = std::shared_ptr<const TestWeight>;

struct RandomSegment {
  DType dtype;
  int rows;
};

// Segments stacked, [rows, columns] or, with experts > 0, [experts, rows, columns]. Values have a
// standard deviation of about 1 / sqrt(columns). Quantised blocks have every bit pattern of codes
// and group scales, and float16 scales of both signs that are finite.
TestWeightPointer random_weight(Random& random, const std::vector<RandomSegment>& segments,
                                int columns, backend::WeightUse use = backend::WeightUse::linear,
                                int experts = 0);

// A float32 weight of given values; [columns] where it is a vector, else [rows, columns].
TestWeightPointer weight_of(const std::vector<float>& values, int columns, backend::WeightUse use);

// The same with another part of it taken.
TestWeightPointer with_shard(const TestWeight& weight, backend::Shard shard);
TestWeightPointer with_transposition(const TestWeight& weight);

}  // namespace ridge::conformance
