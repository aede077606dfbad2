// What a request may use, and what it has used.
#include <algorithm>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <memory>
#include <optional>

#include "api/random_id.h"
#include "server/answering.h"

namespace ridge::server {
namespace {

// Waits for what another thread tells once: `start` is given whom to tell.
template <typename Result, typename Start>
asio::awaitable<Result> told(Start start) {
  auto initiate = [](auto handler, Start begin) {
    const auto executor = asio::get_associated_executor(handler);
    const auto kept = std::make_shared<decltype(handler)>(std::move(handler));
    begin([kept, executor](Result result) {
      asio::post(executor,
                 [kept, result = std::move(result)]() mutable { (*kept)(std::move(result)); });
    });
  };
  return asio::async_initiate<const asio::use_awaitable_t<>, void(Result)>(
      std::move(initiate), asio::use_awaitable, std::move(start));
}

platform::Reservation wish_of(const Prepared& prepared) {
  platform::Reservation wish;
  const int64_t context = prepared.model->engine->model_info().context_tokens;
  for (const engine::Request& request : prepared.requests) {
    const auto prompt = static_cast<int64_t>(request.prompt_tokens.size());
    wish.prompt_tokens += prompt;
    if (request.embedding) continue;
    const int64_t most = std::min<int64_t>(request.max_tokens, context - prompt);
    wish.most_completion_tokens += std::max<int64_t>(0, most) * request.choices;
  }
  return wish;
}

std::string finish_reason(const AnswerEnd& end) {
  if (end.cancelled) return "cancelled";
  if (end.error) return end.error->code() == ErrorCode::cancelled ? "cancelled" : "failed";
  return std::string(api::openai_finish_reason(end.reason.value_or(engine::FinishReason::stop)));
}

}  // namespace

asio::awaitable<bool> Answering::reserve(const Prepared& prepared) {
  if (service_.meter == nullptr || !exchange_.principal) co_return true;
  platform::Reservation wish = wish_of(prepared);
  wish.id = api::random_id("use_");
  wish.organisation_id = exchange_.principal->organisation_id;
  wish.project_id = exchange_.principal->project_id;
  wish.key_id = exchange_.principal->key_id;
  wish.allowance_id = exchange_.principal->allowance_id;
  wish.user_id = exchange_.principal->user_id;
  wish.request_id = exchange_.id;
  wish.model = prepared.model->model_name();
  if (prepared.model->is_endpoint()) wish.custom_endpoint = prepared.model->name;
  wish.endpoint_version = prepared.model->endpoint_version;
  wish.endpoint = name(exchange_.route);
  const auto count = [&metrics = service_.usage_metrics,
                      project = exchange_.principal->project_name,
                      model = wish.model](const platform::Settlement& settlement) {
    metrics.count(project, model, settlement);
  };
  exchange_.metered =
      std::make_unique<MeteredRequest>(service_.meter, std::move(wish), executor_, count);
  co_await exchange_.metered->until_it_may_begin();
  if (!exchange_.metered->is_admission_known()) co_return true;
  const platform::Refusal* refusal = co_await known_refusal();
  if (refusal == nullptr) co_return true;
  co_await send_refusal(*refusal);
  co_return false;
}

asio::awaitable<const platform::Refusal*> Answering::known_refusal() {
  if (!exchange_.metered) co_return nullptr;
  const platform::Admission* admission = co_await exchange_.metered->admission();
  // The first time alone: what resets when is counted from the admission on.
  if (exchange_.rate_headers.empty()) {
    exchange_.rate_headers =
        rate_headers(*admission, exchange_.error_style, std::chrono::system_clock::now());
  }
  co_return admission->refusal ? &*admission->refusal : nullptr;
}

// Clients repeat a 429, so that only what waiting helps is one.
asio::awaitable<void> Answering::send_refusal(const platform::Refusal& refusal) {
  using Kind = platform::Refusal::Kind;
  exchange_.kept.reset();  // where an engine had it already, nobody is to know
  service_.usage_metrics.count_refusal(exchange_.principal->project_name, refusal.kind);
  if (refusal.kind == Kind::too_large) {
    throw Error(ErrorCode::invalid_argument, refusal.message);
  }
  if (refusal.kind == Kind::unavailable) throw Error(ErrorCode::unavailable, refusal.message);
  const bool is_rate = refusal.kind == Kind::rate;
  const int status = is_rate ? 429 : 402;
  exchange_.status = status;
  exchange_.error = is_rate ? "rate_limit_exceeded" : "insufficient_quota";
  end_record();
  co_await send_failure(status,
                        api::error_body(status, exchange_.error, refusal.message, exchange_.id,
                                        exchange_.error_style),
                        refusal.retry_after_ms, /*has_timed_out=*/false);
}

asio::awaitable<std::optional<Error>> Answering::settle(const AnswerEnd& end) {
  const std::string reason = client_gone_ ? "cancelled" : finish_reason(end);
  keep(reason);
  if (!exchange_.metered || !exchange_.metered->has_begun()) co_return std::nullopt;
  platform::Settlement settlement{.prompt_tokens = end.usage.prompt_tokens,
                                  .cached_tokens = end.usage.cached_tokens,
                                  .completion_tokens = end.usage.completion_tokens,
                                  .reasoning_tokens = end.usage.reasoning_tokens,
                                  .ttft_ms = end.usage.ttft_ms,
                                  .duration_ms = end.usage.duration_ms,
                                  .finish_reason = reason,
                                  .mark = exchange_.mark};
  const auto start = [this, &settlement](platform::Meter::OnSettled done) {
    exchange_.metered->settle(settlement, std::move(done));
  };
  std::optional<Error> unrecorded = co_await told<std::optional<Error>>(start);
  exchange_.is_marked = !unrecorded && !exchange_.mark.batch_id.empty();
  co_return unrecorded;
}

}  // namespace ridge::server
