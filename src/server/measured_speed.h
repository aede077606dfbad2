#pragma once

#include "api/json_text.h"
#include "api/served_model.h"

namespace ridge::server {

// Tokens a second of one answer from its first token on: the mean of all that the model's engine
// has given since this server began, whatever ran beside them. Null before it has decoded enough
// to tell, and for an adapter, which is counted with its model.
api::Json measured_tokens_per_second(const api::ServedModel& model);

}  // namespace ridge::server
