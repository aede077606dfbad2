#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "api/generation_fields.h"
#include "engine/engine.h"
#include "text/grammar.h"
#include "text/tool_style.h"

namespace ridge::api {

// A loaded model, or an adapter of one, or an operator's endpoint, under the name by which clients
// ask for it.
struct ServedModel {
  std::string name;
  std::shared_ptr<engine::Engine> engine;
  int64_t created_s = 0;  // Unix time, as /v1/models states it
  SamplingDefaults sampling;
  int default_output_tokens = 0;  // where a request states none; 0: as its format has it
  std::string digest;             // SHA-256 of its file in hexadecimal; "" where it is not known
  std::string fingerprint;        // `system_fingerprint`: changes with what may change an answer
  text::ToolStyle tool_style = text::ToolStyle::hermes;  // how it writes calls
  std::shared_ptr<text::GrammarCompiler> grammars;       // for its vocabulary; never null
  int adapter = -1;       // the engine's, with which it runs; -1: the model as it is
  std::string parent;     // of an adapter: the name of the model that it changes
  bool is_added = false;  // while the server ran

  // Whether it answers in messages on channels (text/harmony.h), and so calls tools, whatever was
  // asked for.
  bool is_harmony() const { return tool_style == text::ToolStyle::harmony; }

  // Of an endpoint alone.
  std::string endpoint_model;    // the name of the model or adapter behind it
  int64_t endpoint_version = 0;  // from 1
  std::string system_prompt;     // stands before what the client says
  std::string moderation_url;    // who judges what is asked; "": nobody

  bool is_adapter() const { return adapter >= 0 && !is_endpoint(); }
  bool is_endpoint() const { return !endpoint_model.empty(); }
  // What runs, whatever it was asked by.
  const std::string& model_name() const { return is_endpoint() ? endpoint_model : name; }
};

// With the sampling that the model's maker advises (sampling_defaults.h) and a fingerprint of the
// model and of how the engine runs it. For `grammar_checker` see text::GrammarCompilerOptions.
ServedModel serve_model(std::string name, std::shared_ptr<engine::Engine> engine, int64_t created_s,
                        std::vector<std::string> grammar_checker = {});

// The model with its engine's `adapter`, under that one's name.
ServedModel serve_adapter(const ServedModel& base, int adapter, int64_t created_s);

// What an operator's endpoint makes of a model; what is not set is the model's own.
struct EndpointSettings {
  std::string name;
  int64_t version = 1;
  int64_t created_s = 0;
  std::string system_prompt;
  std::optional<float> temperature, top_p, min_p;
  std::optional<int> top_k;
  std::optional<int> output_tokens;  // where a request states none
  std::string moderation_url;
};

// The model or adapter under the endpoint's name. It tells nothing of what is behind it but what
// answers tell anyway.
ServedModel serve_endpoint(const ServedModel& base, const EndpointSettings& settings);

}  // namespace ridge::api
