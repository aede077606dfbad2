#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/answer.h"
#include "api/error_body.h"
#include "api/request_record.h"
#include "base/file_descriptor.h"
#include "server/answer_queue.h"
#include "server/callable_models.h"
#include "server/generation.h"
#include "server/http_head.h"
#include "server/kept_exchange.h"
#include "server/metered_request.h"
#include "server/page_request.h"
#include "server/preparation.h"
#include "server/rate_headers.h"
#include "server/route.h"
#include "server/service.h"

namespace ridge::server {

// Nothing but the error itself may leave a coroutine's catch block, which cannot wait. Where the
// database failed, the reason goes to the log alone, under the request's id.
Error error_of(const std::exception_ptr& failure, std::string_view request_id);

// Has engines answer requests, one after the other: reads a body, reserves what it may use,
// generates, settles. Where a request comes from and how its answer gets there is for those who
// derive from it: a connection, or a batch. All of it runs on one executor (a strand).
class Answering : public std::enable_shared_from_this<Answering> {
 public:
  virtual ~Answering() = default;
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;

  const asio::any_io_executor& executor() const { return executor_; }

 protected:
  Answering(Service& service, asio::any_io_executor executor);

  // What an answer needs to know of the request in hand.
  struct Exchange {
    std::string id;  // x-request-id
    std::string method, target, origin, host;
    // Who shares turns and prefixes: the key's project, or where nothing checks keys, whoever sends
    // the same one.
    std::string group;
    std::optional<int> priority;  // of its requests, whatever they ask; as engine::Request has it
    bool is_recorded = true;      // for those who ask what became of requests
    std::shared_ptr<const platform::Principal> principal;  // null where nothing checks keys
    std::shared_ptr<const ModelList> models;               // those that the key is for
    std::string address;                                   // of the client, where keys are checked
    std::string cookies, content_type;                     // the headers
    FileDescriptor upload;                                 // the body, where a route takes a file
    std::string session_token;                             // of a cookie, whatever it is worth
    bool is_secure = false;  // TLS is spoken, here or at a trusted proxy
    RouteMatch route;
    PageRequest page;
    api::TraceContext context;
    std::shared_ptr<api::RequestRecord> record;  // where an engine works on it
    api::ErrorStyle error_style = api::ErrorStyle::openai;
    // Somebody elsewhere, who has shown no key yet: health tells them how the server is and no
    // more.
    bool is_stranger = false;
    bool is_http_1_0 = false;
    bool keep_alive = false;
    std::size_t max_body_bytes = 0;
    Clock::TimePoint started_at;
    std::chrono::system_clock::time_point started_at_wall;
    // Where usage is counted: from the reservation on.
    std::unique_ptr<MeteredRequest> metered;
    // Where the project keeps what is asked and answered: from the reading of the body on.
    std::unique_ptr<KeptExchange> kept;
    // Of a line of a batch: where its result stands, and that this was settled with it.
    platform::BatchMark mark;
    bool is_marked = false;
    HeaderFields rate_headers;
    int status = 0;       // once known
    std::string error;    // the name of the ErrorCode that it ended with, if any
    engine::Usage usage;  // at the end
    std::string details;  // for the log: model and tokens
  };

  // An answer while an engine makes it.
  struct Making {
    const api::ServedModel& model;
    api::Answer& answer;
    std::string id;                              // the answer's own
    std::string document;                        // of one that does not stream
    std::size_t bytes = 0;                       // that the engine has said for the document
    int choices = 0;                             // submitted so far
    int64_t prompt_tokens = 0, told_tokens = 0;  // that the engine has said of the answer
    std::optional<Clock::Duration> keep_loaded;  // how long the model is, from the answer's end on
  };

  // How an answer gets to who asked.
  virtual asio::awaitable<void> send(int status, std::string_view body,
                                     std::string_view content_type = "application/json",
                                     HeaderFields headers = {}) = 0;
  virtual asio::awaitable<void> send_failure(int status, std::string_view body,
                                             int64_t retry_after_ms, bool has_timed_out) = 0;
  virtual asio::awaitable<AnswerEnd> stream_answer(AnswerQueue& queue, Making& making) = 0;
  // Around the work on an answer: whoever asks may leave meanwhile.
  virtual void start_watch() {}
  virtual asio::awaitable<void> stop_watch() { co_return; }
  // Of an answer that does not stream and has ended: it is whole, and what it used is not settled.
  virtual asio::awaitable<void> before_settlement(const Making& /*making*/,
                                                  const AnswerEnd& /*end*/) {
    co_return;
  }

  // answering.cc
  asio::awaitable<void> send_error(const Error& error, int retry_after_s = 1);
  void set_principal(std::shared_ptr<const platform::Principal> principal);
  const std::vector<api::ServedModel>& visible_models() const;
  CallableModels callable_models() const;  // those, and endpoints
  // Among which the one is that a request asks. Belongs on a text thread.
  std::shared_ptr<const CallableModels::List> models_for(const api::Json& body) const;
  bool may_use(const std::string& model) const;
  // May do with models what others notice who use them.
  bool is_administrator() const;
  void begin_record();
  void drop_record();
  void record_requests(Prepared& prepared);
  void end_record();

  // answering_metering.cc: what it may use and has used.
  // Until work on it may begin. False: refused, and told so.
  asio::awaitable<bool> reserve(const Prepared& prepared);
  // Until it is known whether what comes of that may be shown; why not, or null. That goes with
  // exchange_.metered.
  asio::awaitable<const platform::Refusal*> known_refusal();
  asio::awaitable<void> send_refusal(const platform::Refusal& refusal);
  // Before a client learns that its answer has ended; an error where that cannot be recorded.
  asio::awaitable<std::optional<Error>> settle(const AnswerEnd& end);

  // answering_keeping.cc: what its project keeps of it.
  void begin_keeping(const api::ServedModel& model, std::string body);
  void keep(std::string finish_reason);

  // answering_moderation.cc: whether what is asked may be answered.
  asio::awaitable<bool> moderate(Prepared& prepared);  // false: refused, and told so

  // answering_generation.cc: what engines say.
  asio::awaitable<void> generate(std::string body);
  void check_priority(const engine::Request& request) const;
  asio::awaitable<void> run(Prepared prepared);
  // Null: refused, and told so.
  asio::awaitable<std::optional<AnswerEnd>> run_wave(Making& making,
                                                     std::span<engine::Request> wave);
  asio::awaitable<void> submit(Generation& generation, const engine::Request& request,
                               bool waits_for_room);
  Clock::Duration rest_of_deadline(Clock::Duration deadline) const;
  void check_client() const;  // throws Error(cancelled) where it has gone
  asio::awaitable<AnswerEnd> collect_document(AnswerQueue& queue, Making& making);
  asio::awaitable<void> finish_document(Making& making, AnswerEnd& end);
  asio::awaitable<void> send_document(Making& making, const AnswerEnd& end);
  // What the engine has said, into the answer; the text that this makes is appended to `out`.
  asio::awaitable<void> take_news(AnswerQueue& queue, Making& making, std::string& out);
  // False where `at_most` passed without news.
  asio::awaitable<bool> wait_for_news(std::chrono::milliseconds at_most);
  void notify();
  void keep_loaded(const api::ServedModel& model, std::optional<Clock::Duration> unused_for) const;
  std::function<void()> make_wake();
  Error failure_of(const AnswerEnd& end, const AnswerQueue& queue) const;
  void note_end(const api::ServedModel& model, const AnswerEnd& end);

  Service& service_;
  const asio::any_io_executor executor_;
  asio::steady_timer news_timer_;  // its expiry only sends heartbeats; cancelled when there is news
  bool has_news_ = false;
  std::function<void()> on_news_;          // at once, even while a write is stuck
  std::atomic<bool> client_gone_ = false;  // read on threads of pools as well
  Exchange exchange_;
};

}  // namespace ridge::server
