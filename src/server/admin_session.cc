// Who somebody is to this server.
#include <nlohmann/json.hpp>

#include "server/handler_route.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using api::Json;

HandlerAnswer show_session(HandlerRequest& request) {
  const bool asks_for_keys = request.service.authenticator != nullptr;
  return json_answer({{"authentication", asks_for_keys ? "keys" : "none"},
                      {"set_up_needed", false},
                      {"user", nullptr},
                      {"csrf_token", nullptr},
                      {"version", RIDGE_VERSION}});
}

constexpr HandlerRoute routes[] = {
    {"GET", "/api/v1/session", open_access, show_session},
};

}  // namespace

std::span<const HandlerRoute> session_routes() { return routes; }

}  // namespace ridge::server
