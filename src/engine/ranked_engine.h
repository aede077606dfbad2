#pragma once

#include <filesystem>
#include <memory>

#include "engine/engine.h"
#include "engine/rank_link.h"

namespace ridge::engine {

// As Engine::start, of a model that ranks compute (serve_rank), whose link is `ranks`: this process
// has its text side, and a draft model where there is one. Throws unsupported for adapters and
// prepared weights, and what the ranks say that could not load.
std::unique_ptr<Engine> start_over_ranks(const std::filesystem::path& model,
                                         const EngineOptions& options,
                                         std::shared_ptr<RankLink> ranks);

// Whether ranks load the model's layer for multi-token prediction, where it has one.
bool wants_guessing_layer(const EngineOptions& options);

}  // namespace ridge::engine
