#include "loadgen/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "loadgen/report_json.h"

namespace ridge::loadgen::report_test {
namespace {

using Outcome = RequestRecord::Outcome;

RequestRecord answered(int group, double ttft_ms, std::vector<float> gaps_ms, double total_ms) {
  RequestRecord record;
  record.group = group;
  record.outcome = Outcome::ok;
  record.first_token_ms = ttft_ms;
  record.gaps_ms = std::move(gaps_ms);
  record.total_ms = total_ms;
  return record;
}

RunResult two_groups() {
  RunResult result{.duration_s = 2};
  result.records.push_back(answered(0, 10, {5, 7}, 24));
  result.records.back().usage = {.prompt_tokens = 100, .cached_tokens = 64, .output_tokens = 3};
  result.records.push_back(answered(1, 30, {9}, 40));  // states no usage: two pieces of text
  RequestRecord failed{.group = 1, .failure = "429 queue_full", .retries = 2};
  result.records.push_back(failed);
  RequestRecord left = answered(1, 50, {11}, 61);
  left.outcome = Outcome::left;
  result.records.push_back(left);
  return result;
}

const std::vector<Group> names = {{.name = "light"}, {.name = "heavy"}};

TEST(Report, CountsEachOutcomeAndEachKindOfFailure) {
  const Report report = make_report(two_groups(), names, {});
  EXPECT_EQ(report.all.requests(), 4u);
  EXPECT_EQ(report.all.ok, 2u);
  EXPECT_EQ(report.all.failed, 1u);
  EXPECT_EQ(report.all.left, 1u);
  EXPECT_EQ(report.all.failures.at("429 queue_full"), 1u);
  EXPECT_EQ(report.all.retries, 2u);
  ASSERT_EQ(report.groups.size(), 2u);
  EXPECT_EQ(report.groups[0].name, "light");
  EXPECT_EQ(report.groups[0].ok, 1u);
  EXPECT_EQ(report.groups[1].ok, 1u);
  EXPECT_EQ(report.groups[1].failed, 1u);
}

TEST(Report, CountsTokensAsStatedElseByPiecesOfText) {
  const Report report = make_report(two_groups(), names, {});
  EXPECT_EQ(report.all.prompt_tokens, 100);
  EXPECT_EQ(report.all.cached_tokens, 64);
  EXPECT_EQ(report.all.output_tokens, 3 + 2 + 2);
  EXPECT_DOUBLE_EQ(report.per_s(report.all.output_tokens), 3.5);
}

TEST(Report, SummarisesTimesOfWhatWasAnswered) {
  const Report report = make_report(two_groups(), names, {});
  EXPECT_EQ(report.all.ttft_ms.count, 3u);  // that of the client which left too
  EXPECT_DOUBLE_EQ(report.all.ttft_ms.p50, 30);
  EXPECT_EQ(report.all.inter_token_ms.count, 4u);
  EXPECT_DOUBLE_EQ(report.all.inter_token_ms.mean, 8);
  EXPECT_EQ(report.all.total_ms.count, 2u);
  EXPECT_DOUBLE_EQ(report.all.total_ms.max, 40);
  // (24 - 10) / 2 and (40 - 30) / 1
  EXPECT_DOUBLE_EQ(report.all.per_token_ms.mean, 8.5);
}

TEST(Report, GoodputCountsAnswersThatMeetBothObjectives) {
  EXPECT_EQ(make_report(two_groups(), names, {.ttft_ms = 10}).all.good, 1u);
  EXPECT_EQ(make_report(two_groups(), names, {.ttft_ms = 30}).all.good, 2u);
  EXPECT_EQ(make_report(two_groups(), names, {.inter_token_ms = 6}).all.good, 1u);
  EXPECT_EQ(make_report(two_groups(), names, {.inter_token_ms = 5.9}).all.good, 0u);
  EXPECT_EQ(make_report(two_groups(), names, {.ttft_ms = 30, .inter_token_ms = 6}).all.good, 1u);
}

TEST(Report, AGroupByItselfIsNotListed) {
  RunResult result;
  EXPECT_TRUE(make_report(result, {{.name = "all"}}, {}).groups.empty());
}

TEST(Report, JsonHasTheSameFigures) {
  const auto body = report_json(make_report(two_groups(), names, {.ttft_ms = 10}));
  EXPECT_EQ(body["requests"], 4);
  EXPECT_EQ(body["failures"]["429 queue_full"], 1);
  EXPECT_EQ(body["ttft_ms"]["p50"], 30);
  EXPECT_EQ(body["total_tokens_per_second"], 53.5);
  EXPECT_EQ(body["goodput_per_second"], 0.5);
  EXPECT_EQ(body["groups"][0]["name"], "light");
  EXPECT_EQ(body["groups"][0]["ttft_ms"]["count"], 1);
  EXPECT_FALSE(report_json(make_report({}, names, {}))["ttft_ms"].contains("p50"));
}

}  // namespace
}  // namespace ridge::loadgen::report_test
