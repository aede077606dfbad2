#include "loadgen/workload.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <set>

#include "base/error.h"
#include "loadgen/summary.h"

namespace ridge::loadgen::workload_test {
namespace {

using ::testing::HasSubstr;
using Purpose = Workload::Purpose;

int words_in(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), ' ')) + 1;
}

WorkloadOptions lengths(std::string_view prompt, std::string_view output) {
  WorkloadOptions options;
  options.prompt_tokens = LengthDistribution::parse(prompt, "--prompt-tokens");
  options.output_tokens = LengthDistribution::parse(output, "--output-tokens");
  return options;
}

TEST(LengthDistribution, AFixedLengthIsAlwaysThat) {
  Random random(1, 1);
  const auto fixed = LengthDistribution::parse("230", "x");
  for (int i = 0; i < 100; ++i) EXPECT_EQ(fixed.draw(random), 230);
  EXPECT_EQ(fixed.typical(), 230);
}

TEST(LengthDistribution, ARangeGivesEachLengthAsOften) {
  Random random(1, 2);
  const auto range = LengthDistribution::parse("3-6", "x");
  std::array<int, 10> counts{};
  for (int i = 0; i < 40000; ++i) ++counts.at(static_cast<size_t>(range.draw(random)));
  // Five deviations of a binomial count around a quarter of 40,000.
  for (size_t length = 3; length <= 6; ++length) EXPECT_NEAR(counts[length], 10000, 435);
}

TEST(LengthDistribution, ALognormalHasItsMedianAndDeviation) {
  Random random(1, 3);
  const auto lengths = LengthDistribution::parse("lognormal:1000:0.5", "x");
  std::vector<double> logs;
  for (int i = 0; i < 20000; ++i) logs.push_back(std::log(lengths.draw(random)));
  std::sort(logs.begin(), logs.end());
  EXPECT_NEAR(percentile(logs, 50), std::log(1000), 0.02);
  // One deviation above the median lie 84.13 %.
  EXPECT_NEAR(percentile(logs, 84.13) - percentile(logs, 50), 0.5, 0.02);
}

TEST(LengthDistribution, ALognormalIsCutAtItsLimit) {
  Random random(1, 4);
  const auto lengths = LengthDistribution::parse("lognormal:100:2:150", "x");
  int at_limit = 0;
  for (int i = 0; i < 1000; ++i) {
    const int tokens = lengths.draw(random);
    EXPECT_GE(tokens, 1);
    EXPECT_LE(tokens, 150);
    at_limit += tokens == 150;
  }
  EXPECT_GT(at_limit, 300);
}

TEST(LengthDistribution, RefusesOtherTextNamingTheOption) {
  for (const char* text : {"", "0", "-5", "5-", "9-3", "1-2-3", "x", "1.5", "2000000", "lognormal",
                           "lognormal:5", "lognormal:5:-1", "lognormal:0:1", "lognormal:5:nan",
                           "lognormal:5:1:0", "lognormal:5:1:9:9", "5 "}) {
    try {
      LengthDistribution::parse(text, "--prompt-tokens");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_THAT(std::string(error.message()), HasSubstr("--prompt-tokens")) << text;
    }
  }
}

TEST(PromptScale, IsTheLineThroughTwoCounts) {
  const PromptScale scale = PromptScale::through(10, 35, 30, 65);
  EXPECT_DOUBLE_EQ(scale.tokens_per_word, 1.5);
  EXPECT_DOUBLE_EQ(scale.fixed_tokens, 20);
  EXPECT_EQ(scale.words_for(65), 30);
  EXPECT_EQ(scale.words_for(5), 1);
  EXPECT_THROW(PromptScale::through(10, 35, 30, 35), Error);
}

TEST(Workload, TheSameSeedGivesTheSameRequests) {
  WorkloadOptions options = lengths("100-400", "lognormal:50:1");
  options.leaving_share = 0.5;
  const Workload one(options, {});
  const Workload again(options, {});
  options.seed = 2;
  const Workload other(options, {});
  int differ = 0;
  for (uint64_t i = 0; i < 50; ++i) {
    const PlannedRequest a = one.request(0, i, Purpose::measured);
    const PlannedRequest b = again.request(0, i, Purpose::measured);
    EXPECT_EQ(a.prompt, b.prompt);
    EXPECT_EQ(a.output_tokens, b.output_tokens);
    EXPECT_EQ(a.leaving.has_value(), b.leaving.has_value());
    differ += a.prompt != other.request(0, i, Purpose::measured).prompt;
  }
  EXPECT_EQ(differ, 50);
}

TEST(Workload, PromptsAreUniqueOverGroupsAndTheWarmUp) {
  const Workload workload(lengths("50", "8"), {});
  std::set<std::string> beginnings;  // of four words: nothing for a prefix cache
  for (int group = 0; group < 3; ++group) {
    for (uint64_t i = 0; i < 100; ++i) {
      for (const Purpose purpose : {Purpose::measured, Purpose::warm_up}) {
        const std::string prompt = workload.request(group, i, purpose).prompt;
        size_t end = 0;
        for (int word = 0; word < 4; ++word) end = prompt.find(' ', end + 1);
        beginnings.insert(prompt.substr(0, end));
      }
    }
  }
  EXPECT_EQ(beginnings.size(), 600u);
}

TEST(Workload, PromptsHaveTheTokensAskedByTheScale) {
  const Workload workload(lengths("230", "8"), {.fixed_tokens = 30, .tokens_per_word = 2});
  EXPECT_EQ(words_in(workload.request(0, 0, Purpose::measured).prompt), 100);
}

TEST(Workload, PromptsShareSoManyPrefixes) {
  WorkloadOptions options = lengths("10", "8");
  options.prefix_tokens = 40;
  options.prefixes = 3;
  const Workload workload(options, {.fixed_tokens = 5, .tokens_per_word = 1});
  std::set<std::string> prefixes;
  for (uint64_t i = 0; i < 60; ++i) {
    const std::string prompt =
        workload.request(static_cast<int>(i % 2), i, i < 30 ? Purpose::warm_up : Purpose::measured)
            .prompt;
    EXPECT_EQ(words_in(prompt), 40 + 5);
    size_t end = 0;
    for (int word = 0; word < 40; ++word) end = prompt.find(' ', end + 1);
    prefixes.insert(prompt.substr(0, end));
  }
  EXPECT_EQ(prefixes.size(), 3u);
}

TEST(Workload, SoManyClientsLeaveAtDifferentPoints) {
  WorkloadOptions options = lengths("10", "20");
  options.leaving_share = 0.3;
  const Workload workload(options, {});
  int by_time = 0;
  std::set<int> events;
  for (uint64_t i = 0; i < 2000; ++i) {
    const auto leaving = workload.request(0, i, Purpose::measured).leaving;
    if (!leaving) continue;
    by_time += leaving->after_events == 0;
    if (leaving->after_events > 0) events.insert(leaving->after_events);
    EXPECT_LT(leaving->after_events, 20);
    EXPECT_EQ(leaving->after_ms > 0, leaving->after_events == 0);
    EXPECT_FALSE(workload.request(0, i, Purpose::warm_up).leaving);
  }
  EXPECT_NEAR(by_time, 300, 75);  // five deviations
  EXPECT_EQ(events.size(), 19u);
}

TEST(Workload, ATraceSaysWhatIsAsked) {
  WorkloadOptions options = lengths("10", "20");
  options.trace = parse_trace(
      "{\"prompt\":\"exactly "
      "this\",\"output_tokens\":3}\n{\"prompt_tokens\":7,\"output_tokens\":4}",
      "x");
  const Workload workload(options, {});
  EXPECT_EQ(workload.request(0, 0, Purpose::measured).prompt, "exactly this");
  EXPECT_EQ(workload.request(0, 0, Purpose::measured).output_tokens, 3);
  EXPECT_EQ(words_in(workload.request(0, 1, Purpose::measured).prompt), 7);
  EXPECT_EQ(workload.request(0, 2, Purpose::measured).prompt, "exactly this");
}

TEST(PoissonArrivals, ComeAtTheRateAndIndependently) {
  PoissonArrivals arrivals(7, 0, 50);
  constexpr int count = 20000;
  double last_ms = 0;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < count; ++i) {
    const double gap_ms = arrivals.next_ms() - last_ms;
    last_ms = arrivals.next_ms();
    sum += gap_ms;
    squares += gap_ms * gap_ms;
    arrivals.advance();
  }
  const double mean_ms = sum / count;
  EXPECT_NEAR(mean_ms, 20, 0.7);  // five deviations of the mean
  // The gaps of a Poisson process deviate by as much as their mean.
  EXPECT_NEAR(std::sqrt(squares / count - mean_ms * mean_ms), 20, 1);
}

TEST(PoissonArrivals, GroupsAndSeedsDiffer) {
  EXPECT_NE(PoissonArrivals(7, 0, 1).next_ms(), PoissonArrivals(7, 1, 1).next_ms());
  EXPECT_NE(PoissonArrivals(7, 0, 1).next_ms(), PoissonArrivals(8, 0, 1).next_ms());
  EXPECT_EQ(PoissonArrivals(7, 0, 1).next_ms(), PoissonArrivals(7, 0, 1).next_ms());
}

TEST(Group, ReadsRatesClientsAndKeys) {
  const Group light = parse_group("light,rate=2.5,key=a", "default");
  EXPECT_EQ(light.name, "light");
  EXPECT_EQ(light.requests_per_s, 2.5);
  EXPECT_EQ(light.clients, 0);
  EXPECT_EQ(light.api_key, "a");
  const Group heavy = parse_group("heavy,clients=8", "default");
  EXPECT_EQ(heavy.clients, 8);
  EXPECT_EQ(heavy.api_key, "default");
  setenv("LOADGEN_TEST_KEY", "from there", 1);
  EXPECT_EQ(parse_group("x,clients=1,key=env:LOADGEN_TEST_KEY", "").api_key, "from there");
}

TEST(Group, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"", "x", ",rate=1", "x,rate=0", "x,rate=-1", "x,rate=inf",
                           "x,clients=1.5", "x,clients=9999", "x,rate=1,clients=1", "x,weight=2",
                           "x,rate=1,", "x,rate=1,key=env:LOADGEN_NOT_SET"}) {
    try {
      parse_group(text, "");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_THAT(std::string(error.message()), HasSubstr("--group")) << text;
    }
  }
}

}  // namespace
}  // namespace ridge::loadgen::workload_test
