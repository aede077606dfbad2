#include "engine/importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "backend/linear_inputs.h"
#include "base/error.h"
#include "kvcache/block_pool.h"
#include "model/decoder_tensors.h"

namespace ridge::engine {

namespace {

// Tokens of a step: what the inputs of all linears of a model of billions still fit in memory with.
constexpr int step_tokens = 128;

class ImportanceTap final : public InputTap {
 public:
  explicit ImportanceTap(const LoadedModel& loaded) : file_(loaded.file()) {
    const model::DecoderTensors tensors =
        model::find_tensors(file_, loaded.model().config(), /*guesses=*/false);
    names_ = model::names_of_parts(file_, tensors);
  }

  void see(const backend::LinearInput& input, const TappedRows& x,
           std::span<const int32_t> ids) override {
    if (input.weight == nullptr) {
      // In files of the older convention these rows meet one matrix for keys and values.
      const std::string both = fmt::format("blk.{}.attn_kv_b.weight", input.layer);
      if (file_.find(both) != nullptr) add_together(sums(both, 1, x.columns, 1), x);
      return;
    }
    const auto matrices = static_cast<int>(input.weight->experts());
    const auto columns = static_cast<int>(input.weight->columns());
    const auto found = names_.find(input.weight->name());
    RIDGE_ASSERT(found != names_.end());
    // All parts of a weight meet the same rows.
    for (const std::string& name : found->second) {
      if (!name.starts_with("blk.")) continue;
      if (ids.empty()) {
        add_together(sums(name, matrices, columns, 1), x);
      } else {
        add_by_expert(sums(name, matrices, columns, matrices), x, columns, ids);
      }
    }
  }

  format::ImportanceMatrix finish() const {
    format::ImportanceMatrix matrix;
    for (const auto& [name, sums] : sums_) {
      format::ImportanceEntry& entry = matrix.entries[name];
      entry.square_sums.assign(sums.squares.begin(), sums.squares.end());
      entry.counts.assign(sums.counts.begin(), sums.counts.end());
      const auto bad = std::ranges::find_if(entry.square_sums,
                                            [](float sum) { return !std::isfinite(sum); });
      if (bad == entry.square_sums.end()) continue;
      throw Error(ErrorCode::invalid_file,
                  fmt::format("the inputs of {} are not all finite; the model's weights are damaged",
                              name));
    }
    return matrix;
  }

 private:
  struct Sums {
    std::vector<double> squares;  // [matrices · columns]
    std::vector<int64_t> counts;  // [matrices], or one
  };

  Sums& sums(const std::string& name, int matrices, int columns, int counts) {
    Sums& sums = sums_[name];
    sums.squares.resize(static_cast<size_t>(matrices) * static_cast<size_t>(columns));
    sums.counts.resize(static_cast<size_t>(counts));
    return sums;
  }

  static void add_row(const float* row, std::span<double> squares) {
    for (size_t i = 0; i < squares.size(); ++i) {
      squares[i] += static_cast<double>(row[i]) * row[i];
    }
  }

  // Each row has the columns of all matrices.
  static void add_together(Sums& sums, const TappedRows& x) {
    RIDGE_ASSERT(static_cast<size_t>(x.columns) == sums.squares.size());
    for (int row = 0; row < x.rows; ++row) {
      add_row(x.first + static_cast<ptrdiff_t>(row) * x.stride, sums.squares);
    }
    sums.counts.front() += x.rows;
  }

  // ids: [rows, choices]; each choice has columns of its own, or all have the same.
  static void add_by_expert(Sums& sums, const TappedRows& x, int columns,
                            std::span<const int32_t> ids) {
    const auto choices = static_cast<int>(ids.size()) / x.rows;
    const bool is_shared = x.columns == columns;
    RIDGE_ASSERT(is_shared || x.columns == choices * columns);
    for (int row = 0; row < x.rows; ++row) {
      for (int choice = 0; choice < choices; ++choice) {
        const auto expert = static_cast<size_t>(ids[static_cast<size_t>(row * choices + choice)]);
        const float* from = x.first + static_cast<ptrdiff_t>(row) * x.stride +
                            (is_shared ? 0 : static_cast<ptrdiff_t>(choice) * columns);
        const auto width = static_cast<size_t>(columns);
        add_row(from, std::span(sums.squares).subspan(expert * width, width));
        ++sums.counts[expert];
      }
    }
  }

  const format::GgufFile& file_;
  std::map<std::string, std::vector<std::string>, std::less<>> names_;
  std::map<std::string, Sums> sums_;
};

}  // namespace

format::ImportanceMatrix gather_importance(const LoadedModel& loaded,
                                           std::span<const int32_t> tokens,
                                           const ImportanceOptions& options) {
  if (tokens.empty()) {
    throw Error(ErrorCode::invalid_argument, "the text has no tokens to run through the model");
  }
  const int chunk_tokens =
      loaded.context_tokens(std::min<int>(options.chunk_tokens, static_cast<int>(tokens.size())));
  RunnerLimits limits = {.tokens = std::min(chunk_tokens, step_tokens),
                         .sequences = 1,
                         .outputs = 1,
                         .context_tokens = chunk_tokens};
  limits.kv_dtype = loaded.kv_dtype(options.kv_dtype);
  limits.blocks = blocks_per_sequence(limits);
  ImportanceTap tap(loaded);
  const auto runner = create_step_runner(loaded.device(), loaded.model(), limits, {}, &tap);
  const text::Tokenizer& tokenizer = *loaded.tokenizer();
  kvcache::BlockPool pool(limits.blocks);
  kvcache::BlockTable table(pool, limits.block_tokens);
  RIDGE_ASSERT(table.reserve(chunk_tokens));
  StepInputs inputs(blocks_per_sequence(limits));
  uint32_t chunks = 0;
  for (size_t first = 0; first < tokens.size(); first += static_cast<size_t>(chunk_tokens)) {
    const size_t count = std::min(tokens.size() - first, static_cast<size_t>(chunk_tokens));
    std::vector<int32_t> chunk(tokens.begin() + static_cast<ptrdiff_t>(first),
                               tokens.begin() + static_cast<ptrdiff_t>(first + count));
    if (tokenizer.adds_bos() && tokenizer.bos()) chunk.front() = *tokenizer.bos();
    for (size_t at = 0; at < count; at += static_cast<size_t>(limits.tokens)) {
      const auto step =
          std::span(chunk).subspan(at, std::min(count - at, static_cast<size_t>(limits.tokens)));
      inputs.clear();
      // Of the last layer, too, all rows are wanted.
      inputs.add(step, static_cast<int>(at), table, /*logits=*/static_cast<int>(step.size()));
      runner->run_hidden(inputs);
    }
    ++chunks;
    if (options.progress && !options.progress(static_cast<int64_t>(first + count),
                                              static_cast<int64_t>(tokens.size()))) {
      throw Error(ErrorCode::cancelled, "stopped; no importance matrix was written");
    }
  }
  format::ImportanceMatrix matrix = tap.finish();
  matrix.chunks = chunks;
  matrix.chunk_tokens = static_cast<uint32_t>(chunk_tokens);
  return matrix;
}

}  // namespace ridge::engine
