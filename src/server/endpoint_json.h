#pragma once

#include "api/json_text.h"
#include "platform/endpoints/endpoint.h"

namespace ridge::server {

enum class EndpointView {
  whole,    // for those who may change it
  outline,  // without the URL of the moderation, which may hold a secret, and without system prompts
};

// As /api/v1/endpoints and `ridge endpoint --json` have it.
api::Json endpoint_json(const platform::Endpoint& endpoint, EndpointView view);

}  // namespace ridge::server
