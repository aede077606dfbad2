#include "server/preparation.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "api/answer_rules.h"
#include "api/anthropic_answer.h"
#include "api/anthropic_request.h"
#include "api/chat_request.h"
#include "api/client_texts.h"
#include "api/completion_request.h"
#include "api/embedding_request.h"
#include "api/model_list.h"
#include "api/ollama_answer.h"
#include "api/ollama_request.h"
#include "api/prompt.h"
#include "api/random_id.h"
#include "api/ranking_request.h"
#include "api/responses_answer.h"
#include "api/responses_request.h"
#include "api/tokenize.h"

namespace ridge::server {
namespace {

api::AnswerHead answer_head(std::string_view prefix, const api::ServedModel& model,
                            const std::vector<engine::Request>& requests) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  api::AnswerHead head = {
      .id = api::random_id(prefix),
      .created_s = std::chrono::duration_cast<std::chrono::seconds>(now).count(),
      .model = model.name,
      .fingerprint = model.fingerprint};
  for (const engine::Request& request : requests) {
    head.prompt_tokens += static_cast<int>(request.prompt_tokens.size());
  }
  return head;
}

// What a request becomes once its format has been read.
struct Reading {
  const api::ServedModel* model = nullptr;
  std::string group;
  std::string_view id_prefix;  // of the answer
  std::function<std::vector<engine::Request>()> make_requests;
  // As api::set_rules does it; null: nothing binds the answer.
  std::function<bool(api::Grammars, engine::Request&)> set_rules;
  std::function<std::vector<std::string>()> client_texts;  // null: there are none
  std::function<std::unique_ptr<api::Answer>(api::AnswerHead, std::span<const engine::Request>)>
      make_answer;
};

Prepared finish(const Reading& reading, Prepared prepared) {
  api::AnswerHead head = answer_head(reading.id_prefix, *reading.model, prepared.requests);
  prepared.answer_id = head.id;
  prepared.answer = reading.make_answer(std::move(head), prepared.requests);
  const bool is_judged = !reading.model->moderation_url.empty();
  if (is_judged && reading.client_texts) prepared.client_texts = reading.client_texts();
  return prepared;
}

bool set_rules(const Reading& reading, api::Grammars grammars,
               std::vector<engine::Request>& requests) {
  return !reading.set_rules || std::ranges::all_of(requests, [&](engine::Request& request) {
    return reading.set_rules(grammars, request);
  });
}

Prepared prepare(Reading reading) {
  Prepared prepared;
  prepared.model = reading.model;
  prepared.requests = reading.make_requests();
  for (engine::Request& request : prepared.requests) request.group = reading.group;
  if (set_rules(reading, api::Grammars::only_kept, prepared.requests)) {
    return finish(reading, std::move(prepared));
  }
  Prepared unfinished;
  unfinished.model = reading.model;
  const auto begun = std::make_shared<Prepared>(std::move(prepared));
  unfinished.rest = [begun, reading = std::move(reading)] {
    set_rules(reading, api::Grammars::compile, begun->requests);
    return finish(reading, std::move(*begun));
  };
  return unfinished;
}

std::vector<engine::Request> requests_of(const api::ChatRequest& chat,
                                         const api::ServedModel& model, const std::string& id) {
  std::vector<engine::Request> requests;
  requests.push_back(api::prepare(chat, model, id));
  return requests;
}

std::vector<engine::Request> requests_of(const api::CompletionRequest& completion,
                                         const api::ServedModel& model, const std::string& id) {
  return api::prepare(completion, model, id);
}

// `core` is what the engine request is made of, a part of `request`: the request itself or its
// conversation. `make_answer` takes the request and a head.
template <typename Request, typename Core, typename MakeAnswer>
Prepared prepare_generation(const api::ServedModel& model, const Asked& asked,
                            std::string_view id_prefix, std::shared_ptr<const Request> request,
                            const Core& core, MakeAnswer make_answer) {
  return prepare(
      {.model = &model,
       .group = asked.group,
       .id_prefix = id_prefix,
       .make_requests = [request, &core, &model,
                         id = asked.id] { return requests_of(core, model, id); },
       .set_rules = [request, &core, &model](
                        api::Grammars grammars,
                        engine::Request& to) { return api::set_rules(core, model, grammars, to); },
       .client_texts = [request, &core, &model] { return api::client_texts(core, model); },
       .make_answer =
           [request, make_answer](api::AnswerHead head, std::span<const engine::Request> requests) {
             return make_answer(*request, std::move(head), requests);
           }});
}

// Of a request that has all that its answer needs.
template <typename Request, typename Core>
Prepared prepare_generation(const api::ServedModel& model, const Asked& asked,
                            std::string_view id_prefix, std::shared_ptr<const Request> request,
                            const Core& core) {
  return prepare_generation(
      model, asked, id_prefix, request, core,
      [](const Request& read, api::AnswerHead head, std::span<const engine::Request>) {
        return api::make_answer(read, std::move(head));
      });
}

// Texts that become vectors.
template <typename Request>
Prepared prepare_vectors(const api::ServedModel& model, const Asked& asked,
                         std::string_view id_prefix, const Request& request) {
  return prepare({.model = &model,
                  .group = asked.group,
                  .id_prefix = id_prefix,
                  .make_requests = [&] { return api::prepare(request, model, asked.id); },
                  .client_texts = [&] { return api::client_texts(request, model); },
                  .make_answer =
                      [&](api::AnswerHead head, std::span<const engine::Request>) {
                        return api::make_answer(request, std::move(head));
                      }});
}

template <typename Request>
Prepared prepare_vectors(const Asked& asked, std::string_view id_prefix, const Request& request) {
  return prepare_vectors(api::find_model(asked.models, request.vectors.model), asked, id_prefix,
                         request);
}

// What needs no engine.
Prepared prepare_document(std::string document) {
  Prepared prepared;
  prepared.document = std::move(document);
  return prepared;
}

template <typename Request>
std::shared_ptr<const Request> shared(Request request) {
  return std::make_shared<const Request>(std::move(request));
}

Prepared prepare_token_count(const Asked& asked, const api::Json& body) {
  const api::ChatRequest chat = api::parse_count_tokens_request(body);
  Prepared prepared;
  prepared.model = &api::find_model(asked.models, chat.generation.model);
  prepared.document = api::token_count_body(api::count_prompt_tokens(chat, *prepared.model));
  return prepared;
}

api::ResponsesRequest read_response(Service& service, const Asked& asked, const api::Json& body) {
  return api::parse_responses_request(body, [&](const std::string& id) {
    auto stored = service.responses.find(asked.group, id);
    if (stored && !asked.is_callable(stored->model)) stored = {};
    return stored;
  });
}

Prepared prepare_response_tokens(Service& service, const Asked& asked, const api::Json& body) {
  const api::ChatRequest chat = read_response(service, asked, body).chat;
  Prepared prepared;
  prepared.model = &api::find_model(asked.models, chat.generation.model);
  prepared.document = api::response_tokens_body(api::count_prompt_tokens(chat, *prepared.model));
  return prepared;
}

Prepared prepare_response(Service& service, const Asked& asked, const api::Json& body) {
  const auto request = shared(read_response(service, asked, body));
  const api::ServedModel& model = api::find_model(asked.models, request->chat.generation.model);
  std::function<void(api::StoredResponse &&)> keep;
  if (request->store) {
    keep = [&store = service.responses, owner = asked.group,
            name = model.name](api::StoredResponse&& response) {
      response.model = name;
      store.put(owner, std::move(response));
    };
  }
  return prepare_generation(model, asked, "resp_", request, request->chat,
                            [&model, keep](const api::ResponsesRequest& read, api::AnswerHead head,
                                           std::span<const engine::Request>) {
                              return api::make_answer(read, std::move(head), model.sampling, keep);
                            });
}

Prepared prepare_completion(const Asked& asked, const api::Json& body) {
  const auto request = shared(api::parse_completion_request(body));
  const api::ServedModel& model = api::find_model(asked.models, request->generation.model);
  return prepare_generation(model, asked, "cmpl-", request, *request,
                            [&model](const api::CompletionRequest& read, api::AnswerHead head,
                                     std::span<const engine::Request> requests) {
                              return api::make_answer(read, std::move(head),
                                                      api::echoed_prompts(read, requests, model));
                            });
}

Prepared prepare_idle(const api::ServedModel& model, const Asked& asked,
                      const api::OllamaRequest& request) {
  if (request.unloads()) {
    Prepared prepared;
    prepared.model = &model;
    prepared.document = api::ollama_unloaded_body(request, answer_head("", model, {}));
    return prepared;
  }
  return prepare({.model = &model,
                  .group = asked.group,
                  .id_prefix = "ollama-",
                  .make_requests =
                      [&] {
                        std::vector<engine::Request> requests;
                        requests.push_back(api::prepare_load(model, asked.id));
                        requests.back().deadline = request.generation().timeout;
                        return requests;
                      },
                  .make_answer =
                      [&](api::AnswerHead head, std::span<const engine::Request>) {
                        return api::make_answer(request, std::move(head));
                      }});
}

Prepared prepare_ollama(const Asked& asked, api::OllamaRequest parsed) {
  const auto request = shared(std::move(parsed));
  const api::ServedModel& model = api::find_ollama_model(asked.models, request->generation().model);
  Prepared prepared = request->is_empty
                          ? prepare_idle(model, asked, *request)
                          : std::visit(
                                [&](const auto& core) {
                                  return prepare_generation(model, asked, "ollama-", request, core);
                                },
                                request->core);
  prepared.keep_loaded = request->keep_alive;
  return prepared;
}

Prepared prepare_ollama_vectors(const Asked& asked, const api::OllamaEmbedding& asks) {
  const api::EmbeddingRequest& embedding = asks.embedding;
  const api::ServedModel& model = api::find_ollama_model(asked.models, embedding.vectors.model);
  if (embedding.inputs.empty()) return prepare_document(api::ollama_no_vectors_body(asks, model));
  Prepared prepared = prepare_vectors(model, asked, "ollama-", embedding);
  prepared.keep_loaded = asks.keep_alive;
  return prepared;
}

Prepared prepare_ollama_show(const Asked& asked, const api::Json& body) {
  Prepared prepared;
  prepared.model = &api::find_ollama_model(asked.models, api::parse_ollama_show(body));
  prepared.document = api::ollama_show_body(*prepared.model);
  return prepared;
}

}  // namespace

Prepared prepare_body(Service& service, const Asked& asked, const api::Json& document) {
  switch (asked.route) {
    case Route::messages: {
      const auto request = shared(api::parse_anthropic_request(document));
      const auto& model = api::find_model(asked.models, request->chat.generation.model);
      return prepare_generation(model, asked, "msg_", request, request->chat);
    }
    case Route::count_tokens:
      return prepare_token_count(asked, document);
    case Route::responses:
      return prepare_response(service, asked, document);
    case Route::response_tokens:
      return prepare_response_tokens(service, asked, document);
    case Route::ollama_chat:
      return prepare_ollama(asked, api::parse_ollama_chat(document));
    case Route::ollama_generate:
      return prepare_ollama(asked, api::parse_ollama_generate(document));
    case Route::ollama_show:
      return prepare_ollama_show(asked, document);
    case Route::ollama_embed:
      return prepare_ollama_vectors(asked, api::parse_ollama_embed(document));
    case Route::ollama_embeddings:
      return prepare_ollama_vectors(asked, api::parse_ollama_embeddings(document));
    case Route::embeddings:
      return prepare_vectors(asked, "embd-", api::parse_embedding_request(document));
    case Route::rerank:
      return prepare_vectors(asked, "rerank-", api::parse_rerank_request(document));
    case Route::score:
      return prepare_vectors(asked, "score-", api::parse_score_request(document));
    case Route::tokenize:
      return prepare_document(api::tokenize(document, asked.models));
    case Route::detokenize:
      return prepare_document(api::detokenize(document, asked.models));
    case Route::completions:
      return prepare_completion(asked, document);
    default: {
      const auto request = shared(api::parse_chat_request(document));
      const auto& model = api::find_model(asked.models, request->generation.model);
      return prepare_generation(model, asked, "chatcmpl-", request, *request);
    }
  }
}

api::ErrorStyle error_style_of(Route route, std::string_view target) {
  if (target.starts_with("/api/v1/")) return api::ErrorStyle::openai;  // ours
  if (target.starts_with("/api/")) return api::ErrorStyle::ollama;
  constexpr std::string_view messages = "/v1/messages";
  const std::string_view behind =
      target.starts_with(messages) ? target.substr(messages.size()) : std::string_view("-");
  const bool is_anthropic = route == Route::messages || route == Route::count_tokens ||
                            behind.empty() || behind[0] == '/' || behind[0] == '?';
  return is_anthropic ? api::ErrorStyle::anthropic : api::ErrorStyle::openai;
}

}  // namespace ridge::server
