#include "api/client_texts.h"

#include <nlohmann/json.hpp>

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/embedding_request.h"
#include "api/ranking_request.h"
#include "text/tokenizer.h"

namespace ridge::api {
namespace {

class Texts {
 public:
  void add(std::string text) {
    if (!text.empty()) texts_.push_back(std::move(text));
  }
  void add(const OutputForm& form) {
    if (form.grammar) add(form.grammar->text);
  }
  // Ids that the model does not have are refused elsewhere.
  void add(const PromptText& prompt, const ServedModel& model) {
    if (const auto* text = std::get_if<std::string>(&prompt)) return add(*text);
    std::vector<int32_t> ids = std::get<std::vector<int32_t>>(prompt);
    const text::Tokenizer& tokenizer = model.engine->tokenizer();
    std::erase_if(ids, [&](int32_t id) { return id < 0 || id >= tokenizer.vocab_size(); });
    add(tokenizer.decode(ids, /*skip_special=*/false));
  }
  std::vector<std::string> take() { return std::move(texts_); }

 private:
  std::vector<std::string> texts_;
};

}  // namespace

std::vector<std::string> client_texts(const ChatRequest& request, const ServedModel&) {
  Texts texts;
  for (const Json& message : request.messages) {
    const auto content = message.find("content");
    if (content != message.end() && content->is_string()) texts.add(content->get<std::string>());
    const auto calls = message.find("tool_calls");
    if (calls != message.end()) texts.add(to_text(*calls));
  }
  if (request.tools.may_call()) texts.add(to_text(request.tools.tools));
  texts.add(request.form);
  return texts.take();
}

std::vector<std::string> client_texts(const CompletionRequest& request, const ServedModel& model) {
  Texts texts;
  for (const PromptText& prompt : request.prompts) texts.add(prompt, model);
  texts.add(request.form);
  return texts.take();
}

std::vector<std::string> client_texts(const EmbeddingRequest& request, const ServedModel& model) {
  Texts texts;
  for (const PromptText& input : request.inputs) texts.add(input, model);
  return texts.take();
}

std::vector<std::string> client_texts(const RankingRequest& request, const ServedModel&) {
  Texts texts;
  for (const std::string& query : request.queries) texts.add(query);
  for (const std::string& document : request.documents) texts.add(document);
  return texts.take();
}

}  // namespace ridge::api
