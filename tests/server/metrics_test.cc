#include "server/metrics.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <sstream>

#include "server/still_engine.h"

namespace ridge::server::metrics_test {
namespace {

// Each sample of the text: `name{labels}` → value.
std::map<std::string, double> samples(const std::string& text) {
  std::map<std::string, double> all;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    EXPECT_TRUE(all.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second)
        << line;
  }
  return all;
}

TEST(Metrics, SaysWhatTheEnginesCounted) {
  const auto engine = std::make_shared<StillEngine>();
  engine->figures.running = 3;
  engine->figures.waiting = 2;
  engine->figures.block_tokens = 16;
  engine->figures.blocks_total = 100;
  engine->figures.blocks_free = 75;
  engine->figures.cached_tokens_total = 640;
  engine->figures.blocks_spilled = 5;
  engine->figures.blocks_spilled_total = 12;
  engine->figures.blocks_restored_total = 4;
  // stop, length, tool_calls, cancelled, failed
  engine->figures.choices_by_reason = {4, 5, 3, 1, 2};
  const std::vector<api::ServedModel> models = {{.name = "a\"b", .engine = engine}};
  const auto all = samples(metrics_text(models, {.connections = 9}));
  const std::string model = "{model_name=\"a\\\"b\"}";
  EXPECT_EQ(all.at("ridge:connections"), 9);
  EXPECT_EQ(all.at("vllm:num_requests_running" + model), 3);
  EXPECT_EQ(all.at("vllm:num_requests_waiting" + model), 2);
  EXPECT_EQ(all.at("vllm:kv_cache_usage_perc" + model), 0.25);
  EXPECT_EQ(all.at("vllm:prefix_cache_hits_total" + model), 640);
  EXPECT_EQ(all.at("ridge:kv_cache_blocks_spilled" + model), 5);
  EXPECT_EQ(all.at("ridge:kv_cache_spilled_blocks_total" + model), 12);
  EXPECT_EQ(all.at("ridge:kv_cache_restored_blocks_total" + model), 4);
  EXPECT_EQ(
      all.at(
          "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"100\",model_name=\"a\\\"b\"}"),
      1);
  const auto ended = [&](const std::string& reason) {
    return all.at("vllm:request_success_total{finished_reason=\"" + reason +
                  "\",model_name=\"a\\\"b\"}");
  };
  EXPECT_EQ(ended("stop"), 7) << "those that stopped for a call among them";
  EXPECT_EQ(ended("length"), 5);
  EXPECT_EQ(ended("abort"), 1);
  EXPECT_EQ(ended("error"), 2);
}

TEST(Metrics, NamesTheAdaptersThatHaveRequests) {
  const auto engine = std::make_shared<StillEngine>();
  const std::vector<api::ServedModel> models = {{.name = "m", .engine = engine}};
  EXPECT_EQ(metrics_text(models, {}).find("lora_requests_info"), std::string::npos)
      << "of a model without adapters";
  engine->info.adapters = {{.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};
  const auto sample = [&](const std::string& waiting, const std::string& running) {
    const std::string name = "vllm:lora_requests_info{max_lora=\"4\",waiting_lora_adapters=\"" +
                             waiting + "\",running_lora_adapters=\"" + running +
                             "\",model_name=\"m\"}";
    return samples(metrics_text(models, {})).at(name);
  };
  const std::chrono::duration<double> before = std::chrono::system_clock::now().time_since_epoch();
  EXPECT_GE(sample("", "") + 1e-3, before.count()) << "the time of the statement";
  engine->figures.adapters = {{.running = 1}, {}, {.running = 2, .waiting = 1}};
  EXPECT_GT(sample("c", "a,c"), 0);
}

TEST(Metrics, CountsTracesOnlyWhereTheyAreExported) {
  ServerFigures figures;
  EXPECT_EQ(metrics_text({}, figures).find("ridge:otlp_requests_total"), std::string::npos);
  figures.exports =
      OtlpExporter::Counts{.exported = 5, .dropped = 3, .failed = 2, .rejected_spans = 4};
  const auto all = samples(metrics_text({}, figures));
  EXPECT_EQ(all.at("ridge:otlp_requests_total{result=\"exported\"}"), 5);
  EXPECT_EQ(all.at("ridge:otlp_requests_total{result=\"dropped\"}"), 3);
  EXPECT_EQ(all.at("ridge:otlp_requests_total{result=\"failed\"}"), 2);
  EXPECT_EQ(all.at("ridge:otlp_rejected_spans_total"), 4);
}

TEST(Metrics, HistogramsCountUpToTheirTotal) {
  const auto engine = std::make_shared<StillEngine>();
  for (double seconds : {0.0005, 0.02, 0.03, 5000.0}) engine->figures.first_token.observe(seconds);
  const std::vector<api::ServedModel> models = {{.name = "m", .engine = engine}};
  const auto all = samples(metrics_text(models, {}));
  const auto bucket = [&](const std::string& bound) {
    return all.at("vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"" + bound + "\"}");
  };
  EXPECT_EQ(bucket("0.001"), 1);
  EXPECT_EQ(bucket("0.02"), 2) << "a bound belongs to its bucket";
  EXPECT_EQ(bucket("0.04"), 3);
  EXPECT_EQ(bucket("2560"), 3);
  EXPECT_EQ(bucket("+Inf"), 4);
  EXPECT_EQ(all.at("vllm:time_to_first_token_seconds_count{model_name=\"m\"}"), 4);
  EXPECT_NEAR(all.at("vllm:time_to_first_token_seconds_sum{model_name=\"m\"}"), 5000.0505, 1e-6);
}

TEST(Metrics, StepsAreCountedByTheirTokens) {
  const auto engine = std::make_shared<StillEngine>();
  for (int tokens : {1, 2, 8, 20'000}) engine->figures.step_tokens.observe(tokens);
  const std::vector<api::ServedModel> models = {{.name = "m", .engine = engine}};
  const auto all = samples(metrics_text(models, {}));
  const auto bucket = [&](const std::string& bound) {
    return all.at("vllm:iteration_tokens_total_bucket{model_name=\"m\",le=\"" + bound + "\"}");
  };
  EXPECT_EQ(bucket("1"), 1);
  EXPECT_EQ(bucket("8"), 3);
  EXPECT_EQ(bucket("16384"), 3);
  EXPECT_EQ(bucket("+Inf"), 4);
  EXPECT_EQ(all.at("vllm:iteration_tokens_total_sum{model_name=\"m\"}"), 20'011);
}

TEST(Metrics, EachNameIsDescribedOnceOverAllModels) {
  const auto engine = std::make_shared<StillEngine>();
  std::vector<api::ServedModel> models;
  for (const char* name : {"a", "b"}) models.push_back({.name = name, .engine = engine});
  const std::string text = metrics_text(models, {});
  const std::string type = "# TYPE vllm:num_requests_running gauge";
  EXPECT_NE(text.find(type), std::string::npos);
  EXPECT_EQ(text.find(type), text.rfind(type));
}

}  // namespace
}  // namespace ridge::server::metrics_test
