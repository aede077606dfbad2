#include "format/safetensors_header.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "format/gguf_types.h"
#include "format/safetensors.h"

namespace ridge::format {

namespace {

constexpr size_t dtype_bytes_max = 32;

// Takes the parser's events: no document is built, so that depth and size cost nothing.
//   {"__metadata__": {KEY: TEXT}, NAME: {"dtype": TEXT, "shape": [N], "data_offsets": [N, N]}}
class HeaderReader {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  explicit HeaderReader(const std::string& source) : source_(source) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() { refuse_value("null"); }
  bool boolean(bool) { refuse_value("true or false"); }
  bool number_integer(number_integer_t) { refuse_value("a negative number"); }
  bool number_float(number_float_t, const string_t&) {
    refuse_value("a number that is not whole or is above 2^64 - 1");
  }
  bool binary(binary_t&) { refuse_value("binary data"); }

  bool number_unsigned(number_unsigned_t value) {
    if (place_ != Place::list) refuse_value("a number");
    std::vector<uint64_t>& list = field_ == "shape" ? header_.tensors.back().extents : offsets_;
    const size_t most = field_ == "shape" ? safetensors_extents_max : 2;
    if (list.size() == most)
      refuse_tensor(fmt::format("'{}' has more than {} numbers", field_, most));
    list.push_back(value);
    return true;
  }

  bool string(string_t& value) {
    if (place_ == Place::metadata) {
      if (!header_.metadata.emplace(field_, std::move(value)).second) {
        refuse(fmt::format("__metadata__ has the key {} twice", quoted_name(field_)));
      }
      return true;
    }
    if (place_ != Place::tensor || field_ != "dtype") refuse_value("a string");
    if (value.empty() || value.size() > dtype_bytes_max) {
      refuse_tensor(
          fmt::format("'dtype' has {} bytes; 1 to {} are expected", value.size(), dtype_bytes_max));
    }
    header_.tensors.back().dtype = std::move(value);
    return true;
  }

  bool start_object(std::size_t) {
    switch (place_) {
      case Place::outside:
        place_ = Place::names;
        return true;
      case Place::names:
        if (field_ == "__metadata__") {
          place_ = Place::metadata;
        } else {
          begin_tensor();
        }
        return true;
      default:
        refuse_value("an object");
    }
  }

  bool key(string_t& value) {
    field_ = std::move(value);
    if (place_ == Place::names) {
      const bool is_new = names_.insert(field_).second;
      if (!is_new) refuse(fmt::format("two tensors have the name {}", quoted_name(field_)));
    } else if (place_ == Place::tensor) {
      begin_field();
    }
    return true;
  }

  bool end_object() {
    if (place_ == Place::tensor) end_tensor();
    place_ = place_ == Place::names ? Place::outside : Place::names;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ != Place::tensor || field_ == "dtype") refuse_value("a list");
    place_ = Place::list;
    return true;
  }

  bool end_array() {
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    refuse(fmt::format("it is no JSON from its byte {} on", position));
  }

 private:
  enum class Place { outside, names, metadata, tensor, list };

  [[noreturn]] void refuse(const std::string& reason) const {
    throw Error(ErrorCode::invalid_file, fmt::format("{}: the header: {}", source_, reason));
  }
  [[noreturn]] void refuse_tensor(const std::string& reason) const {
    refuse(fmt::format("tensor {}: {}", quoted_name(header_.tensors.back().name), reason));
  }
  [[noreturn]] void refuse_value(std::string_view found) const {
    switch (place_) {
      case Place::outside:
        refuse(fmt::format("{} stands where an object is expected", found));
      case Place::names:
        refuse(fmt::format("{} is {}; an object is expected", quoted_name(field_), found));
      case Place::metadata:
        refuse(fmt::format("__metadata__ has {} for {}; a string is expected", found,
                           quoted_name(field_)));
      default:
        refuse_tensor(fmt::format("'{}' has {}; {} expected", field_, found,
                                  field_ == "dtype" ? "a string is" : "whole numbers are"));
    }
  }

  void begin_tensor() {
    if (field_.empty() || field_.size() > safetensors_name_bytes_max) {
      refuse(fmt::format("a tensor's name has {} bytes; 1 to {} are expected", field_.size(),
                         safetensors_name_bytes_max));
    }
    if (header_.tensors.size() == safetensors_tensors_max) {
      refuse(fmt::format("there are more than {} tensors", safetensors_tensors_max));
    }
    header_.tensors.push_back({.name = field_});
    offsets_.clear();
    seen_.clear();
    place_ = Place::tensor;
  }

  void begin_field() {
    if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets") {
      refuse_tensor(
          fmt::format("{} is none of dtype, shape and data_offsets", quoted_name(field_)));
    }
    if (!seen_.insert(field_).second) refuse_tensor(fmt::format("'{}' stands there twice", field_));
  }

  void end_tensor() {
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
      if (!seen_.contains(field)) refuse_tensor(fmt::format("'{}' is missing", field));
    }
    if (offsets_.size() != 2) {
      refuse_tensor(
          fmt::format("'data_offsets' has {} numbers; two are expected", offsets_.size()));
    }
    header_.tensors.back().begin = offsets_[0];
    header_.tensors.back().end = offsets_[1];
  }

  const std::string& source_;
  SafetensorsHeader header_;
  Place place_ = Place::outside;
  std::string field_;  // the last key
  std::vector<uint64_t> offsets_;
  std::set<std::string, std::less<>> seen_;   // fields of this tensor
  std::set<std::string, std::less<>> names_;  // keys of the header
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& source) {
  HeaderReader reader(source);
  nlohmann::json::sax_parse(json, &reader);
  return reader.take();
}

}  // namespace ridge::format
