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
};

// model, pooling ("mean" or "last") and timeout_ms.
VectorFields parse_vector_fields(const Fields& body);

// POST /v1/embeddings, checked.
struct EmbeddingRequest {
  VectorFields vectors;
  std::vector<PromptText> inputs;  // 1 to max_embedded_texts
  std::optional<int> dimensions;   // of each vector; the model has the last word
  bool normalize = true;           // to a length of 1
  bool base64 = false;             // little-endian float32 instead of numbers
};

// Throws Error(invalid_argument) naming the field. Of `dimensions` other than the model's own,
// `prepare` (prompt.h) throws Error(unsupported): to cut a vector short makes sense only where a
// model was trained for it.
EmbeddingRequest parse_embedding_request(const Json& body);

}  // namespace ridge::api
