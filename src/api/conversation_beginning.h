#pragma once

#include <string>

#include "api/responses_request.h"

namespace ridge::api {

// How a conversation begins, whatever its wire format: what is said up to the first message of the
// user's, and that; the beginning of long texts only. The same in every turn of a conversation, and
// in that which goes on from an earlier response. Of a completion, the first 1,024 bytes or 256
// tokens of its (first) prompt. Takes what is not well-formed as if it were not there.
std::string conversation_beginning(const Json& body, const FindResponse& find_response);

}  // namespace ridge::api
