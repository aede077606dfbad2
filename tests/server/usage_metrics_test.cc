#include "server/usage_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>

#include "server/metrics.h"

namespace ridge::server::usage_metrics_test {
namespace {

// Each sample as `name{labels}` and its value.
std::string text_of(const UsageMetrics& metrics,
                    const std::optional<std::string>& project = std::nullopt) {
  return metrics_text({}, {.usage_waits = false, .by_request = metrics.collect(project)});
}

TEST(UsageMetrics, AddsUpByProjectAndModel) {
  UsageMetrics metrics;
  const platform::Settlement answered{
      .prompt_tokens = 10, .cached_tokens = 4, .completion_tokens = 3, .finish_reason = "stop"};
  metrics.count("search", "m", answered);
  metrics.count("search", "m", answered);
  metrics.count("search", "m", {.prompt_tokens = 1, .finish_reason = "cancelled"});
  metrics.count("ci", "m", {.finish_reason = "failed", .is_void = true});
  metrics.count_refusal("ci", platform::Refusal::Kind::spent);
  const std::string text = text_of(metrics);
  for (const char* line :
       {"ridge:usage_requests_total{model_name=\"m\",project=\"search\",result=\"answered\"} 2\n",
        "ridge:usage_requests_total{model_name=\"m\",project=\"search\",result=\"cancelled\"} "
        "1\n",
        "ridge:usage_prompt_tokens_total{model_name=\"m\",project=\"search\"} 21\n",
        "ridge:usage_cached_tokens_total{model_name=\"m\",project=\"search\"} 8\n",
        "ridge:usage_completion_tokens_total{model_name=\"m\",project=\"search\"} 6\n",
        "ridge:usage_refusals_total{project=\"ci\",reason=\"spent\"} 1\n",
        "ridge:usage_waits_for_database 0\n"}) {
    EXPECT_THAT(text, testing::HasSubstr(line));
  }
  EXPECT_THAT(text,
              testing::Not(testing::HasSubstr("requests_total{model_name=\"m\",project=\"ci\"")))
      << "what is void was never asked";
}

TEST(UsageMetrics, TellsAProjectOfItselfAlone) {
  UsageMetrics metrics;
  metrics.count("search", "m", {.prompt_tokens = 1, .finish_reason = "stop"});
  metrics.count("ci", "m", {.prompt_tokens = 2, .finish_reason = "stop"});
  metrics.count_refusal("ci", platform::Refusal::Kind::spent);
  const std::string text = text_of(metrics, "search");
  EXPECT_THAT(text, testing::HasSubstr("project=\"search\"} 1\n"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("\"ci\"")));
}

TEST(UsageMetrics, TellsOnlySoManyProjectsApart) {
  UsageMetrics metrics;
  const int many = static_cast<int>(UsageMetrics::most_projects);
  for (int i = 0; i < many + 10; ++i) {
    metrics.count("p" + std::to_string(i), "m", {.prompt_tokens = 1, .finish_reason = "stop"});
  }
  metrics.count("p0", "m", {.prompt_tokens = 1, .finish_reason = "stop"});
  const std::string text = text_of(metrics);
  const auto tokens_of = [](const std::string& project) {
    return "ridge:usage_prompt_tokens_total{model_name=\"m\",project=\"" + project + "\"} ";
  };
  EXPECT_THAT(text, testing::HasSubstr(tokens_of("(other)") + "10\n"));
  EXPECT_THAT(text, testing::HasSubstr(tokens_of("p0") + "2\n")) << "one that is known stays so";
  EXPECT_THAT(text, testing::Not(testing::HasSubstr(tokens_of("p" + std::to_string(many)))));
}

}  // namespace
}  // namespace ridge::server::usage_metrics_test
