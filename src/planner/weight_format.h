#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::planner {

// What a device's matrix units multiply: 16-bit floats (bfloat16 or half), 8-bit floats, 8-bit
// integers.
enum class Arithmetic { f16, f8, i8 };

// How weights are stored, and in which arithmetic they may be multiplied, best first: the first
// that a device has is taken.
struct WeightFormat {
  std::string name;  // "fp8", "w8a8", "q4_k_m"
  double bits = 16;  // of a weight, its share of the scales included
  double expert_bits = 16;
  double head_bits = 16;  // of the embedding and the head
  std::vector<Arithmetic> arithmetic;

  double bytes() const { return bits / 8; }
  double expert_bytes() const { return expert_bits / 8; }
  double head_bytes() const { return head_bits / 8; }
};

std::span<const WeightFormat> weight_formats();
// In any case. Throws invalid_argument naming those that are known.
const WeightFormat& find_weight_format(std::string_view name);

// Of a file with so many bits a weight on average, above 0.
WeightFormat file_weight_format(double bits);

// How keys and values, or latents, are cached.
struct KvFormat {
  std::string name;  // "bf16", "f16", "fp8", "int8"
  double bytes = 2;
  std::vector<Arithmetic> arithmetic;  // of scores and of sums over values, best first
};

// Throws invalid_argument naming those that are known.
const KvFormat& find_kv_format(std::string_view name);

}  // namespace ridge::planner
