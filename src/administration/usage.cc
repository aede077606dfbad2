#include "platform/metering/usage.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/pages.h"
#include "administration/records_json.h"
#include "api/url_query.h"
#include "base/error.h"

namespace ridge::administration {
namespace {

using platform::UsageBy;

std::vector<UsageBy> by_of(std::string_view query) {
  std::string rest = api::query_value(query, "by").value_or("project,key,model");
  std::vector<UsageBy> by;
  while (!rest.empty()) {
    const std::string word = rest.substr(0, rest.find(','));
    rest.erase(0, word.size() + 1);
    const auto known = platform::usage_by_named(word);
    if (!known) refuse_choice("by", word, platform::usage_by_names());
    if (std::ranges::find(by, *known) == by.end()) by.push_back(*known);
  }
  return by;
}

Json json_of_all(const std::vector<platform::UsageRecord>& records) {
  Json data = Json::array();
  for (const platform::UsageRecord& record : records) data.push_back(json_of(record));
  return data;
}

}  // namespace

Answer read_usage(const Call& call) {
  platform::UsageQuery query{.by = by_of(call.query), .project = asked_project(call)};
  if (const auto from = first_day(call.query, "from")) query.from_ms = *from;
  if (const auto until = end_of_day(call.query, "to")) query.until_ms = *until;
  const std::string format = api::query_value(call.query, "format").value_or("json");
  if (format != "json" && format != "csv") refuse_choice("format", format, "json, csv");
  const auto rows = platform::usage(call.database, query);
  if (format == "csv") {
    return {.body = usage_csv(rows, query.by), .content_type = "text/csv; charset=utf-8"};
  }
  Json body = {{"rows", Json::array()}};
  for (const platform::UsageRow& row : rows) body["rows"].push_back(json_of(row, query.by));
  return json_answer(body);
}

Answer read_usage_records(const Call& call) {
  const std::string format = api::query_value(call.query, "format").value_or("json");
  if (format != "json" && format != "csv") refuse_choice("format", format, "json, csv");
  const Page page = page_of(call.query);
  platform::UsageRecordQuery query{.project = asked_project(call),
                                   .key = api::query_value(call.query, "key").value_or(""),
                                   .model = api::query_value(call.query, "model").value_or(""),
                                   .after = page.after,
                                   .most = page.limit};
  if (const auto from = first_day(call.query, "from")) query.from_ms = *from;
  if (const auto until = end_of_day(call.query, "to")) query.until_ms = *until;
  if (format == "json") {
    ++query.most;
    return page_answer(json_of_all(platform::usage_records(call.database, query)), page);
  }
  // All of them where no page is asked for, however many these are: one page is held at a time.
  const bool is_whole = !api::query_value(call.query, "limit");
  auto next = [&database = call.database, query]() mutable {
    const auto records = platform::usage_records(database, query);
    if (!records.empty()) query.after = records.back().id;
    return usage_record_lines(json_of_all(records));
  };
  std::string body = usage_record_titles() + next();
  return {.body = std::move(body),
          .content_type = "text/csv; charset=utf-8",
          .more = is_whole ? std::function<std::string()>(std::move(next)) : nullptr};
}

Answer forget_usage(const Call& call) {
  const auto before = first_day(call.query, "before");
  if (!before) api::refuse("before", "'before' is missing: the day that is the first to be kept");
  const int64_t records = platform::forget_usage(call.database, *before, call.caller.actor);
  return json_answer({{"forgotten", records}});
}

}  // namespace ridge::administration
