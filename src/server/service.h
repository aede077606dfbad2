#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "api/request_record.h"
#include "api/response_store.h"
#include "api/served_model.h"
#include "base/clock.h"
#include "base/error.h"
#include "platform/downloads.h"
#include "platform/identity/authenticator.h"
#include "platform/metering/meter.h"
#include "server/access_rules.h"
#include "server/caller.h"
#include "server/file_sweeper.h"
#include "server/gen_ai_metrics.h"
#include "server/group_pool.h"
#include "server/health.h"
#include "server/moderation.h"
#include "server/options.h"
#include "server/otlp_exporter.h"
#include "server/platform_access.h"
#include "server/refusal_budget.h"
#include "server/revocation_watch.h"
#include "server/running_requests.h"
#include "server/served_models.h"
#include "server/sign_in_throttle.h"
#include "server/tls.h"
#include "server/upload_slots.h"
#include "server/usage_metrics.h"
#include "text/grammar.h"

namespace ridge::server {

namespace asio = boost::asio;

class BatchRunner;

inline constexpr int handler_threads = 2;
inline constexpr int moderation_threads = 16;  // which only wait for other servers

// What the connections of one server share. Outlives them.
struct Service {
  Service(ServerOptions given_options, std::vector<api::ServedModel> given_models,
          std::shared_ptr<platform::Authenticator> given_authenticator,
          std::shared_ptr<platform::Meter> given_meter, PlatformAccess given_platform,
          bool is_loopback);
  ~Service();

  // What keys and people may do, perhaps: it counts from now on. On a thread that may wait.
  void rights_have_changed();

  const ServerOptions options;
  ServedModels models;
  const std::shared_ptr<platform::Authenticator> authenticator;  // null: nothing checks keys
  const std::shared_ptr<platform::Meter> meter;                  // null: nothing is counted
  const PlatformAccess platform;
  const std::unique_ptr<TlsContext> tls;  // null: it is spoken to in the clear
  const TrustedProxies proxies;
  const AccessRules access;
  const SteadyClock clock;

  std::atomic<int> key_jobs{0}, stranger_jobs{0}, handler_jobs{0};
  std::atomic<int> batch_jobs{0};
  std::atomic<int> session_jobs{0}, password_jobs{0}, provider_jobs{0}, moderation_jobs{0};
  std::atomic<int> connections{0};
  std::atomic<int> generations{0};  // requests that the engines or handlers may be working on
  std::atomic<bool> draining{false};

  UploadSlots uploads;
  SignInThrottle sign_ins{clock, options.sign_ins};
  RefusalBudget refusals{clock};
  std::unique_ptr<platform::Downloads> downloads;  // null without a supply of models
  RunningRequests running_requests;
  api::ResponseStore responses{options.max_stored, options.max_stored_of_project};
  api::RequestRecords records{options.max_recorded_requests};
  GenAiMetrics gen_ai_metrics;
  Moderation moderation;
  UsageMetrics usage_metrics;
  std::optional<OtlpExporter> exporter;  // where the options name a collector

  std::mutex health_mutex;
  Health health;

  std::unique_ptr<BatchRunner> batch_runner;  // from run() on, where it runs batches

  std::optional<RevocationWatch> revocations;  // from run() on, where keys are asked for

  // Destroyed before what its connections use, and after the threads that hand work to it.
  asio::io_context network;
  asio::ip::tcp::acceptor acceptor{network};
  asio::signal_set hang_ups{network};  // SIGHUP
  asio::signal_set signals{network};  // from the beginning, or one that comes early would be deadly
  GroupPool text_pool;
  // Of grammars that are not kept, so that they keep nobody waiting who has none.
  GroupPool grammar_pool{text::grammars_compiled_at_once};
  asio::thread_pool key_pool{1};       // of keys that are known, about once a second
  asio::thread_pool stranger_pool{1};  // of those that have to be looked up
  asio::thread_pool session_pool{1};   // of those who have signed in
  asio::thread_pool password_pool{1};  // so that checks of passwords take no more than a core
  asio::thread_pool provider_pool{1};  // which signs people in
  asio::thread_pool handler_pool{handler_threads};
  asio::thread_pool moderation_pool{moderation_threads};
  asio::thread_pool batch_pool{1};  // of results of batches, which wait for the disk
  std::optional<FileSweeper> file_sweeper;  // from run() on, where there are files
  std::jthread drainer;                     // joined before what it uses goes away
};

// Counts what may still have to be sent, so that a drain waits for it.
class RunningScope {
 public:
  explicit RunningScope(std::atomic<int>& count) : count_(count) { ++count_; }
  ~RunningScope() { --count_; }
  RunningScope(const RunningScope&) = delete;
  RunningScope& operator=(const RunningScope&) = delete;

 private:
  std::atomic<int>& count_;
};

// Runs `work` on the pool and returns its result or its exception. Throws Error(queue_full) where
// `most` wait for it already.
template <typename Work>
asio::awaitable<std::invoke_result_t<Work>> on_pool(asio::thread_pool& pool, std::atomic<int>& jobs,
                                                    int most, Work work) {
  struct Slot {
    std::atomic<int>& jobs;
    ~Slot() { --jobs; }
  };
  const int waiting = jobs++;
  const Slot slot{jobs};
  if (waiting >= most) {
    throw Error(ErrorCode::queue_full, "too many requests are being read; try again soon");
  }
  auto job = [](Work run) -> asio::awaitable<std::invoke_result_t<Work>> { co_return run(); };
  co_return co_await asio::co_spawn(pool.get_executor(), job(std::move(work)), asio::use_awaitable);
}

// For what must wait for the database to check a key, so that whoever makes keys up keeps nobody
// waiting whose key is known. There are never more than connections.
template <typename Work>
asio::awaitable<std::invoke_result_t<Work>> on_key_pool(Service& service, bool is_known,
                                                        Work work) {
  return on_pool(is_known ? service.key_pool : service.stranger_pool,
                 is_known ? service.key_jobs : service.stranger_jobs,
                 service.options.max_connections, std::move(work));
}

}  // namespace ridge::server
