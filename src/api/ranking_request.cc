#include "api/ranking_request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::api {
namespace {

constexpr std::size_t max_documents = max_embedded_texts / 2;

std::string text_of(const Json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  const Json* text = value.is_object() ? Fields(value, path).find("text") : nullptr;
  if (text == nullptr || !text->is_string()) {
    refuse_field(path, value, "a string, or an object with a string in 'text'");
  }
  return text->get<std::string>();
}

[[noreturn]] void refuse_absent(const std::string& name, std::string_view wanted) {
  refuse(name, fmt::format("'{}' is missing; it must be {}", name, wanted));
}

std::vector<std::string> parse_texts(const Fields& body, const std::string& name, bool may_be_one) {
  const Json* value = body.find(name);
  const std::string wanted =
      fmt::format("{}an array of 1 to {} texts", may_be_one ? "a string or " : "", max_documents);
  if (value == nullptr) refuse_absent(name, wanted);
  if (may_be_one && !value->is_array()) return {text_of(*value, name)};
  if (!value->is_array() || value->empty() || value->size() > max_documents) {
    refuse_field(name, *value, wanted);
  }
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < value->size(); ++i) {
    texts.push_back(text_of((*value)[i], fmt::format("{}[{}]", name, i)));
  }
  return texts;
}

}  // namespace

RankingRequest parse_rerank_request(const Json& body) {
  const Fields fields(body, "");
  RankingRequest request;
  request.kind = RankingRequest::Kind::rerank;
  request.vectors = parse_vector_fields(fields);
  const Json* query = fields.find("query");
  if (query == nullptr) refuse_absent("query", "a string");
  request.queries = {text_of(*query, "query")};
  request.documents = parse_texts(fields, "documents", /*may_be_one=*/false);
  if (const auto top_n = fields.integer("top_n", 1, INT32_MAX)) {
    request.top_n = static_cast<int>(*top_n);
  }
  request.return_documents = fields.boolean("return_documents").value_or(true);
  return request;
}

RankingRequest parse_score_request(const Json& body) {
  const Fields fields(body, "");
  RankingRequest request;
  request.kind = RankingRequest::Kind::score;
  request.vectors = parse_vector_fields(fields);
  request.queries = parse_texts(fields, "text_1", /*may_be_one=*/true);
  request.documents = parse_texts(fields, "text_2", /*may_be_one=*/true);
  if (request.queries.size() != 1 && request.queries.size() != request.documents.size()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'text_1' has {} texts and 'text_2' has {}; 'text_1' must be one text, "
                            "or as many as 'text_2'",
                            request.queries.size(), request.documents.size()),
                "text_1");
  }
  return request;
}

}  // namespace ridge::api
