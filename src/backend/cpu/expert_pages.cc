#include "backend/cpu/expert_pages.h"

#include <algorithm>

#include "backend/cpu/weight.h"

namespace ridge::backend::cpu {

namespace {

constexpr uint32_t steps_between_halvings = 4096;

}  // namespace

ExpertCounters ExpertPager::counters() const {
  return {.held_bytes = held_bytes_.load(std::memory_order_relaxed),
          .hits = hits_.load(std::memory_order_relaxed),
          .misses = misses_.load(std::memory_order_relaxed),
          .read_bytes = read_bytes_.load(std::memory_order_relaxed)};
}

void ExpertPager::release() {
  for (const Read& read : reads_) {
    read.pages->for_each_part(read.expert, read.pages->paging_.release);
  }
  reads_.clear();
}

void ExpertPager::forget(const ExpertPages* pages) {
  std::erase_if(reads_, [&](const Read& read) { return read.pages == pages; });
}

ExpertPages::ExpertPages(const WeightSource& source, const std::vector<WeightPart>& parts,
                         int64_t experts, MemoryPool& pool, ExpertPager& pager)
    : paging_(*source.paging),
      segments_(source.segments),
      parts_(parts),
      pager_(pager),
      places_(static_cast<size_t>(experts)),
      uses_(static_cast<size_t>(experts)),
      in_step_(static_cast<size_t>(experts)) {
  for (const WeightPart& part : parts_) {
    part_offsets_.push_back(expert_bytes_);
    expert_bytes_ += part.tile_bytes();
  }
  for (const TensorView& segment : segments_) {
    source_bytes_ += segment.bytes.size() / static_cast<uint64_t>(experts);
  }
  expert_of_slot_.assign(static_cast<size_t>(std::min<int64_t>(paging_.held, experts)), -1);
  const size_t bytes = expert_of_slot_.size() * expert_bytes_;
  if (bytes > 0) slots_ = pool.take(bytes);
  pager_.held_bytes_ += bytes;
}

ExpertPages::~ExpertPages() {
  pager_.forget(this);
  pager_.held_bytes_ -= expert_of_slot_.size() * expert_bytes_;
}

TensorView ExpertPages::rows_of(size_t part, int expert) const {
  const TensorView& segment = segments_[part];
  const int64_t rows = parts_[part].rows;
  const size_t bytes = row_bytes(segment.dtype, segment.shape.columns()) * static_cast<size_t>(rows);
  return {segment.dtype, Shape{rows, segment.shape.columns()},
          segment.bytes.subspan(static_cast<size_t>(expert) * bytes, bytes)};
}

template <typename Fn>
void ExpertPages::for_each_part(int expert, Fn fn) const {
  for (size_t part = 0; part < parts_.size(); ++part) fn(rows_of(part, expert));
}

void ExpertPages::will_read(std::span<const ExpertGroup> groups) const {
  for (const ExpertGroup& group : groups) {
    if (places_[static_cast<size_t>(group.expert)].slot >= 0) continue;
    for_each_part(group.expert, paging_.will_read);
  }
}

void ExpertPages::begin(std::span<const ExpertGroup> groups) {
  pager_.release();
  for (int expert : unpacked_) places_[static_cast<size_t>(expert)].is_packed = true;
  unpacked_.clear();
  will_read(groups);
  uint64_t misses = 0;
  for (const ExpertGroup& group : groups) {
    if (places_[static_cast<size_t>(group.expert)].slot >= 0) continue;
    for_each_part(group.expert, paging_.fetch);
    pager_.reads_.push_back({this, group.expert});
    ++misses;
  }
  pager_.hits_ += groups.size() - misses;
  pager_.misses_ += misses;
  pager_.read_bytes_ += misses * source_bytes_;
  if (expert_of_slot_.empty()) return;
  for (const ExpertGroup& group : groups) {
    ++uses_[static_cast<size_t>(group.expert)];
    in_step_[static_cast<size_t>(group.expert)] = true;
  }
  for (const ExpertGroup& group : groups) {
    if (places_[static_cast<size_t>(group.expert)].slot < 0) admit(group.expert);
  }
  for (const ExpertGroup& group : groups) in_step_[static_cast<size_t>(group.expert)] = false;
  if (++steps_ % steps_between_halvings == 0) {
    for (uint32_t& uses : uses_) uses /= 2;
  }
}

// Into a free slot, or that of the expert used least of those that this step does not read.
void ExpertPages::admit(int expert) {
  int best = -1;
  for (size_t slot = 0; slot < expert_of_slot_.size(); ++slot) {
    const int there = expert_of_slot_[slot];
    if (there < 0) {
      best = static_cast<int>(slot);
      break;
    }
    if (in_step_[static_cast<size_t>(there)]) continue;
    if (best >= 0 && uses_[static_cast<size_t>(there)] >=
                         uses_[static_cast<size_t>(expert_of_slot_[static_cast<size_t>(best)])]) {
      continue;
    }
    best = static_cast<int>(slot);
  }
  if (best < 0) return;
  const int there = expert_of_slot_[static_cast<size_t>(best)];
  if (there >= 0) {
    if (uses_[static_cast<size_t>(there)] >= uses_[static_cast<size_t>(expert)]) return;
    places_[static_cast<size_t>(there)] = {};
  }
  expert_of_slot_[static_cast<size_t>(best)] = expert;
  places_[static_cast<size_t>(expert)] = {.slot = best};
  unpacked_.push_back(expert);
}

std::byte* ExpertPages::in_slot(const WeightPart& part, int64_t index, int slot) const {
  const auto at = static_cast<size_t>(&part - parts_.data());
  return slots_.data() + static_cast<size_t>(slot) * expert_bytes_ + part_offsets_[at] +
         static_cast<size_t>(index) * part.strip_bytes;
}

const std::byte* ExpertPages::packed_strip(const WeightPart& part, int64_t index,
                                           int expert) const {
  const Place& place = places_[static_cast<size_t>(expert)];
  return place.is_packed ? in_slot(part, index, place.slot) : nullptr;
}

const std::byte* ExpertPages::strip(const WeightPart& part, int64_t index, int expert,
                                    std::byte* scratch) const {
  const Place& place = places_[static_cast<size_t>(expert)];
  std::byte* to = place.slot < 0 ? scratch : in_slot(part, index, place.slot);
  if (!place.is_packed) {
    pack_rows(part, segments_[static_cast<size_t>(&part - parts_.data())], expert, index, to);
  }
  return to;
}

}  // namespace ridge::backend::cpu
