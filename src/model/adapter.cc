#include "model/adapter.h"

#include <fmt/format.h>

#include <algorithm>

namespace ridge::model {

std::unique_ptr<Adapter> Adapter::load(AdapterFile file, float scale, backend::Device& device) {
  std::unique_ptr<Adapter> adapter(new Adapter(std::move(file)));
  const auto prepare = [&](const AdapterPair& pair, const char* half, const TensorView& view) {
    auto weight =
        device.prepare_weight({.name = fmt::format("{}.{}", pair.name, half), .segments = {view}});
    adapter->size_bytes_ += weight->size_bytes();
    return weight;
  };
  for (const AdapterPair& pair : adapter->file_.pairs) {
    const auto layers = static_cast<size_t>(pair.layer) + 1;
    if (adapter->layers_.size() < layers) adapter->layers_.resize(layers);
    Pair& place = adapter->layers_.back()[static_cast<size_t>(pair.linear)];
    place.down = prepare(pair, "lora_a", pair.down);
    place.up = prepare(pair, "lora_b", pair.up);
    place.scale = scale * pair.scale;
  }
  return adapter;
}

backend::Adapter Adapter::at(int layer, AdaptedLinear linear) const {
  if (layer >= static_cast<int>(layers_.size())) return {};
  const Pair& pair = layers_[static_cast<size_t>(layer)][static_cast<size_t>(linear)];
  return {.down = pair.down.get(), .up = pair.up.get(), .scale = pair.scale};
}

std::vector<backend::Adapter> adapters_at(Adapters adapters, int layer, AdaptedLinear linear) {
  std::vector<backend::Adapter> all;
  for (const auto& adapter : adapters) all.push_back(adapter->at(layer, linear));
  const bool is_changed = std::ranges::any_of(
      all, [](const backend::Adapter& adapter) { return adapter.down != nullptr; });
  return is_changed ? all : std::vector<backend::Adapter>{};
}

}  // namespace ridge::model
