#include "server/caller.h"

#include <algorithm>

#include "base/trimmed.h"
#include "server/handler_route.h"

namespace ridge::server {
Access access_of(const RouteMatch& match, std::string_view method) {
  switch (match.route) {
    case Route::health:
    case Route::live:
    case Route::ready:
      return open_access;
    case Route::console_asset:  // nothing of anybody's is in them
      return method == "GET" || method == "HEAD" ? open_access : inference_access;
    case Route::metrics:
      return {platform::Role::viewer, platform::Scope::metrics};
    case Route::hello:
    case Route::openapi:
    case Route::models:
    case Route::model:
    case Route::chat_completions:
    case Route::completions:
    case Route::embeddings:
    case Route::rerank:
    case Route::score:
    case Route::tokenize:
    case Route::detokenize:
    case Route::tokenizer_info:
    case Route::answer_now:
    case Route::requests:
    case Route::request:
    case Route::messages:
    case Route::count_tokens:
    case Route::responses:
    case Route::response:
    case Route::response_items:
    case Route::ollama_chat:
    case Route::ollama_generate:
    case Route::ollama_tags:
    case Route::ollama_show:
    case Route::ollama_version:
    case Route::unknown:  // so that a typing mistake is told from a missing right
      return inference_access;
    case Route::handled:
      if (const HandlerRoute* handler = find_handler(match.path->path, method)) {
        return handler->access;
      }
      return viewer_access;  // to be told which methods there are
    default:
      return admin_access;
  }
}

TrustedProxies::TrustedProxies(const std::vector<std::string>& ranges) {
  for (const std::string& range : ranges) {
    ranges_.push_back(platform::AddressRange::parse_or_throw(range));
  }
}

bool TrustedProxies::contains(std::string_view address) const {
  return std::ranges::any_of(ranges_, [&](const auto& range) { return range.contains(address); });
}

std::string TrustedProxies::client_of(std::string_view peer, std::string_view forwarded_for) const {
  std::string_view client = peer;
  while (contains(client) && !forwarded_for.empty()) {
    const std::size_t comma = forwarded_for.rfind(',');
    client = trimmed(forwarded_for.substr(comma == std::string_view::npos ? 0 : comma + 1));
    forwarded_for = forwarded_for.substr(0, comma == std::string_view::npos ? 0 : comma);
  }
  return std::string(client);
}

}  // namespace ridge::server
