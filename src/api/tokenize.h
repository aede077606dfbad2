#pragma once

#include <span>
#include <string>

#include "api/json_text.h"
#include "api/served_model.h"

namespace ridge::api {

// POST /tokenize, in vLLM's form: `prompt`, or `messages` with what else a chat request may have,
// becomes {"count","max_model_len","tokens","token_strs"}. Names of tokens are those of the
// completions endpoint's logprobs (completion_token_name). Text work: it may take seconds, and
// belongs on no network thread. Throws Error(invalid_argument), Error(not_found) for the model.
std::string tokenize(const Json& body, std::span<const ServedModel> models);

// POST /detokenize: `tokens` become {"prompt"}, control tokens among them.
std::string detokenize(const Json& body, std::span<const ServedModel> models);

// GET /tokenizer_info, in vLLM's form: the special tokens and the chat template of the only model.
// Throws Error(invalid_argument) where there are several.
std::string tokenizer_info(std::span<const ServedModel> models);

}  // namespace ridge::api
