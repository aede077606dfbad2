#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "backend/communicator.h"
#include "base/error.h"

namespace ridge::backend {

// A group of ranks that are threads of this process.
class ThreadRanks {
 public:
  explicit ThreadRanks(int ranks) : spans_(static_cast<size_t>(ranks)) {}

  // Runs `task` for each rank in a thread of its own, and returns when all have ended. It must not
  // throw.
  void run(const std::function<void(Communicator&)>& task) {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < static_cast<int>(spans_.size()); ++rank) {
      threads.emplace_back([this, rank, &task] {
        Member member(*this, rank);
        task(member);
      });
    }
  }

 private:
  class Member final : public Communicator {
   public:
    Member(ThreadRanks& group, int rank) : group_(group), rank_(rank) {}
    int rank() const override { return rank_; }
    int ranks() const override { return static_cast<int>(group_.spans_.size()); }
    void all_gather(std::span<const std::byte> own, std::span<const size_t> counts,
                    std::span<std::byte> all) override {
      RIDGE_ASSERT(counts[static_cast<size_t>(rank_)] == own.size());
      group_.spans_[static_cast<size_t>(rank_)] = own;
      group_.meet();
      size_t at = 0;
      for (size_t r = 0; r < counts.size(); ++r) {
        RIDGE_ASSERT(group_.spans_[r].size() == counts[r]);
        std::memcpy(all.data() + at, group_.spans_[r].data(), counts[r]);
        at += counts[r];
      }
      RIDGE_ASSERT(at == all.size());
      group_.meet();
    }
    void broadcast(std::span<std::byte> bytes) override {
      if (rank_ == 0) group_.spans_[0] = bytes;
      group_.meet();
      if (rank_ != 0) std::memcpy(bytes.data(), group_.spans_[0].data(), bytes.size());
      group_.meet();
    }

   private:
    ThreadRanks& group_;
    const int rank_;
  };

  // Returns when all ranks have come. It sleeps: where there are fewer processors than ranks, who
  // spins takes the time of those that it waits for.
  void meet() {
    std::unique_lock lock(mutex_);
    const uint64_t meeting = meetings_;
    if (++arrived_ == spans_.size()) {
      arrived_ = 0;
      ++meetings_;
      all_are_here_.notify_all();
    } else {
      all_are_here_.wait(lock, [&] { return meetings_ != meeting; });
    }
  }

  std::mutex mutex_;
  std::condition_variable all_are_here_;
  size_t arrived_ = 0;
  uint64_t meetings_ = 0;
  std::vector<std::span<const std::byte>> spans_;
};

}  // namespace ridge::backend
