#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/temporary_folder.h"
#include "scripted_engine.h"
#include "server/model_supply.h"

namespace ridge::server {

// A store and a catalog of one model, "tiny:1b", and a hub that does what a test says.
class Shelf {
 public:
  using Pull = platform::Downloads::Pull;

  // In place of the hub's own behaviour, which is to have every model.
  Pull pull;
  platform::MachineRoom room = {.memory_bytes = 1'000'000'000,
                                .memory_available_bytes = 500'000'000,
                                .disk_free_bytes = 1'000'000'000};
  bool waits = false;  // models that come answer once `engine` may go on
  std::shared_ptr<ScriptedEngine> engine;  // of the model that came last
  std::string cannot_serve;  // where not empty, why a model that was pulled is none

  platform::Store& store() { return store_; }

  // Puts a model into the store, as a finished download does.
  platform::Manifest put(const std::string& name) {
    const std::string bytes = "the weights of " + name;
    const auto digest = platform::Digest::of(bytes);
    folder_.write("store/partial/x", bytes);
    store_.adopt(store_.partial(), "x", digest);
    const auto status = store_.blob(digest);
    platform::Manifest manifest{.name = name, .title = "Tiny", .quantization = "Q8_0"};
    manifest.files.push_back(
        {"tiny.gguf", digest, status->size_bytes, status->mtime_ns, status->inode});
    store_.put(manifest);
    return manifest;
  }

  // Must outlive the server that it is given to.
  std::shared_ptr<const ModelSupply> supply() {
    const auto fetch = [this](const platform::ModelReference& reference,
                              const platform::DownloadOptions& options) {
      if (pull) return pull(reference, options);
      const auto choice = catalog_.find(reference.to_string());
      return platform::PullResult{put(choice ? choice->name() : reference.to_string()), false};
    };
    const auto declare = [this](const platform::Manifest& manifest) -> ModelList {
      if (!cannot_serve.empty()) throw Error(ErrorCode::unsupported, cannot_serve);
      engine = std::make_shared<ScriptedEngine>([waits = waits](ScriptedEngine::Part& part) {
        if (waits) {
          part.say("Wait. ");
          part.wait_for_go();
        }
        part.say("I am new");
      });
      return {api::serve_model(manifest.name, engine, 1)};
    };
    return std::make_shared<const ModelSupply>(
        ModelSupply{.catalog = catalog_,
                    .store = store_,
                    .room = [this] { return room; },
                    .pull = fetch,
                    .declare = declare});
  }

 private:
  TemporaryFolder folder_;
  platform::Store store_{folder_.path() / "store"};
  const platform::Catalog catalog_ = platform::Catalog::parse(R"(
[[family]]
name = "tiny"
default_tag = "1b"

[[model]]
name = "tiny:1b"
title = "Tiny"
license = "MIT"
base_model = "org/tiny"
parameters = 1_000
context_tokens = 2048
default_quantization = "Q8_0"
  [[model.quantization]]
  name = "Q8_0"
  size_bytes = 100_000_000
  [[model.quantization]]
  name = "F16"
  size_bytes = 2_000_000_000
  [[model.source]]
  kind = "hugging_face"
  repository = "org/tiny"
)",
                                                              "test");
};

}  // namespace ridge::server
