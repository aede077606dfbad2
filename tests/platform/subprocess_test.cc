#include "platform/subprocess.h"

#include <stdlib.h>

#include <chrono>

#include "base/temporary_folder.h"
#include "platform/throws.h"

namespace ridge::platform::subprocess_test {
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

TEST(RunProcess, RunsInTheFolderThatItIsGiven) {
  const TemporaryFolder temporary;
  const Folder folder = Folder::open_path(temporary.path());
  const auto result = run_process({"pwd", "-P"}, {.working_folder = &folder});
  EXPECT_EQ(result.output, std::filesystem::canonical(temporary.path()).string() + "\n");
}

TEST(RunProcess, WithholdsWhatItIsTold) {
  ASSERT_EQ(setenv("RIDGE_TEST_SECRET", "hush", 1), 0);
  ASSERT_EQ(setenv("RIDGE_TEST_SECRET_TOO", "kept", 1), 0);
  const std::vector<std::string> words = {"sh", "-c",
                                          "echo ${RIDGE_TEST_SECRET-none} $RIDGE_TEST_SECRET_TOO"};
  EXPECT_EQ(run_process(words).output, "hush kept\n");
  EXPECT_EQ(run_process(words, {.withheld = {"RIDGE_TEST_SECRET"}}).output, "none kept\n");
}

TEST(RunProcess, EndsTheProgramWhenCancelled) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_ERROR(run_process({"sleep", "60"}, {.is_cancelled = [] { return true; }}), cancelled,
               "stopped");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60)) << "it did not come to its own end";
}

}  // namespace
}  // namespace ridge::platform::subprocess_test
