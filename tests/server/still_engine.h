#pragma once

#include <cstdlib>

#include "engine/engine.h"

namespace ridge::server {

// An engine whose figures a test sets.
class StillEngine final : public engine::Engine {
 public:
  const engine::ModelInfo& model_info() const override { return info; }
  const text::Tokenizer& tokenizer() const override { std::abort(); }
  const text::ChatTemplate& chat_template() const override { std::abort(); }
  engine::RequestId submit(engine::Request, engine::RequestListener) override { return {}; }
  void cancel(engine::RequestId) override {}
  void end_thinking(engine::RequestId) override {}
  engine::EngineStats stats() const override { return figures; }
  void drain(Clock::Duration) override {}

  engine::ModelInfo info;
  engine::EngineStats figures;
};

}  // namespace ridge::server
