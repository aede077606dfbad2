#include "server/metered_request.h"

namespace ridge::server {

MeteredRequest::MeteredRequest(std::shared_ptr<platform::Meter> meter, std::string reservation_id,
                               Count count)
    : meter_(std::move(meter)),
      used_{.id = std::move(reservation_id)},
      count_(std::move(count)) {}

MeteredRequest::~MeteredRequest() {
  if (is_settled_) return;
  settle({.prompt_tokens = used_.prompt_tokens,
          .completion_tokens = used_.completion_tokens,
          .finish_reason = "failed",
          .is_void = !has_begun_},
         {});
}

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
