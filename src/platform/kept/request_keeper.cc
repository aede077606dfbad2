#include "platform/kept/request_keeper.h"

#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace ridge::platform {
namespace {

constexpr std::chrono::seconds between_warnings{60};

std::size_t size_of(const KeptRequest& request) {
  return sizeof(KeptRequest) + request.prompt.size() + request.answer.size();
}

}  // namespace

RequestKeeper::RequestKeeper(KeptRequests requests, const RequestKeeperOptions& options)
    : requests_(std::move(requests)), options_(options) {
  looker_ = std::jthread([this](const std::stop_token& stop) { run_looks(stop); });
  writer_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

RequestKeeper::~RequestKeeper() = default;

void RequestKeeper::keep(KeptRequest request) {
  const std::size_t bytes = size_of(request);
  {
    const std::lock_guard lock(mutex_);
    const bool has_room = waiting_.size() < options_.most_waiting &&
                          waiting_bytes_ + bytes <= options_.most_waiting_bytes;
    if (!has_room) return note_dropped(1);
    waiting_bytes_ += bytes;
    waiting_.push_back(std::move(request));
  }
  changed_.notify_all();
}

RequestKeeper::Counts RequestKeeper::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void RequestKeeper::wait_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return waiting_.empty() && !is_working_; });
}

void RequestKeeper::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, stop, [this] { return !waiting_.empty(); });
    if (waiting_.empty()) return;
    changed_.wait_for(lock, stop, options_.gathers_for,
                      [this] { return waiting_bytes_ >= options_.most_bytes_at_once; });
    Requests some = take_some();
    is_working_ = true;
    lock.unlock();
    const bool is_away = !write(some);
    lock.lock();
    is_working_ = false;
    if (is_away && stop.stop_requested()) {
      return note_dropped(static_cast<int64_t>(some.size() + waiting_.size()));
    }
    if (is_away) {
      put_back(std::move(some));
      changed_.wait_for(lock, stop, options_.retries_after, [] { return false; });
    }
    changed_.notify_all();
  }
}

// With mutex_.
RequestKeeper::Requests RequestKeeper::take_some() {
  Requests some;
  std::size_t bytes = 0;
  while (!waiting_.empty()) {
    const std::size_t next = size_of(waiting_.front());
    if (!some.empty() && bytes + next > options_.most_bytes_at_once) break;
    bytes += next;
    some.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  waiting_bytes_ -= bytes;
  return some;
}

bool RequestKeeper::write(const Requests& some) {
  try {
    const int added = requests_.add(some);
    const std::lock_guard lock(mutex_);
    counts_.kept += added;
  } catch (const Error& failure) {
    // Others would be refused for ever.
    const bool may_pass =
        failure.code() == ErrorCode::unavailable || failure.code() == ErrorCode::io;
    log::warning("prompts and answers {}: {}", may_pass ? "wait for the database" : "are not kept",
                 failure.message());
    if (may_pass) return false;
    const std::lock_guard lock(mutex_);
    note_dropped(static_cast<int64_t>(some.size()));
  }
  return true;
}

// With mutex_. What has come meanwhile may have taken their room.
void RequestKeeper::put_back(Requests&& some) {
  for (auto request = some.rbegin(); request != some.rend(); ++request) {
    waiting_bytes_ += size_of(*request);
    waiting_.push_front(std::move(*request));
  }
}

// With mutex_.
void RequestKeeper::note_dropped(int64_t requests) {
  counts_.dropped += requests;
  untold_ += requests;
  const auto now = std::chrono::steady_clock::now();
  if (now < tells_at_) return;
  tells_at_ = now + between_warnings;
  log::warning("prompts and answers of {} requests are not kept, as the database is behind",
               std::exchange(untold_, 0));
}

void RequestKeeper::run_looks(const std::stop_token& stop) {
  std::unique_lock lock(looks_mutex_);
  while (!stop.stop_requested()) {
    try {
      const int64_t gone = requests_.forget_unkept(stop);
      if (gone > 0)
        log::info("prompts and answers of {} requests were too old, and are gone", gone);
    } catch (const Error& failure) {
      log::warning("old prompts and answers could not be taken away: {}", failure.message());
    }
    looks_.wait_for(lock, stop, options_.looks_after, [] { return false; });
  }
}

}  // namespace ridge::platform
