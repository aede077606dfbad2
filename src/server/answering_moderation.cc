// Whether what is asked may be answered, where an operator has it judged.
#include "base/log.h"
#include "platform/endpoints/moderation_url.h"
#include "server/answering.h"

namespace ridge::server {
namespace {

constexpr int max_moderation_jobs = 256;  // waiting for a thread

}  // namespace

// Fails closed: what cannot be judged is not answered.
asio::awaitable<bool> Answering::moderate(Prepared& prepared) {
  const std::string& url = prepared.model->moderation_url;
  if (url.empty() || prepared.client_texts.empty()) co_return true;
  const auto until = std::chrono::steady_clock::now() + Moderation::most;
  bool is_flagged = false;
  std::exception_ptr failure;
  try {
    const auto work = [&] {
      return service_.moderation.is_flagged(url, prepared.client_texts, until);
    };
    is_flagged = co_await on_pool(service_.moderation_pool, service_.moderation_jobs,
                                  max_moderation_jobs, work);
  } catch (...) {
    failure = std::current_exception();
  }
  if (failure) {
    log::warning("the moderation service {} of the endpoint '{}' gives no verdict: {}",
                 platform::without_query(url), prepared.model->name,
                 error_of(failure, exchange_.id).message());
    throw Error(ErrorCode::unavailable,
                "What you ask cannot be checked against the content policy of this endpoint at "
                "the moment; try again soon.");
  }
  std::vector<std::string>().swap(prepared.client_texts);
  if (!is_flagged) co_return true;
  constexpr int status = 400;
  exchange_.status = status;
  exchange_.error = "content_policy";
  end_record();
  co_await known_refusal();   // as all that is sent, it has the headers of limits
  exchange_.metered.reset();  // what was reserved is free again before its client learns of this
  co_await send_failure(
      status,
      api::error_body(status, exchange_.error,
                      "This request is against the content policy of the endpoint.", exchange_.id,
                      exchange_.error_style),
      /*retry_after_ms=*/0, /*has_timed_out=*/false);
  co_return false;
}

}  // namespace ridge::server
