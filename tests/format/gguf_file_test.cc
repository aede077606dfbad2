#include "format/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/gguf_bytes.h"

namespace ridge::format::gguf_file_test {

namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string message_of(const auto& action, ErrorCode code = ErrorCode::invalid_file) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

}  // namespace

TEST(GgufFile, ReadsVersionsTwoAndThree) {
  for (uint32_t version : {2u, 3u}) {
    GgufBytes file(1, 1, version);
    file.string("general.architecture").type(GgufType::string).string("llama");
    file.tensor("t", {4}, f32_number, 0).data(16);
    const GgufFile parsed = GgufFile::parse(file.bytes());
    EXPECT_EQ(parsed.version(), version);
    EXPECT_EQ(parsed.architecture(), "llama");
    EXPECT_EQ(parsed.tensors().size(), 1u);
  }
}

TEST(GgufFile, GivesShapesOutermostFirst) {
  GgufBytes file(1, 0);
  file.tensor("t", {32, 3, 2}, q4_0_number, 0).data(18 * 6);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  const TensorView& view = parsed.tensor("t").view;
  EXPECT_EQ(view.shape, (Shape{2, 3, 32}));
  EXPECT_EQ(view.dtype, DType::q4_0);
  EXPECT_EQ(view.bytes.size(), 18u * 6);
  EXPECT_EQ(view.row(5).data(), view.bytes.data() + 18 * 5);
}

TEST(GgufFile, PlacesTensorsByTheFilesOwnAlignment) {
  GgufBytes file(2, 1);
  file.key_u32("general.alignment", 256);
  file.tensor("a", {1}, f32_number, 256).tensor("b", {1}, f32_number, 0).data(260, 256);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  const std::byte* data = file.bytes().data();
  EXPECT_EQ((parsed.tensor("b").view.bytes.data() - data) % 256, 0);
  EXPECT_EQ(parsed.tensor("a").view.bytes.data(), parsed.tensor("b").view.bytes.data() + 256);
  EXPECT_EQ(parsed.tensors()[0].name, "a") << "file order is kept";
}

TEST(GgufFile, CountsParametersAndBytes) {
  GgufBytes file(2, 0);
  file.tensor("a", {32, 2}, q4_0_number, 0).tensor("b", {256}, iq2_xxs_number, 64).data(64 + 66);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  EXPECT_EQ(parsed.parameters(), 64u + 256);
  EXPECT_EQ(parsed.tensor_bytes(), 36u + 66);
  EXPECT_EQ(parsed.file_bytes(), file.bytes().size());
}

TEST(GgufFile, ReadsMetadataWithoutTensorsAndPadding) {
  GgufBytes file(0, 1);
  file.key_u32("key", 5);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  EXPECT_EQ(parsed.metadata().uint32("key"), 5u);
  EXPECT_THAT(parsed.tensors(), IsEmpty());
}

TEST(GgufFile, NamesAMissingTensor) {
  const GgufFile parsed = GgufFile::parse(GgufBytes(0, 0).bytes(), "small.gguf");
  EXPECT_EQ(parsed.find("output.weight"), nullptr);
  EXPECT_THAT(message_of([&] { parsed.tensor("output.weight"); }),
              AllOf(HasSubstr("small.gguf"), HasSubstr("\"output.weight\" is missing")));
}

TEST(GgufFile, ShowsUnsupportedTypesAndRefusesThemByName) {
  GgufBytes file(3, 1);
  file.key_u32("key", 5);
  file.tensor("two", {256, 2}, iq2_xxs_number, 0).tensor("odd", {7, 3}, 999, 0);
  file.tensor("plain", {4}, f32_number, 160).data(176);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  EXPECT_EQ(parsed.metadata().uint32("key"), 5u);
  EXPECT_EQ(parsed.tensor("plain").view.shape, Shape{4});
  ASSERT_EQ(parsed.unsupported_tensors().size(), 2u);
  EXPECT_EQ(parsed.unsupported_tensors()[0].type, "IQ2_XXS");
  EXPECT_EQ(parsed.unsupported_tensors()[0].shape, (Shape{2, 256}));
  EXPECT_EQ(parsed.unsupported_tensors()[0].bytes, 132u);
  EXPECT_EQ(parsed.unsupported_tensors()[1].type, "type 999");
  EXPECT_EQ(parsed.unsupported_tensors()[1].bytes, 0u);
  EXPECT_THAT(message_of([&] { parsed.tensor("two"); }, ErrorCode::unsupported),
              AllOf(HasSubstr("\"two\""), HasSubstr("IQ2_XXS")));
  EXPECT_THAT(message_of([&] { parsed.find("odd"); }, ErrorCode::unsupported),
              HasSubstr("type 999"));
}

TEST(GgufMetadata, TakesIntegersOfAnyWidthThatFit) {
  GgufBytes file(0, 8);
  file.string("u8").type(GgufType::uint8).u8(200);
  file.string("i8").type(GgufType::int8).u8(0xff);
  file.string("u16").type(GgufType::uint16).u8(1).u8(2);
  file.string("i32").type(GgufType::int32).u32(7);
  file.string("negative").type(GgufType::int32).u32(0xfffffffe);
  file.string("u64").type(GgufType::uint64).u64(9);
  file.string("large").type(GgufType::uint64).u64(uint64_t{1} << 32);
  file.string("huge").type(GgufType::uint64).u64(std::numeric_limits<uint64_t>::max());
  const GgufFile parsed = GgufFile::parse(file.bytes());
  const GgufMetadata& metadata = parsed.metadata();
  EXPECT_EQ(metadata.uint32("u8"), 200u);
  EXPECT_EQ(metadata.int64("i8"), -1);
  EXPECT_EQ(metadata.uint32("u16"), 513u);
  EXPECT_EQ(metadata.uint32("i32"), 7u);
  EXPECT_EQ(metadata.uint32("u64"), 9u);
  EXPECT_EQ(metadata.uint64("large"), uint64_t{1} << 32);
  EXPECT_EQ(metadata.uint64("huge"), std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(message_of([&] { metadata.uint32("negative"); }), HasSubstr("of value -2"));
  EXPECT_THAT(message_of([&] { metadata.uint32("large"); }),
              AllOf(HasSubstr("\"large\""), HasSubstr("uint32"), HasSubstr("4294967296")));
  EXPECT_THAT(message_of([&] { metadata.int64("huge"); }), HasSubstr("\"huge\""));
}

TEST(GgufMetadata, ReadsFloatsOfBothWidths) {
  GgufBytes file(0, 4);
  file.string("f32").type(GgufType::float32).u32(std::bit_cast<uint32_t>(1.5f));
  file.string("f64").type(GgufType::float64).u64(std::bit_cast<uint64_t>(2.5));
  file.string("wide").type(GgufType::float64).u64(std::bit_cast<uint64_t>(1e300));
  file.key_u32("integer", 10000);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  EXPECT_EQ(parsed.metadata().float32("f32"), 1.5f);
  EXPECT_EQ(parsed.metadata().float32("f64"), 2.5f);
  EXPECT_THAT(message_of([&] { parsed.metadata().float32("wide"); }), HasSubstr("\"wide\""));
  EXPECT_THAT(message_of([&] { parsed.metadata().float32("integer"); }),
              HasSubstr("must be float32, but is uint32 of value 10000"));
}

TEST(GgufMetadata, ReadsArraysOfEachKind) {
  GgufBytes file(0, 5);
  file.string("strings").type(GgufType::array).type(GgufType::string).u64(3);
  file.string("a").string("").string(std::string_view("\0\xff", 2));
  file.string("floats").type(GgufType::array).type(GgufType::float32).u64(2);
  file.u32(std::bit_cast<uint32_t>(0.5f)).u32(std::bit_cast<uint32_t>(-1.0f));
  file.string("integers").type(GgufType::array).type(GgufType::int8).u64(2).u8(5).u8(0xfb);
  file.string("flags").type(GgufType::array).type(GgufType::boolean).u64(2).u8(1).u8(0);
  file.string("none").type(GgufType::array).type(GgufType::int32).u64(0);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  const GgufMetadata& metadata = parsed.metadata();
  EXPECT_THAT(metadata.string_array("strings"),
              ElementsAre("a", "", std::string_view("\0\xff", 2)));
  EXPECT_THAT(metadata.float_array("floats"), ElementsAre(0.5f, -1.0f));
  EXPECT_THAT(metadata.int_array("integers"), ElementsAre(5, -5));
  EXPECT_THAT(metadata.bool_array("flags"), ElementsAre(true, false));
  EXPECT_THAT(metadata.int_array("none"), IsEmpty());
  EXPECT_THAT(message_of([&] { metadata.string_array("floats"); }),
              HasSubstr("must be array of string, but is array of float32"));
  EXPECT_THAT(message_of([&] { metadata.uint32("integers"); }), HasSubstr("array of int8"));
  EXPECT_THAT(message_of([&] { metadata.uint32("none"); }), HasSubstr("array of int32"));
  // Views into the file, not copies.
  const auto* begin = reinterpret_cast<const char*>(file.bytes().data());
  EXPECT_GE(metadata.string_array("strings")[0].data(), begin);
  EXPECT_LT(metadata.string_array("strings")[0].data(), begin + file.bytes().size());
}

TEST(GgufMetadata, RefusesBooleansOtherThanZeroAndOne) {
  GgufBytes file(0, 3);
  file.string("yes").type(GgufType::boolean).u8(1);
  file.string("odd").type(GgufType::boolean).u8(2);
  file.string("odds").type(GgufType::array).type(GgufType::boolean).u64(1).u8(2);
  const GgufFile parsed = GgufFile::parse(file.bytes());
  EXPECT_TRUE(parsed.metadata().boolean("yes"));
  EXPECT_THAT(message_of([&] { parsed.metadata().boolean("odd"); }), HasSubstr("\"odd\""));
  EXPECT_THAT(message_of([&] { parsed.metadata().bool_array("odds"); }), HasSubstr("\"odds\""));
}

TEST(GgufMetadata, TellsMissingKeysFromKeysOfAnotherType) {
  GgufBytes file(0, 1);
  file.key_u32("number", 1);
  const GgufFile parsed = GgufFile::parse(file.bytes(), "small.gguf");
  const GgufMetadata& metadata = parsed.metadata();
  EXPECT_EQ(metadata.optional_string("absent"), std::nullopt);
  EXPECT_EQ(metadata.optional_uint32("number"), 1u);
  EXPECT_THAT(message_of([&] { metadata.optional_string("number"); }),
              AllOf(HasSubstr("small.gguf"), HasSubstr("\"number\""), HasSubstr("string"),
                    HasSubstr("uint32")));
  EXPECT_THAT(message_of([&] { metadata.string("absent"); }),
              AllOf(HasSubstr("\"absent\""), HasSubstr("string"), HasSubstr("missing")));
}

}  // namespace ridge::format::gguf_file_test
