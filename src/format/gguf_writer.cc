#include "format/gguf_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <system_error>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "format/gguf_metadata.h"
#include "format/gguf_types.h"

namespace ridge::format {

namespace {

constexpr uint32_t version = 3;

template <typename T>
void append_number(std::vector<std::byte>& out, T value) {
  const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_text(std::vector<std::byte>& out, std::string_view text) {
  append_number<uint64_t>(out, text.size());
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_type(std::vector<std::byte>& out, GgufType type) {
  append_number(out, static_cast<uint32_t>(type));
}

void write_bytes(std::ostream& out, std::span<const std::byte> bytes) {
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  if (!out) throw Error(ErrorCode::io, "cannot write the GGUF file: is the disk full?");
}

void write_padding(std::ostream& out, uint64_t written, uint64_t alignment) {
  write_bytes(out, std::vector<std::byte>(aligned(written, alignment) - written));
}

// Without it a crash could leave a file that has its name but not all its bytes.
void reach_disk(const std::filesystem::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || ::fsync(file.get()) != 0) {
    const int reason = errno;
    throw Error(ErrorCode::io,
                fmt::format("{}: cannot write the file: {}", path.string(), std::strerror(reason)));
  }
}

}  // namespace

GgufWriter::GgufWriter(uint32_t alignment) : alignment_(alignment) {
  if (!std::has_single_bit(alignment) || alignment < 8) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the alignment is {}, but must be a power of two from 8", alignment));
  }
  if (alignment != default_alignment_bytes) set_uint32("general.alignment", alignment);
}

void GgufWriter::begin_entry(std::string_view key) {
  if (!keys_.emplace(key).second) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("metadata key {} is set twice", quoted_name(key)));
  }
  append_text(metadata_, key);
}

template <typename T>
void GgufWriter::set_number(std::string_view key, GgufType type, T value) {
  begin_entry(key);
  append_type(metadata_, type);
  append_number(metadata_, value);
}

void GgufWriter::set_uint16(std::string_view key, uint16_t value) {
  set_number(key, GgufType::uint16, value);
}

void GgufWriter::set_uint32(std::string_view key, uint32_t value) {
  set_number(key, GgufType::uint32, value);
}

void GgufWriter::set_int32(std::string_view key, int32_t value) {
  set_number(key, GgufType::int32, value);
}

void GgufWriter::set_uint64(std::string_view key, uint64_t value) {
  set_number(key, GgufType::uint64, value);
}

void GgufWriter::set_float32(std::string_view key, float value) {
  set_number(key, GgufType::float32, value);
}

void GgufWriter::set_boolean(std::string_view key, bool value) {
  set_number(key, GgufType::boolean, static_cast<uint8_t>(value ? 1 : 0));
}

void GgufWriter::set_string(std::string_view key, std::string_view value) {
  begin_entry(key);
  append_type(metadata_, GgufType::string);
  append_text(metadata_, value);
}

void GgufWriter::begin_array(std::string_view key, GgufType element_type, uint64_t count) {
  begin_entry(key);
  append_type(metadata_, GgufType::array);
  append_type(metadata_, element_type);
  append_number(metadata_, count);
}

void GgufWriter::set_string_array(std::string_view key, std::span<const std::string> values) {
  begin_array(key, GgufType::string, values.size());
  for (const std::string& value : values) append_text(metadata_, value);
}

template <typename T>
void GgufWriter::set_number_array(std::string_view key, GgufType type, std::span<const T> values) {
  begin_array(key, type, values.size());
  for (T value : values) append_number(metadata_, value);
}

void GgufWriter::set_float_array(std::string_view key, std::span<const float> values) {
  set_number_array(key, GgufType::float32, values);
}

void GgufWriter::set_int_array(std::string_view key, std::span<const int32_t> values) {
  set_number_array(key, GgufType::int32, values);
}

void GgufWriter::set_value(std::string_view key, const GgufValue& value) {
  begin_entry(key);
  append_type(metadata_, value.type);
  append_value(value);
}

void GgufWriter::append_value(const GgufValue& value) {
  if (value.is_array()) {
    append_type(metadata_, value.element_type);
    append_number(metadata_, value.count);
  }
  metadata_.insert(metadata_.end(), value.bytes.begin(), value.bytes.end());
  for (std::string_view text : value.strings) append_text(metadata_, text);
  for (const GgufValue& inner : value.nested) append_value(inner);
}

void GgufWriter::add_streamed_tensor(std::string_view name, DType dtype, const Shape& shape,
                                     std::function<void(const Sink&)> produce) {
  if (shape.rank() < 1 || shape.columns() % traits(dtype).block_elements != 0) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("tensor {}: shape {} does not fit whole blocks of {}",
                            quoted_name(name), to_string(shape), ridge::name(dtype)));
  }
  if (!tensor_names_.emplace(name).second) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("tensor {} is added twice", quoted_name(name)));
  }
  const uint64_t size = static_cast<uint64_t>(shape.rows()) * row_bytes(dtype, shape.columns());
  const uint64_t offset = aligned(data_bytes_, alignment_);
  tensors_.push_back({std::string(name), dtype, shape, std::move(produce), size, offset});
  data_bytes_ = offset + size;
}

void GgufWriter::add_tensor(std::string_view name, DType dtype, const Shape& shape,
                            std::function<std::vector<std::byte>()> produce) {
  add_streamed_tensor(name, dtype, shape,
                      [produce = std::move(produce)](const Sink& sink) { sink(produce()); });
}

void GgufWriter::add_tensor(std::string_view name, DType dtype, const Shape& shape,
                            std::span<const std::byte> bytes) {
  add_streamed_tensor(name, dtype, shape, [bytes](const Sink& sink) { sink(bytes); });
}

std::vector<std::byte> GgufWriter::header() const {
  std::vector<std::byte> out;
  for (char letter : {'G', 'G', 'U', 'F'}) append_number(out, letter);
  append_number(out, version);
  append_number<uint64_t>(out, tensors_.size());
  append_number<uint64_t>(out, keys_.size());
  out.insert(out.end(), metadata_.begin(), metadata_.end());
  for (const Tensor& tensor : tensors_) {
    append_text(out, tensor.name);
    append_number(out, static_cast<uint32_t>(tensor.shape.rank()));
    for (int axis = tensor.shape.rank() - 1; axis >= 0; --axis) {
      append_number(out, static_cast<uint64_t>(tensor.shape[axis]));
    }
    append_number(out, tensor_type_number(tensor.dtype));
    append_number(out, tensor.offset_bytes);
  }
  out.resize(aligned(out.size(), alignment_));
  return out;
}

uint64_t GgufWriter::file_bytes() const {
  return header().size() + aligned(data_bytes_, alignment_);
}

void GgufWriter::write(std::ostream& out) const {
  write_bytes(out, header());
  for (const Tensor& tensor : tensors_) {
    uint64_t written = 0;
    tensor.produce([&](std::span<const std::byte> bytes) {
      written += bytes.size();
      if (written <= tensor.size_bytes) write_bytes(out, bytes);
    });
    if (written != tensor.size_bytes) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("tensor {}: {} bytes were given, but {} of {} take {}",
                              quoted_name(tensor.name), written, to_string(tensor.shape),
                              ridge::name(tensor.dtype), tensor.size_bytes));
    }
    write_padding(out, written, alignment_);
  }
}

void GgufWriter::write(const std::filesystem::path& path) const {
  std::filesystem::path partial = path;
  partial += ".partial";
  try {
    std::ofstream out(partial, std::ios::binary);
    if (!out) {
      throw Error(ErrorCode::io, fmt::format("{}: cannot create the file: {}", partial.string(),
                                             std::strerror(errno)));
    }
    write(out);
    out.close();
    if (!out) throw Error(ErrorCode::io, fmt::format("{}: cannot write the file", path.string()));
    reach_disk(partial);
    std::filesystem::rename(partial, path);
  } catch (const std::filesystem::filesystem_error& error) {
    std::error_code ignored;
    std::filesystem::remove(partial, ignored);
    throw Error(ErrorCode::io, fmt::format("{}: {}", path.string(), error.code().message()));
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(partial, ignored);
    throw;
  }
}

std::vector<std::byte> GgufWriter::to_bytes() const {
  std::ostringstream out;
  write(out);
  const std::string text = std::move(out).str();
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace ridge::format
