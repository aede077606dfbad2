#include "server/metered_request.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <utility>

#include "server/as_result.h"

namespace ridge::server {

struct MeteredRequest::Standing {
  explicit Standing(const asio::any_io_executor& executor)
      : changed(executor, asio::steady_timer::time_point::max()) {}

  asio::steady_timer changed;  // never expires; cancelled when there is news
  bool may_begin = false;
  std::optional<platform::Admission> admission;
};

MeteredRequest::MeteredRequest(std::shared_ptr<platform::Meter> meter,
                               platform::Reservation reservation, asio::any_io_executor executor,
                               Count count)
    : meter_(std::move(meter)),
      standing_(std::make_shared<Standing>(executor)),
      used_{.id = reservation.id},
      count_(std::move(count)) {
  const auto may_begin = [executor, standing = standing_] {
    asio::dispatch(executor, [standing] {
      standing->may_begin = true;
      standing->changed.cancel();
    });
  };
  const auto done = [executor, standing = standing_](platform::Admission admission) {
    asio::dispatch(executor, [standing, admission = std::move(admission)]() mutable {
      standing->may_begin = true;
      standing->admission = std::move(admission);
      standing->changed.cancel();
    });
  };
  meter_->reserve(std::move(reservation), done, may_begin);
}

MeteredRequest::~MeteredRequest() {
  const bool is_refused = standing_->admission && standing_->admission->refusal;
  if (is_settled_ || is_refused) return;
  settle({.prompt_tokens = used_.prompt_tokens,
          .completion_tokens = used_.completion_tokens,
          .finish_reason = "failed",
          .is_void = !has_begun_},
         {});
}

asio::awaitable<void> MeteredRequest::until_it_may_begin() {
  while (!standing_->may_begin) co_await standing_->changed.async_wait(as_result);
}

asio::awaitable<const platform::Admission*> MeteredRequest::admission() {
  while (!standing_->admission) co_await standing_->changed.async_wait(as_result);
  co_return &*standing_->admission;
}

bool MeteredRequest::is_admission_known() const { return standing_->admission.has_value(); }

void MeteredRequest::note(int64_t prompt_tokens, int64_t completion_tokens) {
  used_.prompt_tokens = prompt_tokens;
  used_.completion_tokens = completion_tokens;
  meter_->note(used_);
}

void MeteredRequest::settle(platform::Settlement settlement, platform::Meter::OnSettled done) {
  is_settled_ = true;
  settlement.id = used_.id;
  if (count_) count_(settlement);
  meter_->settle(std::move(settlement), std::move(done));
}

}  // namespace ridge::server
