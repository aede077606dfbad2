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
  explicit BusyModel(bool is_awake) : is_awake_(is_awake), is_wanted_(!is_awake) {}

  uint64_t bytes() const override { return 1; }
  bool is_awake() const override { return is_awake_; }
  bool is_idle() const override { return is_awake_; }
  std::optional<Clock::TimePoint> wanted_since() const override {
    return is_wanted_ ? std::optional(Clock::TimePoint()) : std::nullopt;
  }
  Clock::TimePoint last_used() const override {
    return Clock::TimePoint() - std::chrono::seconds(++readings);
  }
  std::optional<Clock::Duration> stays_for() const override { return std::nullopt; }
  void wake() override {
    is_awake_ = true;
    is_wanted_ = false;
    awake.set_value();
  }
  bool sleep() override {
    is_awake_ = false;
    return true;
  }
  void hold(bool) override {}

  mutable std::atomic<int> readings = 0;
  std::promise<void> awake;

 private:
  std::atomic<bool> is_awake_;
  std::atomic<bool> is_wanted_;
};

TEST(Residency, ReadsEachLastUseOnceWhileItSorts) {
  SteadyClock clock;
  Residency residency({.budget_bytes = 3}, clock);
  std::array<BusyModel, 3> others{BusyModel(true), BusyModel(true), BusyModel(true)};
  BusyModel wanted(false);
  for (BusyModel& other : others) residency.add(other, /*is_pinned=*/false);
  residency.add(wanted, /*is_pinned=*/false);
  residency.look();
  ASSERT_EQ(wanted.awake.get_future().wait_for(30s), std::future_status::ready);
  residency.remove(wanted);
  for (BusyModel& other : others) {
    EXPECT_EQ(other.readings, 1);
    residency.remove(other);
  }
}

}  // namespace
}  // namespace ridge::engine::residency_test
