#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>

#include "platform/database/session.h"
#include "platform/metering/ledger.h"

// Requests that no limit and no allowance of free tokens concerns, on PostgreSQL. Nothing has to be
// compared for them before something is written, so that all that wait need one statement, a
// transaction of its own beside other writers' (Database::write_beside), in place of five ways to
// the server and back for each. It writes what admit() and settle() of rows.h would. (ADR 0024)
namespace ridge::platform::metering {

struct UnlimitedDone {
  std::set<std::string> settled, admitted;  // ids
};

// Settles those of `ended` that it has reserved for before, and that no other server has taken for
// dead since; none of them is void or has a mark. Reserves for those of `asked` that nothing
// limits; a limit that is set meanwhile counts them from the commit on.
UnlimitedDone commit_unlimited(Session& session, std::span<const Settlement> ended,
                               std::span<const Reservation> asked, const std::string& server,
                               int64_t now_us);

}  // namespace ridge::platform::metering
