#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ridge::server {

enum class Route {
  hello,
  console_asset,
  health,
  live,
  ready,
  metrics,
  openapi,
  models,
  model,
  chat_completions,
  completions,
  embeddings,
  rerank,
  score,
  tokenize,
  detokenize,
  tokenizer_info,
  answer_now,
  requests,
  request,
  messages,
  count_tokens,
  responses,
  response_tokens,
  response_cancel,
  response,
  response_items,
  ollama_chat,
  ollama_generate,
  ollama_tags,
  ollama_show,
  ollama_version,
  ollama_embed,
  ollama_embeddings,
  ollama_ps,
  handled,  // by what handler_route.h has
  unknown
};

struct RoutePath {
  Route route;
  std::string_view path;     // {id} stands for what varies
  std::string_view methods;  // as the header Allow has them; without OPTIONS
};

// Every path that is answered.
std::span<const RoutePath> route_paths();

struct RouteMatch {
  Route route = Route::unknown;
  std::string argument;             // the name of the model, or the id of the request or response
  const RoutePath* path = nullptr;  // of route_paths(); null where it is unknown
};

// `target` as in the request line; its query is left out.
RouteMatch match_route(std::string_view target);

// For the header Allow; without OPTIONS.
std::string_view allowed_methods(const RouteMatch& match);
bool allows_method(const RoutePath& path, std::string_view method);

// For logs and metrics: the path, with {id} for what varies. Of those of the same meaning, the
// first.
std::string_view name(const RouteMatch& match);

}  // namespace ridge::server
