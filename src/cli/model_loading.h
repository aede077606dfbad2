#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/served_model.h"
#include "cli/context.h"
#include "engine/engine.h"
#include "engine/rank_link.h"
#include "engine/residency.h"
#include "platform/resolve.h"
#include "server/model_supply.h"

namespace ridge::cli {

// How `ridge serve` loads models.
struct ModelLoading {
  engine::EngineOptions engine;
  bool prepared_cache = false;
  std::string tool_style = "auto";
  int64_t model_memory_mib = 0;     // of models that come and go; 0: any
  int sleep_after_s = 0;            // unused, before they go; 0: never
  std::vector<std::string> pinned;  // names of those that stay
  std::shared_ptr<engine::RankLink> ranks;  // that compute the one model that load_now loads; or null

  // Models are loaded when they are asked for, not at the start.
  bool is_on_demand() const { return model_memory_mib > 0 || sleep_after_s > 0; }
};

// A model to serve.
struct Choice {
  std::string name;  // by which clients ask for it
  platform::ResolvedModel model;
  std::vector<engine::AdapterOptions> adapters;
};

// Throws invalid_argument where none is named, or two would have one name; and what
// platform::resolve throws.
std::vector<Choice> find_models(Context& context, const std::vector<std::string>& texts);
// `texts` as --lora takes them. Throws invalid_argument.
void add_adapters(std::vector<Choice>& choices, const std::vector<std::string>& texts);

// All of them, loaded. Says how far it is.
std::vector<api::ServedModel> load_now(Context& context, const std::vector<Choice>& choices,
                                       const ModelLoading& options);
// All of them, to be loaded when they are asked for. Throws invalid_argument where a pinned one is
// none of them.
std::vector<api::ServedModel> load_on_demand(Context& context, const std::vector<Choice>& choices,
                                             const ModelLoading& options,
                                             engine::Residency& residency);

// Models that were pulled through a server of this store before, and are none of those that are
// served. One that cannot be served is left out with a warning.
std::vector<api::ServedModel> load_pulled(Context& context, const ModelLoading& options,
                                          const std::vector<api::ServedModel>& served,
                                          engine::Residency& residency);

// For models that come and go: what was set; or else most of what is free now, which models that
// are pulled while the server runs have to share.
uint64_t residency_bytes(const ModelLoading& options);

// Models of the catalog and the store, which are loaded on demand. All that it is given must
// outlive it.
std::shared_ptr<const server::ModelSupply> model_supply(Context& context,
                                                        const ModelLoading& options,
                                                        engine::Residency& residency);

}  // namespace ridge::cli
