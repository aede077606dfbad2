#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "api/generation_fields.h"
#include "engine/engine.h"
#include "text/grammar.h"
#include "text/tool_style.h"

namespace ridge::api {

// A loaded model, or an adapter of one, under the name by which clients ask for it.
struct ServedModel {
  std::string name;
  std::shared_ptr<engine::Engine> engine;
  int64_t created_s = 0;  // Unix time, as /v1/models states it
  SamplingDefaults sampling;
  int default_output_tokens = 0;  // where a chat request states none; 0: the rest of the context
  std::string digest;             // SHA-256 of its file in hexadecimal; "" where it is not known
  std::string fingerprint;        // `system_fingerprint`: changes with what may change an answer
  text::ToolStyle tool_style = text::ToolStyle::hermes;  // how it writes calls
  std::shared_ptr<text::GrammarCompiler> grammars;       // for its vocabulary; never null
  int adapter = -1;    // the engine's, with which it runs; -1: the model as it is
  std::string parent;  // of an adapter: the name of the model that it changes
  bool is_added = false;  // while the server ran

  bool is_adapter() const { return adapter >= 0; }
};

// With the sampling that the model's maker advises (sampling_defaults.h) and a fingerprint of the
// model and of how the engine runs it.
ServedModel serve_model(std::string name, std::shared_ptr<engine::Engine> engine,
                        int64_t created_s);

// The model with its engine's `adapter`, under that one's name.
ServedModel serve_adapter(const ServedModel& base, int adapter, int64_t created_s);

}  // namespace ridge::api
