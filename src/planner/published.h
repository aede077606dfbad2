#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "planner/bound.h"

namespace ridge::planner {

// A result that others published, and under which conditions, as far as they state them.
struct PublishedRow {
  enum class Phase { prefill, decode, mixed };
  enum class Unit { input, output, total };  // tokens that are counted

  std::string name;
  std::string stack;     // a name of `Stack`
  std::string reported;  // as its source words it
  std::string source;
  std::string assumed;   // what its source does not state, and was taken here
  std::string unusable;  // why it is not compared; empty where it is
  std::string miss;      // why the estimate misses it by more than 25 %, where it does
  bool is_fitted = false;
  Phase phase = Phase::decode;
  Unit unit = Unit::output;
  double tokens_per_second = 0;  // of one device
  std::string model;
  std::string weights;
  std::string cache;
  std::string device;
  int devices = 1;
  int tensor_parallel = 1;  // ranks
  bool spreads_experts = true;
  bool shared_apart = false;
  bool sends_directly = false;
  bool overlaps_transfers = true;
  double batch = 0;  // sequences of one device
  double prompt_tokens = 0;
  double output_tokens = 0;
  double cached_share = 0;
  double prefill_batch_tokens = 16384;  // of each replica
  Speculation speculation;
};

// A software stack: what of the bound it reaches is one number, fitted on one row.
struct Stack {
  std::string name;
  std::string title;
};

struct PublishedTable {
  std::vector<Stack> stacks;
  std::vector<PublishedRow> rows;

  static PublishedTable built_in();
  // Throws invalid_file, also where a stack with rows that can be used has not exactly one fitted.
  static PublishedTable parse(std::string_view toml, std::string_view source);
  // Throws invalid_argument naming those that are known.
  const Stack& stack(std::string_view name) const;
};

// How far an estimate may be from what was published, as a share of that.
inline constexpr double tolerated_error = 0.25;

struct Comparison {
  const PublishedRow* row = nullptr;
  double bound = 0;     // tokens/s of one device, in the row's layout; 0 where it is unusable
  double ideal = 0;     // likewise, if all transfers overlapped and each token went once to a node
  double estimate = 0;  // bound x the stack's efficiency
  double error = 0;     // (estimate - published) / published; 0 of a fitted row
  Limit limit = Limit::compute;

  bool is_compared() const { return row->unusable.empty(); }
  bool is_tested() const { return is_compared() && !row->is_fitted; }
  bool is_within() const { return error <= tolerated_error && error >= -tolerated_error; }
};

struct Validation {
  std::vector<std::pair<Stack, double>> efficiencies;  // 0 where a stack has no row to fit
  std::vector<Comparison> rows;                        // all, in the order of the file

  double efficiency(std::string_view stack) const;
};

// Throws invalid_argument for a row whose model, device or format is not known.
Validation validate(const PublishedTable& table, const DeviceTable& devices,
                    const ModelTable& models);

}  // namespace ridge::planner
