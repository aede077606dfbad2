#include "platform/metering/meter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace ridge::platform {
namespace {

constexpr int64_t away_retry_ms = 1'000;

}  // namespace

Meter::Meter(Ledger ledger, const MeterOptions& options)
    : ledger_(std::move(ledger)),
      options_(options),
      spool_(options.spool, options.most_spool_bytes) {
  if (!spool_.empty()) replay();  // before the rest is taken for failed
  if (const int left = ledger_.settle_own(); left > 0) {
    log::warning("{} requests of an earlier run had not ended; they are settled as failed", left);
  }
  renew();
  thread_ = std::thread([this] { run(); });
}

Meter::~Meter() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Meter::reserve(Reservation reservation, OnAdmission done) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.asked.push_back({std::move(reservation), std::move(done)});
  }
  changed_.notify_all();
}

void Meter::settle(Settlement settlement, OnSettled done) {
  {
    const std::lock_guard lock(mutex_);
    progress_.erase(settlement.id);
    waiting_.ended.push_back({std::move(settlement), std::move(done)});
  }
  changed_.notify_all();
}

void Meter::note(Progress progress) {
  const std::lock_guard lock(mutex_);
  progress_.insert_or_assign(progress.id, progress);
}

void Meter::wait_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return waiting_.empty() && !is_working_; });
}

void Meter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const TimePoint wake_at = spool_.empty() ? renew_at_ : std::min(renew_at_, retry_at_);
    changed_.wait_until(lock, wake_at, [this] { return ends_ || !waiting_.empty(); });
    if (waiting_.empty() && ends_) return;
    Batch batch = std::exchange(waiting_, {});
    is_working_ = true;
    lock.unlock();
    const TimePoint now = std::chrono::steady_clock::now();
    if (!batch.empty()) commit(batch);
    if (!spool_.empty() && now >= retry_at_) {
      try {
        replay();
      } catch (const Error& error) {
        retry_at_ = now + options_.retries_after;
        log::warning("usage still waits for the database: {}", error.message());
      }
    }
    if (now >= renew_at_) renew();
    lock.lock();
    is_working_ = false;
    changed_.notify_all();
  }
}

void Meter::commit(Batch& batch) {
  std::vector<Settlement> settlements;
  std::vector<Reservation> reservations;
  for (const Ended& ended : batch.ended) settlements.push_back(ended.settlement);
  for (const Asked& asked : batch.asked) reservations.push_back(asked.reservation);
  std::vector<Admission> admissions;
  try {
    if (std::chrono::steady_clock::now() < retry_at_) {
      throw Error(ErrorCode::unavailable, "the database was away a moment ago");
    }
    admissions = ledger_.commit(settlements, reservations);
  } catch (const Error& failure) {
    keep_for_later(batch, failure);
    return;
  }
  for (std::size_t i = 0; i < batch.asked.size(); ++i) {
    batch.asked[i].done(std::move(admissions[i]));
  }
  for (const Ended& ended : batch.ended) {
    if (ended.done) ended.done(std::nullopt);
  }
}

void Meter::keep_for_later(Batch& batch, const Error& failure) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (now >= retry_at_) {
    log::error("usage cannot be written, and is kept in {}: {}", options_.spool.string(),
               failure.message());
    retry_at_ = now + options_.retries_after;
  }
  for (const Ended& ended : batch.ended) {
    std::optional<Error> lost;
    try {
      spool_.append(ended.settlement);
    } catch (const Error& error) {
      log::error("usage of request {} cannot be kept: {}", ended.settlement.id, error.message());
      lost.emplace(ErrorCode::unavailable, "the usage of this request could not be recorded");
    }
    if (ended.done) ended.done(lost);
  }
  for (Asked& asked : batch.asked) {
    try {
      // The database may have taken it all the same, where it failed on its way back.
      spool_.append({.id = asked.reservation.id, .is_void = true});
    } catch (const Error& error) {
      log::error("{}", error.message());
    }
    asked.done({.refusal = Refusal{Refusal::Kind::unavailable,
                                   "usage cannot be recorded at the moment; try again soon",
                                   away_retry_ms}});
  }
}

void Meter::replay() {
  const std::vector<Settlement> settlements = spool_.read();
  ledger_.commit(settlements, {});
  spool_.clear();
  log::info("{} settlements that had waited for the database are in it now", settlements.size());
}

void Meter::renew() {
  std::map<std::string, Progress> changed;
  {
    const std::lock_guard lock(mutex_);
    changed = std::exchange(progress_, {});
  }
  std::vector<Progress> progress;
  for (auto& [id, each] : changed) progress.push_back(std::move(each));
  try {
    ledger_.renew(progress);
    if (const int left = ledger_.settle_abandoned(); left > 0) {
      log::warning("{} requests of servers that are gone are settled as failed", left);
    }
  } catch (const Error& error) {
    log::warning("this server's lease could not be renewed: {}", error.message());
  }
  renew_at_ = std::chrono::steady_clock::now() + options_.renews_after;
}

}  // namespace ridge::platform
