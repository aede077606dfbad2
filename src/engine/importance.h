#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "engine/loaded_model.h"
#include "format/importance_matrix.h"

namespace ridge::engine {

struct ImportanceOptions {
  int chunk_tokens = 512;  // of one sequence; 1 up to the model's context
  std::optional<DType> kv_dtype;  // as LoadedModel::kv_dtype
  // Called after each chunk; false stops the work.
  std::function<bool(int64_t done_tokens, int64_t total_tokens)> progress;
};

// Runs `tokens` through the model, in chunks that begin anew, and sums the squares of what each
// column of the layers' matrices meets: all that stands between the embedding and the output head.
// Where the vocabulary asks for BOS, it takes the place of each chunk's first token, as in
// llama.cpp. The last chunk may be short. `datasets` of the result are left to the caller.
// Throws invalid_argument without tokens or for a chunk beyond the context, invalid_file where an
// input is not finite, cancelled.
format::ImportanceMatrix gather_importance(const LoadedModel& loaded,
                                           std::span<const int32_t> tokens,
                                           const ImportanceOptions& options);

}  // namespace ridge::engine
