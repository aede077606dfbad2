#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/model_loading.h"
#include "cli/rank_processes.h"

namespace ridge::cli {

inline constexpr int most_ranks = 256;

// --ranks and --hosts.
struct RankChoice {
  int ranks = 0;  // 0: none
  std::vector<std::string> hosts;
};

// Starts the ranks that compute the one model to serve. Throws invalid_argument where there are
// several, or what goes with no ranks was chosen, or the model cannot be shared among so many; and
// what RankProcesses throws.
std::shared_ptr<RankProcesses> start_ranks(Context& context, const std::vector<Choice>& models,
                                           const ModelLoading& loading, const RankChoice& choice,
                                           const std::string& precision,
                                           const std::string& log_level);

}  // namespace ridge::cli
