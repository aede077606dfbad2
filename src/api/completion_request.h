#pragma once

#include <cstdint>
#include <vector>

#include "api/generation_fields.h"
#include "api/json_text.h"
#include "api/output_form.h"
#include "api/prompt_text.h"

namespace ridge::api {

inline constexpr int max_prompts = 64;
inline constexpr int max_choices_in_all = 128;  // prompts · n
// Of echoed prompts, in the answer: their tokens · (logprobs + 1) · n.
inline constexpr int64_t max_echoed_logprobs = 1 << 19;
inline constexpr int default_completion_tokens = 16;  // OpenAI's, where max_tokens is absent

// POST /v1/completions, checked.
struct CompletionRequest {
  GenerationFields generation;
  int top_logprobs = -1;  // as in SamplingParams
  bool echo = false;      // each answer begins with its prompt
  OutputForm form;
  int default_tokens = default_completion_tokens;  // where neither request nor endpoint says more
  std::vector<PromptText> prompts;  // 1 to max_prompts; choices of the i-th begin at i · n
};

// Throws Error(invalid_argument) naming the field,
// Error(unsupported) for what cannot be honoured yet.
CompletionRequest parse_completion_request(const Json& body);

}  // namespace ridge::api
