#include <fmt/format.h>

#include <cctype>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/identity_access.h"
#include "platform/metering/usage.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;
using platform::UsageBy;

struct UsageOptions {
  DatabaseChoice database;
  std::vector<std::string> by = {"project", "key", "model"};
  std::string from, until, before;
  bool csv = false;
};

// Midnight in UTC. Throws invalid_argument that names `option`.
int64_t date_ms(const std::string& text, std::string_view option) {
  int year = 0, month = 0, day = 0, length = 0;
  const bool is_form =
      text.size() == 10 &&
      std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &length) == 3 && length == 10;
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (is_form && date.ok()) {
    const auto time = std::chrono::sys_days(date).time_since_epoch();
    return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is '{}'; it must be a day, as 2026-11-28", option, text));
}

std::vector<UsageBy> wanted_by(const UsageOptions& options) {
  std::vector<UsageBy> by;
  for (const std::string& word : options.by) {
    const auto known = platform::usage_by_named(word);
    if (!known) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--by: '{}' is none of day, project, key, model, endpoint", word));
    }
    by.push_back(*known);
  }
  return by;
}

const std::string& text_of(const platform::UsageRow& row, UsageBy by) {
  switch (by) {
    case UsageBy::day:
      return row.day;
    case UsageBy::project:
      return row.project;
    case UsageBy::key:
      return row.key;
    case UsageBy::model:
      return row.model;
    case UsageBy::endpoint:
      break;
  }
  return row.endpoint;
}

Json json_of(const platform::UsageRow& row, const std::vector<UsageBy>& by) {
  Json json;
  for (const UsageBy each : by) json[std::string(platform::name(each))] = text_of(row, each);
  json.update({{"requests", row.requests},
               {"failures", row.failures},
               {"prompt_tokens", row.prompt_tokens},
               {"cached_tokens", row.cached_tokens},
               {"completion_tokens", row.completion_tokens},
               {"reasoning_tokens", row.reasoning_tokens},
               {"total_tokens", row.prompt_tokens + row.completion_tokens},
               {"cost", static_cast<double>(row.micros) / 1e6},
               {"mean_ttft_ms", row.ttft_ms}});
  return json;
}

// Names are an operator's own, but spreadsheets run what begins like a formula.
std::string csv_field(const Json& value) {
  if (!value.is_string()) return value.dump();
  std::string text = value.get<std::string>();
  if (!text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos) {
    text.insert(0, "'");
  }
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

void print_csv(Context& context, const std::vector<platform::UsageRow>& rows,
               const std::vector<UsageBy>& by) {
  std::string line;
  const Json titles = json_of({}, by);
  for (const auto& [name, value] : titles.items()) line += (line.empty() ? "" : ",") + name;
  context.print(line);
  for (const platform::UsageRow& row : rows) {
    line.clear();
    bool is_first = true;
    for (const Json& value : json_of(row, by)) {
      line += (std::exchange(is_first, false) ? "" : ",") + csv_field(value);
    }
    context.print(line);
  }
}

void print_table(const Context& context, const std::vector<platform::UsageRow>& rows,
                 const std::vector<UsageBy>& by) {
  std::vector<Table::Column> columns;
  for (const UsageBy each : by) {
    std::string title(platform::name(each));
    for (char& c : title) c = static_cast<char>(std::toupper(c));
    columns.push_back({title});
  }
  for (const char* title :
       {"REQUESTS", "FAILED", "PROMPT", "CACHED", "COMPLETION", "TOTAL", "COST"}) {
    columns.push_back({title, Alignment::right});
  }
  Table table(columns);
  for (const platform::UsageRow& row : rows) {
    std::vector<std::string> cells;
    for (const UsageBy each : by) cells.push_back(printable(text_of(row, each)));
    for (const int64_t number :
         {row.requests, row.failures, row.prompt_tokens, row.cached_tokens, row.completion_tokens,
          row.prompt_tokens + row.completion_tokens}) {
      cells.push_back(std::to_string(number));
    }
    cells.push_back(fmt::format("{:.4f}", static_cast<double>(row.micros) / 1e6));
    table.add_row(cells);
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

void show(Context& context, const UsageOptions& options) {
  const std::vector<UsageBy> by = wanted_by(options);
  const int64_t from_ms = options.from.empty() ? 0 : date_ms(options.from, "--from");
  const int64_t until_ms = options.until.empty() ? std::numeric_limits<int64_t>::max()
                                                 : date_ms(options.until, "--until");
  IdentityAccess access(context, options.database);
  const auto rows = platform::usage(access.database, from_ms, until_ms, by);
  if (context.json) {
    Json body = {{"rows", Json::array()}};
    for (const platform::UsageRow& row : rows) body["rows"].push_back(json_of(row, by));
    context.print(body.dump(2));
  } else if (options.csv) {
    print_csv(context, rows, by);
  } else if (rows.empty()) {
    context.note("Nothing was used yet by anyone with a key.");
  } else {
    print_table(context, rows, by);
  }
}

void forget(Context& context, const UsageOptions& options) {
  IdentityAccess access(context, options.database);
  const int64_t records =
      platform::forget_usage(access.database, date_ms(options.before, "DATE"), acting_user());
  if (context.json) return context.print(Json({{"forgotten", records}}).dump());
  context.note(fmt::format("{} records are forgotten", records));
}

}  // namespace

void add_usage_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("usage", "Show what was used, by whom and at what price");
  command->group(team_group);
  command->require_subcommand(0, 1);
  command->footer(
      "Requests that have ended and came with a key, by the time at which they were admitted; days "
      "are UTC's.\n"
      "\n"
      "  ridge usage --by day,model --from 2026-11-01\n"
      "  ridge usage --by key --csv > usage.csv\n"
      "  ridge usage forget 2026-01-01      the records before that day");
  auto options = std::make_shared<UsageOptions>();
  add_database_options(*command, options->database);
  command->add_option("--by", options->by, "Any of day, project, key, model, endpoint")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--from", options->from, "The first day")->type_name("DATE");
  command->add_option("--until", options->until, "The day behind the last one")->type_name("DATE");
  command->add_flag("--csv", options->csv, "For a spreadsheet");
  CLI::App* forgets = command->add_subcommand("forget", "Remove old records");
  forgets->add_option("DATE", options->before, "What is older than this day")->required();
  add_database_options(*forgets, options->database);
  forgets->callback([&context, options] { forget(context, *options); });
  command->callback([&context, options, forgets] {
    if (!forgets->parsed()) show(context, *options);
  });
}

}  // namespace ridge::cli
