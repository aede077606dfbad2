#include "platform/subprocess.h"

#include <chrono>

#include "platform/throws.h"

namespace ridge::platform {
namespace {

TEST(RunProcess, PassesWordsAsTheyAre) {
  const auto result = run_process({"printf", "%s|", "a b", "$HOME", ";echo", "'"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output, "a b|$HOME|;echo|'|");
}

TEST(RunProcess, TellsHowItEnded) {
  EXPECT_EQ(run_process({"false"}).exit_code, 1);
  EXPECT_EQ(run_process({"sh", "-c", "kill -9 $$"}).exit_code, 128 + 9);
  EXPECT_FALSE(run_process({"no-such-program-anywhere"}).was_found);
  EXPECT_EQ(run_process({"cat"}).exit_code, 0) << "standard input is empty";
}

TEST(RunProcess, KeepsTheEndOfLongOutput) {
  const auto result =
      run_process({"sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo end >&2"});
  EXPECT_LE(result.output.size(), 16384u);
  EXPECT_TRUE(result.output.ends_with("xend\n"));
}

TEST(RunProcess, EndsTheProgramWhenCancelled) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_ERROR(run_process({"sleep", "60"}, [] { return true; }), cancelled, "stopped");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace ridge::platform
