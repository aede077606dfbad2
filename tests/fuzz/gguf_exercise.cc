#include "fuzz/gguf_exercise.h"

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "tensor/dequantize.h"

namespace ridge::format {

namespace {

// A row is read only up to here: one claim of a large row is not worth the fuzzer's time.
constexpr int64_t longest_gguf_row = 1 << 16;

// Keeps the compiler from dropping reads whose result nobody wants.
volatile uint64_t sink = 0;

template <typename Lookup>
void try_lookup(Lookup lookup) {
  try {
    lookup();
  } catch (const Error& error) {
    RIDGE_ASSERT(error.code() == ErrorCode::invalid_file);
  }
}

void touch(const GgufValue& value) {
  for (std::byte byte : value.bytes) sink = sink + static_cast<uint64_t>(byte);
  for (std::string_view text : value.strings) {
    for (char letter : text) sink = sink + static_cast<uint64_t>(letter);
  }
  for (const GgufValue& inner : value.nested) touch(inner);
}

void touch(const GgufMetadata& metadata) {
  for (const GgufEntry& entry : metadata.entries()) {
    const std::string_view key = entry.key;
    RIDGE_ASSERT(metadata.find(key) == &entry.value);
    RIDGE_ASSERT(!type_name(entry.value).empty());
    touch(entry.value);
    try_lookup([&] { metadata.uint32(key); });
    try_lookup([&] { metadata.uint64(key); });
    try_lookup([&] { metadata.int64(key); });
    try_lookup([&] { metadata.float32(key); });
    try_lookup([&] { metadata.boolean(key); });
    try_lookup([&] { metadata.string(key); });
    try_lookup([&] { metadata.string_array(key); });
    try_lookup([&] { metadata.float_array(key); });
    try_lookup([&] { metadata.int_array(key); });
    try_lookup([&] { metadata.bool_array(key); });
  }
}

void touch(const GgufFile& file, std::span<const std::byte> bytes) {
  uint64_t total = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    const TensorView& view = tensor.view;
    RIDGE_ASSERT(&file.tensor(tensor.name) == &tensor);
    RIDGE_ASSERT(view.bytes.data() >= bytes.data() &&
                 view.bytes.data() + view.bytes.size() <= bytes.data() + bytes.size());
    RIDGE_ASSERT(view.bytes.size() == static_cast<size_t>(view.shape.rows()) *
                                          row_bytes(view.dtype, view.shape.columns()));
    total += view.bytes.size();
    sink = sink + static_cast<uint64_t>(view.bytes.back());
    if (view.shape.columns() > longest_gguf_row) continue;
    std::vector<float> row(static_cast<size_t>(view.shape.columns()));
    dequantize_row(view.dtype, view.row(0), row);
  }
  for (const GgufUnsupportedTensor& tensor : file.unsupported_tensors()) {
    total += tensor.bytes;
    try {
      file.find(tensor.name);
      RIDGE_ASSERT(!"an unsupported tensor was found");
    } catch (const Error& error) {
      RIDGE_ASSERT(error.code() == ErrorCode::unsupported);
    }
  }
  RIDGE_ASSERT(total == file.tensor_bytes() && total <= bytes.size());
  RIDGE_ASSERT(file.file_bytes() == bytes.size());
}

// What is read and written again must read the same.
void write_again(const GgufFile& file) {
  GgufWriter writer;
  for (const GgufEntry& entry : file.metadata().entries()) {
    if (entry.key != "general.alignment") writer.set_value(entry.key, entry.value);
  }
  for (const GgufTensor& tensor : file.tensors()) {
    writer.add_tensor(tensor.name, tensor.view.dtype, tensor.view.shape, tensor.view.bytes);
  }
  const std::vector<std::byte> bytes = writer.to_bytes();
  const GgufFile again = GgufFile::parse(bytes);
  RIDGE_ASSERT(again.tensors().size() == file.tensors().size());
  for (size_t i = 0; i < again.tensors().size(); ++i) {
    const TensorView& before = file.tensors()[i].view;
    const TensorView& after = again.tensors()[i].view;
    RIDGE_ASSERT(before.dtype == after.dtype && before.shape == after.shape);
    RIDGE_ASSERT(std::equal(before.bytes.begin(), before.bytes.end(), after.bytes.begin(),
                            after.bytes.end()));
  }
}

}  // namespace

bool exercise_gguf(std::span<const std::byte> bytes) {
  try {
    const GgufFile file = GgufFile::parse(bytes);
    touch(file.metadata());
    touch(file, bytes);
    write_again(file);
    return true;
  } catch (const Error& error) {
    RIDGE_ASSERT(error.code() == ErrorCode::invalid_file || error.code() == ErrorCode::unsupported);
    RIDGE_ASSERT(!error.message().empty());
    return false;
  }
}

}  // namespace ridge::format
