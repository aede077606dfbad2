#include "api/random_id.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace ridge::api::random_id_test {
namespace {

constexpr std::size_t id_letters = 24;

std::vector<std::string> draw(int count) {
  std::vector<std::string> ids;
  for (int i = 0; i < count; ++i) ids.push_back(random_id(""));
  return ids;
}

TEST(RandomId, FollowsItsPrefixWithLettersAndDigits) {
  const std::string id = random_id("chatcmpl-");
  EXPECT_EQ(id.substr(0, 9), "chatcmpl-");
  EXPECT_EQ(id.size(), 9 + id_letters);
  EXPECT_TRUE(std::all_of(id.begin() + 9, id.end(), [](unsigned char c) { return isalnum(c); }));
}

TEST(RandomId, NeverRepeatsOnAnyThread) {
  constexpr int threads = 4, ids_each = 5'000;
  std::array<std::vector<std::string>, threads> drawn;
  {
    std::vector<std::jthread> running;
    for (auto& ids : drawn) running.emplace_back([&ids] { ids = draw(ids_each); });
  }
  std::set<std::string> all;
  for (const auto& ids : drawn) all.insert(ids.begin(), ids.end());
  EXPECT_EQ(all.size(), std::size_t{threads} * ids_each);
}

// Two processes with the same memory, as two starts in the same state would be: what is drawn from
// a state in memory, however seeded, is the same in both, and who sees one's ids knows the other's.
TEST(RandomId, DependsOnNothingThatTheProcessHolds) {
  draw(3);  // whatever is made at the first use is made
  random_hex(16);
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  const std::string own = random_id("") + random_hex(16);
  if (child == 0) {
    const bool is_written =
        write(ends[1], own.data(), own.size()) == static_cast<ssize_t>(own.size());
    _exit(is_written ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  std::string others(own.size(), '\0');
  ASSERT_EQ(read(ends[0], others.data(), others.size()), static_cast<ssize_t>(others.size()));
  close(ends[0]);
  close(ends[1]);
  EXPECT_NE(own.substr(0, id_letters), others.substr(0, id_letters));
  EXPECT_NE(own.substr(id_letters), others.substr(id_letters));
}

// Pearson's chi-squared of 61 degrees of freedom: 61 on average, above 200 once in 10^16 runs.
// Bytes taken modulo 62 would give 1,600.
TEST(RandomId, PrefersNoLetter) {
  constexpr int count = 10'000;
  std::map<char, int> seen;
  for (const std::string& id : draw(count)) {
    for (const char c : id) ++seen[c];
  }
  ASSERT_EQ(seen.size(), 62u);
  const double expected = static_cast<double>(count) * id_letters / 62;
  double chi_squared = 0;
  for (const auto& [letter, times] : seen) {
    chi_squared += (times - expected) * (times - expected) / expected;
  }
  EXPECT_LT(chi_squared, 200);
}

TEST(RandomHex, HasTheDigitsOfItsBytes) {
  for (const std::size_t bytes : {1u, 8u, 16u, 32u}) {
    const std::string text = random_hex(bytes);
    EXPECT_EQ(text.size(), 2 * bytes);
    EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), std::string::npos);
  }
  for (int i = 0; i < 2'000; ++i) EXPECT_NE(random_hex(1), "00") << "stands for no id";
}

}  // namespace
}  // namespace ridge::api::random_id_test
