#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"

namespace ridge::format::gguf_split_test {

namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct PartOptions {
  uint16_t number;  // from 0
  uint16_t count = 3;
  int32_t tensors = 3;
  std::string tensor;
};

void write_part(const std::filesystem::path& path, const PartOptions& part) {
  GgufWriter writer;
  writer.set_uint16("split.no", part.number);
  writer.set_uint16("split.count", part.count);
  writer.set_int32("split.tensors.count", part.tensors);
  if (part.number == 0) writer.set_string("general.architecture", "llama");
  const std::vector<float> values = {static_cast<float>(part.number), 2, 3};
  writer.add_tensor(part.tensor, DType::f32, Shape{3}, std::as_bytes(std::span(values)));
  writer.write(path);
}

class GgufSplit : public ::testing::Test {
 protected:
  void SetUp() override {
    for (uint16_t i = 0; i < 3; ++i) {
      write_part(part(i + 1), {.number = i, .tensor = "t" + std::to_string(i)});
    }
  }
  std::filesystem::path part(int number) const {
    return folder_ / ("model-0000" + std::to_string(number) + "-of-00003.gguf");
  }
  std::string refusal(const std::filesystem::path& path,
                      ErrorCode code = ErrorCode::invalid_file) const {
    try {
      GgufFile::open(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "the file was accepted";
    return {};
  }

  TemporaryFolder folder_;
};

}  // namespace

TEST_F(GgufSplit, OpensAllPartsByTheFirst) {
  const GgufFile file = GgufFile::open(part(1));
  EXPECT_EQ(file.architecture(), "llama");
  ASSERT_EQ(file.tensors().size(), 3u);
  for (int i = 0; i < 3; ++i) {
    const TensorView& view = file.tensor("t" + std::to_string(i)).view;
    EXPECT_EQ(*reinterpret_cast<const float*>(view.bytes.data()), static_cast<float>(i));
  }
  EXPECT_EQ(file.parameters(), 9u);
  EXPECT_EQ(file.file_bytes(), std::filesystem::file_size(part(1)) +
                                   std::filesystem::file_size(part(2)) +
                                   std::filesystem::file_size(part(3)));
}

TEST_F(GgufSplit, StaysReadableAfterAMove) {
  GgufFile file = GgufFile::open(part(1));
  const GgufFile moved = std::move(file);
  EXPECT_EQ(*reinterpret_cast<const float*>(moved.tensor("t2").view.bytes.data()), 2.0f);
  moved.advise(moved.tensor("t2").view, Access::done);
  EXPECT_EQ(*reinterpret_cast<const float*>(moved.tensor("t2").view.bytes.data()), 2.0f);
}

TEST_F(GgufSplit, NamesAMissingPart) {
  std::filesystem::remove(part(2));
  EXPECT_THAT(refusal(part(1), ErrorCode::not_found),
              AllOf(HasSubstr("part 2 of 3 is missing"), HasSubstr("model-00002-of-00003.gguf")));
}

TEST_F(GgufSplit, PointsFromAnotherPartToTheFirst) {
  EXPECT_THAT(refusal(part(2)),
              AllOf(HasSubstr("part 2 of 3"), HasSubstr("open the first one, "
                                                        "model-00001-of-00003.gguf")));
}

TEST_F(GgufSplit, RefusesANameThatHidesTheOtherParts) {
  std::filesystem::rename(part(1), folder_ / "model.gguf");
  EXPECT_THAT(refusal(folder_ / "model.gguf"),
              AllOf(HasSubstr("part 1 of 3"), HasSubstr("NAME-00001-of-00003.gguf")));
}

TEST_F(GgufSplit, RefusesAPartOfAnotherPlace) {
  std::filesystem::copy_file(part(2), part(3), std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(part(1)), HasSubstr("says it is part 2 of 3, but its name says part 3 of 3"));
}

TEST_F(GgufSplit, RefusesATensorInTwoParts) {
  write_part(part(3), {.number = 2, .tensor = "t0"});
  EXPECT_THAT(refusal(part(1)), AllOf(HasSubstr("\"t0\""), HasSubstr("two tensors")));
}

TEST_F(GgufSplit, RefusesPartsThatLackTensors) {
  write_part(part(1), {.number = 0, .tensors = 4, .tensor = "t0"});
  EXPECT_THAT(refusal(part(1)), HasSubstr("split.tensors.count is 4, but the parts hold 3"));
}

TEST_F(GgufSplit, RefusesAnAbsurdCount) {
  write_part(part(1), {.number = 0, .count = 65535, .tensor = "t0"});
  EXPECT_THAT(refusal(part(1)), HasSubstr("split.count is 65535"));
}

TEST(GgufOpen, TellsAMissingFileFromAFolder) {
  const TemporaryFolder folder;
  try {
    GgufFile::open(folder / "absent.gguf");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_THAT(error.what(), HasSubstr("absent.gguf"));
  }
  try {
    GgufFile::open(folder / "");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_THAT(error.what(), HasSubstr("not a regular file"));
  }
}

}  // namespace ridge::format::gguf_split_test
