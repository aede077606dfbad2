#include "sampling/sampling_params.h"

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"

namespace ridge::sampling {

namespace {

[[noreturn]] void refuse(std::string_view param, const std::string& value, std::string_view range) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is {}; it must be {}", param, value, range), std::string(param));
}

// Written so that NaN is refused as well.
void check_range(std::string_view param, float value, float low, float high) {
  if (value >= low && value <= high) return;
  refuse(param, fmt::format("{}", value), fmt::format("from {} to {}", low, high));
}

}  // namespace

void validate(const SamplingParams& params, int vocab_size) {
  check_range("temperature", params.temperature, 0.0f, 2.0f);
  if (params.top_k < 0) refuse("top_k", fmt::format("{}", params.top_k), "0 (all) or more");
  if (!(params.top_p > 0.0f && params.top_p <= 1.0f)) {
    refuse("top_p", fmt::format("{}", params.top_p), "more than 0 and at most 1");
  }
  check_range("min_p", params.min_p, 0.0f, 1.0f);
  if (!(params.repetition_penalty > 0.0f && params.repetition_penalty <= 2.0f)) {
    refuse("repetition_penalty", fmt::format("{}", params.repetition_penalty),
           "more than 0 and at most 2");
  }
  check_range("presence_penalty", params.presence_penalty, -2.0f, 2.0f);
  check_range("frequency_penalty", params.frequency_penalty, -2.0f, 2.0f);
  if (params.logit_bias.size() > max_logit_biases) {
    refuse("logit_bias", fmt::format("a list of {}", params.logit_bias.size()),
           fmt::format("of at most {} tokens", max_logit_biases));
  }
  for (const auto& [token, bias] : params.logit_bias) {
    if (token < 0 || token >= vocab_size) {
      refuse("logit_bias", fmt::format("given for token {}", token),
             fmt::format("for tokens from 0 to {}", vocab_size - 1));
    }
    if (!(bias >= -100.0f && bias <= 100.0f)) {
      refuse("logit_bias", fmt::format("{} for token {}", bias, token), "from -100 to 100");
    }
  }
  if (params.top_logprobs < -1 || params.top_logprobs > 20) {
    refuse("top_logprobs", fmt::format("{}", params.top_logprobs), "from 0 to 20");
  }
}

}  // namespace ridge::sampling
