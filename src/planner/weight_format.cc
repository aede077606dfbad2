#include "planner/weight_format.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace ridge::planner {
namespace {

using enum Arithmetic;

// Scales: DeepSeek's FP8 has a float32 for each 128 x 128 weights; w4a16 and w4a8 a half for each
// group of 128; mxfp4 a byte for each 32; w8a8 one for each output, which is nothing beside 7168 inputs. Published
// checkpoints of these formats keep embedding and head in bfloat16. A device without 8-bit floats
// holds fp8 weights as int8 of as many bytes. GGUF types: ggml's block layouts (docs in
// src/tensor); mixes (_M) are means of whole files of 7B to 70B.
constexpr double fp8_bits = 8 + 32.0 / (128 * 128);
constexpr double int4_bits = 4 + 16.0 / 128;
constexpr double mxfp4_bits = 4 + 8.0 / 32;

std::span<const KvFormat> kv_formats() {
  static const std::vector<KvFormat> list = {
      {"bf16", 2, {f16}}, {"f16", 2, {f16}}, {"fp8", 1, {f8, f16}}, {"int8", 1, {i8, f16}}};
  return list;
}

template <typename Format>
const Format& find(std::span<const Format> list, std::string_view name, std::string_view what) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  std::string known;
  for (const Format& each : list) {
    if (each.name == lower) return each;
    known += (known.empty() ? "" : ", ") + each.name;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("'{}' is no format of {} that is known here: {}", name, what, known));
}

}  // namespace

std::span<const WeightFormat> weight_formats() {
  static const std::vector<WeightFormat> list = {
      {"bf16", 16, 16, 16, {f16}},
      {"f16", 16, 16, 16, {f16}},
      {"fp8", fp8_bits, fp8_bits, 16, {f8, i8, f16}},
      {"w8a8", 8, 8, 16, {i8, f8, f16}},
      {"w8a16", 8, 8, 16, {f16}},
      {"w4a16", int4_bits, int4_bits, 16, {f16}},
      {"w4a8", 8, int4_bits, 16, {i8, f8, f16}},  // 4 bits in experts alone
      {"mxfp4", 16, mxfp4_bits, 16, {i8, f16}},  // in experts alone, as gpt-oss is published
      {"q8_0", 8.5, 8.5, 8.5, {i8, f16}},
      {"q6_k", 6.5625, 6.5625, 6.5625, {i8, f16}},
      {"q5_k_m", 5.69, 5.69, 6.5625, {i8, f16}},
      {"q4_k_m", 4.85, 4.85, 6.5625, {i8, f16}},
      {"q4_1", 5, 5, 6.5625, {i8, f16}},
      {"q4_0", 4.5, 4.5, 6.5625, {i8, f16}},
      {"iq4_xs", 4.25, 4.25, 6.5625, {i8, f16}}};
  return list;
}

const WeightFormat& find_weight_format(std::string_view name) {
  return find(weight_formats(), name, "weights");
}

WeightFormat file_weight_format(double bits) {
  constexpr double most_narrow_bits = 9;  // Q8_0 has 8.5
  return {"file", bits, bits, bits,
          bits <= most_narrow_bits ? std::vector{i8, f16} : std::vector{f16}};
}

const KvFormat& find_kv_format(std::string_view name) {
  return find(kv_formats(), name, "the KV cache");
}

}  // namespace ridge::planner
