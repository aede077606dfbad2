#include "platform/metering/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <set>

#include "platform/database/kept_statement.h"
#include "platform/metering/rows.h"
#include "platform/metering/unlimited.h"

namespace ridge::platform {
namespace {

// Abandoned requests are forgotten then, whose servers have not come back.
constexpr int64_t abandoned_for_ms = int64_t{30} * 24 * 3600 * 1000;

using Settle = void (&)(Session&, const Settlement&, metering::Sums&, int64_t now_us);

// Ends the requests of a server as failed, with what they are known to have used.
int end_all_of(Session& session, const std::string& server, int64_t now_us, Settle settle) {
  std::vector<Settlement> left;
  Settlement row{.finish_reason = "failed"};
  each_kept(
      session,
      "SELECT id, used_prompt_tokens, used_completion_tokens FROM reservations WHERE server "
      "= :server",
      [&] { left.push_back(row); }, soci::use(server), soci::into(row.id),
      soci::into(row.prompt_tokens), soci::into(row.completion_tokens));
  metering::Sums sums;
  for (const Settlement& settlement : left) settle(session, settlement, sums, now_us);
  sums.write(session);
  return static_cast<int>(left.size());
}

// By whom and for what a request comes, as limits see it.
std::string kind_of(const Reservation& reservation) {
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}", reservation.organisation_id, reservation.project_id,
                     reservation.allowance_id, reservation.user_id, reservation.model,
                     reservation.custom_endpoint);
}

}  // namespace

struct Ledger::Known {
  static constexpr std::size_t most_kinds = 4096;

  std::mutex mutex;
  std::set<std::string> unlimited;         // reservations of this run that nothing limits
  std::map<std::string, bool> is_limited;  // of kinds of requests, when they last came

  // Whether something limited the last of this kind; nullopt: none has come.
  std::optional<bool> limited(const std::string& kind) const {
    const auto found = is_limited.find(kind);
    return found == is_limited.end() ? std::nullopt : std::optional(found->second);
  }
  void note(const std::string& kind, bool limited) {
    if (is_limited.size() >= most_kinds) is_limited.clear();
    is_limited.insert_or_assign(kind, limited);
  }
};

Ledger::Ledger(Database& database, std::string server, NowUs now_us)
    : database_(database),
      server_(std::move(server)),
      now_us_(now_us ? std::move(now_us)
                     : [&database](soci::session& session) { return database.now_us(session); }),
      known_(std::make_unique<Known>()) {}

Ledger::Ledger(Ledger&&) noexcept = default;
Ledger::~Ledger() = default;

metering::UnlimitedDone Ledger::commit_unlimited(std::span<const Settlement> settlements,
                                                 std::span<const Reservation> reservations,
                                                 std::span<const std::string> kinds) {
  std::vector<Settlement> ended;
  std::vector<Reservation> asked;
  {
    const std::lock_guard lock(known_->mutex);
    std::ranges::copy_if(settlements, std::back_inserter(ended), [&](const Settlement& each) {
      return !each.is_void && each.mark.batch_id.empty() && known_->unlimited.contains(each.id);
    });
    for (std::size_t i = 0; i < reservations.size(); ++i) {
      if (known_->limited(kinds[i]) != true) asked.push_back(reservations[i]);
    }
  }
  if (ended.empty() && asked.empty()) return {};
  metering::UnlimitedDone done = database_.write_beside([&](Session& session) {
    return metering::commit_unlimited(session, ended, asked, server_, now_us_(session));
  });
  const std::lock_guard lock(known_->mutex);
  known_->unlimited.insert(done.admitted.begin(), done.admitted.end());
  return done;
}

bool Ledger::is_free(const Reservation& reservation) const {
  const std::string kind = kind_of(reservation);
  const std::lock_guard lock(known_->mutex);
  return known_->limited(kind) == false;
}

std::vector<Admission> Ledger::commit(std::span<const Settlement> settlements,
                                      std::span<const Reservation> reservations,
                                      const OnDecided& on_decided) {
  std::vector<std::string> kinds;
  for (const Reservation& reservation : reservations) kinds.push_back(kind_of(reservation));
  metering::UnlimitedDone done;
  if (database_.can_write_beside()) done = commit_unlimited(settlements, reservations, kinds);
  std::vector<Admission> admissions(reservations.size());
  const bool is_all_done =
      done.settled.size() == settlements.size() && done.admitted.size() == reservations.size();
  const auto work = [&](Session& session) {
    const int64_t now_us = now_us_(session);
    metering::Sums sums;
    for (const Settlement& settlement : settlements) {
      if (done.settled.contains(settlement.id)) continue;
      metering::settle(session, settlement, sums, now_us);
      if (!settlement.mark.batch_id.empty()) insert_mark(session, settlement.mark);
    }
    sums.write(session);
    for (std::size_t i = 0; i < reservations.size(); ++i) {
      if (done.admitted.contains(reservations[i].id)) continue;
      admissions[i] = metering::admit(session, reservations[i], server_, now_us);
    }
    // All that this transaction still lacks is its commit. SQLite's does not wait for the disk.
    if (!on_decided || database_.needs_sync()) return;
    for (std::size_t i = 0; i < reservations.size(); ++i) {
      if (!admissions[i].refusal && !done.admitted.contains(reservations[i].id)) on_decided(i);
    }
  };
  // Also with nothing to do, where somebody asks whether the database is there.
  if (!is_all_done || (settlements.empty() && reservations.empty())) {
    database_.write(work, Durability::after_sync);
  }
  const std::lock_guard lock(known_->mutex);
  for (const Settlement& settlement : settlements) known_->unlimited.erase(settlement.id);
  for (std::size_t i = 0; i < reservations.size(); ++i) {
    known_->note(kinds[i], admissions[i].is_limited);
  }
  return admissions;
}

void Ledger::sync() { database_.sync(); }

bool Ledger::needs_sync() const { return database_.needs_sync(); }

void Ledger::renew(std::span<const RequestProgress> progress) {
  const auto work = [&](Session& session) {
    const int64_t ends_at_ms = now_us_(session) / 1000 + lease.count();
    run_kept(session,
             "INSERT INTO meter_servers (id, lease_ends_at_ms) VALUES (:id, :ends) ON CONFLICT "
             "(id) DO UPDATE SET lease_ends_at_ms = excluded.lease_ends_at_ms",
             soci::use(server_), soci::use(ends_at_ms));
    for (const RequestProgress& each : progress) {
      run_kept(session,
               "UPDATE reservations SET used_prompt_tokens = :prompt, used_completion_tokens = "
               ":completion WHERE id = :id",
               soci::use(each.prompt_tokens), soci::use(each.completion_tokens),
               soci::use(each.id));
    }
  };
  database_.write(work, Durability::after_sync);
}

int Ledger::settle_own() {
  return database_.write([&](Session& session) {
    return end_all_of(session, server_, now_us_(session), metering::settle);
  });
}

int Ledger::settle_abandoned() {
  const auto work = [&](Session& session) {
    const int64_t now_us = now_us_(session), now_ms = now_us / 1000;
    std::vector<std::string> dead;
    std::string id;
    each_kept(
        session, "SELECT id FROM meter_servers WHERE lease_ends_at_ms < :now AND id <> :own",
        [&] { dead.push_back(id); }, soci::use(now_ms), soci::use(server_), soci::into(id));
    int settled = 0;
    for (const std::string& server : dead) {
      settled += end_all_of(session, server, now_us, metering::abandon);
      run_kept(session, "DELETE FROM meter_servers WHERE id = :id", soci::use(server));
    }
    const int64_t oldest_ms = now_ms - abandoned_for_ms;
    run_kept(session,
             "DELETE FROM reservations WHERE is_abandoned > 0 AND admitted_at_ms < :oldest",
             soci::use(oldest_ms));
    return settled;
  };
  return database_.write(work, Durability::after_sync);  // nobody waits to be told
}

int Ledger::settle_all_as_abandoned() {
  return database_.write([&](Session& session) {
    const int64_t now_us = now_us_(session);
    std::vector<std::string> servers;
    std::string id;
    each_kept(
        session, "SELECT DISTINCT server FROM reservations WHERE is_abandoned = 0",
        [&] { servers.push_back(id); }, soci::into(id));
    int settled = 0;
    run_kept(session, "SELECT COUNT(*) FROM reservations WHERE is_abandoned = 0",
             soci::into(settled));
    for (const std::string& server : servers) {
      end_all_of(session, server, now_us, metering::abandon);
    }
    run_kept(session, "DELETE FROM meter_servers");
    return settled;
  });
}

}  // namespace ridge::platform
