#include "api/completion_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::api {
namespace {

constexpr int max_completion_logprobs = 5;  // OpenAI's limit for this endpoint

std::vector<int32_t> parse_ids(const Json& array, const std::string& path) {
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) {
    const Json& id = array[i];
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      refuse_field(fmt::format("{}[{}]", path, i), id, "a token id, as the elements before it");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

PromptText parse_prompt(const Json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array() && !value.empty() && value[0].is_number()) return parse_ids(value, path);
  refuse_field(path, value, "a string or an array of token ids");
}

std::vector<PromptText> parse_prompts(const Fields& body) {
  const Json* prompt = body.find("prompt");
  if (prompt == nullptr) {
    throw Error(
        ErrorCode::invalid_argument,
        "'prompt' is missing; it must be a string, an array of token ids, or an array of these",
        "prompt");
  }
  const bool several = prompt->is_array() && !prompt->empty() && !(*prompt)[0].is_number();
  if (!several) return {parse_prompt(*prompt, "prompt")};
  if (prompt->size() > max_prompts) {
    refuse_field("prompt", *prompt, fmt::format("at most {} prompts", max_prompts));
  }
  std::vector<PromptText> prompts;
  for (std::size_t i = 0; i < prompt->size(); ++i) {
    prompts.push_back(parse_prompt((*prompt)[i], fmt::format("prompt[{}]", i)));
  }
  return prompts;
}

}  // namespace

CompletionRequest parse_completion_request(const Json& body) {
  const Fields fields(body, "");
  if (fields.boolean("echo").value_or(false)) {
    refuse_unsupported("echo", "the prompt cannot be returned yet; leave it out");
  }
  if (!fields.string("suffix", std::size_t{8} << 20).value_or("").empty()) {
    refuse_unsupported("suffix", "filling in before a suffix is not supported");
  }
  CompletionRequest request;
  request.generation = parse_generation_fields(fields);
  const auto best_of = fields.integer("best_of", 1, max_choices);
  if (best_of && *best_of != request.generation.choices) {
    refuse_unsupported("best_of", "it must equal 'n'");
  }
  request.top_logprobs =
      static_cast<int>(fields.integer("logprobs", 0, max_completion_logprobs).value_or(-1));
  request.form = parse_output_form(fields);
  request.prompts = parse_prompts(fields);
  const int in_all = static_cast<int>(request.prompts.size()) * request.generation.choices;
  if (in_all > max_choices_in_all) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("{} prompts with 'n' {} make {} answers; at most {} are allowed",
                    request.prompts.size(), request.generation.choices, in_all, max_choices_in_all),
        "n");
  }
  return request;
}

}  // namespace ridge::api
