#pragma once

#include <string_view>

namespace ridge::api {

// GET /openapi.json: the OpenAPI 3.1 document of every route, as JSON (data/openapi.json).
std::string_view openapi_text();

}  // namespace ridge::api
