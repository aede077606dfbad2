#pragma once

#include <string>
#include <variant>

#include "api/chat_request.h"
#include "api/completion_request.h"

namespace ridge::api {

// POST /api/chat and POST /api/generate of Ollama, checked
// (https://github.com/ollama/ollama/blob/main/docs/api.md).
struct OllamaRequest {
  enum class Kind { chat, generate };
  Kind kind = Kind::chat;
  // A conversation; or, of a raw prompt, a completion.
  std::variant<ChatRequest, CompletionRequest> core;
  // Nothing is asked: such a request loads the model, or unloads it where keep_alive is 0.
  bool is_empty = false;
  bool unloads = false;

  const GenerationFields& generation() const {
    return std::visit(
        [](const auto& request) -> const GenerationFields& { return request.generation; }, core);
  }
};

// Throw Error(invalid_argument) naming the field, Error(unsupported) for what cannot be honoured.
// Options that say how a model is loaded (num_ctx, num_gpu, …) are ignored: `ridge serve` decides.
OllamaRequest parse_ollama_chat(const Json& body);
OllamaRequest parse_ollama_generate(const Json& body);

// The model that POST /api/show names.
std::string parse_ollama_show(const Json& body);

}  // namespace ridge::api
