#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/fields.h"
#include "base/clock.h"
#include "sampling/sampling_params.h"

namespace ridge::api {

inline constexpr int max_choices = 16;
inline constexpr int max_top_logprobs = 20;
inline constexpr int max_stop_sequences = 16;
inline constexpr std::size_t max_stop_bytes = 1024;
inline constexpr std::size_t max_logit_bias_entries = 1024;
inline constexpr int64_t max_requested_tokens = 1 << 24;

// What the model's maker advises where a request says nothing.
struct SamplingDefaults {
  float temperature = 1.0f;
  float top_p = 1.0f;
  int top_k = 0;
  float min_p = 0.0f;
};

// How to continue a prompt: the fields that every text endpoint has. Absent ones stay empty until
// `sampling_params` fills them from the served model's defaults.
struct GenerationFields {
  std::string model;  // empty where the request names none
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int> top_k;
  std::optional<double> min_p;
  double repetition_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  std::optional<uint64_t> seed;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<std::string> stop;
  std::optional<int> max_tokens;
  int min_tokens = 0;
  bool ignore_eos = false;
  int choices = 1;
  bool stream = false;
  bool include_usage = false;              // stream_options.include_usage
  std::optional<Clock::Duration> timeout;  // as engine::Request::deadline
  int priority = 0;                        // smaller first, as vLLM has it
};

// Reads the fields that all formats call by the same names: temperature, top_p, top_k, min_p,
// presence_penalty, frequency_penalty, seed and, which only engines like this one know,
// repetition_penalty, logit_bias, min_tokens, ignore_eos and priority. Throws as below.
void read_sampling(const Fields& body, GenerationFields& fields);
// logprobs, true or false, and top_logprobs: as SamplingParams::top_logprobs.
int parse_top_logprobs(const Fields& body);
// Where a format has one answer only: refuses an `n` of more.
void refuse_several_choices(const Fields& body);
// Throws Error(invalid_argument) where there are to be more tokens than may be; `param` names
// min_tokens.
void check_token_bounds(const GenerationFields& fields, const std::string& param = "min_tokens");
// The model's name, "" where none is given.
std::string parse_model_name(const Fields& body, std::string_view name = "model");
// A string or an array of strings, none empty.
std::vector<std::string> parse_stop(const Fields& body, std::string_view name);

// Throws Error(invalid_argument) naming the field at fault. `least_tokens`: the smallest
// max_tokens, 0 or 1.
GenerationFields parse_generation_fields(const Fields& body, int least_tokens = 1);

// priority, from -max_priority to max_priority: whose turn comes first among all requests, smaller
// ones before larger ones.
inline constexpr int max_priority = 1000;
int parse_priority(const Fields& body);

// timeout_ms, above 0 and at most a day: what has not been answered by then fails.
std::optional<Clock::Duration> parse_timeout(const Fields& body);

// `top_logprobs` as in SamplingParams.
sampling::SamplingParams sampling_params(const GenerationFields& fields,
                                         const SamplingDefaults& defaults, int top_logprobs);

}  // namespace ridge::api
