#include <fmt/format.h>

#include <cctype>
#include <memory>

#include "administration/records_json.h"
#include "cli/admin_client.h"
#include "cli/commands.h"

namespace ridge::cli {
namespace {

using api::Json;

struct UsageOptions {
  AdminChoice admin;
  std::vector<std::string> by = {"project", "key", "model"};
  std::string from, to, project, before;
  std::string key, model;  // of records
  bool records = false;
  bool csv = false;
};

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

void print_table(const Context& context, const Json& rows, const std::vector<std::string>& by) {
  std::vector<Table::Column> columns;
  for (std::string title : by) {
    for (char& c : title) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    columns.push_back({title});
  }
  for (const char* title :
       {"REQUESTS", "FAILED", "PROMPT", "CACHED", "COMPLETION", "TOTAL", "COST"}) {
    columns.push_back({title, Alignment::right});
  }
  Table table(columns);
  for (const Json& row : rows) {
    std::vector<std::string> cells;
    for (const std::string& each : by) cells.push_back(printable(text_of(row, each.c_str())));
    for (const char* number : {"requests", "failures", "prompt_tokens", "cached_tokens",
                               "completion_tokens", "total_tokens"}) {
      cells.push_back(text_of(row, number));
    }
    cells.push_back(fmt::format("{:.4f}", row.value("cost", 0.0)));
    table.add_row(cells);
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

void show(Context& context, const UsageOptions& options) {
  AdminClient client(context, options.admin);
  const bool wants_csv = options.csv && !context.json;
  std::string text = client.ask_text("GET", "/api/v1/usage",
                                     {.query = {{"by", joined(options.by)},
                                                {"from", options.from},
                                                {"to", options.to},
                                                {"project", options.project},
                                                {"format", wants_csv ? "csv" : "json"}}});
  if (wants_csv) {
    if (text.ends_with('\n')) text.pop_back();
    return context.print(text);
  }
  const Json body = Json::parse(text);
  if (context.json) {
    context.print(body.dump(2));
  } else if (body["rows"].empty()) {
    context.note("Nothing was used yet by anyone with a key.");
  } else {
    print_table(context, body["rows"], options.by);
  }
}

void print_record_table(const Context& context, const Json& records) {
  Table table({{"TIME"},
               {"PROJECT"},
               {"KEY"},
               {"MODEL"},
               {"ENDPOINT"},
               {"PROMPT", Alignment::right},
               {"CACHED", Alignment::right},
               {"COMPLETION", Alignment::right},
               {"REASONING", Alignment::right},
               {"TTFT", Alignment::right},
               {"DURATION", Alignment::right},
               {"END"},
               {"COST", Alignment::right}});
  for (const Json& record : records) {
    std::vector<std::string> cells;
    for (const char* text : {"time", "project", "key", "model", "endpoint"}) {
      cells.push_back(printable(text_of(record, text)));
    }
    for (const char* number :
         {"prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"}) {
      cells.push_back(text_of(record, number));
    }
    for (const char* duration : {"ttft_ms", "duration_ms"}) {
      cells.push_back(fmt::format("{:.0f} ms", record.value(duration, 0.0)));
    }
    cells.push_back(printable(text_of(record, "finish_reason")));
    cells.push_back(fmt::format("{:.6f}", record.value("cost", 0.0)));
    table.add_row(cells);
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

// A page at a time, however many there are.
void show_records(Context& context, const UsageOptions& options) {
  AdminClient client(context, options.admin);
  const bool wants_csv = options.csv && !context.json;
  AdminRequest request{.query = {{"from", options.from},
                                 {"to", options.to},
                                 {"project", options.project},
                                 {"key", options.key},
                                 {"model", options.model},
                                 {"after", ""}}};
  std::size_t shown = 0;
  for (bool is_first = true, has_more = true; has_more; is_first = false) {
    const Json page = client.ask("GET", "/api/v1/usage/records", request);
    // Not before: where it is refused, the error stands alone.
    if (is_first && context.json) context.print("{\"records\": [");
    if (is_first && wants_csv) fmt::print("{}", administration::usage_record_titles());
    const Json& records = page.at("data");
    has_more = page.value("has_more", false) && !records.empty();
    if (has_more) request.query.back().second = records.back().value("id", "");
    if (wants_csv) {
      fmt::print("{}", administration::usage_record_lines(records));
    } else if (context.json) {
      for (const Json& record : records) {
        fmt::print("{}{}", shown++ == 0 ? "" : ",\n", record.dump());
      }
    } else if (records.empty()) {
      context.note("There are no such records.");
    } else {
      print_record_table(context, records);
    }
  }
  if (context.json) context.print("\n]}");
}

void forget(Context& context, const UsageOptions& options) {
  const Json answer = AdminClient(context, options.admin)
                          .ask("DELETE", "/api/v1/usage", {.query = {{"before", options.before}}});
  if (context.json) return context.print(answer.dump());
  context.note(fmt::format("{} records are forgotten", text_of(answer, "forgotten")));
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
      "  ridge usage --records --from 2026-11-01 --key ci --csv > records.csv      each request\n"
      "  ridge usage forget 2026-01-01      the records before that day");
  auto options = std::make_shared<UsageOptions>();
  add_admin_options(*command, options->admin);
  CLI::Option* by =
      command
          ->add_option("--by", options->by,
                       "Any of day, project, key, model, endpoint (the path), custom_endpoint, "
                       "endpoint_version, finish_reason")
          ->delimiter(',')
          ->allow_extra_args(false);
  command->add_option("--from", options->from, "The first day")->type_name("DATE");
  command->add_option("--to", options->to, "The last day")->type_name("DATE");
  command->add_option("--project", options->project, "Of this project alone");
  CLI::Option* records =
      command->add_flag("--records", options->records, "Each request by itself, in order of time")
          ->excludes(by);
  command->add_option("--key", options->key, "With --records: of this key, by name or id")
      ->needs(records);
  command->add_option("--model", options->model, "With --records: of this model")->needs(records);
  command->add_flag("--csv", options->csv, "For a spreadsheet");
  CLI::App* forgets = command->add_subcommand("forget", "Remove old records");
  forgets->add_option("DATE", options->before, "What is older than this day")->required();
  add_admin_options(*forgets, options->admin);
  forgets->callback([&context, options] { forget(context, *options); });
  command->callback([&context, options, forgets] {
    if (forgets->parsed()) return;
    options->records ? show_records(context, *options) : show(context, *options);
  });
}

}  // namespace ridge::cli
