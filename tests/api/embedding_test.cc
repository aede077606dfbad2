#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numbers>

#include "api/answer.h"
#include "api/embedding_request.h"
#include "api/ranking_request.h"
#include "api/vectors.h"
#include "refusal.h"

namespace ridge::api::embedding_test {
namespace {

const AnswerHead head = {.id = "x-1", .created_s = 12, .model = "m", .fingerprint = "fp"};

EmbeddingRequest parse(const std::string& text) {
  return parse_embedding_request(parse_json(text));
}

std::string refusal(const std::string& text) {
  return refusal_of([&] { parse(text); });
}

std::string rerank_refusal(const std::string& text) {
  return refusal_of([&] { parse_rerank_request(parse_json(text)); });
}

std::string score_refusal(const std::string& text) {
  return refusal_of([&] { parse_score_request(parse_json(text)); });
}

Json document_of(Answer& answer, const std::vector<std::vector<float>>& embeddings) {
  std::string out;
  answer.begin(out);
  for (std::size_t i = 0; i < embeddings.size(); ++i) {
    answer.add_embedding(static_cast<int>(i), std::vector<float>(embeddings[i]));
  }
  answer.finish({.prompt_tokens = 7}, out);
  return Json::parse(out);
}

TEST(EmbeddingRequest, ReadsItsFields) {
  const EmbeddingRequest plain = parse(R"({"input":"a"})");
  EXPECT_EQ(plain.inputs, (std::vector<PromptText>{"a"}));
  EXPECT_TRUE(plain.normalize);
  EXPECT_FALSE(plain.base64);
  EXPECT_EQ(plain.vectors.pooling, engine::Pooling::mean);
  EXPECT_FALSE(plain.vectors.timeout);
  const EmbeddingRequest full = parse(
      R"({"input":[[1,2],"b"],"pooling":"last","normalize":false,"encoding_format":"base64",
          "timeout_ms":1.5})");
  EXPECT_EQ(full.inputs, (std::vector<PromptText>{std::vector<int32_t>{1, 2}, "b"}));
  EXPECT_FALSE(full.normalize);
  EXPECT_TRUE(full.base64);
  EXPECT_EQ(full.vectors.pooling, engine::Pooling::last);
  EXPECT_EQ(full.vectors.timeout, std::chrono::microseconds(1500));
}

TEST(EmbeddingRequest, RefusesWhatIsWrong) {
  EXPECT_EQ(refusal("{}"), "invalid_argument input");
  EXPECT_EQ(refusal(R"({"input":[]})"), "invalid_argument input");
  EXPECT_EQ(refusal(R"({"input":"a","pooling":"max"})"), "invalid_argument pooling");
  EXPECT_EQ(refusal(R"({"input":"a","encoding_format":"int8"})"),
            "invalid_argument encoding_format");
  EXPECT_EQ(refusal(R"({"input":"a","dimensions":0})"), "invalid_argument dimensions");
  EXPECT_EQ(refusal(R"({"input":"a","timeout_ms":0})"), "invalid_argument timeout_ms");
}

TEST(EmbeddingRequest, BoundsTheInputs) {
  std::string inputs = "\"a\"";
  for (std::size_t i = 1; i < max_embedded_texts; ++i) inputs += ",\"a\"";
  EXPECT_EQ(refusal("{\"input\":[" + inputs + "]}"), "");
  EXPECT_EQ(refusal("{\"input\":[" + inputs + ",\"a\"]}"), "invalid_argument input");
}

TEST(EmbeddingAnswer, NormalisesUnlessAskedNotTo) {
  const std::vector<std::vector<float>> embeddings = {{3, 4}, {0, 0}};
  const auto normal = make_answer(parse(R"({"input":["a","b"]})"), head);
  const Json document = document_of(*normal, embeddings);
  EXPECT_EQ(document["object"], "list");
  EXPECT_EQ(document["model"], "m");
  EXPECT_EQ(document["usage"], Json::parse(R"({"prompt_tokens":7,"total_tokens":7})"));
  EXPECT_EQ(document["data"][0],
            Json::parse(R"({"object":"embedding","index":0,"embedding":[0.6,0.8]})"));
  EXPECT_EQ(document["data"][1]["embedding"], Json::parse("[0,0]"));
  const auto raw = make_answer(parse(R"({"input":["a","b"],"normalize":false})"), head);
  EXPECT_EQ(document_of(*raw, embeddings)["data"][0]["embedding"], Json::parse("[3,4]"));
}

TEST(EmbeddingAnswer, WritesBase64OfLittleEndianFloats) {
  const auto answer = make_answer(parse(R"({"input":"a","encoding_format":"base64"})"), head);
  // As Python's base64.b64encode(struct.pack("<2f", 1, 0)) has it.
  EXPECT_EQ(document_of(*answer, {{1, 0}})["data"][0]["embedding"], "AACAPwAAAAA=");
}

TEST(Vectors, PadBase64ByTheLength) {
  const auto base64 = [](std::vector<float> values) {
    std::string out;
    append_base64(out, values);
    return out;
  };
  EXPECT_EQ(base64({}), "");
  EXPECT_EQ(base64({-2.5f}), "AAAgwA==");
  EXPECT_EQ(base64({1, 2, 3}), "AACAPwAAAEAAAEBA");
}

TEST(Vectors, KnowTheAngleBetweenTwo) {
  const auto cosine_of = [](std::vector<float> a, std::vector<float> b) { return cosine(a, b); };
  EXPECT_DOUBLE_EQ(cosine_of({2, 0}, {5, 0}), 1);
  EXPECT_DOUBLE_EQ(cosine_of({2, 0}, {0, 5}), 0);
  EXPECT_NEAR(cosine_of({1, 1}, {-3, 0}), -1 / std::numbers::sqrt2, 1e-12);
  EXPECT_EQ(cosine_of({0, 0}, {1, 0}), 0);
}

TEST(RankingRequest, ReadsBothFormsOfDocuments) {
  const RankingRequest request = parse_rerank_request(parse_json(
      R"({"query":"q","documents":["a",{"text":"b"}],"top_n":1,"return_documents":false})"));
  EXPECT_EQ(request.queries, (std::vector<std::string>{"q"}));
  EXPECT_EQ(request.documents, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.top_n, 1);
  EXPECT_FALSE(request.return_documents);
}

TEST(RankingRequest, RefusesWhatIsWrong) {
  EXPECT_EQ(rerank_refusal(R"({"documents":["a"]})"), "invalid_argument query");
  EXPECT_EQ(rerank_refusal(R"({"query":"q"})"), "invalid_argument documents");
  EXPECT_EQ(rerank_refusal(R"({"query":"q","documents":[]})"), "invalid_argument documents");
  EXPECT_EQ(rerank_refusal(R"({"query":"q","documents":"a"})"), "invalid_argument documents");
  EXPECT_EQ(rerank_refusal(R"({"query":"q","documents":["a",{"t":1}]})"),
            "invalid_argument documents[1]");
  EXPECT_EQ(rerank_refusal(R"({"query":"q","documents":["a"],"top_n":0})"),
            "invalid_argument top_n");
  EXPECT_EQ(score_refusal(R"({"text_1":"a"})"), "invalid_argument text_2");
  EXPECT_EQ(score_refusal(R"({"text_1":["a","b"],"text_2":["a","b","c"]})"),
            "invalid_argument text_1");
}

TEST(RankingAnswer, PutsTheNearestDocumentFirst) {
  RankingRequest request =
      parse_rerank_request(parse_json(R"({"query":"q","documents":["a","b","c"],"top_n":2})"));
  const std::vector<std::vector<float>> embeddings = {{1, 0}, {0, 1}, {2, 0}, {1, 1}};
  const Json document = document_of(*make_answer(request, head), embeddings);
  ASSERT_EQ(document["results"].size(), 2u);
  EXPECT_EQ(document["results"][0],
            Json::parse(R"({"index":1,"relevance_score":1.0,"document":{"text":"b"}})"));
  EXPECT_EQ(document["results"][1]["index"], 2);
  EXPECT_NEAR(document["results"][1]["relevance_score"].get<double>(), 1 / std::numbers::sqrt2,
              1e-7);
  EXPECT_EQ(document["usage"]["total_tokens"], 7);
}

TEST(RankingAnswer, ScoresPairsInTheirOrder) {
  const auto scores = [](const std::string& body,
                         const std::vector<std::vector<float>>& embeddings) {
    const RankingRequest request = parse_score_request(parse_json(body));
    std::vector<double> values;
    const Json document = document_of(*make_answer(request, head), embeddings);
    for (const Json& pair : document["data"]) values.push_back(pair["score"].get<double>());
    return values;
  };
  EXPECT_EQ(scores(R"({"text_1":"a","text_2":["b","c"]})", {{1, 0}, {0, 1}, {1, 0}}),
            (std::vector<double>{0, 1}));
  EXPECT_EQ(scores(R"({"text_1":["a","b"],"text_2":["c","d"]})", {{1, 0}, {0, 1}, {-1, 0}, {0, 2}}),
            (std::vector<double>{-1, 1}));
}

}  // namespace
}  // namespace ridge::api::embedding_test
