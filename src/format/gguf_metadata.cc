#include "format/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "format/gguf_types.h"

namespace ridge::format {

namespace {

template <typename T>
T load(std::span<const std::byte> bytes, uint64_t index) {
  RIDGE_ASSERT(index < bytes.size() / sizeof(T));
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T, typename Convert>
std::optional<std::vector<T>> converted_array(const GgufValue& value, Convert convert) {
  if (!value.is_array() || fixed_bytes(value.element_type) == 0) return std::nullopt;
  std::vector<T> result;
  result.reserve(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    const auto element = convert(value, i);
    if (!element) return std::nullopt;
    result.push_back(static_cast<T>(*element));
  }
  return result;
}

std::optional<uint64_t> to_uint64(const GgufValue& value) {
  if (value.is_array()) return std::nullopt;
  return value.unsigned_integer();
}

std::optional<uint32_t> to_uint32(const GgufValue& value) {
  const auto number = to_uint64(value);
  if (!number || *number > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

std::optional<int64_t> to_int64(const GgufValue& value) {
  if (value.is_array()) return std::nullopt;
  return value.integer();
}

// nullopt for a finite float64 beyond float32's range.
std::optional<float> to_float32(std::optional<double> number) {
  constexpr double largest = std::numeric_limits<float>::max();
  if (!number || (std::isfinite(*number) && std::abs(*number) > largest)) return std::nullopt;
  return static_cast<float>(*number);
}

std::optional<float> to_float(const GgufValue& value) {
  if (value.is_array()) return std::nullopt;
  return to_float32(value.number());
}

std::optional<bool> to_boolean(const GgufValue& value) {
  if (value.is_array()) return std::nullopt;
  return value.boolean();
}

std::optional<std::string_view> to_string_view(const GgufValue& value) {
  if (value.type != GgufType::string) return std::nullopt;
  return value.strings[0];
}

std::optional<std::span<const std::string_view>> to_strings(const GgufValue& value) {
  if (!value.is_array() || value.element_type != GgufType::string) return std::nullopt;
  return std::span<const std::string_view>(value.strings);
}

std::optional<std::vector<float>> to_floats(const GgufValue& value) {
  return converted_array<float>(value, [](auto& v, uint64_t i) { return to_float32(v.number(i)); });
}

std::optional<std::vector<int64_t>> to_integers(const GgufValue& value) {
  return converted_array<int64_t>(value, [](auto& v, uint64_t i) { return v.integer(i); });
}

std::optional<std::vector<bool>> to_booleans(const GgufValue& value) {
  return converted_array<bool>(value, [](auto& v, uint64_t i) { return v.boolean(i); });
}

// " of value -1" where a number may have the right type and the wrong range.
std::string value_note(const GgufValue& value) {
  if (value.is_array()) return {};
  if (const auto integer = value.integer()) return fmt::format(" of value {}", *integer);
  if (const auto number = value.number()) return fmt::format(" of value {}", *number);
  return {};
}

// The value of `key` by `convert`, which returns nullopt where it does not fit.
template <typename Convert>
auto optional_value(const GgufMetadata& metadata, std::string_view key, std::string_view expected,
                    Convert convert) -> decltype(convert(GgufValue{})) {
  const GgufValue* value = metadata.find(key);
  if (value == nullptr) return std::nullopt;
  auto result = convert(*value);
  if (!result) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: metadata key {} must be {}, but is {}{}", metadata.source(),
                            quoted_name(key), expected, type_name(*value), value_note(*value)));
  }
  return result;
}

template <typename Convert>
auto required_value(const GgufMetadata& metadata, std::string_view key, std::string_view expected,
                    Convert convert) {
  auto result = optional_value(metadata, key, expected, convert);
  if (!result) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: metadata key {} ({}) is missing", metadata.source(),
                            quoted_name(key), expected));
  }
  return *std::move(result);
}

}  // namespace

std::string_view name(GgufType type) {
  switch (type) {
    case GgufType::uint8:
      return "uint8";
    case GgufType::int8:
      return "int8";
    case GgufType::uint16:
      return "uint16";
    case GgufType::int16:
      return "int16";
    case GgufType::uint32:
      return "uint32";
    case GgufType::int32:
      return "int32";
    case GgufType::float32:
      return "float32";
    case GgufType::boolean:
      return "boolean";
    case GgufType::string:
      return "string";
    case GgufType::array:
      return "array";
    case GgufType::uint64:
      return "uint64";
    case GgufType::int64:
      return "int64";
    case GgufType::float64:
      return "float64";
  }
  return "unknown";
}

size_t fixed_bytes(GgufType type) {
  switch (type) {
    case GgufType::uint8:
    case GgufType::int8:
    case GgufType::boolean:
      return 1;
    case GgufType::uint16:
    case GgufType::int16:
      return 2;
    case GgufType::uint32:
    case GgufType::int32:
    case GgufType::float32:
      return 4;
    case GgufType::uint64:
    case GgufType::int64:
    case GgufType::float64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      break;
  }
  return 0;
}

std::string type_name(const GgufValue& value) {
  if (!value.is_array()) return std::string(name(value.type));
  return fmt::format("array of {}", name(value.element_type));
}

std::optional<int64_t> GgufValue::integer(uint64_t index) const {
  if (element_type == GgufType::uint64) {
    const auto value = load<uint64_t>(bytes, index);
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(value);
  }
  switch (element_type) {
    case GgufType::uint8:
      return load<uint8_t>(bytes, index);
    case GgufType::int8:
      return load<int8_t>(bytes, index);
    case GgufType::uint16:
      return load<uint16_t>(bytes, index);
    case GgufType::int16:
      return load<int16_t>(bytes, index);
    case GgufType::uint32:
      return load<uint32_t>(bytes, index);
    case GgufType::int32:
      return load<int32_t>(bytes, index);
    case GgufType::int64:
      return load<int64_t>(bytes, index);
    default:
      return std::nullopt;
  }
}

std::optional<uint64_t> GgufValue::unsigned_integer(uint64_t index) const {
  if (element_type == GgufType::uint64) return load<uint64_t>(bytes, index);
  const auto value = integer(index);
  if (!value || *value < 0) return std::nullopt;
  return static_cast<uint64_t>(*value);
}

std::optional<double> GgufValue::number(uint64_t index) const {
  if (element_type == GgufType::float32) return load<float>(bytes, index);
  if (element_type == GgufType::float64) return load<double>(bytes, index);
  return std::nullopt;
}

std::optional<bool> GgufValue::boolean(uint64_t index) const {
  if (element_type != GgufType::boolean) return std::nullopt;
  const auto value = load<uint8_t>(bytes, index);
  if (value > 1) return std::nullopt;
  return value == 1;
}

GgufMetadata::GgufMetadata(std::vector<GgufEntry> entries, std::string source)
    : entries_(std::move(entries)), by_key_(entries_.size()), source_(std::move(source)) {
  std::iota(by_key_.begin(), by_key_.end(), 0u);
  const auto key_of = [this](uint32_t index) { return entries_[index].key; };
  std::ranges::sort(by_key_, {}, key_of);
  const auto twin = std::ranges::adjacent_find(by_key_, {}, key_of);
  if (twin != by_key_.end()) {
    throw Error(ErrorCode::invalid_file, fmt::format("{}: metadata key {} appears twice", source_,
                                                     quoted_name(key_of(*twin))));
  }
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto key_of = [this](uint32_t index) { return entries_[index].key; };
  const auto at = std::ranges::lower_bound(by_key_, key, {}, key_of);
  if (at == by_key_.end() || key_of(*at) != key) return nullptr;
  return &entries_[*at].value;
}

uint32_t GgufMetadata::uint32(std::string_view key) const {
  return required_value(*this, key, "uint32", to_uint32);
}

std::optional<uint32_t> GgufMetadata::optional_uint32(std::string_view key) const {
  return optional_value(*this, key, "uint32", to_uint32);
}

uint64_t GgufMetadata::uint64(std::string_view key) const {
  return required_value(*this, key, "uint64", to_uint64);
}

std::optional<uint64_t> GgufMetadata::optional_uint64(std::string_view key) const {
  return optional_value(*this, key, "uint64", to_uint64);
}

int64_t GgufMetadata::int64(std::string_view key) const {
  return required_value(*this, key, "int64", to_int64);
}

std::optional<int64_t> GgufMetadata::optional_int64(std::string_view key) const {
  return optional_value(*this, key, "int64", to_int64);
}

float GgufMetadata::float32(std::string_view key) const {
  return required_value(*this, key, "float32", to_float);
}

std::optional<float> GgufMetadata::optional_float32(std::string_view key) const {
  return optional_value(*this, key, "float32", to_float);
}

bool GgufMetadata::boolean(std::string_view key) const {
  return required_value(*this, key, "boolean", to_boolean);
}

std::optional<bool> GgufMetadata::optional_boolean(std::string_view key) const {
  return optional_value(*this, key, "boolean", to_boolean);
}

std::string_view GgufMetadata::string(std::string_view key) const {
  return required_value(*this, key, "string", to_string_view);
}

std::optional<std::string_view> GgufMetadata::optional_string(std::string_view key) const {
  return optional_value(*this, key, "string", to_string_view);
}

std::span<const std::string_view> GgufMetadata::string_array(std::string_view key) const {
  return required_value(*this, key, "array of string", to_strings);
}

std::optional<std::span<const std::string_view>> GgufMetadata::optional_string_array(
    std::string_view key) const {
  return optional_value(*this, key, "array of string", to_strings);
}

std::vector<float> GgufMetadata::float_array(std::string_view key) const {
  return required_value(*this, key, "array of float32", to_floats);
}

std::optional<std::vector<float>> GgufMetadata::optional_float_array(std::string_view key) const {
  return optional_value(*this, key, "array of float32", to_floats);
}

std::vector<int64_t> GgufMetadata::int_array(std::string_view key) const {
  return required_value(*this, key, "array of integers", to_integers);
}

std::optional<std::vector<int64_t>> GgufMetadata::optional_int_array(std::string_view key) const {
  return optional_value(*this, key, "array of integers", to_integers);
}

std::vector<bool> GgufMetadata::bool_array(std::string_view key) const {
  return required_value(*this, key, "array of boolean", to_booleans);
}

std::optional<std::vector<bool>> GgufMetadata::optional_bool_array(std::string_view key) const {
  return optional_value(*this, key, "array of boolean", to_booleans);
}

}  // namespace ridge::format
