#pragma once

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/served_model.h"
#include "engine/request.h"

namespace ridge::api {

// Whether an answer follows a grammar, whose compilation may take seconds: such requests are
// prepared on threads of their own.
bool needs_grammar(const ChatRequest& request);
bool needs_grammar(const CompletionRequest& request);

// Sets what binds the answer: its form and its calls of tools. Throws Error(invalid_argument)
// naming the field whose schema or grammar is wrong or cannot be enforced.
void set_rules(const ChatRequest& request, const ServedModel& model, engine::Request& to);
void set_rules(const CompletionRequest& request, const ServedModel& model, engine::Request& to);

}  // namespace ridge::api
