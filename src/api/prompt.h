#pragma once

#include <string>
#include <vector>

#include "api/served_model.h"
#include "engine/request.h"

namespace ridge::api {

struct ChatRequest;
struct CompletionRequest;

// The text work of a request: the template is rendered and the prompt encoded. May take seconds for
// a long prompt or a grammar (needs_grammar), so it belongs on no network thread. Throws
// Error(invalid_argument) with the template's own complaint, Error(context_length) for a prompt
// that leaves no room for an answer.
engine::Request prepare(const ChatRequest& request, const ServedModel& model, std::string id);

// How many tokens the prompt of this request has, also where they do not fit the context.
int count_prompt_tokens(const ChatRequest& request, const ServedModel& model);

// One for each prompt, in their order.
std::vector<engine::Request> prepare(const CompletionRequest& request, const ServedModel& model,
                                     const std::string& id);

}  // namespace ridge::api
