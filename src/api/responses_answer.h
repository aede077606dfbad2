#pragma once

#include <functional>
#include <memory>
#include <string>

#include "api/answer.h"
#include "api/responses_request.h"

namespace ridge::api {

// A response, or the events that make one. `keep` is given what is to be stored, before the client
// hears of the end; it may be empty.
std::unique_ptr<Answer> make_answer(const ResponsesRequest& request, AnswerHead head,
                                    const SamplingDefaults& defaults,
                                    std::function<void(StoredResponse&&)> keep);

// POST /v1/responses/input_tokens.
std::string response_tokens_body(int tokens);

}  // namespace ridge::api
