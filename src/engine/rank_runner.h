#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/rank_link.h"
#include "engine/rank_messages.h"
#include "engine/step_runner.h"

namespace ridge::engine {

// Waits until all ranks have loaded their parts. Throws what the first of them that could not says,
// naming it, having closed the link; and what the link throws.
std::vector<RankReport> await_ranks(
    RankLink& link, const std::function<void(int64_t done_bytes, int64_t total_bytes)>& progress);

// What a model is to those who only ask for steps of it.
struct RankedModel {
  int vocab_size = 0;
  int hidden_size = 0;
  bool guesses = false;
};

// A StepRunner whose steps are computed by ranks, which have loaded (await_ranks). It closes the link,
// which must outlive it. Throws what the link throws.
std::unique_ptr<StepRunner> create_rank_runner(RankLink& link, const RankedModel& model,
                                               const RunnerLimits& limits);

}  // namespace ridge::engine
