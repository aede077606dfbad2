#include "api/generation_fields.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::api {
namespace {

constexpr std::size_t max_model_name_bytes = 1024;
constexpr double max_timeout_ms = 24.0 * 60 * 60 * 1000;

std::vector<std::pair<int32_t, float>> parse_logit_bias(const Fields& body) {
  const std::optional<Fields> object = body.object("logit_bias");
  if (!object) return {};
  const std::string path = body.path_of("logit_bias");
  const Json& entries = *body.find("logit_bias");
  if (entries.size() > max_logit_bias_entries) {
    refuse_field(path, entries, fmt::format("at most {} entries", max_logit_bias_entries));
  }
  std::vector<std::pair<int32_t, float>> bias;
  for (const auto& [key, value] : entries.get_ref<const Json::object_t&>()) {
    int32_t token = -1;
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (failure != std::errc() || end != key.data() + key.size() || token < 0) {
      refuse(path, fmt::format("'{}' has the key \"{}\"; keys must be token ids", path,
                               key.substr(0, 40)));
    }
    bias.emplace_back(token, static_cast<float>(*object->number(key, -100, 100)));
  }
  return bias;
}

std::optional<uint64_t> parse_seed(const Fields& body) {
  const Json* value = body.find("seed");
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  return static_cast<uint64_t>(*body.integer("seed", INT64_MIN, INT64_MAX));
}

std::optional<int> parse_max_tokens(const Fields& body, int least_tokens) {
  // The newer name wins, as in OpenAI's own service.
  for (const char* name : {"max_completion_tokens", "max_tokens"}) {
    const auto value = body.integer(name, least_tokens, max_requested_tokens);
    if (value) return static_cast<int>(*value);
  }
  return std::nullopt;
}

// vLLM writes "all" as -1, others as 0.
std::optional<int> parse_top_k(const Fields& body) {
  const auto value = body.integer("top_k", -1, INT32_MAX);
  if (!value) return std::nullopt;
  return *value < 0 ? 0 : static_cast<int>(*value);
}

void parse_stream(const Fields& body, GenerationFields& fields) {
  fields.stream = body.boolean("stream").value_or(false);
  const auto options = body.object("stream_options");
  if (!options) return;
  if (!fields.stream) {
    throw Error(ErrorCode::invalid_argument,
                "'stream_options' is given without 'stream': true; leave it out or stream",
                "stream_options");
  }
  fields.include_usage = options->boolean("include_usage").value_or(false);
}

}  // namespace

std::optional<Clock::Duration> parse_timeout(const Fields& body) {
  const auto timeout_ms = body.number("timeout_ms", 0, max_timeout_ms, /*open_low=*/true);
  if (!timeout_ms) return std::nullopt;
  const std::chrono::duration<double, std::milli> timeout(*timeout_ms);
  return std::chrono::duration_cast<Clock::Duration>(timeout);
}

int parse_priority(const Fields& body) {
  return static_cast<int>(
      body.integer("priority", -max_priority, max_priority).value_or(0));
}

std::vector<std::string> parse_stop(const Fields& body, std::string_view name) {
  const Json* value = body.find(name);
  if (value == nullptr) return {};
  const std::string path = body.path_of(name);
  std::vector<std::string> stop;
  const auto add = [&](const Json& element, const std::string& at) {
    const bool fits = element.is_string() && !element.get_ref<const std::string&>().empty() &&
                      element.get_ref<const std::string&>().size() <= max_stop_bytes;
    if (!fits) refuse_field(at, element, fmt::format("a string of 1 to {} bytes", max_stop_bytes));
    stop.push_back(element.get<std::string>());
  };
  if (value->is_array()) {
    if (value->size() > max_stop_sequences) {
      refuse_field(path, *value, fmt::format("at most {} strings", max_stop_sequences));
    }
    for (std::size_t i = 0; i < value->size(); ++i)
      add((*value)[i], fmt::format("{}[{}]", path, i));
  } else if (value->is_string()) {
    add(*value, path);
  } else {
    refuse_field(path, *value, "a string or an array of strings");
  }
  return stop;
}

void read_sampling(const Fields& body, GenerationFields& fields) {
  fields.temperature = body.number("temperature", 0, 2);
  fields.top_p = body.number("top_p", 0, 1, /*open_low=*/true);
  fields.top_k = parse_top_k(body);
  fields.min_p = body.number("min_p", 0, 1);
  fields.presence_penalty = body.number("presence_penalty", -2, 2).value_or(0);
  fields.frequency_penalty = body.number("frequency_penalty", -2, 2).value_or(0);
  fields.seed = parse_seed(body);
  fields.repetition_penalty =
      body.number("repetition_penalty", 0, 2, /*open_low=*/true).value_or(1);
  fields.logit_bias = parse_logit_bias(body);
  fields.min_tokens =
      static_cast<int>(body.integer("min_tokens", 0, max_requested_tokens).value_or(0));
  fields.ignore_eos = body.boolean("ignore_eos").value_or(false);
  fields.priority = parse_priority(body);
}

int parse_top_logprobs(const Fields& body) {
  const bool wanted = body.boolean("logprobs").value_or(false);
  const auto top = body.integer("top_logprobs", 0, max_top_logprobs);
  if (!wanted && top.value_or(0) > 0) {
    refuse("top_logprobs", "'top_logprobs' needs 'logprobs': true");
  }
  return wanted ? static_cast<int>(top.value_or(0)) : -1;
}

void refuse_several_choices(const Fields& body) {
  if (body.integer("n", 1, max_choices).value_or(1) == 1) return;
  refuse_unsupported(body.path_of("n"),
                     "one request has one answer in this format; ask /v1/chat/completions for "
                     "several");
}

void check_token_bounds(const GenerationFields& fields, const std::string& param) {
  if (!fields.max_tokens || fields.min_tokens <= *fields.max_tokens) return;
  refuse(param, fmt::format("'{}' is {}, but at most {} tokens are asked for", param,
                            fields.min_tokens, *fields.max_tokens));
}

std::string parse_model_name(const Fields& body, std::string_view name) {
  return body.string(name, max_model_name_bytes).value_or("");
}

GenerationFields parse_generation_fields(const Fields& body, int least_tokens) {
  GenerationFields fields;
  fields.model = parse_model_name(body);
  read_sampling(body, fields);
  fields.stop = parse_stop(body, "stop");
  fields.max_tokens = parse_max_tokens(body, least_tokens);
  fields.choices = static_cast<int>(body.integer("n", 1, max_choices).value_or(1));
  fields.timeout = parse_timeout(body);
  parse_stream(body, fields);
  check_token_bounds(fields);
  return fields;
}

sampling::SamplingParams sampling_params(const GenerationFields& fields,
                                         const SamplingDefaults& defaults, int top_logprobs) {
  sampling::SamplingParams params;
  params.temperature = static_cast<float>(fields.temperature.value_or(defaults.temperature));
  params.top_p = static_cast<float>(fields.top_p.value_or(defaults.top_p));
  params.top_k = fields.top_k.value_or(defaults.top_k);
  params.min_p = static_cast<float>(fields.min_p.value_or(defaults.min_p));
  params.repetition_penalty = static_cast<float>(fields.repetition_penalty);
  params.presence_penalty = static_cast<float>(fields.presence_penalty);
  params.frequency_penalty = static_cast<float>(fields.frequency_penalty);
  params.seed = fields.seed;
  params.logit_bias = fields.logit_bias;
  params.top_logprobs = top_logprobs;
  return params;
}

}  // namespace ridge::api
