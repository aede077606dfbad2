#pragma once

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/served_model.h"
#include "engine/request.h"

namespace ridge::api {

enum class Grammars {
  compile,   // may take seconds
  only_kept  // that were compiled before, which takes no time
};

// Sets what binds the answer: its form and its calls of tools. `to` has its group, whose grammars
// are used. False where a grammar would have to be compiled for it and may not; `to` is as it was
// then. Throws Error(invalid_argument) naming the field whose schema or grammar is wrong or cannot
// be enforced.
bool set_rules(const ChatRequest& request, const ServedModel& model, Grammars grammars,
               engine::Request& to);
bool set_rules(const CompletionRequest& request, const ServedModel& model, Grammars grammars,
               engine::Request& to);

}  // namespace ridge::api
