#include "server/group_pool.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "longest_wait.h"

namespace ridge::server::group_pool_test {
namespace {

// Work that tells that it was begun, and lasts until it is let go.
class Journal {
 public:
  GroupPool::Work held(std::string name) {
    return [this, name = std::move(name)] {
      std::unique_lock lock(mutex_);
      begun_.push_back(name);
      changed_.notify_all();
      changed_.wait(lock, [&] { return permits_ > 0; });
      --permits_;
    };
  }
  // Until exactly these have begun, in this order; what has begun else fails the test.
  void expect_begun(const std::vector<std::string>& names) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, longest_wait, [&] { return begun_.size() >= names.size(); });
    EXPECT_EQ(begun_, names);
  }
  void let_go(int how_many = 1) {
    const std::lock_guard lock(mutex_);
    permits_ += how_many;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> begun_;
  int permits_ = 0;
};

TEST(GroupPool, GroupsTakeTurnsHoweverMuchOneHasPosted) {
  Journal journal;
  GroupPool pool(1);
  for (int i = 0; i < 100; ++i) pool.post("greedy", journal.held("g" + std::to_string(i)));
  journal.expect_begun({"g0"});
  pool.post("b", journal.held("b0"));
  pool.post("b", journal.held("b1"));
  pool.post("c", journal.held("c0"));
  std::vector<std::string> begun = {"g0"};
  for (const char* next : {"b0", "c0", "g1", "b1", "g2", "g3"}) {
    begun.emplace_back(next);
    journal.let_go();
    journal.expect_begun(begun);
  }
  journal.let_go(1000);
}

TEST(GroupPool, OneGroupNeverHoldsAllThreads) {
  Journal journal;
  GroupPool pool(3);
  for (int i = 0; i < 10; ++i) pool.post("greedy", journal.held("g"));
  journal.expect_begun({"g", "g"});
  pool.post("b", journal.held("b"));
  journal.expect_begun({"g", "g", "b"});
  // Whoever holds least goes first, whoever came first.
  pool.post("c", journal.held("c"));
  journal.let_go();
  journal.expect_begun({"g", "g", "b", "c"});
  journal.let_go(1000);
}

TEST(GroupPool, GivesBackWhatWorkReturnsAndThrows) {
  asio::io_context here;
  GroupPool pool(2);
  const auto run = [&](auto work) {
    auto result = asio::co_spawn(here, on_pool(pool, "a", std::move(work)), asio::use_future);
    here.restart();
    here.run();
    return result.get();
  };
  EXPECT_EQ(run([] { return std::make_unique<int>(7); }).operator*(), 7);
  EXPECT_THROW(run([]() -> int { throw std::runtime_error("bad"); }), std::runtime_error);
  bool was_run = false;
  run([&] { was_run = true; });
  EXPECT_TRUE(was_run);
}

TEST(GroupPool, WhatWaitsAtItsEndIsNeverBegun) {
  asio::io_context here;
  bool was_begun = false;
  {
    Journal journal;
    GroupPool pool(1);
    pool.post("a", journal.held("first"));
    journal.expect_begun({"first"});
    const auto work = [&] { was_begun = true; };
    asio::co_spawn(here, on_pool(pool, "a", work), [](const std::exception_ptr&) {});
    here.poll();
    pool.stop();  // as its end does; before what runs is let go, or the next may begin
    journal.let_go();
  }
  EXPECT_FALSE(was_begun);
}

}  // namespace
}  // namespace ridge::server::group_pool_test
