#include "backend/ascend/twin/order.h"

#include <algorithm>

namespace ridge::backend::ascend::twin {

namespace {

void raise(Clock::Lanes& to, const Clock::Lanes& by) {
  for (int lane = 0; lane < clock_lanes; ++lane) to[lane] = std::max(to[lane], by[lane]);
}

}  // namespace

uint32_t Clock::of(int core, int other_core, int lane) const {
  if (other_core == core) return own_[lane];
  return others_ ? (*others_)[other_core][lane] : 0;
}

void Clock::join(const Clock& other) {
  raise(own_, other.own_);
  if (other.others_ == others_ || !other.others_) return;
  if (!others_) {
    others_ = other.others_;
    return;
  }
  auto joined = std::make_shared<std::vector<Lanes>>(*others_);
  for (size_t c = 0; c < joined->size(); ++c) raise((*joined)[c], (*other.others_)[c]);
  others_ = std::move(joined);
}

void Clock::join_all(int core, const std::vector<Lanes>& others) {
  auto joined = std::make_shared<std::vector<Lanes>>(others);
  if (others_) {
    for (size_t c = 0; c < joined->size(); ++c) raise((*joined)[c], (*others_)[c]);
  }
  // What others know of this core came from it.
  raise(own_, (*joined)[core]);
  others_ = std::move(joined);
}

std::vector<Clock::Lanes> Clock::publish(int core, int cores) const {
  std::vector<Lanes> all = others_ ? *others_ : std::vector<Lanes>(cores);
  raise(all[core], own_);
  return all;
}

void Cell::add(const Record& record) {
  const auto covered = [&](const Record& old) {
    if ((old.mask & ~record.mask) != 0 || (old.adds && record.adds)) return false;
    if (record.write) return true;
    return !old.write && old.core == record.core && old.lane == record.lane;
  };
  int kept = 0;
  for (int i = 0; i < count_; ++i) {
    if (!covered(first_[i])) first_[kept++] = first_[i];
  }
  count_ = kept;
  std::erase_if(more_, covered);
  if (count_ < static_cast<int>(first_.size())) {
    first_[count_++] = record;
  } else {
    more_.push_back(record);
  }
}

}  // namespace ridge::backend::ascend::twin
