#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "platform/batch/batch_mark.h"
#include "platform/database/database.h"

namespace ridge::platform {

namespace metering {
struct UnlimitedDone;
}

// What a request that wants to begin may use at most, and on whose behalf.
struct Reservation {
  std::string id;  // nobody else's, ever
  std::string organisation_id, project_id, key_id;
  std::string allowance_id;  // by which limits of the key count (Principal)
  std::string user_id;       // of the key's owner, or who has signed in; empty where there is none
  std::string request_id;    // as the client and the log have it; it may come twice
  std::string model;         // as the server serves it
  std::string endpoint;      // "/v1/chat/completions"
  // The operator's endpoint by which the model was asked, and its version; empty and 0: by none.
  // Limits for its name hold beside those for the model, and a price for it instead.
  std::string custom_endpoint;
  int64_t endpoint_version = 0;
  int64_t prompt_tokens = 0;
  int64_t most_completion_tokens = 0;  // of all choices
};

// Why a request may not begin.
struct Refusal {
  enum class Kind {
    rate,         // it has to wait
    spent,        // an allowance is used up; trying again does not help
    too_large,    // a limit would never allow it
    unavailable,  // nothing can be reserved at the moment
  };

  Kind kind;
  std::string message;
  int64_t retry_after_ms = 0;
};

// How a limit a minute stands behind an admission.
struct RateStanding {
  int64_t most = 0;
  int64_t remaining = 0;
  int64_t reset_ms = 0;  // until all of it can be used again
};

struct Admission {
  std::optional<Refusal> refusal;
  // The tightest of each; of limits that there are.
  std::optional<RateStanding> requests, tokens, input_tokens, output_tokens;
  bool is_limited = false;  // by anything, or has free tokens
};

// What a request has used, once it has ended in whatever way.
struct Settlement {
  std::string id;  // of its reservation
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;  // of the completion
  double ttft_ms = 0;
  double duration_ms = 0;
  std::string finish_reason;
  bool is_void = false;  // it was never begun, and is as if it had not been asked
  BatchMark mark = {};   // of a line of a batch: that it is done, which is recorded with it
};

// What a running request is known to have used.
struct RequestProgress {
  std::string id;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

// What may begin and what was used, in the database that all servers share. Each call throws as
// Database, and is one transaction, but for what nothing limits (unlimited.h). From any thread.
// (ADR 0024)
class Ledger {
 public:
  // Of the database that `session` is of; tests pass one of their own.
  using NowUs = std::function<int64_t(soci::session& session)>;

  // A server that says nothing for so long is dead. Long against Meter's renewals, so that one that
  // was stopped for a while still settles itself.
  static constexpr std::chrono::milliseconds lease{90'000};

  // `server` names this one among those of the database, also after it was started again.
  Ledger(Database& database, std::string server, NowUs now_us = {});
  Ledger(Ledger&&) noexcept;
  ~Ledger();

  // That it is going to be admitted, which lacks the wait for a disk alone: its place among the
  // reservations. Not of each that is.
  using OnDecided = std::function<void(std::size_t place)>;

  // Settles first, then admits one after the other; the admissions are in the order of the
  // reservations. A settlement whose reservation is gone was made before, and does nothing. All of
  // it outlives this program, and the machine from the next sync() on, where that is needed. Where
  // it throws, some of it may have been done: what is settled again does no harm.
  std::vector<Admission> commit(std::span<const Settlement> settlements,
                                std::span<const Reservation> reservations,
                                const OnDecided& on_decided = {});

  // Whether nothing limited the like of it when that came last. Asks no database.
  bool is_free(const Reservation& reservation) const;

  // As Database.
  void sync();
  bool needs_sync() const;

  // Tells that this server lives, and what its requests have used.
  void renew(std::span<const RequestProgress> progress);

  // Ends what an earlier run of this server left behind, as failed with what it is known to have
  // used. Returns how many these were.
  int settle_own();
  // The same of servers whose lease has run out. Only for a server that has had the database for as
  // long as a lease: after a time without it everybody's has, and each has to settle itself first.
  // What such a server settles after all replaces what was recorded for it.
  int settle_abandoned();
  // The same of all servers, for a database of which none is at work, as one that was restored.
  int settle_all_as_abandoned();

 private:
  // What is done of a commit() beside other writers, and needs no turn among them.
  // kinds: of the reservations (kind_of).
  metering::UnlimitedDone commit_unlimited(std::span<const Settlement> settlements,
                                           std::span<const Reservation> reservations,
                                           std::span<const std::string> kinds);

  // What is known of requests that may be limited or not: it saves statements and waits, and
  // decides nothing.
  struct Known;

  Database& database_;
  const std::string server_;
  const NowUs now_us_;
  std::unique_ptr<Known> known_;
};

}  // namespace ridge::platform
