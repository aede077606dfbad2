#pragma once

#include "loadgen/http_pool.h"
#include "loadgen/target.h"

namespace ridge::loadgen {

// The name of the first model that the server has. Throws as ask_once, and invalid_argument where
// the server refuses or names none.
std::string ask_for_model(HttpPool& pool, const Target& target, const std::string& api_key);

// How the server counts our words: it is asked for one token each to two prompts of its own, of
// a sixteenth and a quarter as many words as `typical_tokens`, and says in `usage` how many tokens
// they have. Throws as ask_once; unsupported where the server refuses or states no usage.
PromptScale calibrate(HttpPool& pool, const Target& target, const std::string& api_key,
                      int typical_tokens);

}  // namespace ridge::loadgen
