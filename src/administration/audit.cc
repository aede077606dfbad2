#include <limits>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/records_json.h"
#include "api/url_query.h"

namespace ridge::administration {

Answer read_audit(const Call& call) {
  constexpr int64_t usual = 100, most = 1'000;
  const auto limit =
      static_cast<int>(api::query_number(call.query, "limit", 1, most).value_or(usual));
  const auto before =
      api::query_number(call.query, "before", 1, std::numeric_limits<int64_t>::max());
  Json data = Json::array();
  for (const auto& event : call.identity.audit_events(limit, before))
    data.push_back(json_of(event));
  return list_answer(std::move(data));
}

}  // namespace ridge::administration
