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

#include "server/answering.h"
#include "server/client_stream.h"

namespace ridge::server {

struct HandlerAnswer;
struct HandlerRoute;

// One client. Reads one request after the other and answers each before it looks at the next, so
// that pipelined requests are answered in order. All of it runs on
// the executor (a strand) of its socket.
class Connection final : public Answering {
 public:
  Connection(Service& service, asio::ip::tcp::socket socket);
  ~Connection() override;

  // Serves until the client leaves, breaks the protocol or a deadline passes.
  asio::awaitable<void> run();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  // connection.cc: reading, writing, deadlines.
  asio::awaitable<bool> shake_hands();       // false: it is no TLS, or too slow
  asio::awaitable<bool> wait_for_request();  // false: nothing more comes
  asio::awaitable<bool> read_request(Parser& parser);
  std::chrono::milliseconds rest_of_upload(std::size_t received_bytes) const;
  asio::awaitable<void> receive_upload(Parser& head, boost::system::error_code& failure);
  asio::awaitable<void> continue_if_expected(const Parser& parser);
  asio::awaitable<void> refuse_request(const boost::system::error_code& failure, bool started);
  void describe_request(const Parser& parser);
  asio::awaitable<bool> write(std::string_view bytes);  // false: the client is gone or too slow
  asio::awaitable<void> close_gently();
  void arm(std::chrono::milliseconds timeout);
  void disarm();
  std::shared_ptr<Connection> self();

  // While an answer is made, reads ahead, so that a client's leaving is noticed at once.
  void start_watch() override;
  asio::awaitable<void> stop_watch() override;
  void watch();

  // connection_access.cc: who may be answered.
  asio::awaitable<bool> admit(const Parser& parser);  // false: refused, and told so
  void check_caller() const;                           // by the names that browsers send
  asio::awaitable<void> authenticate(const Parser& parser);
  using SharedPrincipal = std::shared_ptr<const platform::Principal>;
  asio::awaitable<SharedPrincipal> find_key(const std::string& key);
  asio::awaitable<SharedPrincipal> find_session(const Parser& parser);  // null: there is none
  void check_session_use(const Parser& parser) const;

  // connection_answers.cc: what is said.
  asio::awaitable<void> answer(std::string body);
  asio::awaitable<void> answer_get();
  asio::awaitable<void> send(int status, std::string_view body,
                             std::string_view content_type = "application/json",
                             HeaderFields headers = {}) override;
  asio::awaitable<void> send_file(HandlerAnswer answer);
  asio::awaitable<void> send_pieces(HandlerAnswer answer);
  asio::awaitable<void> send_failure(int status, std::string_view body, int64_t retry_after_ms,
                                     bool has_timed_out) override;
  asio::awaitable<AnswerEnd> stream_answer(AnswerQueue& queue, Making& making) override;
  asio::awaitable<void> send_preflight();
  asio::awaitable<void> send_hello();
  asio::awaitable<void> send_metrics();
  asio::awaitable<void> send_health();
  asio::awaitable<void> answer_stored();
  ResponseHead head_of(int status) const;
  void log() const;

  // connection_handlers.cc: what handlers say.
  asio::awaitable<void> answer_by_handler(const HandlerRoute& route, std::string body);

  // connection_console.cc: the console's files.
  asio::awaitable<void> send_console();

  // connection_requests.cc: of requests, for those who ask about them.
  asio::awaitable<void> answer_now();
  asio::awaitable<void> cancel_response();
  asio::awaitable<void> answer_requests();
  bool may_see(const api::RequestRecord& record) const;

  ClientStream stream_;
  boost::beast::flat_buffer buffer_;
  asio::steady_timer deadline_;
  uint64_t deadlines_ = 0;  // counts arm and disarm: tells a late expiry from the present one
  bool deadline_passed_ = false;

  bool watching_ = false;
  bool stops_watching_ = false;
  asio::cancellation_signal watch_stop_;
  asio::steady_timer watch_stopped_;
};

}  // namespace ridge::server
