#include "server/route.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <vector>

#include "api/url_query.h"
#include "server/handler_route.h"

namespace ridge::server {
namespace {

constexpr std::string_view reads = "GET, HEAD";
constexpr std::string_view posts = "POST";

constexpr RoutePath paths[] = {
    {Route::hello, "/", reads},
    {Route::console_asset, "/assets/{id}", reads},
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
    {Route::rerank, "/rerank", posts},  // Jina's and vLLM's clients
    {Route::rerank, "/v2/rerank", posts},  // Cohere's
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
    {Route::response_tokens, "/v1/responses/input_tokens", posts},
    // Before what they begin with.
    {Route::response_items, "/v1/responses/{id}/input_items", reads},
    {Route::response_cancel, "/v1/responses/{id}/cancel", posts},
    {Route::response, "/v1/responses/{id}", "GET, HEAD, DELETE"},
    {Route::ollama_chat, "/api/chat", posts},
    {Route::ollama_generate, "/api/generate", posts},
    {Route::ollama_tags, "/api/tags", reads},
    {Route::ollama_show, "/api/show", posts},
    {Route::ollama_version, "/api/version", reads},
    {Route::ollama_embed, "/api/embed", posts},
    {Route::ollama_embeddings, "/api/embeddings", posts},
    {Route::ollama_ps, "/api/ps", reads},
};

constexpr std::string_view varying = "{id}";

struct Argument {
  std::string_view raw;
  std::string decoded;
};

// Nullopt where `path` is not of this form; else what stands for {id}.
std::optional<Argument> match(std::string_view form, std::string_view path) {
  const std::size_t at = form.find(varying);
  if (at == std::string_view::npos) {
    return form == path ? std::optional<Argument>(Argument{}) : std::nullopt;
  }
  const std::string_view before = form.substr(0, at), after = form.substr(at + varying.size());
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after)) {
    return std::nullopt;
  }
  const auto raw = path.substr(before.size(), path.size() - before.size() - after.size());
  auto decoded = api::percent_decode(raw);
  if (!decoded) return std::nullopt;
  return Argument{raw, std::move(*decoded)};
}

// The paths of handlers, each with all of its methods. What is returned refers to `methods`.
std::vector<RoutePath> handled_paths(std::map<std::string_view, std::string>& methods) {
  for (const HandlerRoute& handler : handler_routes()) {
    std::string& list = methods[handler.path];
    if (!list.empty()) list += ", ";
    list += handler.method == "GET" ? reads : handler.method;
  }
  std::vector<RoutePath> handled;
  for (const auto& [path, list] : methods) handled.push_back({Route::handled, path, list});
  // What ends in something fixed goes before what would take that for a part that varies.
  std::ranges::stable_sort(handled, std::greater<>(),
                           [](const RoutePath& path) { return !path.path.ends_with(varying); });
  return handled;
}

}  // namespace

std::span<const RoutePath> route_paths() {
  static std::map<std::string_view, std::string> methods;
  static const std::vector<RoutePath> all = [] {
    std::vector<RoutePath> list(std::begin(paths), std::end(paths));
    std::ranges::copy(handled_paths(methods), std::back_inserter(list));
    return list;
  }();
  return all;
}

RouteMatch match_route(std::string_view target) {
  const std::string_view path = target.substr(0, target.find('?'));
  for (const RoutePath& known : route_paths()) {
    auto argument = match(known.path, path);
    if (!argument) continue;
    // The names of models hold slashes.
    if (known.route != Route::model && argument->raw.find('/') != std::string::npos) continue;
    return {known.route, std::move(argument->decoded), &known};
  }
  return {};
}

std::string_view allowed_methods(const RouteMatch& match) {
  return match.path == nullptr ? reads : match.path->methods;
}

bool allows_method(const RoutePath& path, std::string_view method) {
  std::string_view rest = path.methods;
  while (true) {
    const std::size_t comma = rest.find(", ");
    if (rest.substr(0, comma) == method) return true;
    if (comma == std::string_view::npos) return false;
    rest.remove_prefix(comma + 2);
  }
}

std::string_view name(const RouteMatch& match) {
  if (match.path == nullptr) return "(unknown)";
  if (match.route == Route::handled) return match.path->path;
  return std::ranges::find(paths, match.route, &RoutePath::route)->path;
}

}  // namespace ridge::server
