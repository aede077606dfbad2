#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "platform/metering/ledger.h"
#include "platform/metering/spool.h"

namespace ridge::platform {

struct MeterOptions {
  std::filesystem::path spool;                     // where settlements wait for the database
  std::size_t most_spool_bytes = 16u << 20;        // some 60,000 of them
  std::chrono::milliseconds renews_after{5'000};   // Ledger::renew
  std::chrono::milliseconds retries_after{1'000};  // while the database is away
  std::chrono::milliseconds settles_others_after{Ledger::lease};  // of having the database
};

// The ledger of one server, for its many requests. One thread commits all that wait together, and
// whoever is admitted is told; where the commit has not waited for the disk, another does, as those
// who end have to. Called from any thread.
class Meter {
 public:
  using OnBegin = std::function<void()>;
  using OnAdmission = std::function<void(Admission)>;
  using OnSettled = std::function<void(std::optional<Error>)>;

  // Replays what an earlier run left in the spool, then ends what it left open. Throws as Ledger
  // and Spool.
  Meter(Ledger ledger, const MeterOptions& options);
  // Settles what waits.
  ~Meter();

  // `done` is called once, on a thread of the meter, and must return quickly and not throw. Where
  // the database is away, that is a refusal with `unavailable`.
  //
  // `may_begin`, if any, is called likewise, perhaps within this call, at most once and before
  // `done`: work may begin that nobody sees unless `done` admits it. That is where little but the
  // database can be in its way: nothing limited the like of it when that came last, or all that its
  // admission lacks is the wait for a disk.
  void reserve(Reservation reservation, OnAdmission done, OnBegin may_begin = {});

  // `done`, if any, is called likewise, once the settlement is durable: in the database or, while
  // that is away, in the spool. With an error where neither took it; then the database still has
  // the reservation, which ends with what note() said of it. It may be asked for before the
  // reservation is done, and is made after it; of one that was refused it records nothing.
  void settle(Settlement settlement, OnSettled done = {});

  // What a request that runs has used so far; kept for a crash every few seconds.
  void note(RequestProgress progress);

  // Whether the database was away when it was last needed. Any thread.
  bool waits_for_database() const { return is_away_; }

  // Until all that was asked so far is done.
  void wait_idle();

 private:
  struct Asked {
    Reservation reservation;
    OnAdmission done;
    OnBegin may_begin;  // unless it was called
  };
  struct Ended {
    Settlement settlement;
    OnSettled done;
  };
  struct Batch {
    std::vector<Asked> asked;
    std::vector<Ended> ended;
    std::vector<Ended> unsynced;  // committed before, but the disk did not take it
    bool empty() const { return asked.empty() && ended.empty() && unsynced.empty(); }
  };
  using TimePoint = std::chrono::steady_clock::time_point;

  void run();
  void run_syncs();
  Batch take_waiting();
  bool is_idle() const;
  void commit(Batch& batch);
  void keep(const std::vector<Ended>& all_ended);
  void keep_for_later(Batch& batch);
  void replay();
  void come_back();
  void lose_database(const Error& failure);
  void renew();

  Ledger ledger_;
  const MeterOptions options_;

  // The committing thread's own.
  Spool spool_;
  // What neither took, and what the database may have taken although it failed. A crash makes
  // failures of it at the next start. As nothing begins without the database, no more than the
  // requests that were open when it went.
  std::vector<Settlement> unsaved_;
  // The database: nothing waits for it, but one that tries. Read by others too.
  std::atomic<bool> is_away_ = false;
  TimePoint renew_at_{}, retry_at_{}, has_database_since_{};

  std::mutex mutex_;
  // Of each thread its own, as no other has to wake for it: what is asked, what waits for the disk,
  // and that nothing does.
  std::condition_variable asked_, to_sync_, idle_;
  Batch waiting_;
  bool is_working_ = false;
  std::vector<Ended> committed_;  // that wait for the disk
  bool is_syncing_ = false;
  bool ends_ = false, syncs_end_ = false;
  std::map<std::string, RequestProgress> progress_;  // of open reservations, since the last renewal
  std::thread thread_, syncer_;
};

}  // namespace ridge::platform
