#include "server/server.h"

#include <fmt/format.h>

#include <boost/asio/detached.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <csignal>
#include <thread>

#include "base/log.h"
#include "server/as_result.h"
#include "server/batch_runner.h"
#include "server/connection.h"
#include "server/service.h"
#include "server/tls.h"

namespace ridge::server {

using boost::system::error_code;
using tcp = asio::ip::tcp;

namespace {

constexpr std::chrono::milliseconds health_interval{1'000};
constexpr std::chrono::milliseconds accept_pause{100};  // where descriptors have run out
constexpr std::chrono::milliseconds farewell_timeout{
    3'000};  // for last bytes, once the engines are idle
constexpr std::chrono::milliseconds farewell_poll{20};

tcp::endpoint resolve(const ServerOptions& options) {
  error_code failure;
  asio::io_context context;
  tcp::resolver resolver(context);
  const std::string port = std::to_string(options.port);
  const auto found = resolver.resolve(options.host, port, tcp::resolver::passive, failure);
  if (failure || found.empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the host '{}' has no address: {}", options.host, failure.message()),
                "host");
  }
  return found.begin()->endpoint();
}

// Keys are asked for unless both sides say no, and never travel in the clear by accident.
void check_authentication(const ServerOptions& options, bool has_authenticator,
                          const tcp::endpoint& endpoint) {
  if (has_authenticator == options.no_auth) {
    throw Error(ErrorCode::invalid_argument,
                "a server either checks keys or is told no_auth, and not both");
  }
  if (endpoint.address().is_loopback()) return;
  if (options.no_auth) {
    throw Error(
        ErrorCode::permission_denied,
        fmt::format("{} can be reached by other machines, which --no-auth would let use the "
                    "models without a key. Listen on 127.0.0.1, or leave out --no-auth.",
                    options.host),
        "host");
  }
  const bool has_tls = !options.tls_certificate.empty();
  if (!has_tls && options.trusted_proxies.empty() && !options.insecure_http) {
    throw Error(
        ErrorCode::permission_denied,
        fmt::format(
            "{} can be reached by other machines, and keys would travel in the clear. "
            "Give a certificate with --tls-cert and --tls-key, put a proxy with TLS in front "
            "and name it with --trusted-proxy, or accept that with --insecure-http.",
            options.host),
        "host");
  }
}

void check_options(const ServerOptions& options, bool has_authenticator,
                   const tcp::endpoint& endpoint) {
  if (options.network_threads < 1 || options.text_threads < 1 || options.max_connections < 1) {
    throw Error(ErrorCode::invalid_argument,
                "a server needs at least one thread and one connection");
  }
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    throw Error(ErrorCode::invalid_argument, "--tls-cert and --tls-key go together");
  }
  check_authentication(options, has_authenticator, endpoint);
}

std::unique_ptr<TlsContext> tls_of(const ServerOptions& options) {
  if (options.tls_certificate.empty()) return nullptr;
  return std::make_unique<TlsContext>(options.tls_certificate, options.tls_key);
}

// Certificates are renewed while the server runs; those who are connected keep the old one.
asio::awaitable<void> reload_tls(Service& service) {
  while (true) {
    const auto [failure, number] = co_await service.hang_ups.async_wait(as_result);
    if (failure) co_return;
    try {
      service.tls->reload();
      log::info("the TLS certificate was read anew");
    } catch (const Error& error) {
      log::error("the TLS certificate stays as it was: {}", error.message());
    }
  }
}

void listen(tcp::acceptor& acceptor, const tcp::endpoint& endpoint) {
  error_code failure;
  acceptor.open(endpoint.protocol(), failure);
  if (!failure) acceptor.set_option(tcp::acceptor::reuse_address(true), failure);
  if (!failure) acceptor.bind(endpoint, failure);
  if (!failure) acceptor.listen(asio::socket_base::max_listen_connections, failure);
  if (!failure) return;
  const std::string address = fmt::format("{}:{}", endpoint.address().to_string(), endpoint.port());
  if (failure == asio::error::address_in_use) {
    throw Error(
        ErrorCode::io,
        fmt::format("{} is in use by another program; choose another port with --port", address));
  }
  throw Error(ErrorCode::io, fmt::format("cannot listen on {}: {}", address, failure.message()));
}

// Without a coroutine, a thread or a wait: this is said when there is no room. In TLS there is no
// way to say it so.
void turn_away(tcp::socket socket, bool is_tls) {
  if (is_tls) return;
  static const std::string answer = [] {
    const std::string body =
        R"({"error":{"message":"too many connections; try again soon","type":"service_unavailable_error",)"
        R"("param":null,"code":"unavailable"}})";
    ResponseHead head;
    head.status = 503;
    head.content_bytes = body.size();
    head.keep_alive = false;
    head.headers.emplace_back("Retry-After", "1");
    return to_bytes(head) + body;
  }();
  error_code ignored;
  socket.non_blocking(true, ignored);
  socket.write_some(asio::buffer(answer), ignored);
  socket.shutdown(tcp::socket::shutdown_send, ignored);
}

asio::awaitable<void> pause(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(as_result);
}

asio::awaitable<void> accept_connections(Service& service) {
  while (true) {
    auto [failure, socket] =
        co_await service.acceptor.async_accept(asio::make_strand(service.network), as_result);
    if (failure == asio::error::operation_aborted) co_return;
    if (failure) {
      log::warning("cannot accept a connection: {}", failure.message());
      co_await pause(accept_pause);
    } else if (service.connections >= service.options.max_connections) {
      turn_away(std::move(socket), service.tls != nullptr);
    } else {
      const auto executor = socket.get_executor();
      const auto connection = std::make_shared<Connection>(service, std::move(socket));
      const auto serve = [connection]() -> asio::awaitable<void> { co_await connection->run(); };
      asio::co_spawn(executor, serve, asio::detached);
    }
  }
}

asio::awaitable<void> observe_health(Service& service) {
  while (true) {
    co_await pause(health_interval);
    std::lock_guard lock(service.health_mutex);
    service.health.observe(*service.models.list(), service.clock.now());
  }
}

// Every engine at once, each on a thread, since `drain` waits.
void drain_engines(const Service& service) {
  const auto engines = service.models.engines();
  std::vector<std::jthread> threads;
  for (const auto& engine : engines) {
    threads.emplace_back([&] { engine->drain(service.options.drain_timeout); });
  }
}

// The engines are idle; what they said last may still be on its way.
asio::awaitable<void> say_farewell(Service& service) {
  const auto until = service.clock.now() + farewell_timeout;
  while (service.generations > 0 && service.clock.now() < until) co_await pause(farewell_poll);
  co_await pause(farewell_poll);
  service.network.stop();
}

// A model that was fetched is served from then on.
void serve_pulled(Service& service, const platform::Manifest& manifest) {
  if (api::serves(*service.models.list(), manifest.name)) return;
  ModelList added;
  try {
    added = service.platform.supply->declare(manifest);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{} is in the store, but cannot be served: {}",
                                          manifest.name, error.message()));
  }
  for (api::ServedModel& model : added) model.is_added = true;
  service.models.add(std::move(added));
  log::info("{} is served from now on", manifest.name);
}

}  // namespace

Service::Service(ServerOptions given_options, std::vector<api::ServedModel> given_models,
                 std::shared_ptr<platform::Authenticator> given_authenticator,
                 std::shared_ptr<platform::Meter> given_meter, PlatformAccess given_platform,
                 bool is_loopback)
    : options(std::move(given_options)),
      models(std::move(given_models)),
      authenticator(std::move(given_authenticator)),
      meter(std::move(given_meter)),
      platform(std::move(given_platform)),
      tls(tls_of(options)),
      proxies(options.trusted_proxies),
      access(options.host, is_loopback, options.allowed_hosts, options.cors_origins),
      health(options.stall_timeout, clock.now()),
      text_pool(options.text_threads) {
  if (!options.otlp_traces.empty()) exporter.emplace(OtlpOptions{.url = options.otlp_traces});
  if (!platform.supply) return;
  downloads = std::make_unique<platform::Downloads>(
      platform.supply->pull,
      [this](const platform::Manifest& manifest) { serve_pulled(*this, manifest); });
}

// The meter tells nobody any more once what it would tell goes away.
Service::~Service() {
  if (meter) meter->wait_idle();
}

void Service::rights_have_changed() {
  if (authenticator) authenticator->look_again();
  if (revocations) revocations->look();
}

Server::Server(ServerOptions options, std::vector<api::ServedModel> models,
               std::shared_ptr<platform::Authenticator> authenticator,
               std::shared_ptr<platform::Meter> meter, PlatformAccess platform) {
  const tcp::endpoint endpoint = resolve(options);
  check_options(options, authenticator != nullptr, endpoint);
  service_ = std::make_unique<Service>(std::move(options), std::move(models),
                                       std::move(authenticator), std::move(meter),
                                       std::move(platform), endpoint.address().is_loopback());
  listen(service_->acceptor, endpoint);
  if (!service_->options.handle_signals) return;
  service_->signals.add(SIGINT);
  service_->signals.add(SIGTERM);
  if (service_->tls) service_->hang_ups.add(SIGHUP);
}

Server::~Server() = default;

uint16_t Server::port() const { return service_->acceptor.local_endpoint().port(); }

std::string Server::url() const {
  const auto address = service_->acceptor.local_endpoint().address();
  const std::string host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
  const char* scheme = service_->tls ? "https" : "http";
  return fmt::format("{}://{}:{}", scheme, host, port());
}

void Server::run() {
  Service& service = *service_;
  if (service.tls) service.tls->warn();
  if (service.options.handle_signals) {
    service.signals.async_wait([&](const error_code& failure, int) {
      if (failure) return;
      log::info("stopping: running requests have {} s to end; a second signal ends them at once",
                service.options.drain_timeout.count() / 1000);
      service.signals.clear();  // the next one has its ordinary effect
      stop();
    });
  }
  if (service.platform.files != nullptr) {
    service.file_sweeper.emplace(service.platform.files, service.platform.batches);
  }
  if (service.authenticator != nullptr && service.platform.identity != nullptr) {
    service.revocations.emplace(service.platform.identity, service.platform.sessions,
                                service.running_requests);
  }
  if (service.platform.batches != nullptr && service.options.batch_lines > 0) {
    const auto lines = static_cast<std::size_t>(service.options.batch_lines);
    service.batch_runner = std::make_unique<BatchRunner>(service, lines);
  }
  asio::co_spawn(service.network, accept_connections(service), asio::detached);
  asio::co_spawn(service.network, observe_health(service), asio::detached);
  if (service.options.handle_signals && service.tls) {
    asio::co_spawn(service.network, reload_tls(service), asio::detached);
  }
  std::vector<std::jthread> threads;
  for (int i = 1; i < service.options.network_threads; ++i) {
    threads.emplace_back([&] { service.network.run(); });
  }
  service.network.run();
  threads.clear();
  if (service.batch_runner) service.batch_runner->stop();
}

void Server::stop() {
  Service& service = *service_;
  if (service.draining.exchange(true)) return;
  // New requests are refused with 503 rather than not at all, so that a balancer sees it.
  service.drainer = std::jthread([&service] {
    drain_engines(service);
    asio::co_spawn(service.network, say_farewell(service), asio::detached);
  });
}

}  // namespace ridge::server
