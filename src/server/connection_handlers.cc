// What is answered by one function that may wait.
#include <algorithm>
#include <climits>
#include <iterator>

#include "api/url_query.h"
#include "server/connection.h"
#include "server/handler_route.h"

namespace ridge::server {
namespace {

// Waiting for a thread; more are answered 429.
constexpr int max_handler_jobs = 64, max_slow_jobs = 16;

constexpr std::size_t file_piece_bytes = 1u << 20;

Caller caller_of(const platform::Principal* principal) {
  if (principal == nullptr) {
    return {.role = platform::Role::owner, .actor = "local"};
  }
  const bool is_of_user = !principal->user_name.empty();
  return {.role = principal->role,
          .user_id = principal->user_id,
          .user_name = principal->user_name,
          .project_id = principal->project_id,
          .project_name = principal->project_name,
          .key_id = principal->key_id,
          .actor = is_of_user ? "user:" + principal->user_name : "key:" + principal->key_name,
          .is_session = principal->is_session};
}

}  // namespace

asio::awaitable<void> Connection::answer_by_handler(const HandlerRoute& route, std::string body) {
  if (service_.draining) throw Error(ErrorCode::unavailable, "the server is shutting down");
  const RunningScope running(service_.generations);
  HandlerRequest request{.service = service_,
                         .caller = caller_of(exchange_.principal.get()),
                         .request_id = exchange_.id,
                         .method = exchange_.method,
                         .argument = exchange_.route.argument,
                         .query = std::string(api::query_of(exchange_.target)),
                         .body = std::move(body),
                         .host = exchange_.host,
                         .cookies = exchange_.cookies,
                         .address = exchange_.address,
                         .session_token = exchange_.session_token,
                         .is_secure = exchange_.is_secure,
                         .content_type = exchange_.content_type,
                         .upload = std::move(exchange_.upload)};
  const auto work = [&] { return route.handle(request); };
  HandlerAnswer answer;
  if (route.runs_on == RunsOn::password_pool) {
    answer = co_await on_pool(service_.password_pool, service_.password_jobs, max_slow_jobs, work);
  } else if (route.runs_on == RunsOn::provider_pool) {
    answer = co_await on_pool(service_.provider_pool, service_.provider_jobs, max_slow_jobs, work);
  } else {
    answer = co_await on_pool(service_.handler_pool, service_.handler_jobs, max_handler_jobs, work);
  }
  if (answer.file) {
    co_await send_file(std::move(answer));
  } else if (answer.more) {
    co_await send_pieces(std::move(answer));
  } else {
    co_await send(answer.status, answer.body, answer.content_type, std::move(answer.headers));
  }
}

asio::awaitable<void> Connection::send_file(HandlerAnswer answer) {
  exchange_.status = answer.status;
  ResponseHead head = head_of(answer.status);
  std::ranges::move(answer.headers, std::back_inserter(head.headers));
  head.content_type = answer.content_type;
  head.content_bytes = answer.file_bytes;
  bool is_there = co_await write(to_bytes(head));
  if (exchange_.method == "HEAD") co_return;
  std::string piece;
  for (std::size_t left = answer.file_bytes; left > 0 && is_there; left -= piece.size()) {
    co_await on_pool(service_.handler_pool, service_.handler_jobs, INT_MAX, [&] {
      piece.resize(std::min(left, file_piece_bytes));
      platform::read_from_disk(answer.file.get(), piece);
    });
    is_there = co_await write(piece);
  }
}

// No more of it is held than a piece. What fails in the middle ends it short of its last chunk.
asio::awaitable<void> Connection::send_pieces(HandlerAnswer answer) {
  exchange_.status = answer.status;
  if (exchange_.is_http_1_0) exchange_.keep_alive = false;
  ResponseHead head = head_of(answer.status);
  std::ranges::move(answer.headers, std::back_inserter(head.headers));
  head.content_type = answer.content_type;
  std::string bytes = to_bytes(head);
  if (exchange_.method == "HEAD") {
    co_await write(bytes);
    co_return;
  }
  std::string piece = std::move(answer.body);
  for (bool is_last = false; !is_last;) {
    if (exchange_.is_http_1_0) {
      bytes += piece;
    } else {
      append_chunk(bytes, piece);
    }
    if (!co_await write(bytes)) co_return;
    bytes.clear();
    piece = co_await on_pool(service_.handler_pool, service_.handler_jobs, INT_MAX,
                             [&] { return answer.more(); });
    is_last = piece.empty();
  }
  if (!exchange_.is_http_1_0) co_await write(last_chunk);
}

}  // namespace ridge::server
