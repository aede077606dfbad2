#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/embedding_request.h"

namespace ridge::api {

// POST /v1/rerank, in the form of Jina's and Cohere's services, or POST /v1/score, in that of
// vLLM's, checked. Either is the cosine of two embeddings: no model here was trained to judge
// pairs.
struct RankingRequest {
  enum class Kind { rerank, score };

  Kind kind = Kind::rerank;
  VectorFields vectors;
  std::vector<std::string> queries;    // one for all documents, or one for each
  std::vector<std::string> documents;  // with the queries at most max_embedded_texts
  std::optional<int> top_n;            // the best ones that are returned; absent: all
  bool return_documents = true;
};

// query, documents (strings or {"text"}), top_n and return_documents.
// Throws Error(invalid_argument) naming the field.
RankingRequest parse_rerank_request(const Json& body);
// text_1 (a string, or as many as there are in text_2) and text_2 (a string or an array).
RankingRequest parse_score_request(const Json& body);

}  // namespace ridge::api
