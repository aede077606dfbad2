#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/folder_shards.h"
#include "format/stored_scheme.h"
#include "tensor/dtype.h"

namespace ridge::format {

// A matrix of weights as a model folder stores it, in one tensor or in several (codes, scales, zero
// points), seen as rows of a type that GGUF has. docs/model-folders.md says what becomes of what.
class StoredMatrix {
 public:
  virtual ~StoredMatrix() = default;

  // What its rows become, the closest type of GGUF's that is not larger than it need be.
  DType dtype() const { return dtype_; }

  // Writes the rows of these numbers one after the other, as dtype(). Throws invalid_file where a
  // value is not finite or fits no type. From any thread.
  virtual void write(std::span<const int64_t> rows, std::byte* out) const = 0;
  // As write(), as another type, which is F32, F16 or BF16.
  void write_as(DType dtype, std::span<const int64_t> rows, std::byte* out) const;

  // The tensors that it is read from, the weights' own first.
  std::span<const FolderTensor* const> parts() const { return parts_; }

 protected:
  StoredMatrix(int64_t rows, int64_t columns, DType dtype)
      : rows_(rows), columns_(columns), dtype_(dtype) {}

  int64_t rows_;
  int64_t columns_;
  DType dtype_;
  std::vector<const FolderTensor*> parts_;
};

// The tensors of a folder, of which it is noted which are used.
class FolderTensors {
 public:
  explicit FolderTensors(const FolderShards& shards) : shards_(shards) {}

  bool contains(const std::string& name) const { return shards_.find(name) != nullptr; }
  // nullptr where there is none.
  const FolderTensor* find(const std::string& name);
  // Throws invalid_file where the tensor is missing, or is not of one of `types` and of `shape`,
  // naming what was found and what is wanted. An extent of 1 may be left out.
  const FolderTensor& take(const std::string& name, std::initializer_list<std::string_view> types,
                           const Shape& shape);
  // A weight of rows · columns: `module`.weight, or what the scheme stores in its place.
  std::shared_ptr<const StoredMatrix> matrix(const std::string& module, int64_t rows,
                                             int64_t columns, const StoredScheme& scheme);

  [[noreturn]] void refuse(const FolderTensor& tensor, const std::string& expected) const;
  // "model.safetensors: tensor "x"".
  std::string label(const FolderTensor& tensor) const;

  // The first in order of names that was not found or taken; nullptr where there is none.
  template <typename MayStay>
  const FolderTensor* first_unused(const MayStay& may_stay) const {
    for (const FolderTensor& tensor : shards_.tensors()) {
      if (!used_.contains(tensor.name) && !may_stay(tensor.name)) return &tensor;
    }
    return nullptr;
  }

 private:
  const FolderShards& shards_;
  std::set<std::string, std::less<>> used_;
};

// One for each way of storing. They check the tensors' types and shapes, read no weight, and throw
// as take().
std::shared_ptr<const StoredMatrix> stored_plain(FolderTensors& tensors, const FolderTensor& weight,
                                                 int64_t rows, int64_t columns);
std::shared_ptr<const StoredMatrix> stored_fp8(FolderTensors& tensors, const std::string& module,
                                               int64_t rows, int64_t columns,
                                               const StoredScheme& scheme);
std::shared_ptr<const StoredMatrix> stored_awq(FolderTensors& tensors, const std::string& module,
                                               int64_t rows, int64_t columns,
                                               const StoredScheme& scheme);
std::shared_ptr<const StoredMatrix> stored_gptq(FolderTensors& tensors, const std::string& module,
                                                int64_t rows, int64_t columns,
                                                const StoredScheme& scheme);
std::shared_ptr<const StoredMatrix> stored_packed(FolderTensors& tensors, const std::string& module,
                                                  int64_t rows, int64_t columns,
                                                  const StoredScheme& scheme);
std::shared_ptr<const StoredMatrix> stored_integers(FolderTensors& tensors,
                                                    const std::string& module, int64_t rows,
                                                    int64_t columns, const StoredScheme& scheme);

// Experts' matrices of a linear in one, gpt-oss's way, as experts · rows rows of `columns`, those of
// the first expert first. As floats they stand turned, `name` of shape [experts, columns, rows]; as
// MXFP4 `name`_blocks are U8 of shape [experts, rows, columns / 32, 16], elements 2i and 2i + 1 in a
// byte, low half first, with `name`_scales of shape [experts, rows, columns / 32].
std::shared_ptr<const StoredMatrix> stored_experts(FolderTensors& tensors, const std::string& name,
                                                   int64_t experts, int64_t rows, int64_t columns,
                                                   const StoredScheme& scheme);

// Reads element `index` of F32, F16 or BF16 bytes.
float float_at(const FolderTensor& tensor, int64_t index);

}  // namespace ridge::format
