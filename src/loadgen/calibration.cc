#include "loadgen/calibration.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "loadgen/answer_event.h"

namespace ridge::loadgen {
namespace {

ErrorCode code_of(int status) {
  switch (status) {
    case 401:
      return ErrorCode::unauthenticated;
    case 403:
      return ErrorCode::permission_denied;
    case 404:
      return ErrorCode::not_found;
    case 429:
    case 503:
      return ErrorCode::unavailable;
  }
  return status >= 400 && status < 500 ? ErrorCode::invalid_argument : ErrorCode::io;
}

std::string ask_well(HttpPool& pool, const HttpAsk& ask) {
  const HttpAnswer answer = ask_once(pool, ask);
  if (answer.status == 200) return answer.body;
  const std::string message = error_message(answer.body);
  throw Error(code_of(answer.status), fmt::format("{} answers {}{}{}", ask.url, answer.status,
                                                  message.empty() ? "" : ": ", message));
}

int counted_tokens(HttpPool& pool, const Target& target, const std::string& api_key, int words) {
  // Words that no request of the load begins with: it must not find them in a cache.
  Random random(0x63616c6962726174, static_cast<uint64_t>(words));
  HttpAsk ask{.url = target.url(), .api_key = api_key};
  ask.body = request_body(target, random_words(random, words), 1, Delivery::document);
  const int tokens = read_usage(ask_well(pool, ask)).prompt_tokens;
  if (tokens < 0) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{} does not say how many tokens a prompt has; give --tokens-per-word "
                            "(about 1.1 for English)",
                            ask.url));
  }
  return tokens;
}

}  // namespace

std::string ask_for_model(HttpPool& pool, const Target& target, const std::string& api_key) {
  const std::string body = ask_well(pool, {.url = target.models_url(), .api_key = api_key});
  std::string name = first_model(body);
  if (name.empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} names no model; name one", target.models_url()));
  }
  return name;
}

PromptScale calibrate(HttpPool& pool, const Target& target, const std::string& api_key,
                      int typical_tokens) {
  const int more = std::clamp(typical_tokens / 4, 8, 512);
  const int fewer = more / 4;
  return PromptScale::through(fewer, counted_tokens(pool, target, api_key, fewer), more,
                              counted_tokens(pool, target, api_key, more));
}

}  // namespace ridge::loadgen
