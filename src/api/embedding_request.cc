#include "api/embedding_request.h"

#include <nlohmann/json.hpp>

#include "api/generation_fields.h"

namespace ridge::api {
namespace {

constexpr std::size_t max_word_bytes = 64;

}  // namespace

VectorFields parse_vector_fields(const Fields& body) {
  VectorFields vectors;
  vectors.model = parse_model_name(body);
  const std::string pooling = body.string("pooling", max_word_bytes).value_or("mean");
  if (pooling != "mean" && pooling != "last") {
    refuse_field("pooling", *body.find("pooling"), "\"mean\" or \"last\"");
  }
  vectors.pooling = pooling == "last" ? engine::Pooling::last : engine::Pooling::mean;
  vectors.timeout = parse_timeout(body);
  vectors.priority = parse_priority(body);
  return vectors;
}

EmbeddingRequest parse_embedding_request(const Json& body) {
  const Fields fields(body, "");
  EmbeddingRequest request;
  request.vectors = parse_vector_fields(fields);
  if (const auto dimensions = fields.integer("dimensions", 1, INT32_MAX)) {
    request.dimensions = static_cast<int>(*dimensions);
  }
  const std::string encoding = fields.string("encoding_format", max_word_bytes).value_or("float");
  if (encoding != "float" && encoding != "base64") {
    refuse_field("encoding_format", *fields.find("encoding_format"), "\"float\" or \"base64\"");
  }
  request.base64 = encoding == "base64";
  request.normalize = fields.boolean("normalize").value_or(true);
  request.inputs = parse_prompts(fields, "input", max_embedded_texts);
  return request;
}

}  // namespace ridge::api
