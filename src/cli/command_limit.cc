#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <map>
#include <memory>

#include "base/error.h"
#include "cli/admin_client.h"
#include "cli/commands.h"
#include "platform/metering/limits.h"

namespace ridge::cli {
namespace {

using api::Json;
using api::or_null;
using platform::LimitKind;

struct LimitOptions {
  AdminChoice admin;
  std::string project, key, user, model;
  std::map<LimitKind, std::string> values;
};

struct PriceOptions {
  AdminChoice admin;
  std::string model;
  double prompt = 0, completion = 0;
  std::optional<double> cached;
  int64_t free_tokens = 0;
};

bool is_money(LimitKind kind) { return kind == LimitKind::micros_per_month; }

// "--tokens-per-day"
std::string option_of(LimitKind kind) {
  std::string option = "--" + std::string(platform::name(kind));
  if (is_money(kind)) option = "--money-per-month";
  for (char& c : option) c = c == '_' ? '-' : c;
  return option;
}

// "none", or a number; for money one of the currency.
std::optional<int64_t> value_of(LimitKind kind, const std::string& text) {
  if (text == "none") return std::nullopt;
  const char* end = text.data() + text.size();
  if (is_money(kind)) {
    double money = 0;
    const auto [rest, failure] = std::from_chars(text.data(), end, money);
    if (failure == std::errc() && rest == end && money >= 0 && money <= 1e9) {
      return std::llround(money * 1e6);
    }
  } else {
    int64_t number = 0;
    const auto [rest, failure] = std::from_chars(text.data(), end, number);
    if (failure == std::errc() && rest == end && number >= 0) return number;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is '{}'; it must be a number, or none", option_of(kind), text));
}

std::string value_text(LimitKind kind, int64_t most) {
  return is_money(kind) ? fmt::format("{:g}", static_cast<double>(most) / 1e6)
                        : std::to_string(most);
}

void set(Context& context, const LimitOptions& options) {
  std::map<LimitKind, std::optional<int64_t>> values;
  for (const auto& [kind, text] : options.values) {
    if (!text.empty()) values[kind] = value_of(kind, text);
  }
  if (values.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "no limit is named; 'ridge limit set --help' shows which there are");
  }
  AdminClient client(context, options.admin);
  for (const auto& [kind, most] : values) {
    client.ask("PUT", "/api/v1/limits",
               {.body = {{"project", or_null(options.project)},
                         {"key", or_null(options.key)},
                         {"user", or_null(options.user)},
                         {"model", or_null(options.model)},
                         {"kind", platform::name(kind)},
                         {"most", most ? Json(*most) : Json(nullptr)}}});
  }
  if (context.json) context.print(Json({{"set", values.size()}}).dump());
}

void list(Context& context, const LimitOptions& options) {
  const Json limits = AdminClient(context, options.admin).ask("GET", "/api/v1/limits")["data"];
  if (context.json) return context.print(Json({{"limits", limits}}).dump(2));
  if (limits.empty()) return context.note("No limits. Set one with: ridge limit set --help");
  Table table({{"PROJECT"}, {"KEY"}, {"USER"}, {"MODEL"}, {"LIMIT"}, {"VALUE", Alignment::right}});
  const auto or_all = [](const std::string& text) {
    return text.empty() ? std::string("(all)") : printable(text);
  };
  for (const Json& limit : limits) {
    const auto kind = platform::limit_kind_named(text_of(limit, "kind"));
    if (!kind) continue;  // of a newer server
    table.add_row({or_all(text_of(limit, "project")), or_all(text_of(limit, "key")),
                   or_all(text_of(limit, "user")), or_all(text_of(limit, "model")), option_of(*kind).substr(2),
                   value_text(*kind, number_of(limit, "most"))});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

void set_price(Context& context, const PriceOptions& options) {
  Json price = {
      {"model", options.model}, {"prompt", options.prompt}, {"completion", options.completion}};
  if (options.cached) price["cached"] = *options.cached;
  if (options.free_tokens > 0) price["free_tokens_per_month"] = options.free_tokens;
  const Json answer =
      AdminClient(context, options.admin).ask("PUT", "/api/v1/prices", {.body = price});
  if (context.json) context.print(answer.dump());
}

void remove_price(Context& context, const PriceOptions& options) {
  const Json answer =
      AdminClient(context, options.admin)
          .ask("PUT", "/api/v1/prices", {.body = {{"model", options.model}, {"price", nullptr}}});
  if (context.json) context.print(answer.dump());
}

void list_prices(Context& context, const PriceOptions& options) {
  const Json prices = AdminClient(context, options.admin).ask("GET", "/api/v1/prices")["data"];
  if (context.json) return context.print(Json({{"prices", prices}}).dump(2));
  if (prices.empty()) return context.note("No prices. Set one with: ridge price set MODEL --help");
  Table table({{"MODEL"},
               {"PROMPT", Alignment::right},
               {"CACHED", Alignment::right},
               {"COMPLETION", Alignment::right},
               {"FREE A MONTH", Alignment::right}});
  for (const Json& price : prices) {
    table.add_row({printable(text_of(price, "model")), text_of(price, "prompt"),
                   text_of(price, "cached"), text_of(price, "completion"),
                   std::to_string(number_of(price, "free_tokens_per_month"))});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace

void add_limit_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("limit", "Limit what projects and keys may use");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "Prompt and longest answer are reserved when a request begins; what was not used comes back "
      "when it ends.\n"
      "\n"
      "  ridge limit set --requests-per-minute 600                          everybody together\n"
      "  ridge limit set --project search --tokens-per-day 2000000          a project\n"
      "  ridge limit set --project search --key ci --concurrent-requests 4  one of its keys\n"
      "  ridge limit set --user ann --tokens-per-day 100000                 a person, over all keys\n"
      "  ridge limit set --project search --model deepseek-r1:7b --money-per-month 50\n"
      "  ridge limit set --project search --tokens-per-day none             no longer");
  auto options = std::make_shared<LimitOptions>();
  CLI::App* sets = command->add_subcommand("set", "Set limits, or take them away with 'none'");
  sets->add_option("--project", options->project, "For this project; else for everybody");
  sets->add_option("--key", options->key, "For this key of it, by name or id");
  sets->add_option("--user", options->user, "For this user, over all keys and sessions")
      ->excludes("--project")
      ->excludes("--key");
  sets->add_option("--model", options->model, "For this model; else for all together");
  for (const LimitKind kind : platform::limit_kinds) {
    sets->add_option(
            option_of(kind), options->values[kind],
            is_money(kind) ? "By the price list (ridge price); UTC's months" : "At most so many")
        ->type_name("N|none");
  }
  add_admin_options(*sets, options->admin);
  sets->callback([&context, options] { set(context, *options); });
  CLI::App* lists = command->add_subcommand("list", "Show the limits");
  add_admin_options(*lists, options->admin);
  lists->callback([&context, options] { list(context, *options); });
}

void add_price_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("price", "What tokens cost, for budgets and usage figures");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "In the operator's own currency, for a million tokens. A change counts for requests that "
      "begin after it.\n"
      "\n"
      "  ridge price set deepseek-r1:7b --prompt 0.2 --cached 0.05 --completion 0.8\n"
      "  ridge price set deepseek-r1:7b --prompt 0.2 --completion 0.8 --free-tokens 1000000\n"
      "  ridge price set '*' --prompt 1 --completion 2                models without a price");
  auto options = std::make_shared<PriceOptions>();
  const auto add = [&](const char* name, const char* description,
                       void (*action)(Context&, const PriceOptions&)) {
    return add_admin_action(*command, context, options, name, description, action);
  };
  CLI::App* sets = add("set", "Set the price of a model's tokens", set_price);
  sets->add_option("NAME", options->model, "As clients name it; '*' for those without a price")
      ->required();
  sets->add_option("--prompt", options->prompt, "Of prompt tokens")->required();
  sets->add_option("--cached", options->cached,
                   "Of prompt tokens that were computed before (as --prompt)");
  sets->add_option("--completion", options->completion, "Of the answer's tokens")->required();
  sets->add_option("--free-tokens", options->free_tokens,
                   "So many of each model cost nothing, for each project and month")
      ->check(CLI::Range(int64_t{0}, platform::Limits::largest_limit))
      ->type_name("N");
  CLI::App* removes = add("remove", "Take the price of a model away", remove_price);
  removes->add_option("NAME", options->model, "As clients name it, or '*'")->required();
  add("list", "Show the prices", list_prices);
}

}  // namespace ridge::cli
