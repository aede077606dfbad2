// Who may be answered.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "platform/digest.h"
#include "server/connection.h"
#include "server/session_cookie.h"

namespace ridge::server {

namespace http = boost::beast::http;

namespace {

// A proxy may add a line of its own below those that the client sent: all of them are one list (RFC
// 9110, 5.3).
std::string forwarded_for(const http::fields& head) {
  std::string chain;
  const auto [first, last] = head.equal_range("x-forwarded-for");
  for (auto field = first; field != last; ++field) {
    if (!chain.empty()) chain += ", ";
    chain += field->value();
  }
  return chain;
}

}  // namespace

asio::awaitable<bool> Connection::admit(const Parser& parser) {
  std::exception_ptr refusal;
  try {
    check_caller();
    co_await authenticate(parser);
  } catch (...) {
    refusal = std::current_exception();
  }
  if (!refusal) co_return true;
  exchange_.keep_alive = false;  // the body, if there is one, is not read
  co_await send_error(error_of(refusal, exchange_.id));
  log();
  co_return false;
}

void Connection::check_caller() const {
  if (exchange_.host.empty() && !exchange_.is_http_1_0) {
    throw Error(ErrorCode::invalid_argument, "the request needs exactly one Host header");
  }
  if (!exchange_.host.empty() && !service_.access.allows_host(exchange_.host)) {
    throw Error(
        ErrorCode::permission_denied,
        fmt::format("this server does not answer to the name '{}'; start it with --allow-host to "
                    "add one",
                    exchange_.host.substr(0, 200)));
  }
  if (!service_.access.allows_origin(exchange_.origin, exchange_.host)) {
    throw Error(
        ErrorCode::permission_denied,
        fmt::format("pages of '{}' may not call this server; start it with --cors-origin to allow "
                    "them",
                    exchange_.origin.substr(0, 200)));
  }
}

asio::awaitable<void> Connection::authenticate(const Parser& parser) {
  const auto& head = parser.get();
  exchange_.models = service_.models.list();
  const std::string key = caller_key(head[http::field::authorization], head["x-api-key"]);
  if (service_.authenticator == nullptr) {
    exchange_.group = key;  // nobody checks it; it still tells callers apart
    co_return;
  }
  boost::system::error_code failure;
  const auto peer = stream_.socket().remote_endpoint(failure).address();
  if (failure) throw Error(ErrorCode::cancelled, "the client is gone");
  const std::string peer_text = peer.to_string();
  const bool is_proxy = service_.proxies.contains(peer_text);
  exchange_.address = service_.proxies.client_of(peer_text, forwarded_for(head));
  exchange_.is_secure = stream_.is_tls() || (is_proxy && head["x-forwarded-proto"] != "http");
  exchange_.cookies = head[http::field::cookie];
  exchange_.session_token = session_token(exchange_.cookies, exchange_.is_secure);
  exchange_.is_stranger =
      !asio::ip::make_address(exchange_.address, failure).is_loopback() || failure;
  const Access access = access_of(exchange_.route, exchange_.method);
  const bool is_preflight =  // which browsers send without a key
      exchange_.method == "OPTIONS" && service_.access.is_cors_origin(exchange_.origin);
  if (is_preflight || exchange_.page.wanted) co_return;
  if (access.is_open && exchange_.route.route != Route::handled) co_return;

  if (!service_.proxies.empty() && !peer.is_loopback() && !is_proxy) {
    throw Error(ErrorCode::permission_denied,
                "this server is spoken to through its proxy; its plain port takes no keys");
  }
  if (access.is_open && !access.looks_for_session) co_return;
  SharedPrincipal principal;
  if (key.empty()) principal = co_await find_session(parser);
  if (access.is_open && !principal) co_return;
  if (!principal) principal = co_await find_key(key);
  if (!access.allows(*principal)) {
    const std::string lack =
        principal->is_session
            ? fmt::format("your role is {}, and {} is for {}s", platform::name(principal->role),
                          name(exchange_.route), platform::name(access.least_role))
            : fmt::format("this API key lacks the scope '{}', which {} needs",
                          platform::name(access.scope), name(exchange_.route));
    throw Error(ErrorCode::permission_denied, lack);
  }
  exchange_.group = principal->project_id;
  set_principal(std::move(principal));
}

asio::awaitable<Connection::SharedPrincipal> Connection::find_key(const std::string& key) {
  auto& authenticator = *service_.authenticator;
  auto principal = authenticator.authenticate_from_cache(key, exchange_.address);
  if (principal) co_return principal;
  const auto work = [&] { return authenticator.authenticate(key, exchange_.address); };
  co_return co_await on_key_pool(service_, authenticator.knows(key), work);
}

asio::awaitable<Connection::SharedPrincipal> Connection::find_session(const Parser& parser) {
  if (exchange_.session_token.empty() || service_.platform.sessions == nullptr) co_return nullptr;
  check_session_use(parser);
  const std::string project(parser.get()["x-ridge-project"]);
  const auto work = [&] {
    return service_.platform.sessions->find(exchange_.session_token, project);
  };
  auto found = co_await on_pool(service_.session_pool, service_.session_jobs,
                                service_.options.max_connections, work);
  if (!found) co_return nullptr;
  co_return std::make_shared<platform::Principal>(std::move(*found));
}

// A browser sends the cookie whoever makes it ask; what changes something has to come from our
// own pages, which alone can know the token.
void Connection::check_session_use(const Parser& parser) const {
  if (exchange_.method == "GET" || exchange_.method == "HEAD") return;
  if (!service_.access.allows_session(exchange_.origin, exchange_.host, exchange_.is_secure)) {
    throw Error(ErrorCode::permission_denied,
                "a session changes things from pages of this server alone: the header Origin must "
                "name it");
  }
  const auto wanted = platform::Digest::of(platform::Sessions::csrf_token(exchange_.session_token));
  if (platform::Digest::of(std::string(parser.get()["x-ridge-csrf"])) != wanted) {
    throw Error(ErrorCode::permission_denied,
                "a session changes things only with the header x-ridge-csrf, whose value is the "
                "csrf_token of /api/v1/session");
  }
}

}  // namespace ridge::server
