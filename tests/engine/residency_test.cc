#include "engine/residency.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <future>

namespace ridge::engine::residency_test {
namespace {

using namespace std::chrono_literals;

// A model in use: each reading of its last use gives another time.
class BusyModel final : public Resident {
 public:
  explicit BusyModel(bool is_awake) : is_awake_(is_awake) {}

  uint64_t bytes() const override { return 1; }
  bool is_awake() const override { return is_awake_; }
  Clock::TimePoint last_used() const override {
    return Clock::TimePoint() - std::chrono::seconds(++readings);
  }
  std::optional<Clock::Duration> stays_for() const override { return std::nullopt; }
  void wake() override {
    is_awake_ = true;
    awake.set_value();
  }
  bool sleep() override {
    is_awake_ = false;
    return true;
  }

  mutable std::atomic<int> readings = 0;
  std::promise<void> awake;

 private:
  std::atomic<bool> is_awake_;
};

TEST(Residency, ReadsEachLastUseOnceWhileItSorts) {
  SteadyClock clock;
  Residency residency({.budget_bytes = 3}, clock);
  std::array<BusyModel, 3> others{BusyModel(true), BusyModel(true), BusyModel(true)};
  BusyModel wanted(false);
  for (BusyModel& other : others) residency.add(other, /*is_pinned=*/false);
  residency.add(wanted, /*is_pinned=*/false);
  residency.want(wanted);
  ASSERT_EQ(wanted.awake.get_future().wait_for(30s), std::future_status::ready);
  residency.remove(wanted);
  for (BusyModel& other : others) {
    EXPECT_EQ(other.readings, 1);
    residency.remove(other);
  }
}

}  // namespace
}  // namespace ridge::engine::residency_test
