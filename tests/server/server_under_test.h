#pragma once

#include <memory>
#include <thread>

#include "raw_client.h"
#include "scripted_engine.h"
#include "server/server.h"

namespace ridge::server {

// A server on a free port with one scripted model named "m"; stopped when it goes.
class ServerUnderTest {
 public:
  explicit ServerUnderTest(ScriptedEngine::Script script, ServerOptions options = {})
      : engine(std::make_shared<ScriptedEngine>(std::move(script))),
        server(prepare(options), models()) {
    thread_ = std::thread([this] { server.run(); });
  }
  ~ServerUnderTest() { stop(); }

  void stop() {
    server.stop();
    if (thread_.joinable()) thread_.join();
  }
  uint16_t port() const { return server.port(); }

  std::shared_ptr<ScriptedEngine> engine;
  Server server;

 private:
  static ServerOptions prepare(ServerOptions options) {
    options.port = 0;
    return options;
  }
  std::vector<api::ServedModel> models() const { return {api::serve_model("m", engine, 1)}; }

  std::thread thread_;
};

}  // namespace ridge::server
