#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend/step_profile.h"
#include "cli/context.h"
#include "engine/offline.h"

namespace ridge::cli {

// Launches of one step that cost the same, as one row.
struct KernelRow {
  std::shared_ptr<const backend::LaunchProfile> each;
  int launches = 0;

  double microseconds() const { return launches * each->microseconds; }
};

struct ProfiledStep {
  std::string phase;  // "decode" or "prefill"
  engine::StepForm form;
  backend::StepProfile profile;
  std::vector<KernelRow> kernels;  // the longest first

  double kernel_us() const;  // of all launches
  double least_us() const;   // by bytes and products
  // What tasks cost beside their instructions, however they are launched.
  double task_us() const;
};
ProfiledStep make_profiled_step(std::string phase, const engine::StepForm& form,
                                backend::StepProfile profile);

struct ProfileReport {
  std::string model;
  std::string device;
  std::string weights;  // "" for a file's own
  uint64_t weight_bytes = 0;  // on the device, which may be more than the
  uint64_t memory_bytes = 0;  // memory that it has
  int experts = 0;            // of a layer; 0: the model has none
  int experts_of_token = 0;
  std::vector<ProfiledStep> steps;

  // That the chip could not hold the model: the step is counted all the same.
  bool is_too_large() const { return weight_bytes > memory_bytes; }
  int choices_of(const engine::StepForm& form) const {
    return form.sequences * form.tokens * experts_of_token;
  }
  // Of a layer, that have work in the step; their choices are as equally many as can be.
  int experts_with_work(const engine::StepForm& form) const {
    return std::min(experts, choices_of(form));
  }
};

void print_profile(const Context& context, const ProfileReport& report);
nlohmann::ordered_json profile_json(const ProfileReport& report);
// As chrome://tracing and Perfetto read it: a process for each step, a thread for each pipe of one
// block's cores, and one for the launches.
std::string profile_trace(const ProfileReport& report);

}  // namespace ridge::cli
