#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/buffer.h"
#include "backend/cpu/expert_rows.h"
#include "backend/device.h"
#include "backend/weight.h"

namespace ridge::backend::cpu {

struct WeightPart;
class ExpertPages;

// What the paged weights of a device have in common.
class ExpertPager {
 public:
  ExpertCounters counters() const;

 private:
  friend class ExpertPages;
  struct Read {
    ExpertPages* pages;
    int expert;
  };
  // What the last step read and nobody reads any more, now that another begins.
  void release();
  void forget(const ExpertPages* pages);

  std::vector<Read> reads_;
  std::atomic<uint64_t> held_bytes_{0};
  std::atomic<uint64_t> hits_{0};
  std::atomic<uint64_t> misses_{0};
  std::atomic<uint64_t> read_bytes_{0};
};

// The experts of one weight that stay in the file: some of them, those used most, are held in tiles;
// a strip of any other is packed from its rows when a kernel is about to read it, by the member of
// the team that will, so that it meets the same bytes as if it had been packed at load.
//
// An expert takes another's place when it was used more often. Uses are counted by steps and halved
// now and then, so that what was needed long ago goes.
class ExpertPages {
 public:
  // The parts are the weight's, without tiles, and must outlive it.
  ExpertPages(const WeightSource& source, const std::vector<WeightPart>& parts, int64_t experts,
              MemoryPool& pool, ExpertPager& pager);
  ~ExpertPages();
  ExpertPages(const ExpertPages&) = delete;
  ExpertPages& operator=(const ExpertPages&) = delete;

  // At the start of a step that multiplies all strips of these experts: by one member, before the
  // others go on. Throws what ExpertPaging::fetch throws; then nothing has changed.
  void begin(std::span<const ExpertGroup> groups);
  // A step that follows soon will begin with these.
  void will_read(std::span<const ExpertGroup> groups) const;

  // A strip's tiles; may be packed into scratch[strip_bytes], 64-aligned. Until the step ends only
  // one member may ask for the same.
  const std::byte* strip(const WeightPart& part, int64_t index, int expert,
                         std::byte* scratch) const;
  // The same where it needs no packing, else nullptr.
  const std::byte* packed_strip(const WeightPart& part, int64_t index, int expert) const;

 private:
  friend class ExpertPager;
  struct Place {
    int slot = -1;
    bool is_packed = false;  // all of it, since an earlier step
  };

  TensorView rows_of(size_t part, int expert) const;
  template <typename Fn>
  void for_each_part(int expert, Fn fn) const;
  std::byte* in_slot(const WeightPart& part, int64_t index, int slot) const;
  void admit(int expert);

  const ExpertPaging paging_;
  const std::vector<TensorView> segments_;
  const std::vector<WeightPart>& parts_;
  std::vector<size_t> part_offsets_;  // within an expert's tiles
  size_t expert_bytes_ = 0;           // of tiles
  uint64_t source_bytes_ = 0;         // of an expert in the file
  ExpertPager& pager_;
  Memory slots_;                      // [slots][expert_bytes]
  std::vector<int> expert_of_slot_;   // -1: free
  std::vector<Place> places_;         // [experts]
  std::vector<int> unpacked_;         // experts that got their slot in the last step
  std::vector<uint32_t> uses_;        // [experts]
  std::vector<bool> in_step_;         // [experts]
  uint32_t steps_ = 0;
};

}  // namespace ridge::backend::cpu
