#include "server/batch_line.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <climits>
#include <nlohmann/json.hpp>

#include "api/error_body.h"
#include "api/random_id.h"
#include "base/log.h"

namespace ridge::server {
namespace {

constexpr std::chrono::seconds disk_poll{5};  // while it takes no result
constexpr int64_t after_failure_ms = 5'000;    // of ours

// What time may lift.
bool may_try_again(int status) {
  return status == 402 || status == 429 || status == 499 || status == 503;
}

// Documents are written on one line as a rule; in a file of lines, one that is not would be two.
std::string on_one_line(std::string_view body) {
  if (body.find('\n') == std::string_view::npos) return std::string(body);
  return api::to_text(api::Json::parse(body));
}

std::string message_in(std::string_view error_body) {
  const api::Json json = api::Json::parse(error_body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("error")) return {};
  return json["error"].value("message", "");
}

}  // namespace

BatchLine::BatchLine(Service& service, BatchOrigin origin, BatchRequest request,
                     std::shared_ptr<BatchResults> results)
    : Answering(service, asio::make_strand(service.network)),
      origin_(std::move(origin)),
      request_(std::move(request)),
      results_(std::move(results)) {
  exchange_.id = api::random_id("req_");
  exchange_.method = "POST";
  exchange_.target = origin_.endpoint;
  exchange_.route = match_route(origin_.endpoint);
  exchange_.group = origin_.group;
  exchange_.priority = engine::background_priority;
  exchange_.is_recorded = false;  // its times tell nothing of how long people wait
  exchange_.models = service_.models.list();
  if (origin_.principal) set_principal(origin_.principal);
}

asio::awaitable<LineOutcome> BatchLine::run() {
  exchange_.started_at = service_.clock.now();
  exchange_.started_at_wall = std::chrono::system_clock::now();
  std::string failure;
  try {
    co_await generate(request_.body);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  if (!failure.empty()) {
    if (!service_.draining) {
      log::error("request {} of {} failed: {}", exchange_.id, origin_.batch_id, failure);
    }
    outcome_.status = http_status(ErrorCode::unavailable);
    outcome_.retry_after_ms = after_failure_ms;
  }
  outcome_.mark = exchange_.mark;
  outcome_.is_marked = exchange_.is_marked;
  outcome_.may_try_again =
      !outcome_.is_marked && (outcome_.status == 0 || may_try_again(outcome_.status));
  outcome_.request = std::move(request_);
  co_return std::move(outcome_);
}

void BatchLine::abort() {
  asio::post(executor_, [self = shared_from_this(), this] {
    client_gone_ = true;
    notify();
  });
}

std::string BatchLine::line_of(int status, std::string_view body) const {
  return batch_result_line(origin_.batch_id, request_, status, exchange_.id, on_one_line(body));
}

asio::awaitable<void> BatchLine::send(int status, std::string_view body, std::string_view,
                                      HeaderFields) {
  exchange_.status = outcome_.status = status;
  outcome_.text = line_of(status, body);
  co_return;
}

asio::awaitable<void> BatchLine::send_failure(int status, std::string_view body,
                                              int64_t retry_after_ms, bool) {
  exchange_.status = outcome_.status = status;
  outcome_.code = exchange_.error;
  outcome_.message = message_in(body);
  outcome_.retry_after_ms = retry_after_ms;
  outcome_.text = line_of(status, body);
  co_return;
}

asio::awaitable<AnswerEnd> BatchLine::stream_answer(AnswerQueue&, Making&) {
  throw Error(ErrorCode::invalid_argument, "a request of a batch cannot be streamed", "stream");
  co_return AnswerEnd{};
}

// The result is on the disk before it counts as done, which it does in the transaction that settles
// it. While the disk takes nothing, it is kept here.
asio::awaitable<void> BatchLine::before_settlement(const Making& making, const AnswerEnd& end) {
  if (client_gone_ || end.cancelled) co_return;
  int status = 200;
  std::string body;
  if (end.error) {
    status = api::status_of(*end.error, api::ErrorStyle::openai);
    body = api::error_body(*end.error, exchange_.id, api::ErrorStyle::openai);
  } else {
    body = making.document;
  }
  if (may_try_again(status)) co_return;
  const std::string text = line_of(status, body);
  while (!client_gone_) {
    std::optional<Error> failure;
    try {
      exchange_.mark = co_await on_pool(
          service_.batch_pool, service_.batch_jobs, INT_MAX,
          [&] { return results_->append(request_.line, text, status != 200); });
    } catch (const Error& error) {
      failure = error;
    }
    if (!failure) co_return;
    log::error("a result of {} waits for the disk: {}", origin_.batch_id, failure->message());
    if (service_.draining) co_return;
    co_await wait_for_news(disk_poll);
  }
}

}  // namespace ridge::server
