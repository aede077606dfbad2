// Reads data/published.toml, whose head documents its form.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "planner/built_in_data.h"
#include "planner/published.h"
#include "toml/toml_reader.h"

namespace ridge::planner {
namespace {

constexpr double most_figure = 1e9;

template <typename Value>
Value choose(const TomlReader& reader, std::string_view key,
             std::initializer_list<std::pair<std::string_view, Value>> choices) {
  const std::string word = reader.text(key);
  std::string known;
  for (const auto& [text, value] : choices) {
    if (text == word) return value;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", text);
  }
  reader.refuse(fmt::format("'{}' is '{}'; {} are known", key, word, known));
}

void read_conditions(const TomlReader& reader, PublishedRow& row) {
  using enum PublishedRow::Phase;
  using enum PublishedRow::Unit;
  row.phase = choose<PublishedRow::Phase>(
      reader, "phase", {{"prefill", prefill}, {"decode", decode}, {"mixed", mixed}});
  row.unit = choose<PublishedRow::Unit>(reader, "unit",
                                        {{"input", input}, {"output", output}, {"total", total}});
  row.tokens_per_second = reader.number("tokens_per_second", 1e-3, most_figure);
  row.model = reader.text("model");
  row.weights = reader.text("weights");
  row.cache = reader.text_or("cache", "bf16");
  row.device = reader.text("device");
  row.devices = reader.integer("devices", 1, 1 << 16);
  row.tensor_parallel = reader.integer_or("tensor_parallel", 1, 1, 1 << 16);
  row.spreads_experts = reader.flag_or("spreads_experts", true);
  row.shared_apart = reader.flag_or("shared_apart", false);
  row.sends_directly = reader.flag_or("sends_directly", false);
  row.overlaps_transfers = reader.flag_or("overlaps_transfers", true);
  row.prompt_tokens = reader.number("prompt_tokens", 1, most_figure);
  row.cached_share = reader.number_or("cached_share", 0, 0, 0.999);
  row.prefill_batch_tokens = reader.number_or("prefill_batch_tokens", 16384, 1, most_figure);
  row.output_tokens = reader.number_or("output_tokens", 0, 0, most_figure);
  row.speculation = {.drafts = reader.integer_or("drafts", 0, 0, 16),
                     .accepted = reader.number_or("accepted", 1, 1, 17)};
  if (row.phase != prefill) row.batch = reader.number("batch", 1e-3, most_figure);
  if (row.phase == mixed && row.output_tokens < 1) reader.refuse("'output_tokens' is missing");
  const bool is_right_unit = row.phase == prefill  ? row.unit == input
                             : row.phase == decode ? row.unit == output
                                                   : row.unit != input;
  if (!is_right_unit) reader.refuse("'unit' does not fit 'phase'");
}

PublishedRow read_row(TomlReader& reader) {
  PublishedRow row;
  row.name = reader.text("name");
  reader.call("row " + row.name);
  reader.allow_only({"name",
                     "stack",
                     "reported",
                     "source",
                     "assumed",
                     "unusable",
                     "miss",
                     "fitted",
                     "phase",
                     "unit",
                     "tokens_per_second",
                     "model",
                     "weights",
                     "cache",
                     "device",
                     "devices",
                     "tensor_parallel",
                     "spreads_experts",
                     "shared_apart",
                     "sends_directly",
                     "overlaps_transfers",
                     "batch",
                     "prompt_tokens",
                     "output_tokens",
                     "cached_share",
                     "prefill_batch_tokens",
                     "drafts",
                     "accepted"});
  row.stack = reader.text("stack");
  row.reported = reader.text("reported");
  row.source = reader.text("source");
  row.assumed = reader.text_or("assumed", "");
  row.unusable = reader.text_or("unusable", "");
  row.miss = reader.text_or("miss", "");
  row.is_fitted = reader.flag_or("fitted", false);
  if (row.unusable.empty()) read_conditions(reader, row);
  return row;
}

void check_fits(const PublishedTable& table, std::string_view source) {
  for (const Stack& stack : table.stacks) {
    const auto count = [&](auto wanted) {
      return std::count_if(table.rows.begin(), table.rows.end(), [&](const PublishedRow& row) {
        return row.stack == stack.name && row.unusable.empty() && wanted(row);
      });
    };
    const auto usable = count([](const PublishedRow&) { return true; });
    const auto fitted = count([](const PublishedRow& row) { return row.is_fitted; });
    if (usable > 0 && fitted != 1) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: stack {} has {} fitted rows; exactly one is expected", source,
                              stack.name, fitted));
    }
  }
}

}  // namespace

PublishedTable PublishedTable::built_in() {
  return parse(built_in_published(), "data/published.toml");
}

PublishedTable PublishedTable::parse(std::string_view text, std::string_view source) {
  const toml::table file = parse_toml(text, source);
  const TomlReader reader(file, std::string(source), "file");
  reader.allow_only({"stack", "row"});
  PublishedTable table;
  reader.tables("stack", [&](TomlReader stack) {
    stack.allow_only({"name", "title"});
    table.stacks.push_back({.name = stack.text("name"), .title = stack.text("title")});
  });
  reader.tables("row", [&](TomlReader row) {
    table.rows.push_back(read_row(row));
    table.stack(table.rows.back().stack);
  });
  check_fits(table, source);
  return table;
}

const Stack& PublishedTable::stack(std::string_view name) const {
  std::string known;
  for (const Stack& stack : stacks) {
    if (stack.name == name) return stack;
    known += (known.empty() ? "" : ", ") + stack.name;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("stack '{}' is not known; there are {}", name, known));
}

}  // namespace ridge::planner
