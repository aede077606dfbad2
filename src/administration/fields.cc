#include "administration/fields.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace ridge::administration {
namespace {

constexpr std::size_t most_text_bytes = 1000;

}  // namespace

std::optional<std::string> name_field(const api::Fields& fields, std::string_view member) {
  const auto name = fields.string(member, most_text_bytes);
  if (name && !platform::Identity::is_name(*name)) {
    api::refuse_field(fields.path_of(member), *fields.find(member),
                      "1 to 100 bytes without control characters, and with no space at either end");
  }
  return name;
}

std::string required_name(const api::Fields& fields, std::string_view member) {
  const auto name = name_field(fields, member);
  if (!name) api::refuse_missing(fields.path_of(member));
  return *name;
}

std::optional<std::vector<std::string>> strings_field(const api::Fields& fields,
                                                      std::string_view member, std::size_t most) {
  const Json* array = fields.array(member, most);
  if (array == nullptr) return std::nullopt;
  std::vector<std::string> texts;
  for (const Json& element : *array) {
    const std::string path = fmt::format("{}[{}]", fields.path_of(member), texts.size());
    if (!element.is_string() || element.get_ref<const std::string&>().size() > most_text_bytes) {
      api::refuse_field(path, element,
                        fmt::format("a string of at most {} bytes", most_text_bytes));
    }
    texts.push_back(element.get<std::string>());
  }
  return texts;
}

std::optional<platform::Role> role_field(const api::Fields& fields, std::string_view member) {
  const auto text = fields.string(member, most_text_bytes);
  if (!text) return std::nullopt;
  const auto role = platform::role_named(*text);
  if (!role) refuse_choice(fields.path_of(member), *text, platform::role_names());
  return role;
}

void refuse_choice(const std::string& member, std::string_view text, std::string_view names) {
  api::refuse(member, fmt::format("'{}' is '{}'; it must be one of {}", member, text.substr(0, 100),
                                  names));
}

Answer json_answer(const Json& document, int status) {
  return {.status = status, .body = api::to_text(document)};
}

Answer list_answer(Json items) { return json_answer({{"data", std::move(items)}}); }

}  // namespace ridge::administration
