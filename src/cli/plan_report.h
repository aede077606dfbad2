#pragma once

#include <CLI/App.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "planner/published.h"
#include "planner/ratio.h"

namespace ridge::cli {

// What `ridge plan` was asked.
struct PlanOptions {
  std::string model;
  std::vector<std::string> devices = {"910B2", "910C", "H20",    "H100",
                                      "H800",  "H200", "MI300X", "A100"};
  std::string devices_file;
  std::string weights;  // "": as the model is published
  std::string cache = "bf16";
  std::vector<std::string> prices;  // "910C=2.5", in any currency, an hour
  std::string stack;                // "": those with results on the device
  std::string svg;
  std::string ratio;  // "910C/H100"
  double claim = 0;   // that --ratio is held against; 0: none
  bool validate = false;
  bool list_devices = false;
  int prompt_tokens = 4096;
  int output_tokens = 1024;
  double cached_share = 0;
  int count = 0;
  int batch = 0;
  double tpot_ms = 0;
  int tensor_parallel = 0;
  int drafts = 0;
  double accepted = 0;
  // Of this machine; 0: measured.
  double cpu_gbps = 0;
  double cpu_tflops = 0;
  double cpu_tops = 0;
  double cpu_memory_gb = 0;
};

// What a software stack would make of a bound.
struct PlanEstimate {
  std::string stack;
  double efficiency = 0;
};

// One device's answer.
struct PlanEntry {
  planner::Device device;
  std::optional<planner::Plan> plan;
  std::string why_not;  // where there is none
  std::vector<PlanEstimate> estimates;
  double price_per_hour = 0;  // 0: not given

  // Of a million tokens at so many a second of one device.
  double price_per_million(double tokens_per_second) const {
    return price_per_hour / 3600 / tokens_per_second * 1e6;
  }
};

struct PlanReport {
  planner::ModelShape shape;
  planner::Question question;  // without its shape, which is the one above
  std::vector<PlanEntry> entries;
};

void print_plan(const Context& context, const PlanReport& report);
nlohmann::ordered_json plan_json(const PlanReport& report);
// Roofs and where decoding and prompts lie under them; speed over the time of a token.
std::string plan_svg(const PlanReport& report);

void print_validation(const Context& context, const planner::Validation& validation);
nlohmann::ordered_json validation_json(const planner::Validation& validation);

void print_ratios(const Context& context, const std::string& title, double claim,
                  const std::vector<planner::RatioRow>& rows);
nlohmann::ordered_json ratios_json(const std::vector<planner::RatioRow>& rows);

nlohmann::ordered_json device_json(const planner::Device& device);
void print_devices(const Context& context, const planner::DeviceTable& devices);

}  // namespace ridge::cli
