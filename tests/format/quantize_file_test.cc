#include "format/quantize_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "tensor/dequantize.h"
#include "tensor/float_formats.h"
#include "tensor/quantize.h"

namespace ridge::format::quantize_file_test {

namespace {

using ::testing::HasSubstr;

// Smooth values without a pattern that a block could exploit.
std::vector<float> weights(int64_t count, float phase) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<float>(i);
    values[i] = 0.02f * (std::sin(at * 1.7f + phase) + std::cos(at * at * 0.013f));
  }
  return values;
}

std::vector<std::byte> as_bytes(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

// A model of two layers that was never trained. Tests change what they need to.
struct Source {
  GgufWriter writer{64};

  Source() {
    writer.set_string("general.architecture", "llama");
    writer.set_uint32("llama.block_count", 2);
    writer.set_uint32("general.file_type", 0);
    writer.set_uint32("llama.attention.head_count", 4);
    writer.set_string_array("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
    writer.set_float_array("odd.floats", std::vector<float>{0.1f, -2.0f});
  }

  void add(std::string_view name, const Shape& shape, std::vector<float> values) {
    writer.add_tensor(name, DType::f32, shape, [values] { return as_bytes(values); });
  }

  void add(std::string_view name, const Shape& shape) {
    add(name, shape, weights(shape.elements(), static_cast<float>(name.size())));
  }

  void add_layers() {
    add("token_embd.weight", {50, 512});
    for (const char* layer : {"blk.0.", "blk.1."}) {
      const auto named = [&](const char* role) { return std::string(layer) + role; };
      add(named("attn_norm.weight"), {512});
      add(named("attn_q.weight"), {300, 512});
      add(named("attn_v.weight"), {64, 512});
      add(named("ffn_down.weight"), {512, 96});
    }
    add("output.weight", {50, 512});
  }
};

class QuantizeFile : public ::testing::Test {
 protected:
  QuantizeReport quantize(std::string_view recipe, QuantizeOptions options = {}) {
    return quantize_file(input_, output_, quantization_recipe(recipe), options);
  }

  std::string failure(std::string_view recipe, ErrorCode code, QuantizeOptions options = {}) {
    try {
      quantize(recipe, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.message();
      return std::string(error.message());
    }
    ADD_FAILURE() << "no error";
    return {};
  }

  void expect_nothing_written() const {
    EXPECT_FALSE(std::filesystem::exists(output_));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out.gguf.partial"));
  }

  static std::string content(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const TemporaryFolder folder_;
  const std::filesystem::path input_ = folder_ / "in.gguf";
  const std::filesystem::path output_ = folder_ / "out.gguf";
};

}  // namespace

TEST_F(QuantizeFile, KeepsMetadataAndVectorsAndChoosesTypes) {
  Source source;
  source.add_layers();
  source.writer.write(input_);
  const QuantizeReport report = quantize("Q4_K_M");
  const GgufFile before = GgufFile::open(input_);
  const GgufFile after = GgufFile::open(output_);
  EXPECT_EQ(after.metadata().uint32("general.file_type"), 15u);
  EXPECT_EQ(after.metadata().uint32("general.quantization_version"), 2u);
  EXPECT_EQ(after.metadata().uint32("general.alignment"), 64u);
  ASSERT_EQ(after.metadata().entries().size(), before.metadata().entries().size() + 1);
  for (const GgufEntry& entry : before.metadata().entries()) {
    ASSERT_TRUE(after.metadata().contains(entry.key)) << entry.key;
    if (entry.key != "general.file_type") {
      const GgufValue& kept = *after.metadata().find(entry.key);
      EXPECT_EQ(kept.strings, entry.value.strings);
      EXPECT_TRUE(std::ranges::equal(kept.bytes, entry.value.bytes)) << entry.key;
    }
  }
  ASSERT_EQ(after.tensors().size(), before.tensors().size());
  for (size_t i = 0; i < after.tensors().size(); ++i) {
    EXPECT_EQ(after.tensors()[i].name, before.tensors()[i].name);
    EXPECT_EQ(after.tensors()[i].view.shape, before.tensors()[i].view.shape);
  }
  const auto type = [&](std::string_view name) { return after.tensor(name).view.dtype; };
  EXPECT_EQ(type("token_embd.weight"), DType::q4_k);
  EXPECT_EQ(type("output.weight"), DType::q6_k);
  EXPECT_EQ(type("blk.0.attn_q.weight"), DType::q4_k);
  EXPECT_EQ(type("blk.0.attn_v.weight"), DType::q4_k);
  EXPECT_EQ(type("blk.1.attn_v.weight"), DType::q6_k);
  EXPECT_EQ(type("blk.0.attn_norm.weight"), DType::f32);
  EXPECT_TRUE(std::ranges::equal(after.tensor("blk.0.attn_norm.weight").view.bytes,
                                 before.tensor("blk.0.attn_norm.weight").view.bytes));
  // Rows of 96 are no whole super-blocks of Q6_K, which the layer would get.
  EXPECT_EQ(type("blk.1.ffn_down.weight"), DType::q8_0);
  ASSERT_EQ(report.replaced.size(), 2u);
  EXPECT_EQ(report.replaced[1].tensor, "blk.1.ffn_down.weight");
  EXPECT_EQ(report.replaced[1].asked, DType::q6_k);
  EXPECT_EQ(report.output_bytes, std::filesystem::file_size(output_));
  EXPECT_EQ(report.input_bytes, std::filesystem::file_size(input_));
  EXPECT_EQ(report.parameters, before.parameters());
  EXPECT_EQ(report.tensors_by_type.at(DType::q4_k), 4u);
}

TEST_F(QuantizeFile, WritesTheSameBytesWhateverTheThreads) {
  Source source;
  source.add_layers();
  source.writer.write(input_);
  std::string first;
  for (int threads : {1, 2, 7}) {
    quantize("IQ4_XS", {.threads = threads, .overwrite = true});
    if (first.empty()) first = content(output_);
    EXPECT_EQ(content(output_), first) << threads;
  }
}

TEST_F(QuantizeFile, StaysNearTheValuesInEveryRow) {
  Source source;
  source.add_layers();
  source.writer.write(input_);
  quantize("Q8_0", {.threads = 3});
  const GgufFile before = GgufFile::open(input_);
  const GgufFile after = GgufFile::open(output_);
  for (const GgufTensor& tensor : before.tensors()) {
    const TensorView& view = after.tensor(tensor.name).view;
    std::vector<float> expected(static_cast<size_t>(view.shape.columns()));
    std::vector<float> got(expected.size());
    for (int64_t row = 0; row < view.shape.rows(); ++row) {
      dequantize_row(DType::f32, tensor.view.row(row), expected);
      dequantize_row(view.dtype, view.row(row), got);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], expected[i], 0.04 / 127) << tensor.name << " row " << row;
      }
    }
  }
}

TEST_F(QuantizeFile, TakesHalvesAndMakesVectorsF32) {
  Source source;
  const std::vector<float> values = weights(512, 1);
  const auto halves = [](const std::vector<float>& floats, auto convert) {
    std::vector<uint16_t> bits;
    for (float value : floats) bits.push_back(convert(value));
    const auto bytes = std::as_bytes(std::span(bits));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  const auto f16 = halves(values, f32_to_f16);
  const auto bf16 = halves(values, f32_to_bf16);
  source.writer.add_tensor("output_norm.weight", DType::f16, Shape{512}, f16);
  source.writer.add_tensor("blk.0.attn_q.weight", DType::f16, Shape{2, 256}, f16);
  source.writer.add_tensor("blk.0.attn_k.weight", DType::bf16, Shape{2, 256}, bf16);
  source.writer.write(input_);
  quantize("BF16");
  const GgufFile file = GgufFile::open(output_);
  EXPECT_EQ(file.tensor("output_norm.weight").view.dtype, DType::f32);
  EXPECT_EQ(file.tensor("blk.0.attn_q.weight").view.dtype, DType::bf16);
  EXPECT_TRUE(std::ranges::equal(file.tensor("blk.0.attn_k.weight").view.bytes, bf16));
}

TEST_F(QuantizeFile, ReadsASplitModelAsOne) {
  Source whole;
  whole.add("blk.0.attn_q.weight", {4, 256});
  whole.add("blk.1.attn_q.weight", {8, 256});
  whole.writer.write(input_);
  quantize("Q6_K");
  const std::string expected = content(output_);

  Source first;
  first.writer.set_uint16("split.no", 0);
  first.writer.set_uint16("split.count", 2);
  first.writer.set_int32("split.tensors.count", 2);
  first.add("blk.0.attn_q.weight", {4, 256});
  first.writer.write(folder_ / "part-00001-of-00002.gguf");
  GgufWriter second(64);
  second.set_uint16("split.no", 1);
  second.set_uint16("split.count", 2);
  second.set_int32("split.tensors.count", 2);
  second.add_tensor("blk.1.attn_q.weight", DType::f32, Shape{8, 256},
                    [] { return as_bytes(weights(8 * 256, 19)); });
  second.write(folder_ / "part-00002-of-00002.gguf");
  quantize_file(folder_ / "part-00001-of-00002.gguf", output_, quantization_recipe("Q6_K"),
                {.overwrite = true});
  EXPECT_EQ(content(output_), expected);
}

TEST_F(QuantizeFile, NamesTheTensorOfAValueThatIsNotFinite) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (const char* tensor : {"blk.1.attn_q.weight", "blk.1.attn_q.bias"}) {
      Source source;
      source.add("blk.0.attn_q.weight", {4, 256});
      std::vector<float> values = weights(4 * 256, 0);
      values[2 * 256 + 17] = bad;
      values[3 * 256] = bad;
      const bool is_vector = std::string_view(tensor).ends_with("bias");
      source.add(tensor, is_vector ? Shape{4 * 256} : Shape{4, 256}, values);
      source.writer.write(input_);
      const std::string message = failure("Q4_K_M", ErrorCode::invalid_file, {.threads = 3});
      EXPECT_THAT(message, HasSubstr("in.gguf"));
      EXPECT_THAT(message, HasSubstr(tensor));
      EXPECT_THAT(message, HasSubstr(is_vector ? "element 529 of row 0" : "element 17 of row 2"));
      expect_nothing_written();
    }
  }
}

TEST_F(QuantizeFile, RefusesWhatF16ScalesCannotHold) {
  Source source;
  std::vector<float> values = weights(2 * 256, 0);
  values[300] = 1e6f;
  source.add("blk.0.attn_q.weight", {2, 256}, values);
  source.writer.write(input_);
  for (const char* recipe : {"Q4_0", "Q6_K", "F16"}) {
    EXPECT_THAT(failure(recipe, ErrorCode::invalid_file),
                HasSubstr("element 44 of row 1 is 1000000"));
    expect_nothing_written();
  }
  quantize("BF16");  // has the range of F32
}

TEST_F(QuantizeFile, QuantisesAgainOnlyWhereAllowed) {
  Source source;
  source.add_layers();
  source.writer.write(folder_ / "original.gguf");
  quantize_file(folder_ / "original.gguf", input_, quantization_recipe("Q8_0"), {});
  const std::string message = failure("Q4_K_M", ErrorCode::invalid_argument);
  EXPECT_THAT(message, HasSubstr("token_embd.weight"));
  EXPECT_THAT(message, HasSubstr("--allow-requantize"));
  expect_nothing_written();
  quantize("Q4_K_M", {.allow_requantize = true});
  const GgufFile file = GgufFile::open(output_);
  EXPECT_EQ(file.tensor("blk.0.attn_q.weight").view.dtype, DType::q4_k);
  // What has its type already is copied bit by bit.
  EXPECT_TRUE(
      std::ranges::equal(file.tensor("blk.1.ffn_down.weight").view.bytes,
                         GgufFile::open(input_).tensor("blk.1.ffn_down.weight").view.bytes));
}

TEST_F(QuantizeFile, ReplacesAFileOnlyWhereAllowed) {
  Source source;
  source.add_layers();
  source.writer.write(input_);
  std::ofstream(output_) << "mine";
  EXPECT_THAT(failure("Q4_0", ErrorCode::invalid_argument), HasSubstr("--force"));
  EXPECT_EQ(content(output_), "mine");
  quantize("Q4_0", {.overwrite = true});
  EXPECT_EQ(GgufFile::open(output_).metadata().uint32("general.file_type"), 2u);
  try {
    quantize_file(input_, input_, quantization_recipe("Q4_0"), {.overwrite = true});
    ADD_FAILURE() << "the input was replaced";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  }
  EXPECT_EQ(GgufFile::open(input_).metadata().uint32("general.file_type"), 0u);
}

TEST_F(QuantizeFile, RefusesADamagedFile) {
  Source source;
  source.add_layers();
  std::vector<std::byte> bytes = source.writer.to_bytes();
  bytes.resize(bytes.size() - 1000);
  std::ofstream(input_, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  EXPECT_THAT(failure("Q4_0", ErrorCode::invalid_file), HasSubstr("cut short"));
  expect_nothing_written();
}

TEST_F(QuantizeFile, StopsWhereAskedTo) {
  Source source;
  source.add_layers();
  source.writer.write(input_);
  QuantizeOptions options;
  int calls = 0;
  options.progress = [&](int64_t, int64_t) { return ++calls < 4; };
  failure("Q4_0", ErrorCode::cancelled, options);
  EXPECT_EQ(calls, 4);
  expect_nothing_written();
}

// Columns of which one in seven matters.
ImportanceEntry uneven(int64_t columns) {
  ImportanceEntry entry{{}, {4}};
  for (int64_t i = 0; i < columns; ++i) entry.square_sums.push_back(i % 7 == 0 ? 100.0f : 0.5f);
  return entry;
}

TEST_F(QuantizeFile, WeighsColumnsByAnImportanceMatrixAndNotesWhereItIsFrom) {
  Source source;
  source.writer.set_string("quantize.imatrix.file", "of an earlier time");
  source.add_layers();
  source.writer.write(input_);
  Importance importance;
  importance.file = "here/imatrix.gguf";
  importance.matrix.datasets = {"text.txt", "more.txt"};
  importance.matrix.chunks = 9;
  importance.matrix.entries["blk.0.attn_q.weight"] = uneven(512);
  importance.matrix.entries["blk.1.attn_norm.weight"] = uneven(512);
  const QuantizeReport plain = quantize("Q4_0");
  EXPECT_TRUE(plain.unweighted.empty());
  const auto bytes_of = [&](std::string_view tensor) {
    const GgufFile file = GgufFile::open(output_);
    const auto bytes = file.tensor(tensor).view.bytes;
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  const auto weighted_error = [&] {
    const GgufFile before = GgufFile::open(input_);
    const GgufFile after = GgufFile::open(output_);
    const TensorView& from = before.tensor("blk.0.attn_q.weight").view;
    const TensorView& to = after.tensor("blk.0.attn_q.weight").view;
    std::vector<float> expected(512);
    std::vector<float> got(512);
    double error = 0;
    for (int64_t row = 0; row < from.shape.rows(); ++row) {
      dequantize_row(from.dtype, from.row(row), expected);
      dequantize_row(to.dtype, to.row(row), got);
      for (int i = 0; i < 512; ++i) error += (i % 7 == 0 ? 200 : 1) * std::pow(got[i] - expected[i], 2);
    }
    return error;
  };
  const double plain_error = weighted_error();
  const auto plain_k = bytes_of("blk.0.attn_v.weight");
  const QuantizeReport report =
      quantize("Q4_0", {.overwrite = true, .importance = &importance});
  EXPECT_LE(weighted_error(), 0.8 * plain_error);
  EXPECT_EQ(bytes_of("blk.0.attn_v.weight"), plain_k);
  // Of the matrices alone.
  EXPECT_THAT(report.unweighted,
              ::testing::UnorderedElementsAre(
                  "token_embd.weight", "blk.0.attn_v.weight", "blk.0.ffn_down.weight",
                  "blk.1.attn_q.weight", "blk.1.attn_v.weight", "blk.1.ffn_down.weight",
                  "output.weight"));
  const GgufFile file = GgufFile::open(output_);
  EXPECT_EQ(file.metadata().string("quantize.imatrix.file"), "here/imatrix.gguf");
  EXPECT_EQ(file.metadata().string("quantize.imatrix.dataset"), "text.txt");
  EXPECT_EQ(file.metadata().uint32("quantize.imatrix.entries_count"), 2u);
  EXPECT_EQ(file.metadata().uint32("quantize.imatrix.chunks_count"), 9u);
}

TEST_F(QuantizeFile, WeighsEachExpertByItsOwnInputs) {
  Source source;
  source.add("blk.0.ffn_up_exps.weight", {3, 8, 256});
  source.writer.write(input_);
  Importance importance;
  ImportanceEntry& entry = importance.matrix.entries["blk.0.ffn_up_exps.weight"];
  const ImportanceEntry one = uneven(256);
  for (int expert = 0; expert < 3; ++expert) {
    // The second has not been seen.
    entry.counts.push_back(expert == 1 ? 0.0f : 4.0f);
    for (float sum : one.square_sums) entry.square_sums.push_back(expert == 1 ? 0.0f : sum);
  }
  quantize("Q4_K_M", {.threads = 2, .importance = &importance});
  const GgufFile before = GgufFile::open(input_);
  const GgufFile after = GgufFile::open(output_);
  std::vector<float> row(256);
  for (int64_t r = 0; r < 24; ++r) {
    dequantize_row(DType::f32, before.tensors()[0].view.row(r), row);
    const bool is_seen = r / 8 != 1;
    const std::vector<float> weights =
        is_seen ? importance.matrix.column_weights("blk.0.ffn_up_exps.weight", {3, 8, 256})
                : std::vector<float>();
    std::vector<std::byte> expected(row_bytes(DType::q4_k, 256));
    // An expert that was not seen has equal weights, which are not those of a row alone.
    const std::vector<float> equal(256, 1.0f);
    quantize_row(DType::q4_k, row, expected,
                 is_seen ? std::span(weights).first(256) : std::span(equal));
    EXPECT_TRUE(std::ranges::equal(after.tensors()[0].view.row(r), expected)) << r;
  }
}

TEST_F(QuantizeFile, RefusesAnImportanceMatrixOfAnotherModel) {
  Source source;
  source.add_layers();
  source.writer.write(input_);
  Importance importance;
  importance.file = "other.gguf";
  importance.matrix.entries["blk.1.attn_v.weight"] = uneven(511);
  EXPECT_THAT(failure("Q4_0", ErrorCode::invalid_file, {.importance = &importance}),
              HasSubstr("blk.1.attn_v.weight"));
  expect_nothing_written();
  importance.matrix.entries.clear();
  importance.matrix.entries["blk.7.attn_v.weight"] = uneven(512);
  EXPECT_THAT(failure("Q4_0", ErrorCode::invalid_file, {.importance = &importance}),
              HasSubstr("blk.7.attn_v.weight"));
  expect_nothing_written();
}

TEST_F(QuantizeFile, CountsEveryByteOfTheInput) {
  Source source;
  source.add_layers();
  source.writer.write(input_);
  QuantizeOptions options;
  int64_t last = 0;
  int64_t all = 0;
  options.progress = [&](int64_t done_bytes, int64_t total_bytes) {
    EXPECT_GT(done_bytes, last);
    last = done_bytes;
    all = total_bytes;
    return true;
  };
  quantize("Q4_0", options);
  EXPECT_EQ(last, all);
  EXPECT_EQ(static_cast<uint64_t>(all), GgufFile::open(input_).tensor_bytes());
}

// A source of holes, which no disk has room for once they are quantised.
TEST_F(QuantizeFile, LooksForTheSpaceBeforeItStarts) {
  Source source;
  source.add("blk.0.attn_q.weight", {4, 256});
  const std::string header_and_tensor = [&] {
    const std::vector<std::byte> bytes = source.writer.to_bytes();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size() - 4 * 256 * 4);
  }();
  // The row count in the header stands 4 bytes of rank and 8 of columns after the name.
  std::string grown = header_and_tensor;
  constexpr uint64_t columns = 256;
  const uint64_t rows = 2 * std::filesystem::space(folder_ / "").available / columns;
  const size_t at = grown.find("blk.0.attn_q.weight") + 19 + 4 + 8;
  std::memcpy(grown.data() + at, &rows, sizeof(rows));
  std::ofstream(input_, std::ios::binary) << grown;
  const uint64_t size = grown.size() + rows * columns * sizeof(float);
  std::error_code failed;
  std::filesystem::resize_file(input_, size, failed);
  if (failed) GTEST_SKIP() << "no file of " << size << " bytes can be made: " << failed.message();
  EXPECT_THAT(failure("Q8_0", ErrorCode::io), HasSubstr("are free"));
  expect_nothing_written();
}

}  // namespace ridge::format::quantize_file_test
