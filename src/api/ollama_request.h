#pragma once

#include <optional>
#include <string>
#include <variant>

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/embedding_request.h"

namespace ridge::api {

// POST /api/chat and POST /api/generate of Ollama, checked
// (https://github.com/ollama/ollama/blob/main/docs/api.md).
struct OllamaRequest {
  enum class Kind { chat, generate };
  Kind kind = Kind::chat;
  // A conversation; or, of a raw prompt, a completion.
  std::variant<ChatRequest, CompletionRequest> core;
  // How long the model is to stay in memory from the end of this request on, as
  // engine::Engine::keep_loaded has it.
  std::optional<Clock::Duration> keep_alive;
  // Nothing is asked: such a request loads the model, or unloads it where keep_alive is 0.
  bool is_empty = false;

  bool unloads() const { return is_empty && keep_alive == Clock::Duration::zero(); }

  const GenerationFields& generation() const {
    return std::visit(
        [](const auto& request) -> const GenerationFields& { return request.generation; }, core);
  }
};

// Throw Error(invalid_argument) naming the field, Error(unsupported) for what cannot be honoured.
// Options that say how a model is loaded (num_ctx, num_gpu, …) are ignored: `ridge serve` decides.
// min_tokens, logit_bias, repetition_penalty and ignore_eos may stand in `options`, timeout_ms
// beside it.
OllamaRequest parse_ollama_chat(const Json& body);
OllamaRequest parse_ollama_generate(const Json& body);

// POST /api/embed and POST /api/embeddings, checked. Without inputs, where a text is empty or there
// is none, nothing is computed.
struct OllamaEmbedding {
  EmbeddingRequest embedding;
  std::optional<Clock::Duration> keep_alive;  // as above
};

// input (a string or strings), truncate (true: what does not fit is cut), dimensions, pooling; the
// vectors have a length of 1.
OllamaEmbedding parse_ollama_embed(const Json& body);
// prompt, a string; the vector is as the model gives it.
OllamaEmbedding parse_ollama_embeddings(const Json& body);

// The model that POST /api/show names.
std::string parse_ollama_show(const Json& body);

}  // namespace ridge::api
