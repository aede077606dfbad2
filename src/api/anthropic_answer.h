#pragma once

#include <memory>

#include "api/answer.h"
#include "api/anthropic_request.h"

namespace ridge::api {

// A message, or the events that make one: message_start, content_block_start, content_block_delta
// and content_block_stop for each block, message_delta and message_stop
// (https://docs.anthropic.com/en/docs/build-with-claude/streaming).
std::unique_ptr<Answer> make_answer(const AnthropicRequest& request, AnswerHead head);

}  // namespace ridge::api
