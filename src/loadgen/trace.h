#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::loadgen {

// One request of a recorded load.
struct TraceEntry {
  double arrival_ms = 0;  // after the start
  std::string prompt;     // empty: words of our own, prompt_tokens of them
  int prompt_tokens = 0;
  int output_tokens = 0;
};

// JSON lines, one request each; empty lines are skipped:
//   {"arrival_ms": 1250, "prompt_tokens": 230, "output_tokens": 64}
//   {"arrival_ms": 1380.5, "prompt": "Repeat this: ...", "output_tokens": 200}
// `arrival_ms` is 0 where it is absent; fields that are not known are ignored. The entries come
// sorted by arrival. Throws invalid_file naming `source` and the line.
std::vector<TraceEntry> parse_trace(std::string_view text, std::string_view source);

// Throws io where the file cannot be read, and as parse_trace.
std::vector<TraceEntry> read_trace(const std::filesystem::path& file);

}  // namespace ridge::loadgen
