// Files that break the format in one way each: all must end in an Error that says what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/gguf.h"
#include "format/gguf_bytes.h"
#include "format/gguf_parser.h"
#include "fuzz/gguf_exercise.h"

namespace ridge::format::gguf_hostile_test {

namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t u64_max = std::numeric_limits<uint64_t>::max();

// Parses and expects an Error with this code and all these parts in its message.
template <typename... Parts>
void expect_error(std::span<const std::byte> bytes, ErrorCode code, Parts... parts) {
  try {
    GgufFile::parse(bytes, "hostile.gguf");
    ADD_FAILURE() << "the file was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(std::string(error.what()), AllOf(HasSubstr("hostile.gguf"), HasSubstr(parts)...));
  }
}

template <typename... Parts>
void expect_refused(const GgufBytes& file, Parts... parts) {
  expect_error(file.bytes(), ErrorCode::invalid_file, parts...);
}

std::vector<std::byte> raw(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// A small file with something of everything.
GgufBytes whole_file() {
  GgufBytes file(2, 5);
  file.string("general.architecture").type(GgufType::string).string("llama");
  file.key_u32("general.alignment", 64);
  file.string("words").type(GgufType::array).type(GgufType::string).u64(2).string("a").string("b");
  file.string("levels").type(GgufType::array).type(GgufType::int32).u64(2).u32(1).u32(2);
  file.string("nested").type(GgufType::array).type(GgufType::array).u64(1);
  file.type(GgufType::uint8).u64(3).raw("xyz");
  file.tensor("weight", {32, 2}, q4_0_number, 0).tensor("bias", {16}, f32_number, 64);
  return file.data(64 + 64, 64);
}

}  // namespace

TEST(GgufFile, RefusesAnEmptyFile) {
  expect_error({}, ErrorCode::invalid_file, "the file ends inside its first four bytes");
}

// CVE-2024-39720: a file that holds nothing but the magic.
TEST(GgufFile, RefusesAFileOfFourBytes) {
  expect_error(raw("GGUF"), ErrorCode::invalid_file, "the file ends inside the version");
}

TEST(GgufFile, RefusesOtherFormats) {
  expect_error(raw("PK\x03\x04 and more bytes"), ErrorCode::invalid_file, "not a GGUF file");
  expect_error(raw("ggjt and more bytes"), ErrorCode::invalid_file, "not a GGUF file");
}

TEST(GgufFile, NamesBigEndianFiles) {
  expect_error(raw(std::string_view("GGUF\0\0\0\3\0\0\0\0\0\0\0\0", 16)), ErrorCode::unsupported,
               "big-endian");
}

TEST(GgufFile, RefusesOtherVersions) {
  for (uint32_t version : {0u, 1u, 4u, 0xffffffffu}) {
    expect_error(GgufBytes(0, 0, version).bytes(), ErrorCode::unsupported, std::to_string(version),
                 "2 and 3");
  }
}

TEST(GgufFile, RefusesAbsurdCounts) {
  for (uint64_t count : {u64_max, uint64_t{1} << 63, uint64_t{1} << 32}) {
    expect_refused(GgufBytes(count, 0), "the tensor count", std::to_string(count));
    expect_refused(GgufBytes(0, count), "the metadata key count", std::to_string(count));
  }
}

TEST(GgufFile, RefusesCountsThatTheFileDoesNotHold) {
  expect_refused(GgufBytes(1000, 0), "the file ends inside a tensor name");
  expect_refused(GgufBytes(0, 1000), "the file ends inside a metadata key");
}

// 43 bytes that claim 2^63 elements.
TEST(GgufFile, RefusesASmallFileThatClaimsHugeArrays) {
  for (GgufType type : {GgufType::uint8, GgufType::float64, GgufType::string, GgufType::array}) {
    for (uint64_t count : {u64_max, uint64_t{1} << 63, uint64_t{1} << 61, uint64_t{1000}}) {
      GgufBytes file(0, 1);
      file.string("key").type(GgufType::array).type(type).u64(count);
      EXPECT_LT(file.bytes().size(), 64u);
      expect_refused(file, "\"key\"", std::to_string(count));
    }
  }
}

TEST(GgufFile, RefusesStringsPastTheEnd) {
  for (uint64_t size : {u64_max, uint64_t{1} << 63, uint64_t{5}}) {
    expect_refused(GgufBytes(0, 1).u64(size).raw("four"), "inside a metadata key");
    expect_refused(GgufBytes(0, 1).string("key").type(GgufType::string).u64(size).raw("four"),
                   "inside a metadata string");
    expect_refused(GgufBytes(1, 0).u64(size).raw("four"), "inside a tensor name");
  }
}

TEST(GgufFile, RefusesStringPastTheEndWithinAnArray) {
  GgufBytes file(0, 1);
  file.string("key").type(GgufType::array).type(GgufType::string).u64(2).string("a").u64(u64_max);
  expect_refused(file, "inside a string of a metadata array");
}

TEST(GgufFile, RefusesUnknownValueTypes) {
  expect_refused(GgufBytes(0, 1).string("key").u32(13).u64(0), "\"key\"", "type 13");
  expect_refused(GgufBytes(0, 1).string("key").type(GgufType::array).u32(99).u64(0), "type 99");
}

TEST(GgufFile, RefusesDeepNesting) {
  GgufBytes file(0, 1);
  file.string("key").type(GgufType::array);
  for (int depth = 0; depth < 10'000; ++depth) file.type(GgufType::array).u64(1);
  expect_refused(file, "\"key\"", "nested more than 4 deep");
}

TEST(GgufFile, AcceptsModestNesting) {
  GgufBytes file(0, 1);
  file.string("key").type(GgufType::array);
  for (int depth = 1; depth < array_depth_max; ++depth) file.type(GgufType::array).u64(1);
  file.type(GgufType::uint8).u64(1).u8(7);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  const GgufValue* value = parsed.metadata().find("key");
  for (int depth = 1; depth < array_depth_max; ++depth) value = &value->nested.at(0);
  EXPECT_EQ(value->integer(), 7);
}

TEST(GgufFile, RefusesTooManyNestedArrays) {
  GgufBytes file(0, 1);
  file.string("key").type(GgufType::array).type(GgufType::array).u64(nested_arrays_max + 1);
  for (uint64_t i = 0; i <= nested_arrays_max; ++i) file.type(GgufType::uint8).u64(0);
  expect_refused(file, "more than 65536 nested arrays");
}

TEST(GgufFile, RefusesEmptyAndEndlessNames) {
  expect_refused(GgufBytes(0, 1).key_u32("", 1), "a metadata key has 0 bytes");
  expect_refused(GgufBytes(0, 1).key_u32(std::string(key_bytes_max + 1, 'k'), 1), "1025 bytes");
  expect_refused(GgufBytes(1, 0).tensor("", {1}, f32_number, 0).data(32),
                 "a tensor name has 0 bytes");
  const std::string long_name(tensor_name_bytes_max + 1, 't');
  expect_refused(GgufBytes(1, 0).tensor(long_name, {1}, f32_number, 0).data(32), "257 bytes");
}

TEST(GgufFile, RefusesDuplicateKeys) {
  expect_refused(GgufBytes(0, 3).key_u32("twin", 1).key_u32("other", 1).key_u32("twin", 2),
                 "\"twin\" appears twice");
}

TEST(GgufFile, RefusesDuplicateTensors) {
  GgufBytes file(2, 0);
  file.tensor("twin", {8}, f32_number, 0).tensor("twin", {8}, f32_number, 32).data(64);
  expect_refused(file, "\"twin\"", "two tensors have this name");
}

TEST(GgufFile, RefusesDuplicateTensorsOfWhichOneCannotBeRead) {
  GgufBytes file(2, 0);
  file.tensor("twin", {8}, f32_number, 0).tensor("twin", {8}, 999, 0).data(64);
  expect_refused(file, "\"twin\"", "two tensors have this name");
}

// CVE-2025-0317 and its kin: sizes and alignments that something divides by.
TEST(GgufFile, RefusesBadAlignments) {
  for (uint32_t alignment : {0u, 1u, 4u, 3u, 48u, 1u << 21, 0x80000000u, 0xffffffffu}) {
    expect_refused(GgufBytes(0, 1).key_u32("general.alignment", alignment), "general.alignment",
                   std::to_string(alignment), "power of two");
  }
  expect_refused(GgufBytes(0, 1).string("general.alignment").type(GgufType::string).string("32"),
                 "general.alignment", "must be uint32, but is string");
}

TEST(GgufFile, RefusesZeroAndTooManyExtents) {
  expect_refused(GgufBytes(1, 0).tensor("t", {}, f32_number, 0).data(64), "\"t\"", "0 extents");
  expect_refused(GgufBytes(1, 0).tensor("t", {1, 1, 1, 1, 1}, f32_number, 0).data(64), "\"t\"",
                 "5 extents");
  GgufBytes file(1, 0);
  file.string("t").u32(0xffffffff);
  expect_refused(file, "\"t\"", "4294967295 extents");
}

TEST(GgufFile, RefusesExtentsOfZero) {
  expect_refused(GgufBytes(1, 0).tensor("t", {8, 0}, f32_number, 0).data(64), "\"t\"",
                 "extent 1 is zero");
}

TEST(GgufFile, RefusesElementCountsThatOverflow) {
  expect_refused(GgufBytes(1, 0).tensor("t", {u64_max}, f32_number, 0).data(64), "above 2^63 - 1");
  const uint64_t half = uint64_t{1} << 32;
  expect_refused(GgufBytes(1, 0).tensor("t", {half, half}, f32_number, 0).data(64),
                 "more than 2^63 - 1 elements");
  // The product would be zero in 64 bits.
  expect_refused(GgufBytes(1, 0).tensor("t", {half, half, half, half}, f32_number, 0).data(64),
                 "more than 2^63 - 1 elements");
}

TEST(GgufFile, RefusesByteCountsThatOverflow) {
  // 2^62 elements are few enough, but four bytes for each wrap to zero.
  expect_refused(GgufBytes(1, 0).tensor("t", {uint64_t{1} << 62}, f32_number, 0).data(64), "\"t\"",
                 "does not fit 64 bits");
}

TEST(GgufFile, RefusesATotalThatOverflows) {
  GgufBytes file(3, 0);
  const uint64_t large = (uint64_t{1} << 63) - 1;
  for (const char* name : {"a", "b", "c"}) file.tensor(name, {large}, /*type_number=*/999, 0);
  expect_refused(file.data(64), "total element count");
}

TEST(GgufFile, RefusesRowsOfBrokenBlocks) {
  expect_refused(GgufBytes(1, 0).tensor("t", {33}, q4_0_number, 0).data(64), "\"t\"", "33 elements",
                 "Q4_0");
  // 64 elements in all, but no row is a whole block.
  expect_refused(GgufBytes(1, 0).tensor("t", {16, 4}, q4_0_number, 0).data(64), "16 elements");
}

// CVE-2026-7482: a tensor that would be read from beyond the mapping.
TEST(GgufFile, RefusesTensorExtentPastTheEnd) {
  expect_refused(GgufBytes(1, 0).tensor("t", {17}, f32_number, 0).data(64), "\"t\"",
                 "68 bytes at offset 0 reach past the end of the 64 bytes");
  expect_refused(GgufBytes(1, 0).tensor("t", {16}, f32_number, 32).data(64), "\"t\"", "past");
  expect_refused(GgufBytes(1, 0).tensor("t", {1}, f32_number, 64).data(64), "\"t\"", "past");
  expect_refused(GgufBytes(1, 0).tensor("t", {1}, f32_number, 0), "\"t\"", "the 0 bytes");
}

TEST(GgufFile, RefusesExtentPastTheEndOfATypeItCannotRead) {
  expect_refused(GgufBytes(1, 0).tensor("t", {256}, iq2_xxs_number, 0).data(65), "\"t\"",
                 "66 bytes");
}

TEST(GgufFile, RefusesOffsetsThatWrap) {
  expect_refused(GgufBytes(1, 0).tensor("t", {16}, f32_number, u64_max - 31).data(64), "\"t\"",
                 "past the end");
}

TEST(GgufFile, RefusesOffsetsOffTheAlignment) {
  expect_refused(GgufBytes(1, 0).tensor("t", {1}, f32_number, 4).data(64), "\"t\"", "offset 4");
}

// Each copy would fill memory once more: a small file must not become a large model.
TEST(GgufFile, RefusesOverlappingTensors) {
  GgufBytes file(2, 0);
  file.tensor("a", {16}, f32_number, 0).tensor("b", {8}, f32_number, 32).data(64);
  expect_refused(file, "\"b\"", "overlap those of tensor \"a\"");
}

TEST(GgufFile, RefusesTheFileCutAtEveryByte) {
  const std::vector<std::byte> whole = whole_file().bytes();
  EXPECT_EQ(GgufFile::parse(whole).tensors().size(), 2u);
  for (size_t size = 0; size < whole.size(); ++size) {
    expect_error(std::span(whole).first(size), ErrorCode::invalid_file);
  }
}

TEST(GgufFile, LivesThroughEveryChangeOfOneByte) {
  std::vector<std::byte> bytes = whole_file().bytes();
  int accepted = 0;
  int refused = 0;
  for (std::byte& changed : bytes) {
    const std::byte original = changed;
    for (int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      changed = static_cast<std::byte>(value);
      (exercise_gguf(bytes) ? accepted : refused) += 1;
    }
    changed = original;
  }
  EXPECT_GT(accepted, 100);  // letters of names, tensor data
  EXPECT_GT(refused, 100);
}

TEST(GgufFile, EscapesNamesInMessages) {
  expect_refused(GgufBytes(0, 2).key_u32("\x1b[2Jred\n", 1).key_u32("\x1b[2Jred\n", 1),
                 "\\x1b[2Jred\\n");
}

// Where reading a string took time for those before it, this would not end before CTest's timeout.
TEST(GgufFile, ReadsFourMillionStrings) {
  GgufBytes file(0, 1);
  file.string("key").type(GgufType::array).type(GgufType::string).u64(strings_max);
  file.data(strings_max * sizeof(uint64_t), /*alignment=*/1);
  EXPECT_EQ(GgufFile::parse(file.bytes()).metadata().string_array("key").size(), strings_max);
}

TEST(GgufFile, RefusesMoreStringsThanAnyVocabulary) {
  GgufBytes file(0, 1);
  file.string("key").type(GgufType::array).type(GgufType::string).u64(strings_max + 1);
  file.data((strings_max + 1) * sizeof(uint64_t), /*alignment=*/1);
  expect_refused(file, "\"key\"", "more than 4194304 strings");
}

}  // namespace ridge::format::gguf_hostile_test
