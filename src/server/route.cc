#include "server/route.h"

#include <algorithm>
#include <optional>

#include "api/url_query.h"

namespace ridge::server {
namespace {

constexpr std::string_view reads = "GET, HEAD";
constexpr std::string_view posts = "POST";

constexpr RoutePath paths[] = {
    {Route::hello, "/", reads},
    {Route::health, "/health", reads},
    {Route::live, "/v1/health/live", reads},
    {Route::ready, "/v1/health/ready", reads},
    {Route::metrics, "/metrics", reads},
    {Route::openapi, "/openapi.json", reads},
    {Route::models, "/v1/models", reads},
    {Route::model, "/v1/models/{id}", reads},
    {Route::chat_completions, "/v1/chat/completions", posts},
    {Route::completions, "/v1/completions", posts},
    {Route::embeddings, "/v1/embeddings", posts},
    {Route::rerank, "/v1/rerank", posts},
    {Route::score, "/v1/score", posts},
    {Route::tokenize, "/tokenize", posts},
    {Route::tokenize, "/v1/tokenize", posts},
    {Route::detokenize, "/detokenize", posts},
    {Route::detokenize, "/v1/detokenize", posts},
    {Route::tokenizer_info, "/tokenizer_info", reads},
    {Route::answer_now, "/v1/requests/{id}/answer_now", posts},
    {Route::requests, "/v1/requests", reads},
    {Route::request, "/v1/requests/{id}", reads},
    {Route::messages, "/v1/messages", posts},
    {Route::count_tokens, "/v1/messages/count_tokens", posts},
    {Route::responses, "/v1/responses", posts},
    {Route::response_items, "/v1/responses/{id}/input_items", reads},  // before what it begins with
    {Route::response, "/v1/responses/{id}", "GET, HEAD, DELETE"},
    {Route::ollama_chat, "/api/chat", posts},
    {Route::ollama_generate, "/api/generate", posts},
    {Route::ollama_tags, "/api/tags", reads},
    {Route::ollama_show, "/api/show", posts},
    {Route::ollama_version, "/api/version", reads},
};

constexpr std::string_view varying = "{id}";

// Nullopt where `path` is not of this form; else what stands for {id}.
std::optional<std::string> match(std::string_view form, std::string_view path) {
  const std::size_t at = form.find(varying);
  if (at == std::string_view::npos) {
    return form == path ? std::optional<std::string>("") : std::nullopt;
  }
  const std::string_view before = form.substr(0, at), after = form.substr(at + varying.size());
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after)) {
    return std::nullopt;
  }
  return api::percent_decode(
      path.substr(before.size(), path.size() - before.size() - after.size()));
}

const RoutePath* first_path(Route route) {
  const auto found = std::ranges::find(paths, route, &RoutePath::route);
  return found == std::end(paths) ? nullptr : &*found;
}

}  // namespace

std::span<const RoutePath> route_paths() { return paths; }

RouteMatch match_route(std::string_view target) {
  const std::string_view path = target.substr(0, target.find('?'));
  for (const RoutePath& known : paths) {
    auto argument = match(known.path, path);
    if (!argument) continue;
    // The names of models alone hold slashes.
    const bool is_one_step = argument->find('/') == std::string::npos;
    if (is_one_step || known.route == Route::model) return {known.route, std::move(*argument)};
  }
  return {};
}

std::string_view allowed_methods(Route route) {
  const RoutePath* known = first_path(route);
  return known == nullptr ? reads : known->methods;
}

bool allows_method(Route route, std::string_view method) {
  std::string_view rest = allowed_methods(route);
  while (true) {
    const std::size_t comma = rest.find(", ");
    if (rest.substr(0, comma) == method) return true;
    if (comma == std::string_view::npos) return false;
    rest.remove_prefix(comma + 2);
  }
}

std::string_view name(Route route) {
  const RoutePath* known = first_path(route);
  return known == nullptr ? "(unknown)" : known->path;
}

}  // namespace ridge::server
