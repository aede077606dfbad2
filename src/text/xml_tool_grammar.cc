#include "text/xml_tool_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/lark.h"
#include "text/parameter_schema.h"
#include "text/qwen3_coder.h"
#include "text/xml_arguments.h"

namespace ridge::text {
namespace {

using nlohmann::ordered_json;

// Longer bounds of a string's length make too many states of a lexer.
constexpr int64_t most_length = 1000;

std::string before_value(std::string_view key) {
  return fmt::format("{}{}{}\n", qwen3_coder::parameter_open, key, qwen3_coder::name_end);
}

std::string behind_value() { return fmt::format("\n{}\n", qwen3_coder::parameter_close); }

// Beside annotations.
constexpr std::array<std::string_view, 8> known_of_functions = {
    "type",  "properties",  "required", "additionalProperties",
    "$defs", "definitions", "$schema",  "$id"};
constexpr std::array<std::string_view, 5> known_of_strings = {"type", "enum", "const", "minLength",
                                                              "maxLength"};

class CallRules {
 public:
  CallRules(std::size_t index, const ToolFunction& function, ordered_json& parts,
            std::size_t& bytes_left)
      : index_(index),
        function_(function),
        root_(ordered_json::parse(function.parameters)),
        read_(callable_tool(function.name, function.parameters)),
        parts_(parts),
        bytes_left_(bytes_left) {}

  std::string write(const std::string& gap) {
    const ordered_json& whole = resolved(root_, root_);
    if (whole.is_object()) check_keywords(whole, known_of_functions, "its parameters");
    std::string body = fmt::format("body_{}: {} {}", index_,
                                   lark_literal(fmt::format("{}{}{}", qwen3_coder::function_open,
                                                            function_.name, qwen3_coder::name_end)),
                                   gap);
    const std::vector<std::pair<std::string, ordered_json>> properties = properties_of(whole);
    const std::set<std::string> required = required_of(whole);
    if (properties.empty() && !function_.strict && is_open(whole)) body += " " + free_parameters();
    for (const auto& [key, schema] : properties) {
      if (!may_be_key(key)) {
        refuse(fmt::format("the name of \"{}\" cannot stand in a tag", key));
        continue;
      }
      const std::size_t place = count_++;
      body += fmt::format(" parameter_{}_{}{}", index_, place, required.contains(key) ? "" : "?");
      rules_ += fmt::format("parameter_{}_{}: {} {}\n", index_, place,
                            lark_literal(before_value(key)), value_rule(schema, key, place));
    }
    return fmt::format("{} {}\n{}", body, lark_literal(qwen3_coder::function_close), rules_);
  }

 private:
  static bool may_be_key(std::string_view key) {
    return !key.empty() && key.size() <= XmlArguments::max_key_bytes &&
           key.find_first_of("<>\n") == std::string_view::npos;
  }

  static bool is_open(const ordered_json& whole) {
    return !whole.is_object() || whole.value("additionalProperties", ordered_json(true)) != false;
  }

  std::vector<std::pair<std::string, ordered_json>> properties_of(const ordered_json& whole) {
    std::vector<std::pair<std::string, ordered_json>> properties;
    if (!whole.is_object()) return properties;
    const auto found = whole.find("properties");
    if (found != whole.end() && found->is_object()) {
      for (const auto& [key, schema] : found->items()) properties.emplace_back(key, schema);
    }
    for (const std::string& key : required_of(whole)) {
      const bool is_known = std::ranges::any_of(
          properties, [&](const auto& property) { return property.first == key; });
      if (is_known) continue;
      if (is_open(whole)) {
        properties.emplace_back(key, ordered_json::object());
      } else {
        refuse(fmt::format("\"{}\" is required, but is none of its properties", key));
      }
    }
    return properties;
  }

  static std::set<std::string> required_of(const ordered_json& whole) {
    std::set<std::string> names;
    if (!whole.is_object()) return names;
    const auto found = whole.find("required");
    if (found == whole.end() || !found->is_array()) return names;
    for (const ordered_json& name : *found) {
      if (name.is_string()) names.insert(name.get<std::string>());
    }
    return names;
  }

  // Nothing is known of them.
  std::string free_parameters() {
    const std::string value = terminal("{0,}", "");
    return fmt::format("({} /[^<>\\n]{{1,64}}/ {} {})*", lark_literal(qwen3_coder::parameter_open),
                       lark_literal(std::string(qwen3_coder::name_end) + "\n"), value);
  }

  std::string value_rule(const ordered_json& given, const std::string& key, std::size_t place) {
    const ordered_json& schema = resolved(given, root_);
    const ValueTypes types = read_.types_of(key);
    if ((types & string_value) == 0) return json_value(given, /*narrowed=*/false, types, place);
    if (schema.is_boolean() || says_nothing(schema)) return terminal("{0,}", "");
    if (schema.contains("enum") || schema.contains("const")) return one_of(schema, types, key);
    const ordered_json text = string_branch(schema, key);
    // These come with their end, as the string does: the lexer would not go back behind a "null"
    // that may begin a string. They are right whatever way they are taken.
    std::vector<const char*> words;
    if ((types & null_value) != 0) words = {"null"};
    const bool any_boolean = (types & boolean_value) != 0 && takes_all_booleans(schema);
    if (any_boolean) words.insert(words.end(), {"true", "false"});
    const ValueTypes others =
        types & (number_value | object_value | array_value | (any_boolean ? 0 : boolean_value));
    std::string rule = text.contains("enum") || text.contains("const")
                           ? one_of(text, types, key)
                           : terminal(length_of(text, key), what_reads_otherwise(others));
    for (const char* word : words) rule += " | " + lark_literal(word + behind_value());
    if (others != 0) rule += " | " + json_value(given, /*narrowed=*/true, others, place);
    return fmt::format("({})", rule);
  }

  // Whether nothing chooses among booleans where there may be some.
  bool takes_all_booleans(const ordered_json& schema) {
    for (const char* keyword : {"anyOf", "oneOf"}) {
      const auto branches = schema.find(keyword);
      if (branches == schema.end() || !branches->is_array()) continue;
      for (const ordered_json& branch : *branches) {
        const ordered_json& one = resolved(branch, root_);
        if ((types_under(one, root_, budget_) & boolean_value) == 0 || !one.is_object()) continue;
        for (const auto& [keyword_of_one, _] : one.items()) {
          if (keyword_of_one != "type" && !is_annotation(keyword_of_one)) return false;
        }
      }
    }
    return true;
  }

  static bool says_nothing(const ordered_json& schema) {
    return schema.is_object() && std::ranges::all_of(schema.items(), [](const auto& item) {
             return is_annotation(item.key());
           });
  }

  // What says of which form a value is that is a string.
  ordered_json string_branch(const ordered_json& schema, const std::string& key) {
    for (const char* keyword : {"anyOf", "oneOf"}) {
      const auto branches = schema.find(keyword);
      if (branches == schema.end() || !branches->is_array()) continue;
      const ordered_json* only = nullptr;
      for (const ordered_json& branch : *branches) {
        if ((types_under(branch, root_, budget_) & string_value) == 0) continue;
        if (only != nullptr) {
          refuse(fmt::format("\"{}\" may be strings of several forms", key));
          return ordered_json::object();
        }
        only = &resolved(branch, root_);
      }
      ordered_json rest = schema;
      rest.erase(keyword);
      check_keywords(rest, known_of_strings, fmt::format("\"{}\"", key));
      if (only == nullptr || !only->is_object()) return ordered_json::object();
      check_keywords(*only, known_of_strings, fmt::format("\"{}\"", key));
      return *only;
    }
    check_keywords(schema, known_of_strings, fmt::format("\"{}\"", key));
    return schema;
  }

  std::string one_of(const ordered_json& schema, ValueTypes types, const std::string& key) {
    check_keywords(schema, known_of_strings, fmt::format("\"{}\"", key));
    ordered_json values = ordered_json::array();
    if (const auto found = schema.find("const"); found != schema.end()) {
      values.push_back(*found);
    } else if (schema["enum"].is_array()) {
      values = schema["enum"];
    }
    std::string rule;
    for (const ordered_json& value : values) {
      if ((type_of(value) & types) == 0) continue;
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      if (value.is_string() && !reads_as_string(text, types)) {
        refuse(fmt::format("\"{}\" of \"{}\" would not be read as this string", text, key));
        continue;
      }
      rule += fmt::format("{}{}", rule.empty() ? "(" : " | ", lark_literal(text + behind_value()));
    }
    return rule.empty() ? terminal("{0,}", "") : rule + ")";
  }

  static bool reads_as_string(const std::string& text, ValueTypes types) {
    XmlArguments arguments(CallableTool{"", {{"v", types}}});
    std::string json;
    arguments.take(fmt::format("{}{}{}{}", before_value("v"), text, behind_value(),
                               qwen3_coder::function_close),
                   /*ended=*/true, json);
    const auto read = ordered_json::parse(json, nullptr, /*allow_exceptions=*/false);
    return arguments.is_complete() && read == ordered_json{{"v", text}};
  }

  // A repetition for a regular expression.
  std::string length_of(const ordered_json& schema, const std::string& key) {
    const auto bound = [&](const char* keyword, int64_t otherwise) {
      const auto found = schema.find(keyword);
      if (found == schema.end() || !found->is_number_integer()) return otherwise;
      const auto value = found->get<int64_t>();
      if (value >= 0 && value <= most_length) return value;
      refuse(fmt::format("'{}' of \"{}\" is above {}", keyword, key, most_length));
      return otherwise;
    };
    const int64_t least = bound("minLength", 0);
    const int64_t most = bound("maxLength", -1);
    if (most < 0) return fmt::format("{{{},}}", least);
    return fmt::format("{{{},{}}}", std::min(least, most), most);
  }

  // A regular expression of what would be taken for a value of one of `types`, but null.
  static std::string what_reads_otherwise(ValueTypes types) {
    std::string any;
    const auto add = [&](ValueTypes type, std::string_view form) {
      if ((types & type) != 0) any += fmt::format("{}{}", any.empty() ? "" : "|", form);
    };
    add(boolean_value, "(true|false|True|False)[ \\t\\r\\n]*");
    add(number_value, "-?[0-9](?s:.*)");
    add(object_value, "\\{(?s:.*)");
    add(array_value, "\\[(?s:.*)");
    return any;
  }

  // The name of a new rule: a text of `length` characters that is not `excluded`, with its end. It
  // speaks of no end itself, so that it can be read in one way only. It is lazy, as the lexer finds
  // slowly that nothing more can follow a whole one, and gives up where it may be long.
  std::string terminal(const std::string& length, const std::string& excluded) {
    const std::string name = fmt::format("{}_{}", index_, terminals_++);
    const std::string close = for_regex(qwen3_coder::parameter_close);
    std::string regex =
        fmt::format("/(?s:.){}\\n{}\\n/ & ~/(?s:.*){}(?s:.*){}(?s:.*)/ & ~/(?s:.*){}(?s:.*)/",
                    length == "{0,}" ? "*" : length, close, close, close,
                    for_regex(qwen3_coder::function_close));
    if (!excluded.empty()) {
      regex += fmt::format(" & ~/[ \\t\\r\\n]*({})\\n{}\\n/", excluded, close);
    }
    rules_ += fmt::format("TEXT_{0}: {1}\ntext_{0}[lazy]: TEXT_{0}\n", name, regex);
    return "text_" + name;
  }

  // Of grammars that are made, which are large where each brings all that it may refer to.
  void take(std::size_t bytes) {
    if (bytes > bytes_left_) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("the parameters of \"{}\", each with all that it refers to, are more than "
                      "a grammar may have",
                      function_.name),
          "tools");
    }
    bytes_left_ -= bytes;
  }

  // A value as JSON, of `types`; `narrowed`: these are not all that the schema allows.
  std::string json_value(const ordered_json& schema, bool narrowed, ValueTypes types,
                         std::size_t place) {
    const std::string name = fmt::format("{}_{}", arguments_part(index_), place);
    ordered_json document = ordered_json::object();
    bool refers = false;
    take(schema.dump().size());
    document["$defs"]["value"] = with_moved_references(schema, refers);
    if (refers) {
      if (root_bytes_ == 0) root_bytes_ = root_.dump().size();
      take(root_bytes_);
      document["$defs"]["whole"] = with_moved_references(root_, refers);
    }
    document["$ref"] = "#/$defs/value";
    if (narrowed) document["type"] = type_names(types);
    parts_.push_back(
        {{"name", name}, {"json_schema", std::move(document)}, {"lenient", !function_.strict}});
    return fmt::format("@{} {}", name, lark_literal(behind_value()));
  }

  static ordered_json type_names(ValueTypes types) {
    constexpr std::array<std::pair<ValueTypes, std::string_view>, 5> names = {
        {{number_value, "number"},
         {boolean_value, "boolean"},
         {null_value, "null"},
         {object_value, "object"},
         {array_value, "array"}}};
    ordered_json listed = ordered_json::array();
    for (const auto& [type, name] : names) {
      if ((types & type) != 0) listed.push_back(name);
    }
    return listed;
  }

  // References to the function's schema lead to where it stands in that of a value.
  static ordered_json with_moved_references(const ordered_json& schema, bool& any) {
    if (schema.is_array()) {
      ordered_json moved = ordered_json::array();
      for (const ordered_json& value : schema) moved.push_back(with_moved_references(value, any));
      return moved;
    }
    if (!schema.is_object()) return schema;
    ordered_json moved = ordered_json::object();
    auto& members = moved.get_ref<ordered_json::object_t&>();
    members.reserve(schema.size());
    for (const auto& [key, value] : schema.items()) {
      const bool refers = key == "$ref" && value.is_string() &&
                          value.get_ref<const std::string&>().starts_with('#');
      any = any || refers;
      members.emplace_back(
          key, refers ? ordered_json("#/$defs/whole" + value.get<std::string>().substr(1))
                      : with_moved_references(value, any));
    }
    return moved;
  }

  void check_keywords(const ordered_json& schema, std::span<const std::string_view> known,
                      const std::string& where) {
    if (!schema.is_object()) return;
    for (const auto& [key, _] : schema.items()) {
      if (!is_annotation(key) && std::ranges::find(known, key) == known.end()) {
        refuse(fmt::format("'{}' of {} cannot be enforced", key, where));
      }
    }
  }

  void refuse(const std::string& reason) const {
    if (!function_.strict) return;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the function \"{}\" is strict, but {} in this model's form of calls, "
                            "where strings stand without quotes",
                            function_.name, reason),
                "tools");
  }

  const std::size_t index_;
  const ToolFunction& function_;
  const ordered_json root_;
  const CallableTool read_;  // as the parser of calls takes it, which has to agree
  ordered_json& parts_;
  std::size_t& bytes_left_;
  std::size_t root_bytes_ = 0;  // once it is needed
  int budget_ = most_schemas;
  std::string rules_;
  std::size_t count_ = 0;
  std::size_t terminals_ = 0;
};

}  // namespace

std::string xml_call_rules(std::size_t index, const ToolFunction& function, const std::string& gap,
                           ordered_json& parts, std::size_t& bytes_left) {
  return CallRules(index, function, parts, bytes_left).write(gap);
}

}  // namespace ridge::text
