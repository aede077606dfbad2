#include "loadgen/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "loadgen/length_distribution.h"

namespace ridge::loadgen {
namespace {

using Json = nlohmann::json;

constexpr double longest_trace_ms = 30.0 * 24 * 3600 * 1000;

// Reads the fields of one line. Each failure is a sentence's end: "line 3 of x: ...".
class EntryReader {
 public:
  EntryReader(const Json& body, std::string where) : body_(body), where_(std::move(where)) {}

  TraceEntry read() const {
    if (!body_.is_object()) throw refuse("is no JSON object");
    TraceEntry entry;
    entry.arrival_ms = arrival_ms();
    entry.output_tokens = tokens("output_tokens");
    if (body_.contains("prompt") == body_.contains("prompt_tokens")) {
      throw refuse("wants one of 'prompt', a text, and 'prompt_tokens', a number");
    }
    if (body_.contains("prompt")) {
      if (!body_["prompt"].is_string() || body_["prompt"] == "") {
        throw refuse("has a 'prompt' that is no text");
      }
      entry.prompt = body_["prompt"];
    } else {
      entry.prompt_tokens = tokens("prompt_tokens");
    }
    return entry;
  }

 private:
  Error refuse(std::string_view what) const {
    return Error(ErrorCode::invalid_file, fmt::format("{} {}", where_, what));
  }

  double arrival_ms() const {
    if (!body_.contains("arrival_ms")) return 0;
    const Json& value = body_["arrival_ms"];
    if (!value.is_number() || value < 0 || value > longest_trace_ms) {
      throw refuse("has an 'arrival_ms' that is no number from 0 to 30 days");
    }
    return value;
  }

  int tokens(const char* name) const {
    const auto value = body_.find(name);
    if (value == body_.end() || !value->is_number_integer() || *value < 1 ||
        *value > LengthDistribution::largest_tokens) {
      throw refuse(fmt::format("wants '{}', a whole number from 1 to {}", name,
                               LengthDistribution::largest_tokens));
    }
    return *value;
  }

  const Json& body_;
  std::string where_;
};

}  // namespace

std::vector<TraceEntry> parse_trace(std::string_view text, std::string_view source) {
  std::vector<TraceEntry> entries;
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const Json body = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    entries.push_back(EntryReader(body, fmt::format("line {} of {}", number, source)).read());
  }
  if (entries.empty()) {
    throw Error(ErrorCode::invalid_file, fmt::format("{} holds no requests", source));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const TraceEntry& a, const TraceEntry& b) {
    return a.arrival_ms < b.arrival_ms;
  });
  return entries;
}

std::vector<TraceEntry> read_trace(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream || stream.bad()) {
    throw Error(ErrorCode::io, fmt::format("cannot read the trace {}", file.string()));
  }
  return parse_trace(text, file.string());
}

}  // namespace ridge::loadgen
