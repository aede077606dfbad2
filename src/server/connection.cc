#include "server/connection.h"

#include <algorithm>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <chrono>
#include <climits>
#include <tuple>

#include "api/error_body.h"
#include "api/random_id.h"
#include "base/log.h"
#include "server/as_result.h"
#include "server/handler_route.h"
#include "server/preparation.h"

namespace ridge::server {

namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr std::size_t read_ahead_bytes = 64u << 10;  // of pipelined requests
constexpr std::size_t write_piece_bytes = 64u << 10;
constexpr std::size_t idle_read_bytes = 4u << 10;
constexpr std::chrono::milliseconds closing_timeout{2'000}, said_again_after{10};
constexpr std::size_t closing_bytes = 16u << 20;  // read and thrown away, so that a refusal arrives

struct Refusal {
  int status = 0;  // 0: nobody is there to be told
  std::string_view code;
  std::string message;
};

// Of requests that need none; some clients send an empty object with all.
constexpr std::size_t max_unread_body_bytes = 1024;

// Of a form, beside its file.
constexpr std::size_t form_bytes = 64u << 10;
constexpr std::size_t upload_piece_bytes = 256u << 10;

// What reads no body must not make the server hold one, least of all for who has shown no key.
std::size_t most_body_bytes(const RouteMatch& match, std::string_view method,
                            const ServerOptions& options, const platform::Files* files) {
  const bool takes_body = (method == "POST" || method == "PUT" || method == "PATCH") &&
                          match.route != Route::unknown && match.route != Route::answer_now &&
                          match.route != Route::response_cancel &&
                          allows_method(*match.path, method);
  if (!takes_body) return std::min(options.max_body_bytes, max_unread_body_bytes);
  if (match.route != Route::handled) return options.max_body_bytes;
  const HandlerRoute& handler = *find_handler(match.path->path, method);
  if (handler.takes_file && files != nullptr) {
    return static_cast<std::size_t>(files->limits().most_file_bytes) + form_bytes;
  }
  return std::min(options.max_body_bytes, handler.most_body_bytes);
}

Refusal refusal_of(const error_code& failure, bool deadline_passed, const ServerOptions& options,
                   std::size_t max_body_bytes) {
  if (deadline_passed) return {408, "timed_out", "the request took too long to arrive"};
  if (failure == http::error::header_limit || failure == http::error::buffer_overflow) {
    return {431, "payload_too_large",
            fmt::format("the request's head is larger than {} bytes", options.max_head_bytes)};
  }
  if (failure == http::error::body_limit) {
    return {413, "payload_too_large",
            fmt::format("the request's body is larger than {} bytes{}", max_body_bytes,
                        max_body_bytes == max_unread_body_bytes ? ", and it needs none" : "")};
  }
  const bool is_protocol =
      failure.category() == http::make_error_code(http::error::bad_method).category();
  if (!is_protocol || failure == http::error::end_of_stream ||
      failure == http::error::partial_message) {
    return {};
  }
  return {400, "invalid_argument", fmt::format("this is no HTTP request: {}", failure.message())};
}

}  // namespace

Connection::Connection(Service& service, asio::ip::tcp::socket socket)
    : Answering(service, socket.get_executor()),
      stream_(std::move(socket), service.tls ? service.tls->get() : nullptr),
      buffer_(service.options.max_head_bytes + read_ahead_bytes),
      deadline_(stream_.get_executor()),
      watch_stopped_(stream_.get_executor()) {
  ++service_.connections;
}

Connection::~Connection() { --service_.connections; }

asio::awaitable<void> Connection::run() {
  try {
    error_code ignored;
    stream_.socket().set_option(asio::ip::tcp::no_delay(true),
                                ignored);  // a token is small and must not wait
    const bool is_there = co_await shake_hands();
    while (is_there && co_await wait_for_request()) {
      Parser parser;
      parser.header_limit(static_cast<uint32_t>(service_.options.max_head_bytes));
      parser.body_limit(boost::none);  // until it is known who asks for what
      if (!co_await read_request(parser)) break;
      co_await answer(std::move(parser.get().body()));
      log();
      if (!exchange_.keep_alive || client_gone_) break;
    }
  } catch (const std::exception& failure) {
    log::error("a connection failed: {}", failure.what());
  }
  co_await close_gently();
}

asio::awaitable<bool> Connection::wait_for_request() {
  const bool is_first = exchange_.started_at == Clock::TimePoint{};
  exchange_ = {};
  if (service_.draining && !is_first) co_return false;
  if (buffer_.size() > 0) co_return true;
  arm(is_first ? service_.options.head_timeout : service_.options.idle_timeout);
  error_code failure;
  if (stream_.is_tls()) {  // what has come may wait in its buffers, and the socket be silent
    const auto [read_failure, bytes] =
        co_await stream_.async_read_some(buffer_.prepare(idle_read_bytes), as_result);
    buffer_.commit(bytes);
    failure = read_failure;
  } else {
    std::tie(failure) =
        co_await stream_.socket().async_wait(asio::ip::tcp::socket::wait_read, as_result);
  }
  disarm();
  co_return !failure;
}

asio::awaitable<bool> Connection::shake_hands() {
  if (!stream_.is_tls()) co_return true;
  arm(service_.options.head_timeout);
  const auto [failure] =
      co_await stream_.tls()->async_handshake(asio::ssl::stream_base::server, as_result);
  disarm();
  if (!failure) co_return true;
  client_gone_ = true;  // what it speaks, we do not
  log::debug("no TLS handshake: {}", failure.message());
  co_return false;
}

asio::awaitable<bool> Connection::read_request(Parser& parser) {
  exchange_.started_at = service_.clock.now();
  exchange_.started_at_wall = std::chrono::system_clock::now();
  arm(service_.options.head_timeout);
  const auto [head_failure, head_bytes] =
      co_await http::async_read_header(stream_, buffer_, parser, as_result);
  disarm();
  describe_request(parser);
  if (head_failure) {
    co_await refuse_request(head_failure, parser.got_some());
    co_return false;
  }
  if (!co_await admit(parser)) co_return false;
  if (parser.is_done()) co_return true;
  const auto* files = service_.platform.files.get();
  const std::size_t most =
      most_body_bytes(exchange_.route, exchange_.method, service_.options, files);
  exchange_.max_body_bytes = most;
  parser.body_limit(most);  // counts the chunks that come
  if (parser.content_length().value_or(0) > most) {
    co_await refuse_request(make_error_code(http::error::body_limit), true);
    co_return false;
  }
  const bool takes_file = exchange_.route.route == Route::handled && files != nullptr &&
                          allows_method(*exchange_.route.path, exchange_.method) &&
                          find_handler(exchange_.route.path->path, exchange_.method)->takes_file;
  error_code failure;
  if (takes_file) {
    co_await receive_upload(parser, failure);
  } else {
    co_await continue_if_expected(parser);
    arm(service_.options.body_timeout);
    std::tie(failure, std::ignore) = co_await http::async_read(stream_, buffer_, parser, as_result);
    disarm();
  }
  if (!failure && exchange_.status == 0) co_return true;
  if (failure) co_await refuse_request(failure, true);
  co_return false;
}

// What is left of the time for a file of which so much has come: all of it has to come at a speed,
// or few clients could hold every slot for hours.
std::chrono::milliseconds Connection::rest_of_upload(std::size_t received_bytes) const {
  const auto for_bytes = std::chrono::milliseconds(static_cast<int64_t>(received_bytes) * 1000 /
                                                   service_.options.least_upload_bytes_per_s);
  const auto spent = std::chrono::duration_cast<std::chrono::milliseconds>(service_.clock.now() -
                                                                           exchange_.started_at);
  return std::clamp(service_.options.body_timeout + for_bytes - spent, std::chrono::milliseconds(0),
                    service_.options.body_timeout);
}

// To the disk, piece by piece, as it may be large. Where that fails, the client has been told.
asio::awaitable<void> Connection::receive_upload(Parser& head, error_code& failure) {
  std::exception_ptr refusal;
  std::unique_ptr<UploadSlots::Slot> slot;
  try {
    const auto principal = exchange_.principal;
    slot = service_.uploads.take(principal ? principal->project_id : "");
    if (principal) {
      const std::size_t bytes = head.content_length().value_or(0);
      const auto check = [&] {
        service_.platform.files->check_room_for(
            principal->project_id, static_cast<int64_t>(bytes - std::min(bytes, form_bytes)));
      };
      co_await on_pool(service_.handler_pool, service_.handler_jobs, INT_MAX, check);
    }
    exchange_.upload = service_.platform.files->begin_upload();
    co_await continue_if_expected(head);
    http::request_parser<http::buffer_body> parser(std::move(head));
    std::string piece(upload_piece_bytes, '\0');
    std::size_t received_bytes = 0;
    while (!parser.is_done()) {
      auto& body = parser.get().body();
      body.data = piece.data();
      body.size = piece.size();
      body.more = true;
      arm(rest_of_upload(received_bytes));
      std::tie(failure, std::ignore) =
          co_await http::async_read(stream_, buffer_, parser, as_result);
      disarm();
      if (failure && failure != http::error::need_buffer) co_return;
      failure = {};
      const std::string_view got(piece.data(), piece.size() - body.size);
      received_bytes += got.size();
      co_await on_pool(service_.handler_pool, service_.handler_jobs, INT_MAX,
                       [&] { platform::write_to_disk(exchange_.upload.get(), got); });
    }
  } catch (...) {
    refusal = std::current_exception();
  }
  if (!refusal) co_return;
  exchange_.keep_alive = false;  // the rest of the body is not read
  co_await send_error(error_of(refusal, exchange_.id));
  log();
}

asio::awaitable<void> Connection::continue_if_expected(const Parser& parser) {
  if (!boost::beast::iequals(parser.get()[http::field::expect], "100-continue")) co_return;
  co_await write("HTTP/1.1 100 Continue\r\n\r\n");
}

asio::awaitable<void> Connection::refuse_request(const error_code& failure, bool started) {
  exchange_.keep_alive = false;
  const Refusal refusal =
      refusal_of(failure, deadline_passed_, service_.options, exchange_.max_body_bytes);
  if (refusal.status == 0 || !started) co_return;
  const std::string body = api::error_body(refusal.status, refusal.code, refusal.message,
                                           exchange_.id, exchange_.error_style);
  co_await send(refusal.status, body);
  log();
}

void Connection::describe_request(const Parser& parser) {
  exchange_.max_body_bytes = service_.options.max_body_bytes;
  const auto& head = parser.get();
  const auto own_id = head["x-request-id"];
  exchange_.id = is_request_id(own_id) ? std::string(own_id) : api::random_id("req_");
  exchange_.method = head.method_string();
  exchange_.target = head.target();
  exchange_.origin = head[http::field::origin];
  exchange_.content_type = head[http::field::content_type];
  exchange_.context = api::trace_context(head["traceparent"], head["tracestate"]);
  // Two names of one host are no name: proxies disagree on which counts.
  if (head.count(http::field::host) == 1) exchange_.host = head[http::field::host];
  exchange_.route = match_route(exchange_.target);
  exchange_.page = {
      .wanted = is_for_console(exchange_.route.route, exchange_.method, head[http::field::accept]),
      .coding = best_coding(head[http::field::accept_encoding]),
      .if_none_match = std::string(head[http::field::if_none_match])};
  exchange_.error_style = error_style_of(exchange_.route.route, exchange_.target);
  const bool lists_models =
      exchange_.route.route == Route::models || exchange_.route.route == Route::model;
  if (lists_models && !head["anthropic-version"].empty()) {
    exchange_.error_style = api::ErrorStyle::anthropic;  // and so the answer's
  }
  exchange_.is_http_1_0 = head.version() < 11;
  exchange_.keep_alive = head.keep_alive() && !service_.draining;
}

asio::awaitable<bool> Connection::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, write_piece_bytes);
    bytes.remove_prefix(piece.size());
    arm(service_.options.write_timeout);
    const auto [failure, written] =
        co_await asio::async_write(stream_, asio::buffer(piece.data(), piece.size()), as_result);
    disarm();
    if (failure) {
      client_gone_ = true;
      co_return false;
    }
  }
  co_return true;
}

// Closing with unread bytes would reset the connection, and the client might lose the answer.
asio::awaitable<void> Connection::close_gently() {
  error_code ignored;
  if (stream_.is_tls() && !client_gone_) {  // or a client could not tell it from being cut off
    arm(closing_timeout);
    co_await stream_.tls()->async_shutdown(as_result);
    disarm();
  }
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  if (!client_gone_ && !ignored) {
    arm(closing_timeout);
    std::string waste(write_piece_bytes, '\0');
    for (std::size_t total = 0; total < closing_bytes;) {
      const auto [failure, bytes] =
          co_await stream_.socket().async_read_some(asio::buffer(waste), as_result);
      if (failure) break;
      total += bytes;
    }
  }
  stream_.socket().close(ignored);
  disarm();  // also what an exception left armed, which would hold the connection for ever
}

// What is between two reads or writes of its own hears nothing of a deadline, and would then wait for
// ever: it is told again until it has ended.
void Connection::arm(std::chrono::milliseconds timeout) {
  deadline_passed_ = false;
  const uint64_t armed = ++deadlines_;
  deadline_.expires_after(timeout);
  deadline_.async_wait([self = self(), armed](const error_code& failure) {
    if (failure || armed != self->deadlines_) return;
    error_code ignored;
    self->stream_.socket().cancel(ignored);
    self->arm(said_again_after);
    self->deadline_passed_ = true;
  });
}

void Connection::disarm() {
  ++deadlines_;
  deadline_.cancel();
}

std::shared_ptr<Connection> Connection::self() {
  return std::static_pointer_cast<Connection>(shared_from_this());
}

void Connection::start_watch() {
  watching_ = true;
  stops_watching_ = false;
  watch();
}

void Connection::watch() {
  const bool is_full = buffer_.size() >= read_ahead_bytes;
  if (is_full || stops_watching_ || client_gone_) {
    watching_ = false;
    watch_stopped_.cancel();
    return;
  }
  const auto on_read = [self = self()](const error_code& failure, std::size_t bytes) {
    self->buffer_.commit(bytes);
    if (failure && !self->stops_watching_) {
      self->client_gone_ = true;
      self->notify();
    }
    self->watch();
  };
  stream_.async_read_some(buffer_.prepare(4096),
                          asio::bind_cancellation_slot(watch_stop_.slot(), on_read));
}

asio::awaitable<void> Connection::stop_watch() {
  stops_watching_ = true;
  watch_stop_.emit(asio::cancellation_type::terminal);
  while (watching_) {
    watch_stopped_.expires_at(asio::steady_timer::time_point::max());
    co_await watch_stopped_.async_wait(as_result);
  }
}

}  // namespace ridge::server
