#include "server/caller.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "base/trimmed.h"
#include "server/handler_route.h"

namespace ridge::server {
namespace {

bool is_port(std::string_view text) {
  return !text.empty() && text.size() <= 5 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

// One of X-Forwarded-For, to which some proxies add the port: "192.0.2.1:80", "[2001:db8::1]:80". In
// one spelling, as attempts are counted by it; nullopt where it is none.
std::optional<std::string> address_in(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view behind = text.substr(end + 1);
    if (!behind.empty() && !(behind.front() == ':' && is_port(behind.substr(1)))) {
      return std::nullopt;
    }
    text = text.substr(1, end - 1);
  } else if (const std::size_t colon = text.find(':');
             colon != std::string_view::npos && colon == text.rfind(':')) {
    if (!is_port(text.substr(colon + 1))) return std::nullopt;
    text = text.substr(0, colon);
  }
  boost::system::error_code failure;
  const auto address = boost::asio::ip::make_address(text, failure);
  if (failure) return std::nullopt;
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return make_address_v4(boost::asio::ip::v4_mapped, address.to_v6()).to_string();
  }
  return address.to_string();
}

}  // namespace

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
    case Route::response_tokens:
    case Route::response_cancel:
    case Route::response:
    case Route::response_items:
    case Route::ollama_chat:
    case Route::ollama_generate:
    case Route::ollama_tags:
    case Route::ollama_show:
    case Route::ollama_version:
    case Route::ollama_embed:
    case Route::ollama_embeddings:
    case Route::ollama_ps:
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
  std::string client(peer);
  while (contains(client) && !forwarded_for.empty()) {
    const std::size_t comma = forwarded_for.rfind(',');
    const auto next = address_in(
        trimmed(forwarded_for.substr(comma == std::string_view::npos ? 0 : comma + 1)));
    if (!next) break;
    client = *next;
    forwarded_for = forwarded_for.substr(0, comma == std::string_view::npos ? 0 : comma);
  }
  return client;
}

}  // namespace ridge::server
