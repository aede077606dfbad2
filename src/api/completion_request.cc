#include "api/completion_request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::api {
namespace {

constexpr int max_completion_logprobs = 5;  // OpenAI's limit for this endpoint

}  // namespace

CompletionRequest parse_completion_request(const Json& body) {
  const Fields fields(body, "");
  if (!fields.string("suffix", std::size_t{8} << 20).value_or("").empty()) {
    refuse_unsupported("suffix", "filling in before a suffix is not supported");
  }
  CompletionRequest request;
  request.echo = fields.boolean("echo").value_or(false);
  // The prompt alone may be all that is wanted: its text, or its logprobs.
  request.generation = parse_generation_fields(fields, /*least_tokens=*/request.echo ? 0 : 1);
  const auto best_of = fields.integer("best_of", 1, max_choices);
  if (best_of && *best_of != request.generation.choices) {
    refuse_unsupported("best_of", "it must equal 'n'");
  }
  request.top_logprobs =
      static_cast<int>(fields.integer("logprobs", 0, max_completion_logprobs).value_or(-1));
  request.form = parse_output_form(fields);
  request.prompts = parse_prompts(fields, "prompt", max_prompts);
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
