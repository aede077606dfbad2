#include "api/ollama_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "api/error_body.h"
#include "api/logprobs_json.h"
#include "api/model_list.h"
#include "api/parted_answer.h"
#include "base/error.h"
#include "base/utc_time.h"
#include "text/chat_template.h"

namespace ridge::api {
namespace {

int64_t nanoseconds(double ms) { return ms > 0 ? static_cast<int64_t>(ms * 1e6) : 0; }

int top_logprobs_of(const OllamaRequest& request) {
  return std::visit([](const auto& core) { return core.top_logprobs; }, request.core);
}

class OllamaAnswer final : public Answer {
 public:
  OllamaAnswer(const OllamaRequest& request, const AnswerHead& head)
      : is_chat_(request.kind == OllamaRequest::Kind::chat),
        streams_(request.generation().stream),
        with_logprobs_(top_logprobs_of(request) >= 0),
        opening_{{"model", head.model}, {"created_at", utc_time(head.created_s)}} {}

  bool streams() const override { return streams_; }
  std::string_view stream_type() const override { return "application/x-ndjson"; }
  // A line that is no JSON breaks Ollama's clients.
  std::string_view heartbeat() const override { return {}; }
  void begin(std::string&) override {}

  void add(int, const engine::Delta& delta, std::string& out) override {
    thinking_ += delta.reasoning;
    if (with_logprobs_ && !delta.tokens.empty()) {
      if (!logprobs_.empty()) logprobs_ += ',';
      append_chat_logprobs(logprobs_, delta.tokens);
    }
    Json whole_calls = Json::array();
    for (const text::AnswerPiece& next : delta.pieces) {
      if (const auto* content = std::get_if<std::string>(&next)) {
        // A line has its content in front of its calls.
        take_call(whole_calls);
        if (!whole_calls.empty()) give(std::exchange(whole_calls, Json::array()), out);
        content_ += *content;
        continue;
      }
      const auto& piece = std::get<text::ToolCallPiece>(next);
      if (piece.begins) {
        take_call(whole_calls);
        call_ = {{"name", piece.name}, {"arguments", ""}};
      }
      RIDGE_ASSERT(!call_.is_null());
      call_["arguments"].get_ref<std::string&>() += piece.arguments;
    }
    give(whole_calls, out);
  }

  void finish_choice(int, engine::FinishReason reason, std::string& out) override {
    reason_ = reason;
    Json whole_calls = Json::array();
    take_call(whole_calls);
    give(whole_calls, out);
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    Json body = body_with(streams_ ? Json::array() : calls_);
    body["done"] = true;
    body["done_reason"] = reason_ == engine::FinishReason::length ? "length" : "stop";
    body["total_duration"] = nanoseconds(usage.duration_ms);
    body["load_duration"] = nanoseconds(usage.queue_ms);  // a model that sleeps is loaded in it
    body["prompt_eval_count"] = usage.prompt_tokens;
    body["prompt_eval_duration"] = nanoseconds(usage.ttft_ms - usage.queue_ms);
    body["eval_count"] = usage.completion_tokens;
    body["eval_duration"] = nanoseconds(usage.duration_ms - usage.ttft_ms);
    out += to_text(body);
    if (streams_) out += '\n';
  }

  void fail(const Error& error, std::string_view request_id, std::string& out) override {
    out += error_body(error, request_id, ErrorStyle::ollama) + "\n";
  }

 private:
  // Calls are given out whole, since their arguments are objects here.
  void take_call(Json& calls) {
    if (call_.is_null()) return;
    call_["arguments"] = arguments_object(call_["arguments"].get<std::string>());
    calls.push_back({{"function", std::exchange(call_, Json())}});
  }

  Json body_with(const Json& calls) {
    Json body = opening_;
    if (is_chat_) {
      Json message = {{"role", "assistant"}, {"content", std::exchange(content_, {})}};
      if (!thinking_.empty()) message["thinking"] = std::exchange(thinking_, {});
      if (!calls.empty()) message["tool_calls"] = calls;
      body["message"] = std::move(message);
    } else {
      body["response"] = std::exchange(content_, {});
      if (!thinking_.empty()) body["thinking"] = std::exchange(thinking_, {});
    }
    if (!logprobs_.empty()) {
      body["logprobs"] = Json::parse("[" + std::exchange(logprobs_, {}) + "]");
    }
    return body;
  }

  void give(const Json& calls, std::string& out) {
    if (!streams_) {
      calls_.insert(calls_.end(), calls.begin(), calls.end());
      return;
    }
    if (content_.empty() && thinking_.empty() && calls.empty()) return;
    Json body = body_with(calls);
    body["done"] = false;
    out += to_text(body) + "\n";
  }

  const bool is_chat_;
  const bool streams_;
  const bool with_logprobs_;
  const Json opening_;
  std::string content_, thinking_;  // not yet sent
  std::string logprobs_;            // likewise: elements, separated by commas
  Json call_;                       // that is not whole yet, or null
  Json calls_ = Json::array();      // of a document
  engine::FinishReason reason_ = engine::FinishReason::stop;
};

std::string parameter_size(uint64_t parameters) {
  const double count = static_cast<double>(parameters);
  return count >= 1e9 ? fmt::format("{:.1f}B", count / 1e9) : fmt::format("{:.2f}M", count / 1e6);
}

Json details_of(const ServedModel& model) {
  const engine::ModelInfo& info = model.engine->model_info();
  return {{"parent_model", model.parent},
          {"format", "gguf"},
          {"family", info.architecture},
          {"families", {info.architecture}},
          {"parameter_size", parameter_size(info.parameters)},
          {"quantization_level", info.quantization}};
}

// Of an answer that says nothing.
Json idle_body(OllamaRequest::Kind kind, const AnswerHead& head, std::string_view reason) {
  Json body = {{"model", head.model}, {"created_at", utc_time(head.created_s)}};
  if (kind == OllamaRequest::Kind::chat) {
    body["message"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    body["response"] = "";
  }
  body["done"] = true;
  body["done_reason"] = reason;
  return body;
}

// The answer to a request that asks nothing: once the model has read one token, it is loaded.
class OllamaLoaded final : public Answer {
 public:
  OllamaLoaded(const OllamaRequest& request, const AnswerHead& head)
      : kind_(request.kind), head_(head) {}

  bool streams() const override { return false; }
  void begin(std::string&) override {}
  void add(int, const engine::Delta&, std::string&) override {}
  void finish_choice(int, engine::FinishReason, std::string&) override {}
  void finish(const engine::Usage& usage, std::string& out) override {
    Json body = idle_body(kind_, head_, "load");
    body["total_duration"] = nanoseconds(usage.duration_ms);
    body["load_duration"] = nanoseconds(usage.queue_ms);
    out += to_text(body);
  }

 private:
  const OllamaRequest::Kind kind_;
  const AnswerHead head_;
};

}  // namespace

std::unique_ptr<Answer> make_answer(const OllamaRequest& request, AnswerHead head) {
  if (request.is_empty) return std::make_unique<OllamaLoaded>(request, head);
  return std::make_unique<OllamaAnswer>(request, head);
}

std::string ollama_unloaded_body(const OllamaRequest& request, const AnswerHead& head) {
  return to_text(idle_body(request.kind, head, "unload"));
}

const ServedModel& find_ollama_model(std::span<const ServedModel> models, const std::string& name) {
  constexpr std::string_view latest = ":latest";
  const bool is_served = std::any_of(models.begin(), models.end(),
                                     [&](const ServedModel& model) { return model.name == name; });
  if (is_served || !name.ends_with(latest)) return find_model(models, name);
  return find_model(models, name.substr(0, name.size() - latest.size()));
}

std::string ollama_tags_body(std::span<const ServedModel> models) {
  Json list = Json::array();
  for (const ServedModel& model : models) {
    const engine::ModelInfo& info = model.engine->model_info();
    list.push_back({{"name", model.name},
                    {"model", model.name},
                    {"modified_at", utc_time(model.created_s)},
                    {"size", info.file_bytes},
                    {"digest", model.digest},
                    {"details", details_of(model)}});
  }
  return to_text({{"models", std::move(list)}});
}

std::string ollama_no_vectors_body(const OllamaEmbedding& request, const ServedModel& model) {
  if (request.embedding.form == EmbeddingRequest::Form::ollama_single) {
    return to_text({{"embedding", Json::array()}});
  }
  return to_text({{"model", model.name}, {"embeddings", Json::array()}});
}

std::string ollama_ps_body(std::span<const ServedModel> models) {
  Json list = Json::array();
  for (const ServedModel& model : models) {
    if (model.is_adapter() || model.is_endpoint() || !model.engine->stats().is_loaded) continue;
    const engine::ModelInfo& info = model.engine->model_info();
    list.push_back({{"name", model.name},
                    {"model", model.name},
                    {"size", info.file_bytes},
                    {"digest", model.digest},
                    {"details", details_of(model)},
                    {"expires_at", "2318-01-01T00:00:00Z"},  // Ollama's clients say "Forever"
                    {"size_vram", 0},
                    {"context_length", info.context_tokens}});
  }
  return to_text({{"models", std::move(list)}});
}

std::string ollama_show_body(const ServedModel& model) {
  const engine::ModelInfo& info = model.engine->model_info();
  const text::ChatTemplate& chat_template = model.engine->chat_template();
  return to_text({{"modified_at", utc_time(model.created_s)},
                  {"template", chat_template.source()},
                  {"parameters", fmt::format("temperature {}\ntop_p {}", model.sampling.temperature,
                                             model.sampling.top_p)},
                  {"details", details_of(model)},
                  {"model_info",
                   {{"general.architecture", info.architecture},
                    {"general.name", info.name},
                    {"general.parameter_count", info.parameters},
                    {info.architecture + ".context_length", info.trained_context_tokens}}},
                  {"capabilities", capabilities_of(model)}});
}

std::string ollama_version_body() { return "{\"version\":\"" RIDGE_VERSION "\"}"; }

}  // namespace ridge::api
