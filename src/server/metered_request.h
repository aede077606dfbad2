#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "platform/metering/meter.h"

namespace ridge::server {

// A request that was admitted, up to its one settlement. One that goes without having been settled,
// as when its connection fails, is settled with what is known of it.
class MeteredRequest {
 public:
  using Count = std::function<void(const platform::Settlement&)>;

  // `count`, if any, is told the settlement when it is made. What it uses outlives this.
  MeteredRequest(std::shared_ptr<platform::Meter> meter, std::string reservation_id,
                 Count count = {});
  ~MeteredRequest();
  MeteredRequest(const MeteredRequest&) = delete;
  MeteredRequest& operator=(const MeteredRequest&) = delete;

  // An engine has taken it: from now on it counts as asked.
  void begin() { has_begun_ = true; }
  bool has_begun() const { return has_begun_; }
  // What it has used so far.
  void note(int64_t prompt_tokens, int64_t completion_tokens);
  // Once only. `settlement.id` is set here.
  void settle(platform::Settlement settlement, platform::Meter::OnSettled done);

 private:
  const std::shared_ptr<platform::Meter> meter_;
  platform::RequestProgress used_;
  const Count count_;
  bool has_begun_ = false;
  bool is_settled_ = false;
};

}  // namespace ridge::server
