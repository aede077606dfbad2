#pragma once

#include <string>
#include <vector>

#include <CLI/App.hpp>

#include "cli/context.h"

namespace ridge::cli {

// `ridge bench --serve URL`: what is asked of the server. Empty texts take the defaults.
struct BenchServeOptions {
  std::string url;
  std::string model;          // as the server calls it; empty: its first one
  std::string prompt_tokens;  // as loadgen::LengthDistribution::parse; of both kinds of bench
  std::string output_tokens;
  std::string endpoint = "chat";
  std::string api_key;
  int clients = 0;  // 0: one, where no rate is given either
  double requests_per_s = 0;
  std::vector<std::string> groups;
  uint64_t requests = 0;
  double duration_s = 0;
  int prefix_tokens = 0;
  int prefixes = 1;
  std::string trace;
  uint64_t seed = 1;
  bool ignore_eos = false;
  double temperature = 0;
  std::string extra_body;
  double leaving_share = 0;
  uint64_t warm_up = 0;
  bool retry_refused = false;
  double timeout_s = 600;
  double tokens_per_word = 0;  // 0: the server is asked
  double slo_ttft_ms = 0;
  double slo_itl_ms = 0;
  std::string svg;
};

// Declares the options that only a server can be measured with; each needs `serve`.
void add_bench_serve_options(CLI::App& command, CLI::Option* serve, BenchServeOptions& options);

// Throws invalid_argument, and as what it calls, before anything is sent; io where the server
// cannot be reached at all. A run in which every request fails is a failure.
void bench_serve(Context& context, const BenchServeOptions& options);

}  // namespace ridge::cli
