// Any bytes as a request's body: an Error or a request whose numbers
// are in their ranges, never more.
#include <cstdint>
#include <cstdlib>

#include "api/anthropic_request.h"
#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/embedding_request.h"
#include "api/ollama_request.h"
#include "api/ranking_request.h"
#include "api/responses_request.h"
#include "base/error.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const ridge::api::GenerationFields& fields, int top_logprobs, int least_tokens) {
  const auto params = ridge::api::sampling_params(fields, {}, top_logprobs);
  require(params.temperature >= 0 && params.temperature <= 2);
  require(params.top_p >= 0 && params.top_p <= 1);
  require(params.top_k >= 0);
  require(params.min_p >= 0 && params.min_p <= 1);
  require(params.top_logprobs >= -1 && params.top_logprobs <= ridge::api::max_top_logprobs);
  require(fields.choices >= 1 && fields.choices <= ridge::api::max_choices);
  require(!fields.max_tokens || *fields.max_tokens >= least_tokens);
  require(fields.stop.size() <= ridge::api::max_stop_sequences);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const ridge::api::Json body = ridge::api::parse_json(text);
    // What was read can be written and read again.
    require(ridge::api::parse_json(ridge::api::to_text(body)) == body);
    try {
      const auto chat = ridge::api::parse_chat_request(body);
      check(chat.generation, chat.top_logprobs, 1);
      require(!chat.messages.empty());
    } catch (const ridge::Error& error) {
      require(ridge::http_status(error.code()) == 400);
    }
    try {
      const auto embedding = ridge::api::parse_embedding_request(body);
      require(!embedding.inputs.empty());
    } catch (const ridge::Error& error) {
      require(ridge::http_status(error.code()) == 400);
    }
    try {
      const auto response =
          ridge::api::parse_responses_request(body, [](const std::string&) { return nullptr; });
      check(response.chat.generation, -1, 1);
      require(!response.chat.messages.empty());
    } catch (const ridge::Error& error) {
      require(ridge::http_status(error.code()) == 400);
    }
    try {
      const auto ranking = ridge::api::parse_rerank_request(body);
      require(ranking.queries.size() == 1 && !ranking.documents.empty());
    } catch (const ridge::Error& error) {
      require(ridge::http_status(error.code()) == 400);
    }
    try {
      check(ridge::api::parse_ollama_chat(body).generation(), -1, 1);
      check(ridge::api::parse_ollama_generate(body).generation(), -1, 1);
    } catch (const ridge::Error& error) {
      require(ridge::http_status(error.code()) == 400);
    }
    try {
      const auto message = ridge::api::parse_anthropic_request(body);
      check(message.chat.generation, -1, 1);
      require(message.chat.generation.max_tokens.has_value());
    } catch (const ridge::Error& error) {
      require(ridge::http_status(error.code()) == 400);
    }
    const auto completion = ridge::api::parse_completion_request(body);
    check(completion.generation, completion.top_logprobs, completion.echo ? 0 : 1);
    require(!completion.prompts.empty());
  } catch (const ridge::Error& error) {
    require(ridge::http_status(error.code()) == 400);
  }
  return 0;
}
