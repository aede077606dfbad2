#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "api/generation_fields.h"
#include "api/served_model.h"
#include "engine/request.h"

namespace ridge::cli {

// What was said so far between a person and a model, and the next answer.
class Conversation {
 public:
  struct Answer {
    std::string content;
    std::string reasoning;
    engine::FinishReason reason = engine::FinishReason::stop;
    engine::Usage usage;
  };
  // Called as text comes; either may be empty.
  using Listener = std::function<void(std::string_view reasoning, std::string_view content)>;

  // `fields` says how to sample.
  Conversation(api::ServedModel model, api::GenerationFields fields, std::string system);

  // Asks, and waits for the end of the answer; a press of Ctrl-C (InterruptScope) ends it early,
  // with the reason cancelled. The question and what was answered become part of the conversation;
  // the reasoning does not. Where it throws (Engine's and the template's errors), nothing does.
  Answer ask(const std::string& question, const Listener& listener);

  void set_system(std::string system);
  const std::string& system() const { return system_; }
  // Forgets all but the system prompt.
  void clear() { turns_ = nlohmann::ordered_json::array(); }

 private:
  engine::Request prepare(const std::string& question) const;
  nlohmann::ordered_json messages_with(const std::string& question) const;

  const api::ServedModel model_;
  const api::GenerationFields fields_;
  std::string system_;
  nlohmann::ordered_json turns_ = nlohmann::ordered_json::array();
};

}  // namespace ridge::cli
