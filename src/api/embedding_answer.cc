#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "api/answer.h"
#include "api/embedding_request.h"
#include "api/json_text.h"
#include "api/usage_json.h"
#include "api/vectors.h"

namespace ridge::api {
namespace {

// The shortest decimals that read back as the same float32.
void append_numbers(std::string& out, std::span<const float> values) {
  out += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i > 0 ? "," : "", values[i]);
  }
  out += ']';
}

// Gathers the vectors; how they are written is each form's own.
class Embeddings : public Answer {
 public:
  Embeddings(const EmbeddingRequest& request, AnswerHead head)
      : head_(std::move(head)), embeddings_(request.inputs.size()), normalize_(request.normalize) {}

  bool streams() const override { return false; }
  void begin(std::string&) override {}
  void add(int, const engine::Delta&, std::string&) override {}
  void finish_choice(int, engine::FinishReason, std::string&) override {}

  void add_embedding(int choice, std::vector<float>&& embedding) override {
    if (normalize_) normalize(embedding);
    embeddings_.at(static_cast<std::size_t>(choice)) = std::move(embedding);
  }

 protected:
  const AnswerHead head_;
  std::vector<std::vector<float>> embeddings_;  // [inputs][hidden]

 private:
  const bool normalize_;
};

// {"object":"list","data":[{"object":"embedding","index","embedding"}],"model","usage"}.
class EmbeddingDocument final : public Embeddings {
 public:
  EmbeddingDocument(const EmbeddingRequest& request, AnswerHead head)
      : Embeddings(request, std::move(head)), base64_(request.base64) {}

  void finish(const engine::Usage& usage, std::string& out) override {
    out += "{\"object\":\"list\",\"data\":[";
    for (std::size_t i = 0; i < embeddings_.size(); ++i) {
      fmt::format_to(std::back_inserter(out),
                     "{}{{\"object\":\"embedding\",\"index\":{},\"embedding\":", i > 0 ? "," : "",
                     i);
      append_values(out, embeddings_[i]);
      out += '}';
    }
    out += "],\"model\":";
    append_json_string(out, head_.model);
    out += ",\"usage\":";
    append_prompt_usage(out, usage);
    out += '}';
  }

 private:
  void append_values(std::string& out, std::span<const float> values) const {
    if (!base64_) return append_numbers(out, values);
    out += '"';
    append_base64(out, values);
    out += '"';
  }

  const bool base64_;
};

// {"model","embeddings":[[…]],…}, with times in nanoseconds; or {"embedding":[…]}.
class OllamaEmbeddingDocument final : public Embeddings {
 public:
  OllamaEmbeddingDocument(const EmbeddingRequest& request, AnswerHead head)
      : Embeddings(request, std::move(head)),
        is_single_(request.form == EmbeddingRequest::Form::ollama_single) {}

  void finish(const engine::Usage& usage, std::string& out) override {
    if (is_single_) {
      out += "{\"embedding\":";
      append_numbers(out, embeddings_.front());
      out += '}';
      return;
    }
    out += "{\"model\":";
    append_json_string(out, head_.model);
    out += ",\"embeddings\":[";
    for (std::size_t i = 0; i < embeddings_.size(); ++i) {
      if (i > 0) out += ',';
      append_numbers(out, embeddings_[i]);
    }
    fmt::format_to(
        std::back_inserter(out),
        "],\"total_duration\":{:.0f},\"load_duration\":{:.0f},\"prompt_eval_count\":{}}}",
        usage.duration_ms * 1e6, usage.queue_ms * 1e6, usage.prompt_tokens);
  }

 private:
  const bool is_single_;
};

}  // namespace

std::unique_ptr<Answer> make_answer(const EmbeddingRequest& request, AnswerHead head) {
  if (request.form != EmbeddingRequest::Form::openai) {
    return std::make_unique<OllamaEmbeddingDocument>(request, std::move(head));
  }
  return std::make_unique<EmbeddingDocument>(request, std::move(head));
}

}  // namespace ridge::api
