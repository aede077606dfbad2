#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>
#include <thread>
#include <vector>

#include "api/served_model.h"
#include "base/clock.h"
#include "base/error.h"
#include "server/access_rules.h"
#include "server/health.h"
#include "server/options.h"

namespace ridge::server {

namespace asio = boost::asio;

// What the connections of one server share. Outlives them.
struct Service {
  Service(ServerOptions given_options, std::vector<api::ServedModel> given_models,
          bool is_loopback);

  const ServerOptions options;
  const std::vector<api::ServedModel> models;
  const AccessRules access;
  const SteadyClock clock;

  std::atomic<int> text_jobs{0};
  std::atomic<int> connections{0};
  std::atomic<int> generations{0};  // requests that the engines may be working on
  std::atomic<bool> draining{false};

  std::mutex health_mutex;
  Health health;

  // Destroyed before what its connections use, and after the threads that hand work to it.
  asio::io_context network;
  asio::ip::tcp::acceptor acceptor{network};
  asio::thread_pool text_pool;
  std::jthread drainer;  // joined before what it uses goes away
};

// Runs `work` on the text threads and returns its result or its exception. Throws Error(queue_full)
// where too many wait for them already.
template <typename Work>
asio::awaitable<std::invoke_result_t<Work>> on_text_pool(Service& service, Work work) {
  struct Slot {
    std::atomic<int>& jobs;
    ~Slot() { --jobs; }
  };
  const int waiting = service.text_jobs++;
  const Slot slot{service.text_jobs};
  if (waiting >= service.options.max_text_jobs) {
    throw Error(ErrorCode::queue_full, "too many requests are being read; try again soon");
  }
  auto job = [](Work run) -> asio::awaitable<std::invoke_result_t<Work>> { co_return run(); };
  co_return co_await asio::co_spawn(service.text_pool.get_executor(), job(std::move(work)),
                                    asio::use_awaitable);
}

}  // namespace ridge::server
