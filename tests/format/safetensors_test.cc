#include "format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temporary_folder.h"

namespace ridge::format::safetensors_test {

namespace {

using ::testing::HasSubstr;

std::string file_of(const std::string& header, const std::string& data = "") {
  const uint64_t size = header.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + header + data;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

TEST(Safetensors, GivesTensorsByName) {
  const TemporaryFolder folder;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::string data = std::string("\x00\x3c", 2) +  // 1 in half precision
                           std::string(reinterpret_cast<const char*>(values.data()), 24) + "\x7f";
  const auto path = folder.write("x.safetensors", file_of(R"({"__metadata__":{"format":"pt"},
                  "w":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},
                  "h":{"dtype":"F16","shape":[],"data_offsets":[0,2]},
                  "n":{"dtype":"I8","shape":[1],"data_offsets":[26,27]}})",
                                                          data));
  const SafetensorsFile file = SafetensorsFile::open(path);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "h");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.file_bytes(), std::filesystem::file_size(path));
  const TensorView& view = file.find("w")->view;
  EXPECT_EQ(view.dtype, DType::f32);
  EXPECT_EQ(view.shape, (Shape{2, 3}));
  EXPECT_EQ(std::memcmp(view.bytes.data(), values.data(), view.bytes.size()), 0);
  EXPECT_EQ(file.find("h")->view.shape.rank(), 0);
  EXPECT_EQ(file.find("n"), nullptr);
  ASSERT_EQ(file.unsupported_tensors().size(), 1u);
  EXPECT_EQ(file.unsupported_tensors()[0].type, "I8");
  file.advise(view, Access::done);
  EXPECT_EQ(std::memcmp(view.bytes.data(), values.data(), view.bytes.size()), 0);
}

TEST(Safetensors, AMissingFileIsNotFound) {
  try {
    SafetensorsFile::open("/nowhere/x.safetensors");
    ADD_FAILURE() << "the file was opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
  }
}

struct Fault {
  std::string header;
  const char* message;
};

TEST(Safetensors, SaysWhatIsWrongAndWhere) {
  const Fault faults[] = {
      {"[]", "does not begin with '{'"},
      {R"({"t":)", "it is no JSON from its byte 6 on"},
      {R"({"t":null})", "\"t\" is null; an object is expected"},
      {R"({"t":{"dtype":"F32","shape":[2]}})", "tensor \"t\": 'data_offsets' is missing"},
      {R"({"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
       "tensor \"t\": 'shape' has a negative number; whole numbers are expected"},
      {R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
       "tensor \"t\": 'data_offsets' has 1 numbers; two are expected"},
      {R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})",
       "tensor \"t\": \"x\" is none of dtype, shape and data_offsets"},
      {R"({"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
       "tensor \"t\": its data_offsets hold 8 bytes, but its shape [3] of F32 takes 12"},
      {R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
       "tensor \"t\": its data_offsets end at 16, past the end of the 8 bytes of data"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       "the tensors end at 4, but there are 8 bytes of data"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
           "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "tensor \"b\": its bytes overlap those of tensor \"a\""},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
           "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "tensor \"b\": it begins at 4, but the tensors before it end at 1"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
           "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "two tensors have the name \"a\""},
  };
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.header);
    const std::string file = file_of(fault.header, std::string(8, '\0'));
    try {
      SafetensorsFile::parse(bytes_of(file), "hostile.safetensors");
      ADD_FAILURE() << "the file was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_file);
      EXPECT_THAT(error.message(), HasSubstr("hostile.safetensors: "));
      EXPECT_THAT(error.message(), HasSubstr(fault.message));
    }
  }
}

TEST(Safetensors, EndsInAnErrorWhereverItIsCutShort) {
  const std::string file =
      file_of(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\0'));
  SafetensorsFile::parse(bytes_of(file));
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_THROW(SafetensorsFile::parse(bytes_of(file).first(size)), Error) << size;
  }
}

}  // namespace

}  // namespace ridge::format::safetensors_test
