#include "loadgen/workload.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>

#include "base/error.h"

namespace ridge::loadgen {
namespace {

constexpr double highest_rate_per_s = 1e5;
constexpr int most_clients = 4096;
// Between sending and leaving, where a client leaves whatever has come: about the time of a prompt.
constexpr double leaving_mean_ms = 100;

// Streams of draws, so that no request shares one with another, a prefix or a group's arrivals.
enum class StreamOf : uint64_t { measured_request, warm_up_request, prefix, arrivals };

Random draws(uint64_t seed, StreamOf kind, int group, uint64_t number) {
  const uint64_t stream =
      static_cast<uint64_t>(kind) << 62 | static_cast<uint64_t>(group) << 48 | number;
  return Random(seed, stream);
}

Error refuse_group(std::string_view text, std::string_view reason) {
  return Error(ErrorCode::invalid_argument,
               fmt::format("--group '{}' {}; write NAME,rate=REQUESTS_PER_S,key=KEY or "
                           "NAME,clients=N,key=env:VARIABLE",
                           text, reason));
}

template <typename Number>
Number group_number(std::string_view value, Number most, std::string_view text) {
  Number number{};
  const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (failure != std::errc() || end != value.data() + value.size() || !(number > 0) ||
      number > most) {
    throw refuse_group(
        text, fmt::format("has '{}' where a number above 0 and up to {} belongs", value, most));
  }
  return number;
}

std::string group_key(std::string_view value, std::string_view text) {
  if (!value.starts_with("env:")) return std::string(value);
  const std::string variable(value.substr(4));
  const char* key = std::getenv(variable.c_str());
  if (key == nullptr) {
    throw refuse_group(text, fmt::format("names {}, which is not set", variable));
  }
  return key;
}

}  // namespace

Group parse_group(std::string_view text, const std::string& default_key) {
  Group group{.api_key = default_key};
  std::string_view rest = text;
  group.name = rest.substr(0, rest.find(','));
  if (group.name.empty()) throw refuse_group(text, "has no name");
  rest.remove_prefix(group.name.size());
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const std::string_view field = rest.substr(0, rest.find(','));
    rest.remove_prefix(field.size());
    if (field.starts_with("rate=")) {
      group.requests_per_s = group_number(field.substr(5), highest_rate_per_s, text);
    } else if (field.starts_with("clients=")) {
      group.clients = group_number(field.substr(8), most_clients, text);
    } else if (field.starts_with("key=")) {
      group.api_key = group_key(field.substr(4), text);
    } else {
      throw refuse_group(text, fmt::format("has '{}', which is not known", field));
    }
  }
  if ((group.requests_per_s > 0) == (group.clients > 0)) {
    throw refuse_group(text, "wants either a rate or clients");
  }
  return group;
}

Workload::Workload(WorkloadOptions options, PromptScale scale)
    : options_(std::move(options)), scale_(scale) {}

std::string Workload::prefix(int index) const {
  Random random = draws(options_.seed, StreamOf::prefix, 0, static_cast<uint64_t>(index));
  // Nothing of it is fixed: what stands around a prompt is counted with the rest of it.
  const PromptScale scale{.fixed_tokens = 0, .tokens_per_word = scale_.tokens_per_word};
  return random_words(random, scale.words_for(options_.prefix_tokens));
}

PlannedRequest Workload::request(int group, uint64_t number, Purpose purpose) const {
  const bool is_measured = purpose == Purpose::measured;
  Random random =
      draws(options_.seed, is_measured ? StreamOf::measured_request : StreamOf::warm_up_request,
            group, number);
  PlannedRequest request;
  int prompt_tokens = options_.prompt_tokens.draw(random);
  request.output_tokens = options_.output_tokens.draw(random);
  const int prefix_index = random.between(0, options_.prefixes - 1);
  const bool leaves = random.uniform() < options_.leaving_share;
  if (!options_.trace.empty()) {
    const TraceEntry& entry = options_.trace[number % options_.trace.size()];
    request.prompt = entry.prompt;
    prompt_tokens = entry.prompt_tokens;
    request.output_tokens = entry.output_tokens;
  }
  if (is_measured && leaves) {
    request.leaving.emplace();
    if (random.uniform() < 0.5 && request.output_tokens > 1) {
      request.leaving->after_events = random.between(1, request.output_tokens - 1);
    } else {
      request.leaving->after_ms = random.exponential(leaving_mean_ms);
    }
  }
  if (request.prompt.empty()) {
    request.prompt = random_words(random, scale_.words_for(prompt_tokens));
  }
  if (options_.prefix_tokens > 0) {
    request.prompt = prefix(prefix_index) + " " + request.prompt;
  }
  return request;
}

PoissonArrivals::PoissonArrivals(uint64_t seed, int group, double per_s)
    : random_(draws(seed, StreamOf::arrivals, group, 0)), mean_ms_(1000 / per_s) {
  advance();
}

}  // namespace ridge::loadgen
