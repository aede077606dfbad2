// What is answered by one function that may wait.
#include "api/url_query.h"
#include "server/connection.h"
#include "server/handler_route.h"

namespace ridge::server {
namespace {

constexpr int max_handler_jobs = 64;  // waiting for a thread; more are answered 429

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
          .actor = is_of_user ? "user:" + principal->user_name : "key:" + principal->key_name};
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
                         .body = std::move(body)};
  const auto work = [&] { return route.handle(request); };
  HandlerAnswer answer =
      co_await on_pool(service_.handler_pool, service_.handler_jobs, max_handler_jobs, work);
  co_await send(answer.status, answer.body, answer.content_type, std::move(answer.headers));
}

}  // namespace ridge::server
