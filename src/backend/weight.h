#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tensor/view.h"

namespace ridge::backend {

// How ops will read a weight; a tied embedding is read both ways.
enum class WeightUse : uint8_t {
  linear = 1,    // W[N, K] of linear, head_linear, expert_linear, lora_linear
  embedding = 2, // rows gathered by embed
  vector = 4,    // a norm's weight, a bias, RoPE factors, sinks; read as float32
};

constexpr WeightUse operator|(WeightUse a, WeightUse b) {
  return static_cast<WeightUse>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr bool has_use(WeightUse set, WeightUse use) {
  return (static_cast<uint8_t>(set) & static_cast<uint8_t>(use)) != 0;
}

// The part of a weight that one rank of a tensor-parallel group holds: rows_of_rank of the rows, or
// as many columns as the others.
struct Shard {
  enum class Axis : uint8_t { none, rows, columns };
  Axis axis = Axis::none;
  int rank = 0;
  int ranks = 1;
};

// One rank's part of `extent` rows.
struct RowRange {
  int64_t first = 0;
  int64_t count = 0;
};
// Parts as even as they can be, of whole runs of 16 rows where there are enough of those. No part is
// empty where extent >= ranks.
RowRange rows_of_rank(int64_t extent, int rank, int ranks);

// How experts of a weight that stay where the file has them are read. The functions concern some of
// the weight's rows, and are called on the thread that runs a program.
struct ExpertPaging {
  int held = 0;  // experts kept in memory at once, in the device's own layout
  std::function<void(const TensorView&)> will_read;  // soon: reading may begin
  std::function<void(const TensorView&)> fetch;      // now; throws what the file throws
  std::function<void(const TensorView&)> release;    // not again soon
};

// A weight as files hold it: row segments of equal width, stacked. A merged QKV of a Q4_K_M file has
// three segments and two dtypes. Expert weights have rank 3, [experts, rows, columns], and are stacked
// along rows within each expert.
struct WeightSource {
  std::string name;                  // for messages: "blk.0.attn_qkv"
  std::vector<TensorView> segments;  // each [rows_i, columns] or [experts, rows_i, columns]
  WeightUse use = WeightUse::linear;
  Shard shard;
  bool transposed = false;  // ops read Wᵀ: x[T, rows] → [T, columns]
  // Made for rows of x in int8, with a scale for each: a device may multiply them so, where each row of
  // the weight has one scale too. Others keep x as precise as ever.
  bool int8_activations = false;
  bool by_heads = false;  // of head_linear: experts are heads, each of which multiplies a run of a row of x
  // Of experts alone, and only for devices that can (Device::pages_experts).
  std::optional<ExpertPaging> paging;
};

// A weight prepared by one device.
class Weight {
 public:
  virtual ~Weight() = default;
  const std::string& name() const { return name_; }
  int64_t experts() const { return experts_; }  // 1 for a plain matrix
  int64_t rows() const { return rows_; }        // N, over all segments; of one expert
  int64_t columns() const { return columns_; }  // K
  // Bytes that a step reads to use all of it.
  uint64_t size_bytes() const { return size_bytes_; }
  // Whether it still reads the source's bytes, so that the file must stay mapped.
  bool keeps_source() const { return keeps_source_; }

 protected:
  std::string name_;
  int64_t experts_ = 1;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  uint64_t size_bytes_ = 0;
  bool keeps_source_ = false;
};

// Checks what every back end must: at least one segment, equal columns and experts, whole blocks.
// Throws invalid_file naming the weight. Returns {experts, rows, columns} as the file stores them.
// For WeightUse::vector the segments are joined end to end instead, {1, 1, total}.
Shape stacked_shape(const WeightSource& source);

}  // namespace ridge::backend
