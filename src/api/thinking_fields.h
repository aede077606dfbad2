#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "api/fields.h"

namespace ridge::api {

// How much a model is to think, whatever wire format said it.
struct ThinkingFields {
  std::optional<bool> enabled;       // absent: as the model does by itself
  std::optional<int> budget_tokens;  // absent: without a bound
  // For the template: enable_thinking, thinking, reasoning_effort; an object.
  Json variables = Json::object();
  // Others that were given to it, by name. A template that reads none of them is as good without.
  std::vector<std::string> unknown_variables;

  // Says it to the template under both names that templates know.
  void enable(bool on);
};

// Reads an effort from one field: none, minimal, low, medium, high, xhigh or max.
void read_effort(const Fields& fields, std::string_view name, ThinkingFields& thinking);

// What chat completions may say: reasoning_effort; thinking {type, budget_tokens}; enable_thinking;
// thinking_budget, also as thinking_token_budget; and chat_template_kwargs with these names. What
// is said closest to the template wins. Whether other variables matter is for `render_chat`.
ThinkingFields parse_thinking_fields(const Fields& body);

}  // namespace ridge::api
