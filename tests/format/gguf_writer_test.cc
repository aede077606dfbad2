#include "format/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/gguf.h"

namespace ridge::format::gguf_writer_test {

namespace {

using ::testing::ElementsAre;

std::vector<std::byte> filled(size_t size, int value) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

ErrorCode code_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::internal;
}

}  // namespace

TEST(GgufWriter, WritesWhatTheParserReads) {
  GgufWriter writer(/*alignment=*/64);
  writer.set_string("general.architecture", "llama");
  writer.set_uint16("u16", 65535);
  writer.set_uint32("u32", 7);
  writer.set_int32("i32", -7);
  writer.set_uint64("u64", std::numeric_limits<uint64_t>::max());
  writer.set_float32("f32", 0.1f);
  writer.set_boolean("flag", true);
  writer.set_string_array("strings", std::vector<std::string>{"a", "", "ü"});
  writer.set_float_array("floats", std::vector<float>{1, 2.5f});
  writer.set_int_array("integers", std::vector<int32_t>{-1, 1});
  const auto first = filled(18 * 3, 1);
  writer.add_tensor("first", DType::q4_0, Shape{3, 32}, first);
  writer.add_tensor("second", DType::f32, Shape{1, 2, 3, 4}, [] { return filled(96, 2); });

  const std::vector<std::byte> bytes = writer.to_bytes();
  const GgufFile file = GgufFile::parse(bytes);
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.architecture(), "llama");
  const GgufMetadata& metadata = file.metadata();
  EXPECT_EQ(metadata.uint32("general.alignment"), 64u);
  EXPECT_EQ(metadata.uint32("u16"), 65535u);
  EXPECT_EQ(metadata.uint32("u32"), 7u);
  EXPECT_EQ(metadata.int64("i32"), -7);
  EXPECT_EQ(metadata.uint64("u64"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(metadata.float32("f32"), 0.1f);
  EXPECT_TRUE(metadata.boolean("flag"));
  EXPECT_THAT(metadata.string_array("strings"), ElementsAre("a", "", "ü"));
  EXPECT_THAT(metadata.float_array("floats"), ElementsAre(1, 2.5f));
  EXPECT_THAT(metadata.int_array("integers"), ElementsAre(-1, 1));

  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "first");
  EXPECT_EQ(file.tensors()[0].view.shape, (Shape{3, 32}));
  EXPECT_EQ(file.tensors()[1].view.shape, (Shape{1, 2, 3, 4}));
  EXPECT_EQ((file.tensors()[1].view.bytes.data() - bytes.data()) % 64, 0);
  for (std::byte byte : file.tensors()[0].view.bytes) EXPECT_EQ(byte, std::byte{1});
  for (std::byte byte : file.tensors()[1].view.bytes) EXPECT_EQ(byte, std::byte{2});
}

TEST(GgufWriter, CopiesValuesOfEveryType) {
  GgufWriter writer;
  writer.set_string_array("strings", std::vector<std::string>{"a", "b"});
  writer.set_float32("f32", 1.5f);
  writer.set_string("text", "words");
  const std::vector<std::byte> bytes = writer.to_bytes();
  const GgufFile file = GgufFile::parse(bytes);
  GgufWriter copy;
  for (const GgufEntry& entry : file.metadata().entries()) copy.set_value(entry.key, entry.value);
  EXPECT_EQ(copy.to_bytes(), bytes);
}

TEST(GgufWriter, TakesATensorInPieces) {
  const auto build = [](GgufWriter& writer, auto add) {
    writer.set_string("general.architecture", "llama");
    add();
    const auto last = filled(7 * 4, 3);
    writer.add_tensor("last", DType::f32, Shape{7}, last);
    const std::vector<std::byte> bytes = writer.to_bytes();
    EXPECT_EQ(bytes.size(), writer.file_bytes());
    return bytes;
  };
  GgufWriter whole;
  const auto expected = build(whole, [&] {
    whole.add_tensor("t", DType::f32, Shape{3, 3}, [] { return filled(36, 9); });
  });
  GgufWriter pieces;
  const auto got = build(pieces, [&] {
    pieces.add_streamed_tensor("t", DType::f32, Shape{3, 3}, [](const GgufWriter::Sink& sink) {
      for (size_t size : {1, 0, 30, 5}) sink(filled(size, 9));
    });
  });
  EXPECT_EQ(got, expected);
  for (size_t size : {35, 37}) {
    GgufWriter wrong;
    wrong.add_streamed_tensor("t", DType::f32, Shape{3, 3},
                              [size](const GgufWriter::Sink& sink) { sink(filled(size, 9)); });
    EXPECT_EQ(code_of([&] { wrong.to_bytes(); }), ErrorCode::invalid_argument) << size;
  }
}

TEST(GgufWriter, RefusesWhatCannotBeWritten) {
  GgufWriter writer;
  writer.set_uint32("key", 1);
  EXPECT_EQ(code_of([&] { writer.set_string("key", "x"); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { writer.add_tensor("t", DType::q4_0, Shape{33}, filled(18, 0)); }),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { GgufWriter(48); }), ErrorCode::invalid_argument);
  const auto data = filled(12, 0);
  writer.add_tensor("t", DType::f32, Shape{4}, data);
  EXPECT_EQ(code_of([&] { writer.add_tensor("t", DType::f32, Shape{3}, data); }),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { writer.to_bytes(); }), ErrorCode::invalid_argument)
      << "12 bytes are not four floats";
}

TEST(GgufWriter, LeavesNoFileWhereWritingFails) {
  const TemporaryFolder folder;
  GgufWriter writer;
  writer.add_tensor("t", DType::f32, Shape{4},
                    []() -> std::vector<std::byte> { throw Error(ErrorCode::io, "gone"); });
  EXPECT_EQ(code_of([&] { writer.write(folder / "model.gguf"); }), ErrorCode::io);
  EXPECT_TRUE(std::filesystem::is_empty(folder / ""));
  EXPECT_EQ(code_of([&] { writer.write(folder / "absent/model.gguf"); }), ErrorCode::io);
}

TEST(GgufWriter, SaysWhenTheDiskIsFull) {
  std::ofstream full("/dev/full", std::ios::binary);
  if (!full) GTEST_SKIP() << "there is no /dev/full here";
  GgufWriter writer;
  writer.add_tensor("t", DType::f32, Shape{1 << 16}, [] { return filled(4 << 16, 0); });
  EXPECT_EQ(code_of([&] { writer.write(full); }), ErrorCode::io);
}

}  // namespace ridge::format::gguf_writer_test
