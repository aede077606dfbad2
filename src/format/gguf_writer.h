#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf_metadata.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace ridge::format {

// Writes GGUF version 3, little-endian. Metadata and tensors keep the order in which they are
// added; a key or tensor name added twice throws invalid_argument.
class GgufWriter {
 public:
  // alignment: a power of two from 8; other than 32 it is written as general.alignment.
  explicit GgufWriter(uint32_t alignment = 32);

  void set_uint32(std::string_view key, uint32_t value);
  void set_int32(std::string_view key, int32_t value);
  void set_uint64(std::string_view key, uint64_t value);
  void set_uint16(std::string_view key, uint16_t value);
  void set_float32(std::string_view key, float value);
  void set_boolean(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_string_array(std::string_view key, std::span<const std::string> values);
  void set_float_array(std::string_view key, std::span<const float> values);
  void set_int_array(std::string_view key, std::span<const int32_t> values);

  // A value as read from another file, of any type.
  void set_value(std::string_view key, const GgufValue& value);

  // Takes the next bytes of a tensor.
  using Sink = std::function<void(std::span<const std::byte>)>;
  // `produce` is called once, when the tensor is written, and hands its bytes to the sink in pieces
  // of any size, so that a converter never holds a whole tensor.
  void add_streamed_tensor(std::string_view name, DType dtype, const Shape& shape,
                           std::function<void(const Sink&)> produce);
  // `produce` returns the tensor's bytes and is called once, when they are written.
  void add_tensor(std::string_view name, DType dtype, const Shape& shape,
                  std::function<std::vector<std::byte>()> produce);
  // `bytes` must live until the file is written.
  void add_tensor(std::string_view name, DType dtype, const Shape& shape,
                  std::span<const std::byte> bytes);

  // Of the whole file.
  uint64_t file_bytes() const;

  // Throws io where writing fails, invalid_argument where a tensor's bytes do not fit its shape.
  void write(std::ostream& out) const;
  // Appears under `path` only when whole and on the disk; until then it is PATH.partial.
  void write(const std::filesystem::path& path) const;
  // The whole file in memory.
  std::vector<std::byte> to_bytes() const;

 private:
  struct Tensor {
    std::string name;
    DType dtype;
    Shape shape;
    std::function<void(const Sink&)> produce;
    uint64_t size_bytes;
    uint64_t offset_bytes;  // from the start of the data section
  };

  void begin_entry(std::string_view key);
  template <typename T>
  void set_number(std::string_view key, GgufType type, T value);
  template <typename T>
  void set_number_array(std::string_view key, GgufType type, std::span<const T> values);
  void begin_array(std::string_view key, GgufType element_type, uint64_t count);
  void append_value(const GgufValue& value);
  std::vector<std::byte> header() const;

  uint32_t alignment_;
  std::set<std::string, std::less<>> keys_;
  std::set<std::string, std::less<>> tensor_names_;
  std::vector<std::byte> metadata_;  // the entries as they stand in the file
  std::vector<Tensor> tensors_;
  uint64_t data_bytes_ = 0;  // without the padding after the last tensor
};

}  // namespace ridge::format
