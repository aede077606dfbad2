#include "api/thinking_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "api/request_limits.h"

namespace ridge::api {
namespace {

constexpr int64_t max_budget_tokens = 1 << 24;
constexpr std::array<std::string_view, 4> template_variables = {
    "enable_thinking", "thinking", "reasoning_effort", "thinking_budget"};
constexpr std::array<std::string_view, 7> efforts = {"none", "minimal", "low", "medium",
                                                     "high", "xhigh",   "max"};

bool is_one_of(auto const& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void set_budget(const Fields& fields, std::string_view name, ThinkingFields& thinking) {
  const auto tokens = fields.integer(name, 0, max_budget_tokens);
  if (tokens) thinking.budget_tokens = static_cast<int>(*tokens);
}

// Names are allowed one by one, since a template may do anything with what it is given.
void add_template_kwargs(const Fields& body, ThinkingFields& thinking) {
  const auto kwargs = body.object("chat_template_kwargs");
  if (!kwargs) return;
  for (const auto& [key, value] :
       body.find("chat_template_kwargs")->get_ref<const Json::object_t&>()) {
    if (!is_one_of(template_variables, key)) {
      thinking.unknown_variables.push_back(key);
      continue;
    }
    if (value.is_null()) continue;
    if (key == "thinking_budget") {
      set_budget(*kwargs, key, thinking);
    } else if (key == "reasoning_effort") {
      kwargs->string(key, max_name_bytes);
      thinking.variables[key] = value;
    } else {
      thinking.enabled = kwargs->boolean(key);
      thinking.variables[key] = value;
    }
  }
}

// {"type": "enabled" | "disabled"}, as DeepSeek's, Anthropic's and Huawei's services have it.
void add_thinking(const Fields& body, ThinkingFields& thinking) {
  const auto field = body.object("thinking");
  if (!field) return;
  const std::string type = field->string("type", max_name_bytes).value_or("");
  if (type != "enabled" && type != "disabled" && type != "auto" && type != "adaptive") {
    refuse("thinking.type", "'thinking.type' must be \"enabled\", \"disabled\" or \"auto\"");
  }
  if (type == "enabled" || type == "disabled") thinking.enable(type == "enabled");
  set_budget(*field, "budget_tokens", thinking);
}

}  // namespace

void ThinkingFields::enable(bool on) {
  enabled = on;
  variables["enable_thinking"] = on;
  variables["thinking"] = on;
}

void read_effort(const Fields& fields, std::string_view name, ThinkingFields& thinking) {
  const Json* value = fields.find(name);
  if (value == nullptr) return;
  if (!value->is_string() || !is_one_of(efforts, value->get_ref<const std::string&>())) {
    refuse_field(fields.path_of(name), *value,
                 "one of none, minimal, low, medium, high, xhigh, max");
  }
  thinking.variables["reasoning_effort"] = *value;
  if (*value == "none") thinking.enable(false);
}

ThinkingFields parse_thinking_fields(const Fields& body) {
  ThinkingFields thinking;
  read_effort(body, "reasoning_effort", thinking);
  add_thinking(body, thinking);
  if (const auto on = body.boolean("enable_thinking")) thinking.enable(*on);
  set_budget(body, "thinking_token_budget", thinking);
  set_budget(body, "thinking_budget", thinking);
  add_template_kwargs(body, thinking);
  return thinking;
}

}  // namespace ridge::api
