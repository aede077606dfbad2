#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace ridge::server {

namespace asio = boost::asio;

// Threads that groups of requests share. The work of one group is begun in the order in which it
// came. A thread that is free takes work of the group that holds the fewest threads; among those of
// the group whose last turn ended the longest ago. No group ever holds all threads, where there are
// several: work of another that comes finds one free, or held by a third.
//
// What waits is not bounded here, as each request has one piece of work at most: the connections
// are.
class GroupPool {
 public:
  using Work = std::function<void()>;

  explicit GroupPool(int threads);  // at least one
  // Stops, and waits for what runs.
  ~GroupPool() = default;
  GroupPool(const GroupPool&) = delete;
  GroupPool& operator=(const GroupPool&) = delete;

  // Any thread. `work` must not throw.
  void post(const std::string& group, Work work);
  // From now on nothing is begun: neither what waits nor what comes. Waits for nothing. Any thread.
  void stop() { pool_.stop(); }

 private:
  struct Group {
    std::string name;
    std::deque<Work> waiting;
    int running = 0;
  };
  using Place = std::list<Group>::iterator;

  void begin_locked();
  Place next_locked();
  void ended(Place group);

  const int threads_;
  const int most_of_group_;
  std::mutex mutex_;
  std::list<Group> groups_;  // that have work; the last turn of the first ended the longest ago
  int running_ = 0;
  asio::thread_pool pool_;  // goes first, as its threads use the rest
};

// Runs `work` in turn on a thread of the pool and returns its result or its exception. The pool must
// end before what the coroutine runs on.
template <typename Work>
asio::awaitable<std::invoke_result_t<Work>> on_pool(GroupPool& pool, std::string group, Work work) {
  using Result = std::invoke_result_t<Work>;
  std::exception_ptr failure;
  std::optional<std::conditional_t<std::is_void_v<Result>, std::monostate, Result>> result;
  const auto run = [&] {
    try {
      if constexpr (std::is_void_v<Result>) {
        work();
      } else {
        result.emplace(work());
      }
    } catch (...) {
      failure = std::current_exception();
    }
  };
  // All that `run` refers to lives until `resume` is called.
  const auto begin = [&pool, &group, &run](auto resume) {
    const auto executor = asio::get_associated_executor(resume);
    const auto shared = std::make_shared<decltype(resume)>(std::move(resume));
    pool.post(group, [&run, shared, guard = asio::make_work_guard(executor)] {
      run();
      asio::post(guard.get_executor(), std::move(*shared));
    });
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(begin, asio::use_awaitable);
  if (failure) std::rethrow_exception(failure);
  if constexpr (!std::is_void_v<Result>) co_return std::move(*result);
}

}  // namespace ridge::server
