#include "administration/fields.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "api/url_query.h"

namespace ridge::administration {
namespace {

constexpr std::size_t most_text_bytes = 1000;

// "2026-11-28" as that day's beginning in UTC; nullopt where it is no day.
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

std::optional<platform::ProjectRole> project_role_field(const api::Fields& fields,
                                                        std::string_view member) {
  const auto text = fields.string(member, most_text_bytes);
  if (!text) return std::nullopt;
  const auto role = platform::project_role_named(*text);
  if (!role) refuse_choice(fields.path_of(member), *text, platform::project_role_names());
  return role;
}

std::optional<int64_t> first_day(std::string_view query, const std::string& name) {
  const auto text = api::query_value(query, name);
  if (!text || text->empty()) return std::nullopt;
  const auto day = day_ms(*text);
  if (!day) {
    api::refuse(name, fmt::format("'{}' is '{}'; it must be a day, as 2026-11-28", name,
                                  text->substr(0, most_shown_bytes)));
  }
  return day;
}

std::optional<int64_t> end_of_day(std::string_view query, const std::string& name) {
  constexpr int64_t ms_of_day = 24 * 3600 * 1000;
  const auto day = first_day(query, name);
  return day ? std::optional(*day + ms_of_day) : std::nullopt;
}

std::string asked_project(const Call& call) {
  const Caller& caller = call.caller;
  const bool sees_all = caller.is_at_least(platform::Role::admin);
  const std::string wanted = api::query_value(call.query, "project").value_or("");
  if (wanted.empty()) return sees_all ? "" : caller.project_name;
  const bool is_there =
      sees_all ? call.identity.has_had_project(wanted) : wanted == caller.project_name;
  if (is_there) return wanted;
  throw Error(
      ErrorCode::not_found,
      fmt::format(
          "there is no project '{}' of yours; x-ridge-project names the one that you act for",
          wanted.substr(0, most_shown_bytes)),
      "project");
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
