#pragma once

#include <string>
#include <string_view>

namespace ridge::server {

enum class Route {
  hello,
  health,
  live,
  ready,
  metrics,
  models,
  model,
  chat_completions,
  completions,
  answer_now,
  unknown
};

struct RouteMatch {
  Route route = Route::unknown;
  std::string argument;  // the model's name or the request's id
};

// `target` as in the request line; its query is left out.
RouteMatch match_route(std::string_view target);

// For the header Allow; without OPTIONS.
std::string_view allowed_methods(Route route);
bool allows_method(Route route, std::string_view method);

// For logs and metrics: the path, with {id} for what varies.
std::string_view name(Route route);

}  // namespace ridge::server
