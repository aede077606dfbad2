#include "conformance/random_weights.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/float_formats.h"

namespace ridge::conformance {

namespace {

using backend::WeightSource;
using backend::WeightUse;

// Byte offsets of a block's float16 scale and minimum (see tensor/blocks.h); -1 for none. `ratio`
// is minimum / scale such that values centre on zero.
struct ScalePlaces {
  int scale;
  int minimum = -1;
  float ratio = 0;
};

ScalePlaces places_of(DType dtype) {
  switch (dtype) {
    case DType::q4_1:
      return {0, 2, -7.5f};
    case DType::q5_1:
      return {0, 2, -15.5f};
    case DType::q2_k:
      return {80, 82, 1.5f};
    case DType::q3_k:
      return {108};
    case DType::q4_k:
      return {0, 2, 7.5f};
    case DType::q5_k:
      return {0, 2, 15.5f};
    case DType::q6_k:
      return {208};
    default:
      return {0};
  }
}

void put_f16(std::byte* block, int offset, float value) {
  const uint16_t bits = f32_to_f16(value);
  std::memcpy(block + offset, &bits, sizeof bits);
}

void put_scale(DType dtype, std::byte* block, float scale) {
  if (dtype == DType::mxfp4) {  // the nearest power of two
    block[0] = static_cast<std::byte>(128 + std::lround(std::log2(std::fabs(scale))));
    return;
  }
  const ScalePlaces places = places_of(dtype);
  put_f16(block, places.scale, scale);
  if (places.minimum >= 0) put_f16(block, places.minimum, scale * places.ratio);
}

std::vector<std::byte> random_blocks(Random& random, DType dtype, size_t blocks, float spread) {
  const auto block_bytes = static_cast<size_t>(traits(dtype).block_bytes);
  std::vector<std::byte> bytes(blocks * block_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 255);

  // One block of scale 1 tells how far its values spread.
  put_scale(dtype, bytes.data(), 1.0f);
  std::vector<float> unit(traits(dtype).block_elements);
  dequantize_row(dtype, std::span(bytes).first(block_bytes), unit);
  double square = 0;
  for (float value : unit) square += static_cast<double>(value) * value;
  const auto base = static_cast<float>(spread / std::sqrt(square / unit.size()));

  std::uniform_real_distribution<float> jitter(0.6f, 1.4f);
  for (size_t b = 0; b < blocks; ++b) {
    const float sign = random() % 4 == 0 ? -1.0f : 1.0f;
    put_scale(dtype, bytes.data() + b * block_bytes, base * jitter(random) * sign);
  }
  return bytes;
}

std::vector<std::byte> random_plain(Random& random, DType dtype, size_t count, float spread) {
  const std::vector<float> values = random_values(random, count, spread);
  std::vector<std::byte> bytes(row_bytes(dtype, static_cast<int64_t>(count)));
  if (dtype == DType::f32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  RIDGE_ASSERT(dtype == DType::f16 || dtype == DType::bf16);
  for (size_t i = 0; i < count; ++i) {
    const uint16_t bits = dtype == DType::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    std::memcpy(bytes.data() + 2 * i, &bits, sizeof bits);
  }
  return bytes;
}

void point_segments(TestWeight& weight) {
  for (size_t i = 0; i < weight.bytes.size(); ++i) {
    weight.source.segments[i].bytes = weight.bytes[i];
  }
}

}  // namespace

std::vector<float> random_values(Random& random, size_t count, float spread) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

TestWeightPointer random_weight(Random& random, const std::vector<RandomSegment>& segments,
                                int columns, WeightUse use, int experts) {
  auto weight = std::make_shared<TestWeight>();
  weight->source.name = "random";
  weight->source.use = use;
  const float spread = 1.0f / std::sqrt(static_cast<float>(columns));
  for (const RandomSegment& segment : segments) {
    const size_t count = static_cast<size_t>(std::max(experts, 1)) * segment.rows * columns;
    const int block = traits(segment.dtype).block_elements;
    weight->bytes.push_back(is_quantized(segment.dtype)
                                ? random_blocks(random, segment.dtype, count / block, spread)
                                : random_plain(random, segment.dtype, count, spread));
    const Shape shape =
        experts > 0 ? Shape{experts, segment.rows, columns} : Shape{segment.rows, columns};
    weight->source.segments.push_back({.dtype = segment.dtype, .shape = shape});
  }
  point_segments(*weight);
  return weight;
}

TestWeightPointer weight_of(const std::vector<float>& values, int columns, WeightUse use) {
  auto weight = std::make_shared<TestWeight>();
  weight->source.name = "given";
  weight->source.use = use;
  const auto bytes = std::as_bytes(std::span(values));
  weight->bytes.emplace_back(bytes.begin(), bytes.end());
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  const bool is_vector = use == WeightUse::vector;
  weight->source.segments.push_back(
      {.dtype = DType::f32, .shape = is_vector ? Shape{columns} : Shape{rows, columns}});
  point_segments(*weight);
  return weight;
}

TestWeightPointer with_shard(const TestWeight& weight, backend::Shard shard) {
  auto copy = std::make_shared<TestWeight>(weight);
  copy->source.shard = shard;
  point_segments(*copy);
  return copy;
}

TestWeightPointer with_transposition(const TestWeight& weight) {
  auto copy = std::make_shared<TestWeight>(weight);
  copy->source.transposed = true;
  point_segments(*copy);
  return copy;
}

}  // namespace ridge::conformance
