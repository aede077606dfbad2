#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/served_model.h"
#include "platform/identity/authenticator.h"
#include "platform/metering/meter.h"
#include "server/options.h"
#include "server/platform_access.h"

namespace ridge::server {

struct Service;

// Serves models over HTTP from the moment of `run`.
class Server {
 public:
  // Binds the address, so that a client that knows it waits rather than fails. Throws Error(io) for
  // an address that is in use or not ours, Error(permission_denied) for one that others can reach
  // where keys would not be asked for or not be safe, Error(invalid_argument) for options that make
  // no sense. Without an authenticator the options must say `no_auth`. With a meter, requests
  // that come with a key are counted, and limited.
  Server(ServerOptions options, std::vector<api::ServedModel> models,
         std::shared_ptr<platform::Authenticator> authenticator = nullptr,
         std::shared_ptr<platform::Meter> meter = nullptr, PlatformAccess platform = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // The port that was bound.
  uint16_t port() const;
  // "http://127.0.0.1:8080"
  std::string url() const;

  // Returns once `stop` was called (or a signal came, see ServerOptions::handle_signals) and
  // running requests have ended or were cut off at the drain timeout. Once only.
  void run();
  // From any thread, more than once: no new requests, then `run` returns.
  void stop();

 private:
  std::unique_ptr<Service> service_;
};

}  // namespace ridge::server
