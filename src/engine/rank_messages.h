#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "engine/step_runner.h"

// What the engine and its ranks tell each other. All are the same program on the same kind of machine,
// so that values travel as they lie in memory.
namespace ridge::engine {

// From the engine, to all ranks by way of rank 0.
struct RankOrder {
  enum class Kind : uint32_t {
    prepare,       // RunnerLimits: makes the runner
    run,           // inputs: answered with logits
    hidden,        // nothing: with the hidden states of the last run
    run_hidden,    // inputs: with hidden states
    run_guessing,  // inputs and hidden states: with the layer's own states
    run_guess,     // states: with logits
    export_block,  // a block's number: with its bytes, rank by rank
    import_block,  // a block's number and such bytes: with nothing
    leave,         // of rank 0 to the others, when its link was closed
  };
  Kind kind = Kind::leave;
  uint32_t inputs = 0;  // int32 values of StepInputs in front of the rest
  uint64_t bytes = 0;   // that follow, those of the inputs among them
};
inline constexpr size_t rank_orders = static_cast<size_t>(RankOrder::Kind::leave) + 1;  // kinds

// From rank 0.
struct RankAnswer {
  enum class Kind : uint32_t {
    progress,  // RankProgress; while the model is loaded
    reports,   // a RankReport of each rank: all have loaded, or one could not
    done,      // what was asked for
  };
  Kind kind = Kind::done;
  uint64_t bytes = 0;  // that follow
};

struct RankProgress {
  int64_t done_bytes = 0, total_bytes = 0;  // of rank 0
};

// How a rank has loaded its part of the model.
struct RankReport {
  bool has_failed = false;
  uint32_t error_code = 0;  // as ErrorCode
  std::array<char, 1024> message{};  // ends with 0
  uint64_t host = 0;              // the same for ranks of one machine
  uint64_t available_bytes = 0;   // of that machine's memory, once all of its ranks had loaded
  uint64_t cache_token_bytes = 0; // of this rank's cache for one token, as the model's would be
};

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return std::as_bytes(std::span(&value, 1));
}
template <typename T>
std::span<std::byte> bytes_of(T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return std::as_writable_bytes(std::span(&value, 1));
}

// Without adapters.
std::vector<int32_t> pack(const StepInputs& inputs);
// `values` is what pack gave for inputs of as wide block tables.
void unpack(std::span<const int32_t> values, StepInputs& inputs);

}  // namespace ridge::engine
