#pragma once

#include <functional>

#include "platform/catalog.h"
#include "platform/downloads.h"
#include "platform/model_fit.h"
#include "platform/store.h"
#include "server/served_models.h"

namespace ridge::server {

// Where models come from beside those that are served from the start. Called from several threads
// at once; what it refers to outlives the server.
struct ModelSupply {
  const platform::Catalog& catalog;
  platform::Store& store;
  std::function<platform::MachineRoom()> room;  // as of now
  platform::Downloads::Pull pull;
  // A model of the store, so that it can be served: its weights are loaded when a request comes.
  // Throws what engine::Engine::on_demand throws.
  std::function<ModelList(const platform::Manifest&)> declare;
};

}  // namespace ridge::server
