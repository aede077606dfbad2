#include "platform/retries.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "platform/throws.h"

namespace ridge::platform::retries_test {
namespace {

using namespace std::chrono_literals;

HttpError busy(std::optional<int64_t> retry_after_s = {}) {
  return HttpError(ErrorCode::unavailable, "busy", 503, /*may_pass=*/true, retry_after_s);
}

constexpr RetryPolicy quick{.attempts = 4, .first_pause = 1ms, .longest_pause = 3ms};

TEST(Retries, AskUntilThereIsAnAnswer) {
  std::vector<std::string> notes;
  int asked = 0;
  const auto ask = [&] {
    if (++asked < 4) throw busy();
    return std::string("there");
  };
  const auto note = [&](std::string_view line) { notes.emplace_back(line); };
  EXPECT_EQ(with_retries(Retries(quick, {}, note), ask), "there");
  EXPECT_EQ(asked, 4);
  ASSERT_EQ(notes.size(), 3u);
  EXPECT_EQ(notes[0], "busy; trying again in 0.0 s");
}

TEST(Retries, EndWithTheLastFailure) {
  int asked = 0;
  const auto fail = [&]() -> int { ++asked, throw busy(); };
  EXPECT_ERROR(with_retries(Retries(quick), fail), unavailable, "busy");
  EXPECT_EQ(asked, 4);
}

TEST(Retries, EndAtOnceWhereTheyCannotHelp) {
  int asked = 0;
  const auto refuse = [&]() -> int {
    ++asked;
    throw HttpError(ErrorCode::not_found, "no such file", 404, /*may_pass=*/false);
  };
  EXPECT_ERROR(with_retries(Retries(quick), refuse), not_found, "no such file");
  const auto ask_for_patience = [&]() -> int { ++asked, throw busy(/*retry_after_s=*/1); };
  EXPECT_ERROR(with_retries(Retries(quick), ask_for_patience), unavailable, "busy");
  EXPECT_EQ(asked, 2) << "a second is more than the longest pause";
}

TEST(Retries, CountAnewWhereSomethingCame) {
  Retries retries(quick);
  for (int i = 0; i < 10; ++i) {
    try {
      throw busy();
    } catch (const HttpError& error) {
      retries.reset();
      retries.wait_after(error);
    }
  }
}

TEST(Retries, EndWhenTheyAreCancelled) {
  int asked = 0;
  const auto fail = [&]() -> int { ++asked, throw busy(); };
  const RetryPolicy patient{.first_pause = 1h, .longest_pause = 1h};
  EXPECT_ERROR(with_retries(Retries(patient, [&] { return asked > 0; }), fail), cancelled,
               "stopped");
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace ridge::platform::retries_test
