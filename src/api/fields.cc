#include "api/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::api {
namespace {

constexpr std::size_t quoted_bytes = 40;

bool is_whole(const Json& value) {
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return number == std::floor(number) && std::abs(number) < 9.0e15;
}

int64_t to_integer(const Json& value) {
  if (value.is_number_float()) return static_cast<int64_t>(value.get<double>());
  return value.get<int64_t>();
}

bool fits_int64(const Json& value) {
  return !value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
}

}  // namespace

std::string describe(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case Json::value_t::array:
      return fmt::format("an array of {}", value.size());
    case Json::value_t::object:
      return "an object";
    case Json::value_t::string: {
      const auto& text = value.get_ref<const std::string&>();
      if (text.size() > quoted_bytes) return fmt::format("a string of {} bytes", text.size());
      return fmt::format("the string \"{}\"", text);
    }
    default:
      return to_text(value);
  }
}

void refuse_field(const std::string& path, const Json& value, std::string_view wanted) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("'{}' is {}; it must be {}", path, describe(value), wanted), path);
}

void refuse(const std::string& path, const std::string& message) {
  throw Error(ErrorCode::invalid_argument, message, path);
}

void refuse_missing(const std::string& path) { refuse(path, fmt::format("'{}' is missing", path)); }

void refuse_unsupported(const std::string& path, std::string_view message) {
  throw Error(ErrorCode::unsupported, fmt::format("'{}': {}", path, message), path);
}

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (object_.is_object()) return;
  if (path_.empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the body is {}; it must be a JSON object", describe(object_)));
  }
  refuse_field(path_, object_, "an object");
}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const Json* Fields::find(std::string_view name) const {
  for (const auto& [key, value] : object_.get_ref<const Json::object_t&>()) {
    if (key == name) return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

std::optional<bool> Fields::boolean(std::string_view name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse_field(path_of(name), *value, "true or false");
  return value->get<bool>();
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t low, int64_t high) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!is_whole(*value) || !fits_int64(*value) || to_integer(*value) < low ||
      to_integer(*value) > high) {
    refuse_field(path_of(name), *value, fmt::format("a whole number from {} to {}", low, high));
  }
  return to_integer(*value);
}

std::optional<double> Fields::number(std::string_view name, double low, double high,
                                     bool open_low) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  const bool inside = (open_low ? number > low : number >= low) && number <= high;
  if (!inside) {
    refuse_field(path_of(name), *value,
                 fmt::format("a number {} {} and at most {}", open_low ? "above" : "of at least",
                             low, high));
  }
  return number;
}

std::optional<std::string> Fields::string(std::string_view name, std::size_t max_bytes) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string() || value->get_ref<const std::string&>().size() > max_bytes) {
    refuse_field(path_of(name), *value, fmt::format("a string of at most {} bytes", max_bytes));
  }
  return value->get<std::string>();
}

std::string Fields::required_string(std::string_view name, std::size_t max_bytes) const {
  const auto text = string(name, max_bytes);
  if (!text) refuse_missing(path_of(name));
  return *text;
}

std::optional<Fields> Fields::object(std::string_view name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  return Fields(*value, path_of(name));
}

const Json* Fields::array(std::string_view name, std::size_t max_size) const {
  const Json* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array() || value->size() > max_size) {
    refuse_field(path_of(name), *value, fmt::format("an array of at most {} elements", max_size));
  }
  return value;
}

}  // namespace ridge::api
