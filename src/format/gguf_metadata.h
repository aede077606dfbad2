#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::format {

// Value types of GGUF metadata, numbered as in files.
enum class GgufType : uint32_t {
  uint8 = 0,
  int8 = 1,
  uint16 = 2,
  int16 = 3,
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  uint64 = 10,
  int64 = 11,
  float64 = 12,
};

// "uint32", "string", ...
std::string_view name(GgufType type);
// Bytes of one value in a file; 0 for strings and arrays, whose size varies.
size_t fixed_bytes(GgufType type);

// One metadata value. Bytes and strings are views into the file.
struct GgufValue {
  GgufType type = GgufType::uint8;
  // The elements' type where `type` is array, else `type` itself.
  GgufType element_type = GgufType::uint8;
  uint64_t count = 1;                // elements; 1 unless an array
  std::span<const std::byte> bytes;  // the elements, where they have a fixed size
  std::vector<std::string_view>
      strings;                    // a string, or an array's strings; any bytes, not only UTF-8
  std::vector<GgufValue> nested;  // an array's arrays

  bool is_array() const { return type == GgufType::array; }
  // Element `index` of a value of fixed-size elements, where its type and value allow it.
  std::optional<int64_t> integer(
      uint64_t index = 0) const;  // any integer type; nullopt above 2^63 - 1
  std::optional<uint64_t> unsigned_integer(
      uint64_t index = 0) const;                           // any integer type; nullopt below 0
  std::optional<double> number(uint64_t index = 0) const;  // float32, float64
  std::optional<bool> boolean(uint64_t index = 0) const;
};

// "uint32", "array of string", ...
std::string type_name(const GgufValue& value);

struct GgufEntry {
  std::string_view key;
  GgufValue value;
};

// The metadata of a file, in file order. Lookups throw Error(invalid_file), naming key and expected
// type, where the key is missing or its value does not fit. The optional_ kinds return nullopt
// where the key is missing, and still throw where it is there with another type. Integers are taken
// from any width and sign that holds the value; floats from float32 and float64.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  // Throws invalid_file on a duplicate key. `source` names the file in messages.
  GgufMetadata(std::vector<GgufEntry> entries, std::string source);

  std::span<const GgufEntry> entries() const { return entries_; }
  // The name of the file, for messages.
  const std::string& source() const { return source_; }
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  // nullptr where missing; valid while this object lives.
  const GgufValue* find(std::string_view key) const;

  uint32_t uint32(std::string_view key) const;
  uint64_t uint64(std::string_view key) const;
  int64_t int64(std::string_view key) const;
  float float32(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::string_view string(std::string_view key) const;

  std::optional<uint32_t> optional_uint32(std::string_view key) const;
  std::optional<uint64_t> optional_uint64(std::string_view key) const;
  std::optional<int64_t> optional_int64(std::string_view key) const;
  std::optional<float> optional_float32(std::string_view key) const;
  std::optional<bool> optional_boolean(std::string_view key) const;
  std::optional<std::string_view> optional_string(std::string_view key) const;

  // Views into the file, nothing copied: a vocabulary has 150,000 entries.
  std::span<const std::string_view> string_array(std::string_view key) const;
  std::vector<float> float_array(std::string_view key) const;
  std::vector<int64_t> int_array(std::string_view key) const;
  std::vector<bool> bool_array(std::string_view key) const;

  std::optional<std::span<const std::string_view>> optional_string_array(
      std::string_view key) const;
  std::optional<std::vector<float>> optional_float_array(std::string_view key) const;
  std::optional<std::vector<int64_t>> optional_int_array(std::string_view key) const;
  std::optional<std::vector<bool>> optional_bool_array(std::string_view key) const;

 private:
  std::vector<GgufEntry> entries_;
  std::vector<uint32_t> by_key_;  // indices of entries_, sorted by key
  std::string source_;
};

}  // namespace ridge::format
