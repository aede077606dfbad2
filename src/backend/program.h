#pragma once

#include <cstdint>
#include <span>

namespace ridge::backend {

class Buffer;

// How many rows one replay really has; at most the recording's StepLimits.
struct StepShape {
  int tokens = 0;     // T: rows of every `Rows::tokens` value
  int sequences = 0;  // S: sequences with at least one token in the step
  int outputs = 0;    // R: rows whose logits are wanted
  int block_copies = 0;
};

// A recording compiled by one back end, replayed with Stream::run.
class Program {
 public:
  virtual ~Program() = default;
  // The buffer of the i-th value that Recorder::mark_output named: row-major [rows, columns] of the
  // value's dtype, rows as in the last run.
  virtual const Buffer& output(int index) const = 0;
  // Likewise of the i-th Recorder::given, to be filled before each run.
  virtual Buffer& given(int index) = 0;
  // Activation memory that it holds.
  virtual uint64_t arena_bytes() const = 0;
};

}  // namespace ridge::backend
