#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "api/answer.h"
#include "api/error_body.h"
#include "api/request_record.h"
#include "server/answer_queue.h"
#include "server/callable_models.h"
#include "server/client_stream.h"
#include "server/generation.h"
#include "server/http_head.h"
#include "server/metered_request.h"
#include "server/page_request.h"
#include "server/preparation.h"
#include "server/rate_headers.h"
#include "server/route.h"
#include "server/service.h"

namespace ridge::server {

struct HandlerRoute;

// Nothing but the error itself may leave a coroutine's catch block, which cannot wait.
Error error_of(const std::exception_ptr& failure);

// One client. Reads one request after the other and answers each before it looks at the next, so
// that pipelined requests are answered in order. All of it runs on
// the executor (a strand) of its socket.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Service& service, asio::ip::tcp::socket socket);
  ~Connection();

  // Serves until the client leaves, breaks the protocol or a deadline passes.
  asio::awaitable<void> run();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  // What an answer needs to know of the request in hand.
  struct Exchange {
    std::string id;  // x-request-id
    std::string method, target, origin, host;
    // Who shares turns and prefixes: the key's project, or where nothing checks keys, whoever sends
    // the same one.
    std::string group;
    std::shared_ptr<const platform::Principal> principal;  // null where nothing checks keys
    std::shared_ptr<const ModelList> models;  // those that the key is for
    std::string address;                      // of the client, where keys are checked
    std::string cookies;                      // the header
    std::string session_token;                // of a cookie, whatever it is worth
    bool is_secure = false;                   // TLS is spoken, here or at a trusted proxy
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
    // Where usage is counted: from the admission on.
    std::unique_ptr<MeteredRequest> metered;
    HeaderFields rate_headers;
    int status = 0;       // once known
    std::string error;    // the name of the ErrorCode that it ended with, if any
    engine::Usage usage;  // at the end
    std::string details;  // for the log: model and tokens
  };

  // connection.cc: reading, writing, deadlines.
  asio::awaitable<bool> shake_hands();       // false: it is no TLS, or too slow
  asio::awaitable<bool> wait_for_request();  // false: nothing more comes
  asio::awaitable<bool> read_request(Parser& parser);
  asio::awaitable<void> continue_if_expected(const Parser& parser);
  asio::awaitable<void> refuse_request(const boost::system::error_code& failure, bool started);
  void describe_request(const Parser& parser);
  asio::awaitable<bool> write(std::string_view bytes);  // false: the client is gone or too slow
  asio::awaitable<void> close_gently();
  void arm(std::chrono::milliseconds timeout);
  void disarm();

  // While an answer is made, reads ahead, so that a client's leaving is noticed at once.
  void start_watch();
  asio::awaitable<void> stop_watch();
  void watch();

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

  // connection_access.cc: who may be answered.
  asio::awaitable<bool> admit(const Parser& parser);  // false: refused, and told so
  asio::awaitable<void> authenticate(const Parser& parser);
  using SharedPrincipal = std::shared_ptr<const platform::Principal>;
  asio::awaitable<SharedPrincipal> find_key(const std::string& key);
  asio::awaitable<SharedPrincipal> find_session(const Parser& parser);  // null: there is none
  void check_session_use(const Parser& parser) const;
  const std::vector<api::ServedModel>& visible_models() const;
  CallableModels callable_models() const;  // those, and endpoints
  // Among which the one is that a request asks. Belongs on a text thread.
  std::shared_ptr<const CallableModels::List> models_for(const api::Json& body) const;
  // May do with models what others notice who use them.
  bool is_administrator() const;

  // connection_metering.cc: what it may use and has used.
  asio::awaitable<bool> reserve(const Prepared& prepared);  // false: refused, and told so
  asio::awaitable<void> send_refusal(const platform::Refusal& refusal);
  // Before a client learns that its answer has ended; an error where that cannot be recorded.
  asio::awaitable<std::optional<Error>> settle(const AnswerEnd& end);

  // connection_moderation.cc: whether what is asked may be answered.
  asio::awaitable<bool> moderate(Prepared& prepared);  // false: refused, and told so

  // connection_answers.cc: what is said.
  asio::awaitable<void> answer(std::string body);
  asio::awaitable<void> answer_get();
  void check_caller() const;
  asio::awaitable<void> send(int status, std::string_view body,
                             std::string_view content_type = "application/json",
                             HeaderFields headers = {});
  asio::awaitable<void> send_error(const Error& error, int retry_after_s = 1);
  asio::awaitable<void> send_failure(int status, std::string_view body, int64_t retry_after_ms,
                                     bool has_timed_out);
  asio::awaitable<void> send_preflight();
  asio::awaitable<void> send_hello();
  asio::awaitable<void> send_metrics();
  asio::awaitable<void> send_health();
  asio::awaitable<void> answer_stored();
  ResponseHead head_of(int status) const;
  void log() const;

  // connection_handlers.cc: what handlers say.
  asio::awaitable<void> answer_by_handler(const HandlerRoute& route, std::string body);

  // connection_generation.cc: what engines say.
  asio::awaitable<void> generate(std::string body);
  asio::awaitable<void> run(Prepared prepared);
  asio::awaitable<AnswerEnd> run_wave(Making& making, std::span<engine::Request> wave);
  asio::awaitable<void> submit(Generation& generation, const engine::Request& request,
                               bool waits_for_room);
  Clock::Duration rest_of_deadline(Clock::Duration deadline) const;
  asio::awaitable<AnswerEnd> stream_answer(AnswerQueue& queue, Making& making);
  asio::awaitable<AnswerEnd> collect_document(AnswerQueue& queue, Making& making);
  asio::awaitable<void> send_document(Making& making, const AnswerEnd& end);
  // False where `at_most` passed without news.
  asio::awaitable<bool> wait_for_news(std::chrono::milliseconds at_most);
  void notify();
  void keep_loaded(const api::ServedModel& model, std::optional<Clock::Duration> unused_for) const;
  std::function<void()> make_wake();
  Error failure_of(const AnswerEnd& end, const AnswerQueue& queue) const;
  void note_end(const api::ServedModel& model, const AnswerEnd& end);

  // connection_console.cc: the console's files.
  asio::awaitable<void> send_console();

  // connection_requests.cc: of requests, for those who ask about them.
  asio::awaitable<void> answer_now();
  asio::awaitable<void> answer_requests();
  bool may_see(const api::RequestRecord& record) const;
  bool may_use(const std::string& model) const;
  void begin_record();
  void drop_record();
  void record_requests(Prepared& prepared);
  void end_record();

  Service& service_;
  ClientStream stream_;
  boost::beast::flat_buffer buffer_;
  asio::steady_timer deadline_;
  uint64_t deadlines_ = 0;  // counts arm and disarm: tells a late expiry from the present one
  bool deadline_passed_ = false;

  asio::steady_timer news_timer_;  // its expiry only sends heartbeats; cancelled when there is news
  bool has_news_ = false;
  std::function<void()> on_news_;  // at once, even while a write is stuck
  bool client_gone_ = false;
  bool watching_ = false;
  bool stops_watching_ = false;
  asio::cancellation_signal watch_stop_;
  asio::steady_timer watch_stopped_;

  Exchange exchange_;
};

}  // namespace ridge::server
