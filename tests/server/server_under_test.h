#pragma once

#include <chrono>
#include <memory>
#include <thread>

#include "longest_wait.h"
#include "raw_client.h"
#include "scripted_engine.h"
#include "server/server.h"

namespace ridge::server {

// For a machine that is slow, or stands still for a while.
inline const platform::AuthenticatorOptions patient{.most_wait = longest_wait};

// A server on a free port with one scripted model named "m"; stopped when it goes.
class ServerUnderTest {
 public:
  // Asks for keys where there is an authenticator.
  explicit ServerUnderTest(ScriptedEngine::Script script, ServerOptions options = {},
                           std::shared_ptr<platform::Authenticator> authenticator = nullptr,
                           std::shared_ptr<platform::Meter> meter = nullptr,
                           PlatformAccess platform = {})
      : engine(std::make_shared<ScriptedEngine>(std::move(script))),
        model(api::serve_model("m", engine, 1)),
        server(prepare(options, authenticator == nullptr), {model}, authenticator, meter,
               std::move(platform)) {
    thread_ = std::thread([this] { server.run(); });
  }
  ~ServerUnderTest() { stop(); }

  void stop() {
    server.stop();
    if (thread_.joinable()) thread_.join();
  }
  uint16_t port() const { return server.port(); }

  std::shared_ptr<ScriptedEngine> engine;
  const api::ServedModel model;
  Server server;

 private:
  static ServerOptions prepare(ServerOptions options, bool no_auth) {
    options.port = 0;
    options.no_auth = no_auth;
    return options;
  }
  std::thread thread_;
};

}  // namespace ridge::server
