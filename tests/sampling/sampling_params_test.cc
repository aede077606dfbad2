#include "sampling/sampling_params.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "base/error.h"

namespace ridge::sampling::sampling_params_test {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

struct Refused {
  const char* param;
  std::function<void(SamplingParams&)> change;
};

TEST(Validate, NamesTheParameterOutOfRange) {
  const Refused cases[] = {
      {"temperature", [](auto& p) { p.temperature = -0.1f; }},
      {"temperature", [](auto& p) { p.temperature = 2.01f; }},
      {"temperature", [](auto& p) { p.temperature = nan; }},
      {"top_k", [](auto& p) { p.top_k = -1; }},
      {"top_p", [](auto& p) { p.top_p = 0.0f; }},
      {"top_p", [](auto& p) { p.top_p = 1.5f; }},
      {"top_p", [](auto& p) { p.top_p = nan; }},
      {"min_p", [](auto& p) { p.min_p = -0.5f; }},
      {"min_p", [](auto& p) { p.min_p = nan; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 0.0f; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 2.5f; }},
      {"presence_penalty", [](auto& p) { p.presence_penalty = -2.5f; }},
      {"frequency_penalty", [](auto& p) { p.frequency_penalty = nan; }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{100, 1.0f}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{-1, 1.0f}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{5, 100.5f}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{5, nan}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias.assign(max_logit_biases + 1, {1, 1.0f});
       }},
      {"top_logprobs", [](auto& p) { p.top_logprobs = 21; }},
      {"top_logprobs", [](auto& p) { p.top_logprobs = -2; }},
  };
  for (const Refused& refused : cases) {
    SamplingParams params;
    refused.change(params);
    try {
      validate(params, 100);
      ADD_FAILURE() << "accepted a bad " << refused.param;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.param(), refused.param);
      EXPECT_NE(error.message().find(refused.param), std::string::npos);
    }
  }
}

TEST(Validate, AcceptsTheEndsOfTheRanges) {
  SamplingParams params;
  EXPECT_NO_THROW(validate(params, 100));
  params = {.temperature = 2.0f,
            .top_k = 1,
            .top_p = 1.0f,
            .min_p = 1.0f,
            .repetition_penalty = 2.0f,
            .presence_penalty = -2.0f,
            .frequency_penalty = 2.0f,
            .seed = 0,
            .logit_bias = {{0, -100.0f}, {99, 100.0f}},
            .top_logprobs = 20};
  EXPECT_NO_THROW(validate(params, 100));
}

}  // namespace
}  // namespace ridge::sampling::sampling_params_test
