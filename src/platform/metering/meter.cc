#include "platform/metering/meter.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace ridge::platform {
namespace {

using Time = std::chrono::steady_clock;

constexpr int64_t away_retry_ms = 1'000;

}  // namespace

Meter::Meter(Ledger ledger, const MeterOptions& options)
    : ledger_(std::move(ledger)),
      options_(options),
      spool_(options.spool, options.most_spool_bytes) {
  has_database_since_ = Time::now();
  replay();  // before the rest is taken for failed
  if (const int left = ledger_.settle_own(); left > 0) {
    log::warning("{} requests of an earlier run had not ended; they are settled as failed", left);
  }
  ledger_.renew({});
  renew_at_ = Time::now() + options_.renews_after;
  thread_ = std::thread([this] { run(); });
  syncer_ = std::thread([this] { run_syncs(); });
}

Meter::~Meter() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  asked_.notify_one();
  thread_.join();
  {
    const std::lock_guard lock(mutex_);
    syncs_end_ = true;
  }
  to_sync_.notify_one();
  syncer_.join();
}

void Meter::reserve(Reservation reservation, OnAdmission done, OnBegin may_begin) {
  if (may_begin && !is_away_ && ledger_.is_free(reservation)) std::exchange(may_begin, {})();
  {
    const std::lock_guard lock(mutex_);
    waiting_.asked.push_back({std::move(reservation), std::move(done), std::move(may_begin)});
  }
  asked_.notify_one();
}

void Meter::settle(Settlement settlement, OnSettled done) {
  {
    const std::lock_guard lock(mutex_);
    progress_.erase(settlement.id);
    waiting_.ended.push_back({std::move(settlement), std::move(done)});
  }
  asked_.notify_one();
}

void Meter::note(RequestProgress progress) {
  const std::lock_guard lock(mutex_);
  progress_.insert_or_assign(progress.id, progress);
}

void Meter::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return is_idle(); });
}

void Meter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const TimePoint wake_at = is_away_ ? retry_at_ : renew_at_;
    asked_.wait_until(lock, wake_at,
                      [this] { return (ends_ && is_idle()) || !waiting_.empty(); });
    if (ends_ && is_idle()) return;
    Batch batch = take_waiting();
    is_working_ = true;
    lock.unlock();
    if (!batch.empty()) is_away_ ? keep_for_later(batch) : commit(batch);
    const TimePoint now = Time::now();
    if (is_away_ && now >= retry_at_) come_back();
    if (!is_away_ && now >= renew_at_) renew();
    lock.lock();
    is_working_ = false;
    if (is_idle()) idle_.notify_all();
  }
}

// With mutex_. Settlements come before reservations in a commit, so that one whose own reservation
// has just come is left for the next.
Meter::Batch Meter::take_waiting() {
  Batch batch = std::exchange(waiting_, {});
  if (batch.asked.empty() || batch.ended.empty()) return batch;
  std::set<std::string_view> asked;
  for (const Asked& each : batch.asked) asked.insert(each.reservation.id);
  const auto later = std::ranges::stable_partition(
      batch.ended, [&](const Ended& each) { return !asked.contains(each.settlement.id); });
  std::ranges::move(later, std::back_inserter(waiting_.ended));
  batch.ended.erase(later.begin(), later.end());
  return batch;
}

// With mutex_.
bool Meter::is_idle() const {
  return waiting_.empty() && !is_working_ && committed_.empty() && !is_syncing_;
}

void Meter::run_syncs() {
  std::unique_lock lock(mutex_);
  while (true) {
    to_sync_.wait(lock, [this] { return syncs_end_ || !committed_.empty(); });
    if (committed_.empty()) return;
    std::vector<Ended> committed = std::exchange(committed_, {});
    is_syncing_ = true;
    lock.unlock();
    bool is_done = true;
    try {
      ledger_.sync();
    } catch (const Error& error) {
      log::error("usage may not be on the disk: {}", error.message());
      is_done = false;
    }
    for (const Ended& ended : committed) {
      if (is_done && ended.done) ended.done(std::nullopt);
    }
    lock.lock();
    is_syncing_ = false;
    if (!is_done) std::ranges::move(committed, std::back_inserter(waiting_.unsynced));
    if (ends_ || !waiting_.empty()) asked_.notify_one();
    if (is_idle()) idle_.notify_all();
  }
}

void Meter::commit(Batch& batch) {
  if (!batch.unsynced.empty()) {
    lose_database(Error(ErrorCode::io, "the disk did not take it"));
    return keep_for_later(batch);
  }
  std::vector<Settlement> settlements;
  std::vector<Reservation> reservations;
  for (const Ended& ended : batch.ended) settlements.push_back(ended.settlement);
  for (const Asked& asked : batch.asked) reservations.push_back(asked.reservation);
  std::vector<Admission> admissions;
  const auto on_decided = [&batch](std::size_t place) {
    if (const auto& may_begin = batch.asked[place].may_begin) may_begin();
  };
  try {
    admissions = ledger_.commit(settlements, reservations, on_decided);
  } catch (const Error& failure) {
    lose_database(failure);
    // It may have taken them all the same, where it failed on its way back.
    for (const Asked& asked : batch.asked) {
      unsaved_.push_back({.id = asked.reservation.id, .is_void = true});
    }
    keep_for_later(batch);
    return;
  }
  for (std::size_t i = 0; i < batch.asked.size(); ++i) {
    batch.asked[i].done(std::move(admissions[i]));
  }
  if (batch.ended.empty()) return;
  if (!ledger_.needs_sync()) {
    for (const Ended& ended : batch.ended) {
      if (ended.done) ended.done(std::nullopt);
    }
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    std::ranges::move(batch.ended, std::back_inserter(committed_));
  }
  to_sync_.notify_one();
}

void Meter::keep_for_later(Batch& batch) {
  keep(batch.unsynced);
  keep(batch.ended);
  for (Asked& asked : batch.asked) {
    asked.done({.refusal = Refusal{Refusal::Kind::unavailable,
                                   "usage cannot be recorded at the moment; try again soon",
                                   away_retry_ms}});
  }
}

void Meter::keep(const std::vector<Ended>& all_ended) {
  for (const Ended& ended : all_ended) {
    std::optional<Error> lost;
    try {
      spool_.append(ended.settlement);
    } catch (const Error& error) {
      log::error("usage of request {} cannot be kept: {}", ended.settlement.id, error.message());
      lost.emplace(ErrorCode::unavailable, "the usage of this request could not be recorded");
      unsaved_.push_back(ended.settlement);
      if (!ended.settlement.is_void) unsaved_.back().finish_reason = "failed";
      unsaved_.back().mark = {};
    }
    if (ended.done) ended.done(lost);
  }
}

void Meter::replay() {
  std::vector<Settlement> settlements = spool_.read();
  const std::size_t spooled = settlements.size();
  settlements.insert(settlements.end(), unsaved_.begin(), unsaved_.end());
  ledger_.commit(settlements, {});
  ledger_.sync();  // also of what was committed before, and is in the spool as the disk failed then
  unsaved_.clear();
  if (spool_.empty()) return;
  spool_.clear();
  log::info("{} settlements that had waited for the database are in it now", spooled);
}

void Meter::lose_database(const Error& failure) {
  log::error("usage cannot be written, and is kept in {}: {}", options_.spool.string(),
             failure.message());
  is_away_ = true;
  retry_at_ = Time::now() + options_.retries_after;
}

void Meter::come_back() {
  const TimePoint start = Time::now();
  try {
    replay();  // which also asks where there is nothing to replay
    is_away_ = false;
    has_database_since_ = Time::now();
  } catch (const Error& error) {
    log::warning("usage still waits for the database: {}", error.message());
    // What ends meanwhile waits while this asks: no longer than there is time for it.
    const TimePoint now = Time::now();
    retry_at_ = now + std::max<Time::duration>(options_.retries_after, now - start);
  }
}

void Meter::renew() {
  std::map<std::string, RequestProgress> changed;
  {
    const std::lock_guard lock(mutex_);
    changed = std::exchange(progress_, {});
  }
  std::vector<RequestProgress> progress;
  for (const auto& [id, each] : changed) progress.push_back(each);
  try {
    ledger_.renew(progress);
    if (Time::now() - has_database_since_ >= options_.settles_others_after) {
      if (const int left = ledger_.settle_abandoned(); left > 0) {
        log::warning("{} requests of servers that are gone are settled as failed", left);
      }
    }
  } catch (const Error& error) {
    lose_database(error);
    const std::lock_guard lock(mutex_);
    progress_.merge(changed);  // what is newer stays
  }
  renew_at_ = Time::now() + options_.renews_after;
}

}  // namespace ridge::platform
