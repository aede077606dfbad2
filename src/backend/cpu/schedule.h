#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "backend/communicator.h"
#include "backend/cpu/buffer.h"
#include "backend/cpu/kernels.h"
#include "backend/first_fit.h"
#include "backend/ops.h"
#include "base/thread_team.h"

// What a recording becomes on a CPU: a list of steps that a team, or a part of it, runs together, with
// one barrier after each.
namespace ridge::backend::cpu {

// Where activations lie. Storages whose lives do not overlap share memory.
class Arena {
 public:
  // Steps are numbered in order; a storage lives from its first use to its last.
  void use(int storage, int step);
  void keep_to_end(int storage);
  void allocate(const Recording& recording);

  float* at(Value value) const { return static_cast<float*>(raw(value)); }
  int32_t* ids_at(Value value) const { return static_cast<int32_t*>(raw(value)); }
  int8_t* codes_at(Value value) const;
  int64_t stride(Value value) const { return columns_[value.storage]; }
  size_t size_bytes() const { return memory_.size_bytes(); }

 private:
  void* raw(Value value) const;

  std::vector<MemoryPiece> pieces_;
  std::vector<int> columns_;
  std::vector<std::byte*> data_;
  Memory memory_;
};

// The step's inputs as the host sees them.
struct StepPointers {
  const int32_t* token_ids = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* slots = nullptr;
  const int32_t* query_starts = nullptr;
  const int32_t* context_lengths = nullptr;
  const int32_t* block_tables = nullptr;
  const int32_t* output_rows = nullptr;
  const int32_t* adapter_of_row = nullptr;
  const int32_t* block_copies = nullptr;
  int blocks_per_sequence = 0;

  explicit StepPointers(const Recording& recording);
};

// One replay, as every member of the team sees it.
struct Run {
  const KernelTable& kernels;
  const Arena& arena;
  const StepPointers& inputs;
  StepShape shape;
  ThreadTeam& team;
  int members;  // of the team, that take part
  std::byte* shared_scratch;
  std::vector<Memory>& member_scratch;
  std::atomic<int64_t>* counters;  // one for each step, zero when the run begins
  bool batch_invariant;            // as StepLimits
  // What kept a step from its weights. Written by one member before a barrier of all; the steps of
  // experts that follow do nothing, and the run throws it.
  std::exception_ptr failure = nullptr;

  int rows(Rows kind) const { return kind == Rows::tokens ? shape.tokens : shape.outputs; }
};

// Of latent attention (latent_forms.h); automatically whichever costs less.
enum class LatentForm : uint8_t { automatic, absorbed, expanded };

// Items that members take in chunks which shrink, so that all end at about the same time; a
// neighbour on the machine may slow one thread down at any time.
struct Tapering {
  int64_t items;
  int64_t divisor;  // a chunk has so small a part of what is left
  int64_t least = 1;
  int64_t most = std::numeric_limits<int64_t>::max();
  int64_t row = std::numeric_limits<int64_t>::max();  // no chunk reaches over a multiple of it
};
struct Chunk {
  int64_t first, last;
};
// The next chunk, or none. next: zero at first
inline std::optional<Chunk> take_chunk(std::atomic<int64_t>& next, const Tapering& of) {
  int64_t first = next.load(std::memory_order_relaxed);
  while (first < of.items) {
    const int64_t left = of.items - first;
    const int64_t wanted = std::clamp(left / of.divisor, of.least, of.most);
    const int64_t count = std::min({wanted, left, of.row - first % of.row});
    if (next.compare_exchange_weak(first, first + count, std::memory_order_relaxed)) {
      return Chunk{first, first + count};
    }
  }
  return std::nullopt;
}

class Step {
 public:
  virtual ~Step() = default;
  // Called by every member that takes part, at once.
  virtual void run(Run& run, int member) = 0;
  virtual std::vector<Value> values() const = 0;
  virtual size_t shared_scratch_bytes() const { return 0; }
  virtual size_t member_scratch_bytes() const { return 0; }
  // Whether the next step may start before all members have ended this one.
  virtual bool runs_into_next() const { return false; }

  int index = 0;  // in the schedule

 protected:
  // Work that costs about the same each, taken in chunks by whoever is free. Once in a step's run.
  template <typename Fn>
  void share(Run& run, int64_t items, int64_t chunk, Fn fn) const {
    std::atomic<int64_t>& next = run.counters[index];
    for (int64_t first = next.fetch_add(chunk); first < items; first = next.fetch_add(chunk)) {
      const int64_t last = first + chunk < items ? first + chunk : items;
      for (int64_t item = first; item < last; ++item) fn(item);
    }
  }

  // Likewise in chunks that begin large, for whoever reads on where it stopped reads fastest.
  template <typename Fn>
  void share_tapering(Run& run, int64_t items, int64_t least, Fn fn) const {
    const Tapering all = {.items = items, .divisor = int64_t{3} * run.members, .least = least};
    while (const auto chunk = take_chunk(run.counters[index], all)) {
      for (int64_t item = chunk->first; item < chunk->last; ++item) fn(item);
    }
  }
};

// Calls fn for this member's part of `rows` rows.
template <typename Fn>
void split_rows(int rows, int members, int member, Fn fn) {
  const int last = static_cast<int>(static_cast<int64_t>(rows) * (member + 1) / members);
  for (int r = static_cast<int>(static_cast<int64_t>(rows) * member / members); r < last; ++r)
    fn(r);
}

// Turns ops into steps, fusing norm → linear, gate·up → activation, linear → residual, RoPE → store
// → attention, and latent attention with the head_linears around it. communicator: nullptr for one
// rank alone. Throws unsupported, naming the op.
std::vector<std::unique_ptr<Step>> make_schedule(const Recording& recording, int members,
                                                 const KernelTable& kernels, LatentForm latent_form,
                                                 Communicator* communicator = nullptr);

}  // namespace ridge::backend::cpu
