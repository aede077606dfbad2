#pragma once

#include <filesystem>
#include <string>

#include "backend/communicator.h"
#include "engine/loaded_model.h"
#include "engine/rank_link.h"

namespace ridge::engine {

// One rank's life: loads its part of the model, says how that went, and computes what the engine
// orders until it says that there is no more. `engine` is the link to it at rank 0, else nullptr.
// Returns likewise where a rank could not load. Throws what the device or the link throws once steps
// run; the caller then ends the process, and with it the group.
//   options: as for LoadedModel::load, without adapters; the rank and the communicator are set here
void serve_rank(const std::filesystem::path& model, model::ModelOptions options,
                const std::string& device, const backend::DeviceOptions& device_options,
                backend::Communicator& group, RankLink* engine);

}  // namespace ridge::engine
