#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "api/answer.h"
#include "api/json_text.h"
#include "api/ranking_request.h"
#include "api/usage_json.h"
#include "api/vectors.h"

namespace ridge::api {
namespace {

class RankingDocument final : public Answer {
 public:
  RankingDocument(RankingRequest request, AnswerHead head)
      : request_(std::move(request)),
        head_(std::move(head)),
        embeddings_(request_.queries.size() + request_.documents.size()) {}

  bool streams() const override { return false; }
  void begin(std::string&) override {}
  void add(int, const engine::Delta&, std::string&) override {}
  void finish_choice(int, engine::FinishReason, std::string&) override {}

  void add_embedding(int choice, std::vector<float>&& embedding) override {
    embeddings_.at(static_cast<std::size_t>(choice)) = std::move(embedding);
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    out += "{\"id\":";
    append_json_string(out, head_.id);
    out += ",\"object\":\"list\",\"model\":";
    append_json_string(out, head_.model);
    if (request_.kind == RankingRequest::Kind::rerank) {
      append_results(out);
    } else {
      append_scores(out);
    }
    out += ",\"usage\":";
    append_prompt_usage(out, usage);
    out += '}';
  }

 private:
  double score_of(std::size_t document) const {
    const std::size_t query = request_.queries.size() == 1 ? 0 : document;
    return cosine(embeddings_[query], embeddings_[request_.queries.size() + document]);
  }

  // The best first; equal ones in their own order.
  void append_results(std::string& out) const {
    struct Result {
      std::size_t index;
      double score;
    };
    std::vector<Result> results;
    for (std::size_t i = 0; i < request_.documents.size(); ++i) results.push_back({i, score_of(i)});
    std::ranges::stable_sort(results, std::ranges::greater(), &Result::score);
    if (request_.top_n && static_cast<std::size_t>(*request_.top_n) < results.size()) {
      results.resize(static_cast<std::size_t>(*request_.top_n));
    }
    out += ",\"results\":[";
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto& [index, score] = results[i];
      fmt::format_to(std::back_inserter(out),
                     "{}{{\"index\":{},\"relevance_score\":", i > 0 ? "," : "", index);
      append_json_number(out, score);
      if (request_.return_documents) {
        out += ",\"document\":{\"text\":";
        append_json_string(out, request_.documents[index]);
        out += '}';
      }
      out += '}';
    }
    out += ']';
  }

  void append_scores(std::string& out) const {
    fmt::format_to(std::back_inserter(out), ",\"created\":{},\"data\":[", head_.created_s);
    for (std::size_t i = 0; i < request_.documents.size(); ++i) {
      fmt::format_to(std::back_inserter(out),
                     "{}{{\"index\":{},\"object\":\"score\",\"score\":", i > 0 ? "," : "", i);
      append_json_number(out, score_of(i));
      out += '}';
    }
    out += ']';
  }

  const RankingRequest request_;
  const AnswerHead head_;
  std::vector<std::vector<float>> embeddings_;  // [queries, then documents][hidden]
};

}  // namespace

std::unique_ptr<Answer> make_answer(const RankingRequest& request, AnswerHead head) {
  return std::make_unique<RankingDocument>(request, std::move(head));
}

}  // namespace ridge::api
