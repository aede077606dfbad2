#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/cpu/buffer.h"
#include "backend/cpu/expert_pages.h"
#include "backend/cpu/tile_format.h"
#include "backend/prepared_store.h"
#include "backend/weight.h"
#include "base/thread_team.h"

namespace ridge::backend::cpu {

// The name of the tiles' layout on a disk (Device::prepared_layout): a higher number for each
// change of what stands in them. PreparedWeight.LayoutNameChangesWithTheLayout in the tests notices
// one.
inline constexpr const char* tile_layout = "cpu-tiles-1";

// One segment's rows in tiles (see tile_format.h); plain dtypes as [K][16] elements.
struct WeightPart {
  DType dtype;
  int64_t first_row;  // within the weight
  int64_t rows;       // of one expert
  int64_t units;      // of a strip; plain dtypes: columns
  // The rows lie in the file from `source_row` on, of source_rows that an expert has there.
  int64_t source_row;
  int64_t source_rows;
  size_t strip_bytes;
  const std::byte* tiles;  // [experts][strips][strip_bytes]; null where experts are paged

  int64_t strips() const { return (rows + strip_rows - 1) / strip_rows; }
  // Of one expert.
  uint64_t tile_bytes() const { return strip_bytes * static_cast<uint64_t>(strips()); }
  const std::byte* strip(int64_t index, int64_t expert = 0) const {
    return tiles + (expert * strips() + index) * strip_bytes;
  }
};

// Packs strip `index` of one expert of a segment into to[strip_bytes].
void pack_rows(const WeightPart& part, const TensorView& segment, int64_t expert, int64_t index,
               std::byte* to);

// Bytes of `rows` that the team packs in a second, into memory of each member's own; the better of
// two rounds.
double measure_packing(std::span<const TensorView> rows, ThreadTeam& team);

class CpuWeight final : public Weight {
 public:
  // As Device::prepare_weight; `store` may be nullptr. The pager must outlive it.
  CpuWeight(const WeightSource& source, ThreadTeam& team, PreparedStore* store, MemoryPool& pool,
            ExpertPager& pager);
  // Bytes of the tiles.
  static uint64_t prepared_bytes(const WeightSource& source);

  const std::vector<WeightPart>& parts() const { return parts_; }
  // Null unless its experts are paged.
  ExpertPages* pages() const { return pages_.get(); }
  // Float32 [columns] of a `vector` weight.
  const float* values() const { return values_.data(); }
  // Row `index` dequantised into out[columns]; of an expert where the weight was not prepared for
  // `embedding`.
  void gather(int64_t index, float* out, int64_t expert = 0) const;

 private:
  void prepare_vector(const WeightSource& source);
  void prepare_tiles(const WeightSource& source, ThreadTeam& team, PreparedStore* store,
                     MemoryPool& pool);
  void prepare_pages(const WeightSource& source, MemoryPool& pool, ExpertPager& pager);
  void pack_tiles(const WeightSource& source, ThreadTeam& team);
  void prepare_transposed(const WeightSource& source, ThreadTeam& team, MemoryPool& pool);

  std::vector<WeightPart> parts_;
  Memory tiles_;  // empty where the tiles lie in a PreparedStore
  std::vector<float> values_;
  std::unique_ptr<ExpertPages> pages_;
  std::vector<TensorView> source_rows_;  // embedding only: gathered from the file where it lies
};

}  // namespace ridge::backend::cpu
