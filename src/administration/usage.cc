#include "platform/metering/usage.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/records_json.h"
#include "api/url_query.h"
#include "base/error.h"

namespace ridge::administration {
namespace {

using platform::UsageBy;

constexpr int64_t ms_of_day = 24 * 3600 * 1000;

// The day that a parameter names; nullopt where it is not there.
std::optional<int64_t> day_of(std::string_view query, const std::string& name) {
  const auto text = api::query_value(query, name);
  if (!text || text->empty()) return std::nullopt;
  const auto day = day_ms(*text);
  if (!day) {
    api::refuse(name, fmt::format("'{}' is '{}'; it must be a day, as 2026-11-28", name,
                                  text->substr(0, 100)));
  }
  return day;
}

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

// The project whose usage is asked for; "" is all, for admins. Others see what the project that
// they act for has used.
std::string project_of(const Call& call) {
  const Caller& caller = call.caller;
  const bool sees_all = caller.is_at_least(platform::Role::admin);
  const std::string wanted = api::query_value(call.query, "project").value_or("");
  if (wanted.empty()) return sees_all ? "" : caller.project_name;
  const auto projects = call.identity.projects();
  const bool is_there =
      std::ranges::find(projects, wanted, &platform::Project::name) != projects.end();
  if (is_there && (sees_all || wanted == caller.project_name)) return wanted;
  throw Error(
      ErrorCode::not_found,
      fmt::format(
          "there is no project '{}' of yours; x-ridge-project names the one that you act for",
          wanted.substr(0, most_shown_bytes)),
      "project");
}

}  // namespace

std::optional<int64_t> day_ms(std::string_view text) {
  int year = 0, month = 0, day = 0, length = 0;
  const bool has_digits =
      text.find_first_not_of("0123456789-") == text.npos && !text.starts_with('-');
  const bool is_form =
      has_digits && text.size() == 10 &&
      std::sscanf(std::string(text).c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &length) == 3 &&
      length == 10;
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!is_form || !date.ok()) return std::nullopt;
  const auto time = std::chrono::sys_days(date).time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

Answer read_usage(const Call& call) {
  platform::UsageQuery query{.by = by_of(call.query), .project = project_of(call)};
  if (const auto from = day_of(call.query, "from")) query.from_ms = *from;
  if (const auto last = day_of(call.query, "to")) query.until_ms = *last + ms_of_day;
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

Answer forget_usage(const Call& call) {
  const auto before = day_of(call.query, "before");
  if (!before) api::refuse("before", "'before' is missing: the day that is the first to be kept");
  const int64_t records = platform::forget_usage(call.database, *before, call.caller.actor);
  return json_answer({{"forgotten", records}});
}

}  // namespace ridge::administration
