#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "platform/metering/meter.h"

namespace ridge::server {

namespace asio = boost::asio;

// A request from its reservation up to its one settlement. One that goes without having been
// settled, as when its connection fails, is settled with what is known of it. Everything runs on
// `executor`, a strand.
class MeteredRequest {
 public:
  using Count = std::function<void(const platform::Settlement&)>;

  // Reserves. `count`, if any, is told the settlement when it is made. What it uses outlives this.
  MeteredRequest(std::shared_ptr<platform::Meter> meter, platform::Reservation reservation,
                 asio::any_io_executor executor, Count count = {});
  ~MeteredRequest();
  MeteredRequest(const MeteredRequest&) = delete;
  MeteredRequest& operator=(const MeteredRequest&) = delete;

  // Until work may begin that nobody sees yet, or it is known that none may.
  asio::awaitable<void> until_it_may_begin();
  // Until it is known; once it is, without waiting. It goes with this. What was refused has nothing
  // to settle.
  asio::awaitable<const platform::Admission*> admission();
  bool is_admission_known() const;

  // An engine has taken it: from now on it counts as asked.
  void begin() { has_begun_ = true; }
  bool has_begun() const { return has_begun_; }
  // What it has used so far.
  void note(int64_t prompt_tokens, int64_t completion_tokens);
  // Once only. `settlement.id` is set here.
  void settle(platform::Settlement settlement, platform::Meter::OnSettled done);

 private:
  struct Standing;

  const std::shared_ptr<platform::Meter> meter_;
  const std::shared_ptr<Standing> standing_;  // which the meter tells, perhaps after this has gone
  platform::RequestProgress used_;
  const Count count_;
  bool has_begun_ = false;
  bool is_settled_ = false;
};

}  // namespace ridge::server
