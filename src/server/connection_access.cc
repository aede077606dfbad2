// Who may be answered.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "server/connection.h"

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
  std::optional<Error> refusal;
  try {
    co_await authenticate(parser);
  } catch (const Error& error) {
    refusal = error;
  }
  if (!refusal) co_return true;
  exchange_.keep_alive = false;  // the body, if there is one, is not read
  co_await send_error(*refusal);
  log();
  co_return false;
}

asio::awaitable<void> Connection::authenticate(const Parser& parser) {
  const auto& head = parser.get();
  const std::string key = caller_key(head[http::field::authorization], head["x-api-key"]);
  if (service_.authenticator == nullptr) {
    exchange_.group = key;  // nobody checks it; it still tells callers apart
    co_return;
  }
  boost::system::error_code failure;
  const auto peer = socket_.remote_endpoint(failure).address();
  if (failure) throw Error(ErrorCode::cancelled, "the client is gone");
  const std::string peer_text = peer.to_string();
  const std::string address = service_.proxies.client_of(peer_text, forwarded_for(head));
  exchange_.is_stranger = !asio::ip::make_address(address, failure).is_loopback() || failure;
  const Access access = access_of(exchange_.route, exchange_.method);
  const bool is_preflight =  // which browsers send without a key
      exchange_.method == "OPTIONS" && service_.access.is_cors_origin(exchange_.origin);
  if (access.is_open || is_preflight) co_return;

  if (!service_.proxies.empty() && !peer.is_loopback() && !service_.proxies.contains(peer_text)) {
    throw Error(ErrorCode::permission_denied,
                "this server is spoken to through its proxy; its plain port takes no keys");
  }
  auto principal = service_.authenticator->authenticate_from_cache(key, address);
  if (!principal) {
    const auto work = [&] { return service_.authenticator->authenticate(key, address); };
    principal = co_await on_key_pool(service_, service_.authenticator->knows(key), work);
  }
  if (!access.allows(*principal)) {
    throw Error(ErrorCode::permission_denied,
                fmt::format("this API key lacks the scope '{}', which {} needs",
                            platform::name(access.scope), name(exchange_.route)));
  }
  exchange_.group = principal->project_id;
  if (!principal->rights.models.empty()) {
    std::ranges::copy_if(
        service_.models, std::back_inserter(exchange_.models),
        [&](const api::ServedModel& model) { return principal->rights.allows_model(model.name); });
  }
  exchange_.principal = std::move(principal);
}

bool Connection::is_administrator() const {
  return !exchange_.principal || exchange_.principal->rights.has(platform::Scope::admin);
}

const std::vector<api::ServedModel>& Connection::visible_models() const {
  const bool is_bound = exchange_.principal && !exchange_.principal->rights.models.empty();
  return is_bound ? exchange_.models : service_.models;
}

}  // namespace ridge::server
