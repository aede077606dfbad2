#pragma once

#include <optional>
#include <string>
#include <vector>

#include "planner/step_cost.h"

namespace ridge::planner {

// Multi-token prediction: each step checks `drafts` guessed tokens beside its own, and `accepted`
// of those drafts + 1 stand on average, 1 to drafts + 1.
struct Speculation {
  int drafts = 0;
  double accepted = 1;
};

// Many answers at once on one layout.
struct DecodeBound {
  double batch = 0;              // sequences of each replica
  double tokens_per_second = 0;  // of one device, of all its sequences
  double tpot_ms = 0;            // from one token of a sequence to its next, on average
  StepCost step;
};

// context: tokens that a sequence has behind it, on average.
DecodeBound decode_bound(const ModelShape& shape, const Formats& formats, const Layout& layout,
                         const Device& device, double batch, double context,
                         const Speculation& speculation);

// Prompts, `batch_tokens` of them at once in each replica.
struct PrefillBound {
  double tokens_per_second = 0;  // of one device; tokens that were cached count
  StepCost step;
};

// cached_tokens: of each prompt, which are not computed again; less than prompt_tokens.
PrefillBound prefill_bound(const ModelShape& shape, const Formats& formats, const Layout& layout,
                           const Device& device, double prompt_tokens, double cached_tokens,
                           double batch_tokens);

// Milliseconds to the first token of one prompt while nothing else runs.
double ttft_bound_ms(const ModelShape& shape, const Formats& formats, const Layout& layout,
                     const Device& device, double prompt_tokens, double cached_tokens);

// Devices that both read prompts and answer, `batch` requests of each replica at once.
struct MixedBound {
  double output_tokens_per_second = 0;  // of one device
  double total_tokens_per_second = 0;   // of one device, with those of prompts
  double prefill_share = 0;             // of the time
  DecodeBound decode;
  PrefillBound prefill;
};

// A replica reads the prompts of its whole batch at once.
MixedBound mixed_bound(const ModelShape& shape, const Formats& formats, const Layout& layout,
                       const Device& device, double batch, double prompt_tokens,
                       double cached_tokens, double output_tokens, const Speculation& speculation);

// What is asked of each device.
struct Question {
  const ModelShape* shape = nullptr;
  Formats formats;
  double prompt_tokens = 4096;
  double cached_share = 0;  // of prompts, 0 to below 1
  double output_tokens = 1024;
  double prefill_batch_tokens = 16384;  // of each replica
  Speculation speculation;
  int devices = 0;     // 0: the fewest that do
  int batch = 0;       // sequences at once on all devices; 0: as many as there is room and time for
  double tpot_ms = 0;  // most that is allowed; 0: any
  int tensor_parallel = 0;  // ranks; 0: what gives most
  bool sends_directly = false;
  bool overlaps_transfers = true;

  // Of a sequence on average while it answers.
  double context_tokens() const { return prompt_tokens + output_tokens / 2; }
};

enum class BatchLimit { memory, tpot, asked };
std::string_view name(BatchLimit limit);

struct Plan {
  int devices = 0;
  Layout layout;
  MemoryUse memory;
  double largest_batch = 0;  // that memory holds, on all devices
  double batch = 0;          // on all devices
  BatchLimit batch_limit = BatchLimit::memory;
  DecodeBound decode;
  PrefillBound prefill;
  MixedBound mixed;
  double ttft_ms = 0;
};

// The layout of the fewest devices (or of the number that was asked for) that gives most tokens a
// second. Nothing, with the reason in `why_not`, where no number of devices up to 1024 does.
std::optional<Plan> make_plan(const Question& question, const Device& device, std::string& why_not);

}  // namespace ridge::planner
