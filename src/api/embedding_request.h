#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/json_text.h"
#include "api/prompt_text.h"
#include "base/clock.h"
#include "engine/request.h"

namespace ridge::api {

inline constexpr std::size_t max_embedded_texts = 2048;  // of one request, as OpenAI's service

inline constexpr int64_t max_vector_values = 1 << 22;  // of one request: texts · hidden size

// How texts become vectors: what the endpoints have in common that ask for them.
struct VectorFields {
  std::string model;  // empty where the request names none
  engine::Pooling pooling = engine::Pooling::mean;
  std::optional<Clock::Duration> timeout;  // as engine::Request::deadline
  int priority = 0;                        // smaller first
  bool cuts = false;  // what does not fit the context, instead of refusing it
};

// model, pooling ("mean" or "last"), timeout_ms and priority.
VectorFields parse_vector_fields(const Fields& body);

// POST /v1/embeddings, checked.
struct EmbeddingRequest {
  // Of the answer: OpenAI's, that of Ollama's /api/embed, or of its older /api/embeddings.
  enum class Form { openai, ollama, ollama_single };

  VectorFields vectors;
  std::vector<PromptText> inputs;  // 1 to max_embedded_texts
  std::optional<int> dimensions;   // of each vector; the model has the last word
  bool normalize = true;           // to a length of 1
  bool base64 = false;             // little-endian float32 instead of numbers
  Form form = Form::openai;
};

// Throws Error(invalid_argument) naming the field. Of `dimensions` other than the model's own,
// `prepare` (prompt.h) throws Error(unsupported): to cut a vector short makes sense only where a
// model was trained for it.
EmbeddingRequest parse_embedding_request(const Json& body);

}  // namespace ridge::api
