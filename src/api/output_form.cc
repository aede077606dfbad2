#include "api/output_form.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "api/request_limits.h"
#include "base/error.h"

namespace ridge::api {
namespace {

using text::GrammarKind;
using text::GrammarSource;

constexpr std::size_t max_alternatives = 10'000;
constexpr std::size_t max_source_bytes = text::GrammarCompiler::max_source_bytes;

// A schema, also as the text of one.
GrammarSource parse_schema(const Json& value, const std::string& path, bool strict) {
  if (value.is_string()) {
    Json schema;
    try {
      schema = parse_json(value.get_ref<const std::string&>());
    } catch (const Error& error) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("'{}' is a string that holds no JSON schema: {}", path, error.message()),
          path);
    }
    return parse_schema(schema.is_string() ? Json() : schema, path, strict);
  }
  if (!value.is_object() && !(value.is_boolean() && value.get<bool>())) {
    refuse_field(path, value, "a JSON schema: an object, true, or a string that holds one");
  }
  return schema_grammar(value, strict);
}

std::string escaped_for_regex(std::string_view text) {
  constexpr std::string_view special = R"(\.+*?()|[]{}^$#&-~/)";
  std::string out;
  for (const char byte : text) {
    if (byte == '\n') {
      out += "\\n";
    } else {
      if (special.find(byte) != std::string_view::npos) out += '\\';
      out += byte;
    }
  }
  return out;
}

GrammarSource parse_choice(const Fields& fields, const char* name) {
  const Json* choices = fields.array(name, max_alternatives);
  const std::string path = fields.path_of(name);
  if (choices->empty()) refuse_field(path, *choices, "an array of at least one string");
  std::string regex;
  for (std::size_t i = 0; i < choices->size(); ++i) {
    const Json& choice = (*choices)[i];
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      refuse_field(fmt::format("{}[{}]", path, i), choice, "a string that is not empty");
    }
    regex += fmt::format("{}{}", i == 0 ? "" : "|", escaped_for_regex(choice.get<std::string>()));
  }
  return {GrammarKind::regex, fmt::format("({})", regex)};
}

GrammarSource parse_grammar(const Fields& fields, const char* name) {
  std::string source = fields.string(name, max_source_bytes).value_or("");
  if (source.find("::=") != std::string::npos) {
    refuse_unsupported(fields.path_of(name),
                       "grammars are written in Lark (rule: \"a\" | \"b\"), not in GBNF or EBNF");
  }
  return {GrammarKind::lark, std::move(source)};
}

std::optional<GrammarSource> parse_response_format(const Fields& body) {
  const auto format = body.object("response_format");
  if (!format) return std::nullopt;
  const std::string type = format->string("type", max_name_bytes).value_or("");
  if (type == "text") return std::nullopt;
  if (type == "json_object") return schema_grammar({{"type", "object"}}, /*strict=*/true);
  if (type == "structural_tag") {
    refuse_unsupported("response_format.type", "use \"json_schema\", or 'tools' with strict ones");
  }
  if (type != "json_schema") {
    refuse_field("response_format.type", format->find("type") ? *format->find("type") : Json(),
                 "\"text\", \"json_object\" or \"json_schema\"");
  }
  const auto described = format->object("json_schema");
  if (!described) {
    refuse_field("response_format.json_schema", Json(), "an object with name and schema");
  }
  described->string("name", max_name_bytes);
  const bool strict = described->boolean("strict").value_or(false);
  const Json* schema = described->find("schema");
  if (schema == nullptr) {
    refuse_field("response_format.json_schema.schema", Json(), "a JSON schema");
  }
  return parse_schema(*schema, "response_format.json_schema.schema", strict);
}

// The member of structured_outputs, or the field guided_…, with this meaning.
std::optional<GrammarSource> parse_guide(const Fields& fields, const std::string& prefix,
                                         std::string_view kind) {
  const std::string name = prefix + std::string(kind);
  const Json* value = fields.find(name);
  if (value == nullptr) return std::nullopt;
  if (kind == "json") return parse_schema(*value, fields.path_of(name), /*strict=*/true);
  if (kind == "choice") return parse_choice(fields, name.c_str());
  if (kind == "grammar") return parse_grammar(fields, name.c_str());
  if (kind == "regex") {
    return GrammarSource{GrammarKind::regex, *fields.string(name, max_source_bytes)};
  }
  // json_object
  if (!fields.boolean(name).value_or(false)) return std::nullopt;
  return schema_grammar({{"type", "object"}}, /*strict=*/true);
}

}  // namespace

text::GrammarSource schema_grammar(const Json& schema, bool strict) {
  return {strict ? GrammarKind::json_schema : GrammarKind::lenient_json_schema, to_text(schema)};
}

OutputForm parse_output_form(const Fields& body) {
  OutputForm form;
  const auto add = [&](std::optional<GrammarSource> grammar, const std::string& param) {
    if (!grammar) return;
    if (form.grammar) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' and '{}' both give the form of the answer; leave one out",
                              form.param, param),
                  param);
    }
    form = {std::move(grammar), param};
  };
  add(parse_response_format(body), "response_format");
  for (const char* kind : {"json", "regex", "choice", "grammar", "json_object"}) {
    add(parse_guide(body, "guided_", kind), fmt::format("guided_{}", kind));
  }
  if (const Json* schema = body.find("json_schema")) {
    add(parse_schema(*schema, "json_schema", /*strict=*/true), "json_schema");
  }
  if (body.find("grammar") != nullptr) {
    refuse_unsupported("grammar", "GBNF is not read; write Lark and send it as 'guided_grammar'");
  }
  if (const auto outputs = body.object("structured_outputs")) {
    if (outputs->find("structural_tag") != nullptr) {
      refuse_unsupported("structured_outputs.structural_tag", "use 'json', or strict 'tools'");
    }
    for (const char* kind : {"json", "regex", "choice", "grammar", "json_object"}) {
      add(parse_guide(*outputs, "", kind), fmt::format("structured_outputs.{}", kind));
    }
  }
  return form;
}

}  // namespace ridge::api
