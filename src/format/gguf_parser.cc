#include "format/gguf_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "format/gguf_types.h"

namespace ridge::format {

namespace {

static_assert(std::endian::native == std::endian::little, "file numbers are read as they stand");

constexpr uint32_t magic = 0x46554747;  // "GGUF"

// Reads forward through a file's bytes, and refuses to step past the end.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& source)
      : bytes_(bytes), source_(source) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <typename... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: {}", source_, fmt::format(format, std::forward<Args>(args)...)));
  }

  // `what` completes "ends inside ...".
  std::span<const std::byte> take(uint64_t size, std::string_view what) {
    if (size > remaining()) {
      refuse("the file ends inside {}: {} bytes are wanted at byte {}, {} are left", what, size,
             position_, remaining());
    }
    const auto result = bytes_.subspan(position_, size);
    position_ += size;
    return result;
  }

  template <typename T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string_view string(std::string_view what) {
    const auto size = number<uint64_t>(what);
    const auto text = take(size, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  std::string_view short_string(std::string_view what, uint64_t limit_bytes) {
    const auto text = string(what);
    if (text.empty() || text.size() > limit_bytes) {
      refuse("{} has {} bytes, but must have 1 to {}", what, text.size(), limit_bytes);
    }
    return text;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
  const std::string& source_;
};

class HeaderParser {
 public:
  HeaderParser(std::span<const std::byte> bytes, const std::string& source)
      : cursor_(bytes, source), source_(source) {}

  GgufHeader parse() {
    GgufHeader header{};
    header.version = read_version();
    const uint64_t tensor_count = read_count("the tensor count", tensors_max);
    const uint64_t key_count = read_count("the metadata key count", metadata_keys_max);
    header.metadata = read_metadata(key_count);
    const uint64_t alignment_bytes = read_alignment(header.metadata);
    for (uint64_t i = 0; i < tensor_count; ++i) {
      header.tensors.push_back(read_tensor(alignment_bytes));
    }
    // No overflow: a position is at most the size of a span, which is below 2^63.
    header.data_offset_bytes = aligned(cursor_.position(), alignment_bytes);
    return header;
  }

 private:
  uint32_t read_version() {
    if (cursor_.number<uint32_t>("its first four bytes") != magic) {
      cursor_.refuse("this is not a GGUF file: it does not begin with \"GGUF\"");
    }
    const auto version = cursor_.number<uint32_t>("the version");
    if (version == 2 || version == 3) return version;
    if (version != 0 && (version & 0xffff) == 0) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("{}: this GGUF file is big-endian; only little-endian files are read",
                              source_));
    }
    throw Error(
        ErrorCode::unsupported,
        fmt::format("{}: GGUF version {} is not read; versions 2 and 3 are", source_, version));
  }

  uint64_t read_count(std::string_view what, uint64_t limit) {
    const auto count = cursor_.number<uint64_t>(what);
    if (count > limit) cursor_.refuse("{} is {}, but at most {} are read", what, count, limit);
    return count;
  }

  GgufMetadata read_metadata(uint64_t key_count) {
    std::vector<GgufEntry> entries;
    for (uint64_t i = 0; i < key_count; ++i) {
      GgufEntry& entry = entries.emplace_back();
      entry.key = cursor_.short_string("a metadata key", key_bytes_max);
      key_ = entry.key;
      entry.value.type = read_type();
      read_value(entry.value);
    }
    return GgufMetadata(std::move(entries), source_);
  }

  GgufType read_type() {
    const auto number = cursor_.number<uint32_t>("the type of a metadata value");
    if (number > static_cast<uint32_t>(GgufType::float64)) {
      cursor_.refuse("metadata key {} has the value type {}, but there are only 0 to 12",
                     quoted_name(key_), number);
    }
    return static_cast<GgufType>(number);
  }

  // value.type is set.
  void read_value(GgufValue& value) {
    value.element_type = value.type;
    if (value.type == GgufType::array) return read_array(value, 1);
    if (value.type == GgufType::string) {
      value.strings.push_back(cursor_.string("a metadata string"));
      return;
    }
    value.bytes = cursor_.take(fixed_bytes(value.type), "a metadata value");
  }

  void read_array(GgufValue& value, int depth) {
    value.element_type = read_type();
    value.count = cursor_.number<uint64_t>("the length of a metadata array");
    if (value.element_type == GgufType::string) return read_strings(value);
    if (value.element_type == GgufType::array) return read_nested(value, depth);
    const auto size = checked_mul<uint64_t>(value.count, fixed_bytes(value.element_type));
    if (!size || *size > cursor_.remaining()) refuse_array(value);
    value.bytes = cursor_.take(*size, "a metadata array");
  }

  void read_strings(GgufValue& value) {
    // Each string takes at least the eight bytes of its length.
    if (value.count > cursor_.remaining() / sizeof(uint64_t)) refuse_array(value);
    strings_ += value.count;
    if (strings_ > strings_max) {
      cursor_.refuse("metadata key {}: more than {} strings in one file", quoted_name(key_),
                     strings_max);
    }
    value.strings.reserve(value.count);
    for (uint64_t i = 0; i < value.count; ++i) {
      value.strings.push_back(cursor_.string("a string of a metadata array"));
    }
  }

  void read_nested(GgufValue& value, int depth) {
    if (depth >= array_depth_max) {
      cursor_.refuse("metadata key {}: arrays are nested more than {} deep", quoted_name(key_),
                     array_depth_max);
    }
    // Each array takes at least its type and its length.
    constexpr uint64_t smallest_bytes = sizeof(uint32_t) + sizeof(uint64_t);
    if (value.count > cursor_.remaining() / smallest_bytes) refuse_array(value);
    nested_arrays_ += value.count;
    if (nested_arrays_ > nested_arrays_max) {
      cursor_.refuse("metadata key {}: more than {} nested arrays in one file", quoted_name(key_),
                     nested_arrays_max);
    }
    value.nested.reserve(value.count);
    for (uint64_t i = 0; i < value.count; ++i) {
      GgufValue& inner = value.nested.emplace_back();
      inner.type = GgufType::array;
      read_array(inner, depth + 1);
    }
  }

  [[noreturn]] void refuse_array(const GgufValue& value) const {
    cursor_.refuse(
        "metadata key {}: an array claims {} elements, which do not fit the {} bytes left",
        quoted_name(key_), value.count, cursor_.remaining());
  }

  uint64_t read_alignment(const GgufMetadata& metadata) {
    const uint32_t alignment_bytes =
        metadata.optional_uint32("general.alignment").value_or(default_alignment_bytes);
    if (!std::has_single_bit(alignment_bytes) || alignment_bytes < 8 ||
        alignment_bytes > alignment_max_bytes) {
      cursor_.refuse("general.alignment is {}, but must be a power of two from 8 to {}",
                     alignment_bytes, alignment_max_bytes);
    }
    return alignment_bytes;
  }

  GgufTensorRecord read_tensor(uint64_t alignment_bytes) {
    GgufTensorRecord record{};
    record.name = cursor_.short_string("a tensor name", tensor_name_bytes_max);
    record.shape = read_shape(record.name);
    record.type_number = cursor_.number<uint32_t>("the type of a tensor");
    record.offset_bytes = cursor_.number<uint64_t>("the offset of a tensor");
    if (record.offset_bytes % alignment_bytes != 0) {
      cursor_.refuse("tensor {}: offset {} is not a multiple of the alignment, {}",
                     quoted_name(record.name), record.offset_bytes, alignment_bytes);
    }
    return record;
  }

  Shape read_shape(std::string_view tensor) {
    const auto rank = cursor_.number<uint32_t>("the number of a tensor's extents");
    if (rank < 1 || rank > static_cast<uint32_t>(Shape::max_rank)) {
      cursor_.refuse("tensor {}: it has {} extents, but 1 to {} are possible", quoted_name(tensor),
                     rank, static_cast<int>(Shape::max_rank));
    }
    std::vector<int64_t> extents;  // innermost first, as files store them
    int64_t elements = 1;
    for (uint32_t axis = 0; axis < rank; ++axis) {
      const auto extent = cursor_.number<uint64_t>("a tensor's extents");
      if (extent == 0) cursor_.refuse("tensor {}: extent {} is zero", quoted_name(tensor), axis);
      if (extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        cursor_.refuse("tensor {}: extent {} is {}, above 2^63 - 1", quoted_name(tensor), axis,
                       extent);
      }
      extents.push_back(static_cast<int64_t>(extent));
      const auto product = checked_mul(elements, extents.back());
      if (!product)
        cursor_.refuse("tensor {}: it has more than 2^63 - 1 elements", quoted_name(tensor));
      elements = *product;
    }
    Shape shape;
    for (auto extent = extents.rbegin(); extent != extents.rend(); ++extent) shape.append(*extent);
    return shape;
  }

  Cursor cursor_;
  const std::string& source_;
  std::string_view key_;  // the key being read, for messages
  uint64_t strings_ = 0;
  uint64_t nested_arrays_ = 0;
};

}  // namespace

GgufHeader parse_header(std::span<const std::byte> bytes, const std::string& source) {
  return HeaderParser(bytes, source).parse();
}

}  // namespace ridge::format
