#include "api/served_model.h"

#include <fmt/format.h>

#include "api/sampling_defaults.h"
#include "text/chat_template.h"
#include "text/harmony.h"

namespace ridge::api {
namespace {

// FNV-1a, 64 bits: tells apart, and need not resist anyone.
uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char letter : text) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  }
  return hash;
}

}  // namespace

ServedModel serve_model(std::string name, std::shared_ptr<engine::Engine> engine, int64_t created_s,
                        std::vector<std::string> grammar_checker) {
  ServedModel model;
  const engine::ModelInfo& info = engine->model_info();
  model.sampling = default_sampling(name, info);
  const std::string identity = fmt::format("{}|{}|{}|{}|{}", info.architecture, info.name,
                                           info.parameters, info.file_bytes, info.context_tokens);
  model.fingerprint = fmt::format("fp_{:010x}", hash_of(identity) >> 24);
  const text::ChatTemplate& chat_template = engine->chat_template();
  model.tool_style = text::speaks_harmony(chat_template.source(), engine->tokenizer())
                         ? text::ToolStyle::harmony
                         : text::detect_tool_style(chat_template);
  model.grammars = std::make_shared<text::GrammarCompiler>(
      engine->tokenizer(), text::GrammarCompilerOptions{.checker = std::move(grammar_checker)});
  model.name = std::move(name);
  model.engine = std::move(engine);
  model.created_s = created_s;
  return model;
}

ServedModel serve_adapter(const ServedModel& base, int adapter, int64_t created_s) {
  const engine::AdapterInfo& info =
      base.engine->model_info().adapters.at(static_cast<size_t>(adapter));
  ServedModel model = base;
  const std::string identity =
      fmt::format("{}|{}|{}|{}", base.fingerprint, info.name, info.bytes, info.scale);
  model.fingerprint = fmt::format("fp_{:010x}", hash_of(identity) >> 24);
  model.name = info.name;
  model.created_s = created_s;
  model.digest.clear();
  model.adapter = adapter;
  model.parent = base.name;
  return model;
}

ServedModel serve_endpoint(const ServedModel& base, const EndpointSettings& settings) {
  ServedModel model = base;
  const std::string identity =
      fmt::format("{}|{}|{}", base.fingerprint, settings.name, settings.version);
  model.fingerprint = fmt::format("fp_{:010x}", hash_of(identity) >> 24);
  model.name = settings.name;
  model.created_s = settings.created_s;
  model.digest.clear();
  model.parent.clear();
  model.endpoint_model = base.name;
  model.endpoint_version = settings.version;
  model.system_prompt = settings.system_prompt;
  model.moderation_url = settings.moderation_url;
  model.sampling.temperature = settings.temperature.value_or(model.sampling.temperature);
  model.sampling.top_p = settings.top_p.value_or(model.sampling.top_p);
  model.sampling.top_k = settings.top_k.value_or(model.sampling.top_k);
  model.sampling.min_p = settings.min_p.value_or(model.sampling.min_p);
  model.default_output_tokens = settings.output_tokens.value_or(model.default_output_tokens);
  return model;
}

}  // namespace ridge::api
