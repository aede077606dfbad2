#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "api/model_list.h"
#include "api/served_model.h"

namespace ridge::server {

using ModelList = std::vector<api::ServedModel>;

// The models that a server serves, which come and go while it runs. Called from any thread.
class ServedModels {
 public:
  explicit ServedModels(ModelList models)
      : list_(std::make_shared<const ModelList>(std::move(models))) {}

  // As of now; what is in it stays for as long as it is held.
  std::shared_ptr<const ModelList> list() const {
    std::lock_guard lock(mutex_);
    return list_;
  }

  // Those whose names are not served yet.
  void add(ModelList models) {
    std::lock_guard lock(mutex_);
    ModelList changed = *list_;
    for (api::ServedModel& model : models) {
      if (!api::serves(changed, model.name)) changed.push_back(std::move(model));
    }
    list_ = std::make_shared<const ModelList>(std::move(changed));
  }

  // Requests that hold a list from before go on with it.
  void remove(std::string_view name) {
    std::lock_guard lock(mutex_);
    ModelList changed = *list_;
    std::erase_if(removed_, [](const auto& engine) { return engine.expired(); });
    for (const api::ServedModel& model : changed) {
      if (model.name == name) removed_.push_back(model.engine);
    }
    std::erase_if(changed, [&](const api::ServedModel& model) { return model.name == name; });
    list_ = std::make_shared<const ModelList>(std::move(changed));
  }

  // Engines that may be answering, each once: those of the list, and of models that were removed
  // while somebody held the list.
  std::vector<std::shared_ptr<engine::Engine>> engines() const {
    std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<engine::Engine>> all;
    const auto add = [&](const std::shared_ptr<engine::Engine>& engine) {
      const bool is_new = engine && std::ranges::find(all, engine) == all.end();
      if (is_new) all.push_back(engine);
    };
    for (const api::ServedModel& model : *list_) add(model.engine);
    for (const auto& removed : removed_) add(removed.lock());
    return all;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const ModelList> list_;
  std::vector<std::weak_ptr<engine::Engine>> removed_;
};

}  // namespace ridge::server
