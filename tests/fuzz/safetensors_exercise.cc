#include "fuzz/safetensors_exercise.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "format/safetensors.h"
#include "tensor/dequantize.h"

namespace ridge::format {

namespace {

// A row is read only up to here: one claim of a large row is not worth the fuzzer's time.
constexpr int64_t longest_safetensors_row = 1 << 16;

void touch(const SafetensorsFile& file, std::span<const std::byte> bytes) {
  uint64_t total = 0;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    const TensorView& view = tensor.view;
    RIDGE_ASSERT(file.find(tensor.name) == &tensor);
    RIDGE_ASSERT(view.bytes.data() >= bytes.data() &&
                 view.bytes.data() + view.bytes.size() <= bytes.data() + bytes.size());
    RIDGE_ASSERT(view.bytes.size() ==
                 static_cast<size_t>(view.shape.elements()) * row_bytes(view.dtype, 1));
    total += view.bytes.size();
    if (view.shape.elements() == 0 || view.shape.columns() > longest_safetensors_row) continue;
    std::vector<float> row(static_cast<size_t>(view.shape.columns()));
    dequantize_row(view.dtype, view.row(0), row);
  }
  for (const SafetensorsUnsupportedTensor& tensor : file.unsupported_tensors()) {
    RIDGE_ASSERT(file.find(tensor.name) == nullptr && !tensor.type.empty());
    total += tensor.bytes;
  }
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  RIDGE_ASSERT(sizeof(header_bytes) + header_bytes + total == bytes.size());
  RIDGE_ASSERT(file.file_bytes() == bytes.size());
}

}  // namespace

bool exercise_safetensors(std::span<const std::byte> bytes) {
  try {
    touch(SafetensorsFile::parse(bytes), bytes);
    return true;
  } catch (const Error& error) {
    RIDGE_ASSERT(error.code() == ErrorCode::invalid_file);
    RIDGE_ASSERT(!error.message().empty());
    return false;
  }
}

}  // namespace ridge::format
