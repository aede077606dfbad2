#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>

#include "platform/database/session.h"
#include "platform/metering/ledger.h"

// Requests that no limit and no allowance of free tokens concerns, on PostgreSQL. Nothing has to be
// compared for them before something is written, so that each step is one statement for all that
// wait, a transaction of its own beside other writers' (Database::write_beside), in place of five
// ways to the server and back. They write what admit() and settle() of rows.h would. (ADR 0024)
namespace ridge::platform::metering {

// Reserves for those of `asked` that nothing limits; their ids. A limit that is set meanwhile counts
// them from the commit on.
std::set<std::string> admit_unlimited(Session& session, std::span<const Reservation> asked,
                                      const std::string& server, int64_t now_us);

// Settles those of `ended` that admit_unlimited() has reserved for, and that no other server has
// taken for dead since; their ids. None of them is void or has a mark.
std::set<std::string> settle_unlimited(Session& session, std::span<const Settlement> ended);

}  // namespace ridge::platform::metering
