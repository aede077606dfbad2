#include "engine/request_check.h"

#include <fmt/format.h>

#include <string_view>

namespace ridge::engine {

namespace {

void require(bool holds, std::string_view param, const std::string& message) {
  if (!holds) throw Error(ErrorCode::invalid_argument, message, std::string(param));
}

void check_prompt(const Request& request, int vocab_size, int context_tokens) {
  require(!request.prompt_tokens.empty(), "messages",
          "the prompt is empty; it needs at least one token");
  const auto tokens = request.prompt_tokens.size();
  if (tokens >= static_cast<size_t>(context_tokens)) {
    throw Error(
        ErrorCode::context_length,
        fmt::format("the prompt has {} tokens, but this model is served with a context of {} "
                    "tokens, prompt and answer together; shorten the prompt to at most {}",
                    tokens, context_tokens, context_tokens - 1),
        "messages");
  }
  for (int32_t token : request.prompt_tokens) {
    require(
        token >= 0 && token < vocab_size, "prompt",
        fmt::format("token {} in the prompt is not in the vocabulary, which has the tokens 0 to {}",
                    token, vocab_size - 1));
  }
}

}  // namespace

void check_request(const Request& request, int vocab_size, int context_tokens, size_t adapters) {
  require(
      request.adapter >= -1 && request.adapter < static_cast<int>(adapters), "model",
      fmt::format("adapter {} was asked for, but this model has {}", request.adapter, adapters));
  check_prompt(request, vocab_size, context_tokens);
  // Who asks for the prompt's logprobs may want nothing else.
  const int least_tokens = request.prompt_logprobs >= 0 || request.embedding ? 0 : 1;
  require(
      request.max_tokens >= least_tokens, "max_tokens",
      fmt::format("max_tokens is {}; it must be at least {}", request.max_tokens, least_tokens));
  require(request.min_tokens >= 0 && request.min_tokens <= request.max_tokens, "min_tokens",
          fmt::format("min_tokens is {}; it must be from 0 to max_tokens, which is {}",
                      request.min_tokens, request.max_tokens));
  if (request.embedding) {
    require(request.max_tokens == 0 && request.choices == 1 && request.prompt_logprobs < 0, "input",
            "an embedding has no answer, choices or logprobs");
  }
  require(request.choices >= 1 && request.choices <= max_choices, "n",
          fmt::format("n is {}; it must be from 1 to {}", request.choices, max_choices));
  require(request.stop.size() <= max_stop_sequences, "stop",
          fmt::format("stop has {} sequences; at most {} are allowed", request.stop.size(),
                      max_stop_sequences));
  for (const std::string& stop : request.stop) {
    require(!stop.empty() && stop.size() <= max_stop_bytes, "stop",
            fmt::format("a stop sequence has {} bytes; it must have 1 to {}", stop.size(),
                        max_stop_bytes));
  }
  sampling::validate(request.sampling, vocab_size);
}

}  // namespace ridge::engine
