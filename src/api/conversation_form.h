#pragma once

#include "api/chat_request.h"
#include "api/served_model.h"

namespace ridge::api {

// The messages as the model's template takes them: an endpoint's system prompt before the client's
// own, with an empty line between them; arguments of calls as objects where it wants
// them so, and, where it knows no tools, their description, their calls and their results as plain
// text.
Json messages_for_template(const ChatRequest& request, const ServedModel& model);

}  // namespace ridge::api
