#include "server/measured_speed.h"

#include <nlohmann/json.hpp>
#include <numeric>

namespace ridge::server {
namespace {

// Between two steps that gave an answer tokens.
constexpr uint64_t least_intervals = 16;

uint64_t count(const engine::LatencyHistogram& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), uint64_t{0});
}

}  // namespace

api::Json measured_tokens_per_second(const api::ServedModel& model) {
  if (model.is_adapter()) return nullptr;
  const engine::EngineStats stats = model.engine->stats();
  // The first token of each request came before its first interval.
  const uint64_t first_tokens = count(stats.first_token);
  const bool is_known = count(stats.inter_token) >= least_intervals && stats.inter_token.sum > 0 &&
                        stats.generated_tokens_total > first_tokens;
  if (!is_known) return nullptr;
  return static_cast<double>(stats.generated_tokens_total - first_tokens) / stats.inter_token.sum;
}

}  // namespace ridge::server
