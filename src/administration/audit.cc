#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/records_json.h"
#include "api/url_query.h"

namespace ridge::administration {
namespace {

constexpr int64_t usual = 100, most = 1'000;

constexpr std::size_t most_characters = 100, most_bytes_of_character = 4;

std::size_t characters_in(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::ranges::count_if(utf8, [](char c) { return (c & 0xc0) != 0x80; }));
}

// What databases take for a text; empty where the parameter is not there.
std::string text_of(std::string_view query, const std::string& name) {
  std::string text = api::query_value(query, name).value_or("");
  const bool is_good =
      platform::Identity::is_name(text, most_characters * most_bytes_of_character) &&
      characters_in(text) <= most_characters;
  if (text.empty() || is_good) return text;
  api::refuse(name,
              fmt::format("'{}' must be at most {} characters of UTF-8, none of them a control "
                          "character, and without a space at either end",
                          name, most_characters));
}

}  // namespace

Answer read_audit(const Call& call) {
  const platform::AuditQuery query{
      .most = static_cast<int>(api::query_number(call.query, "limit", 1, most).value_or(usual)),
      .before =
          api::query_number(call.query, "before", 1, std::numeric_limits<int64_t>::max()),
      .text = text_of(call.query, "q"),
      .action = text_of(call.query, "action"),
      .from_ms = first_day(call.query, "from"),
      .until_ms = end_of_day(call.query, "to")};
  Json data = Json::array();
  for (const auto& event : call.identity.audit_events(query)) data.push_back(json_of(event));
  return list_answer(std::move(data));
}

}  // namespace ridge::administration
