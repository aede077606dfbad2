#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/records_json.h"
#include "api/url_query.h"

namespace ridge::administration {
namespace {

constexpr int64_t usual = 100, most = 1'000;

// What databases take for a text; empty where the parameter is not there.
std::string text_of(std::string_view query, const std::string& name) {
  std::string text = api::query_value(query, name).value_or("");
  if (text.empty() || platform::Identity::is_name(text)) return text;
  api::refuse(name, fmt::format("'{}' must be at most 100 bytes of UTF-8 without control "
                                "characters, and without a space at either end",
                                name));
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
