#pragma once

#include "api/json_text.h"
#include "platform/endpoints/endpoint.h"

namespace ridge::server {

// As /api/v1/endpoints and `ridge endpoint --json` have it.
api::Json endpoint_json(const platform::Endpoint& endpoint);

}  // namespace ridge::server
