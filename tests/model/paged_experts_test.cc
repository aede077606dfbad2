// Models whose experts stay in their file: the same answers to the bit, whatever is held.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/sanitizers.h"
#include "base/temporary_folder.h"
#include "format/model_folder.h"
#include "model/golden.h"
#include "model/model.h"
#include "model/stepper.h"

namespace ridge::model::paged_experts_test {

namespace {

using ::testing::HasSubstr;

std::unique_ptr<backend::Device> open_cpu(const std::string& isa = "") {
  return backend::open_device("cpu", {.threads = 2, .isa = isa, .threads_spin = false});
}

// Logits of the tokens in chunks of several sizes, each a sequence of its own.
std::vector<std::vector<float>> all_logits(const Golden& golden, const Model& model,
                                           backend::Device& device) {
  std::vector<std::vector<float>> all;
  for (const size_t chunk_tokens : {size_t{1}, size_t{5}, golden.tokens.size()}) {
    Stepper stepper(model, device, DType::f16);
    for (size_t begin = 0; begin < golden.tokens.size(); begin += chunk_tokens) {
      const size_t end = std::min(golden.tokens.size(), begin + chunk_tokens);
      const Chunk chunk{1, {golden.tokens.begin() + static_cast<ptrdiff_t>(begin),
                            golden.tokens.begin() + static_cast<ptrdiff_t>(end)}};
      for (auto& row : stepper.step({&chunk, 1})) all.push_back(std::move(row));
    }
  }
  return all;
}

ModelOptions options_for(std::optional<uint64_t> expert_bytes, bool mixed) {
  return {.mixed_precision = mixed, .paging = {.expert_bytes = expert_bytes}};
}

// Holds none, one, two and all but one of the experts.
void expect_the_same_whatever_is_held(const format::GgufFile& file, const Golden& golden,
                                      const std::string& isa) {
  const auto device = open_cpu(isa);
  for (const bool mixed : {false, true}) {
    const auto expected =
        all_logits(golden, *Model::load(file, *device, options_for(std::nullopt, mixed)), *device);
    const auto none = Model::load(file, *device, options_for(0, mixed));
    ASSERT_TRUE(none->paged_experts());
    const PagedExperts paged = *none->paged_experts();
    EXPECT_EQ(paged.held, 0);
    EXPECT_TRUE(all_logits(golden, *none, *device) == expected) << "none held";
    for (const int held : {1, 2, paged.experts - 1}) {
      const auto budget = static_cast<uint64_t>(held) * paged.expert_bytes;
      const auto model = Model::load(file, *device, options_for(budget, mixed));
      ASSERT_TRUE(model->paged_experts());
      EXPECT_EQ(model->paged_experts()->held, held);
      EXPECT_EQ(model->paged_experts()->held_bytes, budget);
      EXPECT_TRUE(all_logits(golden, *model, *device) == expected) << held << " held";
    }
  }
  EXPECT_GT(device->expert_counters().hits, 0u);
  EXPECT_GT(device->expert_counters().misses, 0u);
}

class PagedExpertsOf : public testing::TestWithParam<std::string> {};

TEST_P(PagedExpertsOf, AnswerTheSameAtEveryInstructionSet) {
  const Golden golden(GetParam());
  const auto file = format::GgufFile::open(goldens / (GetParam() + ".gguf"));
  for (const std::string& isa : backend::device_isas("cpu")) {
    SCOPED_TRACE(isa);
    expect_the_same_whatever_is_held(file, golden, isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, PagedExpertsOf,
                         testing::Values("mixtral-q8_0", "qwen3moe-q4_k_m", "qwen3moe-f32",
                                         "deepseek-v2-groups-f32", "deepseek-v3-q8_0"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name;
                         });

// Experts are made of the shards' tensors when they are wanted, converted where they must be.
class PagedExpertsOfFolder : public testing::TestWithParam<std::string> {};

TEST_P(PagedExpertsOfFolder, AnswerTheSame) {
  const Golden golden(GetParam());
  const auto file = format::open_model(goldens / "folders" / GetParam(), /*threads=*/2);
  expect_the_same_whatever_is_held(file, golden, "");
}

INSTANTIATE_TEST_SUITE_P(Folders, PagedExpertsOfFolder,
                         testing::Values("mixtral-q8_0", "qwen3moe-f32", "deepseek-v3-fp8"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name;
                         });

// The layer that guesses has experts, too.
TEST(PagedExperts, OfALayerThatGuessesArePagedAsWell) {
  const Golden golden("deepseek-v3-mtp-q8_0");
  const auto file = format::GgufFile::open(goldens / "deepseek-v3-mtp-q8_0.gguf");
  const auto device = open_cpu();
  const auto guesses_of = [&](std::optional<uint64_t> expert_bytes) {
    ModelOptions options = options_for(expert_bytes, /*mixed=*/false);
    options.guesses = true;
    const auto model = Model::load(file, *device, options);
    EXPECT_EQ(model->paged_experts().has_value(), expert_bytes.has_value());
    Stepper stepper(*model, *device, DType::f16);
    const Chunk chunk{0, {golden.tokens.begin(), golden.tokens.end() - 1}};
    stepper.step({&chunk, 1});
    const Chunk following{0, {golden.tokens.begin() + 1, golden.tokens.end()}};
    return stepper.guess({&following, 1}, stepper.hidden()).logits;
  };
  const auto expected = guesses_of(std::nullopt);
  const uint64_t before = device->expert_counters().misses;
  EXPECT_TRUE(guesses_of(0) == expected);
  EXPECT_GT(device->expert_counters().misses, before);
}

class PagingPlan : public testing::Test {
 protected:
  std::optional<PagedExperts> plan(uint64_t free_bytes,
                                   std::optional<uint64_t> expert_bytes = std::nullopt) {
    DecoderTensors tensors = find_tensors(file_, config_, /*guesses=*/false);
    return page_experts(file_, *device_, config_,
                        {.expert_bytes = expert_bytes, .free_bytes = free_bytes}, tensors);
  }
  std::string failure(uint64_t free_bytes, std::optional<uint64_t> expert_bytes = std::nullopt) {
    try {
      plan(free_bytes, expert_bytes);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
      return std::string(error.message());
    }
    ADD_FAILURE() << "no error";
    return {};
  }

  const format::GgufFile file_ = format::GgufFile::open(goldens / "qwen3moe-q4_k_m.gguf");
  const ModelConfig config_ = read_config(file_);
  std::unique_ptr<backend::Device> device_ = open_cpu();
};

TEST_F(PagingPlan, PagesWhereTheModelDoesNotFit) {
  const PagedExperts none = plan(1 << 30, 0).value();
  const uint64_t all = none.expert_bytes * static_cast<uint64_t>(none.experts);
  EXPECT_TRUE(none.is_chosen);
  EXPECT_FALSE(plan(none.dense_bytes + all));
  const PagedExperts paged = plan(none.dense_bytes + all - 1).value();
  EXPECT_FALSE(paged.is_chosen);
  // Half of what is free behind the dense weights.
  EXPECT_EQ(paged.held, (paged.experts - 1) / 2);
  EXPECT_EQ(paged.held_bytes, static_cast<uint64_t>(paged.held) * none.expert_bytes);
  EXPECT_EQ(plan(none.dense_bytes).value().held, 0);
}

TEST_F(PagingPlan, SaysWhatATokenReads) {
  const PagedExperts paged = plan(1 << 30, plan(1 << 30, 0)->expert_bytes * 2).value();
  EXPECT_EQ(paged.held, 2);
  EXPECT_EQ(paged.used, config_.experts->router.top_k);
  uint64_t bytes = 0;
  for (const format::GgufTensor& tensor : file_.tensors()) {
    if (tensor.name.ends_with("_exps.weight")) bytes += tensor.view.bytes.size();
  }
  EXPECT_EQ(paged.file_bytes, bytes);
  EXPECT_EQ(paged.token_bytes,
            bytes / static_cast<uint64_t>(paged.experts) * static_cast<uint64_t>(paged.used));
  EXPECT_NEAR(paged.even_token_bytes(),
              static_cast<double>(paged.token_bytes) * (paged.experts - 2) / paged.experts, 1);
  EXPECT_GT(paged.read_bytes_per_second, 0);
  EXPECT_GT(paged.packed_bytes_per_second, 0);
  EXPECT_THAT(summary(paged), HasSubstr(fmt::format("2 of {} experts", paged.experts)));
  EXPECT_THAT(summary(paged), HasSubstr("tokens/s"));
}

TEST(PagedExperts, AreReadAsFastAsTheSlowerOfTheFileAndTheDevice) {
  PagedExperts paged{.experts = 8, .held = 2, .used = 2, .token_bytes = 40'000'000};
  EXPECT_EQ(paged.even_tokens_per_second(), 0);
  EXPECT_THAT(summary(paged), testing::Not(HasSubstr("tokens/s")));
  const std::string cached = "more where the system still has parts of the file in memory";
  paged.read_bytes_per_second = 90e6;
  EXPECT_DOUBLE_EQ(paged.even_tokens_per_second(), 3);
  EXPECT_THAT(summary(paged),
              testing::AllOf(HasSubstr("about 3 tokens/s at the 90 MB/s that the file was just read with;"),
                             HasSubstr(cached)));
  paged.packed_bytes_per_second = 300e6;
  EXPECT_DOUBLE_EQ(paged.even_tokens_per_second(), 3);
  EXPECT_THAT(summary(paged), testing::AllOf(HasSubstr("the 300 MB/s that this device lays out"), HasSubstr(cached)));
  // More of it in memory would not help.
  paged.packed_bytes_per_second = 60e6;
  EXPECT_DOUBLE_EQ(paged.even_tokens_per_second(), 2);
  EXPECT_THAT(summary(paged), testing::AllOf(HasSubstr("about 2 tokens/s at the 90 MB/s"),
                                             testing::Not(HasSubstr(cached))));
}

TEST_F(PagingPlan, HoldsAllWhereTheMemoryThatWasGivenIsEnough) {
  const PagedExperts none = plan(1 << 30, 0).value();
  const uint64_t all = none.expert_bytes * static_cast<uint64_t>(none.experts);
  EXPECT_FALSE(plan(1 << 30, all));
  EXPECT_TRUE(plan(1 << 30, all - 1));
}

TEST_F(PagingPlan, NamesTheFirstTensorThatDoesNotFit) {
  const uint64_t dense = plan(1 << 30, 0)->dense_bytes;
  EXPECT_THAT(failure(dense - 1), HasSubstr("does not fit in memory"));
  // In the order of loading; this embedding is the output head as well.
  EXPECT_THAT(failure(1000), HasSubstr("token_embd does not fit"));
}

TEST_F(PagingPlan, RefusesMoreMemoryForExpertsThanThereIs) {
  const PagedExperts none = plan(1 << 30, 0).value();
  const std::string message =
      failure(none.dense_bytes + none.expert_bytes, 2 * none.expert_bytes);
  EXPECT_THAT(message, HasSubstr("memory for experts was set to"));
}

TEST_F(PagingPlan, IsForDevicesThatCanAndModelsOfExperts) {
  device_ = backend::open_device("reference");
  EXPECT_FALSE(plan(1));
  try {
    plan(1 << 30, 0);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
  const auto dense = format::GgufFile::open(goldens / "llama-f32.gguf");
  const auto cpu = open_cpu();
  EXPECT_FALSE(Model::load(dense, *cpu, options_for(0, false))->paged_experts());
}

// Counts what a store is told and given.
class CountingStore final : public backend::PreparedStore {
 public:
  void begin(std::string_view layout, uint64_t bytes) override {
    layout_ = layout;
    announced_bytes = bytes;
  }
  std::span<const std::byte> find(std::string_view) const override { return {}; }
  void keep(std::string_view key, std::span<const std::byte> bytes) override {
    EXPECT_THAT(std::string(key), testing::Not(HasSubstr("_exps")));
    kept_bytes += bytes.size();
  }
  void finish() override {}

  std::string layout_;
  uint64_t announced_bytes = 0;
  uint64_t kept_bytes = 0;
};

TEST(PagedExperts, AreNoPartOfAPreparedCache) {
  const auto file = format::GgufFile::open(goldens / "qwen3moe-q4_k_m.gguf");
  const auto device = open_cpu();
  CountingStore store;
  ModelOptions options = options_for(0, false);
  options.prepared = &store;
  Model::load(file, *device, options);
  EXPECT_GT(store.kept_bytes, 0u);
  EXPECT_EQ(store.kept_bytes, store.announced_bytes);
  EXPECT_NE(store.layout_, device->prepared_layout());
}

void run_on_a_file_that_is_cut_short() {
  const TemporaryFolder folder;
  std::filesystem::copy_file(goldens / "qwen3moe-f32.gguf", folder / "model.gguf");
  const Golden golden("qwen3moe-f32");
  const auto file = format::GgufFile::open(folder / "model.gguf");
  const auto device = open_cpu();
  const auto model = Model::load(file, *device, options_for(0, false));
  Stepper stepper(*model, *device, DType::f16);
  std::filesystem::resize_file(folder / "model.gguf", 4096);
  const Chunk chunk{0, golden.tokens};
  stepper.step({&chunk, 1});
}

// As with every mapped file: the process ends, and its status says of what.
TEST(PagedExpertsDeathTest, EndByASignalWhereTheirFileIsCutShort) {
  if (is_sanitized) GTEST_SKIP() << "sanitizers take the signal";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_on_a_file_that_is_cut_short(), testing::KilledBySignal(SIGBUS), "");
}

}  // namespace

}  // namespace ridge::model::paged_experts_test
