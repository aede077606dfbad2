#include "platform/kept/kept_requests.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/pages.h"
#include "administration/records_json.h"
#include "api/url_query.h"
#include "base/error.h"

namespace ridge::administration {
namespace {

using platform::KeptQuery;
using platform::KeptRequests;

constexpr int64_t usual_outlines = 100, most_outlines = 1'000;
constexpr int64_t most_whole = 20;  // each up to 512 KiB

std::string value_of(std::string_view query, const std::string& name) {
  return api::query_value(query, name).value_or("");
}

// Whose requests may be read: admins read all, developers what programs and they themselves have
// asked for the project that they act for.
KeptQuery query_of(const Call& call) {
  KeptQuery query{.project = asked_project(call)};
  if (!call.caller.is_at_least(platform::Role::admin)) query.reader_id = call.caller.user_id;
  return query;
}

// 0 where none is meant.
int64_t number_of(const Call& call) {
  const std::string& id = call.argument;
  int64_t number = 0;
  const auto [end, failure] = std::from_chars(id.data(), id.data() + id.size(), number);
  const bool is_number = failure == std::errc() && end == id.data() + id.size();
  return is_number && number > 0 ? number : 0;
}

[[noreturn]] void refuse(const Call& call) {
  throw Error(ErrorCode::not_found,
              fmt::format("no request '{}' is kept that you may read; GET /api/v1/requests/kept "
                          "has their numbers",
                          call.argument.substr(0, most_shown_bytes)));
}

bool wants_content(std::string_view query) {
  const std::string text = value_of(query, "content");
  if (text.empty() || text == "false") return false;
  if (text != "true") refuse_choice("content", text, "true, false");
  return true;
}

}  // namespace

Answer list_kept_requests(const Call& call) {
  const std::string_view text = call.query;
  const bool is_whole = wants_content(text);
  const int64_t usual = is_whole ? most_whole : usual_outlines,
                most = is_whole ? most_whole : most_outlines;
  const Page page{.limit =
                      static_cast<int>(api::query_number(text, "limit", 1, most).value_or(usual))};
  KeptQuery query = query_of(call);
  query.key = value_of(text, "key");
  query.model = value_of(text, "model");
  query.request_id = value_of(text, "request");
  if (const auto from = first_day(text, "from")) query.from_ms = *from;
  if (const auto until = end_of_day(text, "to")) query.until_ms = *until;
  query.before = api::query_number(text, "before", 1, std::numeric_limits<int64_t>::max());
  KeptRequests kept(call.database);
  Json data = Json::array();
  if (is_whole) {
    query.most = page.limit;
    for (const auto& each : kept.read(query, call.caller.actor)) {
      query.before = each.number;
      data.push_back(json_of(each, KeptView::whole));
    }
    query.most = 1;
    const bool has_more = !data.empty() && !kept.list(query).empty();
    return json_answer({{"data", std::move(data)}, {"has_more", has_more}});
  }
  query.most = page.limit + 1;
  for (const auto& each : kept.list(query)) data.push_back(json_of(each, KeptView::outline));
  return page_answer(std::move(data), page);
}

Answer read_kept_request(const Call& call) {
  KeptQuery query = query_of(call);
  query.number = number_of(call);
  if (*query.number == 0) refuse(call);
  const auto found = KeptRequests(call.database).read(query, call.caller.actor);
  if (found.empty()) refuse(call);
  return json_answer(json_of(found.front(), KeptView::whole));
}

Answer remove_kept_request(const Call& call) {
  const int64_t number = number_of(call);
  if (number == 0 || !KeptRequests(call.database).remove(number, call.caller.actor)) refuse(call);
  return json_answer({{"number", number}, {"removed", true}});
}

}  // namespace ridge::administration
