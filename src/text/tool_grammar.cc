#include "text/tool_grammar.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/harmony.h"
#include "text/lark.h"
#include "text/tokenizer.h"
#include "text/xml_tool_grammar.h"

namespace ridge::text {
namespace {

using nlohmann::ordered_json;

// The crate textkit refuses what has more (MAX_SOURCE_BYTES).
constexpr std::size_t most_grammar_bytes = 256 << 10;

// A tag is one token where the vocabulary has it, which no text can spell then.
std::string tag(const Tokenizer& tokenizer, std::string_view text) {
  if (const auto id = tokenizer.find(text)) return fmt::format("<[{}]>", *id);
  return lark_literal(text);
}

// The start of a call that stands without tags, in whatever white space the model has begun it.
std::string bare_head(const std::string& name, std::string_view arguments) {
  constexpr std::string_view space = "[ \\n]{0,4}";
  return fmt::format(
      "/\\{{{0}(\"type\"{0}:{0}\"function\"{0},{0})?\"name\"{0}:{0}\"{1}\"{0},{0}\"{2}\"{0}:{0}/",
      space, for_regex(name), arguments);
}

std::string rule_of_call(ToolStyle style, const Tokenizer& tokenizer, const std::string& name,
                         const std::string& arguments) {
  const ToolTags& tags = tags_of(style);
  switch (style) {
    case ToolStyle::hermes:
      return fmt::format("{} NL? {} @{} \"}}\" NL? {}", tag(tokenizer, tags.call_open),
                         lark_literal(fmt::format("{{\"name\": \"{}\", \"arguments\": ", name)),
                         arguments, tag(tokenizer, tags.call_close));
    case ToolStyle::llama3:
      return fmt::format("{} @{} /[ \\n]{{0,4}}\\}}/", bare_head(name, "parameters"), arguments);
    case ToolStyle::harmony:  // behind the channel, which may stand in front of it or behind
      return fmt::format("{} {} @{}",
                         lark_literal(fmt::format("to={}{}", harmony::functions, name)),
                         tag(tokenizer, harmony::message), arguments);
    case ToolStyle::qwen3_coder:
    case ToolStyle::deepseek:
      break;
  }
  return fmt::format("{} \"function\" {} {} @{} {} {}", tag(tokenizer, tags.call_open),
                     tag(tokenizer, tags.separator), lark_literal(name + "\n```json\n"), arguments,
                     lark_literal("\n```"), tag(tokenizer, tags.call_close));
}

ordered_json arguments_parts(ToolStyle style, std::span<const ToolFunction> functions) {
  // There, those of each value are made with the rules.
  if (style == ToolStyle::qwen3_coder) return ordered_json::array();
  ordered_json parts = ordered_json::array();
  for (std::size_t i = 0; i < functions.size(); ++i) {
    auto schema = ordered_json::parse(functions[i].parameters);
    // Arguments are an object, whatever the schema leaves open.
    if (!schema.is_object() || schema.empty()) schema = {{"type", "object"}};
    if (!schema.contains("type")) schema["type"] = "object";
    parts.push_back({{"name", arguments_part(i)},
                     {"json_schema", std::move(schema)},
                     {"lenient", !functions[i].strict}});
  }
  return parts;
}

// Calls without JSON around their arguments. A call that has begun may have other white space.
std::string rules_of_xml_calls(const Tokenizer& tokenizer, std::span<const ToolFunction> functions,
                               bool has_begun, ordered_json& parts) {
  const ToolTags& tags = tags_of(ToolStyle::qwen3_coder);
  const std::string gap = has_begun ? "GAP?" : "NL";
  std::string rules = "NL: \"\\n\"\nGAP: /[ \\n]{1,4}/\n";
  std::string any = "call:";
  std::size_t bytes_left = most_grammar_bytes;
  for (std::size_t i = 0; i < functions.size(); ++i) {
    rules += xml_call_rules(i, functions[i], gap, parts, bytes_left);
    rules += fmt::format("call_{0}: {1} {2} body_{0} {2} {3}\n", i, tag(tokenizer, tags.call_open),
                         gap, tag(tokenizer, tags.call_close));
    any += fmt::format(" {}call_{}", i == 0 ? "" : "| ", i);
    if (has_begun) any += fmt::format(" | body_{}", i);
  }
  return rules + any + "\n";
}

std::string rules_of_calls(ToolStyle style, const Tokenizer& tokenizer,
                           std::span<const ToolFunction> functions, bool may_be_bare,
                           ordered_json& parts) {
  if (style == ToolStyle::qwen3_coder) {
    return rules_of_xml_calls(tokenizer, functions, may_be_bare, parts);
  }
  std::string rules = "NL: \"\\n\"\n";
  std::string any = "call:";
  for (std::size_t i = 0; i < functions.size(); ++i) {
    rules += fmt::format("call_{}: {}\n", i,
                         rule_of_call(style, tokenizer, functions[i].name, arguments_part(i)));
    any += fmt::format(" {}call_{}", i == 0 ? "" : "| ", i);
    if (may_be_bare && style == ToolStyle::hermes) {
      rules += fmt::format("bare_{}: {} @{} /[ \\n]{{0,4}}\\}}/\n", i,
                           bare_head(functions[i].name, "arguments"), arguments_part(i));
      any += fmt::format(" | bare_{}", i);
    }
  }
  return rules + any + "\n";
}

GrammarSource with_start(const std::string& lark, ordered_json parts) {
  parts.insert(parts.begin(), ordered_json{{"name", "answer_form"}, {"lark", lark}});
  return {GrammarKind::parts, parts.dump()};
}

ordered_json as_part(const GrammarSource& source) {
  ordered_json part = {{"name", "otherwise"}};
  switch (source.kind) {
    case GrammarKind::json_schema:
    case GrammarKind::lenient_json_schema:
      part["json_schema"] = ordered_json::parse(source.text);
      part["lenient"] = source.kind == GrammarKind::lenient_json_schema;
      break;
    case GrammarKind::regex:
      part["regex"] = source.text;
      break;
    case GrammarKind::lark:
      part["lark"] = source.text;
      break;
    case GrammarKind::parts:
      RIDGE_ASSERT(false && "parts are made here");
  }
  return part;
}

// The tokens of a message's head, for content on the channel `final`.
std::string rule_of_content(const Tokenizer& tokenizer) {
  return fmt::format("{} {} {} @otherwise", tag(tokenizer, harmony::channel),
                     lark_literal(harmony::final_channel), tag(tokenizer, harmony::message));
}

// A call ends the turn, so that there is one.
GrammarSource harmony_answer(const Tokenizer& tokenizer, std::span<const ToolFunction> functions,
                             const GrammarSource* otherwise) {
  std::string lark = "start:";
  std::string rules;
  for (std::size_t i = 0; i < functions.size(); ++i) {
    lark += fmt::format("{} call_{}", i == 0 ? "" : " |", i);
    rules += fmt::format("call_{}: {} {} {} {} {} @{}\n", i, tag(tokenizer, harmony::channel),
                         lark_literal(fmt::format("{} to={}{} ", harmony::commentary,
                                                  harmony::functions, functions[i].name)),
                         tag(tokenizer, harmony::constrain), lark_literal("json"),
                         tag(tokenizer, harmony::message), arguments_part(i));
  }
  ordered_json parts = arguments_parts(ToolStyle::harmony, functions);
  if (otherwise != nullptr) {
    lark += fmt::format("{} content", functions.empty() ? "" : " |");
    rules += fmt::format("content: {}\n", rule_of_content(tokenizer));
    parts.push_back(as_part(*otherwise));
  }
  return with_start(lark + "\n" + rules, std::move(parts));
}

}  // namespace

std::string arguments_part(std::size_t function) { return fmt::format("arguments_{}", function); }

GrammarSource one_call(ToolStyle style, const Tokenizer& tokenizer,
                       std::span<const ToolFunction> functions) {
  ordered_json parts = arguments_parts(style, functions);
  const std::string lark =
      "start: call\n" + rules_of_calls(style, tokenizer, functions, /*may_be_bare=*/true, parts);
  return with_start(lark, std::move(parts));
}

GrammarSource content_alone(const Tokenizer& tokenizer, const GrammarSource& form) {
  return harmony_answer(tokenizer, {}, &form);
}

GrammarSource whole_answer(ToolStyle style, const Tokenizer& tokenizer,
                           std::span<const ToolFunction> functions, bool several,
                           const GrammarSource* otherwise) {
  if (style == ToolStyle::harmony) return harmony_answer(tokenizer, functions, otherwise);
  const ToolTags& tags = tags_of(style);
  const std::string_view more = style == ToolStyle::llama3 ? " (\"; \" call)*" : " (NL? call)*";
  std::string calls = fmt::format("calls: call{}", several ? more : "");
  if (!tags.block_open.empty()) {
    calls = fmt::format("calls: {} call{} {}", tag(tokenizer, tags.block_open), several ? more : "",
                        tag(tokenizer, tags.block_close));
  }
  ordered_json parts = arguments_parts(style, functions);
  const std::string lark =
      fmt::format("start: calls{}\n{}\n{}", otherwise != nullptr ? " | @otherwise" : "", calls,
                  rules_of_calls(style, tokenizer, functions, /*may_be_bare=*/false, parts));
  if (otherwise != nullptr) parts.push_back(as_part(*otherwise));
  return with_start(lark, std::move(parts));
}

}  // namespace ridge::text
