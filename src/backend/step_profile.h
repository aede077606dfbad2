#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// What a step costs by the model of a device that is not here (open_counting_device).
namespace ridge::backend {

// Work of one kind of pipe in a launch, summed over all cores.
struct PipeProfile {
  std::string name;  // "AIC MTE2"
  uint64_t instructions = 0;
  uint64_t bytes = 0;           // moved, or operated on
  uint64_t repeats = 0;         // of a vector unit
  uint64_t bank_conflicts = 0;  // cycles that they add
  uint64_t lines_512 = 0;       // lines of 512 bytes that transfers of global memory touch
  uint64_t nd_nz_rows = 0;      // rows that a transfer reorders
  uint64_t macs = 0;            // multiply-adds
  double busy_us = 0;           // of the core that is busiest with it
};

// One pipe busy from `start_us` to `end_us` of its launch with instructions of one name.
struct PipeSpan {
  std::string pipe;  // "AIC MTE2"
  std::string call;  // "DataCopy", or "several" that are short
  std::string place;  // the kernel's line of the first: "linear_tiles.h:57"
  uint32_t instructions = 1;
  double start_us = 0;
  double end_us = 0;
};

struct LaunchProfile {
  std::string kernel;
  uint32_t blocks = 0;
  double microseconds = 0;  // on the device, without the launch itself
  // The longest of what the launch cannot be faster than: "HBM", "L2" or a pipe, "AIC M"; "waits"
  // where none of them is as much as two thirds of the time.
  std::string limited_by;
  uint64_t hbm_bytes = 0;    // from HBM and to it
  uint64_t moved_bytes = 0;  // between global memory and cores
  uint64_t macs = 0;
  double least_us = 0;  // max(hbm_bytes ÷ bandwidth, multiply-adds ÷ the cube's peak)
  std::vector<PipeProfile> pipes;
  std::vector<PipeSpan> timeline;  // of the cores of one block
};

struct StepProfile {
  std::vector<std::shared_ptr<const LaunchProfile>> launches;  // in order; equal ones are shared
  // What a launch costs on the device beside its instructions, however it is launched: cores begin,
  // the last writes end.
  double task_overhead_us = 0;
  std::vector<std::string> host_ops;  // that have no kernel and are in no launch, each named once
};

// What a Device is as well whose steps are only counted: they give no results, and what weights hold
// is not looked at, so that a model of any size that the device has memory for takes none here.
class StepCounter {
 public:
  virtual ~StepCounter() = default;
  // What was launched since the last call, or since the device was opened. No step may be under
  // way.
  virtual StepProfile take_profile() = 0;
};

}  // namespace ridge::backend
