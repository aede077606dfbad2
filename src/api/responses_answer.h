#pragma once

#include <functional>
#include <memory>

#include "api/answer.h"
#include "api/responses_request.h"

namespace ridge::api {

// A response, or the events that make one. `keep` is given what is to be stored, before the client
// hears of the end; it may be empty.
std::unique_ptr<Answer> make_answer(const ResponsesRequest& request, AnswerHead head,
                                    const SamplingDefaults& defaults,
                                    std::function<void(StoredResponse&&)> keep);

}  // namespace ridge::api
