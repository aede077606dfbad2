#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "engine/loaded_model.h"

namespace ridge::cli {

inline constexpr const char* device_description =
    "Where the model runs: auto, cpu, reference, ascend[:NUMBER], or a model of Ascend's chips, slow: "
    "ascend-twin[:910B2]";

// On what a command runs its model.
struct DeviceChoice {
  std::string device = "auto";
  int threads = 0;  // 0: as many as this process may use
  std::string isa;  // "": the best that the machine has
  std::string precision = "auto";
  bool prepared_cache = false;
  int64_t expert_memory_mib = -1;  // as expert_bytes
  backend::Toggle pin_threads = backend::Toggle::automatic;
  backend::Toggle huge_pages = backend::Toggle::automatic;
};

// How activations are rounded: names for --precision, and what model::ModelOptions calls it.
inline const std::vector<std::string> precision_names = {"auto", "mixed", "full"};
inline constexpr const char* precision_description =
    "Rounding of activations: full (15 bits), mixed (8 bits where that costs little), or auto: "
    "full "
    "below a billion parameters";
std::optional<bool> mixed_precision(const std::string& name);

// Declares --expert-memory-mib, with RIDGE_EXPERT_MEMORY_MIB for the environment. `mib` must live as
// long as `command`.
void add_expert_memory_setting(CLI::App& command, int64_t& mib);
// What it says, for model::PagingOptions: -1 is nothing.
std::optional<uint64_t> expert_bytes(int64_t mib);

// Declares --device, -t/--threads, --cpu-isa, --precision, --prepared-cache,
// --expert-memory-mib, --pin-threads and --huge-pages. `choice` must live as long as `command`.
void add_device_options(CLI::App& command, DeviceChoice& choice);

// Declares --pin-threads and --huge-pages: auto, on or off, with RIDGE_PIN_THREADS and
// RIDGE_HUGE_PAGES for the environment. Both must live as long as `command`.
void add_placement_settings(CLI::App& command, backend::Toggle& pin_threads,
                            backend::Toggle& huge_pages);

// Declares --kv-dtype, with RIDGE_KV_DTYPE for the environment; without it `dtype` stays empty, for
// engine::LoadedModel::kv_dtype. It must live as long as `command`.
void add_kv_dtype_setting(CLI::App& command, std::optional<DType>& dtype);

backend::DeviceOptions to_device_options(const DeviceChoice& choice);

// The model that a person named, on the chosen device; a progress bar shows the loading. Throws as
// platform::resolve and engine::LoadedModel::load.
std::unique_ptr<engine::LoadedModel> load_model(
    Context& context, const std::string& name, const DeviceChoice& choice,
    const std::vector<engine::AdapterSource>& adapters = {});

// Declares --lora for a command of one answer; see parse_lora. `lora` must live as long as
// `command`.
void add_lora_option(CLI::App& command, std::string& lora);

}  // namespace ridge::cli
