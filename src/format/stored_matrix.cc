#include "format/stored_matrix.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "format/gguf_types.h"
#include "tensor/dequantize.h"
#include "tensor/float_formats.h"
#include "tensor/quantize.h"

namespace ridge::format {

namespace {

// [rows] and [rows, 1] are alike.
bool has_shape(const FolderTensor& tensor, const Shape& shape) {
  const auto trimmed = [](const Shape& from) {
    std::vector<int64_t> extents;
    for (int axis = 0; axis < from.rank(); ++axis) {
      if (from[axis] != 1) extents.push_back(from[axis]);
    }
    return extents;
  };
  return tensor.shape.elements() == shape.elements() && trimmed(tensor.shape) == trimmed(shape);
}

class PlainMatrix final : public StoredMatrix {
 public:
  PlainMatrix(const FolderTensor& weight, DType dtype, int64_t rows, int64_t columns)
      : StoredMatrix(rows, columns, dtype) {
    parts_ = {&weight};
  }

  void write(std::span<const int64_t> rows, std::byte* out) const override {
    const size_t size = row_bytes(dtype_, columns_);
    const std::byte* const from = parts_.front()->bytes.data();
    for (const int64_t row : rows) {
      std::memcpy(out, from + static_cast<size_t>(row) * size, size);
      out += size;
    }
  }
};

}  // namespace

void StoredMatrix::write_as(DType dtype, std::span<const int64_t> rows, std::byte* out) const {
  if (dtype == dtype_) return write(rows, out);
  // All at once: some schemes read all of a cache line of rows.
  const size_t own_size = row_bytes(dtype_, columns_);
  std::vector<std::byte> own(rows.size() * own_size);
  write(rows, own.data());
  std::vector<float> values(static_cast<size_t>(columns_));
  const size_t size = row_bytes(dtype, columns_);
  for (size_t i = 0; i < rows.size(); ++i) {
    dequantize_row(dtype_, std::span(own).subspan(i * own_size, own_size), values);
    quantize_row(dtype, values, {out, size});
    out += size;
  }
}

const FolderTensor* FolderTensors::find(const std::string& name) {
  const FolderTensor* tensor = shards_.find(name);
  if (tensor != nullptr) used_.insert(name);
  return tensor;
}

const FolderTensor& FolderTensors::take(const std::string& name,
                                        std::initializer_list<std::string_view> types,
                                        const Shape& shape) {
  const FolderTensor* tensor = find(name);
  const std::string expected =
      fmt::format("{} of shape {}", fmt::join(types, " or "), to_string(shape));
  if (tensor == nullptr) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("tensor {} is missing; {} is expected", quoted_name(name), expected));
  }
  if (std::ranges::find(types, tensor->type) == types.end() || !has_shape(*tensor, shape)) {
    refuse(*tensor, expected);
  }
  return *tensor;
}

std::shared_ptr<const StoredMatrix> FolderTensors::matrix(const std::string& module, int64_t rows,
                                                          int64_t columns,
                                                          const StoredScheme& scheme) {
  using enum StoredScheme::Kind;
  const FolderTensor* weight = find(module + ".weight");
  if (weight != nullptr) {
    if (scheme.kind == fp8 && weight->type == "F8_E4M3") {
      return stored_fp8(*this, module, rows, columns, scheme);
    }
    if (scheme.kind == integers && weight->type == "I8") {
      return stored_integers(*this, module, rows, columns, scheme);
    }
    return stored_plain(*this, *weight, rows, columns);
  }
  if (scheme.kind == awq) return stored_awq(*this, module, rows, columns, scheme);
  if (scheme.kind == gptq) return stored_gptq(*this, module, rows, columns, scheme);
  if (scheme.kind == packed) return stored_packed(*this, module, rows, columns, scheme);
  throw Error(ErrorCode::invalid_file,
              fmt::format("tensor {} is missing; a matrix of shape {} is expected",
                          quoted_name(module + ".weight"), to_string(Shape{rows, columns})));
}

std::string FolderTensors::label(const FolderTensor& tensor) const {
  return fmt::format("{}: tensor {}", shards_.file_of(tensor), quoted_name(tensor.name));
}

void FolderTensors::refuse(const FolderTensor& tensor, const std::string& expected) const {
  throw Error(ErrorCode::invalid_file,
              fmt::format("{} is {} of shape {}; {} is expected", label(tensor), tensor.type,
                          to_string(tensor.shape), expected));
}

std::shared_ptr<const StoredMatrix> stored_plain(FolderTensors& tensors, const FolderTensor& weight,
                                                 int64_t rows, int64_t columns) {
  const Shape shape{rows, columns};
  const std::optional<DType> dtype = dtype_from_name(weight.type);
  const bool is_float = dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
  if (!is_float || !has_shape(weight, shape)) {
    tensors.refuse(weight, fmt::format("F32, F16 or BF16 of shape {}", to_string(shape)));
  }
  return std::make_shared<PlainMatrix>(weight, *dtype, rows, columns);
}

float float_at(const FolderTensor& tensor, int64_t index) {
  if (tensor.type == "F32") {
    float value;
    std::memcpy(&value, tensor.bytes.data() + index * 4, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, tensor.bytes.data() + index * 2, sizeof(bits));
  return tensor.type == "F16" ? f16_to_f32(bits) : bf16_to_f32(bits);
}

}  // namespace ridge::format
