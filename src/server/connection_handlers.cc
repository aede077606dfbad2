// What is answered by one function that may wait.
#include "api/url_query.h"
#include "server/connection.h"
#include "server/handler_route.h"

namespace ridge::server {
namespace {

// Waiting for a thread; more are answered 429.
constexpr int max_handler_jobs = 64, max_slow_jobs = 16;

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
          .actor = is_of_user ? "user:" + principal->user_name : "key:" + principal->key_name,
          .is_session = principal->is_session};
}

}  // namespace

asio::awaitable<void> Connection::answer_by_handler(const HandlerRoute& route, std::string body) {
  if (service_.draining) throw Error(ErrorCode::unavailable, "the server is shutting down");
  const RunningScope running(service_.generations);
  HandlerRequest request{.service = service_,
                         .caller = caller_of(exchange_.principal.get()),
                         .method = exchange_.method,
                         .argument = exchange_.route.argument,
                         .query = std::string(api::query_of(exchange_.target)),
                         .body = std::move(body),
                         .host = exchange_.host,
                         .cookies = exchange_.cookies,
                         .address = exchange_.address,
                         .session_token = exchange_.session_token,
                         .is_secure = exchange_.is_secure};
  const auto work = [&] { return route.handle(request); };
  HandlerAnswer answer;
  if (route.runs_on == RunsOn::password_pool) {
    answer = co_await on_pool(service_.password_pool, service_.password_jobs, max_slow_jobs, work);
  } else if (route.runs_on == RunsOn::provider_pool) {
    answer = co_await on_pool(service_.provider_pool, service_.provider_jobs, max_slow_jobs, work);
  } else {
    answer = co_await on_pool(service_.handler_pool, service_.handler_jobs, max_handler_jobs, work);
  }
  co_await send(answer.status, answer.body, answer.content_type, std::move(answer.headers));
}

}  // namespace ridge::server
