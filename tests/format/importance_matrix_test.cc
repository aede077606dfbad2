#include "format/importance_matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"

namespace ridge::format::importance_matrix_test {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;

class ImportanceFile : public ::testing::Test {
 protected:
  std::string failure(ErrorCode code = ErrorCode::invalid_file) const {
    try {
      ImportanceMatrix::read(path_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.message();
      return std::string(error.message());
    }
    ADD_FAILURE() << "no error";
    return {};
  }

  void write(const std::vector<char>& bytes) const {
    std::ofstream(path_, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  std::vector<char> bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // A file with one entry whose parts the test may spoil.
  void write_entry(std::vector<float> sums, std::vector<float> counts, DType dtype = DType::f32,
                   const std::string& type = "imatrix") const {
    GgufWriter writer;
    writer.set_string("general.type", type);
    const auto add = [&](const std::string& name, const std::vector<float>& values) {
      writer.add_tensor(name, dtype, Shape{static_cast<int64_t>(values.size())}, [values, dtype] {
        std::vector<std::byte> out(row_bytes(dtype, static_cast<int64_t>(values.size())));
        std::memcpy(out.data(), values.data(), std::min(out.size(), values.size() * 4));
        return out;
      });
    };
    add("blk.0.ffn_up.weight.in_sum2", sums);
    if (!counts.empty()) add("blk.0.ffn_up.weight.counts", counts);
    writer.write(path_);
  }

  TemporaryFolder folder_;
  const std::filesystem::path path_ = folder_.path() / "imatrix.gguf";
};

ImportanceMatrix example() {
  ImportanceMatrix matrix;
  matrix.datasets = {"first.txt", "zweites.txt"};
  matrix.chunks = 7;
  matrix.chunk_tokens = 512;
  matrix.entries["blk.0.attn_q.weight"] = {{1, 2, 3, 6}, {4}};
  matrix.entries["blk.0.ffn_up_exps.weight"] = {{2, 4, 0, 0, 1, 3}, {2, 0, 5}};
  matrix.entries["blk.0.attn_v_b.weight"] = {{1, 3, 2, 2}, {9}};
  return matrix;
}

TEST_F(ImportanceFile, ReadsWhatItWrote) {
  const ImportanceMatrix written = example();
  written.write(path_);
  const ImportanceMatrix read = ImportanceMatrix::read(path_);
  EXPECT_EQ(read.datasets, written.datasets);
  EXPECT_EQ(read.chunks, 7u);
  EXPECT_EQ(read.chunk_tokens, 512u);
  EXPECT_EQ(read.entries, written.entries);
}

TEST_F(ImportanceFile, HasTheKeysAndShapesThatLlamaCppReads) {
  example().write(path_);
  const GgufFile file = GgufFile::open(path_);
  EXPECT_EQ(file.metadata().string("general.type"), "imatrix");
  EXPECT_EQ(file.metadata().uint32("imatrix.chunk_count"), 7u);
  EXPECT_EQ(file.metadata().uint32("imatrix.chunk_size"), 512u);
  EXPECT_EQ(file.metadata().string_array("imatrix.datasets").size(), 2u);
  EXPECT_FALSE(file.metadata().contains("general.architecture"));
  EXPECT_EQ(file.tensor("blk.0.attn_q.weight.in_sum2").view.shape, (Shape{1, 4}));
  EXPECT_EQ(file.tensor("blk.0.attn_q.weight.counts").view.shape, (Shape{1, 1}));
  EXPECT_EQ(file.tensor("blk.0.ffn_up_exps.weight.in_sum2").view.shape, (Shape{3, 2}));
  EXPECT_EQ(file.tensor("blk.0.ffn_up_exps.weight.counts").view.shape, (Shape{3, 1}));
}

TEST_F(ImportanceFile, IsRefusedWhereverItIsCutShort) {
  example().write(path_);
  const std::vector<char> whole = bytes();
  for (size_t size = 0; size + 32 < whole.size(); size += 3) {
    write({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)});
    EXPECT_THROW(ImportanceMatrix::read(path_), Error) << size << " of " << whole.size();
  }
}

TEST_F(ImportanceFile, IsReadOrRefusedWhateverByteIsWrong) {
  example().write(path_);
  const std::vector<char> whole = bytes();
  for (size_t at = 0; at < whole.size(); ++at) {
    std::vector<char> spoilt = whole;
    spoilt[at] = static_cast<char>(spoilt[at] ^ 0x5a);
    write(spoilt);
    try {
      const ImportanceMatrix read = ImportanceMatrix::read(path_);
      for (const auto& [name, entry] : read.entries) read.column_weights(name, Shape{2, 4});
    } catch (const Error&) {
    }
  }
}

TEST_F(ImportanceFile, IsRefusedForWhatItHolds) {
  write_entry({1, 2}, {1}, DType::f32, "model");
  EXPECT_THAT(failure(), HasSubstr("general.type is 'model'"));
  write_entry({1, 2}, {});
  EXPECT_THAT(failure(), HasSubstr("blk.0.ffn_up.weight.counts"));
  write_entry({1, 2, 3}, {1, 1});
  EXPECT_THAT(failure(), HasSubstr("3 sums for 2 counts"));
  write_entry({1, std::numeric_limits<float>::quiet_NaN()}, {1});
  EXPECT_THAT(failure(), HasSubstr("nan"));
  write_entry({1, std::numeric_limits<float>::infinity()}, {1});
  EXPECT_THAT(failure(), HasSubstr("inf"));
  write_entry({1, 2}, {-3});
  EXPECT_THAT(failure(), HasSubstr("-3"));
  write_entry({1, 2}, {1}, DType::f16);
  EXPECT_THAT(failure(), HasSubstr("is F16; an importance matrix holds F32"));
  GgufWriter empty;
  empty.set_string("general.type", "imatrix");
  empty.write(path_);
  EXPECT_THAT(failure(), HasSubstr("no tensor ends in .in_sum2"));
}

TEST_F(ImportanceFile, OfTheOlderFormIsNamedAsSuch) {
  std::vector<char> old = {2, 0, 0, 0, 19, 0, 0, 0};
  for (char c : std::string("blk.0.attn_k.weight")) old.push_back(c);
  old.resize(200);
  write(old);
  EXPECT_THAT(failure(), HasSubstr("older binary form (.dat)"));
  write({'n', 'o', 't', ' ', 'a', 't', ' ', 'a', 'l', 'l', ' ', 'o', 'n', 'e', '.'});
  EXPECT_THAT(failure(), Not(HasSubstr(".dat")));
  std::filesystem::remove(path_);
  EXPECT_THAT(failure(ErrorCode::not_found), HasSubstr("imatrix.gguf"));
}

TEST(ColumnWeights, AreMeanSquaresOfAMeanOfOne) {
  const ImportanceMatrix matrix = example();
  EXPECT_THAT(matrix.column_weights("blk.0.attn_q.weight", {8, 4}),
              ElementsAre(FloatEq(1.0f / 3), FloatEq(2.0f / 3), FloatEq(1), FloatEq(2)));
  // Experts by themselves, and 1 where none was seen.
  EXPECT_THAT(matrix.column_weights("blk.0.ffn_up_exps.weight", {3, 8, 2}),
              ElementsAre(FloatEq(2.0f / 3), FloatEq(4.0f / 3), 1, 1, FloatEq(0.5f), FloatEq(1.5f)));
  // Heads under one count.
  EXPECT_THAT(matrix.column_weights("blk.0.attn_v_b.weight", {2, 8, 2}),
              ElementsAre(FloatEq(0.5f), FloatEq(1.5f), 1, 1));
  EXPECT_TRUE(matrix.column_weights("blk.1.attn_q.weight", {8, 4}).empty());
}

TEST(ColumnWeights, StayAboveNothingAndTakeHugeSums) {
  ImportanceMatrix matrix;
  const float most = std::numeric_limits<float>::max();
  matrix.entries["t"] = {{0, most, most, 0}, {1e30f}};
  matrix.entries["zeros"] = {{0, 0}, {3}};
  EXPECT_THAT(matrix.column_weights("t", {1, 4}), ElementsAre(1e-4f, 2, 2, 1e-4f));
  EXPECT_THAT(matrix.column_weights("zeros", {1, 2}), ElementsAre(1, 1));
}

TEST(ColumnWeights, NameTheTensorThatTheyDoNotFit) {
  const ImportanceMatrix matrix = example();
  for (const Shape& shape : {Shape{8, 5}, Shape{2, 8, 4}}) {
    try {
      matrix.column_weights("blk.0.attn_q.weight", shape);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_file);
      EXPECT_THAT(std::string(error.message()), HasSubstr("blk.0.attn_q.weight"));
      EXPECT_THAT(std::string(error.message()), HasSubstr("another model"));
    }
  }
}

}  // namespace
}  // namespace ridge::format::importance_matrix_test
