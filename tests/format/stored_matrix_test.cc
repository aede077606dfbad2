#include "format/stored_matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/tiny_folder.h"
#include "tensor/dequantize.h"
#include "tensor/float_formats.h"

namespace ridge::format::stored_matrix_test {

namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Tensors = std::map<std::string, TinyTensor>;

template <typename T>
TinyTensor tensor_of(std::string type, std::vector<int64_t> shape, const std::vector<T>& values) {
  TinyTensor tensor{std::move(type), std::move(shape),
                    std::string(values.size() * sizeof(T), '\0')};
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

// The matrix `w` of these tensors, [rows][columns], and its type.
struct Read {
  DType dtype;
  std::vector<float> values;
};

Read read_matrix(const Tensors& tensors, int64_t rows, int64_t columns,
                 const StoredScheme& scheme) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_of(tensors));
  const FolderShards shards = FolderShards::open(folder.path());
  FolderTensors found(shards);
  const auto matrix = found.matrix("w", rows, columns, scheme);
  EXPECT_EQ(found.first_unused([](const std::string&) { return false; }), nullptr);
  std::vector<int64_t> all(static_cast<size_t>(rows));
  std::iota(all.begin(), all.end(), 0);
  const size_t size = row_bytes(matrix->dtype(), columns);
  std::vector<std::byte> bytes(static_cast<size_t>(rows) * size);
  matrix->write(all, bytes.data());
  Read read{matrix->dtype(), std::vector<float>(static_cast<size_t>(rows * columns))};
  for (int64_t row = 0; row < rows; ++row) {
    dequantize_row(read.dtype, std::span(bytes).subspan(static_cast<size_t>(row) * size, size),
                   std::span(read.values)
                       .subspan(static_cast<size_t>(row * columns), static_cast<size_t>(columns)));
  }
  return read;
}

std::string refusal(const Tensors& tensors, int64_t rows, int64_t columns,
                    const StoredScheme& scheme) {
  try {
    read_matrix(tensors, rows, columns, scheme);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_file);
    return std::string(error.message());
  }
  return "nothing is refused";
}

// Numbers without a pattern that a group could hide.
uint32_t mixed(uint32_t at) {
  at = (at ^ at >> 15) * 0x2c1b3c6du;
  return at ^ at >> 13;
}

// e4m3 by its definition.
float value_of_e4m3(int bits) {
  const int exponent = bits / 8 % 16;
  const float fraction = static_cast<float>(bits % 8) / 8;
  const float size = exponent == 0 ? std::exp2(-6.0f) * fraction
                                   : std::exp2(static_cast<float>(exponent - 7)) * (1 + fraction);
  return bits < 128 ? size : -size;
}

Tensors fp8_tensors(int64_t rows, int64_t columns, std::vector<int64_t> scale_shape) {
  std::vector<uint8_t> codes;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const auto code = static_cast<uint8_t>(mixed(static_cast<uint32_t>(i)));
    codes.push_back((code & 127) == 127 ? 0 : code);  // no NaN
  }
  std::vector<float> scales;
  for (int64_t i = 0; i < scale_shape[0] * scale_shape[1]; ++i) {
    scales.push_back(0.0001f * static_cast<float>(i + 1));
  }
  return {{"w.weight", tensor_of("F8_E4M3", {rows, columns}, codes)},
          {"w.weight_scale_inv", tensor_of("F32", std::move(scale_shape), scales)}};
}

TEST(StoredMatrix, GivesFp8WithPartialBlocks) {
  constexpr int64_t rows = 200, columns = 300;
  const Tensors tensors = fp8_tensors(rows, columns, {2, 3});
  const Read read = read_matrix(tensors, rows, columns, {.kind = StoredScheme::Kind::fp8});
  EXPECT_EQ(read.dtype, DType::f16);
  const std::string& codes = tensors.at("w.weight").bytes;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const int64_t block = i / columns / 128 * 3 + i % columns / 128;
    const float exact = value_of_e4m3(static_cast<uint8_t>(codes[static_cast<size_t>(i)])) *
                        (0.0001f * static_cast<float>(block + 1));
    ASSERT_EQ(read.values[static_cast<size_t>(i)], f16_to_f32(f32_to_f16(exact))) << i;
  }
}

TEST(StoredMatrix, GivesFp8WithAScaleForEachRow) {
  Tensors tensors = fp8_tensors(3, 4, {3, 1});
  tensors["w.weight_scale"] = tensors["w.weight_scale_inv"];
  tensors.erase("w.weight_scale_inv");
  const Read read = read_matrix(tensors, 3, 4, {.kind = StoredScheme::Kind::fp8});
  const auto code = static_cast<uint8_t>(tensors["w.weight"].bytes[9]);
  EXPECT_EQ(read.values[9], f16_to_f32(f32_to_f16(value_of_e4m3(code) * 0.0003f)));
}

TEST(StoredMatrix, RefusesFp8ThatIsNoNumber) {
  const StoredScheme fp8{.kind = StoredScheme::Kind::fp8};
  Tensors tensors = fp8_tensors(3, 4, {1, 1});
  tensors["w.weight"].bytes[6] = '\x7f';
  EXPECT_THAT(refusal(tensors, 3, 4, fp8),
              AllOf(HasSubstr("w.weight"), HasSubstr("element 2 of row 1")));
  tensors = fp8_tensors(3, 4, {1, 1});
  tensors["w.weight_scale_inv"] = tiny_floats({1, 1}, {std::numeric_limits<float>::infinity()});
  EXPECT_THAT(refusal(tensors, 3, 4, fp8), HasSubstr("finite number"));
  EXPECT_THAT(refusal(fp8_tensors(3, 4, {2, 2}), 3, 4, fp8),
              AllOf(HasSubstr("w.weight_scale_inv"), HasSubstr("[2, 2]"), HasSubstr("[1, 1]")));
}

// GPTQ codes and zero points of a matrix of 8 rows and 64 columns in two groups of 32.
constexpr int64_t gptq_rows = 8, gptq_columns = 64;

struct Gptq {
  std::vector<uint32_t> codes = std::vector<uint32_t>(8 * gptq_rows);  // [columns / 8][rows]
  std::vector<uint32_t> zeros = {0x87654321u, 0x0fedcba9u};  // [groups][rows / 8], one less
  std::vector<float> scales;                                 // [groups][rows]
  std::vector<int32_t> order;

  Gptq() {
    for (uint32_t i = 0; i < codes.size(); ++i) codes[i] = mixed(i);
    for (int i = 0; i < 16; ++i) scales.push_back(static_cast<float>(i + 1) / 64);
    for (int i = 0; i < gptq_columns; ++i) order.push_back(i / 32);
  }
  Tensors tensors() const {
    return {{"w.qweight", tensor_of("I32", {8, 8}, codes)},
            {"w.qzeros", tensor_of("I32", {2, 1}, zeros)},
            {"w.scales", tiny_floats({2, 8}, scales)},
            {"w.g_idx", tensor_of("I32", {64}, order)}};
  }
  float exact(int64_t row, int64_t column) const {
    const auto group = static_cast<size_t>(order[static_cast<size_t>(column)]);
    const uint32_t code = codes[static_cast<size_t>(column / 8 * 8 + row)] >> column % 8 * 4 & 15;
    const uint32_t zero = (zeros[group] >> row % 8 * 4 & 15) + 1;
    return static_cast<float>(static_cast<int>(code) - static_cast<int>(zero)) *
           scales[group * 8 + static_cast<size_t>(row)];
  }
};

constexpr StoredScheme gptq_scheme{
    .kind = StoredScheme::Kind::gptq, .group = 32, .is_symmetric = false, .zero_offset = 1};

TEST(StoredMatrix, KeepsCodesAndEveryZeroPoint) {
  const Gptq gptq;  // whose zero points are 1 to 16
  const Read read = read_matrix(gptq.tensors(), gptq_rows, gptq_columns, gptq_scheme);
  EXPECT_EQ(read.dtype, DType::q5_0);
  for (int64_t i = 0; i < gptq_rows * gptq_columns; ++i) {
    ASSERT_EQ(read.values[static_cast<size_t>(i)], gptq.exact(i / gptq_columns, i % gptq_columns))
        << i;
  }
}

TEST(StoredMatrix, QuantisesColumnsOutOfOrderAnew) {
  Gptq gptq;
  for (int i = 0; i < gptq_columns; ++i) gptq.order[static_cast<size_t>(i)] = i % 2;
  const Read read = read_matrix(gptq.tensors(), gptq_rows, gptq_columns, gptq_scheme);
  EXPECT_EQ(read.dtype, DType::q8_0);
  for (int64_t row = 0; row < gptq_rows; ++row) {
    for (int64_t first = 0; first < gptq_columns; first += 32) {
      float largest = 0;
      for (int64_t i = first; i < first + 32; ++i) {
        largest = std::max(largest, std::fabs(gptq.exact(row, i)));
      }
      for (int64_t i = first; i < first + 32; ++i) {
        // Half a step, whose size is rounded to half precision.
        ASSERT_NEAR(read.values[static_cast<size_t>(row * gptq_columns + i)], gptq.exact(row, i),
                    largest / 254 * 1.07f);
      }
    }
  }
}

TEST(StoredMatrix, RefusesCodesThatContradictTheConfiguration) {
  const auto message = [](const std::function<void(Gptq&)>& change, const StoredScheme& scheme) {
    Gptq gptq;
    change(gptq);
    return refusal(gptq.tensors(), gptq_rows, gptq_columns, scheme);
  };
  StoredScheme symmetric = gptq_scheme;
  symmetric.is_symmetric = true;
  EXPECT_THAT(message([](Gptq&) {}, symmetric),
              AllOf(HasSubstr("w.qweight"), HasSubstr("zero point of row 0 is 2")));
  EXPECT_THAT(message([](Gptq& g) { g.order[5] = 2; }, gptq_scheme),
              AllOf(HasSubstr("w.g_idx"), HasSubstr("column 5 is of group 2")));
  EXPECT_THAT(message([](Gptq& g) { g.order[5] = -2; }, gptq_scheme), HasSubstr("column 5"));
  EXPECT_THAT(message([](Gptq& g) { g.scales[3] = NAN; }, gptq_scheme),
              HasSubstr("scale of row 3"));
  EXPECT_THAT(message([](Gptq& g) { g.scales[3] = 1e9f; }, gptq_scheme),
              HasSubstr("scale of row 3"));
  StoredScheme odd = gptq_scheme;
  odd.group = 48;
  EXPECT_THAT(message([](Gptq&) {}, odd), HasSubstr("not whole groups of 48"));
}

TEST(StoredMatrix, GivesRowsThatAreNoWholeBlocksAsHalves) {
  // Symmetric, eight codes a word: 3 rows of 16 columns.
  std::vector<uint32_t> words;
  for (uint32_t i = 0; i < 6; ++i) words.push_back(mixed(i));
  const Tensors tensors = {{"w.weight_packed", tensor_of("I32", {3, 2}, words)},
                           {"w.weight_scale", tiny_floats({3, 1}, {0.5f, 0.25f, 2})},
                           {"w.weight_shape", tensor_of("I64", {2}, std::vector<int64_t>{3, 16})}};
  const Read read = read_matrix(tensors, 3, 16, {.kind = StoredScheme::Kind::packed});
  EXPECT_EQ(read.dtype, DType::f16);
  const auto code = static_cast<int>(words[3] >> 12 & 15);
  EXPECT_EQ(read.values[16 + 11], static_cast<float>(code - 8) * 0.25f);
}

TEST(StoredMatrix, KeepsTheWholeRangeOfEightBits) {
  std::vector<int8_t> codes;
  for (int i = 0; i < 2 * 128; ++i) codes.push_back(static_cast<int8_t>(i - 128));
  std::vector<uint16_t> scales = {f32_to_bf16(0.0123f), f32_to_bf16(3.0f)};
  const Tensors tensors = {{"w.weight", tensor_of("I8", {2, 128}, codes)},
                           {"w.weight_scale", tensor_of("BF16", {2, 1}, scales)}};
  const Read read = read_matrix(tensors, 2, 128, {.kind = StoredScheme::Kind::integers, .bits = 8});
  EXPECT_EQ(read.dtype, DType::q8_0);
  for (size_t i = 0; i < codes.size(); ++i) {
    ASSERT_EQ(read.values[i], static_cast<float>(codes[i]) * bf16_to_f32(scales[i / 128])) << i;
  }
}

TEST(StoredScheme, SaysWhetherActivationsAreToBecomeInt8AsTheyCome) {
  const auto read = [](const std::string& activations, const std::string& strategy = "channel") {
    const std::string group = R"({"weights": {"num_bits": 8, "group_size": 128, "strategy": ")" + strategy +
                              R"("}, "input_activations": )" + activations + "}";
    return read_stored_scheme(
               FolderJson::parse(R"({"quantization_config": {"quant_method": "compressed-tensors",
                                      "format": "int-quantized", "config_groups": {"a": )" +
                                     group + "}}}",
                                 "config.json"))
        .has_int8_activations;
  };
  const std::string each_token = R"({"num_bits": 8, "dynamic": true, "strategy": "token"})";
  EXPECT_TRUE(read(each_token));
  EXPECT_TRUE(read(R"({"num_bits": 8, "type": "int", "symmetric": true, "dynamic": true,
                       "strategy": "token"})"));
  EXPECT_FALSE(read(each_token, "group"));
  EXPECT_FALSE(read("null"));
  EXPECT_FALSE(read(R"({"num_bits": 8, "dynamic": false, "strategy": "tensor"})"));
  EXPECT_FALSE(read(R"({"num_bits": 8, "dynamic": true, "strategy": "tensor"})"));
  EXPECT_FALSE(read(R"({"num_bits": 8, "dynamic": true, "strategy": "token", "symmetric": false})"));
  EXPECT_FALSE(read(R"({"num_bits": 8, "dynamic": true, "strategy": "token", "type": "float"})"));
  EXPECT_FALSE(read(R"({"num_bits": 4, "dynamic": true, "strategy": "token"})"));
}

TEST(StoredScheme, RefusesWhatItDoesNotKnow) {
  const auto expect = [](const char* part, const char* text) {
    try {
      read_stored_scheme(
          FolderJson::parse(std::string(R"({"quantization_config":)") + text + "}", "config.json"));
      ADD_FAILURE() << text << " is read";
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), AllOf(HasSubstr("config.json"), HasSubstr(part)));
    }
  };
  expect("'quant_method' is 'exl2'", R"({"quant_method": "exl2"})");
  expect("'bits' is 3", R"({"quant_method": "gptq", "bits": 3, "group_size": 128})");
  expect("'group_size'", R"({"quant_method": "gptq", "bits": 4})");
  expect("'group_size'", R"({"quant_method": "gptq", "bits": 4, "group_size": 0})");
  expect(
      "'checkpoint_format'",
      R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"})");
  expect("'gemm'", R"({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"})");
  expect("'weight_block_size'", R"({"quant_method": "fp8", "weight_block_size": [0, 128]})");
  expect("'fmt'", R"({"quant_method": "fp8", "fmt": "e5m2"})");
  expect("'config_groups'", R"({"quant_method": "compressed-tensors", "format": "int-quantized"})");
  expect("several groups",
         R"({"quant_method": "compressed-tensors", "format": "int-quantized",
             "config_groups": {"a": {"weights": {}}, "b": {"weights": {}}}})");
  expect("'format' is 'marlin-24'",
         R"({"quant_method": "compressed-tensors", "format": "marlin-24",
             "config_groups": {"a": {"weights": {"num_bits": 4}}}})");
  expect("'symmetric'",
         R"({"quant_method": "compressed-tensors", "format": "int-quantized",
             "config_groups": {"a": {"weights": {"num_bits": 8, "symmetric": false}}}})");
}

}  // namespace

}  // namespace ridge::format::stored_matrix_test
