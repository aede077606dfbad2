#pragma once

#include <CLI/App.hpp>
#include <map>
#include <memory>
#include <string>

#include "cli/context.h"
#include "engine/loaded_model.h"

namespace ridge::cli {

// On what a command runs its model.
struct DeviceChoice {
  std::string device = "auto";
  int threads = 0;  // 0: as many as this process may use
  std::string isa;  // "": the best that the machine has
  bool mixed_precision = true;
};

// What a person writes for --precision, and whether it means mixed_precision.
const std::map<std::string, bool>& precision_names();
inline constexpr const char* precision_description =
    "Rounding of activations: mixed (8 bits where that costs little), full (15 bits throughout)";

// Declares --device, -t/--threads and --cpu-isa. `choice` must live as long as `command`.
void add_device_options(CLI::App& command, DeviceChoice& choice);

// The model that a person named, on the chosen device; a progress bar shows the loading. Throws as
// platform::resolve and engine::LoadedModel::load.
std::unique_ptr<engine::LoadedModel> load_model(Context& context, const std::string& name,
                                                const DeviceChoice& choice);

}  // namespace ridge::cli
