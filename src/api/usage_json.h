#pragma once

#include <string>

#include "engine/request.h"

namespace ridge::api {

// Appends OpenAI's usage object, with prompt_tokens_details.cached_tokens and
// completion_tokens_details.reasoning_tokens.
void append_usage(std::string& out, const engine::Usage& usage);

// The same for what has no answer: prompt_tokens and total_tokens.
void append_prompt_usage(std::string& out, const engine::Usage& usage);

// Adds the tokens of `more`, and keeps the longer times: requests that ran at the same time.
void add_usage(engine::Usage& usage, const engine::Usage& more);

}  // namespace ridge::api
