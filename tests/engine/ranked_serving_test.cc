// A StepRunner over ranks that are threads, against one on a device: the same bits, of everything that
// the engine asks for.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "backend/registry.h"
#include "backend/thread_ranks.h"
#include "base/error.h"
#include "base/file_descriptor.h"
#include "engine/rank_runner.h"
#include "engine/rank_worker.h"
#include "format/model_folder.h"
#include "kvcache/block_pool.h"

namespace ridge::engine::ranked_serving_test {

namespace {

const std::filesystem::path goldens = std::filesystem::path(RIDGE_SOURCE_DIR) / "tests/goldens";

// One end of a pair of sockets.
class PairedLink final : public RankLink {
 public:
  explicit PairedLink(int socket) : socket_(socket) {}
  void send(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) throw Error(ErrorCode::unavailable, "the other end has gone");
      bytes = bytes.subspan(static_cast<size_t>(sent));
    }
  }
  void receive(std::span<std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
      if (got <= 0) throw Error(ErrorCode::unavailable, "the other end has gone");
      bytes = bytes.subspan(static_cast<size_t>(got));
    }
  }
  void close() override { ::shutdown(socket_.get(), SHUT_WR); }

 private:
  FileDescriptor socket_;
};

// Ranks of a model in threads, and the engine's end of their link.
class RankThreads {
 public:
  RankThreads(const std::filesystem::path& model, int ranks, const std::string& isa = "") {
    int ends[2];
    RIDGE_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    engine_ = std::make_unique<PairedLink>(ends[0]);
    rank_0_ = std::make_unique<PairedLink>(ends[1]);
    thread_ = std::thread([this, model, ranks, isa] {
      backend::ThreadRanks(ranks).run([&](backend::Communicator& group) {
        serve_rank(model, {.mixed_precision = false, .guesses = true}, "cpu",
                   {.threads = 1, .isa = isa, .threads_spin = false}, group,
                   group.rank() == 0 ? rank_0_.get() : nullptr);
      });
    });
  }
  ~RankThreads() {
    engine_->close();
    thread_.join();
  }
  RankLink& link() { return *engine_; }

 private:
  std::unique_ptr<PairedLink> engine_, rank_0_;
  std::thread thread_;
};

RunnerLimits limits() {
  return {.tokens = 16,
          .sequences = 4,
          .outputs = 16,
          .context_tokens = 64,
          .blocks = 12,
          .kv_dtype = DType::f16,
          .batch_invariant = true};
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

// All that a runner can be asked, in an order in which what is read must outlive what is done.
std::vector<std::vector<float>> ask(StepRunner& runner) {
  std::vector<std::vector<float>> heard;
  kvcache::BlockPool pool(limits().blocks);
  kvcache::BlockTable first(pool, 16), second(pool, 16);
  EXPECT_TRUE(first.reserve(40) && second.reserve(40));
  const std::vector<int32_t> prompt = {5, 9, 1, 30, 12, 7, 3, 22, 4, 4, 8, 19};
  StepInputs inputs(blocks_per_sequence(limits()));
  inputs.add(prompt, 0, first, /*logits=*/3);
  const std::span<const float> logits = runner.run(inputs);
  const std::vector<float> before = copy(logits);
  // A second sequence goes on where the first is.
  std::vector<std::byte> block(runner.block_bytes());
  runner.export_block(first.blocks()[0], block);
  runner.import_block(second.blocks()[0], block);
  EXPECT_EQ(copy(logits), before);
  heard.push_back(before);
  if (runner.guesses()) {
    const std::span<const float> hidden = runner.hidden();
    const std::vector<float> states = copy(hidden);
    heard.push_back(states);
    StepInputs following(blocks_per_sequence(limits()));
    following.add(std::span(prompt).subspan(1), 0, first, /*logits=*/1);
    const auto width = static_cast<size_t>(runner.hidden_size());
    const std::vector<float> guessed =
        copy(runner.run_guessing(following, hidden.first((prompt.size() - 1) * width)));
    heard.push_back(guessed);
    heard.push_back(copy(runner.run_guess(guessed)));
    EXPECT_EQ(copy(hidden), states);
  }
  inputs.clear();
  const int32_t next[] = {17};
  inputs.add(next, static_cast<int>(prompt.size()), first, /*logits=*/1);
  inputs.add(next, static_cast<int>(prompt.size()), second, /*logits=*/1);
  heard.push_back(copy(runner.run(inputs)));
  const size_t half = heard.back().size() / 2;
  EXPECT_TRUE(std::equal(heard.back().begin(), heard.back().begin() + static_cast<ptrdiff_t>(half),
                         heard.back().begin() + static_cast<ptrdiff_t>(half)));
  inputs.clear();
  inputs.add(prompt, 0, second, /*logits=*/static_cast<int>(prompt.size()));
  heard.push_back(copy(runner.run_hidden(inputs)));
  return heard;
}

TEST(RankedServing, RanksAnswerAsOneDeviceDoes) {
  for (const auto& [name, ranks] : {std::pair{"llama-q8_0.gguf", 2}, {"gemma3-q8_0.gguf", 4},
                                    {"deepseek-v3-mtp-q8_0.gguf", 3}}) {
    SCOPED_TRACE(name);
    const auto device = backend::open_device("cpu", {.threads = 1, .threads_spin = false});
    const format::GgufFile file = format::open_model(goldens / name);
    const auto model =
        model::Model::load(file, *device, {.mixed_precision = false, .guesses = true});
    const auto alone = create_step_runner(*device, *model, limits());
    RankThreads threads(goldens / name, ranks);
    int64_t progress = 0;
    const auto reports = await_ranks(threads.link(), [&](int64_t done, int64_t total) {
      EXPECT_LE(done, total);
      progress = done;
    });
    ASSERT_EQ(reports.size(), static_cast<size_t>(ranks));
    EXPECT_GT(progress, 0);
    uint64_t cache = 0;
    for (const RankReport& report : reports) {
      EXPECT_EQ(report.host, reports.front().host);
      EXPECT_GT(report.available_bytes, 0u);
      cache += report.cache_token_bytes;
    }
    EXPECT_EQ(cache % model->kv_layout().bytes_per_token(), 0u);
    const auto ranked = create_rank_runner(threads.link(),
                                           {.vocab_size = model->config().vocab_size,
                                            .hidden_size = model->config().hidden,
                                            .guesses = model->guesses()},
                                           limits());
    EXPECT_EQ(ask(*ranked), ask(*alone));
  }
}

TEST(RankedServing, ARankThatCannotLoadIsSaidAsItIs) {
  const auto message_of = [](const std::filesystem::path& model, int ranks, const std::string& isa) {
    RankThreads threads(model, ranks, isa);
    try {
      await_ranks(threads.link(), {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message_of(goldens / "none.gguf", 2, "").find("rank 0: "), std::string::npos);
  EXPECT_NE(message_of(goldens / "llama-f32.gguf", 3, "").find("up to 2 ranks can"),
            std::string::npos);
  EXPECT_NE(message_of(goldens / "llama-f32.gguf", 2, "none-such").find("none-such"),
            std::string::npos);
}

TEST(RankedServing, InputsSurviveTheirPacking) {
  kvcache::BlockPool pool(8);
  kvcache::BlockTable table(pool, 16);
  ASSERT_TRUE(table.reserve(20));
  StepInputs inputs(4), unpacked(4);
  const int32_t tokens[] = {3, 1, 4, 1, 5};
  inputs.add(tokens, 2, table, /*logits=*/2);
  inputs.add(std::span(tokens).first(1), 9, table, /*logits=*/0);
  unpack(pack(inputs), unpacked);
  EXPECT_EQ(unpacked.token_ids, inputs.token_ids);
  EXPECT_EQ(unpacked.positions, inputs.positions);
  EXPECT_EQ(unpacked.slots, inputs.slots);
  EXPECT_EQ(unpacked.query_starts, inputs.query_starts);
  EXPECT_EQ(unpacked.context_lengths, inputs.context_lengths);
  EXPECT_EQ(unpacked.block_tables, inputs.block_tables);
  EXPECT_EQ(unpacked.output_rows, inputs.output_rows);
  EXPECT_EQ(unpacked.adapter_of_row, inputs.adapter_of_row);
}

}  // namespace

}  // namespace ridge::engine::ranked_serving_test
